//! How long to wait after the n-th failure in a row.

use crate::randomness::Randomness;

/// Doubling waits with jitter: a thousand nodes that lose one master must not return in one instant.
#[derive(Clone, Debug)]
pub struct Backoff {
    first_ms: u64,
    most_ms: u64,
    failures: u32,
}

impl Backoff {
    /// The first wait and the longest.
    #[must_use]
    pub const fn new(first_ms: u64, most_ms: u64) -> Self {
        Self { first_ms, most_ms, failures: 0 }
    }

    /// Between half and all of the doubled wait.
    pub fn next_ms(&mut self, randomness: &mut Randomness) -> u64 {
        let factor = 1u64.checked_shl(self.failures.min(32)).unwrap_or(u64::MAX);
        let whole = self.first_ms.saturating_mul(factor).min(self.most_ms);
        self.failures = self.failures.saturating_add(1);
        whole / 2 + randomness.up_to(whole - whole / 2)
    }

    /// It went well.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over_after_a_success() {
        let (mut backoff, mut randomness) = (Backoff::new(100, 1000), Randomness::new([1; 16]));
        for whole in [100, 200, 400, 800, 1000, 1000] {
            let wait = backoff.next_ms(&mut randomness);
            assert!((whole / 2..=whole).contains(&wait), "{wait} of {whole}");
        }
        for _ in 0..100 {
            assert!(backoff.next_ms(&mut randomness) <= 1000);
        }
        backoff.reset();
        assert!(backoff.next_ms(&mut randomness) <= 100);
    }
}
