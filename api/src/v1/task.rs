//! Small words of tasks: labels as pairs, durations in milliseconds.

use super::{DurationInfo, Label, Labels};

impl Labels {
    /// As key and value.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, Option<String>)> {
        self.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect()
    }

    /// From key and value.
    #[must_use]
    pub fn from_pairs(pairs: &[(String, Option<String>)]) -> Self {
        let labels = pairs.iter().map(|(key, value)| Label { key: key.clone(), value: value.clone() }).collect();
        Self { labels }
    }
}

impl DurationInfo {
    /// Whole milliseconds, or `None` when negative.
    #[must_use]
    pub fn millis(&self) -> Option<u64> {
        u64::try_from(self.nanoseconds).ok().map(|nanos| nanos / 1_000_000)
    }
}
