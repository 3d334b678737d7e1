//! ACCEPT: offers leave the table, operations are applied in order to what they hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::v1::offer::Operation;
use api::v1::offer::operation::Type;
use api::v1::scheduler::call::Accept;
use api::v1::{Reason, Source, TaskInfo, TaskStatus, resources_from_wire};
use api::{ContainerId, Milli, OfferId, OperationId, Resources, TaskState};

use super::calls::refuse_seconds;
use super::operations::{Accepting, OperationReport};
use super::{Leader, Turn};
use crate::acl::Action;
use crate::allocator::Consider;
use crate::command::{Command, LaunchTask};
use crate::offers::OutstandingOffer;
use crate::operation::ResourceOperation;
use crate::state::{Framework, OperationState, seconds};
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
            for operation in &accept.operations {
                if !matches!(operation.r#type(), Type::Launch | Type::LaunchGroup) {
                    let why = format!("Operation attempted with invalid offers: {invalid}");
                    self.operation_invalid(turn, framework, operation.id.as_ref(), why);
                }
            }
            return;
        }
        let Some(first) = offers.first() else { return };
        turn.counters.offers_accepted += offers.len() as u64;
        let mut offered = Resources::new();
        for offer in &offers {
            offered.add_all(&offer.resources);
        }
        let mut accepting = Accepting {
            framework,
            offer: first,
            shared: offered.filter(|resource| resource.shared),
            remaining: offered.clone(),
            resized: Resources::new(),
            last: None,
        };
        for operation in accept.operations {
            self.apply(turn, &mut accepting, operation);
        }
        self.keep_converted(&mut accepting, &offered);
        let rest = OutstandingOffer { resources: accepting.remaining, ..(**first).clone() };
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

    /// An operation that never was. Without an id nobody waits for an answer, as in Mesos.
    fn operation_invalid(&self, turn: &mut Turn<'_>, framework: &Framework, id: Option<&OperationId>, why: String) {
        tracing::warn!(framework = %framework.id, reason = %why, "dropped an operation");
        if let Some(id) = id {
            let report = OperationReport::new(id.as_str(), OperationState::Error, Some(why));
            self.tell_operation(turn, &framework.id, report);
        }
    }

    fn apply(&mut self, turn: &mut Turn<'_>, accepting: &mut Accepting<'_>, operation: Operation) {
        let framework = accepting.framework;
        let kind = operation.r#type();
        match kind {
            Type::Launch => {
                for task in operation.launch.unwrap_or_default().task_infos {
                    if operation.id.is_some() {
                        let message = "Operation ID is not supported for LAUNCH".to_owned();
                        self.reject(turn, framework, &task, TaskState::Error, Reason::TaskInvalid, message);
                    } else {
                        self.launch(turn, accepting, task);
                    }
                }
            }
            Type::LaunchGroup => {
                for task in &operation.launch_group.unwrap_or_default().task_group.tasks {
                    let message =
                        "Task groups are not supported by this master: launch tasks with a command".to_owned();
                    self.reject(turn, framework, task, TaskState::Error, Reason::TaskGroupInvalid, message);
                }
            }
            Type::Unknown
            | Type::Reserve
            | Type::Unreserve
            | Type::Create
            | Type::Destroy
            | Type::GrowVolume
            | Type::ShrinkVolume
            | Type::CreateDisk
            | Type::DestroyDisk => {
                let id = operation.id.clone();
                let applied = resource_operation(operation)
                    .and_then(|ours| self.convert(turn, accepting, id.as_ref().map(ToString::to_string), ours));
                if let Err(why) = applied {
                    self.operation_invalid(turn, framework, id.as_ref(), why);
                }
            }
        }
    }

    fn launch(&mut self, turn: &mut Turn<'_>, accepting: &mut Accepting<'_>, task: TaskInfo) {
        let (framework, offer) = (accepting.framework, accepting.offer);
        let id = task.task_id.clone();
        let active = self.state_of(turn, &framework.id, &id);
        let mut available = accepting.remaining.filter(|resource| !resource.shared);
        available.add_all(&accepting.shared);
        let resources = match validate::task(&task, &offer.agent, &offer.role, active, &available) {
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
        for resource in &resources {
            let one: Resources = [resource.clone()].into_iter().collect();
            if let Some(rest) = accepting.remaining.checked_sub(&one) {
                accepting.remaining = rest;
            } else {
                // Another copy of a shared volume.
                self.allocator.charge(&framework.id, &offer.role, &offer.agent, &one);
            }
        }
        self.launching.insert((framework.id.clone(), id));
        turn.propose(Command::LaunchTask(Box::new(LaunchTask {
            framework: framework.id.clone(),
            agent: offer.agent.clone(),
            role: offer.role.clone(),
            container: ContainerId::from(self.random.uuid()),
            info: task,
            resources,
            at: turn.now.unix_ms,
        })));
    }
}

