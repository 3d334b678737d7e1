//! Sets of CPU or node numbers, written as the kernel writes them: `0-3,8`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A set of small numbers kept as sorted ranges that do not touch, so `0-4294967295` costs as little as `0`.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct IdList(Vec<(u32, u32)>);

/// The text is no list of ranges.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a list of numbers and ranges such as `0-3,8`")]
pub struct ParseIdListError {
    text: String,
}

impl IdList {
    /// How many numbers are in the set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().map(|&(first, last)| u64::from(last - first) + 1).sum()
    }

    /// Whether the set is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `id` is in the set.
    #[must_use]
    pub fn contains(&self, id: u32) -> bool {
        self.0.iter().any(|&(first, last)| first <= id && id <= last)
    }

    /// The numbers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    fn from_ranges(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(previous) if first <= previous.1.saturating_add(1) => previous.1 = previous.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl FromIterator<u32> for IdList {
    fn from_iter<I: IntoIterator<Item = u32>>(ids: I) -> Self {
        Self::from_ranges(ids.into_iter().map(|id| (id, id)).collect())
    }
}

impl FromStr for IdList {
    type Err = ParseIdListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            (first <= last).then_some((first, last))
        };
        let ranges: Option<Vec<_>> = text.split(',').filter(|part| !part.trim().is_empty()).map(range).collect();
        ranges.map(Self::from_ranges).ok_or_else(|| ParseIdListError { text: text.to_owned() })
    }
}

impl fmt::Display for IdList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, &(first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

impl Serialize for IdList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for IdList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_lists_are_read() {
        for (text, shown, count) in [
            ("0-3", "0-3", 4),
            ("0-3,8", "0-3,8", 5),
            ("8,0-3,4-5", "0-5,8", 7),
            ("", "", 0),
            ("0-4294967295", "0-4294967295", 1 << 32),
            ("7,7", "7", 1),
        ] {
            let list: IdList = text.parse().unwrap();
            assert_eq!((list.to_string().as_str(), list.count()), (shown, count), "{text}");
        }
        for text in ["x", "3-1", "1-", "-1", "1--2", "99999999999"] {
            assert!(text.parse::<IdList>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reading_what_was_written_gives_the_same_set(ids in proptest::collection::btree_set(0u32..200, 0..40)) {
            let list: IdList = ids.iter().copied().collect();
            prop_assert_eq!(&list.to_string().parse::<IdList>().unwrap(), &list);
            prop_assert_eq!(list.iter().collect::<Vec<_>>(), ids.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = text.parse::<IdList>();
        }
    }
}
