//! Inverse offers: frameworks are told that an agent will be unavailable, and answer.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::{AgentId, FrameworkId};

use super::refusals::nanos;
use super::{Allocator, ORPHANS};

/// When an agent will be away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Unavailability {
    /// Nanoseconds since 1970.
    pub start: i64,
    /// Nanoseconds; for ever where there is none.
    pub duration: Option<i64>,
}

/// A framework is asked to leave an agent in time.
#[derive(Clone, Debug, PartialEq)]
pub struct InverseOffer {
    /// Who is asked.
    pub framework: FrameworkId,
    /// Which agent.
    pub agent: AgentId,
    /// When it will be away.
    pub unavailability: Unavailability,
}

/// What a framework said.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum InverseAnswer {
    /// It will have left.
    Accept,
    /// It cannot promise that.
    Decline,
}

/// What a framework said last, for the operator.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct InverseStatus {
    /// What.
    pub answer: InverseAnswer,
    /// When: the time given with the answer.
    pub at: Duration,
}

/// All agents with an unavailability.
#[derive(Debug, Default)]
pub(super) struct Maintenance {
    agents: BTreeMap<u32, Window>,
    /// (when, agent, framework)
    expiries: BTreeSet<(u64, u32, u32)>,
    /// Is somebody to be asked, maybe?
    pub(super) due: bool,
}

#[derive(Debug)]
struct Window {
    unavailability: Unavailability,
    /// Asked, and not answered yet.
    outstanding: BTreeSet<u32>,
    refused_until: BTreeMap<u32, u64>,
    statuses: BTreeMap<u32, InverseStatus>,
}

impl Maintenance {
    /// Will the agent be away?
    pub(super) fn concerns(&self, agent: u32) -> bool {
        self.agents.contains_key(&agent)
    }

    pub(super) fn next_expiry(&self) -> Option<u64> {
        self.expiries.first().map(|(until, ..)| *until)
    }

    pub(super) fn expire(&mut self, now: u64) {
        while let Some((until, agent, framework)) = self.expiries.first().copied() {
            if until > now {
                break;
            }
            self.expiries.pop_first();
            if let Some(window) = self.agents.get_mut(&agent)
                && window.refused_until.get(&framework) == Some(&until)
            {
                window.refused_until.remove(&framework);
                self.due = true;
            }
        }
    }

    pub(super) fn forget_agent(&mut self, agent: u32) {
        self.agents.remove(&agent);
        self.expiries.retain(|(_, other, _)| *other != agent);
    }

    /// It starts anew: nothing is outstanding, refused or said.
    pub(super) fn forget_framework(&mut self, framework: u32) {
        for window in self.agents.values_mut() {
            window.outstanding.remove(&framework);
            window.statuses.remove(&framework);
        }
        self.revive(framework);
    }

    /// What it refused is forgotten.
    pub(super) fn revive(&mut self, framework: u32) {
        if self.agents.is_empty() {
            return;
        }
        for window in self.agents.values_mut() {
            window.refused_until.remove(&framework);
        }
        self.expiries.retain(|(.., other)| *other != framework);
        self.due = true;
    }
}

impl Allocator {
    /// The agent will be away, or not any more. Whoever has something of it is asked anew; what was
    /// said of the former window is forgotten. The agent is considered: offers name the window.
    /// Logarithmic in A.
    pub fn update_unavailability(&mut self, agent: &AgentId, unavailability: Option<Unavailability>) {
        let Some(number) = self.find_agent(agent) else { return };
        self.maintenance.forget_agent(number);
        if let Some(unavailability) = unavailability {
            let (outstanding, refused_until) = (BTreeSet::new(), BTreeMap::new());
            let window = Window { unavailability, outstanding, refused_until, statuses: BTreeMap::new() };
            self.maintenance.agents.insert(number, window);
            self.maintenance.due = true;
        }
        self.considered.insert(number);
    }

    /// When the agent will be away.
    #[must_use]
    pub fn unavailability(&self, agent: &AgentId) -> Option<Unavailability> {
        let number = self.find_agent(agent)?;
        self.maintenance.agents.get(&number).map(|window| window.unavailability)
    }

    /// Is there something for [`inverse_offers`](Self::inverse_offers)?
    #[must_use]
    pub const fn inverse_offers_are_due(&self) -> bool {
        self.maintenance.due
    }

    /// Asks every active framework that has something, offered or in use, of an agent that will be
    /// away; one question for a framework and agent at a time. Linear in the agents that will be away
    /// and who has something of them.
    pub fn inverse_offers(&mut self, now: Duration) -> Vec<InverseOffer> {
        self.maintenance.expire(nanos(now));
        if !std::mem::take(&mut self.maintenance.due) {
            return Vec::new();
        }
        let mut all = Vec::new();
        for (number, window) in &mut self.maintenance.agents {
            let Some(agent) = self.agents[*number as usize].as_ref().filter(|agent| agent.active && agent.listed)
            else {
                continue;
            };
            for holder in agent.holders.iter().filter(|holder| holder.client != ORPHANS) {
                let number = self.clients[holder.client as usize].framework;
                let framework = self.frameworks[number as usize].as_ref().filter(|framework| framework.active);
                let Some(framework) = framework else { continue };
                if !window.refused_until.contains_key(&number) && window.outstanding.insert(number) {
                    all.push(InverseOffer {
                        framework: framework.id.clone(),
                        agent: AgentId::from(agent.id.to_string()),
                        unavailability: window.unavailability,
                    });
                }
            }
        }
        all
    }

    /// A framework answered, or (without an answer) its inverse offer was rescinded. It is not asked
    /// again before the refusal ends. Logarithmic.
    pub fn answer_inverse_offer(
        &mut self,
        framework: &FrameworkId,
        agent: &AgentId,
        answer: Option<InverseAnswer>,
        refusal: Duration,
        now: Duration,
    ) {
        let (Some(number), Some(framework)) = (self.find_agent(agent), self.framework_numbers.get(framework).copied())
        else {
            return;
        };
        let Some(window) = self.maintenance.agents.get_mut(&number) else { return };
        window.outstanding.remove(&framework);
        if let Some(answer) = answer {
            window.statuses.insert(framework, InverseStatus { answer, at: now });
        }
        if refusal.is_zero() {
            self.maintenance.due = true;
            return;
        }
        let until = nanos(now.saturating_add(refusal.max(self.options.min_refusal)));
        if let Some(old) = window.refused_until.insert(framework, until) {
            self.maintenance.expiries.remove(&(old, number, framework));
        }
        self.maintenance.expiries.insert((until, number, framework));
    }

    /// What frameworks said of the agents that will be away. Linear in what there is to tell.
    #[must_use]
    pub fn inverse_statuses(&self) -> BTreeMap<AgentId, BTreeMap<FrameworkId, InverseStatus>> {
        let mut all = BTreeMap::new();
        for (number, window) in &self.maintenance.agents {
            let known = window.statuses.iter().filter_map(|(framework, status)| {
                let framework = self.frameworks[*framework as usize].as_ref()?;
                Some((framework.id.clone(), *status))
            });
            all.insert(AgentId::from(self.agent(*number).id.to_string()), known.collect());
        }
        all
    }
}
