//! Operations of frameworks: applied to what was offered, committed, and their outcome told until it is
//! acknowledged.

use std::time::Duration;

use api::{AgentId, FrameworkId, Resources};

use super::{Leader, Timer, Turn};
use crate::allocator::Consider;
use crate::command::{ApplyOperation, Command};
use crate::offers::OutstandingOffer;
use crate::operation::{Requester, ResourceOperation, apply_operation, spell};
use crate::state::{Framework, Operation, OperationState, Reachability};

/// As Mesos's agents: the outcome is told again after this long, then twice as long, up to the most.
const RETRY: Duration = Duration::from_secs(10);
const RETRY_MOST: Duration = Duration::from_secs(600);

/// An operation that is not committed yet.
#[derive(Debug)]
pub(super) struct Converting {
    pub(super) framework: FrameworkId,
    pub(super) id: Option<String>,
    /// What to give back once it is: what its ACCEPT converted and did not use.
    pub(super) back: Option<OutstandingOffer>,
}

/// What an ACCEPT works on.
#[derive(Debug)]
pub(super) struct Accepting<'a> {
    pub(super) framework: &'a Framework,
    /// One of the offers, for their agent and role.
    pub(super) offer: &'a OutstandingOffer,
    /// What is not used yet.
    pub(super) remaining: Resources,
    /// Volumes several tasks may use.
    pub(super) shared: Resources,
    /// What was resized: not usable before it is committed.
    pub(super) resized: Resources,
    /// All of the agent's as it will be once what was proposed so far is committed, if anything was.
    pub(super) agent_total: Option<Resources>,
    /// The last operation proposed.
    pub(super) last: Option<[u8; 16]>,
}

/// What a framework is told of an operation.
#[derive(Clone, Debug)]
pub(super) struct OperationReport {
    pub(super) id: String,
    pub(super) state: OperationState,
    pub(super) message: Option<String>,
    pub(super) agent: Option<AgentId>,
    /// With one it is to be acknowledged.
    pub(super) uuid: Option<[u8; 16]>,
}

impl OperationReport {
    pub(super) fn new(id: &str, state: OperationState, message: Option<String>) -> Self {
        Self { id: id.to_owned(), state, message, agent: None, uuid: None }
    }

    fn of(operation: &Operation) -> Self {
        Self {
            id: operation.id.clone(),
            state: operation.state,
            message: None,
            agent: Some(operation.agent.clone()),
            uuid: Some(operation.status_uuid),
        }
    }
}

impl Leader {
    /// Applies one operation of an ACCEPT to what remains of its offers.
    pub(super) fn convert(
        &mut self,
        turn: &mut Turn<'_>,
        accepting: &mut Accepting<'_>,
        id: Option<String>,
        operation: ResourceOperation,
    ) -> Result<(), String> {
        let (framework, offer) = (accepting.framework, accepting.offer);
        let agent = turn.state.agents.get(&offer.agent).ok_or("Agent removed")?;
        let roles = framework.info.effective_roles();
        let by = Requester::Framework {
            id: &framework.id,
            principal: framework.info.principal.as_deref(),
            roles: &roles,
            allocated_to: &offer.role,
            shares: framework.info.has(api::v1::Capability::SharedResources),
        };
        let used: Vec<&Resources> = turn.state.used_on(&offer.agent).collect();
        // With what this very ACCEPT made: it is not committed yet.
        let total = accepting.agent_total.clone().unwrap_or_else(|| (*agent.resources).clone());
        let place = crate::operation::Where { total: &total, used: &used };
        crate::operation::validate(&operation, &by, place)
            .map_err(|error| format!("{error}; on agent {}", agent.described()))?;
        self.authorized(framework, &operation, &offer.role)?;
        if let ResourceOperation::Destroy { volumes } = &operation {
            self.rescind_holding(turn, &offer.agent, volumes);
        }
        let (from, to) = (operation.consumed(), operation.converted());
        if operation.is_speculative() {
            accepting.remaining = apply_operation(&accepting.remaining, &operation, Some(&offer.role))
                .map_err(|error| error.to_string())?;
            accepting.shared = accepting.remaining.filter(|resource| resource.shared);
            accepting.agent_total = apply_operation(&total, &operation, None).ok();
        } else {
            let Some(rest) = accepting.remaining.checked_sub(&from) else {
                let (have, want) = (spell(&accepting.remaining, Some(&offer.role)), spell(&from, Some(&offer.role)));
                return Err(format!("Invalid {} operation: {have} does not contain {want}", operation.name()));
            };
            accepting.remaining = rest;
            accepting.resized.add_all(&to);
        }
        if let Err(error) = self.allocator.update_allocation(&framework.id, &offer.role, &offer.agent, &from, &to) {
            tracing::error!(%error, agent = %offer.agent, "the allocator did not know of accepted resources");
        }
        let (uuid, status_uuid) = (self.random.uuid_bytes(), self.random.uuid_bytes());
        self.converting.insert(uuid, Converting { framework: framework.id.clone(), id: id.clone(), back: None });
        accepting.last = Some(uuid);
        turn.propose(Command::ApplyOperation(Box::new(ApplyOperation {
            uuid,
            status_uuid,
            framework: framework.id.clone(),
            id,
            agent: offer.agent.clone(),
            role: offer.role.clone(),
            operation,
            at: turn.now.unix_ms,
        })));
        Ok(())
    }

