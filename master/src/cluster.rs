//! How a master comes to the others, and what it answers them: joining, admission, and the log's own questions.
//!
//! A new master shows a one-time token and is given the authority's key with its number: any master must be able to go
//! on alone, and to vouch for nodes. The token names the authority, so that nobody else can be taken for the cluster.

mod joining;
mod place;

pub use joining::{JoinError, Joined, announce, join};
pub use place::{Part, Place};

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::authority::Authority;
use crate::clock::unix_ms;
use crate::kept::{self, Keeper};
use crate::liveness::{self, Liveness};
use crate::peers::{Caller, Service};
use crate::raft::{ChangeError, Member, Replica};
use crate::tokens::Tokens;
use crate::{atomic_file, hex};

/// The kinds of frames of this module. The log's are in `raft`.
mod kind {
    pub(super) const JOIN: u8 = 16;
    pub(super) const ANNOUNCE: u8 = 17;
}

/// What every master has a copy of. (Tokens and revocations are in the replicated state.)
pub(crate) const SHARED_FILES: [&str; 1] = ["api-credentials.json"];

/// A stranger asks to be let in.
#[derive(Deserialize, Serialize)]
struct JoinQuestion {
    token: String,
    /// Random, the same when it asks again: a lost answer is given again to it only.
    nonce: String,
    member: Member,
}

/// It is, or has to ask elsewhere.
#[derive(Deserialize, Serialize)]
enum JoinAnswer {
    Welcome { id: u64, ca_pem: String, ca_key: String, files: BTreeMap<String, String>, masters: Vec<String> },
    Elsewhere { leader: Option<String> },
}

/// A member says where it is, and that it wants to vote.
#[derive(Deserialize, Serialize)]
struct Announcement {
    id: u64,
    member: Member,
    votes: bool,
}

/// What came of it.
#[derive(Deserialize, Serialize)]
enum Announced {
    Done,
    /// Ask again soon: it has not caught up yet.
    NotYet(String),
    Elsewhere {
        leader: Option<String>,
    },
    /// It is no member (any more).
    Removed,
}

/// Answers masters, and those who want to be one.
#[derive(Clone)]
pub struct Masters {
    replica: Replica,
    authority: Arc<Authority>,
    tokens: Arc<Tokens>,
    keeper: Keeper,
    liveness: Liveness,
    data: PathBuf,
    /// One new member at a time: its number is that of the log entry that takes it in.
    admission: Arc<tokio::sync::Mutex<()>>,
}

impl Masters {
    /// On behalf of this replica.
    #[must_use]
    pub fn new(
        replica: Replica,
        authority: Arc<Authority>,
        tokens: Arc<Tokens>,
        keeper: Keeper,
        liveness: Liveness,
        data: PathBuf,
    ) -> Self {
        Self { replica, authority, tokens, keeper, liveness, data, admission: Arc::default() }
    }

    /// Where to ask instead, if we do not lead.
    fn elsewhere(&self) -> Option<Option<String>> {
        let standing = self.replica.standing();
        (standing.leader != Some(standing.id)).then(|| standing.leader_member().map(|member| member.addr.clone()))
    }

