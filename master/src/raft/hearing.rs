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
    /// That connection ended.
    lost: bool,
}

impl Hearing {
    /// As if a leader had been lost just now: one that is there has the time of a lease to call.
    pub(super) fn new() -> Self {
        let heard = Heard { at: Instant::now(), connection: None, lost: true };
        Self(Arc::new(Shared { heard: Mutex::new(heard), lost: Notify::new() }))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The leader wrote, on this connection.
    pub(super) fn leader_wrote(&self, connection: u64) {
        *self.heard() = Heard { at: Instant::now(), connection: Some(connection), lost: false };
    }

    /// A connection ended; perhaps the leader's.
    pub(super) fn ended(&self, connection: u64) {
        let mut heard = self.heard();
        if heard.connection == Some(connection) {
            heard.lost = true;
            // Kept for one who is just about to wait.
            self.0.lost.notify_one();
        }
    }

    /// For how long nothing came, and whether the connection broke.
    pub(super) fn silence(&self) -> (Duration, bool) {
        let heard = self.heard();
        (heard.at.elapsed(), heard.lost)
    }

    /// Waits until the leader's connection ends.
    pub(super) async fn until_lost(&self) {
        self.0.lost.notified().await;
    }
}
