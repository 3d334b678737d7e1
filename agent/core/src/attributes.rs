//! What constraints match on: everything known of a machine as facts with their sources, in one vocabulary.
//!
//! A pure function of what was detected, heard and typed; `docs/attributes.md` is the vocabulary for people. The master
//! adds its operator's rules and chooses among the facts (`api::facts::winners`).

mod collector;
mod hardware;

pub(crate) use hardware::disk_type;
mod place;
mod spelling;

use std::net::IpAddr;

use api::{Attribute, Fact};
use hwdetect::{CivicAddress, Inventory};

use crate::lldp::Neighbour;
use collector::Collector;

/// What the agent knows of itself.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// What the operator calls the node.
    pub node_name: String,
    /// The agent's version.
    pub agent_version: String,
    /// The image's version, on a machine that booted ours.
    pub image_version: Option<String>,
}

/// What came over the network.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Surroundings {
    /// The link that has the default route.
    pub primary: Option<String>,
    /// The address on it.
    pub address: Option<IpAddr>,
    /// Who is at the other end of which link.
    pub neighbours: Vec<Neighbour>,
    /// What the DHCP server says of the place (option 99).
    pub location: Option<CivicAddress>,
    /// The same in words (option 224).
    pub place: Option<String>,
}

/// No machine has more facts than this: what was observed last goes first.
pub const FACTS_LIMIT: usize = 256;

/// Every fact, what was typed first.
#[must_use]
pub fn facts(own: &Own, inventory: &Inventory, surroundings: &Surroundings, typed: &[Attribute]) -> Vec<Fact> {
    let mut facts = Collector::default();
    for attribute in typed {
        facts.typed(attribute.clone());
    }
    facts.agent(own);
    place::collect(&mut facts, inventory, surroundings);
    hardware::collect(&mut facts, inventory);
    let mut facts = facts.into_facts();
    facts.truncate(FACTS_LIMIT);
    facts
}
