//! Tasks: launched, updated, acknowledged, killed, ended.

use std::sync::Arc;

use api::v1::{Packed, Reason, Source, TaskInfo, TaskStatus};
use api::{AgentId, ContainerId, ExecutorId, FrameworkId, Resources, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use super::{Reachability, State};
use crate::command::LaunchTask;
use crate::event::{Event, LaunchDropped};

/// Statuses kept of each task, newest last; what is older is dropped.
const MAX_STATUSES: usize = 16;

/// A task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Chosen by the framework.
    pub id: TaskId,
    /// Whose.
    pub framework: FrameworkId,
    /// As the framework described it. Most tasks are never looked at again.
    pub info: Packed<TaskInfo>,
    /// Who runs it, if not the framework's user.
    pub own_user: Option<Box<str>>,
    /// The executor it brought, or its pod's.
    pub executor: Option<ExecutorId>,
    /// Where it runs.
    pub agent: AgentId,
    /// On whose share.
    pub role: String,
    /// Which run.
    pub container: ContainerId,
    /// What it may use.
    pub resources: Resources,
    /// The latest known: may be ahead of what the framework was told.
    pub state: TaskState,
    /// What the framework was told, newest last; the last one's uuid may be unacknowledged.
    pub statuses: Vec<Packed<TaskStatus>>,
    /// The framework wants it killed.
    pub kill: Option<KillRequest>,
    /// Milliseconds since 1970.
    pub launched_at: u64,
    /// Milliseconds since 1970: when the state became terminal.
    pub ended_at: Option<u64>,
    /// The first task of its group.
    #[serde(default)]
    pub group: Option<TaskId>,
}

/// A kill that is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct KillRequest {
    /// The call's grace, if it had one.
    pub grace_ms: Option<u64>,
}

impl Task {
    /// Chosen by the framework.
    #[must_use]
    pub fn id(&self) -> &TaskId {
        &self.id
    }

    /// What the framework was told last.
    #[must_use]
    pub fn last_status(&self) -> Option<TaskStatus> {
        self.statuses.last().map(Packed::get)
    }

    /// What its own kill policy gives it.
    #[must_use]
    pub fn grace_ms(&self) -> Option<u64> {
        self.info.get().kill_policy.and_then(|policy| policy.grace_period).and_then(|grace| grace.millis())
    }

    /// Does it use its resources, as far as offers are concerned?
    #[must_use]
    pub fn holds_resources(&self) -> bool {
        !self.state.is_terminal() && self.state != TaskState::Unreachable
    }

    /// A status the master makes of its own: without uuid, so not acknowledged.
    #[must_use]
    pub fn master_status(&self, state: TaskState, reason: Reason, message: impl Into<String>, at: u64) -> TaskStatus {
        let mut status = TaskStatus::new(self.id().clone(), state);
        status.source = Some(Source::Master.into());
        status.reason = Some(reason.into());
        status.message = Some(message.into());
        status.agent_id = Some(self.agent.clone());
        status.timestamp = Some(seconds(at));
        let told = self.last_status().and_then(|last| last.executor_id);
        status.executor_id = told.or_else(|| self.executor.clone());
        status
    }

    pub(super) fn record(&mut self, mut status: TaskStatus) {
        status.data = None; // as Mesos: only the update itself carries it
        if self.statuses.len() == MAX_STATUSES {
            self.statuses.remove(0);
        }
        self.statuses.push(Packed::new(&status));
    }

    pub(super) fn freed(&self) -> Event {
        Event::ResourcesFreed {
            framework: self.framework.clone(),
            task: self.id().clone(),
            role: self.role.clone(),
            agent: self.agent.clone(),
            resources: self.resources.clone(),
        }
    }
}

fn own_user(info: &TaskInfo) -> Option<&str> {
    let of_executor = || info.executor.as_ref().and_then(|executor| executor.command.as_deref());
    info.command.as_ref().or_else(of_executor).and_then(|command| command.user.as_deref())
}

/// Mesos writes times as seconds since 1970.
#[allow(clippy::cast_precision_loss)] // milliseconds since 1970 fit in 53 bits for 285,000 years
pub(crate) fn seconds(unix_ms: u64) -> f64 {
    unix_ms as f64 / 1000.0
}

