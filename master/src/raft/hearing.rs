//! When the leader was last heard of, and whether its connection broke since.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Hearing(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    heard: Mutex<Heard>,
    lost: Notify,
}

#[derive(Debug)]
struct Heard {
    at: Instant,
    /// The connection it came on.
    connection: Option<u64>,
    /// When that connection ended, if it did.
    lost: Option<Instant>,
}

impl Hearing {
    /// As if a leader had been lost just now: one that is there has the time of a lease to call.
    pub(super) fn new() -> Self {
        let heard = Heard { at: Instant::now(), connection: None, lost: Some(Instant::now()) };
        Self(Arc::new(Shared { heard: Mutex::new(heard), lost: Notify::new() }))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader wrote, on this connection.
    pub(super) fn leader_wrote(&self, connection: u64) {
        *self.heard() = Heard { at: Instant::now(), connection: Some(connection), lost: None };
    }

    /// A connection ended; perhaps the leader's.
    pub(super) fn ended(&self, connection: u64) {
        let mut heard = self.heard();
        if heard.connection == Some(connection) {
            heard.lost = heard.lost.or_else(|| Some(Instant::now()));
            // Kept for one who is just about to wait.
            self.0.lost.notify_one();
        }
    }

    /// For how long nothing came, and whether the connection broke.
    pub(super) fn silence(&self) -> (Duration, bool) {
        let heard = self.heard();
        (heard.at.elapsed(), heard.lost.is_some())
    }

    /// For how long it has been known that the leader is gone: since its connection broke, or it had been silent for
    /// `patience`.
    pub(super) fn missed(&self, patience: Duration) -> Duration {
        let heard = self.heard();
        heard.lost.map_or_else(|| heard.at.elapsed().saturating_sub(patience), |lost| lost.elapsed())
    }

    /// Waits until the leader's connection ends.
    pub(super) async fn until_lost(&self) {
        self.0.lost.notified().await;
    }
}
