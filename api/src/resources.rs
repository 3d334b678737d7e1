//! Resources as values: what a node has, an offer holds, a task asks.

mod disk;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

pub use disk::{Disk, DiskKind, DiskSource, DiskVolume, Persistence};

use crate::attributes::parse_ranges;
use crate::{Milli, Ranges};

/// One resource: an amount of one identity.
///
/// Two resources of the same identity (everything but the value) add up; others stay apart.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Resource {
    /// `cpus`, `mem` (MiB), `disk` (MiB), `gpus`, `ports` or the operator's own.
    pub name: String,
    /// How much.
    pub value: ResourceValue,
    /// From the outermost role inwards; empty when unreserved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Reservation>,
    /// May be taken back at any time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub revocable: bool,
    /// The source, persistence and volume of a disk: part of the identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<Box<Disk>>,
    /// A resource provider other than the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<String>,
    /// May be used by several tasks at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// The three kinds of amount.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum ResourceValue {
    /// cpus, mem, disk, gpus.
    Scalar(Milli),
    /// ports.
    Ranges(Ranges),
    /// The operator's own.
    Set(BTreeSet<String>),
}

/// One level of a reservation.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Reservation {
    /// By `--resources` (cannot be undone) or by an operation.
    pub dynamic: bool,
    /// Never `*`.
    pub role: String,
    /// Who reserved it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Key and value, in the order given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<(String, Option<String>)>,
}

impl ResourceValue {
    /// Nothing of it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(amount) => *amount == Milli::ZERO,
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(items) => items.is_empty(),
        }
    }

    fn plus(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => Some(Self::Scalar(a.saturating_add(*b))),
            (Self::Ranges(a), Self::Ranges(b)) => Some(Self::Ranges(a.union(b))),
            (Self::Set(a), Self::Set(b)) => Some(Self::Set(a | b)),
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => None,
        }
    }

    /// What is left; `None` if `other` is not wholly here.
    fn checked_minus(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => a.checked_sub(*b).map(Self::Scalar),
            (Self::Ranges(a), Self::Ranges(b)) => a.contains(b).then(|| Self::Ranges(a.minus(b))),
            (Self::Set(a), Self::Set(b)) => b.is_subset(a).then(|| Self::Set(a - b)),
            (Self::Scalar(_) | Self::Ranges(_) | Self::Set(_), _) => None,
        }
    }
}

impl Resource {
    /// An unreserved scalar.
    #[must_use]
    pub fn scalar(name: &str, amount: Milli) -> Self {
        Self::unreserved(name, ResourceValue::Scalar(amount))
    }

    /// Unreserved, not revocable, no disk info.
    #[must_use]
    pub fn unreserved(name: &str, value: ResourceValue) -> Self {
        Self {
            name: name.to_owned(),
            value,
            reservations: Vec::new(),
            revocable: false,
            disk: None,
            provider_id: None,
            shared: false,
        }
    }

    /// The role it is reserved to, `*` when to none.
    #[must_use]
    pub fn role(&self) -> &str {
        self.reservations.last().map_or("*", |reservation| reservation.role.as_str())
    }

    /// May a framework of `role` use it? Unreserved, or reserved to the role or one of its ancestors.
    #[must_use]
    pub fn is_allocatable_to(&self, role: &str) -> bool {
        let reserved = self.role();
        reserved == "*" || reserved == role || role.strip_prefix(reserved).is_some_and(|rest| rest.starts_with('/'))
    }

    /// Is each of its kind a thing of its own, that never adds up with another?
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        !self.merges()
    }

    fn same_identity(&self, other: &Self) -> bool {
        self.name == other.name
            && self.reservations == other.reservations
            && self.revocable == other.revocable
            && self.disk == other.disk
            && self.provider_id == other.provider_id
            && self.shared == other.shared
    }

    fn merges(&self) -> bool {
        self.disk.as_ref().is_none_or(|disk| disk.merges())
    }
}

/// A collection of resources in which each identity occurs once and nothing is empty.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resources(Vec<Resource>);

/// Why `--resources` is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ParseResourcesError {
    /// No `:` in an entry.
    #[error("resource `{0}` lacks a value: write `name:value` or `name(role):value`")]
    NoValue(String),
    /// Not a number, a list of ranges or a set.
    #[error("resource `{name}` has a malformed value `{value}`")]
    BadValue {
        /// Which resource.
        name: String,
        /// What was written.
        value: String,
    },
    /// `(` without `)`, or an empty role.
    #[error("resource `{0}` has a malformed role")]
    BadRole(String),
}

