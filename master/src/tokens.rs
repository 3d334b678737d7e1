//! Join tokens: one-time, short-lived, bound to the machine (or name) they were made for.
//!
//! Only a token's SHA-256 is kept: who reads the table cannot join with it. Every master has the table, so that a machine
//! that boots while one of them dies still gets in.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use master_core::state;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hex;
use crate::kept::{KeepError, Keeper, Table};

/// Long enough for a slow machine's firmware and a big initramfs.
pub const LIFETIME_MS: u64 = 10 * 60 * 1000;
/// Tokens remembered at once. Full: those that expired go, then those that were used; no live token does:
/// whoever asks gets none until one expires.
const CAPACITY: usize = 4096;
/// Of these, for machines that boot; the rest is for the tokens operators make.
const BOOT_CAPACITY: usize = CAPACITY / 4 * 3;
/// Live tokens given to machines at one address: behind a router there may be a rack.
const BOOT_SHARE: usize = 128;
/// Script requests remembered at once. Full: further machines are told to try again.
const SCRIPTS_CAPACITY: usize = 4096;

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
    /// A machine that is to be a master: it gets everything a master has.
    Master,
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

#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct Token {
    binding: Binding,
    node: String,
    expires_ms: u64,
    used: Option<Use>,
    /// Where it was sent over the boot network.
    #[serde(default)]
    given_to: Option<IpAddr>,
}

