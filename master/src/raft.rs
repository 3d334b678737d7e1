//! The replicated log, behind one door: the only module that knows the consensus library.
//!
//! [`start`] opens the log and gives the state of the newest snapshot; from then on committed commands
//! come to the driver through [`FromLog`], and [`Replica::write`] appends.

mod election;
mod growth;
mod hearing;
mod in_flight;
mod leadership;
mod log_store;
mod members;
mod network;
pub mod offline;
mod room;
mod segment_log;
mod snapshot_file;
mod state_machine;
mod types;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use master_core::command::DecodeError;
use master_core::{Command, State};
use openraft::SnapshotPolicy;
use openraft::error::{ClientWriteError, RaftError};
use openraft::raft::{AppendEntriesResponse, VoteRequest, VoteResponse};
use tokio::sync::{mpsc, oneshot, watch};

pub use members::{ChangeError, Leader, Links, Seat, Standing};
pub use segment_log::{LogError, TornTail};
pub use snapshot_file::SnapshotError;
pub use types::Member;

use crate::disk::SharedDisk;
use crate::peers::{Caller, Dialer};
use crate::random::Chance;
use election::Election;
use hearing::Hearing;
use log_store::{LogStore, Safe};
use network::{Peers, kind};
use room::Room;
use state_machine::StateMachine;
use types::{Batch, Types};

/// The number of the replica that founds a cluster. Later ones get theirs from the leader.
pub const FOUNDER: u64 = 1;
/// Committed entries the driver has not taken yet. Full: applying waits, which is what it is for.
const FROM_LOG_CAPACITY: usize = 16;
/// Entries kept behind a snapshot, for a follower that is a little late.
const KEEP_BEHIND_SNAPSHOT: u64 = 256;

/// What the log tells the driver.
#[derive(Debug)]
pub enum FromLog {
    /// Apply these, then say so.
    Committed {
        /// In log order.
        commands: Vec<Command>,
        /// Answered once they are applied.
        done: oneshot::Sender<()>,
    },
    /// Give the state as it is now, for a snapshot.
    Snapshot(oneshot::Sender<Arc<State>>),
    /// Take over this state: the leader sent a snapshot.
    Install {
        /// All of it.
        state: Box<State>,
        /// Answered once it is in place.
        done: oneshot::Sender<()>,
    },
    /// We lead in this term from now on, and have applied everything earlier leaders committed; or no longer do.
    Leading(Option<u64>),
    /// The log cannot go on: the disk refused, or a record cannot be read. Says why.
    Failed(String),
}

