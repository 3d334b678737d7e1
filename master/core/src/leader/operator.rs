//! What operators write: proposed as it is, checked where it is applied, answered when committed.

use std::collections::BTreeMap;

use api::{AgentId, FrameworkId, Milli, Resources};

use super::agents::Comeback;
use super::{Leader, Turn};
use crate::allocator::{Consider, Quota};
use crate::command::{Command, OperatorCommand};
use crate::io::operator::{OperatorWrite, Refusal};
use crate::io::{Output, RequestId, Response, ToAgent};
use crate::offers::OutstandingOffer;
use crate::operation::{Requester, ResourceOperation, apply_operation};
use crate::state::seconds;

/// An operator's request that is not committed yet.
#[derive(Debug)]
pub(super) struct Operating {
    request: RequestId,
    done: Response,
}

/// What a framework may not have again at once after an operator took it.
const RESCINDED_SECONDS: f64 = 5.0;

impl Leader {
    pub(super) fn operate(&mut self, turn: &mut Turn<'_>, request: RequestId, write: OperatorWrite) {
        let mut done = Response::Ok;
        if let OperatorWrite::Apply { agent, operation, principal } = &write {
            done = Response::Accepted;
            let by = Requester::Operator { principal: principal.as_deref() };
            if let Err(Refusal { status, text }) = turn.state.check_operation(agent, operation, &by) {
                turn.refuse(request, status, text);
                return;
            }
            self.free_for(turn, agent, operation);
            // Not to be offered as it is before it is converted.
            *self.converting_agents.entry(agent.clone()).or_default() += 1;
            self.settle_agent(turn, agent);
        }
        let token = self.random.uuid_bytes();
        #[cfg(feature = "planted-bugs")]
        if crate::planted::is(crate::planted::Bug::AnsweredTooEarly) {
            turn.respond(request, done.clone());
        }
        self.operating.insert(token, Operating { request, done });
        turn.propose(Command::Operator(Box::new(OperatorCommand { token, at: turn.now.unix_ms, write })));
    }

    /// A write nobody waits for.
    pub(super) fn propose_write(&mut self, turn: &mut Turn<'_>, write: OperatorWrite) {
        let token = self.random.uuid_bytes();
        turn.propose(Command::Operator(Box::new(OperatorCommand { token, at: turn.now.unix_ms, write })));
    }

    pub(super) fn operator_done(&mut self, turn: &mut Turn<'_>, token: [u8; 16], outcome: Result<(), Refusal>) {
        let Some(operating) = self.operating.remove(&token) else { return };
        match outcome {
            Ok(()) => turn.respond(operating.request, operating.done),
            Err(Refusal { status, text }) => turn.refuse(operating.request, status, text),
        }
    }

    /// Nobody will answer them.
    pub(super) fn stop_operating(&mut self, outputs: &mut Vec<Output>) {
        for (_, operating) in std::mem::take(&mut self.operating) {
            let response = Response::Refused { status: 503, text: "No leader elected".to_owned() };
            outputs.push(Output::Respond { request: operating.request, response });
        }
    }

    /// Rescinds offers until the operation has what it takes.
    fn free_for(&mut self, turn: &mut Turn<'_>, agent: &AgentId, operation: &ResourceOperation) {
        let mut missing = operation.consumed();
        let mut free = self.allocator.free(agent).unwrap_or_default();
        for offer in self.offers.of_agent(agent) {
            if apply_operation(&free, operation, None).is_ok() {
                return;
            }
            let less = missing.saturating_sub(&offer.resources);
            if less == missing {
                continue;
            }
            missing = less;
            free.add_all(&offer.resources);
            self.rescind_refused(turn, &offer);
        }
    }

    fn rescind_refused(&mut self, turn: &mut Turn<'_>, offer: &OutstandingOffer) {
        if self.offers.take(&offer.id).is_some() {
            turn.counters.offers_rescinded += 1;
            self.give_back_refused(turn, offer, RESCINDED_SECONDS);
            self.tell_rescinded(turn, offer);
        }
    }

