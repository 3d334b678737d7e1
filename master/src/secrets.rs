//! What tasks name instead of giving it: kept in the replicated tables, sealed with a key that is not in them.
//!
//! The key is derived from the cluster authority's, which every master has as a file: the log, its snapshots and their
//! copies hold nothing readable. A secret is bound to its name, so that nobody who can write tables can exchange two.
//! When another authority follows, everything is sealed anew with its key before the old one is forgotten.

mod disk_keys;
pub(crate) mod sealing;

use std::collections::BTreeMap;
use std::sync::Arc;

use api::link::SecretValue;
use api::v1::TaskInfo;
use master_core::state;
use master_core::validate::references;
use serde::{Deserialize, Serialize};

use crate::authority::Authority;
use crate::kept::{KeepError, Keeper, Table};
pub use sealing::SealError;
use sealing::{Sealed, Sealer};

/// The longest value: sealed and encoded it fits an entry of the tables.
pub const LONGEST: usize = 32 << 10;
/// How many there may be: every master has all of them in memory. Full: no new names are taken.
const CAPACITY: usize = 10_000;
/// The longest name.
const LONGEST_NAME: usize = 200;
/// What a name may be.
pub const NAME_RULE: &str =
    "1 to 200 letters, digits and `.`, `_`, `-`, in parts between single slashes, none of them dots alone";

/// Why a secret is not kept, or not removed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The name is none.
    #[error("'{0}' is not a name of a secret: {NAME_RULE}")]
    Name(String),
    /// The value.
    #[error("a secret has 1 to {LONGEST} bytes, this one {0}")]
    Size(usize),
    /// Too many.
    #[error("there are {CAPACITY} secrets already: delete some")]
    Full,
    /// There is none.
    #[error("there is no secret '{0}'")]
    Unknown(String),
    /// It cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The table.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// One of them, in the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    sealed: Sealed,
    /// Of the value.
    bytes: usize,
    by: Option<String>,
    unix_ms: u64,
}

/// What may be shown of one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Listed {
    /// What tasks call it.
    pub name: String,
    /// Of the value.
    pub bytes: usize,
    /// Who gave it last.
    pub by: Option<String>,
    /// When: milliseconds since 1970.
    pub unix_ms: u64,
}

/// Was there one of that name?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Put {
    /// No.
    Created,
    /// Yes: tasks that run keep the value they were started with.
    Replaced,
}

/// The secrets. Reading never waits; writing blocks until the change is committed.
pub struct Secrets {
    table: Table<Entry>,
    authority: Arc<Authority>,
}

impl Secrets {
    /// Those that `keeper` keeps, sealed with a key of the authority's.
    #[must_use]
    pub fn new(keeper: Keeper, authority: Arc<Authority>) -> Self {
        Self { table: Table::new(state::Table::Secrets, keeper), authority }
    }

    fn open(&self, name: &str, sealed: &Sealed) -> Result<Vec<u8>, SealError> {
        let trust = self.authority.now();
        let open = |ca| Sealer::new(ca)?.open(name, sealed);
        // While one authority follows another a master that is late may have sealed with the old one's key.
        open(&trust.issuer).or_else(|_| open(&trust.serving))
    }

