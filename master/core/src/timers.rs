//! Deadlines by name: each name has at most one.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A set of deadlines. Setting a name again moves it.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    by_name: BTreeMap<K, Duration>,
    by_time: BTreeSet<(Duration, K)>,
}

impl<K: Ord + Clone> Timers<K> {
    pub(crate) const fn new() -> Self {
        Self { by_name: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    pub(crate) fn set(&mut self, name: K, at: Duration) {
        self.clear(&name);
        self.by_name.insert(name.clone(), at);
        self.by_time.insert((at, name));
    }

    pub(crate) fn clear(&mut self, name: &K) {
        if let Some((name, at)) = self.by_name.remove_entry(name) {
            self.by_time.remove(&(at, name));
        }
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the first if it is due.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, name) = self.by_time.pop_first()?;
        self.by_name.remove(&name);
        Some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moved_deadline_is_due_once() {
        let mut timers = Timers::new();
        timers.set("a", Duration::from_secs(1));
        timers.set("b", Duration::from_secs(2));
        timers.set("a", Duration::from_secs(3));
        assert_eq!(timers.next(), Some(Duration::from_secs(2)));
        assert_eq!(timers.pop_due(Duration::from_secs(2)), Some("b"));
        assert_eq!(timers.pop_due(Duration::from_secs(2)), None);
        assert_eq!(timers.pop_due(Duration::from_secs(9)), Some("a"));
        assert_eq!(timers.next(), None);
    }
}
