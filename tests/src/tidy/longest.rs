//! The longest files and functions: a list to be proud of, and one limit.

use super::code::code_only;
use super::tree::Tree;

/// A file with more lines is split.
pub const TOO_LONG: usize = 700;

/// The `count` longest files, longest first.
#[must_use]
pub fn longest_files(tree: &Tree, count: usize) -> Vec<(usize, String)> {
    let mut files: Vec<(usize, String)> =
        tree.sources.iter().map(|file| (file.text.lines().count(), file.path.clone())).collect();
    files.sort_by(|a, b| b.cmp(a));
    files.truncate(count);
    files
}

/// Files over the limit.
#[must_use]
pub fn too_long_files(tree: &Tree) -> Vec<String> {
    let long = longest_files(tree, usize::MAX).into_iter().filter(|(lines, _)| *lines > TOO_LONG);
    long.map(|(lines, path)| format!("{path}: {lines} lines, more than {TOO_LONG}")).collect()
}

/// The `count` longest functions as `path:line name`, longest first.
#[must_use]
pub fn longest_functions(tree: &Tree, count: usize) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    for file in &tree.sources {
        for (line, name, length) in functions(&file.text) {
            all.push((length, format!("{}:{line} {name}", file.path)));
        }
    }
    all.sort_by(|a, b| b.cmp(a));
    all.truncate(count);
    all
}

/// Line, name and length in lines of each function: from `fn` to the line of its closing brace, which rustfmt puts under
/// the beginning of its first line.
fn functions(text: &str) -> Vec<(usize, String, usize)> {
    let code = code_only(text);
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let Some(at) = trimmed.find("fn ") else { continue };
        let starts = trimmed[..at]
            .split_whitespace()
            .all(|word| word.starts_with("pub") || ["const", "async", "super)", "extern"].contains(&word));
        if !starts || trimmed.contains('}') {
            continue;
        }
        let name = trimmed[at + 3..].split(['(', '<']).next().unwrap_or_default().to_owned();
        let end = (number + 1..lines.len())
            .find(|&end| lines[end].trim_end().len() == indent + 1 && lines[end].trim() == "}");
        if let Some(end) = end {
            found.push((number + 1, name, end - number + 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_measured_from_fn_to_their_brace() {
        let text = "//! x\npub fn a(\n    b: u8,\n) {\n    if b {\n    }\n}\n\nimpl X {\n    async fn c() {\n        d();\n    }\n}\n";
        assert_eq!(functions(text), [(2, "a".to_owned(), 6), (10, "c".to_owned(), 3)]);
    }
}
