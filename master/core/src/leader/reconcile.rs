//! RECONCILE: the latest of each task asked for, or of all.

use api::v1::scheduler::call::Reconcile;
use api::v1::{Reason, Source, TaskStatus, TimeInfo};
use api::{AgentId, FrameworkId, TaskId, TaskState};

use super::{Leader, Turn};
use crate::state::{Framework, Reachability, Task, seconds};

impl Leader {
    pub(super) fn reconcile(&self, turn: &mut Turn<'_>, framework: &Framework, reconcile: Reconcile) {
        if reconcile.tasks.is_empty() {
            // Those that cannot be reached are told only when asked for, as by Mesos.
            for task in framework.tasks.values().filter(|task| task.state != TaskState::Unreachable) {
                let status = latest(turn, framework, task);
                self.tell_status(turn, &framework.id, status);
            }
            return;
        }
        for task in reconcile.tasks {
            let agent = task.agent_id.filter(|agent| !agent.as_str().is_empty());
            self.reconcile_one(turn, &framework.id, &task.task_id, agent.as_ref());
        }
    }

    /// Also the answer to a KILL of a task that is not there.
    pub(super) fn reconcile_one(
        &self,
        turn: &mut Turn<'_>,
        framework_id: &FrameworkId,
        task: &TaskId,
        agent: Option<&AgentId>,
    ) {
        let Some(framework) = turn.state.framework(framework_id) else { return };
        if let Some(task) = turn.state.task(framework_id, task) {
            let status = latest(turn, framework, task);
            self.tell_status(turn, framework_id, status);
            return;
        }
        let known = agent.and_then(|agent| turn.state.agents.get(agent));
        let mut unreachable_since = None;
        let (state, message) = if self.launching.contains(&(framework_id.clone(), task.clone())) {
            (TaskState::Staging, "Reconciliation: Latest task state")
        } else if agent.is_some_and(|agent| turn.state.gone.contains_key(agent)) {
            (framework.lost_or(TaskState::GoneByOperator), "Reconciliation: Task is gone")
        } else {
            match known.map(|agent| agent.reachability) {
                Some(Reachability::Reachable) => {
                    (framework.lost_or(TaskState::Gone), "Reconciliation: Task is unknown to the agent")
                }
                Some(Reachability::Unreachable { since }) => {
                    unreachable_since = Some(since);
                    (framework.lost_or(TaskState::Unreachable), "Reconciliation: Task is unreachable")
                }
                Some(Reachability::Removed { .. }) | None => {
                    (framework.lost_or(TaskState::Unknown), "Reconciliation: Task is unknown")
                }
            }
        };
        let mut status = TaskStatus::new(task.clone(), state);
        status.source = Some(Source::Master.into());
        status.reason = Some(Reason::Reconciliation.into());
        status.message = Some(message.to_owned());
        status.agent_id = agent.cloned();
        status.timestamp = Some(seconds(turn.now.unix_ms));
        status.unreachable_time = unreachable_since.map(TimeInfo::from_unix_ms);
        self.tell_status(turn, framework_id, status);
    }
}

/// What the framework was told last, told again.
fn latest(turn: &Turn<'_>, framework: &Framework, task: &Task) -> TaskStatus {
    let last = task.last_status();
    let told = last.as_ref().map_or(TaskState::Staging, TaskStatus::state);
    let state = if told == TaskState::Unreachable { framework.lost_or(told) } else { told };
    let what = if told == TaskState::Unreachable { "Task is unreachable" } else { "Latest task state" };
    let message = format!("Reconciliation: {what}");
    let mut status = task.master_status(state, Reason::Reconciliation, message, turn.now.unix_ms);
    if let Some(last) = last {
        status.check_status = last.check_status;
        status.container_status = last.container_status;
        status.healthy = last.healthy;
        status.unreachable_time = last.unreachable_time;
    }
    status
}