    /// A volume goes away: nobody else may hold an offer of it.
    fn rescind_holding(&mut self, turn: &mut Turn<'_>, agent: &AgentId, volumes: &Resources) {
        let one = |volume: &api::Resource| -> Resources { [volume.clone()].into_iter().collect() };
        for offer in self.offers.of_agent(agent) {
            let holds = volumes.iter().any(|volume| offer.resources.contains(&one(volume)));
            if holds && self.offers.take(&offer.id).is_some() {
                turn.counters.offers_rescinded += 1;
                self.give_back(&offer, Consider::Later);
                self.tell_rescinded(turn, &offer);
            }
        }
    }

    /// After the last operation of an ACCEPT: what was converted and not used goes back once it is
    /// committed, and what was not touched is left to be declined.
    pub(super) fn keep_converted(&mut self, accepting: &mut Accepting<'_>, offered: &Resources) {
        let Some(last) = accepting.last else { return };
        let mut converted = accepting.remaining.saturating_sub(offered);
        accepting.remaining = accepting.remaining.saturating_sub(&converted);
        converted.add_all(&accepting.resized);
        if let Some(converting) = self.converting.get_mut(&last)
            && !converted.is_empty()
        {
            converting.back = Some(OutstandingOffer { resources: converted, ..accepting.offer.clone() });
        }
    }

    pub(super) fn operation_applied(&mut self, turn: &mut Turn<'_>, apply: &ApplyOperation) {
        match self.converting.remove(&apply.uuid) {
            Some(Converting { back, .. }) => {
                self.volumes_changed(turn, &apply.agent, &apply.operation.consumed(), &apply.operation.converted());
                if let Some(back) = back {
                    self.give_back(&back, Consider::Now);
                }
            }
            None => {
                // A former leader's: nothing of it is held here.
                let (from, to) = (apply.operation.consumed(), apply.operation.converted());
                self.converted(turn, &apply.agent, &from, &to);
            }
        }
        if let Some(operation) = turn.state.operations.get(&apply.uuid).cloned() {
            self.tell_operation(turn, &operation.framework, OperationReport::of(&operation));
            self.operation_retries.insert(apply.uuid, RETRY);
            self.timers.set(Timer::OperationRetry(apply.uuid), turn.now.monotonic + RETRY);
        }
    }

    pub(super) fn operation_dropped(&mut self, turn: &mut Turn<'_>, apply: &ApplyOperation, why: &str) {
        tracing::warn!(framework = %apply.framework, agent = %apply.agent, reason = %why, "operation dropped");
        if let Some(Converting { back: Some(back), .. }) = self.converting.remove(&apply.uuid) {
            self.give_back(&back, Consider::Later);
        }
        self.rescind_agent(turn, &apply.agent);
        self.total_anew(turn, &apply.agent);
        if let Some(id) = &apply.id {
            let mut report = OperationReport::new(id, OperationState::Dropped, Some(why.to_owned()));
            report.agent = Some(apply.agent.clone());
            self.tell_operation(turn, &apply.framework, report);
        }
    }

