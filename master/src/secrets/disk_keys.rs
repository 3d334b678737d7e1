//! Keys of encrypted disks, among the secrets: sealed like them, and sealed anew with them when another authority follows.
//! Their names are none that anybody can give or a task can use.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::sealing::Sealer;
use super::{Entry, SecretError, Secrets};
use crate::clock::unix_ms;

/// What the names of these begin with.
const PREFIX: &str = ":disk:";
/// The longest name of a volume: a GUID.
const LONGEST_VOLUME: usize = 64;
/// What a key has by chance. It is written in base64, so that it is a line of text wherever it goes.
const KEY_BYTES: usize = 64;
/// Volumes of one node. Full: another one is not encrypted.
const PER_NODE: usize = 256;

/// Is it one of these?
pub(super) fn is_disk_key(name: &str) -> bool {
    name.starts_with(PREFIX)
}

fn of_node(node: &str) -> String {
    format!("{PREFIX}{node}:")
}

fn name(node: &str, volume: &str) -> Result<String, SecretError> {
    let plain = volume.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    if volume.is_empty() || volume.len() > LONGEST_VOLUME || !plain {
        return Err(SecretError::Name(volume.chars().take(LONGEST_VOLUME).collect()));
    }
    Ok(format!("{}{volume}", of_node(node)))
}

impl Secrets {
    /// The key of a node's volume, if there is one.
    ///
    /// # Errors
    /// No volume has such a name, or it was sealed with another key.
    pub fn disk_key(&self, node: &str, volume: &str) -> Result<Option<Vec<u8>>, SecretError> {
        let name = name(node, volume)?;
        let all = self.table.all();
        Ok(all.get(&name).map(|entry| self.open(&name, &entry.sealed)).transpose()?)
    }

    /// Makes a key by chance, unless there is one. Blocks until it is committed.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn make_disk_key(&self, node: &str, volume: &str) -> Result<(), SecretError> {
        let name = name(node, volume)?;
        let chance: [u8; KEY_BYTES] = crate::random::bytes().map_err(|_| super::SealError::Random)?;
        let key = STANDARD.encode(chance);
        let sealed = Sealer::new(&self.authority.now().issuer)?.seal(&name, key.as_bytes())?;
        let entry = Entry { sealed, bytes: key.len(), by: Some(node.to_owned()), unix_ms: unix_ms() };
        let own = of_node(node);
        self.table.change(|all| {
            if all.contains_key(&name) {
                return Ok(());
            }
            if all.keys().filter(|name| name.starts_with(&own)).count() >= PER_NODE {
                return Err(SecretError::Full);
            }
            all.insert(name.clone(), entry.clone());
            Ok(())
        })
    }

    /// Forgets the key of a volume: nobody can read it any more. Blocks until that is committed.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn forget_disk_key(&self, node: &str, volume: &str) -> Result<(), SecretError> {
        let name = name(node, volume)?;
        self.table.change(|all| {
            all.remove(&name);
            Ok(())
        })
    }

    /// Forgets all keys of a node. Gives how many there were.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn forget_disk_keys(&self, node: &str) -> Result<usize, SecretError> {
        let own = of_node(node);
        self.table.change(|all| {
            let before = all.len();
            all.retain(|name, _| !name.starts_with(&own));
            Ok(before - all.len())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{secrets, task};
    use super::*;
    use crate::kept::Keeper;

    #[test]
    fn a_key_is_made_once_and_is_one_nodes() {
        let (dir, keeper) = (tempfile::tempdir().unwrap(), Keeper::in_memory());
        let secrets = secrets(dir.path(), &keeper);
        assert_eq!(secrets.disk_key("node-1", "ab-1").unwrap(), None);
        secrets.make_disk_key("node-1", "ab-1").unwrap();
        let key = secrets.disk_key("node-1", "ab-1").unwrap().unwrap();
        assert_eq!(key.len(), 88);
        secrets.make_disk_key("node-1", "ab-1").unwrap();
        assert_eq!(secrets.disk_key("node-1", "ab-1").unwrap().unwrap(), key, "asked twice");
        secrets.make_disk_key("node-10", "ab-1").unwrap();
        assert_ne!(secrets.disk_key("node-10", "ab-1").unwrap().unwrap(), key);
        for bad in ["", "a:b", "../x", &"a".repeat(65)] {
            assert!(secrets.disk_key("node-1", bad).is_err() && secrets.make_disk_key("node-1", bad).is_err());
        }
        assert_eq!(secrets.forget_disk_keys("node-1").unwrap(), 1);
        assert_eq!(secrets.disk_key("node-1", "ab-1").unwrap(), None);
        secrets.forget_disk_key("node-10", "ab-1").unwrap();
        assert_eq!(secrets.disk_key("node-10", "ab-1").unwrap(), None);
    }

    #[test]
    fn no_task_and_nobody_at_the_api_reaches_it() {
        let (dir, keeper) = (tempfile::tempdir().unwrap(), Keeper::in_memory());
        let secrets = secrets(dir.path(), &keeper);
        secrets.make_disk_key("node-1", "ab").unwrap();
        let name = name("node-1", "ab").unwrap();
        assert!(secrets.for_task(&task(&name)).is_empty() && secrets.list().is_empty());
        assert!(matches!(secrets.remove(&name), Err(SecretError::Unknown(_))));
        assert!(matches!(secrets.put(&name, b"x", None, 1), Err(SecretError::Name(_))));
        assert!(secrets.disk_key("node-1", "ab").unwrap().is_some());
    }
}
