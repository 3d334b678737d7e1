//! Offer constraints as frameworks write them.

use std::collections::BTreeMap;

use api::v1::scheduler::attribute_constraint::predicate::Predicate as WirePredicate;
use api::v1::scheduler::attribute_constraint::selector::{PseudoattributeType, Selector as WireSelector};
use api::v1::scheduler::{AttributeConstraint as WireConstraint, OfferConstraints};

use crate::allocator::{AttributeConstraint, Pattern, Predicate, RoleConstraints, Selector};

/// By role, as the allocator has them.
pub(crate) fn constraints(wire: &OfferConstraints) -> Result<BTreeMap<String, RoleConstraints>, String> {
    // Those of roles that are not the framework's are read, and never used.
    wire.role_constraints.iter().map(|(role, constraints)| Ok((role.clone(), of_role(role, constraints)?))).collect()
}

fn of_role(
    role: &str,
    wire: &api::v1::scheduler::offer_constraints::RoleConstraints,
) -> Result<RoleConstraints, String> {
    if wire.groups.is_empty() {
        return Err(format!(
            "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role {role}"
        ));
    }
    let mut groups = Vec::with_capacity(wire.groups.len());
    for group in &wire.groups {
        if group.attribute_constraints.is_empty() {
            return Err(format!(
                "'OfferConstraints::RoleConstraints::groups' for role {role}contains an empty RoleConstraints::Group"
            ));
        }
        let group: Result<Vec<_>, String> = group.attribute_constraints.iter().map(constraint).collect();
        groups.push(group.map_err(|error| format!("A role {role} has an invalid 'AttributeConstraint': {error}"))?);
    }
    Ok(RoleConstraints { groups })
}

fn constraint(wire: &WireConstraint) -> Result<AttributeConstraint, String> {
    let selector = match &wire.selector.selector {
        Some(WireSelector::AttributeName(name)) => Selector::Attribute(name.clone()),
        Some(WireSelector::PseudoattributeType(kind)) => match PseudoattributeType::try_from(*kind) {
            Ok(PseudoattributeType::Hostname) => Selector::Hostname,
            Ok(PseudoattributeType::Region) => Selector::Region,
            Ok(PseudoattributeType::Zone) => Selector::Zone,
            Ok(PseudoattributeType::Unknown) | Err(_) => return Err("Unknown pseudoattribute type".to_owned()),
        },
        None => {
            return Err("Exactly one of 'AttributeConstraint::Selector::name' or \
                        'AttributeConstraint::Selector::pseudoattribute_type' must be set"
                .to_owned());
        }
    };
    let pattern = |regex: &str| Pattern::new(regex).map_err(|error| error.to_string());
    let predicate = match &wire.predicate.predicate {
        Some(WirePredicate::Exists(_)) => Predicate::Exists,
        Some(WirePredicate::NotExists(_)) => Predicate::NotExists,
        Some(WirePredicate::TextEquals(text)) => Predicate::TextEquals(text.value.clone()),
        Some(WirePredicate::TextNotEquals(text)) => Predicate::TextNotEquals(text.value.clone()),
        Some(WirePredicate::TextMatches(text)) => Predicate::TextMatches(pattern(&text.regex)?),
        Some(WirePredicate::TextNotMatches(text)) => Predicate::TextNotMatches(pattern(&text.regex)?),
        None => return Err("Unknown predicate type".to_owned()),
    };
    Ok(AttributeConstraint { selector, predicate })
}
