//! From committed events to messages: only what is in the log is told.

use api::TaskState;
use api::v1::{Reason, Source, TaskStatus};

use super::agents::Comeback;
use super::{Leader, Turn};
use crate::allocator::Consider;
use crate::command::LaunchTask;
use crate::event::{Event, LaunchDropped};
use crate::io::ToAgent;
use crate::io::operator::OperatorWrite;
use crate::state::seconds;

impl Leader {
    pub(crate) fn react(&mut self, turn: &mut Turn<'_>, event: Event) {
        match event {
            Event::FrameworkSubscribed { framework, stream } => self.subscribed(turn, &framework, stream),
            Event::SubscribeRefused { stream } => self.subscribe_refused(turn, stream, "Framework has been removed"),
            Event::FrameworkUpdated { framework } => self.framework_updated(turn, &framework),
            Event::FrameworkDisconnected { framework, remove_at } => {
                self.framework_disconnected(turn, &framework, remove_at);
            }
            Event::FrameworkRemoved { framework, agents } => self.framework_removed(turn, &framework, &agents),
            Event::TaskLaunched { framework, task } => {
                let charged = self.launching.remove(&(framework.clone(), task.clone()));
                turn.counters.tasks_launched += 1;
                let Some(task) = turn.state.task(&framework, &task) else { return };
                if !charged {
                    self.allocator.charge(&framework, &task.role, &task.agent, &task.resources); // a former leader's
                }
                if task.group.is_none() {
                    self.run_task(turn, task);
                }
            }
            Event::GroupLaunched { framework, tasks } => self.run_group(turn, &framework, &tasks),
            Event::ExecutorLaunched { framework, agent, executor } => {
                self.executor_launched(turn, framework, agent, executor);
            }
            Event::ExecutorEnded { framework, agent, executor, role, resources, status } => {
                self.executor_ended(turn, &framework, &agent, executor, (&role, &resources), status);
            }
            Event::ExecutorForgotten { framework, agent, container } => {
                if let Some(session) = self.session_of(&agent) {
                    turn.tell_agent(session, ToAgent::ForgetExecutor { framework, container });
                }
            }
            Event::LaunchDropped { launch, why } => self.launch_dropped(turn, &launch, why),
            Event::KillRequested { framework, task } => {
                let Some(task) = turn.state.task(&framework, &task) else { return };
                self.send_kill(turn, task);
            }
            Event::KillUnknown { framework, task, agent } => {
                self.reconcile_one(turn, &framework, &task, agent.as_ref())
            }
            Event::TaskUpdated { framework, status } => {
                count(turn, &status);
                #[cfg(feature = "planted-bugs")]
                self.acknowledge_too_early(turn, &framework, &status);
                self.tell_status(turn, &framework, *status);
            }
            Event::UpdateObsolete { framework, agent, task, uuid } => {
                if let (Some(session), Some(uuid)) = (self.session_of(&agent), uuid) {
                    turn.tell_agent(session, ToAgent::Acknowledge { framework, task, uuid });
                }
            }
            Event::Acknowledged { framework, agent, task, uuid } => {
                if let Some(session) = self.session_of(&agent) {
                    turn.tell_agent(session, ToAgent::Acknowledge { framework, task, uuid });
                }
            }
            Event::ResourcesFreed { framework, role, agent, resources, .. } => {
                self.allocator.recover(&framework, &role, &agent, &resources, Consider::Now);
            }
            Event::AgentRegistered { agent, node, run, kill, shutdown } => {
                self.agent_registered(turn, &agent, &node);
                self.catch_up(turn, &agent, run, kill, shutdown);
            }
            Event::AgentUnknown { agent, node } => self.agent_unknown(turn, &agent, &node),
            Event::CapacityChanged { agent } => {
                self.capacity_changed(turn, &agent);
                self.tell_network_by_facts(turn, &agent);
            }
            Event::NetworkRulesChanged => self.tell_networks(turn),
            Event::DiskRulesChanged => self.disk_rules_changed(turn),
            Event::AgentUnreachable { agent, frameworks } => {
                tracing::warn!(%agent, frameworks = frameworks.len(), "agent is unreachable");
                self.agent_unreachable(turn, &agent);
            }
            Event::AgentRefused { agent, node, why, retry, shutdown } => {
                let comeback = if retry { Comeback::Welcome } else { Comeback::Barred };
                self.agent_refused(turn, (&agent, &node), &shutdown, &why, comeback);
            }
            Event::AgentRemoved { agent, frameworks, why } => {
                self.agent_dismissed(turn, &agent, &frameworks, &why, Comeback::Welcome);
            }
            Event::AgentGone { agent, frameworks } => {
                self.agent_dismissed(turn, &agent, &frameworks, "Agent has been marked gone", Comeback::Barred);
            }
            Event::AgentActivityChanged { agent } => self.activity_changed(turn, &agent),
            Event::AgentDrained { agent, mark_gone } => {
                tracing::info!(%agent, mark_gone, "agent drained");
                if mark_gone {
                    self.propose_write(turn, OperatorWrite::MarkAgentGone(agent));
                }
            }
            Event::ConversionsLost { .. } => turn.counters.conversions_lost += 1,
            Event::OperationApplied { apply } => self.operation_applied(turn, &apply),
            Event::OperationDropped { apply, why } => self.operation_dropped(turn, &apply, &why),
            Event::OperationAcknowledged { uuid } => self.operation_acknowledged(uuid),
            Event::ResourcesConverted { agent, from, to } => self.converted(turn, &agent, &from, &to),
            Event::ConversionRefused { agent } => self.conversion_over(turn, &agent),
            Event::WeightsUpdated { roles } => self.weights_updated(turn, &roles),
            Event::QuotasUpdated { roles } => self.quotas_updated(turn, &roles),
            Event::MaintenanceUpdated => self.maintenance_updated(turn),
            Event::OperatorDone { token, outcome } => self.operator_done(turn, token, outcome),
        }
    }

