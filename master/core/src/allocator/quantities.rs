//! Sums of scalars by name, as numbers in fixed places: what shares and quotas are computed in.

use std::collections::BTreeMap;

use api::Milli;

/// Names with a place of their own; others are given one as they appear.
pub(super) const KNOWN: [&str; 4] = ["cpus", "mem", "disk", "gpus"];

/// Thousandths by place.
#[derive(Clone, Debug, Default)]
pub(super) struct Quantities {
    known: [u64; KNOWN.len()],
    more: Box<[u64]>,
}

/// Which place a name has.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    more: BTreeMap<String, usize>,
    spelled: Vec<String>,
}

impl Names {
    pub(super) fn place(&mut self, name: &str) -> usize {
        if let Some(place) = self.find(name) {
            return place;
        }
        let place = KNOWN.len() + self.more.len();
        self.more.insert(name.to_owned(), place);
        self.spelled.push(name.to_owned());
        place
    }

    pub(super) fn find(&self, name: &str) -> Option<usize> {
        KNOWN.iter().position(|known| *known == name).or_else(|| self.more.get(name).copied())
    }

    pub(super) fn name(&self, place: usize) -> &str {
        KNOWN.get(place).copied().or_else(|| self.spelled.get(place - KNOWN.len()).map(String::as_str)).unwrap_or("")
    }

    /// Named amounts, for example a minimum or a guarantee.
    pub(super) fn quantities<'a>(&mut self, amounts: impl IntoIterator<Item = (&'a str, Milli)>) -> Quantities {
        let mut sums = Quantities::default();
        for (name, amount) in amounts {
            sums.add_at(self.place(name), amount.0);
        }
        sums
    }

    /// The amounts that are not zero, by name.
    pub(super) fn named(&self, quantities: &Quantities) -> BTreeMap<String, Milli> {
        let present = quantities.iter().enumerate().filter(|(_, amount)| *amount > 0);
        present.map(|(place, amount)| (self.name(place).to_owned(), Milli(amount))).collect()
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
                let mut more = std::mem::take(&mut self.more).into_vec();
                more.resize(index + 1, 0);
                self.more = more.into_boxed_slice();
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

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.known.iter_mut().zip(other.known) {
            *mine = mine.saturating_add(theirs);
        }
        for (index, amount) in other.more.iter().enumerate() {
            self.add_at(KNOWN.len() + index, *amount);
        }
    }

    /// Nothing goes below zero.
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
        self.known == [0; KNOWN.len()] && self.more.iter().all(|amount| *amount == 0)
    }

    /// At least as much of everything?
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.known.iter().zip(other.known).all(|(mine, theirs)| *mine >= theirs)
            && other.more.iter().enumerate().all(|(index, theirs)| self.get(KNOWN.len() + index) >= *theirs)
    }
}

impl PartialEq for Quantities {
    fn eq(&self, other: &Self) -> bool {
        self.covers(other) && other.covers(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_an_operators_own_find_a_place() {
        let mut names = Names::default();
        let mut all = names.quantities([("cpus", Milli(3)), ("tape", Milli(5))]);
        let tape = names.place("tape");
        assert_eq!((all.get(0), all.get(tape), names.name(tape)), (3, 5, "tape"));
        let less = names.quantities([("tape", Milli(4))]);
        assert!(all.covers(&less) && !less.covers(&all));
        assert_eq!(
            names.named(&all.minus(&less)),
            [("cpus".to_owned(), Milli(3)), ("tape".to_owned(), Milli(1))].into()
        );
        all.sub(&all.clone());
        assert!(all.is_zero() && all == Quantities::default());
    }
}
