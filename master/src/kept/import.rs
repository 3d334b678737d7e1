//! What a master of before kept in files of its own comes into the tables that every master has.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use master_core::state;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{KeepError, Keeper, Table};
use crate::atomic_file;

/// Why it did not.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file.
    #[error("cannot read or rename {0}")]
    File(&'static str, #[source] io::Error),
    /// Its content: nobody who is kept out gets in because a file is damaged.
    #[error("{0} is damaged: mend or remove it")]
    Damaged(&'static str, #[source] serde_json::Error),
    /// The tables.
    #[error("cannot keep what {0} holds")]
    Keep(&'static str, #[source] KeepError),
}

/// Takes over the files in `data`, once: they are renamed. What the tables know already they keep. Blocks.
///
/// # Errors
/// See [`ImportError`].
pub fn import(data: &Path, keeper: &Keeper) -> Result<(), ImportError> {
    // Join tokens live for minutes: those of before are not worth it.
    entries(data, keeper, "api-tokens.json", state::Table::ApiTokens, |table: BTreeMap<String, Value>| table)?;
    entries(data, keeper, "revocations.json", state::Table::Revocations, |lists: BTreeMap<String, Value>| {
        let mut entries = BTreeMap::new();
        for (list, prefix) in [("nodes", "node/"), ("certificates", "certificate/")] {
            for (key, value) in lists.get(list).and_then(Value::as_object).into_iter().flatten() {
                entries.insert(format!("{prefix}{key}"), value.clone());
            }
        }
        entries
    })
}

fn entries<T: DeserializeOwned>(
    data: &Path,
    keeper: &Keeper,
    name: &'static str,
    table: state::Table,
    convert: impl FnOnce(T) -> BTreeMap<String, Value>,
) -> Result<(), ImportError> {
    let path = data.join(name);
    let Some(bytes) = atomic_file::read(&path).map_err(|error| ImportError::File(name, error))? else { return Ok(()) };
    let entries = convert(serde_json::from_slice(&bytes).map_err(|error| ImportError::Damaged(name, error))?);
    let taken = Table::<Value>::new(table, keeper.clone()).change(|table| {
        for (key, value) in &entries {
            table.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Ok(())
    });
    taken.map_err(|error| ImportError::Keep(name, error))?;
    tracing::info!(file = name, entries = entries.len(), "what was in the file is now kept by all masters");
    std::fs::rename(&path, path.with_extension("json.imported")).map_err(|error| ImportError::File(name, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_before_are_taken_over_once() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::in_memory();
        let revoked =
            r#"{"nodes":{"n1":{"revoked_ms":5,"reason":"stolen"}},"certificates":{"ab":{"revoked_ms":6,"reason":""}}}"#;
        std::fs::write(dir.path().join("revocations.json"), revoked).unwrap();
        import(dir.path(), &keeper).unwrap();
        import(dir.path(), &keeper).unwrap();
        assert!(!dir.path().join("revocations.json").exists());
        let list = crate::revocations::Revocations::new(keeper.clone());
        assert!(list.check_node("n1").unwrap_err().to_string().contains("stolen"));
        std::fs::write(dir.path().join("api-tokens.json"), "[").unwrap();
        assert!(matches!(import(dir.path(), &keeper), Err(ImportError::Damaged("api-tokens.json", _))));
    }
}
