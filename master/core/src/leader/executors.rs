//! Executors: launched with their first task, spoken to, shut down, ended.

use std::collections::{BTreeMap, BTreeSet};

use api::v1::scheduler::Event;
use api::v1::scheduler::call::{Message, Shutdown};
use api::v1::{ExecutorInfo, TaskInfo};
use api::{AgentId, ContainerId, ExecutorId, FrameworkId, Resources, TaskId};

use super::{Leader, Turn};
use crate::allocator::Consider;
use crate::command::LaunchExecutor;
use crate::io::ToAgent;
use crate::offers::OutstandingOffer;
use crate::state::{State, Task};

/// Which executor: of whom, where, which.
type Key = (FrameworkId, AgentId, ExecutorId);

/// Executors whose launch is not yet committed: their resources are charged already.
#[derive(Debug, Default)]
pub(super) struct LaunchingExecutors(BTreeMap<Key, (ContainerId, Box<ExecutorInfo>)>);

impl Leader {
    /// How an executor of that id is described that runs there, or will.
    pub(super) fn known_executor(
        &self,
        turn: &Turn<'_>,
        framework: &FrameworkId,
        offer: &OutstandingOffer,
        id: &ExecutorId,
    ) -> Option<ExecutorInfo> {
        let key = (framework.clone(), offer.agent.clone(), id.clone());
        if let Some((_, info)) = self.launching_executors.0.get(&key) {
            return Some(info.as_ref().clone());
        }
        turn.state.executor(framework, &offer.agent, id).map(|known| known.info.get())
    }

    /// The executor a task is launched for. Its resources were taken from the offer if it is new.
    pub(super) fn executor_for(
        &mut self,
        turn: &Turn<'_>,
        framework: &FrameworkId,
        offer: &OutstandingOffer,
        task: &TaskInfo,
        resources: Option<Resources>,
    ) -> Option<LaunchExecutor> {
        let info = task.executor.as_ref()?;
        let key = (framework.clone(), offer.agent.clone(), info.executor_id.clone());
        if let Some((container, _)) = self.launching_executors.0.get(&key) {
            return Some(LaunchExecutor { container: container.clone(), resources: Resources::new(), is_new: false });
        }
        if let Some(known) = turn.state.executor(framework, &offer.agent, &info.executor_id) {
            let container = known.container.clone();
            return Some(LaunchExecutor { container, resources: Resources::new(), is_new: false });
        }
        let container = ContainerId::from(self.random.uuid());
        self.launching_executors.0.insert(key, (container.clone(), info.clone()));
        Some(LaunchExecutor { container, resources: resources.unwrap_or_default(), is_new: true })
    }

    pub(super) fn executor_launched(
        &mut self,
        turn: &Turn<'_>,
        framework: FrameworkId,
        agent: AgentId,
        id: ExecutorId,
    ) {
        let Some(executor) = turn.state.executor(&framework, &agent, &id) else { return };
        let charged = self.launching_executors.0.remove(&(framework.clone(), agent.clone(), id)).is_some();
        // A former leader's, or one that came back with its agent. What registers anew is charged then.
        if !charged && self.allocator.has_agent(&agent) {
            self.allocator.charge(&framework, &executor.role, &agent, &executor.resources);
        }
    }

    /// A launch that was to bring an executor along came to nothing.
    pub(super) fn executor_not_launched(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        role: &str,
        info: &TaskInfo,
        executor: Option<&LaunchExecutor>,
    ) {
        let (Some(new), Some(info)) = (executor.filter(|executor| executor.is_new), &info.executor) else { return };
        let key = (framework.clone(), agent.clone(), info.executor_id.clone());
        if self.launching_executors.0.remove(&key).is_some() {
            self.allocator.recover(framework, role, agent, &new.resources, Consider::Now);
        }
    }

