//! What readers see: an immutable picture that costs the decisions nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{AgentId, FrameworkId, MasterId, OfferId};

use crate::allocator::InverseStatus;
use crate::io::Now;
use crate::offers::OutstandingOffer;
use crate::state::State;

/// A picture of the master at one moment.
#[derive(Clone, Debug)]
pub struct View {
    /// Grows with every change; two pictures of one version are the same.
    pub version: u64,
    /// When something changed last.
    pub at: Now,
    /// The cluster's id.
    pub master_id: MasterId,
    /// Do we lead? Only a leader has offers and connections.
    pub leading: bool,
    /// Since when we lead: milliseconds since 1970.
    pub elected_at: Option<u64>,
    /// Agents, frameworks, tasks.
    pub state: Arc<State>,
    /// Outstanding offers.
    pub offers: BTreeMap<OfferId, Arc<OutstandingOffer>>,
    /// Frameworks with a stream.
    pub connected_frameworks: BTreeSet<FrameworkId>,
    /// Agents with a session.
    pub connected_agents: BTreeSet<AgentId>,
    /// What frameworks said of leaving agents that will be away.
    pub inverse_statuses: BTreeMap<AgentId, BTreeMap<FrameworkId, InverseStatus>>,
    /// Since the process started.
    pub counters: Counters,
}

/// Numbers that only grow, for metrics. Since the process started.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[allow(missing_docs)] // the names say it
pub struct Counters {
    pub calls: u64,
    pub calls_refused: u64,
    pub offers_made: u64,
    pub offers_accepted: u64,
    pub offers_declined: u64,
    pub offers_rescinded: u64,
    pub tasks_launched: u64,
    pub tasks_finished: u64,
    pub tasks_failed: u64,
    pub tasks_killed: u64,
    pub tasks_lost: u64,
    pub tasks_error: u64,
    pub status_updates: u64,
    pub acknowledgements: u64,
    pub allocation_runs: u64,
    pub agents_registered: u64,
    pub agents_reregistered: u64,
    pub agents_unreachable: u64,
    pub commands_committed: u64,
    pub conversions_lost: u64,
}
