//! Executors: of their first task's launch until their agent says how they ended, or is lost.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::v1::{ExecutorInfo, Packed, resources_from_wire};
use api::{AgentId, ContainerId, ExecutorId, FrameworkId, Resources, TaskId};
use serde::{Deserialize, Serialize};

use super::{Framework, State};
use crate::command::LaunchTask;
use crate::event::Event;
use crate::io::ReportedExecutor;

/// Something that runs a framework's tasks: its own program, or a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Executor {
    /// Chosen by the framework.
    pub id: ExecutorId,
    /// Whose.
    pub framework: FrameworkId,
    /// Where.
    pub agent: AgentId,
    /// On whose share.
    pub role: String,
    /// Which run.
    pub container: ContainerId,
    /// As the framework described it.
    pub info: Packed<ExecutorInfo>,
    /// What it uses itself, apart from its tasks.
    pub resources: Resources,
    /// Who runs it, if not the framework's user.
    pub own_user: Option<Box<str>>,
}

/// What a task or an executor uses.
#[derive(Clone, Copy, Debug)]
pub struct Holding<'a> {
    /// Of which framework.
    pub framework: &'a FrameworkId,
    /// Where.
    pub agent: &'a AgentId,
    /// On whose share.
    pub role: &'a str,
    /// What.
    pub resources: &'a Resources,
}

impl Executor {
    fn new(framework: FrameworkId, agent: AgentId, role: String, container: ContainerId, info: &ExecutorInfo) -> Self {
        let user = info.command.as_deref().and_then(|command| command.user.as_deref());
        Self {
            id: info.executor_id.clone(),
            framework,
            agent,
            role,
            container,
            // They were read when the launch was decided.
            resources: resources_from_wire(&info.resources).unwrap_or_default(),
            own_user: user.map(Into::into),
            info: Packed::new(info),
        }
    }

    pub(super) fn ended(&self, status: Option<i32>) -> Event {
        Event::ExecutorEnded {
            framework: self.framework.clone(),
            agent: self.agent.clone(),
            executor: self.id.clone(),
            role: self.role.clone(),
            resources: self.resources.clone(),
            status,
        }
    }

    fn key(&self) -> (AgentId, ExecutorId) {
        (self.agent.clone(), self.id.clone())
    }
}

impl Framework {
    /// Its executors on one agent.
    pub fn executors_on<'a>(&'a self, agent: &AgentId) -> impl Iterator<Item = &'a Arc<Executor>> + use<'a> {
        let (agent, first) = (agent.clone(), (agent.clone(), ExecutorId::default()));
        self.executors.range(first..).take_while(move |((of, _), _)| *of == agent).map(|(_, one)| one)
    }
}

impl State {
    /// An executor that has not ended, as far as is known.
    #[must_use]
    pub fn executor(&self, framework: &FrameworkId, agent: &AgentId, id: &ExecutorId) -> Option<&Arc<Executor>> {
        self.frameworks.get(framework)?.executors.get(&(agent.clone(), id.clone()))
    }

    /// Every such executor.
    pub fn executors(&self) -> impl Iterator<Item = &Arc<Executor>> {
        self.frameworks.values().flat_map(|framework| framework.executors.values())
    }

