//! What nodes are told of the operator's rules for disks: at the beginning of a session, and when it becomes other.

use api::AgentId;

use super::{Leader, Turn};
use crate::io::ToAgent;
use crate::rules::resolve;

impl Leader {
    /// Tells an agent, if there is anything to tell.
    pub(super) fn send_disk_rules(&mut self, turn: &mut Turn<'_>, agent: &AgentId) {
        let (Some(session), Some(known)) = (self.session_of(agent), turn.state.agents.get(agent)) else { return };
        if turn.state.rules.iter().all(|rule| rule.disks.is_none()) && !self.told_of_disks.contains(agent) {
            return;
        }
        let rules = resolve(known.node.as_str(), &known.address, &known.facts, &turn.state.rules).disks;
        if rules.is_empty() {
            // It may have been told of some before.
            if !self.told_of_disks.remove(agent) {
                return;
            }
        } else {
            self.told_of_disks.insert(agent.clone());
        }
        turn.tell_agent(session, ToAgent::DiskRules { rules });
    }

    /// Tells all of them.
    pub(super) fn disk_rules_changed(&mut self, turn: &mut Turn<'_>) {
        let agents: Vec<AgentId> = self.sessions_by_agent.keys().cloned().collect();
        for agent in agents {
            self.send_disk_rules(turn, &agent);
        }
    }
}
