//! Sets of integers as inclusive ranges: ports.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Disjoint, sorted, coalesced inclusive ranges.
#[derive(Clone, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Coalesces whatever is given; a range whose end is before its begin is empty.
    #[must_use]
    pub fn new(ranges: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut all: Vec<_> = ranges.into_iter().filter(|(begin, end)| begin <= end).collect();
        all.sort_unstable();
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(all.len());
        for (begin, end) in all {
            match merged.last_mut() {
                Some(last) if begin <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((begin, end)),
            }
        }
        Self(merged)
    }

    /// The ranges in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Nothing in it?
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many integers it holds.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(begin, end)| (end - begin).saturating_add(1)).fold(0, u64::saturating_add)
    }

    /// Everything in either. Linear.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let (mut mine, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut merged: Vec<(u64, u64)> = Vec::with_capacity(self.0.len() + other.0.len());
        loop {
            let next = match (mine.peek(), theirs.peek()) {
                (Some(a), Some(b)) if a <= b => mine.next(),
                (Some(_), None) => mine.next(),
                (_, _) => theirs.next(),
            };
            let Some((begin, end)) = next.copied() else { break };
            match merged.last_mut() {
                Some(last) if begin <= last.1.saturating_add(1) => last.1 = last.1.max(end),
                _ => merged.push((begin, end)),
            }
        }
        Self(merged)
    }

    /// Everything here that is not in `other`. Linear.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut rest = Vec::with_capacity(self.0.len());
        let mut first = 0; // of `other` that may still touch what follows
        for (begin, end) in self.iter() {
            while other.0.get(first).is_some_and(|(_, taken_end)| *taken_end < begin) {
                first += 1;
            }
            let mut from = Some(begin);
            for (taken_begin, taken_end) in other.0[first..].iter().take_while(|(taken_begin, _)| *taken_begin <= end) {
                let Some(start) = from else { break };
                if *taken_begin > start {
                    rest.push((start, taken_begin - 1));
                }
                from = taken_end.checked_add(1).filter(|next| *next <= end);
            }
            if let Some(start) = from {
                rest.push((start, end));
            }
        }
        Self(rest)
    }

    /// Is all of `other` here? Linear.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        let mut mine = self.0.iter();
        let mut current = mine.next();
        other.iter().all(|(begin, end)| {
            while current.is_some_and(|(_, last)| *last < begin) {
                current = mine.next();
            }
            current.is_some_and(|(first, last)| *first <= begin && end <= *last)
        })
    }
}

impl fmt::Display for Ranges {
    /// `[31000-31004, 31006-32000]`, as Mesos prints them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (index, (begin, end)) in self.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{begin}-{end}")?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_coalesce_and_holes_are_cut() {
        let all = Ranges::new([(5, 9), (1, 4), (20, 30)]);
        assert_eq!(all.to_string(), "[1-9, 20-30]");
        assert_eq!(all.minus(&Ranges::new([(3, 3), (9, 21)])).to_string(), "[1-2, 4-8, 22-30]");
        assert_eq!(Ranges::new([(0, u64::MAX)]).minus(&Ranges::new([(5, u64::MAX)])).to_string(), "[0-4]");
    }

    proptest! {
        #[test]
        fn ranges_behave_as_sets(a in prop::collection::vec((0u64..60, 0u64..60), 0..6),
                                 b in prop::collection::vec((0u64..60, 0u64..60), 0..6)) {
            let (a, b) = (Ranges::new(a), Ranges::new(b));
            let set = |r: &Ranges| r.iter().flat_map(|(x, y)| x..=y).collect::<std::collections::BTreeSet<_>>();
            prop_assert_eq!(set(&a.union(&b)), &set(&a) | &set(&b));
            prop_assert_eq!(set(&a.minus(&b)), &set(&a) - &set(&b));
            prop_assert_eq!(a.contains(&b), set(&b).is_subset(&set(&a)));
            prop_assert_eq!(a.count(), set(&a).len() as u64);
        }
    }
}