    async fn join(&self, caller: &Caller, question: JoinQuestion) -> Result<JoinAnswer, String> {
        if let Some(leader) = self.elsewhere() {
            return Ok(JoinAnswer::Elsewhere { leader });
        }
        let _one = self.admission.lock().await;
        let key: [u8; 32] = Sha256::digest(question.nonce.as_bytes()).into();
        let secret = question.token.split('.').next().unwrap_or_default().to_owned();
        let checked = self.tokens.check_master(&secret, &key, unix_ms()).map_err(|refusal| refusal.to_string())?;
        let id = match checked.as_deref().map(str::parse::<u64>) {
            Some(Ok(id)) => id,
            _ => {
                let id = self.replica.admit(question.member.clone()).await.map_err(|error| error.to_string())?;
                let tokens = self.tokens.clone();
                let used = tokio::task::spawn_blocking(move || tokens.used(&secret, &key, &id.to_string()));
                used.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
                id
            }
        };
        tracing::info!(remote = %caller.remote, id, address = question.member.addr, "a master joined");
        let read = |name: &str| -> Result<Option<String>, String> {
            let bytes = atomic_file::read(&self.data.join(name)).map_err(|error| format!("{name}: {error}"))?;
            Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
        };
        let mut files = BTreeMap::new();
        for name in SHARED_FILES {
            files.extend(read(name)?.map(|text| (name.to_owned(), text)));
        }
        Ok(JoinAnswer::Welcome {
            id,
            ca_pem: self.authority.now().serving.pem().to_owned(),
            ca_key: read("ca.key")?.ok_or("this master has no key of the authority")?,
            files,
            masters: self.replica.standing().members.into_iter().map(|seat| seat.member.addr).collect(),
        })
    }

    async fn announced(&self, words: Announcement) -> Result<Announced, String> {
        if let Some(leader) = self.elsewhere() {
            return Ok(Announced::Elsewhere { leader });
        }
        let Some(seat) = self.replica.standing().seat(words.id).cloned() else { return Ok(Announced::Removed) };
        let _one = self.admission.lock().await;
        let mut result = Ok(());
        if seat.member != words.member {
            result = self.replica.move_to(words.id, words.member).await;
        }
        if result.is_ok() && words.votes && !seat.voter {
            result = self.replica.promote(words.id).await;
        }
        match result {
            Ok(()) => Ok(Announced::Done),
            Err(error @ (ChangeError::Behind(..) | ChangeError::NotLeading)) => {
                Ok(Announced::NotYet(error.to_string()))
            }
            Err(ChangeError::Unknown(_)) => Ok(Announced::Removed),
            Err(error) => Ok(Announced::NotYet(error.to_string())),
        }
    }
}

impl Service for Masters {
    async fn answer(&self, caller: &Caller, kind: u8, content: Bytes) -> Result<Vec<u8>, String> {
        let unreadable = |error: serde_json::Error| format!("the question is not understood: {error}");
        let encode = |error: serde_json::Error| error.to_string();
        if kind == kind::JOIN {
            let question = serde_json::from_slice(&content).map_err(unreadable)?;
            let answer = self.join(caller, question).await.inspect_err(|reason| {
                tracing::warn!(remote = %caller.remote, %reason, "a master was refused to join");
            })?;
            return serde_json::to_vec(&answer).map_err(encode);
        }
        if caller.master.is_none() {
            return Err("a certificate of a master of this cluster is required".to_owned());
        }
        if kind == kind::ANNOUNCE {
            let words = serde_json::from_slice(&content).map_err(unreadable)?;
            return serde_json::to_vec(&self.announced(words).await?).map_err(encode);
        }
        if kind == kept::KEEP {
            let keep = serde_json::from_slice(&content).map_err(unreadable)?;
            return serde_json::to_vec(&self.keeper.answer(keep).await).map_err(encode);
        }
        if kind == liveness::IS_ALIVE {
            let liveness::Asked { node } = serde_json::from_slice(&content).map_err(unreadable)?;
            return serde_json::to_vec(&self.liveness.answer(&node).await).map_err(encode);
        }
        let answer = self.replica.answer(caller, kind, content).await;
        answer.unwrap_or_else(|| Err(format!("this version knows no question {kind}")))
    }

    fn ended(&self, caller: &Caller) {
        self.replica.ended(caller);
    }
}

/// A token for a master: the secret, and the authority it is good for.
#[must_use]
pub fn token_text(secret: &str, ca_sha256: &str) -> String {
    format!("{secret}.{ca_sha256}")
}

/// The authority a token names.
fn authority_of(token: &str) -> Option<[u8; 32]> {
    let (_, digits) = token.trim().split_once('.')?;
    hex::decode(digits)
}