impl State {
    pub(super) fn launch_task(&mut self, launch: LaunchTask, events: &mut Vec<Event>) {
        match self.cannot_launch(&launch) {
            Some(why) => events.push(Event::LaunchDropped { launch: Box::new(launch), why }),
            None => self.add_task(launch, events),
        }
    }

    /// All or nothing.
    pub(super) fn launch_group(&mut self, launches: Vec<LaunchTask>, events: &mut Vec<Event>) {
        // What the first brings with it is there for the others.
        let brings = launches.iter().any(|launch| launch.executor.as_ref().is_some_and(|executor| executor.is_new));
        let cannot = |launch| self.cannot_launch(launch).filter(|why| !brings || *why != LaunchDropped::ExecutorGone);
        if let Some(why) = launches.iter().find_map(cannot) {
            let dropped = launches.into_iter().map(|launch| Event::LaunchDropped { launch: Box::new(launch), why });
            events.extend(dropped);
            return;
        }
        let Some(framework) = launches.first().map(|launch| launch.framework.clone()) else { return };
        let tasks = launches.iter().map(|launch| launch.info.task_id.clone()).collect();
        for launch in launches {
            self.add_task(launch, events);
        }
        events.push(Event::GroupLaunched { framework, tasks });
    }

    fn cannot_launch(&self, launch: &LaunchTask) -> Option<LaunchDropped> {
        let agent = self.agents.get(&launch.agent).filter(|agent| agent.reachability == Reachability::Reachable);
        match (self.frameworks.get(&launch.framework), agent) {
            (None, _) => Some(LaunchDropped::FrameworkRemoved),
            (Some(framework), _) if framework.tasks.contains_key(&launch.info.task_id) => {
                Some(LaunchDropped::Duplicate)
            }
            (Some(_), None) => Some(LaunchDropped::AgentRemoved),
            (Some(_), Some(agent)) if agent.deactivated => Some(LaunchDropped::AgentDraining),
            // An operation before it in the same ACCEPT did not come about.
            (Some(_), Some(agent)) => {
                let mut wanted = launch.resources.clone();
                let new = launch.executor.as_ref().filter(|executor| executor.is_new);
                new.into_iter().for_each(|executor| wanted.add_all(&executor.resources));
                if !agent.resources.contains(&wanted) {
                    return Some(LaunchDropped::ResourcesGone);
                }
                self.executor_is_gone(launch).then_some(LaunchDropped::ExecutorGone)
            }
        }
    }

    fn add_task(&mut self, launch: LaunchTask, events: &mut Vec<Event>) {
        self.add_executor(&launch, events);
        let task_id = launch.info.task_id.clone();
        // The ids the state has already: one copy for all tasks.
        let framework_id = self.frameworks.get(&launch.framework).map_or(launch.framework, |known| known.id.clone());
        let agent_id = self.agents.get(&launch.agent).map_or(launch.agent, |known| known.id.clone());
        let task = Task {
            id: task_id.clone(),
            framework: framework_id.clone(),
            own_user: own_user(&launch.info).map(Into::into),
            executor: launch.info.executor.as_ref().map(|executor| executor.executor_id.clone()),
            info: Packed::new(&launch.info),
            agent: agent_id,
            role: launch.role,
            container: launch.container,
            resources: launch.resources,
            state: TaskState::Staging,
            statuses: Vec::new(),
            kill: None,
            launched_at: launch.at,
            ended_at: None,
            group: launch.group,
        };
        self.placement.add(&task);
        if let Some(framework) = self.frameworks.get_mut(&framework_id) {
            Arc::make_mut(framework).tasks.insert(task_id.clone(), Arc::new(task));
        }
        events.push(Event::TaskLaunched { framework: framework_id, task: task_id });
    }

    pub(super) fn task_mut(&mut self, framework: &FrameworkId, task: &TaskId) -> Option<&mut Task> {
        let framework = self.frameworks.get_mut(framework).filter(|framework| framework.tasks.contains_key(task))?;
        Arc::make_mut(framework).tasks.get_mut(task).map(Arc::make_mut)
    }

