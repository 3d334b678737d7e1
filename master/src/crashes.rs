//! What nodes found of boots that ended badly: kept by all masters, the last few of each node.

use std::collections::BTreeMap;

use master_core::state;
use serde::{Deserialize, Serialize};

use crate::clock::unix_ms;
use crate::kept::{KeepError, Keeper, Table};

/// Of one node. More: the oldest goes.
const PER_NODE: usize = 8;
/// In all. More: the oldest of all goes.
const CAPACITY: usize = 2000;
/// Bytes of one report's text: the end of a kernel's last words, with room for a second trace.
const LONGEST: usize = 48 << 10;

/// One report.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Crash {
    /// Whose.
    pub node: String,
    /// The agent's name for it.
    pub id: String,
    /// `panic`, `watchdog` and the like.
    pub kind: String,
    /// When the node found it: milliseconds since 1970.
    pub found_ms: u64,
    /// When it came here.
    pub received_ms: u64,
    /// The boot that found it.
    pub boot_id: String,
    /// What the machine left behind.
    pub text: String,
}

/// The table. Reading never waits; whatever changes it blocks until that is committed.
pub struct Crashes(Table<Crash>);

fn key(crash: &Crash) -> String {
    format!("{}/{}", crash.node, crash.id)
}

/// As much of the end as fits, as it is written: that is what says why.
fn last_words(text: &str) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c };
    // Quotes, backslashes and ends of lines take two bytes.
    let size = |c: char| if matches!(c, '"' | '\\' | '\n' | '\t') { 2 } else { c.len_utf8() };
    let mut room = LONGEST;
    let fits = |c: &char| {
        let left = room.checked_sub(size(*c));
        room = left.unwrap_or(0);
        left.is_some()
    };
    let mut backwards: Vec<char> = text.chars().rev().map(plain).take_while(fits).collect();
    backwards.reverse();
    backwards.into_iter().collect()
}

impl Crashes {
    /// The table that `keeper` keeps.
    #[must_use]
    pub fn new(keeper: Keeper) -> Self {
        Self(Table::new(state::Table::Crashes, keeper))
    }

    /// All, or those of one node, the newest first.
    #[must_use]
    pub fn list(&self, node: Option<&str>) -> Vec<Crash> {
        let mut all: Vec<Crash> =
            self.0.all().values().filter(|crash| node.is_none_or(|node| crash.node == node)).cloned().collect();
        all.sort_by_key(|crash| (std::cmp::Reverse(crash.received_ms), crash.id.clone()));
        all
    }

    /// Keeps one. The same again is one.
    ///
    /// # Errors
    /// The table was not changed.
    pub fn keep(&self, mut crash: Crash) -> Result<(), KeepError> {
        crash.received_ms = unix_ms();
        crash.text = last_words(&crash.text);
        self.0.change(|all| {
            if all.contains_key(&key(&crash)) {
                return Ok(());
            }
            all.insert(key(&crash), crash.clone());
            let oldest = |all: &BTreeMap<String, Crash>, node: Option<&str>| {
                let mine = all.iter().filter(|(_, one)| node.is_none_or(|node| one.node == node));
                mine.min_by_key(|(_, one)| one.received_ms).map(|(key, _)| key.clone())
            };
            while all.values().filter(|one| one.node == crash.node).count() > PER_NODE {
                let Some(key) = oldest(all, Some(&crash.node)) else { break };
                all.remove(&key);
            }
            while all.len() > CAPACITY {
                let Some(key) = oldest(all, None) else { break };
                all.remove(&key);
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(node: &str, id: usize, text: &str) -> Crash {
        Crash {
            node: node.to_owned(),
            id: id.to_string(),
            kind: "panic".to_owned(),
            found_ms: 1,
            received_ms: 0,
            boot_id: "b".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_last_few_of_each_node_are_kept_and_the_end_of_a_long_one() {
        let crashes = Crashes::new(Keeper::in_memory());
        for id in 0..20 {
            crashes.keep(crash("node-1", id, "why")).unwrap();
        }
        crashes.keep(crash("node-2", 0, &format!("{}ü the end", "x".repeat(LONGEST)))).unwrap();
        crashes.keep(crash("node-2", 0, "again")).unwrap();
        assert_eq!(crashes.list(Some("node-1")).len(), PER_NODE);
        let other = crashes.list(Some("node-2"));
        assert!(other.len() == 1 && other[0].text.ends_with("the end") && other[0].text.len() <= LONGEST);
        assert_eq!(crashes.list(None).len(), PER_NODE + 1);
    }

    #[test]
    fn what_takes_more_room_written_down_is_cut_shorter() {
        assert_eq!(last_words("a\0b\x1b[31m\tc\n"), "a b [31m\tc\n");
        for text in ["\0", "\"", "\\", "\n", "ü"] {
            let kept = last_words(&text.repeat(LONGEST + 1));
            let written = serde_json::to_string(&kept).unwrap().len() - 2;
            assert!(!kept.is_empty() && written <= LONGEST, "{text:?}: {written}");
        }
    }
}
