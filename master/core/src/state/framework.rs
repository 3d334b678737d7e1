//! Frameworks: subscribed, away, removed.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use api::v1::scheduler::OfferConstraints;
use api::v1::{Capability, FrameworkInfo, Reason};
use api::{AgentId, ExecutorId, FrameworkId, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use super::{Executor, MAX_COMPLETED_FRAMEWORKS, MAX_COMPLETED_TASKS, State, Task};
use crate::command::SubscribeFramework;
use crate::event::Event;

/// A framework that is subscribed, or may come back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Framework {
    /// `<master>-<nnnn>`, or what it came with.
    pub id: FrameworkId,
    /// As it describes itself, with the id.
    pub info: Arc<FrameworkInfo>,
    /// Roles it wants no offers for.
    pub suppressed_roles: BTreeSet<String>,
    /// Agents it wants offers of; all where it says nothing.
    #[serde(default)]
    pub offer_constraints: Option<Box<OfferConstraints>>,
    /// Its stream, as far as the log knows; empty when it has none.
    pub stream: String,
    /// Milliseconds since 1970.
    pub registered_at: u64,
    /// The last time it came back.
    pub reregistered_at: Option<u64>,
    /// Set while it is away.
    pub disconnected: Option<Disconnection>,
    /// Tasks that have not ended, or whose end is not acknowledged.
    pub tasks: BTreeMap<TaskId, Arc<Task>>,
    /// Tasks that have, oldest first.
    pub completed_tasks: VecDeque<Arc<Task>>,
    /// Its own executors and its pods', as far as their agents are reachable.
    #[serde(default)]
    pub executors: BTreeMap<(AgentId, ExecutorId), Arc<Executor>>,
}

/// A framework's absence.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Disconnection {
    /// Milliseconds since 1970.
    pub since: u64,
    /// When it is removed unless it comes back: milliseconds since 1970.
    pub remove_at: u64,
}

/// A framework that was removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CompletedFramework {
    /// Refused from now on.
    pub id: FrameworkId,
    /// As it last described itself.
    pub info: Arc<FrameworkInfo>,
    /// Milliseconds since 1970.
    pub registered_at: u64,
    /// The last time it came back.
    pub reregistered_at: Option<u64>,
    /// Milliseconds since 1970.
    pub removed_at: u64,
    /// Its tasks, oldest first.
    pub completed_tasks: VecDeque<Arc<Task>>,
}

impl Framework {
    /// Does it know the states a partition brings? Otherwise it is told TASK_LOST.
    #[must_use]
    pub fn is_partition_aware(&self) -> bool {
        self.info.has(Capability::PartitionAware)
    }

    /// `aware` for a framework that knows it, TASK_LOST otherwise.
    #[must_use]
    pub fn lost_or(&self, aware: TaskState) -> TaskState {
        if self.is_partition_aware() { aware } else { TaskState::Lost }
    }

    /// How long it may stay away, in milliseconds.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to what fits
    pub fn failover_timeout_ms(&self) -> u64 {
        const CENTURY_MS: f64 = 100.0 * 365.0 * 86_400_000.0;
        let seconds = self.info.failover_timeout.filter(|seconds| *seconds >= 0.0).unwrap_or(0.0);
        (seconds * 1000.0).min(CENTURY_MS) as u64
    }

    pub(super) fn complete(&mut self, task: &TaskId) {
        if let Some(task) = self.tasks.remove(task) {
            self.completed_tasks.push_back(task);
            if self.completed_tasks.len() > MAX_COMPLETED_TASKS {
                self.completed_tasks.pop_front();
            }
        }
    }
}