    pub(super) fn operation_acknowledged(&mut self, uuid: [u8; 16]) {
        self.operation_retries.remove(&uuid);
        self.timers.clear(&Timer::OperationRetry(uuid));
    }

    pub(super) fn retry_operation(&mut self, turn: &mut Turn<'_>, uuid: [u8; 16]) {
        let Some(operation) = turn.state.operations.get(&uuid).cloned() else {
            self.operation_retries.remove(&uuid);
            return;
        };
        self.tell_operation(turn, &operation.framework, OperationReport::of(&operation));
        let wait = self.operation_retries.entry(uuid).or_insert(RETRY);
        *wait = wait.saturating_mul(2).min(RETRY_MOST);
        self.timers.set(Timer::OperationRetry(uuid), turn.now.monotonic + *wait);
    }

    /// A new leader, or a scheduler that is back: outcomes are told from the start of their waits.
    pub(super) fn retry_operations_of(&mut self, turn: &Turn<'_>, framework: Option<&FrameworkId>) {
        for (uuid, operation) in &turn.state.operations {
            if framework.is_none_or(|framework| operation.framework == *framework) {
                self.operation_retries.insert(*uuid, RETRY);
                self.timers.set(Timer::OperationRetry(*uuid), turn.now.monotonic + RETRY);
            }
        }
    }

    /// RECONCILE_OPERATIONS without operations: all that are known.
    pub(super) fn reconcile_all_operations(&self, turn: &mut Turn<'_>, framework: &FrameworkId) {
        let mine = turn.state.operations.values().filter(|operation| operation.framework == *framework);
        let mut reports: Vec<OperationReport> =
            mine.map(|operation| OperationReport { uuid: None, ..OperationReport::of(operation) }).collect();
        let pending = self.converting.values().filter(|converting| converting.framework == *framework);
        let ids = pending.filter_map(|converting| converting.id.as_deref());
        reports.extend(ids.map(|id| OperationReport::new(id, OperationState::Pending, None)));
        for report in reports {
            self.tell_operation(turn, framework, report);
        }
    }

    /// One operation of RECONCILE_OPERATIONS.
    pub(super) fn reconcile_operation(
        &self,
        turn: &mut Turn<'_>,
        framework: &FrameworkId,
        id: &str,
        agent: Option<&AgentId>,
    ) {
        if let Some(operation) = turn.state.operation(framework, id) {
            let report = OperationReport { uuid: None, ..OperationReport::of(operation) };
            self.tell_operation(turn, framework, report);
            return;
        }
        let pending =
            |converting: &Converting| converting.framework == *framework && converting.id.as_deref() == Some(id);
        let (state, message) = if self.converting.values().any(pending) {
            (OperationState::Pending, None)
        } else {
            let (state, message) = self.operation_unknown(turn, agent);
            (state, Some(format!("Reconciliation: {message}")))
        };
        let mut report = OperationReport::new(id, state, message);
        report.agent = agent.cloned();
        self.tell_operation(turn, framework, report);
    }

    fn operation_unknown(&self, turn: &Turn<'_>, agent: Option<&AgentId>) -> (OperationState, &'static str) {
        let Some(id) = agent else {
            return (OperationState::Unknown, "Operation is unknown and no 'agent_id' was provided");
        };
        if turn.state.gone.contains_key(id) {
            return (OperationState::GoneByOperator, "Agent marked gone by operator");
        }
        match turn.state.agents.get(id).map(|agent| agent.reachability) {
            Some(Reachability::Unreachable { .. }) => (OperationState::Unreachable, "Agent is unreachable"),
            Some(Reachability::Reachable) if self.is_recovering(id) => {
                (OperationState::Recovering, "Agent is recovered but has not re-registered")
            }
            Some(Reachability::Reachable) => (OperationState::Unknown, "Operation is unknown"),
            Some(Reachability::Removed { .. }) | None => {
                (OperationState::Unknown, "Both operation and agent are unknown")
            }
        }
    }
}
