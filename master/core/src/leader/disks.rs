//! What nodes are told of the operator's rules for disks: at the beginning of a session, and when it becomes other.

use api::AgentId;

use super::{Leader, Turn};
use crate::io::ToAgent;
use crate::rules::resolve;

/// Why an agent is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Occasion {
    /// Its session begins.
    Session,
    /// Rules, or what is known of it, are other than before: what it knows already need not be said again.
    Change,
}

impl Leader {
    /// Tells an agent, if there is anything to tell.
    pub(super) fn send_disk_rules(&mut self, turn: &mut Turn<'_>, agent: &AgentId, occasion: Occasion) {
        let (Some(session), Some(known)) = (self.session_of(agent), turn.state.agents.get(agent)) else { return };
        let told = self.told_of_disks.get(agent);
        if told.is_none() && turn.state.rules.iter().all(|rule| rule.disks.is_none()) {
            return;
        }
        let rules = resolve(known.node.as_str(), &known.address, &known.facts, &turn.state.rules).disks;
        let same = told.is_some_and(|told| *told == rules) || (told.is_none() && rules.is_empty());
        if same && (occasion == Occasion::Change || rules.is_empty()) {
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
