//! One table, with the values that its texts stand for.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use master_core::state::{self, Change};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{KeepError, Keeper};

/// Two masters seldom change one entry at once, and not so often in a row.
const ATTEMPTS: u32 = 8;

type Texts = Arc<BTreeMap<String, Arc<str>>>;
type Values<T> = Arc<BTreeMap<String, T>>;

/// Values by key. Reading never waits for the disk.
pub struct Table<T> {
    name: state::Table,
    keeper: Keeper,
    read: Mutex<(Texts, Values<T>)>,
}

impl<T: Clone + PartialEq + Serialize + DeserializeOwned> Table<T> {
    /// The table of this name.
    #[must_use]
    pub fn new(name: state::Table, keeper: Keeper) -> Self {
        Self { name, keeper, read: Mutex::default() }
    }

    /// Does this master decide? If not, what it reads may be a moment old.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.keeper.leads()
    }

    /// All values.
    #[must_use]
    pub fn all(&self) -> Values<T> {
        self.both().1
    }

    fn both(&self) -> (Texts, Values<T>) {
        let texts = self.keeper.kept().table(self.name);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&read.0, &texts) {
            let (before, known) = &*read;
            let value = |(key, text): (&String, &Arc<str>)| {
                let unchanged = before.get(key).filter(|before| Arc::ptr_eq(before, text)).and_then(|_| known.get(key));
                // An entry of a newer version: this one goes on without it, and leaves it as it is.
                let value = unchanged.cloned().or_else(|| serde_json::from_str(text).ok());
                value.map(|value| (key.clone(), value))
            };
            let values = Arc::new(texts.iter().filter_map(value).collect());
            *read = (texts, values);
        }
        read.clone()
    }

    /// Changes the table as `decide` says, which may be asked more than once: when somebody else was faster it decides
    /// anew. Blocks until the change is committed.
    ///
    /// # Errors
    /// `decide`'s, or why nothing was changed.
    pub fn change<R, E: From<KeepError>>(
        &self,
        mut decide: impl FnMut(&mut BTreeMap<String, T>) -> Result<R, E>,
    ) -> Result<R, E> {
        let mut attempt = 0;
        loop {
            let (texts, before) = self.both();
            let mut after = BTreeMap::clone(&before);
            let result = decide(&mut after)?;
            let changes = self.changes(&texts, &before, &after)?;
            if changes.is_empty() {
                return Ok(result);
            }
            attempt += 1;
            match self.keeper.keep(self.name, changes) {
                Ok(()) => return Ok(result),
                Err(KeepError::Conflict) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn changes(
        &self,
        texts: &Texts,
        before: &BTreeMap<String, T>,
        after: &BTreeMap<String, T>,
    ) -> Result<Vec<Change>, KeepError> {
        let was = |key: &String| texts.get(key).cloned();
        let gone = before.keys().filter(|key| !after.contains_key(*key));
        let mut changes: Vec<Change> =
            gone.map(|key| Change { key: key.clone(), was: was(key), becomes: None }).collect();
        for (key, value) in after.iter().filter(|(key, value)| before.get(*key) != Some(value)) {
            let text = serde_json::to_string(value).map_err(|error| KeepError::Refused(error.to_string()))?;
            changes.push(Change { key: key.clone(), was: was(key), becomes: Some(text.into()) });
        }
        Ok(changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_was_too_late_decides_anew() {
        let keeper = Keeper::in_memory();
        let (one, other) =
            (Table::new(state::Table::ApiTokens, keeper.clone()), Table::new(state::Table::ApiTokens, keeper));
        let mut asked = 0;
        let sum = one.change(|table: &mut BTreeMap<String, u32>| {
            asked += 1;
            if asked == 1 {
                other
                    .change(|table: &mut BTreeMap<String, u32>| Ok::<_, KeepError>(table.insert("a".to_owned(), 1)))
                    .unwrap();
            }
            let sum = table.get("a").copied().unwrap_or_default() + 10;
            table.insert("a".to_owned(), sum);
            Ok::<_, KeepError>(sum)
        });
        assert_eq!((sum, asked), (Ok(11), 2));
        assert_eq!(other.all().get("a"), Some(&11));
        // Nothing changes, nothing is written; and an error changes nothing.
        let version = one.keeper.kept().version;
        one.change(|_| Ok::<_, KeepError>(())).unwrap();
        let refused: Result<(), _> = one.change(|table| {
            table.clear();
            Err(KeepError::NoLeader)
        });
        assert_eq!((refused, one.keeper.kept().version), (Err(KeepError::NoLeader), version));
        assert_eq!(other.all().len(), 1);
    }
}
