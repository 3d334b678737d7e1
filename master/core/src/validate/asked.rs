//! What a task or an executor asks for.

use std::collections::BTreeMap;

use api::v1::Resource as WireResource;
use api::{Milli, ResourceValue, Resources};

use super::resource::read;
use crate::operation::{Requester, spell, unique_ids, well_formed};

/// Resources, and for which role.
#[derive(Clone, Debug, Default)]
pub(super) struct Asked {
    pub(super) role: String,
    pub(super) resources: Resources,
}

impl Asked {
    /// Reads them; `who` is `Task` or `Executor`. What does not say for whom is for `role`.
    pub(super) fn read(wire: &[WireResource], role: &str, who: &str) -> Result<Self, String> {
        let invalid = |error: String| format!("{who} uses invalid resources: {error}");
        let resources = read(wire).map_err(invalid)?;
        well_formed(&resources, &Requester::Task { allocated_to: role }).map_err(invalid)?;
        unique_ids(resources.iter()).map_err(|error| format!("{who} uses duplicate persistence ID: {error}"))?;
        let role =
            one_role(wire, role).map_err(|error| format!("Invalid {} resources: {error}", who.to_lowercase()))?;
        one_revocability(&resources)
            .map_err(|error| format!("{who} mixes revocable and non-revocable resources: {error}"))?;
        Ok(Self { role: role.to_owned(), resources })
    }

    /// May they be taken from an offer for `role`?
    pub(super) fn is_for(&self, role: &str) -> bool {
        self.resources.is_empty() || self.role == role
    }
}

/// All of several.
pub(super) fn total(all: &[&Asked]) -> Resources {
    let mut sum = Resources::new();
    for asked in all {
        sum.add_all(&asked.resources);
    }
    sum
}

/// As messages spell them.
pub(super) fn spelled(all: &[&Asked]) -> String {
    let mut by_role: Vec<(&str, Resources)> = Vec::new();
    for asked in all {
        match by_role.iter_mut().find(|(role, _)| *role == asked.role) {
            Some((_, sum)) => sum.add_all(&asked.resources),
            None => by_role.push((&asked.role, asked.resources.clone())),
        }
    }
    let each = by_role.iter().filter(|(_, sum)| !sum.is_empty()).map(|(role, sum)| spell(sum, Some(role)));
    let text = each.collect::<Vec<_>>().join("; ");
    if text.is_empty() { "{}".to_owned() } else { text }
}

/// Does any of them ask for a port, or an element of a set, that another asks for?
pub(super) fn overlap(all: &[&Asked]) -> bool {
    let mut apart: BTreeMap<String, u64> = BTreeMap::new();
    for asked in all {
        for (name, count) in counts(&asked.resources) {
            let sum = apart.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
    }
    counts(&total(all)) != apart
}

/// Scalars add up whatever they are.
fn counts(resources: &Resources) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for resource in resources {
        let count = match &resource.value {
            ResourceValue::Ranges(ranges) => ranges.count(),
            ResourceValue::Set(items) => items.len() as u64,
            ResourceValue::Scalar(_) => continue,
        };
        let sum = counts.entry(resource.name.clone()).or_default();
        *sum = sum.saturating_add(count);
    }
    counts
}

fn one_role<'a>(wire: &'a [WireResource], role: &'a str) -> Result<&'a str, String> {
    let mut first: Option<&str> = None;
    for resource in wire {
        let given = resource.allocation_info.as_ref().and_then(|info| info.role.as_deref()).unwrap_or(role);
        if *first.get_or_insert(given) != given {
            return Err(format!(
                "The resources have multiple allocation roles ('{given}' and '{}') but only one allocation role is \
                 allowed",
                first.unwrap_or_default()
            ));
        }
    }
    Ok(first.unwrap_or(role))
}

/// Of each name, all or none is revocable.
pub(super) fn one_revocability(resources: &Resources) -> Result<(), String> {
    for resource in resources {
        if resources.iter().any(|other| other.name == resource.name && other.revocable != resource.revocable) {
            let name = &resource.name;
            return Err(format!("Cannot use both revocable and non-revocable '{name}' at the same time"));
        }
    }
    Ok(())
}

/// The amount of a scalar, if there is any.
pub(super) fn scalar(resources: &Resources, name: &str) -> Option<Milli> {
    resources.scalars().get(name).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(role: &str, text: &str) -> Asked {
        Asked { role: role.to_owned(), resources: Resources::parse(text).unwrap() }
    }

    #[test]
    fn ports_asked_for_twice_overlap() {
        let (low, high, both) = (asked("a", "ports:[1-5]"), asked("a", "ports:[6-9]"), asked("a", "ports:[5-6]"));
        assert!(!overlap(&[&low, &high]) && overlap(&[&low, &both]) && overlap(&[&low, &low]));
        assert!(!overlap(&[&asked("a", "cpus:1"), &asked("a", "cpus:1")]));
    }

    #[test]
    fn what_is_asked_for_is_spelled_by_role() {
        assert_eq!(
            spelled(&[&asked("a", "cpus:1"), &asked("b", "cpus:1"), &asked("a", "cpus:2")]),
            "cpus(allocated: a):3; cpus(allocated: b):1"
        );
        assert_eq!(spelled(&[&asked("a", "")]), "{}");
        assert!(asked("b", "").is_for("a") && !asked("b", "cpus:1").is_for("a"));
    }
}
