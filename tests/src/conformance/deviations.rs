//! What is different on purpose: where, and why. `tests/recordings/deviations.json` holds the list.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::difference::Difference;

/// One deliberate difference.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Deviation {
    /// Names of dialogues; `*` stands for anything.
    pub dialogue: String,
    /// Places in them, as differences name them: `answer/body/flags/*`.
    pub at: String,
    /// What is different, in a sentence for operators.
    pub what: String,
    /// Why we want it so.
    pub reason: String,
}

impl Deviation {
    /// Whether it accounts for this difference.
    #[must_use]
    pub fn covers(&self, dialogue: &str, difference: &Difference) -> bool {
        matches(&self.dialogue, dialogue) && matches(&self.at, &difference.at)
    }
}

/// The list beside the recordings in `dir`.
pub fn read(dir: &Path) -> Result<Vec<Deviation>> {
    let path = dir.join("deviations.json");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no list of deviations", path.display()))
}

/// The list as a table in Markdown.
#[must_use]
pub fn rendered(deviations: &[Deviation]) -> String {
    let mut said: Vec<(&str, &str)> = Vec::new();
    for deviation in deviations {
        if !said.contains(&(&deviation.what, &deviation.reason)) {
            said.push((&deviation.what, &deviation.reason));
        }
    }
    let rows = said.iter().map(|(what, reason)| format!("| {what} | {reason} |\n"));
    format!("| What is different | Why |\n|---|---|\n{}", rows.collect::<String>())
}

/// Whether `text` is `pattern`, in which `*` stands for any text.
#[must_use]
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(before) else { return false };
    let mut tails = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    tails.any(|at| matches(after, &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        assert!(matches("legacy/*/flags*", "legacy/root/flags") && matches("*", "") && matches("a*", "a"));
        assert!(!matches("legacy/*/flags", "legacy/flags") && !matches("a", "ab"));
    }
}
