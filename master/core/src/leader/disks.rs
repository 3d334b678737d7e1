//! What nodes are told of the operator's rules for disks: at the beginning of a session, and when it becomes other.

use api::AgentId;

use super::{Leader, Turn};
use crate::io::ToAgent;
use crate::rules::resolve;

/// Why an agent is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Occasion {
    /// Its session begins: it is told in any case.
    Session,
    /// Rules, or what is known of it, are other than before: what it knows already need not be said again.
    Change,
}

impl Leader {
    /// Tells an agent, if it may not know.
    pub(super) fn send_disk_rules(&mut self, turn: &mut Turn<'_>, agent: &AgentId, occasion: Occasion) {
        let (Some(session), Some(known)) = (self.session_of(agent), turn.state.agents.get(agent)) else { return };
        // Of most clusters: nothing is looked up for each of thousands of nodes.
        let rules = if turn.state.rules.iter().all(|rule| rule.disks.is_none()) {
            Vec::new()
        } else {
            resolve(known.node.as_str(), &known.address, &known.facts, &turn.state.rules).disks
        };
        let same = self.told_of_disks.get(agent).map_or(rules.is_empty(), |told| *told == rules);
        // A session always hears it: another leader may have told the node of rules that are gone.
        if occasion == Occasion::Change && same {
            return;
        }
        self.told_of_disks.insert(agent.clone(), rules.clone());
        turn.tell_agent(session, ToAgent::DiskRules { rules });
    }

    /// Tells all of them.
    pub(super) fn disk_rules_changed(&mut self, turn: &mut Turn<'_>) {
        let agents: Vec<AgentId> = self.sessions_by_agent.keys().cloned().collect();
        for agent in agents {
            self.send_disk_rules(turn, &agent, Occasion::Change);
        }
    }
}
