//! Guarantees and limits of roles, and cutting resources down to an amount.

use std::collections::BTreeMap;

use api::{Milli, Resource};

use super::bag::{Amount, Bag};
use super::kinds::Kinds;
use super::quantities::{KNOWN, Names, Quantities};

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
    pub(super) limits: Vec<(usize, u64)>,
}

impl PlacedQuota {
    pub(super) fn new(quota: &Quota, names: &mut Names) -> Self {
        let guarantees = names.quantities(quota.guarantees.iter().map(|(name, amount)| (name.as_str(), *amount)));
        let limits = quota.limits.iter().map(|(name, amount)| (names.place(name), amount.0)).collect();
        Self { guarantees, limits }
    }

    pub(super) fn is_default(&self) -> bool {
        self.limits.is_empty() && self.guarantees.is_zero()
    }
}

const UNBOUNDED: u64 = u64::MAX;

/// How much of each name may be taken, by place.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    known: [u64; KNOWN.len()],
    more: Vec<u64>,
    /// Of any other name.
    beyond: u64,
}

impl Bounds {
    /// Any amount of anything.
    pub(super) const fn none() -> Self {
        Self { known: [UNBOUNDED; KNOWN.len()], more: Vec::new(), beyond: UNBOUNDED }
    }

    /// These amounts and nothing of any other name.
    pub(super) fn exactly(amounts: &Quantities) -> Self {
        let mut bounds = Self { known: [0; KNOWN.len()], more: Vec::new(), beyond: 0 };
        for (place, amount) in amounts.iter().enumerate() {
            *bounds.at(place) = amount;
        }
        bounds
    }

    fn at(&mut self, place: usize) -> &mut u64 {
        if place < KNOWN.len() {
            return &mut self.known[place];
        }
        let index = place - KNOWN.len();
        if self.more.len() <= index {
            self.more.resize(index + 1, self.beyond);
        }
        &mut self.more[index]
    }

    pub(super) fn bound(&mut self, place: usize, amount: u64) {
        let bound = self.at(place);
        *bound = amount.min(*bound);
    }

    fn get(&self, place: usize) -> u64 {
        match self.known.get(place) {
            Some(bound) => *bound,
            None => self.more.get(place - KNOWN.len()).copied().unwrap_or(self.beyond),
        }
    }

    /// May this much be taken?
    pub(super) fn allow(&self, amounts: &Quantities) -> bool {
        amounts.iter().enumerate().all(|(place, amount)| amount <= self.get(place))
    }

    /// How much of `wanted` may be taken; what is taken is spent.
    fn take(&mut self, place: usize, wanted: u64) -> u64 {
        let bound = self.get(place);
        if bound == UNBOUNDED || wanted == 0 {
            return wanted;
        }
        let part = wanted.min(bound);
        *self.at(place) = bound - part;
        part
    }

    /// Cuts every unreserved, not revocable scalar down to what is left of the bounds, and takes
    /// nothing else. What cannot be cut is taken whole or not at all.
    pub(super) fn cut(&mut self, bag: &Bag, kinds: &Kinds) -> Bag {
        let mut taken = Bag::default();
        for (place, amount) in bag.plain.iter().enumerate().filter(|(_, amount)| *amount > 0) {
            taken.plain.add_at(place, self.take(place, amount));
        }
        for piece in bag.rest.iter().filter(|piece| kinds.is_plain_scalar(piece)) {
            let (Amount::Scalar(amount), kind) = (&piece.amount, kinds.get(piece.kind)) else { continue };
            if kind.divisible || *amount <= self.get(kind.place) {
                taken.add(piece.kind, Amount::Scalar(self.take(kind.place, *amount)));
            }
        }
        taken
    }
}

/// A whole disk or a persistent volume does not contain a smaller copy of itself.
pub(super) fn is_divisible(resource: &Resource) -> bool {
    resource.disk.as_ref().is_none_or(|disk| disk.is_divisible())
}

#[cfg(test)]
mod tests {
    use api::Resources;

    use super::*;

    #[test]
    fn a_whole_disk_is_taken_whole_or_not_at_all() {
        let mut kinds = Kinds::default();
        let mut disk = Resource::scalar("disk", Milli(100_000));
        disk.disk = Some(Box::new(api::Disk::of_kind(api::resources::DiskKind::Mount)));
        let mut resources = Resources::parse("cpus:4;disk:30;ports:[1-2];cpus(a):7").unwrap();
        resources.add(disk);
        let bag = kinds.bag(&resources);
        let place = kinds.names.place("disk");
        for (bound, left) in [(150, "cpus:4; disk:30; disk:100"), (120, "cpus:4; disk:30"), (20, "cpus:4; disk:20")] {
            let mut bounds = Bounds::none();
            bounds.bound(place, bound * 1000);
            assert_eq!(kinds.resources(&bounds.cut(&bag, &kinds)).to_string(), left);
        }
        let exact = Bounds::exactly(&kinds.names.quantities([("cpus", Milli(500))])).cut(&bag, &kinds);
        assert_eq!(kinds.resources(&exact).to_string(), "cpus:0.5");
    }
}
