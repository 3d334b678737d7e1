//! Offers are disjoint: what is offered of an agent, and what tasks use there, fits into the agent together.

use std::collections::BTreeMap;

use api::{AgentId, Resources};
use master_core::View;

/// What is offered and used of each agent.
pub(crate) fn taken(view: &View) -> BTreeMap<AgentId, Resources> {
    let mut taken: BTreeMap<AgentId, Resources> = BTreeMap::new();
    for offer in view.offers.values() {
        taken.entry(offer.agent.clone()).or_default().add_all(&offer.resources);
    }
    let tasks = view.state.frameworks.values().flat_map(|framework| framework.tasks.values());
    for task in tasks.filter(|task| task.holds_resources()) {
        taken.entry(task.agent.clone()).or_default().add_all(&task.resources);
    }
    taken
}

pub(crate) fn check(view: &View) -> Result<(), String> {
    for (agent, taken) in taken(view) {
        let Some(known) = view.state.agents.get(&agent) else {
            return Err(format!("{taken} is offered or used of agent {agent}, which is not there"));
        };
        if !known.resources.contains(&taken) {
            return Err(format!("{taken} is offered and used of agent {agent}, which has {}", known.resources));
        }
    }
    Ok(())
}
