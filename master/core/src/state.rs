//! What the log says: everything a new leader needs, and all that a reader of the API sees of
//! agents, frameworks and tasks. [`State::apply`] is total and deterministic.

mod agent;
mod draining;
mod executor;
mod framework;
mod kept;
mod maintenance;
mod operations;
mod operator;
mod placement;
mod quotas;
mod rules;
mod task;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use api::{AgentId, FrameworkId, MasterId, NodeName, TaskId};
use serde::{Deserialize, Serialize};

pub use agent::{Agent, Reachability};
pub use draining::Drain;
pub use executor::{Executor, Holding};
pub use framework::{CompletedFramework, Disconnection, Framework};
pub use kept::{Change, Kept, Table};
pub use maintenance::Maintenance;
pub use operations::{MAX_UNACKNOWLEDGED_OPERATIONS, Operation, OperationState};
use placement::Placement;
pub(crate) use task::seconds;
pub use task::{KillRequest, Task};

use crate::command::{Command, DecodeError};
use crate::event::Event;
use crate::io::operator::QuotaConfig;
use crate::rules::Rule;

/// Removed frameworks that are remembered (Mesos: `--max_completed_frameworks`).
pub const MAX_COMPLETED_FRAMEWORKS: usize = 50;
/// Ended tasks remembered of each framework (Mesos: `--max_completed_tasks_per_framework`).
pub const MAX_COMPLETED_TASKS: usize = 1000;
/// Tasks of each framework remembered as unreachable; beyond that the oldest count as gone (Mesos:
/// `--max_unreachable_tasks_per_framework`).
pub const MAX_UNREACHABLE_TASKS: usize = 1000;
/// Unreachable agents remembered; beyond that the one away longest is forgotten (Mesos:
/// `--registry_max_agent_count`).
pub const MAX_UNREACHABLE_AGENTS: usize = 102_400;
/// Gone agents remembered and refused; beyond that the oldest is forgotten.
pub const MAX_GONE_AGENTS: usize = 102_400;

/// The replicated state. Entities are behind `Arc`s, so that a copy for readers costs little and
/// a change copies one entity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Set by the first leader; the prefix of ids.
    pub cluster: Option<MasterId>,
    /// Every node that ever joined.
    pub agents: BTreeMap<AgentId, Arc<Agent>>,
    /// Which agent a node is: a node keeps its id over reboots.
    pub nodes: BTreeMap<NodeName, AgentId>,
    /// Frameworks that are subscribed, or may still come back; with their tasks.
    pub frameworks: BTreeMap<FrameworkId, Arc<Framework>>,
    /// Frameworks that were removed, oldest first: their ids are refused.
    pub completed_frameworks: VecDeque<Arc<CompletedFramework>>,
    /// The number in the next agent's id.
    pub next_agent: u64,
    /// The number in the next framework's id.
    pub next_framework: u64,
    /// By role; 1 where none is set.
    #[serde(default)]
    pub weights: BTreeMap<String, f64>,
    /// By top-level role.
    #[serde(default)]
    pub quotas: BTreeMap<String, QuotaConfig>,
    /// Operations whose outcome their framework has not acknowledged.
    #[serde(default)]
    pub operations: BTreeMap<[u8; 16], Arc<Operation>>,
    /// When machines will be away.
    #[serde(default)]
    pub maintenance: Maintenance,
    /// Agents that drain and have not drained yet.
    #[serde(default)]
    pub draining: BTreeSet<AgentId>,
    /// Agents that were marked gone, and when (milliseconds since 1970): their ids are refused.
    #[serde(default)]
    pub gone: BTreeMap<AgentId, u64>,
    /// What operators say of nodes, in order.
    #[serde(default)]
    pub rules: Arc<Vec<Rule>>,
    /// What the masters' shells keep.
    #[serde(default)]
    pub kept: Kept,
    /// Made of the tasks.
    #[serde(skip)]
    placement: Placement,
}

