//! Join tokens: one-time, short-lived, bound to the machine (or name) they were made for.
//!
//! Only a token's SHA-256 is kept, here and on disk: who reads the table cannot join with it. The
//! table is on disk so that a machine that is booting while the master restarts still gets in.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic_file;
use crate::hex;

/// Long enough for a slow machine's firmware and a big initramfs.
pub const LIFETIME_MS: u64 = 10 * 60 * 1000;
/// Tokens and script requests remembered at once. Full: the one that would expire first goes.
const CAPACITY: usize = 4096;

/// Whom a token is for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Binding {
    /// The machine that asked for its boot script.
    Machine {
        /// Lower case, colon-separated.
        mac: String,
        /// Lower case; empty when its firmware has none.
        uuid: String,
    },
    /// Whoever the operator gives it to.
    Name,
}

/// What a machine says of itself when it joins.
#[derive(Clone, Debug, Default)]
pub struct Claim<'a> {
    /// SMBIOS system UUID, lower case, may be empty.
    pub uuid: &'a str,
    /// Every MAC address, lower case.
    pub macs: &'a [String],
    /// SHA-256 of the public key it wants certified.
    pub key: [u8; 32],
}

/// Why a token is refused; told to the machine and to the operator's log.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// Not in the table.
    #[error("the token is wrong: this master did not make it, or it expired more than {} minutes ago", LIFETIME_MS / 60_000)]
    Wrong,
    /// Too late.
    #[error("the token expired {0} s ago: boot again to get a new one")]
    Expired(u64),
    /// Bound to another one.
    #[error("the token belongs to another machine ({0})")]
    OtherMachine(String),
    /// Somebody joined with it already, with another key.
    #[error("the token was used already: tokens are good for one machine, once")]
    Used,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Token {
    binding: Binding,
    node: String,
    expires_ms: u64,
    used: Option<Use>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Use {
    key: String,
    certificate: String,
}

/// What a good token gives.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Grant {
    /// A certificate for this name is to be made, and told by [`Tokens::used`].
    New(String),
    /// The same request came before: its answer was lost.
    Again {
        /// The name.
        node: String,
        /// The certificate given then.
        certificate: String,
    },
}

/// The table.
#[derive(Debug)]
pub struct Tokens {
    path: PathBuf,
    tokens: BTreeMap<String, Token>,
    /// Machines whose boot script was handed out and whose token was not fetched yet: when that expires.
    scripts: BTreeMap<(String, String), u64>,
}

impl Tokens {
    /// Reads the table, or starts an empty one.
    ///
    /// # Errors
    /// The file cannot be read. A table that cannot be parsed is dropped with a warning: it only costs
    /// machines that are booting right now another boot.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let tokens = match atomic_file::read(&path)? {
            Some(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(%error, file = %path.display(), "the table of join tokens is unreadable; starting an empty one");
                BTreeMap::new()
            }),
            None => BTreeMap::new(),
        };
        Ok(Self { path, tokens, scripts: BTreeMap::new() })
    }

    /// A machine asked for its boot script: it may fetch one token.
    pub fn script_requested(&mut self, mac: &str, uuid: &str, now_ms: u64) {
        self.scripts.retain(|_, expires| *expires > now_ms);
        if self.scripts.len() >= CAPACITY
            && let Some(first) = self.scripts.iter().min_by_key(|(_, expires)| **expires).map(|(key, _)| key.clone())
        {
            self.scripts.remove(&first);
        }
        self.scripts.insert((mac.to_owned(), uuid.to_owned()), now_ms + LIFETIME_MS);
    }

    /// Takes the right to one token that [`script_requested`](Self::script_requested) gave.
    pub fn take_script(&mut self, mac: &str, uuid: &str, now_ms: u64) -> bool {
        self.scripts.remove(&(mac.to_owned(), uuid.to_owned())).is_some_and(|expires| expires > now_ms)
    }

    /// Makes a token.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn make(&mut self, binding: Binding, node: &str, now_ms: u64) -> io::Result<String> {
        // An expired token is remembered for as long again, so that its refusal can say so.
        self.tokens.retain(|_, token| token.expires_ms + LIFETIME_MS > now_ms);
        if self.tokens.len() >= CAPACITY
            && let Some(first) =
                self.tokens.iter().min_by_key(|(_, token)| token.expires_ms).map(|(key, _)| key.clone())
        {
            self.tokens.remove(&first);
        }
        let secret = crate::random::bytes::<32>()?;
        let token = hex::encode(&secret);
        let entry = Token { binding, node: node.to_owned(), expires_ms: now_ms + LIFETIME_MS, used: None };
        self.tokens.insert(fingerprint(&token), entry);
        self.save()?;
        Ok(token)
    }

    /// May this machine join with this token?
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, token: &str, claim: &Claim<'_>, now_ms: u64) -> Result<Grant, Refusal> {
        // Looked up by digest: the time it takes tells nothing about the token.
        let entry = self.tokens.get(&fingerprint(token)).ok_or(Refusal::Wrong)?;
        if now_ms >= entry.expires_ms {
            return Err(Refusal::Expired((now_ms - entry.expires_ms) / 1000));
        }
        if let Binding::Machine { mac, uuid } = &entry.binding {
            if !claim.macs.iter().any(|one| one.eq_ignore_ascii_case(mac)) {
                return Err(Refusal::OtherMachine(format!("the one with MAC address {mac}")));
            }
            if !uuid.is_empty() && !claim.uuid.is_empty() && !same_uuid(uuid, claim.uuid) {
                return Err(Refusal::OtherMachine(format!("the one with UUID {uuid}")));
            }
        }
        match &entry.used {
            None => Ok(Grant::New(entry.node.clone())),
            Some(used) if used.key == hex::encode(&claim.key) => {
                Ok(Grant::Again { node: entry.node.clone(), certificate: used.certificate.clone() })
            }
            Some(_) => Err(Refusal::Used),
        }
    }

    /// Remembers what a token was used for. Only after this may the certificate leave.
    ///
    /// # Errors
    /// The table cannot be written; then the token is as before.
    pub fn used(&mut self, token: &str, key: &[u8; 32], certificate: &str) -> io::Result<()> {
        let fingerprint = fingerprint(token);
        let set = |tokens: &mut BTreeMap<String, Token>, used| {
            if let Some(entry) = tokens.get_mut(&fingerprint) {
                entry.used = used;
            }
        };
        set(&mut self.tokens, Some(Use { key: hex::encode(key), certificate: certificate.to_owned() }));
        self.save().inspect_err(|_| set(&mut self.tokens, None))
    }

    fn save(&self) -> io::Result<()> {
        let bytes = serde_json::to_vec(&self.tokens).map_err(io::Error::other)?;
        atomic_file::write(&self.path, &bytes, 0o600)
    }
}

