//! How long things take, for metrics: the last thousand of each.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Remembered of each.
const SAMPLES: usize = 1000;

/// A turn of the master in which resources were allocated.
pub(crate) static ALLOCATION_RUN: Timer = Timer::new();
/// From what made an allocation due to its beginning.
pub(crate) static ALLOCATION_LATENCY: Timer = Timer::new();
/// Writing a batch of commands to the replicated log: until it is committed and applied.
pub(crate) static STATE_STORE: Timer = Timer::new();
/// A sync of this master's own disk for its log.
pub(crate) static LOG_SYNC: Timer = Timer::new();

/// Durations of one thing.
#[derive(Debug)]
pub(crate) struct Timer(Mutex<Samples>);

#[derive(Debug)]
struct Samples {
    last: VecDeque<f64>,
    count: u64,
}

/// Milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// The last one.
    pub(crate) last: f64,
    /// Since the process started.
    pub(crate) count: u64,
    sorted: Vec<f64>,
}

impl Timer {
    const fn new() -> Self {
        Self(Mutex::new(Samples { last: VecDeque::new(), count: 0 }))
    }

    /// Adds one.
    pub(crate) fn record(&self, took: Duration) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.last.len() == SAMPLES {
            samples.last.pop_front();
        }
        samples.last.push_back(took.as_secs_f64() * 1000.0);
        samples.count += 1;
    }

    /// All of them at a glance.
    pub(crate) fn summary(&self) -> Summary {
        let samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sorted: Vec<f64> = samples.last.iter().copied().collect();
        let (last, count) = (samples.last.back().copied().unwrap_or(0.0), samples.count);
        drop(samples);
        sorted.sort_unstable_by(f64::total_cmp);
        Summary { last, count, sorted }
    }
}

impl Summary {
    /// Mesos's suffixes.
    pub(crate) fn statistics(&self) -> [(&'static str, f64); 8] {
        [
            ("max", self.sorted.last().copied().unwrap_or(0.0)),
            ("min", self.sorted.first().copied().unwrap_or(0.0)),
            ("p50", self.quantile(0.5)),
            ("p90", self.quantile(0.9)),
            ("p95", self.quantile(0.95)),
            ("p99", self.quantile(0.99)),
            ("p999", self.quantile(0.999)),
            ("p9999", self.quantile(0.9999)),
        ]
    }

    /// Between the two nearest ones.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most a thousand
    fn quantile(&self, share: f64) -> f64 {
        let place = share * self.sorted.len().saturating_sub(1) as f64;
        let below = place.floor() as usize;
        let Some(low) = self.sorted.get(below) else { return 0.0 };
        let high = self.sorted.get(below + 1).unwrap_or(low);
        low + (high - low) * (place - place.floor())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_last_thousand() {
        let timer = Timer::new();
        assert!(timer.summary().statistics().iter().all(|(_, value)| *value == 0.0));
        for ms in 0..2001 {
            timer.record(Duration::from_millis(ms));
        }
        let summary = timer.summary();
        assert_eq!((summary.count, summary.sorted.len()), (2001, SAMPLES));
        let statistics = summary.statistics();
        assert!((statistics[0].1 - 2000.0).abs() < 1e-6 && (statistics[1].1 - 1001.0).abs() < 1e-6);
        assert!((statistics[2].1 - 1500.5).abs() < 1e-6);
    }
}