impl State {
    /// Applies one committed command and says what happened. A command that no longer fits the
    /// state (it was decided before another one committed) changes nothing, or says so by an event.
    pub fn apply(&mut self, command: Command) -> Vec<Event> {
        let mut events = Vec::new();
        match command {
            Command::FoundCluster { id } => {
                self.cluster.get_or_insert(id);
            }
            Command::SubscribeFramework(subscribe) => self.subscribe_framework(*subscribe, &mut events),
            Command::UpdateFramework { framework, info, suppressed_roles, offer_constraints } => {
                self.update_framework(&framework, *info, suppressed_roles, offer_constraints, &mut events);
            }
            Command::DisconnectFramework { framework, stream, at, remove_at } => {
                self.disconnect_framework(&framework, &stream, Disconnection { since: at, remove_at }, &mut events);
            }
            Command::RemoveFramework { framework, at } => self.remove_framework(&framework, at, &mut events),
            Command::SetSuppressedRoles { framework, roles } => self.set_suppressed_roles(&framework, roles),
            Command::LaunchTask(launch) => self.launch_task(*launch, &mut events),
            Command::LaunchGroup(launches) => self.launch_group(launches, &mut events),
            Command::EndExecutor { framework, agent, executor, container, status } => {
                self.executor_ended(&framework, &agent, &executor, &container, status, &mut events);
            }
            Command::KillTask { framework, task, agent, grace_ms } => {
                self.kill_task(&framework, &task, agent.as_ref(), KillRequest { grace_ms }, &mut events);
            }
            Command::UpdateTask { framework, agent, status, latest, at } => {
                self.update_task(&framework, &agent, *status, latest, at, &mut events);
            }
            Command::AcknowledgeTask { framework, task, uuid } => {
                self.acknowledge_task(&framework, &task, uuid, &mut events);
            }
            Command::RegisterAgent { agent, registration, at } => {
                self.register_agent(agent, *registration, at, &mut events);
            }
            Command::ReturnAgent { back, at } => self.return_agent(&back, at, &mut events),
            Command::UpdateCapacity { agent, resources, attributes, facts, inventory_json, edition } => {
                if let Some(agent) = self.agents.get_mut(&agent) {
                    Arc::make_mut(agent).edition = edition;
                }
                self.update_capacity(&agent, resources, (attributes, facts), inventory_json, &mut events);
            }
            Command::MarkAgentUnreachable { agent, at } => self.mark_agent_unreachable(&agent, at, &mut events),
            Command::ApplyOperation(apply) => self.apply_framework_operation(*apply, &mut events),
            Command::AcknowledgeOperation { framework, operation, uuid } => {
                self.acknowledge_operation(&framework, &operation, uuid, &mut events);
            }
            Command::Operator(command) => self.operate(*command, &mut events),
        }
        self.settle_reservations(&mut events);
        // The check looks at everything: beyond a test's size it would dominate.
        #[cfg(debug_assertions)]
        if self.agents.len() + self.tasks().count() < 256 {
            crate::invariant::check(self);
        }
        events
    }

    /// A framework that is subscribed or may come back.
    #[must_use]
    pub fn framework(&self, id: &FrameworkId) -> Option<&Framework> {
        self.frameworks.get(id).map(Arc::as_ref)
    }

    /// A task that has not ended, or whose end is not yet acknowledged.
    #[must_use]
    pub fn task(&self, framework: &FrameworkId, task: &TaskId) -> Option<&Task> {
        self.frameworks.get(framework)?.tasks.get(task).map(Arc::as_ref)
    }

    /// Every such task.
    pub fn tasks(&self) -> impl Iterator<Item = &Arc<Task>> {
        self.frameworks.values().flat_map(|framework| framework.tasks.values())
    }

    /// Every such task on one agent.
    pub fn tasks_on(&self, agent: &AgentId) -> impl Iterator<Item = &Arc<Task>> {
        let of = |(framework, task): &(_, _)| self.frameworks.get(framework)?.tasks.get(task);
        self.placement.on(agent).filter_map(of)
    }

    /// Does the index say what the tasks say?
    pub(crate) fn placement_is_right(&self) -> bool {
        self.placement == Placement::of(self)
    }

    /// Was the framework removed?
    #[must_use]
    pub fn is_completed(&self, framework: &FrameworkId) -> bool {
        self.completed_frameworks.iter().any(|completed| completed.id == *framework)
    }

    /// The whole state as bytes.
    #[must_use]
    pub fn to_snapshot(&self) -> Vec<u8> {
        rmp_serde::to_vec_named(self).expect("the state holds nothing MessagePack cannot spell")
    }

    /// Reads [`to_snapshot`](Self::to_snapshot)'s bytes.
    ///
    /// # Errors
    /// The bytes are not a snapshot this version knows.
    pub fn from_snapshot(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut state: Self = rmp_serde::from_slice(bytes).map_err(|source| DecodeError::new("a snapshot", source))?;
        state.placement = Placement::of(&state);
        Ok(state)
    }
}
