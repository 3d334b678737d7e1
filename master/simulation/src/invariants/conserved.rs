//! Resources are conserved: when frameworks hold all they are offered, all an agent has is offered or in use.

use api::AgentId;
use master_core::View;

use super::disjoint::taken;

/// What is missing, while somebody who wants everything has had the time to get it.
pub(crate) fn check<'a>(view: &View, agents: impl Iterator<Item = &'a AgentId>) -> Result<(), String> {
    let taken = taken(view);
    for agent in agents {
        let Some(known) = view.state.agents.get(agent) else { continue };
        let of_it = taken.get(agent).cloned().unwrap_or_default();
        if !of_it.contains(&known.resources) {
            return Err(format!(
                "of agent {agent} with {} only {of_it} is in use or offered, though frameworks want all of it",
                known.resources
            ));
        }
    }
    Ok(())
}