    pub(super) fn executor_ended(
        &mut self,
        turn: &mut Turn<'_>,
        framework: &FrameworkId,
        agent: &AgentId,
        executor: ExecutorId,
        (role, resources): (&str, &Resources),
        status: Option<i32>,
    ) {
        tracing::info!(%framework, %agent, %executor, ?status, "an executor ended");
        self.allocator.recover(framework, role, agent, resources, Consider::Now);
        if let Some(status) = status {
            self.tell(turn, framework, Event::new_failure(agent.clone(), Some((executor, status))));
        }
    }

    /// MESSAGE: lost when the executor is not there, as in Mesos.
    pub(super) fn message_executor(&self, turn: &mut Turn<'_>, framework: &FrameworkId, message: Message) {
        let Message { agent_id: agent, executor_id: executor, data } = message;
        let Some(session) = self.session_of(&agent) else {
            tracing::warn!(%framework, %agent, %executor, "a message to an executor on an agent that is not there");
            return;
        };
        let framework = framework.clone();
        turn.tell_agent(session, ToAgent::ExecutorMessage { framework, executor, data });
    }

    /// SHUTDOWN.
    pub(super) fn shut_down_executor(&self, turn: &mut Turn<'_>, framework: &FrameworkId, shutdown: Shutdown) {
        let Shutdown { executor_id: executor, agent_id: agent } = shutdown;
        let Some(session) = self.session_of(&agent) else {
            tracing::warn!(%framework, %agent, %executor, "an executor to be shut down is on an agent that is not there");
            return;
        };
        let framework = framework.clone();
        turn.tell_agent(session, ToAgent::ShutdownExecutor { framework, executor });
    }

    pub(super) fn executor_said(
        &self,
        turn: &mut Turn<'_>,
        framework: &FrameworkId,
        agent: &AgentId,
        executor: ExecutorId,
        data: Vec<u8>,
    ) {
        self.tell(turn, framework, Event::new_message(agent.clone(), executor, data));
    }

    /// What an agent never heard of; groups as groups.
    pub(super) fn run_again(&self, turn: &mut Turn<'_>, run: Vec<(FrameworkId, TaskId)>) {
        let mut groups: BTreeSet<(FrameworkId, TaskId)> = BTreeSet::new();
        for (framework, id) in run {
            let Some(task) = turn.state.task(&framework, &id) else { continue };
            match &task.group {
                None => self.run_task(turn, task),
                Some(first) => _ = groups.insert((framework, first.clone())),
            }
        }
        for (framework, first) in groups {
            // All of it, the first one first: an agent that knows a part knows it by that.
            let of_framework = turn.state.framework(&framework).into_iter().flat_map(|known| known.tasks.values());
            let mine = of_framework.filter(|task| task.group.as_ref() == Some(&first)).map(|task| task.id().clone());
            let others = mine.filter(|task| *task != first);
            let tasks: Vec<TaskId> = std::iter::once(first.clone()).chain(others).collect();
            self.run_group(turn, &framework, &tasks);
        }
    }

    /// If the agent is not there it is sent when it registers.
    pub(super) fn run_group(&self, turn: &mut Turn<'_>, framework_id: &FrameworkId, tasks: &[TaskId]) {
        let Some(framework) = turn.state.framework(framework_id) else { return };
        let tasks: Vec<&Task> = tasks.iter().filter_map(|task| turn.state.task(framework_id, task)).collect();
        let Some(first) = tasks.first() else { return };
        let (Some(session), Some(executor)) = (self.session_of(&first.agent), executor_of(turn.state, first)) else {
            return;
        };
        let message = ToAgent::RunGroup {
            framework: framework_id.clone(),
            tasks: tasks.iter().map(|task| (task.container.clone(), task.info.get())).collect(),
            framework_info: framework.info.clone(),
            executor,
        };
        turn.tell_agent(session, message);
    }
}

/// The run of the executor a task is for.
pub(super) fn executor_of(state: &State, task: &Task) -> Option<ContainerId> {
    let executor = state.executor(&task.framework, &task.agent, task.executor.as_ref()?)?;
    Some(executor.container.clone())
}