    #[cfg(feature = "planted-bugs")]
    fn acknowledge_too_early(&self, turn: &mut Turn<'_>, framework: &api::FrameworkId, status: &TaskStatus) {
        let session = status.agent_id.as_ref().and_then(|agent| self.session_of(agent));
        if crate::planted::is(crate::planted::Bug::AcknowledgedTooEarly)
            && let (Some(session), Some(uuid)) = (session, status.uuid_bytes())
        {
            let (framework, task) = (framework.clone(), status.task_id.clone());
            turn.tell_agent(session, ToAgent::Acknowledge { framework, task, uuid });
        }
    }

    fn launch_dropped(&mut self, turn: &mut Turn<'_>, launch: &LaunchTask, why: LaunchDropped) {
        let task = &launch.info.task_id;
        let LaunchTask { framework, role, agent, resources, .. } = launch;
        let charged = match why {
            // The entry belongs to the task that has the id.
            LaunchDropped::Duplicate => true,
            LaunchDropped::FrameworkRemoved
            | LaunchDropped::AgentRemoved
            | LaunchDropped::AgentDraining
            | LaunchDropped::ResourcesGone
            | LaunchDropped::ExecutorGone => self.launching.remove(&(framework.clone(), task.clone())),
        };
        if charged {
            self.allocator.recover(framework, role, agent, resources, Consider::Now);
        }
        self.executor_not_launched(framework, agent, role, &launch.info, launch.executor.as_ref());
        let mut status = TaskStatus::new(task.clone(), TaskState::Lost);
        status.source = Some(Source::Master.into());
        status.agent_id = Some(agent.clone());
        status.timestamp = Some(seconds(turn.now.unix_ms));
        match why {
            LaunchDropped::FrameworkRemoved => return,
            LaunchDropped::Duplicate => {
                status.state = TaskState::Error.into();
                status.reason = Some(Reason::TaskInvalid.into());
                status.message = Some(format!("Task has duplicate ID: {task}"));
            }
            LaunchDropped::AgentRemoved => {
                let framework = turn.state.framework(framework);
                let state = framework.map_or(TaskState::Lost, |framework| framework.lost_or(TaskState::Dropped));
                status.state = state.into();
                status.reason = Some(Reason::AgentRemoved.into());
                status.message = Some("Agent removed".to_owned());
            }
            LaunchDropped::AgentDraining => {
                let framework = turn.state.framework(framework);
                let state = framework.map_or(TaskState::Lost, |framework| framework.lost_or(TaskState::Dropped));
                status.state = state.into();
                status.reason = Some(Reason::AgentDraining.into());
                status.message = Some("Agent is draining".to_owned());
            }
            LaunchDropped::ResourcesGone => {
                let framework = turn.state.framework(framework);
                let state = framework.map_or(TaskState::Lost, |framework| framework.lost_or(TaskState::Dropped));
                status.state = state.into();
                status.reason = Some(Reason::ResourcesUnknown.into());
                status.message = Some("Operation required by the task is not applied on the agent".to_owned());
            }
            LaunchDropped::ExecutorGone => {
                let framework = turn.state.framework(framework);
                let state = framework.map_or(TaskState::Lost, |framework| framework.lost_or(TaskState::Dropped));
                status.state = state.into();
                status.reason = Some(Reason::ExecutorTerminated.into());
                status.message = Some("The executor ended before the task reached it".to_owned());
            }
        }
        self.tell_status(turn, framework, status);
    }
}

fn count(turn: &mut Turn<'_>, status: &TaskStatus) {
    let counter = match status.state() {
        TaskState::Finished => &mut turn.counters.tasks_finished,
        TaskState::Failed => &mut turn.counters.tasks_failed,
        TaskState::Killed => &mut turn.counters.tasks_killed,
        TaskState::Error => &mut turn.counters.tasks_error,
        TaskState::Lost | TaskState::Dropped | TaskState::Gone | TaskState::GoneByOperator => {
            &mut turn.counters.tasks_lost
        }
        TaskState::Staging
        | TaskState::Starting
        | TaskState::Running
        | TaskState::Killing
        | TaskState::Unreachable
        | TaskState::Unknown => return,
    };
    *counter += 1;
}
