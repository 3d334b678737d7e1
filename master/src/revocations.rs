//! Certificates that are good no more, though they have not expired: of a node, or a single one.
//!
//! Every master has the list. A revoked node gets in with no certificate and no token until it is readmitted; then it
//! has to join anew, for the certificates it had stay revoked.

use std::collections::BTreeMap;

use master_core::state;
use serde::{Deserialize, Serialize};

use crate::ca::{Holder, Role};
use crate::kept::{KeepError, Keeper, Table};

/// Entries at once. Full: no more are taken.
const CAPACITY: usize = 100_000;

/// All revocations, as shown.
#[derive(Clone, Debug, Default, Serialize)]
pub struct List {
    /// By name.
    pub nodes: BTreeMap<String, Revocation>,
    /// By serial number, lower-case hexadecimal without leading zeros.
    pub certificates: BTreeMap<String, Revocation>,
}

/// A node that is or was kept out, or a single certificate.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Revocation {
    /// Milliseconds since 1970. A node's certificates issued up to then are refused for good.
    pub revoked_ms: u64,
    /// For people.
    pub reason: String,
    /// The node may join again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub readmitted: bool,
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
    /// The table.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// The list. Readers never wait; whatever changes it blocks until that is committed.
pub struct Revocations(Table<Revocation>);

fn node_key(name: &str) -> String {
    format!("node/{name}")
}

fn certificate_key(serial: &str) -> String {
    format!("certificate/{serial}")
}

impl Revocations {
    /// The list that `keeper` keeps.
    #[must_use]
    pub fn new(keeper: Keeper) -> Self {
        Self(Table::new(state::Table::Revocations, keeper))
    }

    /// All of them.
    #[must_use]
    pub fn list(&self) -> List {
        let mut list = List::default();
        for (key, entry) in self.0.all().iter() {
            match key.split_once('/') {
                Some(("node", name)) => drop(list.nodes.insert(name.to_owned(), entry.clone())),
                Some(("certificate", serial)) => drop(list.certificates.insert(serial.to_owned(), entry.clone())),
                _ => {}
            }
        }
        list
    }

    /// Is a certificate still good? Its chain and dates were checked by TLS.
    ///
    /// # Errors
    /// It was revoked.
    pub fn check(&self, holder: &Holder) -> Result<(), Revoked> {
        let all = self.0.all();
        if let Some(entry) = all.get(&certificate_key(&holder.serial)) {
            let what = format!("the certificate with serial number {}", holder.serial);
            return Err(Revoked { what, reason: entry.reason.clone() });
        }
        let entry = all.get(&node_key(&holder.name)).filter(|_| holder.role == Role::Node);
        let entry = entry.filter(|entry| !entry.readmitted || holder.issued_secs <= seconds(entry.revoked_ms));
        entry.map_or(Ok(()), |entry| Err(node(&holder.name, entry)))
    }

    /// May a node of this name join?
    ///
    /// # Errors
    /// It was revoked and not readmitted.
    pub fn check_node(&self, name: &str) -> Result<(), Revoked> {
        let all = self.0.all();
        let entry = all.get(&node_key(name)).filter(|entry| !entry.readmitted);
        entry.map_or(Ok(()), |entry| Err(node(name, entry)))
    }

    /// Keeps a node out from now on.
    ///
    /// # Errors
    /// The list was not changed.
    pub fn revoke_node(&self, name: &str, reason: &str, now_ms: u64) -> Result<(), RevokeError> {
        self.revoke(node_key(name), reason, now_ms)
    }

    /// Lets a node join again; false if it was not kept out.
    ///
    /// # Errors
    /// The list was not changed.
    pub fn readmit_node(&self, name: &str, now_ms: u64) -> Result<bool, RevokeError> {
        let all = self.0.all();
        let Some(entry) = all.get(&node_key(name)).filter(|entry| !entry.readmitted) else { return Ok(false) };
        // A certificate tells when it was issued in seconds: one of after must differ from one of before.
        let next_second = (entry.revoked_ms / 1000 + 1) * 1000;
        std::thread::sleep(std::time::Duration::from_millis(next_second.saturating_sub(now_ms).min(1000)));
        self.0.change(|all| {
            let entry = all.get_mut(&node_key(name)).filter(|entry| !entry.readmitted);
            Ok(entry.map(|entry| entry.readmitted = true).is_some())
        })
    }

    /// Refuses one certificate from now on.
    ///
    /// # Errors
    /// The list was not changed.
    pub fn revoke_certificate(&self, serial: &str, reason: &str, now_ms: u64) -> Result<(), RevokeError> {
        self.revoke(certificate_key(serial.trim_start_matches('0')), reason, now_ms)
    }

    fn revoke(&self, key: String, reason: &str, now_ms: u64) -> Result<(), RevokeError> {
        let entry = Revocation { revoked_ms: now_ms, reason: reason.to_owned(), readmitted: false };
        self.0.change(|all| {
            all.insert(key.clone(), entry.clone());
            if all.len() > CAPACITY { Err(RevokeError::Full) } else { Ok(()) }
        })
    }
}

fn node(name: &str, entry: &Revocation) -> Revoked {
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
        let keeper = Keeper::in_memory();
        let list = Revocations::new(keeper.clone());
        assert!(list.check(&holder(5)).is_ok() && list.check_node("node-1").is_ok());
        assert!(!list.readmit_node("node-1", 0).unwrap());
        list.revoke_node("node-1", "stolen", 10_500).unwrap();
        let list = Revocations::new(keeper);
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
        let list = Revocations::new(Keeper::in_memory());
        list.revoke_certificate("00ab12", "", 1).unwrap();
        let refused = list.check(&holder(5)).unwrap_err().to_string();
        assert_eq!(refused, "the certificate with serial number ab12 was revoked by an operator");
        assert!(list.check(&Holder { serial: "ab13".to_owned(), ..holder(5) }).is_ok());
        assert!(list.list().certificates.contains_key("ab12") && list.list().nodes.is_empty());
    }
}