/// Why the log does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory.
    #[error("cannot use {} for the log", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The log.
    #[error("cannot open the replicated log")]
    Log(#[from] LogError),
    /// The snapshot.
    #[error("cannot open the newest snapshot")]
    Snapshot(#[from] SnapshotError),
    /// The snapshot's content.
    #[error("the newest snapshot was written by a version this one does not know")]
    State(#[from] DecodeError),
    /// The consensus library.
    #[error("cannot start the replicated log: {0}")]
    Consensus(String),
}

/// Why commands were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else leads, or nobody: nothing was written, and here it is again.
    #[error("this replica does not lead")]
    NotLeading(Vec<Command>),
    /// Nothing can be written any more.
    #[error("the replicated log has stopped: {0}")]
    Stopped(String),
}

/// Who this replica is.
#[derive(Clone)]
pub struct Options {
    /// A snapshot after so many entries, at the latest.
    pub snapshot_every: u64,
    /// Its number.
    pub id: u64,
    /// What other replicas, agents and clients reach it by.
    pub member: Member,
    /// An empty log becomes a cluster of one; otherwise it waits until a leader writes to it.
    pub founds: bool,
    /// For the way to the others.
    pub dialer: Dialer,
    /// Where the log is.
    pub disk: SharedDisk,
    /// For waits that had better differ.
    pub chance: Chance,
}

/// A running replica. Clones are handles to the same.
#[derive(Clone)]
pub struct Replica {
    id: u64,
    raft: openraft::Raft<Types>,
    election: Arc<Election>,
    /// Where agents reach the members.
    links: watch::Receiver<Arc<Links>>,
    leader: watch::Receiver<Option<Leader>>,
}

/// A started replica, the state to begin with, and what it has to say.
pub struct Started {
    /// To write with.
    pub replica: Replica,
    /// The newest snapshot's state; what was committed after it comes through `messages`.
    pub state: State,
    /// For the driver.
    pub messages: mpsc::Receiver<FromLog>,
    /// The cluster of one: this replica leads as soon as it can.
    pub alone: bool,
}

/// Opens or creates the log in `directory` and starts to take part.
///
/// # Errors
/// The disk refuses, or what is on it is damaged.
pub async fn start(directory: &Path, options: &Options) -> Result<Started, StartError> {
    let disk = options.disk.clone();
    disk.create_directory(directory).map_err(|source| StartError::Directory { path: directory.to_owned(), source })?;
    let (to_driver, messages) = mpsc::channel(FROM_LOG_CAPACITY);
    let (safe, snapshot) = watch::channel(Safe::default());
    let room = Room::default();
    let store = LogStore::open(options.id, disk.clone(), directory, snapshot, room.clone())?;
    let (last, in_flight) = (store.last(), store.in_flight());
    let every = options.snapshot_every;
    let (machine, state, snapshot_due) =
        StateMachine::open(disk, directory, to_driver.clone(), safe, in_flight.clone(), room.clone(), every)?;
    let consensus = |error: &dyn std::error::Error| StartError::Consensus(error.to_string());
    let config = openraft::Config {
        cluster_name: "mesolith".to_owned(),
        // Also the library's patience with an answer to new entries, which a busy disk delays.
        heartbeat_interval: 200,
        election_timeout_min: election::LEASE_MS - 10,
        election_timeout_max: election::LEASE_MS,
        // See `election`.
        enable_elect: false,
        // For one piece.
        install_snapshot_timeout: 10_000,
        // See `growth`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEEP_BEHIND_SNAPSHOT.min(every),
        ..openraft::Config::default()
    };
    let config = Arc::new(config.validate().map_err(|error| consensus(&error))?);
    let (id, peers) = (options.id, Peers::new(options.dialer.clone(), in_flight, room.clone()));
    let raft =
        openraft::Raft::new(id, config, peers.clone(), store, machine).await.map_err(|error| consensus(&error))?;
    if options.founds && !raft.is_initialized().await.map_err(|error| consensus(&error))? {
        let members = BTreeMap::from([(id, options.member.clone())]);
        raft.initialize(members).await.map_err(|error| consensus(&error))?;
    }
    let alone = raft.with_raft_state(move |state| state.membership_state.effective().voter_ids().eq([id]));
    let alone = alone.await.map_err(|error| consensus(&error))?;
    let chance = options.chance.clone();
    let (hearing, followed) = (Hearing::new(), Arc::default());
    let election =
        Election { id, raft: raft.clone(), peers, hearing, last, chance, followed, voting: Arc::default(), room };
    tokio::spawn(election.clone().run());
    let (tell_links, links) = watch::channel(Arc::default());
    let (tell_leader, leader) = watch::channel(None);
    let replica = Replica { id, raft, election: Arc::new(election), links, leader };
    let told = leadership::Told { driver: to_driver, links: tell_links, leader: tell_leader };
    tokio::spawn(leadership::watch(replica.clone(), options.member.clone(), told));
    tokio::spawn(replica.clone().snapshots(snapshot_due));
    Ok(Started { replica, state, messages, alone })
}

impl Replica {
    /// Appends a batch as one entry, if we still lead in `term`; returns when it is committed and applied here.
    ///
    /// # Errors
    /// See [`WriteError`]. With [`WriteError::Stopped`] the batch may or may not be in the log.
    pub async fn write(&self, term: u64, commands: Vec<Command>) -> Result<(), WriteError> {
        let (batch, proposed) = Batch::new(term, commands);
        match self.raft.client_write(batch).await {
            Ok(written) if written.data => Ok(()),
            // In the log, where it says nothing: we had lost our place, and have won it again since.
            Ok(_) | Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(WriteError::NotLeading(proposed.take().unwrap_or_default()))
            }
            Err(error) => Err(WriteError::Stopped(error.to_string())),
        }
    }

    /// Answers another replica; none if the kind is not one of the log's.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn answer(&self, caller: &Caller, kind: u8, content: Bytes) -> Option<Result<Vec<u8>, String>> {
        match kind {
            kind::APPEND => Some(self.append(caller, &content).await),
            kind::SNAPSHOT => Some(self.install(caller, content).await),
            kind::VOTE => Some(self.vote(caller, &content).await),
            kind::WOULD_VOTE => Some(self.would_vote(&content)),
            _ => None,
        }
    }

    fn for_us<T: serde::de::DeserializeOwned>(&self, content: &[u8]) -> Result<T, String> {
        let (question, target) = network::read_addressed(content)?;
        self.is_for_us(target).map(|()| question)
    }

    fn is_for_us(&self, target: Option<u64>) -> Result<(), String> {
        match target.filter(|target| *target != self.id) {
            Some(other) => Err(format!("replica {other} is here no more: this is {}", self.id)),
            None => Ok(()),
        }
    }

    /// The library would keep what it cannot write down, and whoever asked would ask again, for as long as the disk is
    /// full.
    fn has_room(&self) -> Result<(), String> {
        if self.election.room.is_wanting() { Err("the disk is full".to_owned()) } else { Ok(()) }
    }

    async fn append(&self, caller: &Caller, content: &[u8]) -> Result<Vec<u8>, String> {
        self.has_room()?;
        let entries = self.for_us(content)?;
        let answer = self.raft.append_entries(entries).await.map_err(|error| error.to_string())?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.election.hearing.leader_wrote(caller.connection);
        }
        encode(&answer)
    }

    async fn install(&self, caller: &Caller, content: Bytes) -> Result<Vec<u8>, String> {
        let piece = network::decode_piece(content);
        let (piece, target) = piece.ok_or("the piece of a snapshot makes no sense to this version")?;
        self.is_for_us(target)?;
        self.has_room()?;
        let answer = match self.raft.install_snapshot(piece).await {
            Ok(answer) => Ok(answer),
            Err(RaftError::APIError(error)) => Err(error),
            Err(RaftError::Fatal(error)) => return Err(error.to_string()),
        };
        self.election.hearing.leader_wrote(caller.connection);
        encode(&answer)
    }

    async fn vote(&self, caller: &Caller, content: &[u8]) -> Result<Vec<u8>, String> {
        self.has_room()?;
        let question: VoteRequest<u64> = self.for_us(content)?;
        let candidate = question.vote.leader_id;
        let _alone = self.election.voting.lock().await;
        let given = self.raft.with_raft_state(|state| *state.vote_ref()).await.map_err(|error| error.to_string())?;
        if given.leader_id.term == candidate.term && given.leader_id.node_id != candidate.node_id {
            // The library would take a vote back for a candidate with a greater number, and the first one, who has it
            // already, would lead in the same term.
            let last_log_id = self.election.last.get();
            return encode(&VoteResponse { vote: given, vote_granted: false, last_log_id });
        }
        let answer = self.raft.vote(question).await.map_err(|error| error.to_string())?;
        if answer.vote_granted {
            // It is about to lead: we do not stand against it.
            self.election.hearing.leader_wrote(caller.connection);
        }
        encode(&answer)
    }

    fn would_vote(&self, content: &[u8]) -> Result<Vec<u8>, String> {
        let question = self.for_us(content)?;
        encode(&self.election.opinion(&question))
    }

    /// A replica's connection has ended.
    pub fn ended(&self, caller: &Caller) {
        self.election.hearing.ended(caller.connection);
    }

    /// Stops taking part. What was acknowledged is on the disk already.
    pub async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the replicated log did not stop cleanly");
        }
    }

    /// Asks for one whenever it is due; ends with the log. One that is asked for while another is written is not.
    async fn snapshots(self, mut due: watch::Receiver<()>) {
        while due.changed().await.is_ok() {
            if let Err(error) = self.snapshot().await {
                tracing::debug!(%error, "no snapshot");
                return;
            }
        }
    }

    /// Writes a snapshot soon.
    ///
    /// # Errors
    /// The log has stopped.
    pub async fn snapshot(&self) -> Result<(), WriteError> {
        self.raft.trigger().snapshot().await.map_err(|error| WriteError::Stopped(error.to_string()))
    }
}

fn encode(answer: &impl serde::Serialize) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec_named(answer).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
