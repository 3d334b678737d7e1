//! The two clocks: one that never steps back, for deadlines, and the wall, for people.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use master_core::Now;
use tokio::time::Instant;

/// Milliseconds since 1970, as the wall clock says.
#[must_use]
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Where monotonic time begins, and which wall clock is looked at.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    wall: Wall,
}

#[derive(Clone)]
enum Wall {
    System,
    Other(Arc<dyn Fn() -> u64 + Send + Sync>),
}

impl fmt::Debug for Wall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "System",
            Self::Other(_) => "Other",
        })
    }
}

impl Clock {
    /// Starts at zero.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now(), wall: Wall::System }
    }

    /// The same, with another clock on the wall: milliseconds since 1970.
    #[must_use]
    pub fn with_wall(wall: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { started: Instant::now(), wall: Wall::Other(Arc::new(wall)) }
    }

    /// Both clocks.
    #[must_use]
    pub(crate) fn now(&self) -> Now {
        let unix_ms = match &self.wall {
            Wall::System => unix_ms(),
            Wall::Other(wall) => wall(),
        };
        Now { monotonic: self.started.elapsed(), unix_ms }
    }

    /// The instant of a deadline on [`Now::monotonic`]'s clock.
    #[must_use]
    pub(crate) fn instant(&self, monotonic: std::time::Duration) -> Instant {
        self.started + monotonic
    }
}

/// Waits until then, if there is such a moment.
pub(crate) async fn at(moment: Option<tokio::time::Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
