//! Settings the master gives are tried: a node that does not find its master again with them goes back to those before.

use api::network::{Settings, TRY_SECONDS};
use serde::{Deserialize, Serialize};

/// What a rule says, and which.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Offered {
    /// Nothing, where no rule says anything.
    pub settings: Settings,
    /// Its name.
    pub rule: String,
}

/// What outlives the process, as JSON.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Kept {
    /// With these the master was found.
    pub confirmed: Offered,
    /// With these it was not.
    pub failed: Option<Offered>,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Trial {
    kept: Kept,
    /// The master's last word.
    last: Option<Offered>,
    trying: Option<Trying>,
}

#[derive(Clone, Debug)]
struct Trying {
    offered: Offered,
    until_ms: u64,
}

/// What an offer changes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// Other settings are in force, and the master has to be found with them.
    Tried,
    /// Other settings are in force and stay.
    Taken,
    /// None.
    Same,
    /// None: with these the master was lost before.
    FailedBefore,
}

/// How a trial ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// The master was found.
    Confirmed,
    /// The settings before are in force again.
    Reverted(Offered),
}

impl Trial {
    /// Begins with what was kept. What was being tried when the process ended is forgotten: the master says it again.
    #[must_use]
    pub fn new(kept: Kept) -> Self {
        Self { kept, last: None, trying: None }
    }

    /// What is to be kept.
    #[must_use]
    pub const fn kept(&self) -> &Kept {
        &self.kept
    }

    /// What counts now.
    #[must_use]
    pub fn in_force(&self) -> &Offered {
        self.trying.as_ref().map_or(&self.kept.confirmed, |trying| &trying.offered)
    }

    /// For how long the master may still be away.
    #[must_use]
    pub fn trying_until(&self) -> Option<u64> {
        self.trying.as_ref().map(|trying| trying.until_ms)
    }

    /// The master says what its rules say.
    pub fn offer(&mut self, offered: Offered, now_ms: u64) -> Change {
        if self.last.as_ref() == Some(&offered) {
            return Change::Same;
        }
        self.last = Some(offered.clone());
        if self.kept.failed.as_ref() == Some(&offered) {
            return Change::FailedBefore;
        }
        let same = |other: &Settings| {
            Settings { try_seconds: None, ..other.clone() }
                == Settings { try_seconds: None, ..offered.settings.clone() }
        };
        if same(&self.in_force().settings) {
            // What failed is no longer asked for: asked for again, it is tried again.
            self.kept.failed = None;
            if self.trying.is_none() {
                self.kept.confirmed = offered;
            }
            return Change::Same;
        }
        self.kept.failed = None;
        if same(&self.kept.confirmed.settings) {
            // Back to what is known to work.
            (self.kept.confirmed, self.trying) = (offered, None);
            return Change::Taken;
        }
        match offered.settings.try_seconds.unwrap_or(TRY_SECONDS) {
            0 => {
                (self.kept.confirmed, self.trying) = (offered, None);
                Change::Taken
            }
            seconds => {
                let until_ms = now_ms.saturating_add(u64::from(seconds) * 1000);
                self.trying = Some(Trying { offered, until_ms });
                Change::Tried
            }
        }
    }

    /// A session with the master was opened since the last change.
    pub fn found(&mut self) -> Option<Outcome> {
        self.kept.confirmed = self.trying.take()?.offered;
        Some(Outcome::Confirmed)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        self.trying_until().unwrap_or(u64::MAX)
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Option<Outcome> {
        if self.trying.as_ref().is_none_or(|trying| trying.until_ms > now_ms) {
            return None;
        }
        let failed = self.trying.take()?.offered;
        self.kept.failed = Some(failed.clone());
        Some(Outcome::Reverted(failed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offered(number: u8, try_seconds: Option<u32>) -> Offered {
        let dns = (number > 0).then(|| [10, 0, 0, number].into()).into_iter().collect();
        Offered { settings: Settings { dns, try_seconds, ..Settings::default() }, rule: format!("r{number}") }
    }

    #[test]
    fn a_setting_with_which_the_master_is_lost_is_taken_back_and_not_tried_again() {
        let mut trial = Trial::new(Kept::default());
        assert_eq!(trial.offer(offered(1, None), 0), Change::Tried);
        assert_eq!(trial.found(), Some(Outcome::Confirmed));
        assert_eq!(trial.offer(offered(2, Some(10)), 1_000), Change::Tried);
        assert_eq!((trial.in_force(), trial.poll_timeout()), (&offered(2, Some(10)), 11_000));
        assert_eq!(trial.handle_timeout(10_999), None);
        assert_eq!(trial.handle_timeout(11_000), Some(Outcome::Reverted(offered(2, Some(10)))));
        assert_eq!(trial.in_force(), &offered(1, None));
        assert_eq!(trial.found(), None, "the session is over the old one");
        assert_eq!(trial.offer(offered(2, Some(10)), 12_000), Change::Same);
        // Nor by the next process.
        let mut next = Trial::new(trial.kept().clone());
        assert_eq!(next.offer(offered(2, Some(10)), 0), Change::FailedBefore);
        assert_eq!(next.offer(offered(3, None), 0), Change::Tried);
    }

    #[test]
    fn back_to_what_worked_and_what_is_not_to_be_tried_is_taken_at_once() {
        let mut trial = Trial::new(Kept::default());
        assert_eq!(trial.offer(offered(0, None), 0), Change::Same, "no rule says anything, as before");
        assert_eq!(trial.offer(offered(1, Some(0)), 0), Change::Taken);
        assert_eq!(trial.poll_timeout(), u64::MAX);
        assert_eq!(trial.offer(offered(2, None), 0), Change::Tried);
        assert_eq!(trial.offer(offered(1, None), 5), Change::Taken);
        assert_eq!((trial.poll_timeout(), trial.in_force()), (u64::MAX, &offered(1, None)));
        assert_eq!(trial.offer(offered(1, Some(30)), 6), Change::Same, "the same for longer");
    }

    proptest! {
        #[test]
        fn whatever_happens_what_is_in_force_without_a_trial_was_found_or_not_to_be_tried(
            events in proptest::collection::vec((0u8..4, 0u8..3), 0..40)
        ) {
            let (mut trial, mut now) = (Trial::new(Kept::default()), 0);
            for (number, what) in events {
                match what {
                    0 => { trial.offer(offered(number, None), now); }
                    1 => { trial.found(); }
                    _ => { now += 30_000; trial.handle_timeout(now); }
                }
                let kept = trial.kept();
                prop_assert!(trial.trying_until().is_none_or(|until| until <= now + 60_000));
                prop_assert!(trial.trying_until().is_some() || trial.in_force() == &kept.confirmed);
                prop_assert!(kept.failed.as_ref().is_none_or(|failed| failed != trial.in_force()));
            }
        }
    }
}