fn fingerprint(token: &str) -> String {
    hex::encode(&Sha256::digest(token.trim().as_bytes()))
}

/// SMBIOS before 2.6 left the byte order of a UUID's first three fields open, and firmware, boot
/// loader and kernel may disagree on it.
fn same_uuid(one: &str, other: &str) -> bool {
    let digits =
        |text: &str| text.bytes().filter(u8::is_ascii_hexdigit).map(|b| b.to_ascii_lowercase()).collect::<Vec<_>>();
    let (one, other) = (digits(one), digits(other));
    if one.len() != 32 || other.len() != 32 {
        return one == other;
    }
    let pairs: Vec<&[u8]> = one.chunks(2).collect();
    let swapped: Vec<u8> = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15]
        .iter()
        .flat_map(|at: &usize| pairs[*at].to_vec())
        .collect();
    one == other || swapped == other
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "52:54:00:77:00:01";
    const UUID: &str = "00112233-4455-6677-8899-aabbccddeeff";

    fn table() -> (tempfile::TempDir, Tokens) {
        let dir = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(dir.path().join("tokens.json")).unwrap();
        (dir, tokens)
    }

    fn machine() -> Binding {
        Binding::Machine { mac: MAC.to_owned(), uuid: UUID.to_owned() }
    }

    #[test]
    fn a_token_is_good_once_for_its_machine_until_it_expires() {
        let (_dir, mut tokens) = table();
        let token = tokens.make(machine(), "node-1", 1000).unwrap();
        assert_eq!(token.len(), 64);
        let macs = ["52:54:00:00:00:09".to_owned(), MAC.to_owned()];
        let claim = Claim { uuid: UUID, macs: &macs, key: [1; 32] };
        assert_eq!(tokens.check("nonsense", &claim, 1000), Err(Refusal::Wrong));
        assert_eq!(tokens.check(&token, &claim, 1000), Ok(Grant::New("node-1".to_owned())));
        let other = Claim { macs: &macs[..1], ..claim.clone() };
        assert!(matches!(tokens.check(&token, &other, 1000), Err(Refusal::OtherMachine(_))));
        let other = Claim { uuid: "00112233-4455-6677-8899-aabbccddee00", ..claim.clone() };
        assert!(matches!(tokens.check(&token, &other, 1000), Err(Refusal::OtherMachine(_))));
        let swapped = Claim { uuid: "33221100-5544-7766-8899-AABBCCDDEEFF", ..claim.clone() };
        assert!(tokens.check(&token, &swapped, 1000).is_ok());
        assert_eq!(tokens.check(&token, &claim, 1000 + LIFETIME_MS + 5000), Err(Refusal::Expired(5)));
        tokens.used(&token, &[1; 32], "PEM").unwrap();
        let again = Grant::Again { node: "node-1".to_owned(), certificate: "PEM".to_owned() };
        assert_eq!(tokens.check(&token, &claim, 2000), Ok(again));
        assert_eq!(tokens.check(&token, &Claim { key: [2; 32], ..claim }, 2000), Err(Refusal::Used));
    }

    #[test]
    fn the_table_survives_a_restart_and_holds_no_token() {
        let (dir, mut tokens) = table();
        let token = tokens.make(Binding::Name, "hosted-1", 0).unwrap();
        tokens.used(&token, &[7; 32], "PEM").unwrap();
        let path = dir.path().join("tokens.json");
        assert!(!std::fs::read_to_string(&path).unwrap().contains(&token));
        let tokens = Tokens::open(path).unwrap();
        let claim = Claim { key: [8; 32], ..Claim::default() };
        assert_eq!(tokens.check(&token, &claim, 1), Err(Refusal::Used));
    }

    #[test]
    fn one_script_request_is_worth_one_token() {
        let (_dir, mut tokens) = table();
        assert!(!tokens.take_script(MAC, UUID, 0));
        tokens.script_requested(MAC, UUID, 0);
        assert!(!tokens.take_script(MAC, "", 0));
        assert!(tokens.take_script(MAC, UUID, 0));
        assert!(!tokens.take_script(MAC, UUID, 0));
        tokens.script_requested(MAC, UUID, 0);
        assert!(!tokens.take_script(MAC, UUID, LIFETIME_MS));
    }

    #[test]
    fn the_table_is_bounded() {
        let (_dir, mut tokens) = table();
        for number in 0..CAPACITY as u64 + 10 {
            tokens.script_requested(&number.to_string(), "", number);
        }
        assert_eq!(tokens.scripts.len(), CAPACITY);
        assert!(!tokens.take_script("9", "", 0) && tokens.take_script("10", "", 0));
    }
}
