//! ACCEPT: offers leave the table, operations are applied in order to what they hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::v1::offer::Operation;
use api::v1::offer::operation::{LaunchGroup, Type};
use api::v1::scheduler::call::Accept;
use api::v1::{AgentCapabilities, Reason, Source, TaskInfo, TaskStatus};
use api::{AgentId, ContainerId, OfferId, OperationId, Resources, TaskState};

use super::calls::refuse_seconds;
use super::conversion::resource_operation;
use super::operations::{Accepting, OperationReport};
use super::{Leader, Turn};
use crate::allocator::Consider;
use crate::command::{Command, LaunchTask};
use crate::offers::OutstandingOffer;
use crate::state::{Framework, OperationState, seconds};
use crate::validate::{self, GroupNeeds};

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
            agent_total: None,
            last: None,
        };
        // All are looked at before the first is applied.
        let operations = accept.operations.into_iter();
        let valid: Vec<Operation> =
            operations.filter_map(|operation| self.check_operation(turn, framework, operation)).collect();
        for operation in valid {
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
                    "Aggregated offers must belong to one single agent. Offer {id} uses agent {} and agent {}",
                    offer.agent, first.agent
                ));
            }
        }
        first.map(|_| ()).ok_or_else(|| "No offers specified".to_owned())
    }

    fn drop_launches(&self, turn: &mut Turn<'_>, framework: &Framework, operations: &[Operation], why: &str) {
        for task in operations.iter().flat_map(tasks_of) {
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

    /// Are its resources any, and may it ask for feedback? What is wrong is told.
    fn check_operation(&self, turn: &mut Turn<'_>, framework: &Framework, operation: Operation) -> Option<Operation> {
        let kind = operation.r#type();
        let launch = matches!(kind, Type::Launch | Type::LaunchGroup);
        let why = match validate::operation(&operation) {
            Err(why) if launch => why,
            Err(why) => format!("Operation attempted with invalid resources: {why}"),
            Ok(()) if launch && operation.id.is_some() => {
                format!("The `id` field cannot be set on {} operations", kind.as_str_name())
            }
            Ok(()) => return Some(operation),
        };
        let reason = if kind == Type::LaunchGroup { Reason::TaskGroupInvalid } else { Reason::TaskInvalid };
        for task in tasks_of(&operation) {
            self.reject(turn, framework, task, TaskState::Error, reason, why.clone());
        }
        if !launch {
            self.operation_invalid(turn, framework, operation.id.as_ref(), why);
        }
        None
    }

    fn apply(&mut self, turn: &mut Turn<'_>, accepting: &mut Accepting<'_>, operation: Operation) {
        let framework = accepting.framework;
        match operation.r#type() {
            Type::Launch => {
                for task in operation.launch.unwrap_or_default().task_infos {
                    self.launch(turn, accepting, task);
                }
            }
            Type::LaunchGroup => {
                if let Some(group) = operation.launch_group {
                    self.launch_group(turn, accepting, *group);
                }
            }
            Type::Unknown => {
                tracing::warn!(framework = %framework.id, "ignored an operation of no known type");
            }
            Type::Reserve
            | Type::Unreserve
            | Type::Create
            | Type::Destroy
            | Type::GrowVolume
            | Type::ShrinkVolume
            | Type::CreateDisk
            | Type::DestroyDisk => {
                let (id, offer) = (operation.id.clone(), accepting.offer);
                let place =
                    || turn.state.agents.get(&offer.agent).map(|agent| format!("; on agent {}", agent.described()));
                let ours = resource_operation(operation).map_err(|why| format!("{why}{}", place().unwrap_or_default()));
                let applied =
                    ours.and_then(|ours| self.convert(turn, accepting, id.as_ref().map(ToString::to_string), ours));
                if let Err(why) = applied {
                    self.operation_invalid(turn, framework, id.as_ref(), why);
                }
            }
        }
    }

    /// All of the group, or nothing.
    fn launch_group(&mut self, turn: &mut Turn<'_>, accepting: &mut Accepting<'_>, mut group: LaunchGroup) {
        let (framework, offer) = (accepting.framework, accepting.offer);
        group.task_group.tasks.iter_mut().for_each(validate::complete_check);
        let needs = match self.group_needs(turn, accepting, &group) {
            Ok(needs) => needs,
            Err((why, reason)) => {
                for task in &group.task_group.tasks {
                    self.reject(turn, framework, task, TaskState::Error, reason, why.clone());
                }
                return;
            }
        };
        let GroupNeeds { tasks: needs, executor } = needs;
        for resources in needs.iter().chain(&executor) {
            self.take(accepting, resources);
        }
        let mut executor = executor;
        let first = group.task_group.tasks.first().map(|task| task.task_id.clone());
        let mut launches = Vec::with_capacity(needs.len());
        for (mut task, resources) in group.task_group.tasks.into_iter().zip(needs) {
            task.executor = Some(Box::new(group.executor.clone()));
            let executor = self.executor_for(turn, &framework.id, offer, &task, executor.take());
            self.launching.insert((framework.id.clone(), task.task_id.clone()));
            launches.push(LaunchTask {
                framework: framework.id.clone(),
                agent: offer.agent.clone(),
                role: offer.role.clone(),
                container: ContainerId::from(self.random.uuid()),
                info: task,
                resources,
                at: turn.now.unix_ms,
                executor,
                group: first.clone(),
            });
        }
        turn.propose(Command::LaunchGroup(launches));
    }

    /// What a group takes, or why it is not launched.
    fn group_needs(
        &self,
        turn: &Turn<'_>,
        accepting: &Accepting<'_>,
        group: &LaunchGroup,
    ) -> Result<GroupNeeds, (String, Reason)> {
        let (framework, offer) = (accepting.framework, accepting.offer);
        for task in &group.task_group.tasks {
            if let Err(forbidden) = self.may_launch(framework, task, Some(&group.executor)) {
                let why = format!("Task '{}' is not authorized to{forbidden}", task.task_id);
                return Err((why, Reason::TaskGroupUnauthorized));
            }
        }
        let place = validate::Place {
            framework: &framework.id,
            agent: &offer.agent,
            role: &offer.role,
            available: &accepting.remaining,
            capabilities: capabilities(turn, &offer.agent),
        };
        let known = self.known_executor(turn, &framework.id, offer, &group.executor.executor_id);
        validate::group(group, |task| self.state_of(turn, &framework.id, task), known.as_ref(), place)
            .map_err(|why| (why, Reason::TaskGroupInvalid))
    }

    /// Takes them from what remains of the offers.
    fn take(&mut self, accepting: &mut Accepting<'_>, resources: &Resources) {
        let offer = accepting.offer;
        for resource in resources {
            let one: Resources = [resource.clone()].into_iter().collect();
            if let Some(rest) = accepting.remaining.checked_sub(&one) {
                accepting.remaining = rest;
            } else {
                // Another copy of a shared volume.
                self.allocator.charge(&offer.framework, &offer.role, &offer.agent, &one);
            }
        }
    }

    fn launch(&mut self, turn: &mut Turn<'_>, accepting: &mut Accepting<'_>, mut task: TaskInfo) {
        let (framework, offer) = (accepting.framework, accepting.offer);
        let id = task.task_id.clone();
        if let Err(forbidden) = self.may_launch(framework, &task, None) {
            let principal = framework.info.principal.as_deref().unwrap_or_default();
            let message = format!("Principal '{principal}' no authorized to {forbidden}");
            self.reject(turn, framework, &task, TaskState::Error, Reason::TaskUnauthorized, message);
            return;
        }
        validate::complete(&mut task, &framework.id);
        let active = self.state_of(turn, &framework.id, &id);
        let mut available = accepting.remaining.filter(|resource| !resource.shared);
        available.add_all(&accepting.shared);
        let (agent, role) = (&offer.agent, offer.role.as_str());
        let capabilities = capabilities(turn, agent);
        let place = validate::Place { framework: &framework.id, agent, role, available: &available, capabilities };
        let wanted = task.executor.as_ref().map(|executor| executor.executor_id.clone());
        let known = wanted.and_then(|executor| self.known_executor(turn, &framework.id, offer, &executor));
        let needs = match validate::task(&task, active, known.as_ref(), place) {
            Ok(needs) => needs,
            Err(message) => {
                self.reject(turn, framework, &task, TaskState::Error, Reason::TaskInvalid, message);
                return;
            }
        };
        self.take(accepting, &needs.task);
        if let Some(resources) = &needs.executor {
            self.take(accepting, resources);
        }
        let executor = self.executor_for(turn, &framework.id, offer, &task, needs.executor);
        self.launching.insert((framework.id.clone(), id));
        turn.propose(Command::LaunchTask(Box::new(LaunchTask {
            framework: framework.id.clone(),
            agent: offer.agent.clone(),
            role: offer.role.clone(),
            container: ContainerId::from(self.random.uuid()),
            info: task,
            resources: needs.task,
            at: turn.now.unix_ms,
            executor,
            group: None,
        })));
    }
}

/// Every task it names.
fn tasks_of(operation: &Operation) -> impl Iterator<Item = &TaskInfo> {
    let single = operation.launch.iter().flat_map(|launch| &launch.task_infos);
    single.chain(operation.launch_group.iter().flat_map(|group| &group.task_group.tasks))
}

/// What the agent can do; it is there, for it was offered.
fn capabilities(turn: &Turn<'_>, agent: &AgentId) -> AgentCapabilities {
    turn.state.agents.get(agent).map_or_else(AgentCapabilities::default, |agent| agent.capabilities)
}
