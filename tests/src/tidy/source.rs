//! What no Rust file may be named or contain, and what the pure cores may not mention.

use super::code::{code_only, has_word, without_tests};
use super::tree::{SourceFile, Tree};

/// Names that say nothing.
const EMPTY_NAMES: [&str; 4] = ["utils.rs", "helpers.rs", "common.rs", "misc.rs"];

/// Left-overs.
const FORBIDDEN: [&str; 3] = ["todo!", "dbg!", "unimplemented!"];

/// A core is a value: it has no sockets, files, clock, randomness or order that differs from run to run.
const IMPURE: [&str; 11] = [
    "tokio",
    "std::fs",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "HashMap",
    "HashSet",
    "rand",
];

/// Files named `mod.rs`, or as a drawer for anything.
#[must_use]
pub fn file_names(tree: &Tree) -> Vec<String> {
    let name = |file: &SourceFile| file.path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut complaints = Vec::new();
    for file in &tree.sources {
        let name = name(file);
        if name == "mod.rs" {
            complaints.push(format!("{}: write foo.rs beside foo/", file.path));
        } else if EMPTY_NAMES.contains(&name.as_str()) {
            complaints.push(format!("{}: name it after what is in it", file.path));
        }
    }
    complaints
}

/// Files that do not say at their top what they are for.
#[must_use]
pub fn missing_purpose(tree: &Tree) -> Vec<String> {
    let says = |text: &str| {
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with("#!["));
        first.is_some_and(|line| line.starts_with("//!") && line.len() > 8)
    };
    let silent = tree.sources.iter().filter(|file| !says(&file.text));
    silent.map(|file| format!("{}: begins without a `//!` sentence", file.path)).collect()
}

/// Left-over macros.
#[must_use]
pub fn forbidden_words(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for file in &tree.sources {
        complaints.extend(words(file, &code_only(&file.text), &FORBIDDEN));
    }
    complaints
}

/// `unsafe` outside its one room.
#[must_use]
pub fn stray_unsafe(tree: &Tree) -> Vec<String> {
    let outside = tree.sources.iter().filter(|file| !file.path.starts_with("agent/sys/"));
    outside.flat_map(|file| words(file, &code_only(&file.text), &["unsafe"])).collect()
}

/// What the cores' sources mention although they are pure. Their tests, benches and examples may.
#[must_use]
pub fn pure_cores(tree: &Tree) -> Vec<String> {
    let in_core = |file: &&SourceFile| {
        let source = ["master/core/src/", "agent/core/src/"].iter().any(|core| file.path.starts_with(core));
        source && !file.path.ends_with("/tests.rs") && !file.path.contains("/tests/")
    };
    let mut complaints = Vec::new();
    for file in tree.sources.iter().filter(in_core) {
        let code = code_only(&file.text);
        complaints.extend(words(file, without_tests(&code), &IMPURE));
    }
    complaints
}

fn words(file: &SourceFile, code: &str, forbidden: &[&str]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (number, line) in code.lines().enumerate() {
        for word in forbidden.iter().filter(|word| has_word(line, word)) {
            complaints.push(format!("{}:{}: `{word}`", file.path, number + 1));
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn tree(path: &str, text: &str) -> Tree {
        let sources = vec![SourceFile { path: path.to_owned(), text: text.to_owned() }];
        Tree { root: PathBuf::new(), sources, manifests: Vec::new(), documents: Vec::new() }
    }

    #[test]
    fn each_rule_finds_what_it_is_for() {
        assert_eq!(file_names(&tree("master/src/http/mod.rs", "")).len(), 1);
        assert_eq!(file_names(&tree("master/src/utils.rs", "")).len(), 1);
        assert_eq!(missing_purpose(&tree("a.rs", "use x;\n")).len(), 1);
        assert_eq!(missing_purpose(&tree("a.rs", "//!\nuse x;\n")).len(), 1);
        assert_eq!(missing_purpose(&tree("a.rs", "#![no_main]\n//! What it is for.\n")).len(), 0);
        assert_eq!(forbidden_words(&tree("a.rs", "fn f() { todo!() }")), ["a.rs:1: `todo!`"]);
        assert_eq!(stray_unsafe(&tree("master/src/a.rs", "\nunsafe { x() }")), ["master/src/a.rs:2: `unsafe`"]);
        assert_eq!(stray_unsafe(&tree("agent/sys/src/a.rs", "unsafe { x() }")).len(), 0);
    }

    #[test]
    fn a_core_may_be_impure_in_its_tests_only() {
        let path = "master/core/src/a.rs";
        assert_eq!(pure_cores(&tree(path, "use std::collections::HashMap;")).len(), 1);
        assert_eq!(pure_cores(&tree(path, "let now = Instant::now();")).len(), 1);
        assert_eq!(pure_cores(&tree(path, "#[cfg(test)]\nmod tests { use std::collections::HashMap; }")).len(), 0);
        assert_eq!(pure_cores(&tree("master/core/benches/a.rs", "Instant::now()")).len(), 0);
        assert_eq!(pure_cores(&tree("master/src/a.rs", "Instant::now()")).len(), 0);
    }
}
