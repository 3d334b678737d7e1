//! Refusals: what a framework does not want to be offered again for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::Resources;

use super::quantities::Quantities;

/// A framework's refusals in one role, by agent.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    by_agent: BTreeMap<u32, Vec<Refusal>>,
}

#[derive(Debug)]
struct Refusal {
    resources: Resources,
    quantities: Quantities,
    until: Duration,
}

impl Refusals {
    pub(super) fn add(&mut self, agent: u32, resources: Resources, quantities: Quantities, until: Duration) {
        self.by_agent.entry(agent).or_default().push(Refusal { resources, quantities, until });
    }

    /// Refused is what a refusal contains whole: more, or something else, is worth a look.
    pub(super) fn refuse(&self, agent: u32, resources: &Resources, quantities: &Quantities) -> bool {
        self.by_agent.get(&agent).is_some_and(|refusals| {
            refusals.iter().any(|refusal| {
                refusal.quantities.covers(quantities)
                    && (refusal.resources == *resources || refusal.resources.contains(resources))
            })
        })
    }

    pub(super) fn expire(&mut self, agent: u32, now: Duration) {
        if let Some(refusals) = self.by_agent.get_mut(&agent) {
            refusals.retain(|refusal| refusal.until > now);
            if refusals.is_empty() {
                self.by_agent.remove(&agent);
            }
        }
    }

    pub(super) fn forget_agent(&mut self, agent: u32) {
        self.by_agent.remove(&agent);
    }

    pub(super) fn clear(&mut self) {
        self.by_agent.clear();
    }
}

/// When refusals end: (when, framework, role, agent).
pub(super) type Expiries = BTreeSet<(Duration, u32, u32, u32)>;
