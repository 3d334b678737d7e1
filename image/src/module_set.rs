//! Which kernel modules go into an image: two built-in lists, or a file of the builder's.

use anyhow::{Context, Result, ensure};
use std::fs;

const SERVER: &str = include_str!("module_set/server.txt");
const VIRT: &str = include_str!("module_set/virt.txt");

/// The module names of a set: `server`, `virt`, or a file with names and `#` comments.
pub(crate) fn load(set: &str) -> Result<Vec<String>> {
    match set {
        "server" => Ok(names(SERVER)),
        "virt" => Ok(names(VIRT)),
        path => {
            let text = fs::read_to_string(path)
                .with_context(|| format!("{path} is neither a module set (server, virt) nor a readable list"))?;
            let names = names(&text);
            ensure!(!names.is_empty(), "{path} names no modules");
            Ok(names)
        }
    }
}

fn names(text: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.flat_map(str::split_whitespace).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_built_in_set_names_a_module_twice() {
        for set in ["server", "virt"] {
            let mut names = load(set).unwrap();
            let count = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count, "{set}");
        }
    }

    #[test]
    fn the_small_set_is_within_the_large_one() {
        let server = load("server").unwrap();
        let extra: Vec<_> = load("virt").unwrap().into_iter().filter(|name| !server.contains(name)).collect();
        assert_eq!(extra, Vec::<String>::new());
    }

    #[test]
    fn comments_are_no_names_and_an_unknown_set_is_explained() {
        assert_eq!(names("# all\na b # c\n\nd"), ["a", "b", "d"]);
        let error = format!("{:#}", load("sever").unwrap_err());
        assert!(error.contains("sever is neither a module set (server, virt)"), "{error}");
    }
}
