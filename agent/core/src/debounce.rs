//! Waits until a burst of events is over before acting on it, but not for ever, and not too often.

/// A machine sends a dozen events for one new disk: it is looked at when they have been quiet for so long.
const QUIET_MS: u64 = 50;
/// Or at the latest so long after the first: some buses never fall silent.
const LONGEST_MS: u64 = 400;
/// So many bursts may follow each other; a link that flaps all day gets one look each [`REFILL_MS`], for each change goes
/// through the master's log and takes offers back.
const CREDIT: u64 = 60;
const REFILL_MS: u64 = 5_000;

/// When to look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Debounce {
    burst: Option<Burst>,
    /// When the credit would be whole again.
    whole_ms: u64,
}

#[derive(Clone, Copy, Debug)]
struct Burst {
    first_ms: u64,
    last_ms: u64,
}

impl Debounce {
    /// An event.
    pub fn nudge(&mut self, now_ms: u64) {
        let first_ms = self.burst.map_or(now_ms, |burst| burst.first_ms);
        self.burst = Some(Burst { first_ms, last_ms: now_ms });
    }

    /// Whatever happened is known.
    pub fn clear(&mut self) {
        self.burst = None;
    }

    /// When it will be time.
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        let Some(Burst { first_ms, last_ms }) = self.burst else { return u64::MAX };
        let calm = last_ms.saturating_add(QUIET_MS).min(first_ms.saturating_add(LONGEST_MS));
        // One look costs a refill; the debt may be as large as the credit.
        let affordable = self.whole_ms.saturating_sub((CREDIT - 1) * REFILL_MS);
        calm.max(affordable)
    }

    /// Whether it is time; then it begins anew.
    pub fn poll(&mut self, now_ms: u64) -> bool {
        let due = self.poll_timeout() <= now_ms;
        if due {
            self.burst = None;
            self.whole_ms = self.whole_ms.max(now_ms).saturating_add(REFILL_MS);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_one_look() {
        let mut debounce = Debounce::default();
        assert!(!debounce.poll(u64::MAX - 1));
        for now in [0, 30, 60] {
            debounce.nudge(now);
        }
        assert_eq!(debounce.poll_timeout(), 110);
        assert!(!debounce.poll(109) && debounce.poll(110) && !debounce.poll(500));
        debounce.nudge(600);
        debounce.clear();
        assert_eq!(debounce.poll_timeout(), u64::MAX);
    }

    #[test]
    fn an_endless_storm_is_looked_at_now_and_then_and_calm_pays_the_debt() {
        let (mut looks, mut debounce) = (Vec::new(), Debounce::default());
        for now in (0..300_000).step_by(20) {
            debounce.nudge(now);
            if debounce.poll(now) {
                looks.push(now);
            }
        }
        assert!(looks[..60].iter().all(|at| *at < 30_000), "the first ones at once: {looks:?}");
        assert!((118..=122).contains(&looks.len()), "then one each five seconds: {}", looks.len());
        debounce.clear();
        debounce.nudge(700_000);
        assert_eq!(debounce.poll_timeout(), 700_050, "a calm machine is looked at at once");
    }
}
