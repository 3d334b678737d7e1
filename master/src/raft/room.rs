//! Room on the disk. Whoever finds none waits until there is some; meanwhile this replica neither leads nor stands for
//! election, and the others go on without it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(500);

/// Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Room(Arc<AtomicUsize>);

/// One that waits for room.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            tracing::warn!("there is room on the disk again");
        }
    }
}

impl Room {
    /// Does somebody wait for it?
    pub(super) fn is_wanting(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// Does the work, again and again as long as the disk is full. What was half done must be undone by the work itself.
    pub(super) async fn find<T, F: Future<Output = io::Result<T>>>(
        &self,
        mut work: impl FnMut() -> F,
    ) -> io::Result<T> {
        let mut waiting = None;
        loop {
            match work().await {
                Err(error) if is_full(&error) => {
                    if waiting.is_none() {
                        if self.0.fetch_add(1, Ordering::Relaxed) == 0 {
                            tracing::error!(%error, "the disk is full: this master takes no part until there is room");
                        }
                        waiting = Some(Waiting(&self.0));
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                done => return done,
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_disk_is_waited_for_and_other_errors_are_told_at_once() {
        let (room, mut tries) = (Room::default(), 0);
        let done = room.find(|| {
            tries += 1;
            let (full, seen) = (tries < 3, room.is_wanting());
            async move {
                assert_eq!(seen, (2..=3).contains(&tries));
                if full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(7) }
            }
        });
        assert_eq!(done.await.unwrap(), 7);
        assert!(!room.is_wanting());
        let failed: io::Result<()> = room.find(|| async { Err(io::ErrorKind::PermissionDenied.into()) }).await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        // Given up in between.
        let never = room.find(|| async { Err::<(), _>(io::ErrorKind::QuotaExceeded.into()) });
        assert!(tokio::time::timeout(AGAIN * 3 / 2, never).await.is_err());
        assert!(!room.is_wanting());
    }
}
