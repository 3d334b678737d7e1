//! Containers that are being let go. Plugins know a container by its id and its interface alone: the end of an earlier run
//! must not come after the beginning of the next one of the same id, or it would take away what that one was given.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often each id is leaving: what an earlier agent left may come on top of what this one lets go.
#[derive(Debug, Default)]
pub(super) struct Departures {
    counts: Mutex<BTreeMap<String, u32>>,
    changed: Condvar,
}

/// As long as it is held, its container is leaving; also who fails while holding it lets go of it.
#[derive(Debug)]
pub(super) struct Departure {
    pub(super) container: String,
    among: Arc<Departures>,
}

/// It did not leave in time.
#[derive(Debug)]
pub(super) struct Stays;

impl Departures {
    pub(super) fn begin(self: &Arc<Self>, container: &str) -> Departure {
        *self.counts().entry(container.to_owned()).or_default() += 1;
        Departure { container: container.to_owned(), among: Arc::clone(self) }
    }

    /// Until nobody of this id is leaving.
    pub(super) fn wait(&self, container: &str, patience: Duration) -> Result<(), Stays> {
        let leaves = |counts: &mut BTreeMap<String, u32>| counts.contains_key(container);
        let waited = self.changed.wait_timeout_while(self.counts(), patience, leaves);
        let (_counts, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() { Err(Stays) } else { Ok(()) }
    }

    /// Nothing fails with them in hand.
    fn counts(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        let mut counts = self.among.counts();
        if let Some(count) = counts.get_mut(&self.container) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                counts.remove(&self.container);
            }
        }
        drop(counts);
        self.among.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_one_waits_until_all_of_its_id_have_left() {
        let departures = Arc::new(Departures::default());
        let short = Duration::from_millis(20);
        let (first, second) = (departures.begin("c1"), departures.begin("c1"));
        assert!(departures.wait("c2", short).is_ok());
        drop(first);
        assert!(departures.wait("c1", short).is_err(), "the other is still leaving");
        let others = Arc::clone(&departures);
        let waiting = std::thread::spawn(move || others.wait("c1", Duration::from_secs(30)).is_ok());
        drop(second);
        assert!(waiting.join().unwrap() && departures.counts().is_empty());
    }
}
