//! How long to wait before a process that ended is started again.

/// The first wait.
const FIRST_MS: u64 = 100;
/// The longest wait: a node that cannot work says so six times a minute.
const LONGEST_MS: u64 = 10_000;
/// A process that lived this long was healthy; its next end is a new story.
const HEALTHY_MS: u64 = 60_000;

/// Doubles the wait with every short life.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Backoff {
    short_lives: u32,
}

impl Backoff {
    /// Notes that a process has ended after `life_ms`; returns how long to wait.
    pub(crate) fn after(&mut self, life_ms: u64) -> u64 {
        if life_ms >= HEALTHY_MS {
            self.short_lives = 0;
        }
        let wait = FIRST_MS.checked_shl(self.short_lives).unwrap_or(LONGEST_MS).min(LONGEST_MS);
        // No further once the longest wait is reached, so that the shift stays small.
        self.short_lives = (self.short_lives + 1).min(16);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_ten_seconds_and_begin_anew_after_a_healthy_life() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..9).map(|_| backoff.after(5)).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        for _ in 0..100 {
            assert_eq!(backoff.after(59_999), 10_000);
        }
        assert_eq!(backoff.after(60_000), 100);
        assert_eq!(backoff.after(0), 200);
    }
}
