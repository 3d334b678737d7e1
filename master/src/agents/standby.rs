//! Sessions of agents with a master that does not lead: when it does, nobody has to connect first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::NodeName;
use tokio::sync::watch;

use crate::ca::Holder;
use crate::raft::Replica;
use crate::revocations::Revocations;

/// Sessions that wait, of one node: a machine that was reset has an old one for some seconds.
const MOST_OF_A_NODE: usize = 3;

/// All that wait here.
#[derive(Clone)]
pub struct Standbys {
    leading: watch::Receiver<bool>,
    replica: Replica,
    revocations: Arc<Revocations>,
    waiting: Arc<Mutex<BTreeMap<NodeName, usize>>>,
}

impl Standbys {
    /// None yet.
    #[must_use]
    pub fn new(leading: watch::Receiver<bool>, replica: Replica, revocations: Arc<Revocations>) -> Self {
        Self { leading, replica, revocations, waiting: Arc::default() }
    }

    /// One more, if the node may.
    pub(super) fn admit(&self, node: &NodeName, holder: Option<Holder>) -> Result<Standby, String> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let count = waiting.entry(node.clone()).or_default();
        if *count >= MOST_OF_A_NODE {
            return Err(format!("{MOST_OF_A_NODE} sessions of this node wait here already"));
        }
        *count += 1;
        self.replica.set_followed(waiting.len());
        drop(waiting);
        Ok(Standby { all: self.clone(), node: node.clone(), holder, told: None })
    }
}

/// One that waits.
pub(super) struct Standby {
    all: Standbys,
    node: NodeName,
    holder: Option<Holder>,
    /// That we lead in this term.
    told: Option<u64>,
}

impl Standby {
    /// Waits until the agent is to be told in which term we lead.
    pub(super) async fn leads(&mut self) -> u64 {
        loop {
            // The sender is gone when the master stops: this session ends, too.
            if self.all.leading.wait_for(|leading| *leading).await.is_err() {
                std::future::pending::<()>().await;
            }
            let term = self.all.replica.term();
            if self.told != Some(term) {
                self.told = Some(term);
                return term;
            }
            if self.all.leading.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// The certificate may have been revoked while it waited.
    pub(super) fn check(&self) -> Result<(), String> {
        let revoked = |holder: &Holder| self.all.revocations.check(holder).map_err(|revoked| revoked.to_string());
        self.holder.as_ref().map_or(Ok(()), revoked)
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let mut waiting = self.all.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.node);
            }
        }
        self.all.replica.set_followed(waiting.len());
    }
}
