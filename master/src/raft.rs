//! The replicated log, behind one door: the only module that knows the consensus library.
//!
//! [`start`] opens the log and gives the state of the newest snapshot; from then on committed commands
//! come to the driver through [`FromLog`], and [`Replica::write`] appends.

mod log_store;
mod network;
mod segment_log;
mod snapshot_file;
mod state_machine;
mod types;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use master_core::command::DecodeError;
use master_core::{Command, State};
use openraft::error::{ClientWriteError, RaftError};
use openraft::{BasicNode, ServerState, SnapshotPolicy};
use tokio::sync::{mpsc, oneshot};

pub use segment_log::{LogError, TornTail};
pub use snapshot_file::SnapshotError;

use log_store::LogStore;
use state_machine::StateMachine;
use types::{Batch, Types};

/// The only replica's number.
const REPLICA: u64 = 1;
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
    /// We lead from now on, and have applied everything earlier leaders committed; or no longer do.
    Leading(bool),
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

/// What an operator may tune.
#[derive(Clone, Debug)]
pub struct Options {
    /// A snapshot after so many entries.
    pub snapshot_every: u64,
    /// What other replicas would reach us by.
    pub address: String,
}

/// A running replica. Clones are handles to the same.
#[derive(Clone)]
pub struct Replica {
    raft: openraft::Raft<Types>,
}

/// A started replica, the state to begin with, and what it has to say.
pub struct Started {
    /// To write with.
    pub replica: Replica,
    /// The newest snapshot's state; what was committed after it comes through `messages`.
    pub state: State,
    /// For the driver.
    pub messages: mpsc::Receiver<FromLog>,
}

/// Opens or creates the log in `directory` and starts to take part.
///
/// # Errors
/// The disk refuses, or what is on it is damaged.
pub async fn start(directory: &Path, options: &Options) -> Result<Started, StartError> {
    let made = std::fs::create_dir_all(directory).and_then(|()| crate::atomic_file::sync_directory_of(directory));
    made.map_err(|source| StartError::Directory { path: directory.to_owned(), source })?;
    let (to_driver, messages) = mpsc::channel(FROM_LOG_CAPACITY);
    let store = LogStore::open(directory)?;
    let (machine, state) = StateMachine::open(directory, to_driver.clone())?;
    let consensus = |error: &dyn std::error::Error| StartError::Consensus(error.to_string());
    let config = openraft::Config {
        cluster_name: "mesolith".to_owned(),
        // Far above the disk's slowest sync, or a busy disk would cost the leader its place.
        heartbeat_interval: 250,
        election_timeout_min: 1000,
        election_timeout_max: 2000,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_every),
        max_in_snapshot_log_to_keep: KEEP_BEHIND_SNAPSHOT.min(options.snapshot_every),
        ..openraft::Config::default()
    };
    let config = Arc::new(config.validate().map_err(|error| consensus(&error))?);
    let raft = openraft::Raft::new(REPLICA, config, network::SingleVoter, store, machine)
        .await
        .map_err(|error| consensus(&error))?;
    if raft.is_initialized().await.map_err(|error| consensus(&error))? {
        // Alone, there is no leader to wait for.
        raft.trigger().elect().await.map_err(|error| consensus(&error))?;
    } else {
        let members = BTreeMap::from([(REPLICA, BasicNode::new(&options.address))]);
        raft.initialize(members).await.map_err(|error| consensus(&error))?;
    }
    tokio::spawn(watch_leadership(raft.clone(), to_driver));
    Ok(Started { replica: Replica { raft }, state, messages })
}

/// Tells the driver when we begin and cease to lead, and when the log stops.
async fn watch_leadership(raft: openraft::Raft<Types>, driver: mpsc::Sender<FromLog>) {
    let mut metrics = raft.metrics();
    let mut leading = false;
    loop {
        let (leads, stopped) = {
            let now = metrics.borrow_and_update();
            (now.state == ServerState::Leader, now.running_state.as_ref().err().map(ToString::to_string))
        };
        if let Some(reason) = stopped {
            // The driver may be gone already: then nobody needs to know.
            drop(driver.send(FromLog::Failed(reason)).await);
            return;
        }
        if leads != leading {
            // A new leader first applies what its predecessors committed.
            if leads && let Err(error) = raft.ensure_linearizable().await {
                tracing::debug!(%error, "leadership not confirmed yet");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            leading = leads;
            if driver.send(FromLog::Leading(leading)).await.is_err() {
                return;
            }
        }
        if metrics.changed().await.is_err() {
            drop(driver.send(FromLog::Failed("the consensus task ended".to_owned())).await);
            return;
        }
    }
}

impl Replica {
    /// Appends a batch as one entry; returns when it is committed and applied here.
    ///
    /// # Errors
    /// See [`WriteError`]. With [`WriteError::Stopped`] the batch may or may not be in the log.
    pub async fn write(&self, commands: Vec<Command>) -> Result<(), WriteError> {
        let (batch, proposed) = Batch::new(commands);
        match self.raft.client_write(batch).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => {
                Err(WriteError::NotLeading(proposed.take().unwrap_or_default()))
            }
            Err(error) => Err(WriteError::Stopped(error.to_string())),
        }
    }

    /// Stops taking part. What was acknowledged is on the disk already.
    pub async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the replicated log did not stop cleanly");
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

#[cfg(test)]
mod tests;
