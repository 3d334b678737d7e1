//! Agents an operator takes out of use: deactivated, draining, drained, gone.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::v1::Reason;
use api::{AgentId, FrameworkId, TaskState};
use serde::{Deserialize, Serialize};

use super::{KillRequest, MAX_GONE_AGENTS, State, Task};
use crate::event::Event;
use crate::io::operator::Refusal;

/// What a task without a kill policy gets.
const DEFAULT_GRACE_MS: u64 = 3000;

/// An agent that drains, or has.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Drain {
    /// No task gets more time than this to end.
    pub max_grace_ms: Option<u64>,
    /// Once drained it is gone.
    pub mark_gone: bool,
    /// Nothing is left on it.
    pub drained: bool,
    /// Milliseconds since 1970.
    pub since: u64,
}

impl Drain {
    /// What a kill for draining gives a task.
    pub(super) fn grace_of(&self, task: &Task) -> Option<u64> {
        let own = task.grace_ms().unwrap_or(DEFAULT_GRACE_MS);
        self.max_grace_ms.map(|most| most.min(own))
    }
}

impl State {
    pub(super) fn drain_agent(&mut self, id: &AgentId, drain: Drain, events: &mut Vec<Event>) -> Result<(), Refusal> {
        let Some(agent) = self.agents.get(id) else { return Err(Refusal::bad_request("Unknown agent")) };
        if let Some(machine) = self.maintenance.machine_of(agent) {
            let text = format!("Agent {id} is part of a maintenance schedule under Machine {machine}");
            return Err(Refusal::bad_request(text));
        }
        if let Some(agent) = self.agents.get_mut(id) {
            let agent = Arc::make_mut(agent);
            agent.drain = Some(drain);
            agent.deactivated = true;
        }
        self.draining.insert(id.clone());
        events.push(Event::AgentActivityChanged { agent: id.clone() });
        let mine: Vec<Arc<Task>> = self.tasks_on(id).filter(|task| !task.state.is_terminal()).cloned().collect();
        for task in mine {
            let (framework, grace_ms) = (task.framework.clone(), drain.grace_of(&task));
            if let Some(task) = self.task_mut(&framework, task.id()) {
                task.kill = Some(KillRequest { grace_ms });
            }
            events.push(Event::KillRequested { framework, task: task.id().clone() });
        }
        self.check_drained(id, events);
        Ok(())
    }

    /// Is nothing left on a draining agent?
    pub(super) fn check_drained(&mut self, id: &AgentId, events: &mut Vec<Event>) {
        if !self.draining.contains(id) {
            return;
        }
        let busy = self.tasks_on(id).any(|task| task.state != TaskState::Unreachable)
            || self.operations.values().any(|operation| operation.agent == *id);
        if busy {
            return;
        }
        self.draining.remove(id);
        let Some(agent) = self.agents.get_mut(id).map(Arc::make_mut) else { return };
        let Some(drain) = agent.drain.as_mut() else { return };
        drain.drained = true;
        events.push(Event::AgentDrained { agent: id.clone(), mark_gone: drain.mark_gone });
    }

    pub(super) fn deactivate_agent(&mut self, id: &AgentId, events: &mut Vec<Event>) -> Result<(), Refusal> {
        let Some(agent) = self.agents.get_mut(id) else { return Err(Refusal::bad_request("Unknown agent")) };
        Arc::make_mut(agent).deactivated = true;
        events.push(Event::AgentActivityChanged { agent: id.clone() });
        Ok(())
    }

    pub(super) fn reactivate_agent(&mut self, id: &AgentId, events: &mut Vec<Event>) -> Result<(), Refusal> {
        let agent = self.agents.get_mut(id).filter(|agent| agent.deactivated);
        let Some(agent) = agent else { return Err(Refusal::bad_request("Agent is not deactivated")) };
        if agent.drain.is_some_and(|drain| !drain.drained) {
            return Err(Refusal::bad_request("Agent is still in the DRAINING state"));
        }
        let agent = Arc::make_mut(agent);
        agent.deactivated = false;
        agent.drain = None;
        events.push(Event::AgentActivityChanged { agent: id.clone() });
        Ok(())
    }

    pub(super) fn mark_agent_gone(&mut self, id: &AgentId, at: u64, events: &mut Vec<Event>) -> Result<(), Refusal> {
        const WHY: &str = "Agent has been marked gone";
        if self.gone.contains_key(id) {
            return Ok(());
        }
        let Some(agent) = self.agents.get(id) else {
            return Err(Refusal { status: 404, text: format!("Agent '{id}' not found") });
        };
        let node = agent.node.clone();
        let mine: Vec<Arc<Task>> = self.tasks_on(id).cloned().collect();
        let mut frameworks = BTreeSet::new();
        for task in mine {
            frameworks.insert(task.framework.clone());
            let aware = self.framework(&task.framework).is_some_and(super::Framework::is_partition_aware);
            let (state, reason) = if task.state.is_terminal() {
                (task.state, Reason::AgentRemovedByOperator)
            } else if aware {
                (TaskState::GoneByOperator, Reason::AgentRemovedByOperator)
            } else {
                (TaskState::Lost, Reason::AgentRemoved)
            };
            let status = task.master_status(state, reason, WHY, at);
            self.end_task(&task.framework, task.id(), status, at, events);
        }
        self.end_executors_on(id, events);
        self.operations.retain(|_, operation| operation.agent != *id);
        self.draining.remove(id);
        self.agents.remove(id);
        self.nodes.remove(&node);
        if self.gone.len() >= MAX_GONE_AGENTS
            && let Some(oldest) = self.gone.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone())
        {
            self.gone.remove(&oldest);
        }
        self.gone.insert(id.clone(), at);
        let frameworks: Vec<FrameworkId> = frameworks.into_iter().collect();
        events.push(Event::AgentGone { agent: id.clone(), frameworks });
        Ok(())
    }

    /// The reason of an update, where draining is the cause.
    pub(super) fn drains(&self, agent: &AgentId) -> bool {
        self.draining.contains(agent)
    }
}
