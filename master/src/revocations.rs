//! Certificates that are good no more, though they have not expired: of a node, or a single one.
//!
//! Kept in the data directory. A revoked node gets in with no certificate and no token until it is
//! readmitted; then it has to join anew, for the certificates it had stay revoked.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use crate::atomic_file;
use crate::ca::{Holder, Role};

/// Entries of each kind. Full: no more are taken.
const CAPACITY: usize = 100_000;

/// All revocations, as kept and as shown.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct List {
    /// By name.
    #[serde(default)]
    pub nodes: BTreeMap<String, RevokedNode>,
    /// By serial number, lower-case hexadecimal without leading zeros.
    #[serde(default)]
    pub certificates: BTreeMap<String, RevokedCertificate>,
}

/// A node that is or was kept out.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RevokedNode {
    /// Milliseconds since 1970. Certificates issued up to then are refused for good.
    pub revoked_ms: u64,
    /// For people.
    pub reason: String,
    /// It may join again.
    #[serde(default)]
    pub readmitted: bool,
}

/// A single certificate.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct RevokedCertificate {
    /// Milliseconds since 1970.
    pub revoked_ms: u64,
    /// For people.
    pub reason: String,
}

/// Somebody is not let in.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{what} was revoked by an operator{}", if reason.is_empty() { String::new() } else { format!(": {reason}") })]
pub struct Revoked {
    what: String,
    reason: String,
}

/// The list was not changed.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Too many.
    #[error("the list of revocations is full ({CAPACITY})")]
    Full,
    /// The file.
    #[error("the master cannot write its list of revocations: {0}")]
    Io(#[from] io::Error),
}

/// The list. Readers never wait for the disk.
#[derive(Debug)]
pub struct Revocations {
    path: PathBuf,
    list: RwLock<Arc<List>>,
    /// Held over writing the file.
    writing: Mutex<()>,
}

impl Revocations {
    /// Reads the list, if there is one.
    ///
    /// # Errors
    /// It cannot be read or understood: nobody who is kept out gets in because a file is damaged.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let list = match atomic_file::read(&path)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("not a list of revocations: {error}"))
            })?,
            None => List::default(),
        };
        Ok(Self { path, list: RwLock::new(Arc::new(list)), writing: Mutex::new(()) })
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> Arc<List> {
        self.list.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Is a certificate still good? Its chain and dates were checked by TLS.
    ///
    /// # Errors
    /// It was revoked.
    pub fn check(&self, holder: &Holder) -> Result<(), Revoked> {
        let list = self.list();
        if let Some(entry) = list.certificates.get(&holder.serial) {
            let what = format!("the certificate with serial number {}", holder.serial);
            return Err(Revoked { what, reason: entry.reason.clone() });
        }
        let entry = list.nodes.get(&holder.name).filter(|_| holder.role == Role::Node);
        let entry = entry.filter(|entry| !entry.readmitted || holder.issued_secs <= seconds(entry.revoked_ms));
        entry.map_or(Ok(()), |entry| Err(node(&holder.name, entry)))
    }

    /// May a node of this name join?
    ///
    /// # Errors
    /// It was revoked and not readmitted.
    pub fn check_node(&self, name: &str) -> Result<(), Revoked> {
        let list = self.list();
        let entry = list.nodes.get(name).filter(|entry| !entry.readmitted);
        entry.map_or(Ok(()), |entry| Err(node(name, entry)))
    }

    /// Keeps a node out from now on. Blocks on the disk.
    ///
    /// # Errors
    /// The list was not changed.
    pub fn revoke_node(&self, name: &str, reason: &str, now_ms: u64) -> Result<(), RevokeError> {
        self.change(|list| {
            let entry = RevokedNode { revoked_ms: now_ms, reason: reason.to_owned(), readmitted: false };
            list.nodes.insert(name.to_owned(), entry);
        })
    }

    /// Lets a node join again; false if it was not kept out. Blocks on the disk.
    ///
    /// # Errors
    /// The list was not changed.
    pub fn readmit_node(&self, name: &str, now_ms: u64) -> Result<bool, RevokeError> {
        let list = self.list();
        let Some(entry) = list.nodes.get(name).filter(|entry| !entry.readmitted) else { return Ok(false) };
        // A certificate tells when it was issued in seconds: one of after must differ from one of before.
        let next_second = (entry.revoked_ms / 1000 + 1) * 1000;
        std::thread::sleep(std::time::Duration::from_millis(next_second.saturating_sub(now_ms).min(1000)));
        self.change(|list| {
            if let Some(entry) = list.nodes.get_mut(name) {
                entry.readmitted = true;
            }
        })?;
        Ok(true)
    }

    /// Refuses one certificate from now on. Blocks on the disk.
    ///
    /// # Errors
    /// The list was not changed.
    pub fn revoke_certificate(&self, serial: &str, reason: &str, now_ms: u64) -> Result<(), RevokeError> {
        let serial = serial.trim_start_matches('0').to_owned();
        self.change(|list| {
            list.certificates.insert(serial, RevokedCertificate { revoked_ms: now_ms, reason: reason.to_owned() });
        })
    }

    fn change(&self, change: impl FnOnce(&mut List)) -> Result<(), RevokeError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list = List::clone(&self.list());
        change(&mut list);
        if list.nodes.len() > CAPACITY || list.certificates.len() > CAPACITY {
            return Err(RevokeError::Full);
        }
        let bytes = serde_json::to_vec_pretty(&list).map_err(io::Error::other)?;
        atomic_file::write(&self.path, &bytes, 0o600)?;
        *self.list.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(list);
        Ok(())
    }
}