    /// Every such executor on one agent.
    pub fn executors_on<'a>(&'a self, agent: &AgentId) -> impl Iterator<Item = &'a Arc<Executor>> + use<'a> {
        let agent = agent.clone();
        self.frameworks.values().flat_map(move |framework| framework.executors_on(&agent))
    }

    /// All that is in use, by each task and each executor.
    pub fn holdings(&self) -> impl Iterator<Item = Holding<'_>> {
        let tasks = self.tasks().filter(|task| task.holds_resources()).map(|task| Holding {
            framework: &task.framework,
            agent: &task.agent,
            role: &task.role,
            resources: &task.resources,
        });
        let executors = self.executors().map(|executor| Holding {
            framework: &executor.framework,
            agent: &executor.agent,
            role: &executor.role,
            resources: &executor.resources,
        });
        tasks.chain(executors)
    }

    /// What is in use on an agent, by tasks and executors.
    pub fn used_on<'a>(&'a self, agent: &'a AgentId) -> impl Iterator<Item = &'a Resources> {
        let tasks = self.tasks_on(agent).filter(|task| task.holds_resources()).map(|task| &task.resources);
        tasks.chain(self.executors_on(agent).map(|executor| &executor.resources))
    }

    /// Is a task for an executor that was there when it was launched, and is not now?
    pub(super) fn executor_is_gone(&self, launch: &LaunchTask) -> bool {
        let (Some(executor), Some(info)) = (&launch.executor, &launch.info.executor) else { return false };
        !executor.is_new && self.executor(&launch.framework, &launch.agent, &info.executor_id).is_none()
    }

    /// The first task of an executor brings it along.
    pub(super) fn add_executor(&mut self, launch: &LaunchTask, events: &mut Vec<Event>) {
        let (Some(new), Some(info)) = (&launch.executor, &launch.info.executor) else { return };
        if !new.is_new {
            return;
        }
        let (framework, agent) = (launch.framework.clone(), launch.agent.clone());
        let executor = Executor::new(framework, agent, launch.role.clone(), new.container.clone(), info);
        self.keep_executor(executor, events);
    }

    fn keep_executor(&mut self, executor: Executor, events: &mut Vec<Event>) {
        let Some(framework) = self.frameworks.get_mut(&executor.framework) else { return };
        let executors = &mut Arc::make_mut(framework).executors;
        if let Some(old) = executors.get(&executor.key()) {
            if old.container == executor.container {
                return;
            }
            events.push(old.ended(None));
        }
        events.push(Event::ExecutorLaunched {
            framework: executor.framework.clone(),
            agent: executor.agent.clone(),
            executor: executor.id.clone(),
        });
        executors.insert(executor.key(), Arc::new(executor));
    }

    /// Its agent says that it ended. Also the answer for one that is not known any more.
    pub(super) fn executor_ended(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        id: &ExecutorId,
        container: &ContainerId,
        status: i32,
        events: &mut Vec<Event>,
    ) {
        let known = self.executor(framework, agent, id).filter(|known| known.container == *container).cloned();
        if let Some(known) = known {
            events.push(known.ended(Some(status)));
            self.remove_executor(&known);
        }
        let (framework, agent, container) = (framework.clone(), agent.clone(), container.clone());
        events.push(Event::ExecutorForgotten { framework, agent, container });
    }

    fn remove_executor(&mut self, executor: &Executor) {
        if let Some(framework) = self.frameworks.get_mut(&executor.framework) {
            Arc::make_mut(framework).executors.remove(&executor.key());
        }
    }

    /// The agent is lost, or started anew.
    pub(super) fn end_executors_on(&mut self, agent: &AgentId, events: &mut Vec<Event>) {
        let mine: Vec<Arc<Executor>> = self.executors_on(agent).cloned().collect();
        for executor in mine {
            events.push(executor.ended(None));
            self.remove_executor(&executor);
        }
    }

    /// An agent brings back what was given up when it was.
    pub(super) fn executors_reported(
        &mut self,
        agent: &AgentId,
        reported: &[ReportedExecutor],
        events: &mut Vec<Event>,
    ) {
        for ReportedExecutor { framework, container, info } in reported {
            let Some(known) = self.framework(framework) else { continue };
            let given = info.resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.clone());
            // Of a framework with several roles, the role of its tasks.
            let task = self
                .tasks_on(agent)
                .find(|task| task.framework == *framework && task.executor.as_ref() == Some(&info.executor_id));
            let role = given.or_else(|| task.map(|task| task.role.clone()));
            let role = role.or_else(|| known.info.effective_roles().into_iter().next()).unwrap_or_default();
            let executor = Executor::new(framework.clone(), agent.clone(), role, container.clone(), info);
            self.keep_executor(executor, events);
        }
    }

    /// The same boot is back without some: they ended, unless the word that is to start them is yet to be sent.
    pub(super) fn end_unreported_executors(
        &mut self,
        agent: &AgentId,
        reported: &[ReportedExecutor],
        run: &[(FrameworkId, TaskId)],
        events: &mut Vec<Event>,
    ) {
        let reported: BTreeSet<&ContainerId> = reported.iter().map(|executor| &executor.container).collect();
        let begins = |executor: &Executor| {
            run.iter().any(|(framework, task)| {
                let task = self.task(framework, task);
                *framework == executor.framework
                    && task.is_some_and(|task| task.executor.as_ref() == Some(&executor.id))
            })
        };
        let gone: Vec<Arc<Executor>> = self
            .executors_on(agent)
            .filter(|executor| !reported.contains(&executor.container) && !begins(executor))
            .cloned()
            .collect();
        for executor in gone {
            events.push(executor.ended(None));
            self.remove_executor(&executor);
        }
    }
}
