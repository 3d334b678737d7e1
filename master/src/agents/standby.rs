//! Sessions of agents with a master that does not lead: when it does, nobody has to connect first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::NodeName;
use api::link::Leading;
use tokio::sync::watch;

use crate::ca::Holder;
use crate::raft::{Leader, Replica};
use crate::revocations::Revocations;

/// Sessions that wait, of one node: a machine that was reset has an old one for some seconds.
const MOST_OF_A_NODE: usize = 3;

/// All that wait here.
#[derive(Clone)]
pub struct Standbys {
    leading: watch::Receiver<Option<u64>>,
    replica: Replica,
    revocations: Arc<Revocations>,
    waiting: Arc<Mutex<BTreeMap<NodeName, usize>>>,
}

impl Standbys {
    /// None yet.
    #[must_use]
    pub fn new(leading: watch::Receiver<Option<u64>>, replica: Replica, revocations: Arc<Revocations>) -> Self {
        Self { leading, replica, revocations, waiting: Arc::default() }
    }

    /// A certificate may have been revoked since its connection was opened.
    pub(super) fn check(&self, holder: Option<&Holder>) -> Result<(), String> {
        let revoked = |holder: &Holder| self.revocations.check(holder).map_err(|revoked| revoked.to_string());
        holder.map_or(Ok(()), revoked)
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
        let leader = self.replica.leader();
        // Another one that leads now is known to the agent: it is there.
        let other = leader.borrow().clone().filter(|leader| leader.id != self.replica.id());
        let told = other.map_or(0, |leader| leader.term);
        Ok(Standby { all: self.clone(), node: node.clone(), holder, leading: self.leading.clone(), leader, told })
    }
}

/// One that waits.
pub(super) struct Standby {
    all: Standbys,
    node: NodeName,
    holder: Option<Holder>,
    leading: watch::Receiver<Option<u64>>,
    leader: watch::Receiver<Option<Leader>>,
    /// Of the last leader it was told of.
    told: u64,
}

impl Standby {
    /// Waits until somebody leads in a newer term than the agent was told of. The address is that of another one. None
    /// when the master stops.
    pub(super) async fn news(&mut self) -> Option<Leading> {
        loop {
            let own = self.leading.borrow_and_update().filter(|term| *term > self.told);
            if let Some(term) = own {
                self.told = term;
                return Some(Leading { term, link: String::new() });
            }
            let other = self.leader.borrow_and_update().clone().filter(|leader| leader.term > self.told);
            if let Some(Leader { term, link, .. }) = other.filter(|leader| leader.id != self.all.replica.id()) {
                self.told = term;
                return Some(Leading { term, link });
            }
            let changed = tokio::select! {
                changed = self.leading.changed() => changed,
                changed = self.leader.changed() => changed,
            };
            changed.ok()?;
        }
    }

    /// The certificate may have been revoked while it waited.
    pub(super) fn check(&self) -> Result<(), String> {
        self.all.check(self.holder.as_ref())
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
