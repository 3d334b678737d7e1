//! ACCEPT: offers leave the table, operations are applied in order to what they hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::v1::offer::Operation;
use api::v1::offer::operation::Type;
use api::v1::scheduler::call::Accept;
use api::v1::{Reason, Source, TaskInfo, TaskStatus};
use api::{ContainerId, OfferId, Resources, TaskState};

use super::calls::refuse_seconds;
use super::{Leader, Turn};
use crate::acl::Action;
use crate::allocator::Consider;
use crate::command::{Command, LaunchTask};
use crate::offers::OutstandingOffer;
use crate::state::{Framework, seconds};
use crate::validate;

impl Leader {
    pub(super) fn accept(&mut self, turn: &mut Turn<'_>, framework: &Framework, accept: Accept) {
        let ids: Vec<OfferId> = accept.offer_ids.clone();
        let invalid = self.check_offers(framework, &ids).err();
        let offers: Vec<Arc<OutstandingOffer>> =
            ids.iter().filter_map(|id| self.offers.take_of(id, &framework.id)).collect();
        if let Some(invalid) = invalid {
            tracing::info!(framework = %framework.id, reason = %invalid, "accepted offers are not valid");
            for offer in &offers {
                self.give_back(offer, Consider::Later);
            }
            self.drop_launches(turn, framework, &accept.operations, &invalid);
            return;
        }
        let Some(first) = offers.first() else { return };
        turn.counters.offers_accepted += offers.len() as u64;
        let mut remaining = Resources::new();
        for offer in &offers {
            remaining.add_all(&offer.resources);
        }
        for operation in accept.operations {
            self.apply(turn, framework, first, operation, &mut remaining);
        }
        let rest = OutstandingOffer { resources: remaining, ..(**first).clone() };
        self.give_back_refused(turn, &rest, refuse_seconds(accept.filters));
    }

    /// Mesos's order: unique, there, this framework's, one role, one agent.
    fn check_offers(&self, framework: &Framework, ids: &[OfferId]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        if let Some(twice) = ids.iter().find(|id| !seen.insert(*id)) {
            return Err(format!("Duplicate offer {twice} in offer list"));
        }
        let mut first: Option<&Arc<OutstandingOffer>> = None;
        for id in ids {
            let offer = self.offers.get(id).ok_or_else(|| format!("Offer {id} is no longer valid"))?;
            if offer.framework != framework.id {
                let (theirs, ours) = (&offer.framework, &framework.id);
                return Err(format!("Offer {id} has invalid framework {theirs} while framework {ours} is expected"));
            }
            let first = *first.get_or_insert(offer);
            if offer.role != first.role {
                return Err(format!(
                    "Aggregated offers must be allocated to the same role. Offer {id} uses role '{}' but another is \
                     using role '{}'",
                    offer.role, first.role
                ));
            }
            if offer.agent != first.agent {
                return Err(format!(
                    "Aggregated offers must belong to one single agent. Offer {id} uses agent {} and offer {} uses \
                     agent {}",
                    offer.agent, first.id, first.agent
                ));
            }
        }
        first.map(|_| ()).ok_or_else(|| "No offers specified".to_owned())
    }

    fn drop_launches(&self, turn: &mut Turn<'_>, framework: &Framework, operations: &[Operation], why: &str) {
        let groups = operations.iter().filter_map(|operation| operation.launch_group.as_ref());
        let grouped = groups.flat_map(|group| &group.task_group.tasks);
        let single = operations.iter().filter_map(|operation| operation.launch.as_ref());
        for task in single.flat_map(|launch| &launch.task_infos).chain(grouped) {
            let state = framework.lost_or(TaskState::Dropped);
            let message = format!("Task launched with invalid offers: {why}");
            self.reject(turn, framework, task, state, Reason::InvalidOffers, message);
        }
    }