impl Token {
    fn is_live(&self, now_ms: u64) -> bool {
        self.used.is_none() && now_ms < self.expires_ms
    }
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// One token a machine: somebody else has it.
    #[error(
        "a token for this machine was given to {address} and is good for {seconds} s more: if that was not this machine, look who asks for its name"
    )]
    LiveElsewhere {
        /// Who has it.
        address: IpAddr,
        /// For how long.
        seconds: u64,
    },
    /// Too many.
    #[error("too many tokens are waiting to be used: try again in some minutes")]
    Full,
    /// No chance.
    #[error("the machine gives no random numbers: {0}")]
    Random(#[from] io::Error),
    /// The table.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// Why a token's use was not remembered.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum UseError {
    /// Somebody else used it a moment ago, or it was replaced.
    #[error("the token was used a moment ago")]
    Taken,
    /// The table.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
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

/// The table. Reading never waits; whatever changes it blocks until that is committed.
pub struct Tokens(Table<Token>);

type All = BTreeMap<String, Token>;

/// Machines whose boot script was handed out and whose token was not fetched yet. In memory only: it is
/// never locked over the disk.
#[derive(Debug, Default)]
pub struct Scripts(BTreeMap<(String, String), Script>);

#[derive(Debug)]
struct Script {
    expires_ms: u64,
    address: IpAddr,
}

impl Scripts {
    /// A machine asked for its boot script: it may fetch one token, from the same address. False when
    /// too many machines boot at once; nobody's right is taken for it.
    #[must_use]
    pub fn requested(&mut self, mac: &str, uuid: &str, address: IpAddr, now_ms: u64) -> bool {
        self.0.retain(|_, script| script.expires_ms > now_ms);
        let machine = (mac.to_owned(), uuid.to_owned());
        if self.0.len() >= SCRIPTS_CAPACITY && !self.0.contains_key(&machine) {
            return false;
        }
        self.0.insert(machine, Script { expires_ms: now_ms + LIFETIME_MS, address });
        true
    }

    /// Takes the right to one token that [`requested`](Self::requested) gave.
    pub fn take(&mut self, mac: &str, uuid: &str, address: IpAddr, now_ms: u64) -> bool {
        let machine = (mac.to_owned(), uuid.to_owned());
        let good = self.0.get(&machine).is_some_and(|script| script.expires_ms > now_ms && script.address == address);
        good && self.0.remove(&machine).is_some()
    }
}

impl Tokens {
    /// The table that `keeper` keeps.
    #[must_use]
    pub fn new(keeper: Keeper) -> Self {
        Self(Table::new(state::Table::JoinTokens, keeper))
    }

    /// Does this master decide? If not, it may not know a token that was made a moment ago.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.0.leads()
    }

    /// Makes a token for whoever the operator gives it to.
    ///
    /// # Errors
    /// The table is full or cannot be changed.
    pub fn make(&self, binding: Binding, node: &str, now_ms: u64) -> Result<String, MakeError> {
        let secret = hex::encode(&crate::random::bytes::<32>()?);
        let expires_ms = now_ms + LIFETIME_MS;
        let token = Token { binding, node: node.to_owned(), expires_ms, used: None, given_to: None };
        self.0.change(|all| {
            make_room(all, now_ms)?;
            all.insert(fingerprint(&secret), token.clone());
            Ok::<_, MakeError>(())
        })?;
        Ok(secret)
    }

    /// Makes a token for a machine that boots. It replaces the one the machine had, unless that was
    /// given to another address and is still good: then one of the two is not that machine.
    ///
    /// # Errors
    /// See [`MakeError`].
    pub fn make_for_boot(
        &self,
        mac: &str,
        uuid: &str,
        node: &str,
        address: IpAddr,
        now_ms: u64,
    ) -> Result<String, MakeError> {
        let of_machine = |token: &Token| matches!(&token.binding, Binding::Machine { mac: bound, .. } if bound == mac);
        let secret = hex::encode(&crate::random::bytes::<32>()?);
        let binding = Binding::Machine { mac: mac.to_owned(), uuid: uuid.to_owned() };
        let expires_ms = now_ms + LIFETIME_MS;
        let token = Token { binding, node: node.to_owned(), expires_ms, used: None, given_to: Some(address) };
        self.0.change(|all| {
            for token in all.values().filter(|token| of_machine(token) && token.is_live(now_ms)) {
                if let Some(other) = token.given_to.filter(|other| *other != address) {
                    let seconds = (token.expires_ms - now_ms) / 1000;
                    return Err(MakeError::LiveElsewhere { address: other, seconds });
                }
            }
            all.retain(|_, token| !(of_machine(token) && token.is_live(now_ms)));
            let live = || all.values().filter(|token| token.is_live(now_ms) && token.given_to.is_some());
            if live().count() >= BOOT_CAPACITY
                || live().filter(|token| token.given_to == Some(address)).count() >= BOOT_SHARE
            {
                return Err(MakeError::Full);
            }
            make_room(all, now_ms)?;
            all.insert(fingerprint(&secret), token.clone());
            Ok(())
        })?;
        Ok(secret)
    }

    /// May this machine join with this token?
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, token: &str, claim: &Claim<'_>, now_ms: u64) -> Result<Grant, Refusal> {
        // Looked up by digest: the time it takes tells nothing about the token.
        let all = self.0.all();
        let entry = all.get(&fingerprint(token)).ok_or(Refusal::Wrong)?;
        if now_ms >= entry.expires_ms {
            return Err(Refusal::Expired((now_ms - entry.expires_ms) / 1000));
        }
        if entry.binding == Binding::Master {
            return Err(Refusal::OtherMachine("a new master".to_owned()));
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

    /// Was this token made for a name, by somebody?
    #[must_use]
    pub fn is_made_for_a_name(&self, token: &str) -> bool {
        self.0.all().get(&fingerprint(token)).is_some_and(|token| token.binding == Binding::Name)
    }

    /// May a master join with this token? Gives what it was used for by the same key.
    ///
    /// # Errors
    /// Says why not.
    pub fn check_master(&self, token: &str, key: &[u8; 32], now_ms: u64) -> Result<Option<String>, Refusal> {
        let all = self.0.all();
        let entry = all.get(&fingerprint(token)).ok_or(Refusal::Wrong)?;
        if entry.binding != Binding::Master {
            return Err(Refusal::OtherMachine("a node".to_owned()));
        }
        if now_ms >= entry.expires_ms {
            return Err(Refusal::Expired((now_ms - entry.expires_ms) / 1000));
        }
        match &entry.used {
            None => Ok(None),
            Some(used) if used.key == hex::encode(key) => Ok(Some(used.certificate.clone())),
            Some(_) => Err(Refusal::Used),
        }
    }

    /// Remembers what a token was used for. Only after this may the certificate leave.
    ///
    /// # Errors
    /// The token is as before, or somebody else has used it.
    pub fn used(&self, token: &str, key: &[u8; 32], certificate: &str) -> Result<(), UseError> {
        let fingerprint = fingerprint(token);
        let used = Use { key: hex::encode(key), certificate: certificate.to_owned() };
        self.0.change(|all| {
            let entry = all.get_mut(&fingerprint).filter(|entry| entry.used.is_none()).ok_or(UseError::Taken)?;
            entry.used = Some(used.clone());
            Ok(())
        })
    }
}

/// Room for one more. An expired token is remembered for as long again, so that its refusal can say
/// so; a used one, so that a lost reply can be given again. Both only while there is room.
fn make_room(all: &mut All, now_ms: u64) -> Result<(), MakeError> {
    all.retain(|_, token| token.expires_ms + LIFETIME_MS > now_ms);
    while all.len() >= CAPACITY {
        let spent = all.iter().filter(|(_, token)| !token.is_live(now_ms));
        let first = spent.min_by_key(|(_, token)| token.expires_ms).map(|(key, _)| key.clone());
        all.remove(&first.ok_or(MakeError::Full)?);
    }
    Ok(())
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

    fn table() -> Tokens {
        Tokens::new(Keeper::in_memory())
    }

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn machine() -> Binding {
        Binding::Machine { mac: MAC.to_owned(), uuid: UUID.to_owned() }
    }

    #[test]
    fn a_token_is_good_once_for_its_machine_until_it_expires() {
        let tokens = table();
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
    fn every_master_knows_the_tokens_and_none_holds_them() {
        let keeper = Keeper::in_memory();
        let (tokens, others) = (Tokens::new(keeper.clone()), Tokens::new(keeper));
        let token = tokens.make(Binding::Name, "hosted-1", 0).unwrap();
        assert!(!format!("{:?}", tokens.0.all()).contains(&token));
        // One of two with the same token was faster, at another master.
        others.used(&token, &[7; 32], "PEM").unwrap();
        assert_eq!(tokens.used(&token, &[8; 32], "PEM"), Err(UseError::Taken));
        let claim = Claim { key: [8; 32], ..Claim::default() };
        assert_eq!(tokens.check(&token, &claim, 1), Err(Refusal::Used));
        assert_eq!(tokens.used("wrong", &[8; 32], "PEM"), Err(UseError::Taken));
    }

    #[test]
    fn one_script_request_is_worth_one_token_at_the_same_address() {
        let (mut scripts, here, there) = (Scripts::default(), address(1), address(2));
        assert!(!scripts.take(MAC, UUID, here, 0));
        assert!(scripts.requested(MAC, UUID, here, 0));
        assert!(!scripts.take(MAC, "", here, 0) && !scripts.take(MAC, UUID, there, 0));
        assert!(scripts.take(MAC, UUID, here, 0));
        assert!(!scripts.take(MAC, UUID, here, 0));
        assert!(scripts.requested(MAC, UUID, here, 0));
        assert!(!scripts.take(MAC, UUID, here, LIFETIME_MS));
    }

    #[test]
    fn a_flood_of_scripts_takes_nobodys_right() {
        let mut scripts = Scripts::default();
        assert!(scripts.requested(MAC, UUID, address(1), 0));
        for number in 1..SCRIPTS_CAPACITY {
            assert!(scripts.requested(&number.to_string(), "", address(2), 1));
        }
        assert!(!scripts.requested("one too many", "", address(2), 1));
        assert!(scripts.requested(MAC, UUID, address(1), 2) && scripts.take(MAC, UUID, address(1), 3));
        assert!(scripts.requested("later", "", address(2), LIFETIME_MS + 1));
    }

    #[test]
    fn a_machine_has_one_live_token_and_nobody_elsewhere_gets_another() {
        let tokens = table();
        let macs = [MAC.to_owned()];
        let claim = Claim { uuid: UUID, macs: &macs, key: [1; 32] };
        let first = tokens.make_for_boot(MAC, UUID, "node-1", address(1), 0).unwrap();
        let second = tokens.make_for_boot(MAC, UUID, "node-1", address(1), 1).unwrap();
        assert_eq!(tokens.check(&first, &claim, 2), Err(Refusal::Wrong));
        assert!(tokens.check(&second, &claim, 2).is_ok());
        let refused = tokens.make_for_boot(MAC, "", "node-1", address(2), 2).unwrap_err();
        assert!(matches!(refused, MakeError::LiveElsewhere { seconds: 599, .. }), "{refused}");
        tokens.used(&second, &[1; 32], "PEM").unwrap();
        tokens.make_for_boot(MAC, UUID, "node-1", address(2), 3).unwrap();
        // The lost reply of the one that was used can still be given again.
        assert!(matches!(tokens.check(&second, &claim, 4), Ok(Grant::Again { .. })));
    }

    #[test]
    fn a_flood_evicts_no_live_token() {
        let tokens = table();
        let live = tokens.make_for_boot(MAC, UUID, "node-1", address(1), 0).unwrap();
        let entry = |number: usize, given_to| Token {
            binding: Binding::Machine { mac: number.to_string(), uuid: String::new() },
            node: "x".to_owned(),
            expires_ms: 1 + LIFETIME_MS,
            used: None,
            given_to,
        };
        let add = |more: Vec<(String, Token)>| {
            let added = tokens.0.change(|all| {
                all.extend(more.clone());
                Ok::<_, KeepError>(())
            });
            added.unwrap();
        };
        add((1..=BOOT_SHARE).map(|number| (number.to_string(), entry(number, Some(address(9))))).collect());
        let full = tokens.make_for_boot("more", "", "x", address(9), 1);
        assert!(matches!(full, Err(MakeError::Full)));
        tokens.make_for_boot("other", "", "x", address(8), 1).unwrap();
        add((tokens.0.all().len()..CAPACITY).map(|number| (format!("n{number}"), entry(number, None))).collect());
        assert!(matches!(tokens.make(Binding::Name, "hosted", 2), Err(MakeError::Full)));
        let macs = [MAC.to_owned()];
        assert!(tokens.check(&live, &Claim { uuid: UUID, macs: &macs, key: [1; 32] }, 2).is_ok());
        // Once it was used it may go.
        tokens.used(&live, &[1; 32], "PEM").unwrap();
        tokens.make(Binding::Name, "hosted", 3).unwrap();
        assert_eq!(tokens.0.all().len(), CAPACITY);
    }
}
