//! The two clocks: one that never steps back, for deadlines, and the wall, for people.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use master_core::Now;

/// Milliseconds since 1970, as the wall clock says.
#[must_use]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where monotonic time begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    pub(crate) fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Both clocks.
    #[must_use]
    pub(crate) fn now(&self) -> Now {
        Now { monotonic: self.started.elapsed(), unix_ms: unix_ms() }
    }

    /// The instant of a deadline on [`Now::monotonic`]'s clock.
    #[must_use]
    pub(crate) fn instant(&self, monotonic: std::time::Duration) -> Instant {
        self.started + monotonic
    }
}
