//! What an agent can do, as a set: a few bits for each of ten thousand agents.

use serde::{Deserialize, Serialize};

use super::agent_info::Capability;
use super::agent_info::capability::Type;

/// Capabilities of an agent, by their numbers.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct AgentCapabilities(u32);

/// What an agent of this version can do. Not among them: resource providers, for our agents have none.
///
/// Reservations, volumes and operations are the master's log's and need nothing of the agent but that it takes tasks
/// that use them; draining is the master's, with the agent's grace periods; limits above the request are cgroup's.
pub const OUR_AGENTS: AgentCapabilities = AgentCapabilities::of(&[
    Type::MultiRole,
    Type::HierarchicalRole,
    Type::ReservationRefinement,
    Type::ResizeVolume,
    Type::AgentOperationFeedback,
    Type::AgentDraining,
    Type::TaskResourceLimits,
]);

impl AgentCapabilities {
    const fn of(types: &[Type]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < types.len() {
            bits |= 1 << types[at] as u32;
            at += 1;
        }
        Self(bits)
    }

    /// Those of a message. What a newer agent can do besides is nothing to us.
    #[must_use]
    pub fn from_wire(wire: &[Capability]) -> Self {
        wire.iter()
            .filter(|one| one.r#type() != Type::Unknown)
            .fold(Self(0), |all, one| Self(all.0 | Self::of(&[one.r#type()]).0))
    }

    /// As messages have them.
    #[must_use]
    pub fn to_wire(self) -> Vec<Capability> {
        self.iter().map(|kind| Capability { r#type: Some(kind.into()) }).collect()
    }

    /// Is it one of them?
    #[must_use]
    pub const fn has(self, kind: Type) -> bool {
        self.0 & Self::of(&[kind]).0 != 0
    }

    /// Each, in the order of their numbers.
    pub fn iter(self) -> impl Iterator<Item = Type> {
        (1..32).filter_map(|number| Type::try_from(number).ok()).filter(move |kind| self.has(*kind))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_on_the_wire_is_what_is_kept() {
        let wire = OUR_AGENTS.to_wire();
        assert_eq!((wire.len(), AgentCapabilities::from_wire(&wire)), (7, OUR_AGENTS));
        assert!(OUR_AGENTS.has(Type::AgentDraining) && !OUR_AGENTS.has(Type::ResourceProvider));
        let newer = Capability { r#type: Some(31) };
        assert_eq!(AgentCapabilities::from_wire(&[newer]), AgentCapabilities::default());
    }
}