impl State {
    pub(super) fn subscribe_framework(&mut self, subscribe: SubscribeFramework, events: &mut Vec<Event>) {
        let SubscribeFramework { framework: id, mut info, suppressed_roles, offer_constraints, stream, at } = subscribe;
        if self.is_completed(&id) {
            events.push(Event::SubscribeRefused { stream });
            return;
        }
        if let Some(number) = id.as_str().rsplit_once('-').and_then(|(_, number)| number.parse::<u64>().ok()) {
            let ours = self.cluster.as_ref().is_some_and(|cluster| id.as_str().starts_with(cluster.as_str()));
            if ours {
                self.next_framework = self.next_framework.max(number.saturating_add(1));
            }
        }
        info.id = Some(id.clone());
        let suppressed_roles = suppressed_roles.into_iter().collect();
        if let Some(framework) = self.frameworks.get_mut(&id) {
            let framework = Arc::make_mut(framework);
            info.user.clone_from(&framework.info.user); // both cannot change: the old ones stay
            info.checkpoint = framework.info.checkpoint;
            framework.info = Arc::new(info);
            framework.suppressed_roles = suppressed_roles;
            framework.offer_constraints = offer_constraints;
            framework.stream.clone_from(&stream);
            framework.reregistered_at = Some(at);
            framework.disconnected = None;
        } else {
            let framework = Framework {
                id: id.clone(),
                info: Arc::new(info),
                suppressed_roles,
                offer_constraints,
                stream: stream.clone(),
                registered_at: at,
                reregistered_at: None,
                disconnected: None,
                tasks: BTreeMap::new(),
                completed_tasks: VecDeque::new(),
                executors: BTreeMap::new(),
            };
            self.frameworks.insert(id.clone(), Arc::new(framework));
        }
        events.push(Event::FrameworkSubscribed { framework: id, stream });
    }

    pub(super) fn update_framework(
        &mut self,
        id: &FrameworkId,
        mut info: FrameworkInfo,
        suppressed_roles: Vec<String>,
        offer_constraints: Option<Box<OfferConstraints>>,
        events: &mut Vec<Event>,
    ) {
        let Some(framework) = self.frameworks.get_mut(id).map(Arc::make_mut) else { return };
        info.id = Some(id.clone());
        info.user.clone_from(&framework.info.user);
        info.checkpoint = framework.info.checkpoint;
        framework.info = Arc::new(info);
        framework.suppressed_roles = suppressed_roles.into_iter().collect();
        framework.offer_constraints = offer_constraints;
        events.push(Event::FrameworkUpdated { framework: id.clone() });
    }

    pub(super) fn set_suppressed_roles(&mut self, id: &FrameworkId, roles: Vec<String>) {
        if let Some(framework) = self.frameworks.get_mut(id) {
            Arc::make_mut(framework).suppressed_roles = roles.into_iter().collect();
        }
    }

    pub(super) fn disconnect_framework(
        &mut self,
        id: &FrameworkId,
        stream: &str,
        disconnection: Disconnection,
        events: &mut Vec<Event>,
    ) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        if framework.disconnected.is_some() || (!stream.is_empty() && framework.stream != stream) {
            return; // it came back on another stream meanwhile
        }
        let framework = Arc::make_mut(framework);
        framework.stream.clear();
        framework.disconnected = Some(disconnection);
        let remove_at = disconnection.remove_at;
        events.push(Event::FrameworkDisconnected { framework: id.clone(), remove_at });
    }

    pub(super) fn remove_framework(&mut self, id: &FrameworkId, at: u64, events: &mut Vec<Event>) {
        let Some(mut framework) = self.frameworks.remove(id) else { return };
        let framework = Arc::make_mut(&mut framework);
        self.operations.retain(|_, operation| operation.framework != *id);
        let mut agents = BTreeSet::new();
        for ((agent, _), executor) in std::mem::take(&mut framework.executors) {
            agents.insert(agent);
            events.push(executor.ended(None));
        }
        for (task_id, mut task) in std::mem::take(&mut framework.tasks) {
            let task = Arc::make_mut(&mut task);
            self.placement.remove(task);
            agents.insert(task.agent.clone());
            if task.holds_resources() {
                events.push(task.freed());
            }
            if !task.state.is_terminal() {
                let status = task.master_status(TaskState::Killed, Reason::FrameworkRemoved, "Framework removed", at);
                task.state = TaskState::Killed;
                task.ended_at = Some(at);
                task.record(status);
            }
            framework.tasks.insert(task_id.clone(), Arc::new(task.clone()));
            framework.complete(&task_id);
        }
        self.completed_frameworks.push_back(Arc::new(CompletedFramework {
            id: id.clone(),
            info: framework.info.clone(),
            registered_at: framework.registered_at,
            reregistered_at: framework.reregistered_at,
            removed_at: at,
            completed_tasks: std::mem::take(&mut framework.completed_tasks),
        }));
        if self.completed_frameworks.len() > MAX_COMPLETED_FRAMEWORKS {
            self.completed_frameworks.pop_front();
        }
        events.push(Event::FrameworkRemoved { framework: id.clone(), agents: agents.into_iter().collect() });
        for agent in self.draining.clone() {
            self.check_drained(&agent, events);
        }
    }
}