    /// An operator's operation is committed.
    pub(super) fn converted(&mut self, turn: &mut Turn<'_>, agent: &AgentId, from: &Resources, to: &Resources) {
        if self.allocator.update_available(agent, from, to).is_err() {
            self.rescind_agent(turn, agent); // a former leader's: we offered what it takes
            if self.allocator.update_available(agent, from, to).is_err() {
                self.total_anew(turn, agent);
            }
        }
        self.volumes_changed(turn, agent, from, to);
        self.conversion_over(turn, agent);
    }

    /// The allocator's picture of an agent follows the log's.
    pub(super) fn total_anew(&mut self, turn: &Turn<'_>, agent: &AgentId) {
        if let Some(known) = turn.state.agents.get(agent) {
            self.allocator.update_total(agent, &known.resources);
        }
    }

    pub(super) fn conversion_over(&mut self, turn: &Turn<'_>, agent: &AgentId) {
        if let Some(waiting) = self.converting_agents.get_mut(agent) {
            *waiting = waiting.saturating_sub(1);
            if *waiting == 0 {
                self.converting_agents.remove(agent);
                self.settle_agent(turn, agent);
            }
        }
    }

    /// Is the agent to be offered?
    pub(super) fn settle_agent(&mut self, turn: &Turn<'_>, agent: &AgentId) {
        let deactivated = turn.state.agents.get(agent).is_none_or(|known| known.deactivated);
        if deactivated || self.session_of(agent).is_none() || self.converting_agents.contains_key(agent) {
            self.allocator.deactivate_agent(agent);
        } else {
            self.allocator.activate_agent(agent);
        }
    }

    /// It drains, is deactivated, or used again.
    pub(super) fn activity_changed(&mut self, turn: &mut Turn<'_>, agent: &AgentId) {
        #[cfg(feature = "planted-bugs")]
        if crate::planted::is(crate::planted::Bug::DeactivatedOffered) {
            return;
        }
        self.settle_agent(turn, agent);
        if turn.state.agents.get(agent).is_some_and(|known| known.deactivated) {
            self.rescind_agent(turn, agent);
        }
    }

    /// What a former leader may not have got to.
    pub(super) fn finish_draining(&mut self, turn: &mut Turn<'_>) {
        let drained = turn.state.agents.values().filter(|agent| agent.drain.is_some_and(|d| d.drained && d.mark_gone));
        for agent in drained.map(|agent| agent.id.clone()).collect::<Vec<_>>() {
            self.propose_write(turn, OperatorWrite::MarkAgentGone(agent));
        }
    }

    /// An operator removed the agent, for a while or for good.
    pub(super) fn agent_dismissed(
        &mut self,
        turn: &mut Turn<'_>,
        agent: &AgentId,
        frameworks: &[FrameworkId],
        why: &str,
        comeback: Comeback,
    ) {
        tracing::warn!(%agent, frameworks = frameworks.len(), reason = %why, "agent removed");
        self.dismiss_session(turn, agent, frameworks, why, comeback);
        self.agent_unreachable(turn, agent);
    }

    /// A registration was refused where it was applied.
    pub(super) fn dismiss_session(
        &mut self,
        turn: &mut Turn<'_>,
        agent: &AgentId,
        frameworks: &[FrameworkId],
        why: &str,
        comeback: Comeback,
    ) {
        let Some(session) = self.sessions_by_agent.remove(agent) else { return };
        self.sessions.remove(&session);
        for framework in frameworks {
            turn.tell_agent(session, ToAgent::ShutdownFramework { framework: framework.clone() });
        }
        turn.tell_agent(session, ToAgent::Refused { reason: why.to_owned(), retry: comeback == Comeback::Welcome });
        turn.outputs.push(Output::CloseSession(session));
    }

    // ---- weights and quotas