impl Resources {
    /// No resources.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes resources as they are: none is empty, and no two have the same identity unless they
    /// never merge.
    #[must_use]
    pub const fn from_distinct(resources: Vec<Resource>) -> Self {
        Self(resources)
    }

    /// Each resource, in the order first added.
    pub fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.0.iter()
    }

    /// Nothing at all?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds one resource; an empty one changes nothing.
    pub fn add(&mut self, resource: Resource) {
        if resource.value.is_empty() {
            return;
        }
        if resource.merges()
            && let Some(same) = self.0.iter_mut().find(|have| have.same_identity(&resource))
            && let Some(sum) = same.value.plus(&resource.value)
        {
            same.value = sum;
            return;
        }
        self.0.push(resource);
    }

    /// Adds everything in `other`.
    pub fn add_all(&mut self, other: &Self) {
        for resource in other.iter() {
            self.add(resource.clone());
        }
    }

    /// What remains after `taken`, or `None` if any of it is not wholly here.
    #[must_use = "Resources are values: this returns the remainder and changes nothing"]
    pub fn checked_sub(&self, taken: &Self) -> Option<Self> {
        let mut rest = self.clone();
        for resource in taken.iter() {
            rest.take(resource)?;
        }
        Some(rest)
    }

    fn take(&mut self, resource: &Resource) -> Option<()> {
        let position = self
            .0
            .iter()
            .position(|have| have.same_identity(resource) && have.value.checked_minus(&resource.value).is_some())?;
        let left = self.0[position].value.checked_minus(&resource.value)?;
        if left.is_empty() {
            self.0.remove(position);
        } else {
            self.0[position].value = left;
        }
        Some(())
    }

    /// What remains after `taken`; of what is not here, nothing is taken.
    #[must_use = "Resources are values: this returns the remainder and changes nothing"]
    pub fn saturating_sub(&self, taken: &Self) -> Self {
        let mut rest = self.clone();
        for resource in taken.iter() {
            if rest.take(resource).is_some() {
                continue;
            }
            if let Some(position) = rest.0.iter().position(|have| have.same_identity(resource)) {
                let left = match (&rest.0[position].value, &resource.value) {
                    (ResourceValue::Scalar(a), ResourceValue::Scalar(b)) => ResourceValue::Scalar(a.saturating_sub(*b)),
                    (ResourceValue::Ranges(a), ResourceValue::Ranges(b)) => ResourceValue::Ranges(a.minus(b)),
                    (ResourceValue::Set(a), ResourceValue::Set(b)) => ResourceValue::Set(a - b),
                    (mine, _) => mine.clone(),
                };
                if left.is_empty() {
                    rest.0.remove(position);
                } else {
                    rest.0[position].value = left;
                }
            }
        }
        rest
    }

    /// Is all of `other` here?
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        self.checked_sub(other).is_some()
    }

    /// Only those for which `keep` says so.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Resource) -> bool) -> Self {
        Self(self.0.iter().filter(|resource| keep(resource)).cloned().collect())
    }

    /// The sum of every scalar of that name, whatever its reservation.
    #[must_use]
    pub fn scalar(&self, name: &str) -> Milli {
        self.scalars().get(name).copied().unwrap_or_default()
    }

    /// The sums of all scalars by name.
    #[must_use]
    pub fn scalars(&self) -> BTreeMap<&str, Milli> {
        let mut sums: BTreeMap<&str, Milli> = BTreeMap::new();
        for resource in &self.0 {
            if let ResourceValue::Scalar(amount) = &resource.value {
                let sum = sums.entry(resource.name.as_str()).or_default();
                *sum = sum.saturating_add(*amount);
            }
        }
        sums
    }

    /// All ranges of that name together.
    #[must_use]
    pub fn ranges(&self, name: &str) -> Ranges {
        self.0.iter().filter(|resource| resource.name == name).fold(Ranges::default(), |all, resource| match &resource
            .value
        {
            ResourceValue::Ranges(ranges) => all.union(ranges),
            ResourceValue::Scalar(_) | ResourceValue::Set(_) => all,
        })
    }

    /// Parses `cpus:4;mem(role):1024;ports:[31000-32000];tags:{a,b}`.
    ///
    /// # Errors
    /// Names the entry that cannot be read.
    pub fn parse(text: &str) -> Result<Self, ParseResourcesError> {
        let mut resources = Self::new();
        for entry in text.split([';', '\n']).map(str::trim).filter(|entry| !entry.is_empty()) {
            let (key, value) = entry.split_once(':').ok_or_else(|| ParseResourcesError::NoValue(entry.to_owned()))?;
            let (name, role) = match key.split_once('(') {
                None => (key.trim(), "*"),
                Some((name, role)) => {
                    let role = role.trim().strip_suffix(')').map(str::trim).filter(|role| !role.is_empty());
                    (name.trim(), role.ok_or_else(|| ParseResourcesError::BadRole(entry.to_owned()))?)
                }
            };
            let bad = || ParseResourcesError::BadValue { name: name.to_owned(), value: value.trim().to_owned() };
            let parsed = parse_value(value.trim()).filter(|_| !name.is_empty()).ok_or_else(bad)?;
            let mut resource = Resource::unreserved(name, parsed);
            if role != "*" {
                resource.reservations.push(Reservation {
                    dynamic: false,
                    role: role.to_owned(),
                    principal: None,
                    labels: Vec::new(),
                });
            }
            resources.add(resource);
        }
        Ok(resources)
    }
}

