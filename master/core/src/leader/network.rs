//! What the rules say of agents' networks. Nothing of it is kept beside the rules: an agent knows what it was told last.

use api::AgentId;

use super::{Leader, Turn};
use crate::io::ToAgent;
use crate::rules::resolve;

impl Leader {
    /// All that are connected.
    pub(super) fn tell_networks(&mut self, turn: &mut Turn<'_>) {
        let agents: Vec<AgentId> = self.sessions_by_agent.keys().cloned().collect();
        for agent in agents {
            self.tell_network(turn, &agent);
        }
    }

    /// What is known of an agent is another: a rule may fit now that did not.
    pub(super) fn tell_network_by_facts(&mut self, turn: &mut Turn<'_>, id: &AgentId) {
        if turn.state.rules.iter().any(|rule| rule.network.is_some()) {
            self.tell_network(turn, id);
        }
    }

    /// Also that no rule says anything: it may have been told otherwise before.
    pub(super) fn tell_network(&mut self, turn: &mut Turn<'_>, id: &AgentId) {
        let (Some(session), Some(agent)) = (self.session_of(id), turn.state.agents.get(id)) else { return };
        let rules = &turn.state.rules;
        let network = if rules.iter().any(|rule| rule.network.is_some()) {
            resolve(agent.node.as_str(), &agent.address, &agent.facts, rules).network
        } else {
            None
        };
        let said = network.and_then(|(rule, settings)| Some((rule, serde_json::to_string(&settings).ok()?)));
        let (rule, json) = said.unwrap_or_default();
        turn.tell_agent(session, ToAgent::Network { json, rule });
    }
}
