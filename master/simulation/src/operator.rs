//! A simulated operator: writes settings, weights, quotas and reservations, takes agents out of use and back; and in the
//! end puts everything in order. Each write is a request of its own, to the master that answered last.

use std::collections::BTreeMap;

use api::resources::Reservation;
use api::{AgentId, Milli, Resource, Resources};
use master_core::io::operator::{OperatorWrite, QuotaConfig};
use master_core::operation::ResourceOperation;
use master_core::state::Change;
use master_core::{Response, View};

use crate::chance::Chance;
use crate::invariants::Watch;
use crate::invariants::obeyed::{self, Written};
use crate::trace::{MS, Micros, SECOND};

/// The role it gives weights, quotas and reservations to.
pub(crate) const ROLE: &str = "web";
/// For an answer.
const PATIENCE: Micros = 3 * SECOND;

/// What the operator wants done.
pub(crate) enum Wish {
    /// This, by that master.
    Write(usize, Box<OperatorWrite>),
    /// It takes too long.
    Close,
}

/// See the module.
pub(crate) struct Operator {
    chance: Chance,
    pub(crate) line: Option<u64>,
    asked: Option<(Written, Micros)>,
    /// The master that answered last.
    master: usize,
    at: Micros,
    next: u64,
    /// How many writes were done.
    pub(crate) done: usize,
}

impl Operator {
    pub(crate) fn new(chance: Chance) -> Self {
        Self { chance, line: None, asked: None, master: 0, at: 0, next: 0, done: 0 }
    }

    /// While things go wrong: anything.
    pub(crate) fn look(&mut self, now: Micros, masters: usize, agents: &[AgentId], watch: &mut Watch) -> Option<Wish> {
        if self.asked.is_some() {
            return self.is_tired(now).then_some(Wish::Close);
        }
        if now < self.at || agents.is_empty() {
            return None;
        }
        let (write, written) = self.any(agents);
        Some(self.write(now, masters, write, written, watch))
    }

    /// In the end: what is still out of order, as the masters say it is.
    pub(crate) fn tidy(&mut self, now: Micros, masters: usize, view: &View, watch: &mut Watch) -> Option<Wish> {
        if self.asked.is_some() {
            return self.is_tired(now).then_some(Wish::Close);
        }
        if now < self.at {
            return None;
        }
        let write = disorder(view)?;
        Some(self.write(now, masters, write, Written::Other, watch))
    }

    fn is_tired(&self, now: Micros) -> bool {
        self.asked.as_ref().is_some_and(|(_, since)| now > since + PATIENCE)
    }

    fn write(
        &mut self,
        now: Micros,
        masters: usize,
        write: OperatorWrite,
        written: Written,
        watch: &mut Watch,
    ) -> Wish {
        watch.obeyed.asked(&written);
        self.asked = Some((written, now));
        self.at = now + self.chance.within(100..700) * MS;
        Wish::Write(self.master % masters, Box::new(write))
    }

    fn any(&mut self, agents: &[AgentId]) -> (OperatorWrite, Written) {
        self.next += 1;
        let number = self.next;
        let agent = agents[self.chance.index(agents.len())].clone();
        match self.chance.below(100) {
            0..40 => {
                let key = format!("setting-{number}");
                let changes = vec![Change { key: key.clone(), was: None, becomes: Some(key.as_str().into()) }];
                (OperatorWrite::Keep { table: obeyed::TABLE, changes }, Written::Setting(key))
            }
            40..55 => {
                let weights = vec![(ROLE.to_owned(), obeyed::weight_of(number))];
                (OperatorWrite::UpdateWeights(weights), Written::Weight(number))
            }
            55..68 => {
                // More than anybody has: what is checked is that it stays.
                let limit = 1_000_000 + 500 * number;
                let limits = BTreeMap::from([("cpus".to_owned(), Milli(limit))]);
                let configs = vec![QuotaConfig { role: ROLE.to_owned(), guarantees: BTreeMap::new(), limits }];
                (OperatorWrite::UpdateQuota { force: true, configs }, Written::Quota(limit))
            }
            68..78 => (
                apply(agent, ResourceOperation::Reserve { source: Resources::new(), resources: reserved() }),
                Written::Other,
            ),
            78..83 => (apply(agent, ResourceOperation::Unreserve { resources: reserved() }), Written::Other),
            83..88 => (OperatorWrite::DrainAgent { agent, max_grace_ms: Some(1000), mark_gone: false }, Written::Other),
            88..92 => (OperatorWrite::DeactivateAgent(agent), Written::Other),
            _ => (OperatorWrite::ReactivateAgent(agent), Written::Other),
        }
    }

    /// What became of it.
    pub(crate) fn answered(&mut self, answer: Option<&Response>, masters: usize, watch: &mut Watch) {
        let Some((written, _)) = self.asked.take() else { return };
        match answer {
            Some(Response::Ok | Response::Accepted) => {
                watch.obeyed.answered(&written);
                self.done += 1;
            }
            // Not as things are; but this one leads.
            Some(Response::Refused { status, .. }) if *status != 503 => {}
            Some(Response::Refused { .. } | Response::Stream(_)) | None => {
                self.master = self.chance.index(masters);
            }
        }
    }
}

/// What there is to put in order first.
pub(crate) fn disorder(view: &View) -> Option<OperatorWrite> {
    for agent in view.state.agents.values() {
        if agent.deactivated {
            return Some(OperatorWrite::ReactivateAgent(agent.id.clone()));
        }
        let resources: Resources =
            agent.resources.iter().filter(|resource| !resource.reservations.is_empty()).cloned().collect();
        if !resources.is_empty() {
            return Some(apply(agent.id.clone(), ResourceOperation::Unreserve { resources }));
        }
    }
    None
}

fn apply(agent: AgentId, operation: ResourceOperation) -> OperatorWrite {
    OperatorWrite::Apply { agent, operation, principal: None }
}

fn reserved() -> Resources {
    let mut resource = Resource::scalar("cpus", Milli(500));
    resource.reservations =
        vec![Reservation { dynamic: true, role: ROLE.to_owned(), principal: None, labels: Vec::new() }];
    [resource].into_iter().collect()
}