fn parse_value(text: &str) -> Option<ResourceValue> {
    if text.starts_with('[') {
        return parse_ranges(text).map(ResourceValue::Ranges);
    }
    if let Some(inner) = text.strip_prefix('{') {
        let items = inner.strip_suffix('}')?.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Some(ResourceValue::Set(items.map(str::to_owned).collect()));
    }
    text.parse().ok().and_then(Milli::from_units).map(ResourceValue::Scalar)
}

impl FromIterator<Resource> for Resources {
    fn from_iter<T: IntoIterator<Item = Resource>>(iter: T) -> Self {
        let mut resources = Self::new();
        for resource in iter {
            resources.add(resource);
        }
        resources
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Resource;
    type IntoIter = std::slice::Iter<'a, Resource>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Resources {
    /// As Mesos prints them in messages: `cpus:0.1; mem(role):32; ports:[31000-31001]`; `{}` when empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("{}");
        }
        for (index, resource) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}", resource.name)?;
            if resource.role() != "*" {
                write!(f, "({})", resource.role())?;
            }
            match &resource.value {
                ResourceValue::Scalar(amount) => write!(f, ":{amount}")?,
                ResourceValue::Ranges(ranges) => write!(f, ":{ranges}")?,
                ResourceValue::Set(items) => {
                    write!(f, ":{{{}}}", items.iter().map(String::as_str).collect::<Vec<_>>().join(", "))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_text_grammar_is_mesos() {
        let all = Resources::parse("cpus:4;mem(dev):1024; ports:[31000-32000] ;tags:{a, b};gpus:0").unwrap();
        assert_eq!(all.to_string(), "cpus:4; mem(dev):1024; ports:[31000-32000]; tags:{a, b}");
        for bad in ["cpus", "cpus:many", "cpus:-1", "mem(:1", "mem():1", "ports:[a]", ":3", "t:{a"] {
            assert!(Resources::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn subtraction_is_all_or_nothing() {
        let offer = Resources::parse("cpus:4;mem:8192;ports:[31000-31010]").unwrap();
        for (asked, left) in [
            ("cpus:1.5;mem:2048", Some("cpus:2.5; mem:6144; ports:[31000-31010]")),
            ("cpus:4;mem:8192;ports:[31000-31010]", Some("{}")),
            ("ports:[31002-31003]", Some("cpus:4; mem:8192; ports:[31000-31001, 31004-31010]")),
            ("cpus:1;mem:9000", None),
            ("cpus(dev):1", None),
            ("ports:[1-2]", None),
        ] {
            let asked = Resources::parse(asked).unwrap();
            assert_eq!(offer.checked_sub(&asked).map(|rest| rest.to_string()).as_deref(), left);
        }
    }

    #[test]
    fn reservations_reach_the_role_and_its_children() {
        let resource = &Resources::parse("cpus(a/b):1").unwrap().0[0];
        for (role, usable) in [("a/b", true), ("a/b/c", true), ("a", false), ("a/bc", false), ("*", false)] {
            assert_eq!(resource.is_allocatable_to(role), usable, "{role}");
        }
    }

    proptest! {
        #[test]
        fn what_was_added_can_be_taken_away(a in 0u64..10_000, b in 0u64..10_000, p in 0u64..50, q in 0u64..50) {
            let make = |cpus, port| -> Resources {
                [Resource::scalar("cpus", Milli(cpus)),
                 Resource::unreserved("ports", ResourceValue::Ranges(Ranges::new([(port * 100, port * 100 + 50)])))]
                    .into_iter().collect()
            };
            let (x, y) = (make(a, p), make(b, q + 100));
            let mut sum = x.clone();
            sum.add_all(&y);
            prop_assert!(sum.contains(&x) && sum.contains(&y));
            prop_assert_eq!(sum.checked_sub(&y).unwrap(), x);
        }
    }
}
