//! The way into a cluster: from a token to a seat, and from a seat to a vote.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Announced, Announcement, JoinAnswer, JoinQuestion, Part, Place, SHARED_FILES, authority_of, kind};
use crate::peers::{CallError, Dialer};
use crate::raft::{Member, Replica};
use crate::{atomic_file, hex, random};

/// For one question and its answer. Taking a member in is two log entries.
const ANSWER: Duration = Duration::from_secs(15);
/// For somebody to lead.
const LEADER: Duration = Duration::from_secs(60);
/// Between two attempts.
const AGAIN: Duration = Duration::from_millis(200);

/// Why a master does not get in.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The token.
    #[error("the token is not one for a master: `mesolith masters add` makes one, of the form SECRET.FINGERPRINT")]
    Token,
    /// The directory.
    #[error("{} holds a cluster of its own already: give --join another --data directory", .0.display())]
    Taken(PathBuf),
    /// A file.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Chance.
    #[error("cannot make a random number")]
    Random(#[source] io::Error),
    /// TLS.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// The network.
    #[error("cannot reach a master at {address}: is it the port of the link, and the token this cluster's?")]
    Unreachable {
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// It said no.
    #[error("the master at {address} refuses")]
    Refused {
        /// Which.
        address: String,
        /// Its words.
        source: CallError,
    },
    /// It is silent.
    #[error("the master at {0} does not answer")]
    Silent(String),
    /// Nonsense.
    #[error("the answer of the master at {0} is not understood: is it of another version?")]
    Answer(String, #[source] serde_json::Error),
    /// Nobody leads.
    #[error("the masters have no leader: {0} said so last")]
    NoLeader(String),
    /// It is no member.
    #[error("this master was removed from the cluster: to return it joins anew, with another data directory")]
    Removed,
}

/// What joining gave.
#[derive(Debug)]
pub enum Joined {
    /// A seat, now.
    Now(Place),
    /// It had one.
    Before(Place),
}

async fn ask<A: DeserializeOwned>(
    dialer: &Dialer,
    address: &str,
    kind: u8,
    question: &impl Serialize,
) -> Result<A, JoinError> {
    let connection = dialer.connect(address).await;
    let connection = connection.map_err(|source| JoinError::Unreachable { address: address.to_owned(), source })?;
    let question = serde_json::to_vec(question).map_err(|error| JoinError::Answer(address.to_owned(), error))?;
    let answer = tokio::time::timeout(ANSWER, connection.call(kind, question)).await;
    let answer = answer.map_err(|_| JoinError::Silent(address.to_owned()))?;
    let answer = answer.map_err(|source| JoinError::Refused { address: address.to_owned(), source })?;
    serde_json::from_slice(&answer).map_err(|error| JoinError::Answer(address.to_owned(), error))
}

/// Gets a seat in the cluster that has a master at `address`, unless `data` holds one. Blocks on the disk.
///
/// # Errors
/// See [`JoinError`].
pub async fn join(data: &Path, address: &str, token: &str, member: Member, as_a: Part) -> Result<Joined, JoinError> {
    let path = |name: &str| data.join(name);
    let known = Place::read(data).map_err(|source| JoinError::Write { path: path("replica.json"), source })?;
    if let Some(place) = known {
        return Ok(Joined::Before(place));
    }
    if path("raft").exists() {
        return Err(JoinError::Taken(data.to_owned()));
    }
    let dialer = Dialer::stranger(authority_of(token).ok_or(JoinError::Token)?).map_err(JoinError::Tls)?;
    let nonce = hex::encode(&random::bytes::<32>().map_err(JoinError::Random)?);
    let question = JoinQuestion { token: token.trim().to_owned(), nonce, member };
    let (mut address, deadline) = (address.to_owned(), tokio::time::Instant::now() + LEADER);
    loop {
        match ask(&dialer, &address, kind::JOIN, &question).await? {
            JoinAnswer::Welcome { id, ca_pem, ca_key, files, masters } => {
                let write = |name: &str, text: &str, mode| {
                    let path = data.join(name);
                    atomic_file::write(&path, text.as_bytes(), mode).map_err(|source| JoinError::Write { path, source })
                };
                write("ca.key", &ca_key, 0o600)?;
                write("ca.pem", &ca_pem, 0o644)?;
                // Nothing else may be written by whoever we asked.
                for (name, text) in files.iter().filter(|(name, _)| SHARED_FILES.contains(&name.as_str())) {
                    write(name, text, 0o600)?;
                }
                let place = Place { id, masters, learner: as_a == Part::Learner };
                place.write(data).map_err(|source| JoinError::Write { path: data.join("replica.json"), source })?;
                return Ok(Joined::Now(place));
            }
            JoinAnswer::Elsewhere { leader } => {
                if tokio::time::Instant::now() > deadline {
                    return Err(JoinError::NoLeader(address));
                }
                match leader {
                    Some(leader) if leader != address => address = leader,
                    _ => tokio::time::sleep(AGAIN).await,
                }
            }
        }
    }
}

/// Tells the leader where we are until it knows, and until we vote, if we want to. Returns when nothing is left to say.
///
/// # Errors
/// Only [`JoinError::Removed`]: everything else is tried again.
pub async fn announce(replica: &Replica, dialer: &Dialer, member: &Member, place: &Place) -> Result<(), JoinError> {
    let words = Announcement { id: place.id, member: member.clone(), votes: !place.learner };
    let mut hint = None;
    loop {
        let standing = replica.standing();
        let settled =
            standing.seat(place.id).is_some_and(|seat| seat.member == *member && (seat.voter || place.learner));
        if settled && standing.leader.is_some() {
            return Ok(());
        }
        let mut addresses = BTreeSet::from_iter(place.masters.iter().cloned());
        addresses.extend(standing.members.iter().map(|seat| seat.member.addr.clone()));
        addresses.remove(&member.addr);
        let leader = hint.take().or_else(|| standing.leader_member().map(|member| member.addr.clone()));
        for address in leader.into_iter().chain(addresses) {
            match ask(dialer, &address, kind::ANNOUNCE, &words).await {
                Ok(Announced::Done) => break,
                Ok(Announced::NotYet(reason)) => {
                    tracing::debug!(reason, "not admitted yet");
                    hint = Some(address);
                    break;
                }
                Ok(Announced::Elsewhere { leader: Some(leader) }) if leader != address && leader != member.addr => {
                    hint = Some(leader);
                    break;
                }
                Ok(Announced::Elsewhere { .. }) => {}
                Ok(Announced::Removed) => return Err(JoinError::Removed),
                Err(error) => tracing::debug!(%error, "a master was not reached"),
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}