    /// What the log says of roles, for a new leader's allocator.
    pub(super) fn load_roles(&mut self, turn_state: &crate::state::State) {
        for (role, weight) in &turn_state.weights {
            self.allocator.update_weight(role, *weight);
        }
        for config in turn_state.quotas.values() {
            let quota = Quota { guarantees: config.guarantees.clone(), limits: config.limits.clone() };
            self.allocator.update_quota(&config.role, &quota);
        }
    }

    /// As Mesos: if anybody is in one of the roles, everything is offered anew.
    pub(super) fn weights_updated(&mut self, turn: &mut Turn<'_>, roles: &[String]) {
        for role in roles {
            self.allocator.update_weight(role, turn.state.weights.get(role).copied().unwrap_or(1.0));
        }
        let mut subscribed = turn.state.frameworks.values().flat_map(|framework| framework.info.effective_roles());
        if subscribed.any(|role| roles.contains(&role)) {
            self.rescind_where(turn, |_| true);
        }
    }

    pub(super) fn quotas_updated(&mut self, turn: &mut Turn<'_>, roles: &[String]) {
        for role in roles {
            let config = turn.state.quotas.get(role).cloned().unwrap_or_default();
            let quota = Quota { guarantees: config.guarantees, limits: config.limits };
            self.allocator.update_quota(role, &quota);
            self.make_room(turn, role, &quota);
        }
        self.allocator.consider_all();
    }

    /// What is offered already follows the new quota, as far as offers can.
    fn make_room(&mut self, turn: &mut Turn<'_>, role: &str, quota: &Quota) {
        let of_role = |offer: &OutstandingOffer| offer.role.split('/').next() == Some(role);
        let consumed = self.allocator.quota_consumption(role);
        let has = |name: &String| consumed.get(name).copied().unwrap_or_default();
        if quota.limits.iter().any(|(name, limit)| has(name) > *limit) {
            self.rescind_where(turn, of_role);
        }
        let mut owed: BTreeMap<String, Milli> = BTreeMap::new();
        for (name, guarantee) in &quota.guarantees {
            owed.insert(name.clone(), guarantee.saturating_sub(has(name)));
        }
        let others: Vec<_> = self.offers.all().values().filter(|offer| !of_role(offer)).cloned().collect();
        for offer in others {
            owed.retain(|_, amount| *amount > Milli::ZERO);
            if owed.is_empty() {
                return;
            }
            let helps = owed.keys().any(|name| offer.resources.scalar(name) > Milli::ZERO);
            if helps && self.offers.take(&offer.id).is_some() {
                for (name, amount) in &mut owed {
                    *amount = amount.saturating_sub(offer.resources.scalar(name));
                }
                turn.counters.offers_rescinded += 1;
                self.give_back(&offer, Consider::Now);
                self.tell_rescinded(turn, &offer);
            }
        }
    }

    pub(super) fn rescind_where(&mut self, turn: &mut Turn<'_>, which: impl Fn(&OutstandingOffer) -> bool) {
        let which: Vec<_> = self.offers.all().values().filter(|offer| which(offer)).cloned().collect();
        for offer in which {
            if self.offers.take(&offer.id).is_some() {
                turn.counters.offers_rescinded += 1;
                self.give_back(&offer, Consider::Now);
                self.tell_rescinded(turn, &offer);
            }
        }
    }

    /// The oldest offers have been held too long.
    pub(super) fn offers_timed_out(&mut self, turn: &mut Turn<'_>) {
        while let Some((at, id)) = self.offer_deadlines.front().cloned() {
            if at > turn.now.monotonic {
                self.timers.set(super::Timer::OfferTimeout, at);
                return;
            }
            self.offer_deadlines.pop_front();
            if let Some(offer) = self.offers.take(&id) {
                let held = seconds(turn.now.unix_ms.saturating_sub(offer.made_at));
                tracing::info!(offer = %id, framework = %offer.framework, held, "offer timed out");
                turn.counters.offers_rescinded += 1;
                self.give_back(&offer, Consider::Later);
                self.tell_rescinded(turn, &offer);
            }
        }
    }
}
