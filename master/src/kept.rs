//! Tables that every master has: read from memory at any of them, written through the log.
//!
//! Writing blocks until the change is committed, so it is done on threads that may block. Whoever does not lead sends
//! the change to the master that does.

mod import;
mod table;

pub use import::import;
pub use table::Table;

use std::time::Duration;

use master_core::Response;
use master_core::io::operator::OperatorWrite;
use master_core::state::{self, Change, Kept};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::driver::{Handle, Message};
use crate::peers::Dialer;
use crate::raft::Replica;

/// For a change to be committed, or for a leader to be there.
const COMMIT: Duration = Duration::from_secs(10);
/// For the change to come back from the leader.
const RETURN: Duration = Duration::from_secs(5);
/// Between two attempts to reach the leader.
const AGAIN: Duration = Duration::from_millis(100);

/// The kind of a frame between masters that carries a change. See `cluster`.
pub(crate) const KEEP: u8 = 18;

/// A change on its way to the leader.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Keep {
    table: state::Table,
    changes: Vec<Change>,
}

/// What became of it.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) enum Answer {
    /// It is in this version of the tables.
    Done { version: u64 },
    /// It is not.
    Refused { status: u16, text: String },
    /// Ask again.
    NotLeading,
}

/// Why nothing was changed, or why that is not known.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum KeepError {
    /// Look again.
    #[error("somebody else has changed it meanwhile: try again")]
    Conflict,
    /// It does not fit.
    #[error("{0}")]
    Refused(String),
    /// No majority, or no answer in time.
    #[error("the masters have no leader that answers: try again")]
    NoLeader,
}

/// The way to the tables. Clones share it.
#[derive(Clone)]
pub struct Keeper {
    kept: watch::Receiver<Kept>,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Log(Box<Log>),
    /// For tests: a log of one's own.
    #[cfg(test)]
    Memory(std::sync::Arc<watch::Sender<Kept>>),
}

#[derive(Clone)]
struct Log {
    driver: Handle,
    replica: Replica,
    dialer: Dialer,
    runtime: tokio::runtime::Handle,
}

impl Keeper {
    /// Through the replicated log. To be made on the runtime that drives it.
    #[must_use]
    pub fn new(kept: watch::Receiver<Kept>, driver: Handle, replica: Replica, dialer: Dialer) -> Self {
        let runtime = tokio::runtime::Handle::current();
        Self { kept, way: Way::Log(Box::new(Log { driver, replica, dialer, runtime })) }
    }

    /// In memory, for tests.
    #[cfg(test)]
    pub(crate) fn in_memory() -> Self {
        let (sender, kept) = watch::channel(Kept::default());
        Self { kept, way: Way::Memory(std::sync::Arc::new(sender)) }
    }

    /// Wakes whoever waits for a change of any table.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Kept> {
        self.kept.clone()
    }

    fn kept(&self) -> Kept {
        self.kept.borrow().clone()
    }

    /// Does this master decide? If not, what it reads may be a moment old.
    #[must_use]
    pub fn leads(&self) -> bool {
        match &self.way {
            Way::Log(log) => log.leads(),
            #[cfg(test)]
            Way::Memory(_) => true,
        }
    }

    fn keep(&self, table: state::Table, changes: Vec<Change>) -> Result<(), KeepError> {
        match &self.way {
            Way::Log(log) => {
                let (log, mut kept) = (log.as_ref(), self.kept.clone());
                log.runtime.block_on(async {
                    let kept_at = tokio::time::timeout(COMMIT, log.keep(Keep { table, changes }));
                    let version = kept_at.await.map_err(|_| KeepError::NoLeader)??;
                    // Whoever reads here next must see it.
                    let back = kept.wait_for(|kept| kept.version >= version);
                    match tokio::time::timeout(RETURN, back).await {
                        Ok(Ok(_)) => Ok(()),
                        Ok(Err(_)) | Err(_) => Err(KeepError::NoLeader),
                    }
                })
            }
            #[cfg(test)]
            Way::Memory(memory) => {
                let mut result = Ok(());
                memory.send_modify(|kept| result = kept.change(table, changes));
                result.map_err(|refusal| refused(refusal.status, refusal.text))
            }
        }
    }

    /// Commits another master's change, if this one leads.
    pub(crate) async fn answer(&self, keep: Keep) -> Answer {
        match &self.way {
            Way::Log(log) if log.leads() => log.decide(keep, &self.kept).await,
            Way::Log(_) => Answer::NotLeading,
            #[cfg(test)]
            Way::Memory(_) => Answer::NotLeading,
        }
    }
}

impl Log {
    fn leads(&self) -> bool {
        let standing = self.replica.standing();
        standing.leader == Some(standing.id)
    }

    /// Until it is decided; gives the version of the tables that has it.
    async fn keep(&self, keep: Keep) -> Result<u64, KeepError> {
        loop {
            let standing = self.replica.standing();
            let answer = match standing.leader_member() {
                Some(_) if standing.leader == Some(standing.id) => self.decide_here(&keep).await,
                Some(leader) => self.ask(&leader.addr, &keep).await,
                None => Answer::NotLeading,
            };
            match answer {
                Answer::Done { version } => return Ok(version),
                Answer::Refused { status, text } => return Err(refused(status, text)),
                Answer::NotLeading => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    async fn decide_here(&self, keep: &Keep) -> Answer {
        // The driver has shown the change to the readers here before it answers.
        match self.operate(keep.clone()).await {
            Ok(()) => Answer::Done { version: 0 },
            Err(answer) => answer,
        }
    }

    async fn decide(&self, keep: Keep, kept: &watch::Receiver<Kept>) -> Answer {
        match self.operate(keep).await {
            Ok(()) => Answer::Done { version: kept.borrow().version },
            Err(answer) => answer,
        }
    }

    async fn operate(&self, Keep { table, changes }: Keep) -> Result<(), Answer> {
        let write = Box::new(OperatorWrite::Keep { table, changes });
        match self.driver.ask(|reply| Message::Operator { write, reply }).await {
            Ok(Response::Refused { status: 503, .. }) | Err(_) => Err(Answer::NotLeading),
            Ok(Response::Refused { status, text }) => Err(Answer::Refused { status, text }),
            Ok(_) => Ok(()),
        }
    }

    /// A change whose answer was lost may be sent again: the same twice is one.
    async fn ask(&self, leader: &str, keep: &Keep) -> Answer {
        let asked = async {
            let question = serde_json::to_vec(keep).ok()?;
            let connection = self.dialer.connect(leader).await.ok()?;
            serde_json::from_slice(&connection.call(KEEP, question).await.ok()?).ok()
        };
        asked.await.unwrap_or(Answer::NotLeading)
    }
}

fn refused(status: u16, text: String) -> KeepError {
    if status == 409 { KeepError::Conflict } else { KeepError::Refused(text) }
}