/// With our types. The texts are those of what Mesos would find missing or unsupported.
fn resource_operation(wire: Operation) -> Result<ResourceOperation, String> {
    let kind = wire.r#type();
    let missing = || format!("Expecting '{}' to be present", kind.as_str_name().to_lowercase());
    let all = |wire: &[api::v1::Resource]| {
        resources_from_wire(wire).map_err(|error| format!("Invalid resources: Invalid resources: {error}"))
    };
    let one = |wire: api::v1::Resource, field: &str| {
        let read = resources_from_wire(&[wire])
            .map_err(|error| format!("Invalid resource in the '{field}' field: {error}"))?;
        let first = read.iter().next().cloned().map(Box::new);
        first.ok_or_else(|| format!("Invalid resource in the '{field}' field: it is empty"))
    };
    Ok(match kind {
        Type::Reserve => {
            let reserve = wire.reserve.ok_or_else(missing)?;
            ResourceOperation::Reserve { source: all(&reserve.source)?, resources: all(&reserve.resources)? }
        }
        Type::Unreserve => {
            ResourceOperation::Unreserve { resources: all(&wire.unreserve.ok_or_else(missing)?.resources)? }
        }
        Type::Create => ResourceOperation::Create { volumes: all(&wire.create.ok_or_else(missing)?.volumes)? },
        Type::Destroy => ResourceOperation::Destroy { volumes: all(&wire.destroy.ok_or_else(missing)?.volumes)? },
        Type::GrowVolume => {
            let grow = *wire.grow_volume.ok_or_else(missing)?;
            let volume = one(grow.volume, "GrowVolume.volume")?;
            let mut addition = grow.addition;
            // Nothing of it is told apart from a resource that is malformed.
            if addition.scalar.as_ref().is_some_and(|scalar| scalar.value <= 0.0) {
                return Err("The size of 'GrowVolume.addition' field must be greater than zero".to_owned());
            }
            addition.allocation_info = None;
            ResourceOperation::Grow { volume, addition: one(addition, "GrowVolume.addition")? }
        }
        Type::ShrinkVolume => {
            let shrink = *wire.shrink_volume.ok_or_else(missing)?;
            let volume = one(shrink.volume, "ShrinkVolume.volume")?;
            let subtract = Milli::from_units(shrink.subtract.value).unwrap_or_default();
            ResourceOperation::Shrink { volume, subtract }
        }
        Type::CreateDisk | Type::DestroyDisk => {
            return Err("Invalid resource: 'source' is not managed by a resource provider".to_owned());
        }
        Type::Unknown | Type::Launch | Type::LaunchGroup => return Err("Unknown operation".to_owned()),
    })
}

/// The command's user, the executor's command's, or the framework's.
fn user_of(task: &TaskInfo, framework: &Framework) -> String {
    let command = task.command.as_ref().and_then(|command| command.user.clone());
    let executor = task.executor.as_ref().and_then(|executor| executor.command.as_ref());
    let executor = || executor.and_then(|command| command.user.clone());
    command.or_else(executor).unwrap_or_else(|| framework.info.user.clone())
}
