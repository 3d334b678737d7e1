//! Guarantees and limits of roles, and cutting resources down to an amount.

use std::collections::BTreeMap;

use api::{Milli, Resource, ResourceValue, Resources};

use super::quantities::{Names, Quantities};

/// What a role is promised and allowed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Quota {
    /// At least this much, by scalar name; none where unnamed.
    pub guarantees: BTreeMap<String, Milli>,
    /// At most this much; any amount where unnamed.
    pub limits: BTreeMap<String, Milli>,
}

/// A quota with its names looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct PlacedQuota {
    pub(super) guarantees: Quantities,
    /// `u64::MAX` in every place without a limit.
    pub(super) limits: Vec<(usize, u64)>,
}

impl PlacedQuota {
    pub(super) fn new(quota: &Quota, names: &mut Names) -> Self {
        let guarantees = names.quantities(quota.guarantees.iter().map(|(name, amount)| (name.as_str(), *amount)));
        let limits = quota.limits.iter().map(|(name, amount)| (names.place(name), amount.0)).collect();
        Self { guarantees, limits }
    }
}

/// What becomes of a name without a bound.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Unbounded {
    Taken,
    Left,
}

/// How much of each name may be taken: by place; a place not there is unbounded.
#[derive(Clone, Debug, Default)]
pub(super) struct Bounds(Vec<Option<u64>>);

impl Bounds {
    /// Exactly these amounts; nothing of any other name.
    pub(super) fn exactly(amounts: &Quantities) -> Self {
        Self(amounts.iter().map(Some).collect())
    }

    pub(super) fn bound(&mut self, place: usize, amount: u64) {
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        let now = self.0[place].map_or(amount, |bound| bound.min(amount));
        self.0[place] = Some(now);
    }

    pub(super) fn get(&self, place: usize) -> Option<u64> {
        self.0.get(place).copied().flatten()
    }

    fn spend(&mut self, place: usize, amount: u64) {
        if let Some(Some(bound)) = self.0.get_mut(place) {
            *bound = bound.saturating_sub(amount);
        }
    }

    /// Cuts every scalar down to what is left of the bounds. What cannot be cut is taken whole or
    /// not at all.
    pub(super) fn cut(&mut self, resources: &Resources, names: &Names, unbounded: Unbounded) -> Resources {
        let mut taken = Resources::new();
        for resource in resources {
            let ResourceValue::Scalar(amount) = resource.value else { continue };
            let Some(place) = names.find(&resource.name) else { continue };
            let Some(bound) = self.get(place) else {
                if unbounded == Unbounded::Taken {
                    taken.add(resource.clone());
                }
                continue;
            };
            let part = if is_divisible(resource) { amount.0.min(bound) } else { amount.0 };
            if part > bound {
                continue;
            }
            self.spend(place, part);
            let mut resource = resource.clone();
            resource.value = ResourceValue::Scalar(Milli(part));
            taken.add(resource);
        }
        taken
    }
}

/// A whole disk or a persistent volume does not contain a smaller copy of itself.
fn is_divisible(resource: &Resource) -> bool {
    resource.disk.as_ref().is_none_or(|disk| disk.is_divisible())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_disk_is_taken_whole_or_not_at_all() {
        let mut names = Names::default();
        let mut disk = Resource::scalar("disk", Milli(100_000));
        disk.disk = Some(Box::new(api::Disk::of_kind(api::resources::DiskKind::Mount)));
        let mut resources = Resources::parse("cpus:4;disk:30").unwrap();
        resources.add(disk);
        for (bound, left) in [(150, "cpus:4; disk:30; disk:100"), (120, "cpus:4; disk:30"), (20, "cpus:4; disk:20")] {
            let mut bounds = Bounds::default();
            bounds.bound(names.place("disk"), bound * 1000);
            assert_eq!(bounds.cut(&resources, &names, Unbounded::Taken).to_string(), left);
        }
    }
}
