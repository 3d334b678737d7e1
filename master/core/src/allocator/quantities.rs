//! Sums of scalars by name, as numbers in fixed places: what shares and quotas are computed in.

use std::collections::BTreeMap;

use api::{Milli, Resource, ResourceValue, Resources};

/// Names with a place of their own; others are given one as they appear.
const KNOWN: [&str; 4] = ["cpus", "mem", "disk", "gpus"];

/// Thousandths by place.
#[derive(Clone, Debug, Default)]
pub(super) struct Quantities {
    known: [u64; KNOWN.len()],
    more: Vec<u64>,
}

/// Which place a name has.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    more: BTreeMap<String, usize>,
}

impl Names {
    pub(super) fn place(&mut self, name: &str) -> usize {
        if let Some(place) = KNOWN.iter().position(|known| *known == name) {
            return place;
        }
        if let Some(place) = self.more.get(name) {
            return *place;
        }
        let place = KNOWN.len() + self.more.len();
        self.more.insert(name.to_owned(), place);
        place
    }

    /// The sums of the scalars for which `keep` says so.
    pub(super) fn sum(&mut self, resources: &Resources, keep: impl Fn(&Resource) -> bool) -> Quantities {
        let mut sums = Quantities::default();
        for resource in resources.iter().filter(|resource| keep(resource)) {
            if let ResourceValue::Scalar(amount) = resource.value {
                sums.add_at(self.place(&resource.name), amount.0);
            }
        }
        sums
    }

    /// As [`sum`](Self::sum), where every name is known to have a place already.
    pub(super) fn sum_known(&self, resources: &Resources) -> Quantities {
        let mut sums = Quantities::default();
        for resource in resources {
            if let (ResourceValue::Scalar(amount), Some(place)) = (&resource.value, self.find(&resource.name)) {
                sums.add_at(place, amount.0);
            }
        }
        sums
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        KNOWN.iter().position(|known| *known == name).or_else(|| self.more.get(name).copied())
    }

    /// Named amounts, for example a minimum or a guarantee.
    pub(super) fn quantities<'a>(&mut self, amounts: impl IntoIterator<Item = (&'a str, Milli)>) -> Quantities {
        let mut sums = Quantities::default();
        for (name, amount) in amounts {
            sums.add_at(self.place(name), amount.0);
        }
        sums
    }
}

impl Quantities {
    pub(super) fn get(&self, place: usize) -> u64 {
        match self.known.get(place) {
            Some(amount) => *amount,
            None => self.more.get(place - KNOWN.len()).copied().unwrap_or(0),
        }
    }

    fn at(&mut self, place: usize) -> &mut u64 {
        if place >= KNOWN.len() {
            let index = place - KNOWN.len();
            if self.more.len() <= index {
                self.more.resize(index + 1, 0);
            }
            return &mut self.more[index];
        }
        &mut self.known[place]
    }

    pub(super) fn add_at(&mut self, place: usize, amount: u64) {
        let value = self.at(place);
        *value = value.saturating_add(amount);
    }

    pub(super) fn set(&mut self, place: usize, amount: u64) {
        *self.at(place) = amount;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        self.known.iter().chain(&self.more).copied()
    }

    fn places(&self) -> usize {
        KNOWN.len() + self.more.len()
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.known.iter_mut().zip(other.known) {
            *mine = mine.saturating_add(theirs);
        }
        for (index, amount) in other.more.iter().enumerate() {
            self.add_at(KNOWN.len() + index, *amount);
        }
    }

    pub(super) fn sub(&mut self, other: &Self) {
        for (mine, theirs) in self.known.iter_mut().zip(other.known) {
            *mine = mine.saturating_sub(theirs);
        }
        for (mine, theirs) in self.more.iter_mut().zip(&other.more) {
            *mine = mine.saturating_sub(*theirs);
        }
    }

    /// `self - other`, nothing below zero.
    pub(super) fn minus(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        rest.sub(other);
        rest
    }

    pub(super) fn is_zero(&self) -> bool {
        self.iter().all(|amount| amount == 0)
    }

    /// At least as much of everything?
    pub(super) fn covers(&self, other: &Self) -> bool {
        (0..other.places()).all(|place| self.get(place) >= other.get(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_an_operators_own_find_a_place() {
        let mut names = Names::default();
        let resources = Resources::parse("cpus:2;cpus(dev):1;tape:3;ports:[1-2]").unwrap();
        let all = names.sum(&resources, |_| true);
        let tape = names.place("tape");
        assert_eq!((all.get(0), all.get(tape)), (3000, 3000));
        let unreserved = names.sum(&resources, |resource| resource.role() == "*");
        assert!(all.covers(&unreserved) && !unreserved.covers(&all));
        assert!(all.minus(&all).is_zero());
    }
}