fn node(name: &str, entry: &RevokedNode) -> Revoked {
    Revoked { what: format!("the node '{name}'"), reason: entry.reason.clone() }
}

fn seconds(unix_ms: u64) -> i64 {
    i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(issued_secs: i64) -> Holder {
        Holder { role: Role::Node, name: "node-1".to_owned(), on_nodes: None, serial: "ab12".to_owned(), issued_secs }
    }

    #[test]
    fn a_revoked_node_is_kept_out_and_a_readmitted_one_needs_a_new_certificate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("revocations.json");
        let list = Revocations::open(path.clone()).unwrap();
        assert!(list.check(&holder(5)).is_ok() && list.check_node("node-1").is_ok());
        assert!(!list.readmit_node("node-1", 0).unwrap());
        list.revoke_node("node-1", "stolen", 10_500).unwrap();
        let list = Revocations::open(path).unwrap();
        assert!(list.check(&holder(5)).unwrap_err().to_string().ends_with("an operator: stolen"));
        assert!(list.check(&holder(99)).is_err() && list.check_node("node-1").is_err());
        assert!(list.check_node("node-2").is_ok());
        assert!(list.check(&Holder { role: Role::Client, ..holder(5) }).is_ok());
        assert!(list.readmit_node("node-1", 12_000).unwrap());
        assert!(list.check_node("node-1").is_ok() && list.check(&holder(11)).is_ok());
        assert!(list.check(&holder(10)).is_err());
    }

    #[test]
    fn one_certificate_is_refused_by_its_serial_number() {
        let dir = tempfile::tempdir().unwrap();
        let list = Revocations::open(dir.path().join("revocations.json")).unwrap();
        list.revoke_certificate("00ab12", "", 1).unwrap();
        let refused = list.check(&holder(5)).unwrap_err().to_string();
        assert_eq!(refused, "the certificate with serial number ab12 was revoked by an operator");
        assert!(list.check(&Holder { serial: "ab13".to_owned(), ..holder(5) }).is_ok());
        std::fs::write(dir.path().join("revocations.json"), "[").unwrap();
        assert!(Revocations::open(dir.path().join("revocations.json")).is_err());
    }
}
