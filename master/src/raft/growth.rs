//! When the log has grown so much that a snapshot is due.
//!
//! A snapshot costs what the state is large, so it is written when the log behind it is as large: then what is written
//! twice stays a constant part of what is written at all, however large the state.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// A small state's log may grow to this: reading it again takes a moment.
const SMALLEST: u64 = 32 << 20;

/// What was applied since the last snapshot began.
#[derive(Debug)]
pub(super) struct Growth {
    entries: u64,
    bytes: u64,
    /// Entries after which one is due, whatever their size.
    every: u64,
    snapshot: SnapshotSize,
    due: watch::Sender<()>,
}

/// How large the newest snapshot is, in bytes. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct SnapshotSize(Arc<AtomicU64>);

impl SnapshotSize {
    pub(super) fn set(&self, bytes: usize) {
        self.0.store(bytes as u64, Ordering::Relaxed);
    }
}

impl Growth {
    /// And where it says that one is due, again and again until one has begun.
    pub(super) fn new(every: u64, snapshot: SnapshotSize) -> (Self, watch::Receiver<()>) {
        let (due, told) = watch::channel(());
        (Self { entries: 0, bytes: 0, every, snapshot, due }, told)
    }

    pub(super) fn applied(&mut self, entries: u64, bytes: u64) {
        self.entries += entries;
        self.bytes += bytes;
        if self.entries >= self.every || self.bytes >= self.snapshot.0.load(Ordering::Relaxed).max(SMALLEST) {
            self.due.send_replace(());
        }
    }

    /// A snapshot begins with what was applied so far; its size is told later.
    pub(super) fn begins(&mut self) -> SnapshotSize {
        (self.entries, self.bytes) = (0, 0);
        self.snapshot.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Is one due after that? Forgets that it was said.
    fn due(growth: &mut Growth, told: &mut watch::Receiver<()>, entries: u64, bytes: u64) -> bool {
        growth.applied(entries, bytes);
        let due = told.has_changed().unwrap();
        told.mark_unchanged();
        due
    }

    #[test]
    fn a_snapshot_is_due_when_the_log_is_as_large_as_the_last_one() {
        let (mut growth, mut told) = Growth::new(1000, SnapshotSize::default());
        assert!(!due(&mut growth, &mut told, 1, SMALLEST - 1));
        assert!(due(&mut growth, &mut told, 1, 1));
        assert!(due(&mut growth, &mut told, 0, 0), "said again until one begins");
        growth.begins().set(3 * usize::try_from(SMALLEST).unwrap());
        assert!(!due(&mut growth, &mut told, 1, 3 * SMALLEST - 1));
        assert!(due(&mut growth, &mut told, 1, 1));
    }

    #[test]
    fn many_small_entries_make_one_due_as_well() {
        let (mut growth, mut told) = Growth::new(10, SnapshotSize::default());
        assert!(!due(&mut growth, &mut told, 9, 0));
        assert!(due(&mut growth, &mut told, 1, 0));
        let _size = growth.begins();
        assert!(!due(&mut growth, &mut told, 9, 0));
    }
}
