//! Persistent volumes: the log says which there are, and agents keep their directories.

use api::{AgentId, Resources};

use super::{Leader, Turn};
use crate::io::ToAgent;
use crate::operation::volume::is_persistent;

impl Leader {
    /// All of an agent's volumes. `first`: of a session, when what was told before may not have been heard.
    pub(super) fn send_volumes(&self, turn: &mut Turn<'_>, agent: &AgentId, told: Told) {
        let (Some(session), Some(known)) = (self.session_of(agent), turn.state.agents.get(agent)) else { return };
        let persistent = known.resources.filter(is_persistent);
        turn.tell_agent(session, ToAgent::Volumes { persistent, first: told == Told::Nothing });
    }

    /// After an operation: an agent need not hear of other resources.
    pub(super) fn volumes_changed(&self, turn: &mut Turn<'_>, agent: &AgentId, from: &Resources, to: &Resources) {
        if from.iter().chain(to.iter()).any(is_persistent) {
            self.send_volumes(turn, agent, Told::Before);
        }
    }
}

/// What the agent has heard of its volumes in this session.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    Nothing,
    Before,
}
