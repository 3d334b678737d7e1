//! Waits until a burst of events is over before acting on it, but not for ever.

/// A machine sends a dozen events for one new disk: it is looked at when they have been quiet for so long.
const QUIET_MS: u64 = 50;
/// Or at the latest so long after the first: some buses never fall silent.
const LONGEST_MS: u64 = 400;

/// When to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debounce(Option<Burst>);

#[derive(Clone, Copy, Debug)]
struct Burst {
    first_ms: u64,
    last_ms: u64,
}

impl Debounce {
    /// An event.
    pub fn nudge(&mut self, now_ms: u64) {
        let first_ms = self.0.map_or(now_ms, |burst| burst.first_ms);
        self.0 = Some(Burst { first_ms, last_ms: now_ms });
    }

    /// When it will be time.
    #[must_use]
    pub const fn poll_timeout(&self) -> u64 {
        match self.0 {
            None => u64::MAX,
            Some(Burst { first_ms, last_ms }) => {
                let (quiet, latest) = (last_ms.saturating_add(QUIET_MS), first_ms.saturating_add(LONGEST_MS));
                if quiet < latest { quiet } else { latest }
            }
        }
    }

    /// Whether it is time; then it begins anew.
    pub fn poll(&mut self, now_ms: u64) -> bool {
        let due = self.poll_timeout() <= now_ms;
        if due {
            self.0 = None;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_one_look_and_an_endless_one_several() {
        let mut debounce = Debounce::default();
        assert!(!debounce.poll(u64::MAX - 1));
        for now in [0, 30, 60] {
            debounce.nudge(now);
        }
        assert_eq!(debounce.poll_timeout(), 110);
        assert!(!debounce.poll(109) && debounce.poll(110) && !debounce.poll(500));
        let (mut looks, mut debounce) = (0, Debounce::default());
        for now in (0..4000).step_by(50) {
            debounce.nudge(now);
            looks += u32::from(debounce.poll(now));
        }
        assert!((8..=10).contains(&looks), "{looks}");
    }
}
