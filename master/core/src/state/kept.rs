//! Small tables that the masters' shells keep: join tokens, API tokens, revocations, sealed secrets. The core knows only that they are
//! texts by key, the same on every master; what they mean, the shells know.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::io::operator::Refusal;

/// Entries of one table. Full: no new ones are taken.
const CAPACITY: usize = 200_000;
/// Bytes of one entry: a certificate fits many times.
const LONGEST: usize = 64 << 10;

/// One of the tables.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Table {
    /// What nodes and masters join with, by digest.
    JoinTokens,
    /// What programs show at the API, by id.
    ApiTokens,
    /// Nodes and certificates that are let in no more.
    Revocations,
    /// Which machines belong to the cluster, and the rules that say so.
    Claims,
    /// What nodes found of boots that ended badly.
    Crashes,
    /// The authority that follows the one in the masters' files, while nodes learn of it.
    Authorities,
    /// What tasks name instead of giving it: sealed, by name.
    Secrets,
}

/// One entry is to become another.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Change {
    /// Which.
    pub key: String,
    /// What whoever decided this saw there.
    pub was: Option<Arc<str>>,
    /// What it is to be; none to remove it.
    pub becomes: Option<Arc<str>>,
}

/// The tables. A clone costs next to nothing.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Kept {
    /// Grows with every change.
    pub version: u64,
    tables: BTreeMap<Table, Arc<BTreeMap<String, Arc<str>>>>,
}

impl Kept {
    /// A table's entries.
    #[must_use]
    pub fn table(&self, table: Table) -> Arc<BTreeMap<String, Arc<str>>> {
        self.tables.get(&table).cloned().unwrap_or_default()
    }

    /// All or none.
    ///
    /// # Errors
    /// Somebody else has changed one of the entries since (409), or there is no room (507).
    pub fn change(&mut self, table: Table, changes: Vec<Change>) -> Result<(), Refusal> {
        let entries = self.table(table);
        let refuse = |status, text: &str| Err(Refusal { status, text: text.to_owned() });
        let mut more = 0;
        for change in &changes {
            let is = entries.get(&change.key);
            // What is there already need not be as it was; nor what is to go and has gone.
            if is != change.becomes.as_ref() && is != change.was.as_ref() {
                return refuse(409, "somebody else has changed it meanwhile");
            }
            if change.key.len() > LONGEST || change.becomes.as_ref().is_some_and(|text| text.len() > LONGEST) {
                return refuse(507, "the entry is too long");
            }
            more += usize::from(is.is_none() && change.becomes.is_some());
        }
        if more > 0 && entries.len() + more > CAPACITY {
            return refuse(507, "the table is full");
        }
        drop(entries);
        let entries = Arc::make_mut(self.tables.entry(table).or_default());
        for Change { key, becomes, .. } in changes {
            match becomes {
                Some(text) => drop(entries.insert(key, text)),
                None => drop(entries.remove(&key)),
            }
        }
        self.version += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: &str, was: Option<&str>, becomes: Option<&str>) -> Change {
        Change { key: key.to_owned(), was: was.map(Into::into), becomes: becomes.map(Into::into) }
    }

    #[test]
    fn of_two_who_saw_the_same_only_the_first_has_its_way() {
        let mut kept = Kept::default();
        kept.change(Table::JoinTokens, vec![change("a", None, Some("1"))]).unwrap();
        kept.change(Table::JoinTokens, vec![change("a", Some("1"), Some("2"))]).unwrap();
        let before = kept.clone();
        let late = vec![change("b", None, Some("1")), change("a", Some("1"), Some("3"))];
        assert_eq!(kept.change(Table::JoinTokens, late).unwrap_err().status, 409);
        assert_eq!(kept, before);
        // The same again, as after a lost answer, and what has gone already.
        kept.change(Table::JoinTokens, vec![change("a", Some("1"), Some("2"))]).unwrap();
        kept.change(Table::JoinTokens, vec![change("a", Some("2"), None)]).unwrap();
        kept.change(Table::JoinTokens, vec![change("a", Some("1"), None)]).unwrap();
        assert!(kept.table(Table::JoinTokens).is_empty() && kept.table(Table::ApiTokens).is_empty());
        assert_eq!(kept.version, 5);
    }

    #[test]
    fn what_is_too_long_is_refused() {
        let mut kept = Kept::default();
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(kept.change(Table::Revocations, vec![change("a", None, Some(&long))]).unwrap_err().status, 507);
        assert_eq!(kept, Kept::default());
    }
}
