//! Paths that the documents name and that do not exist: a tour of a house that has been rebuilt.

use std::path::Path;

use anyhow::Result;

use super::tree::Tree;

/// Endings of files people write; a word with one of them and a slash is a path.
const ENDINGS: [&str; 9] = [".rs", ".md", ".toml", ".proto", ".txt", ".json", ".lock", ".sh", ".py"];

/// Paths in backticks and in relative links of `README.md` and `docs/` that lead nowhere.
pub fn stale_paths(tree: &Tree) -> Result<Vec<String>> {
    let mut complaints = Vec::new();
    for document in &tree.documents {
        let text = tree.text(document)?;
        let beside = tree.root.join(document).parent().map(Path::to_owned).unwrap_or_default();
        for (number, path) in named_paths(&text, |first| tree.root.join(first).exists()) {
            if !tree.root.join(&path).exists() && !beside.join(&path).exists() {
                complaints.push(format!("{document}:{number}: `{path}` does not exist"));
            }
        }
        for (number, path) in links(&text) {
            if !beside.join(&path).exists() {
                complaints.push(format!("{document}:{number}: the link to {path} leads nowhere"));
            }
        }
    }
    Ok(complaints)
}

/// What stands in backticks and looks like a path of this repository, by line; `is_root` knows its top-level entries.
fn named_paths(text: &str, is_root: impl Fn(&str) -> bool) -> Vec<(usize, String)> {
    let mut paths = Vec::new();
    let mut fenced = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            continue;
        }
        if fenced {
            continue;
        }
        for span in line.split('`').skip(1).step_by(2) {
            let path = span.trim_start_matches("./").trim_end_matches('/');
            let path = path.split_once(':').map_or(path, |(path, _)| path);
            let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c));
            let Some((first, _)) = path.split_once('/') else { continue };
            let made = [".lab", ".cache", "target"].contains(&first);
            let ours = !first.is_empty() && is_root(first) || ENDINGS.iter().any(|ending| path.ends_with(ending));
            // `api/v1/…` is the HTTP API's, whatever our crate is called.
            if plain && ours && !made && !path.starts_with('/') && !path.starts_with("api/v1") {
                paths.push((number + 1, path.to_owned()));
            }
        }
    }
    paths
}

/// Targets of `[text](target)` that are no addresses and no anchors, by line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains(':') {
                found.push((number + 1, target.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_from_other_words() {
        let text = "See `master/src/http.rs`, `tests/`, `agent/core/src/handover.rs:12` and `docs/gone.md`.\n\
                    Not `/proc/cmdline`, `api/v1/scheduler`, `--data DIR`, `a/b`, `docs/decisions/*.md`.\n\
                    ```\n`master/none`\n```\n";
        let paths: Vec<String> = named_paths(text, |first| ["master", "agent", "api"].contains(&first))
            .into_iter()
            .map(|(_, p)| p)
            .collect();
        assert_eq!(paths, ["master/src/http.rs", "agent/core/src/handover.rs", "docs/gone.md"]);
    }

    #[test]
    fn links_lead_to_files() {
        assert_eq!(links("[a](docs/A.md#x) [b](https://x.org) [c](#top)"), [(1, "docs/A.md".to_owned())]);
    }
}