    pub(super) fn kill_task(
        &mut self,
        framework: &FrameworkId,
        task_id: &TaskId,
        agent: Option<&AgentId>,
        request: KillRequest,
        events: &mut Vec<Event>,
    ) {
        let Some(task) = self.task(framework, task_id) else {
            if self.frameworks.contains_key(framework) {
                let (framework, task, agent) = (framework.clone(), task_id.clone(), agent.cloned());
                events.push(Event::KillUnknown { framework, task, agent });
            }
            return;
        };
        if task.state.is_terminal() || agent.is_some_and(|agent| *agent != task.agent) {
            return; // as Mesos: a mismatch is dropped
        }
        if let Some(task) = self.task_mut(framework, task_id) {
            task.kill = Some(request);
            events.push(Event::KillRequested { framework: framework.clone(), task: task_id.clone() });
        }
    }

    pub(super) fn update_task(
        &mut self,
        framework_id: &FrameworkId,
        agent: &AgentId,
        mut status: TaskStatus,
        latest: TaskState,
        at: u64,
        events: &mut Vec<Event>,
    ) {
        let task_id = status.task_id.clone();
        let known = self.task(framework_id, &task_id).filter(|task| task.agent == *agent);
        let Some(known) = known else {
            let (framework, agent, uuid) = (framework_id.clone(), agent.clone(), status.uuid_bytes());
            events.push(Event::UpdateObsolete { framework, agent, task: task_id, uuid });
            return;
        };
        let for_draining = known.kill.is_some() && self.drains(agent);
        if for_draining && matches!(status.state(), TaskState::Killing | TaskState::Killed) {
            status.reason = Some(Reason::AgentDraining.into());
        }
        status.agent_id.get_or_insert_with(|| agent.clone());
        status.timestamp.get_or_insert(seconds(at));
        let repeated = status.uuid.is_some() && known.last_status().is_some_and(|last| last.uuid == status.uuid);
        if !repeated && let Some(task) = self.task_mut(framework_id, &task_id) {
            let newest = if latest.is_terminal() { latest } else { status.state() };
            if task.state == TaskState::Unreachable && !newest.is_terminal() {
                return; // its agent was given up meanwhile; it repeats the update when it is back
            }
            if !task.state.is_terminal() {
                let held = task.holds_resources();
                task.state = newest;
                if newest.is_terminal() {
                    task.ended_at = Some(at);
                    task.kill = None;
                    events.extend(held.then(|| task.freed()));
                }
            }
            task.record(status.clone());
        }
        let finished = status.state().is_terminal() && status.uuid.is_none();
        events.push(Event::TaskUpdated { framework: framework_id.clone(), status: Box::new(status) });
        if finished {
            self.complete_task(framework_id, &task_id);
        }
        self.check_drained(agent, events);
    }

    pub(super) fn acknowledge_task(
        &mut self,
        framework: &FrameworkId,
        task_id: &TaskId,
        uuid: [u8; 16],
        events: &mut Vec<Event>,
    ) {
        let Some(task) = self.task(framework, task_id) else { return };
        let last = task.last_status();
        let ends = task.state.is_terminal()
            && last.is_some_and(|last| last.state().is_terminal() && last.uuid_bytes() == Some(uuid));
        let (agent, framework_id, task) = (task.agent.clone(), framework.clone(), task_id.clone());
        events.push(Event::Acknowledged { framework: framework_id, agent: agent.clone(), task, uuid });
        if ends {
            self.complete_task(framework, task_id);
            self.check_drained(&agent, events);
        }
    }

    /// Ends a task on the master's word and says so to the framework.
    pub(super) fn end_task(
        &mut self,
        framework: &FrameworkId,
        task_id: &TaskId,
        status: TaskStatus,
        at: u64,
        events: &mut Vec<Event>,
    ) {
        if let Some(task) = self.task_mut(framework, task_id) {
            if task.holds_resources() {
                events.push(task.freed());
            }
            if !task.state.is_terminal() {
                task.state = status.state();
                task.ended_at = Some(at);
            }
            task.record(status.clone());
            events.push(Event::TaskUpdated { framework: framework.clone(), status: Box::new(status) });
        }
        self.complete_task(framework, task_id);
    }

    /// Moves an ended task among the completed ones.
    pub(super) fn complete_task(&mut self, framework: &FrameworkId, task: &TaskId) {
        let Some(framework) = self.frameworks.get_mut(framework) else { return };
        if let Some(task) = framework.tasks.get(task) {
            self.placement.remove(task);
        }
        Arc::make_mut(framework).complete(task);
    }
}