    /// Seals with the key of the authority that follows what is not yet.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn seal_anew(&self) -> Result<(), SecretError> {
        let sealer = Sealer::new(&self.authority.now().issuer)?;
        for (name, entry) in &*self.table.all() {
            if sealer.open(name, &entry.sealed).is_ok() {
                continue;
            }
            let sealed = sealer.seal(name, &self.open(name, &entry.sealed)?)?;
            self.table.change(|all| {
                // It may have been replaced or removed meanwhile.
                if let Some(kept) = all.get_mut(name).filter(|kept| kept.sealed == entry.sealed) {
                    kept.sealed = sealed.clone();
                }
                Ok::<_, SecretError>(())
            })?;
        }
        Ok(())
    }

    /// Keeps one under a name.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn put(&self, name: &str, value: &[u8], by: Option<&str>, unix_ms: u64) -> Result<Put, SecretError> {
        if !is_name(name) {
            return Err(SecretError::Name(name.chars().take(LONGEST_NAME).collect()));
        }
        if value.is_empty() || value.len() > LONGEST {
            return Err(SecretError::Size(value.len()));
        }
        let sealed = Sealer::new(&self.authority.now().issuer)?.seal(name, value)?;
        let entry = Entry { sealed, bytes: value.len(), by: by.map(str::to_owned), unix_ms };
        self.table.change(|all| {
            if all.len() >= CAPACITY && !all.contains_key(name) {
                return Err(SecretError::Full);
            }
            let before = all.insert(name.to_owned(), entry.clone());
            Ok(if before.is_some() { Put::Replaced } else { Put::Created })
        })
    }

    /// Forgets one.
    ///
    /// # Errors
    /// There is none, or the table cannot be changed.
    pub fn remove(&self, name: &str) -> Result<(), SecretError> {
        let unknown = || SecretError::Unknown(name.to_owned());
        if disk_keys::is_disk_key(name) {
            return Err(unknown());
        }
        self.table.change(|all| all.remove(name).map(drop).ok_or_else(unknown))
    }

    /// All of them, without what is secret.
    #[must_use]
    pub fn list(&self) -> Vec<Listed> {
        let all: Arc<BTreeMap<String, Entry>> = self.table.all();
        let listed = |(name, entry): (&String, &Entry)| Listed {
            name: name.clone(),
            bytes: entry.bytes,
            by: entry.by.clone(),
            unix_ms: entry.unix_ms,
        };
        all.iter().filter(|(name, _)| !disk_keys::is_disk_key(name)).map(listed).collect()
    }

    /// What a task names, for the node that is to run it. One that is missing is left out: the node says so.
    #[must_use]
    pub fn for_task(&self, task: &TaskInfo) -> Vec<SecretValue> {
        let names = references(task, None);
        if names.is_empty() {
            return Vec::new();
        }
        let all = self.table.all();
        let value = |name: &str| {
            let Some(entry) = all.get(name).filter(|_| !disk_keys::is_disk_key(name)) else {
                tracing::warn!(task = %task.task_id, secret = name, "a task names a secret there is not");
                return None;
            };
            match self.open(name, &entry.sealed) {
                Ok(value) => Some(SecretValue { name: name.to_owned(), value }),
                Err(error) => {
                    tracing::error!(secret = name, %error, "a secret cannot be read");
                    None
                }
            }
        };
        names.into_iter().filter_map(value).collect()
    }
}

fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        let plain = part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        plain && !part.chars().all(|c| c == '.')
    };
    name.len() <= LONGEST_NAME && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::Successions;
    use crate::ca::Ca;

    fn authority(dir: &std::path::Path) -> Arc<Authority> {
        let issue = |ca: &Ca| ca.issue("m", &[crate::peers::SERVER_NAME.to_owned()], 1_700_000_000);
        Authority::new(dir, Ca::open(dir, 1_700_000_000).unwrap(), issue).unwrap()
    }

    pub(super) fn secrets(dir: &std::path::Path, keeper: &Keeper) -> Secrets {
        Secrets::new(keeper.clone(), authority(dir))
    }

    pub(super) fn task(name: &str) -> TaskInfo {
        let text = format!(
            r#"{{"task_id":{{"value":"t"}},"command":{{"environment":{{"variables":[{{"name":"A","type":"SECRET",
                "secret":{{"type":"REFERENCE","reference":{{"name":"{name}"}}}}}}]}}}}}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn every_master_of_a_cluster_reads_what_one_keeps_and_no_other_cluster_does() {
        let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keeper = Keeper::in_memory();
        let first = secrets(dir.path(), &keeper);
        assert_eq!(first.put("team/db", b"pass word", Some("ops"), 5).unwrap(), Put::Created);
        assert_eq!(first.put("team/db", b"other word", None, 6).unwrap(), Put::Replaced);
        // The authority as another master, or the same after a restart, has it.
        let second = secrets(dir.path(), &keeper);
        let values = second.for_task(&task("team/db"));
        assert_eq!((values[0].name.as_str(), values[0].value.as_slice()), ("team/db", b"other word".as_slice()));
        assert!(second.for_task(&task("team")).is_empty());
        assert!(secrets(other.path(), &keeper).for_task(&task("team/db")).is_empty());
        let listed = Listed { name: "team/db".to_owned(), bytes: 10, by: None, unix_ms: 6 };
        assert_eq!(second.list(), [listed]);
        second.remove("team/db").unwrap();
        assert!(first.for_task(&task("team/db")).is_empty() && first.list().is_empty());
        assert!(matches!(first.remove("team/db"), Err(SecretError::Unknown(_))));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn they_outlive_the_authority_they_were_sealed_with() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::in_memory();
        let authority = authority(dir.path());
        let secrets = Secrets::new(keeper.clone(), authority.clone());
        tokio::spawn(authority.clone().follow(keeper.clone()));
        let successions = Successions::new(keeper);
        secrets.put("old", b"1", None, 1).unwrap();
        let first = authority.now().serving.fingerprint();
        successions.begin(&authority.now().serving, "ops").unwrap();
        let other = async |which: &dyn Fn() -> String| {
            let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
            while which() == first {
                assert!(tokio::time::Instant::now() < deadline, "the authority does not follow");
                tokio::time::sleep(std::time::Duration::from_millis(5)).await;
            }
        };
        other(&|| authority.now().issuer.fingerprint()).await;
        secrets.put("new", b"2", None, 2).unwrap();
        assert_eq!(secrets.for_task(&task("old"))[0].value, b"1");
        secrets.seal_anew().unwrap();
        successions.close().unwrap();
        other(&|| authority.now().serving.fingerprint()).await;
        successions.end().unwrap();
        assert_eq!(secrets.for_task(&task("old"))[0].value, b"1");
        assert_eq!(secrets.for_task(&task("new"))[0].value, b"2");
    }

    #[test]
    fn what_is_kept_shows_nothing_and_belongs_to_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let keeper = Keeper::in_memory();
        let secrets = secrets(dir.path(), &keeper);
        secrets.put("a", b"pass word", None, 1).unwrap();
        let table: Table<serde_json::Value> = Table::new(state::Table::Secrets, keeper);
        let text = serde_json::to_string(&*table.all()).unwrap();
        assert!(!text.contains("pass") && !text.contains("cGFzcyB3b3Jk"), "{text}");
        // Moved to another name it opens no more.
        let moved = |all: &mut BTreeMap<String, serde_json::Value>| {
            let entry = all["a"].clone();
            all.insert("b".to_owned(), entry);
            Ok::<_, KeepError>(())
        };
        table.change(moved).unwrap();
        assert_eq!(secrets.for_task(&task("a")).len(), 1);
        assert!(secrets.for_task(&task("b")).is_empty());
    }

    #[test]
    fn names_and_sizes_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let secrets = secrets(dir.path(), &Keeper::in_memory());
        for bad in ["", "/a", "a/", "a//b", "a b", "..", "a/../b", "ä", &"x".repeat(LONGEST_NAME + 1)] {
            assert!(matches!(secrets.put(bad, b"x", None, 1), Err(SecretError::Name(_))), "{bad}");
        }
        for size in [0, LONGEST + 1] {
            assert!(matches!(secrets.put("a", &vec![1; size], None, 1), Err(SecretError::Size(_))));
        }
        secrets.put("a.b/c_d-e", &vec![1; LONGEST], None, 1).unwrap();
    }
}
