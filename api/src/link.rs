//! The agent link, generated from `proto/link.proto`, and facts on their way over it.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::wildcard_enum_match_arm)]

tonic::include_proto!("mesolith.link.v1");

/// The protocol number an agent of this version registers with.
pub const PROTOCOL: u32 = 2;

/// Facts as they travel.
#[must_use]
pub fn facts_to_wire(facts: &[crate::Fact]) -> Vec<Fact> {
    let wire = |fact: &crate::Fact| {
        let attribute = crate::v1::attributes_to_wire(std::slice::from_ref(&fact.attribute)).pop();
        Fact { attribute, source: fact.source.name().to_owned(), evidence: fact.evidence.clone() }
    };
    facts.iter().map(wire).collect()
}

/// Facts as they travelled. A source of a later version counts least; what has no value is left out.
#[must_use]
pub fn facts_from_wire(wire: Vec<Fact>) -> Vec<crate::Fact> {
    let read = |fact: Fact| {
        let attribute = crate::v1::attributes_from_wire(fact.attribute.as_slice()).pop()?;
        let source = crate::facts::Source::from_name(&fact.source).unwrap_or(crate::facts::Source::Agent);
        Some(crate::Fact { attribute, source, evidence: fact.evidence })
    };
    wire.into_iter().filter_map(read).collect()
}
