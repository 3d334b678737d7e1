//! The outcome of many dialogues: a table of topics, what differs, and what was known to.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::deviations::Deviation;
use super::player::Played;

/// One dialogue, judged.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Its name.
    pub name: String,
    /// What differs and is no deviation; empty if it passes.
    pub complaints: Vec<String>,
    /// The deviations that were met, by their place in the list.
    pub deviations: BTreeSet<usize>,
}

impl Verdict {
    /// What a played dialogue comes to, given what may differ.
    #[must_use]
    pub fn of(played: &Played, allowed: &[Deviation]) -> Self {
        let name = played.seen.name.clone();
        let mut deviations = BTreeSet::new();
        let mut complaints = Vec::new();
        for difference in &played.differences {
            match allowed.iter().position(|deviation| deviation.covers(&name, difference)) {
                Some(index) => {
                    deviations.insert(index);
                }
                None => complaints.push(difference.to_string()),
            }
        }
        complaints.extend(played.failure.clone());
        Self { name, complaints, deviations }
    }
}

/// Dialogues that do not pass yet, with the reason: lines of `NAME REASON` in `not-yet.txt`.
pub fn not_yet(dir: &Path) -> Result<BTreeMap<String, String>> {
    let path = dir.join("not-yet.txt");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, reason) = line.split_once(' ').with_context(|| format!("`{line}` names no reason"))?;
            Ok((name.to_owned(), reason.trim().to_owned()))
        })
        .collect()
}

/// Topics, and how many of their dialogues pass.
#[must_use]
pub fn table(verdicts: &[Verdict]) -> String {
    let mut topics: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for verdict in verdicts {
        let topic = verdict.name.split('/').next().unwrap_or_default();
        let (passed, failed) = topics.entry(topic).or_default();
        *if verdict.complaints.is_empty() { passed } else { failed } += 1;
    }
    let (passed, failed) = topics.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let line = |topic: &str, passed: usize, failed: usize| format!("{topic:<20} {passed:>6} {failed:>6}\n");
    let rows: String = topics.iter().map(|(topic, (passed, failed))| line(topic, *passed, *failed)).collect();
    format!("{:<20} {:>6} {:>6}\n{rows}{}", "topic", "passed", "failed", line("all", passed, failed))
}