    /// Tells of a task that never was. Without uuid: there is nothing to acknowledge.
    fn reject(
        &self,
        turn: &mut Turn<'_>,
        framework: &Framework,
        task: &TaskInfo,
        state: TaskState,
        reason: Reason,
        message: String,
    ) {
        tracing::info!(framework = %framework.id, task = %task.task_id, reason = %message, "task not launched");
        if state == TaskState::Error {
            turn.counters.tasks_error += 1;
        } else {
            turn.counters.tasks_lost += 1;
        }
        let mut status = TaskStatus::new(task.task_id.clone(), state);
        status.source = Some(Source::Master.into());
        status.reason = Some(reason.into());
        status.message = Some(message);
        status.agent_id = Some(task.agent_id.clone());
        status.timestamp = Some(seconds(turn.now.unix_ms));
        self.tell_status(turn, &framework.id, status);
    }

    fn apply(
        &mut self,
        turn: &mut Turn<'_>,
        framework: &Framework,
        offer: &OutstandingOffer,
        operation: Operation,
        remaining: &mut Resources,
    ) {
        let kind = operation.r#type();
        match (kind, operation.launch, operation.launch_group) {
            (Type::Launch, Some(launch), _) => {
                for task in launch.task_infos {
                    if operation.id.is_some() {
                        let message = "Operation ID is not supported for LAUNCH".to_owned();
                        self.reject(turn, framework, &task, TaskState::Error, Reason::TaskInvalid, message);
                    } else {
                        self.launch(turn, framework, offer, task, remaining);
                    }
                }
            }
            (Type::LaunchGroup, _, Some(group)) => {
                for task in &group.task_group.tasks {
                    let message =
                        "Task groups are not supported by this master: launch tasks with a command".to_owned();
                    self.reject(turn, framework, task, TaskState::Error, Reason::TaskGroupInvalid, message);
                }
            }
            // Without an id nobody waits for an answer, as in Mesos.
            _ => {
                let operation = kind.as_str_name();
                tracing::warn!(framework = %framework.id, operation, "dropped an operation that is not supported");
            }
        }
    }

    fn launch(
        &mut self,
        turn: &mut Turn<'_>,
        framework: &Framework,
        offer: &OutstandingOffer,
        task: TaskInfo,
        remaining: &mut Resources,
    ) {
        let id = task.task_id.clone();
        let active = self.state_of(turn, &framework.id, &id);
        let resources = match validate::task(&task, &offer.agent, active, remaining) {
            Ok(resources) => resources,
            Err(message) => {
                self.reject(turn, framework, &task, TaskState::Error, Reason::TaskInvalid, message);
                return;
            }
        };
        let user = user_of(&task, framework);
        let principal = framework.info.principal.as_deref();
        if !self.config.acls.allows(principal, Action::RunTask, Some(&user)) {
            let message = format!(
                "Principal '{}' no authorized to launch task {id} of framework {} under user '{user}'",
                principal.unwrap_or_default(),
                framework.id
            );
            self.reject(turn, framework, &task, TaskState::Error, Reason::TaskUnauthorized, message);
            return;
        }
        if let Some(rest) = remaining.checked_sub(&resources) {
            *remaining = rest;
        }
        self.launching.insert((framework.id.clone(), id));
        turn.propose(Command::LaunchTask(Box::new(LaunchTask {
            framework: framework.id.clone(),
            agent: offer.agent.clone(),
            role: offer.role.clone(),
            container: ContainerId(self.random.uuid()),
            info: task,
            resources,
            at: turn.now.unix_ms,
        })));
    }
}

/// The command's user, the executor's command's, or the framework's.
fn user_of(task: &TaskInfo, framework: &Framework) -> String {
    let command = task.command.as_ref().and_then(|command| command.user.clone());
    let executor = task.executor.as_ref().and_then(|executor| executor.command.as_ref());
    let executor = || executor.and_then(|command| command.user.clone());
    command.or_else(executor).unwrap_or_else(|| framework.info.user.clone())
}
