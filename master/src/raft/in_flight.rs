//! What a leader has appended and the disk does not have yet.
//!
//! The library counts an entry as ours when `append` returns, and sends it to the others then. A leader's `append`
//! returns before the sync, so that the two happen at once. What makes that safe: until the entry is on our disk
//! nothing is applied, nobody is told that it is committed, and nothing else is asked of the log's files.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use super::types::LogId;

/// One append on its way to the disk.
#[derive(Clone, Copy, Debug)]
struct Flight {
    /// Its first entry.
    first: u64,
    /// The one before.
    before: Option<LogId>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Air {
    flight: Option<Flight>,
    /// The disk refused: the flight never lands.
    failed: bool,
}

/// The append on its way, if there is one. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct InFlight(Arc<watch::Sender<Air>>);

impl Default for InFlight {
    fn default() -> Self {
        Self(Arc::new(watch::channel(Air::default()).0))
    }
}

impl InFlight {
    /// There was none, and it has [landed](Self::landed) if there was one before.
    pub(super) fn start(&self, first: u64, before: Option<LogId>) {
        self.0.send_replace(Air { flight: Some(Flight { first, before }), failed: false });
    }

    /// It is on the disk, or will never be.
    pub(super) fn end(&self, written: &io::Result<()>) {
        self.0.send_modify(|air| match written {
            Ok(()) => air.flight = None,
            Err(_) => air.failed = true,
        });
    }

    async fn until(&self, holds: impl Fn(Option<Flight>) -> bool) -> io::Result<()> {
        let mut air = self.0.subscribe();
        let seen = air.wait_for(|air| air.failed || holds(air.flight)).await;
        match seen {
            Ok(air) if !air.failed => Ok(()),
            Ok(_) => Err(io::Error::other("an earlier write to the log failed")),
            Err(_) => Err(io::Error::other("the log is closed")),
        }
    }

    /// Waits until nothing is on its way. The disk decides how long; fails if it refused.
    pub(super) async fn landed(&self) -> io::Result<()> {
        self.until(|flight| flight.is_none()).await
    }

    /// Waits until the entry at `index` and all before it are on the disk.
    pub(super) async fn safe_to(&self, index: u64) -> io::Result<()> {
        self.until(|flight| flight.is_none_or(|flight| index < flight.first)).await
    }

    /// As much of what is committed as others may be told.
    pub(super) fn told(&self, committed: Option<LogId>) -> Option<LogId> {
        let flight = self.0.borrow().flight;
        match flight {
            Some(flight) if committed.is_some_and(|id| id.index >= flight.first) => flight.before,
            Some(_) | None => committed,
        }
    }

    /// The first entry that is not on the disk.
    pub(super) fn first(&self) -> Option<u64> {
        self.0.borrow().flight.map(|flight| flight.first)
    }
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;

    use super::*;

    fn id(index: u64) -> LogId {
        LogId::new(CommittedLeaderId::new(1, 1), index)
    }

    #[tokio::test]
    async fn what_is_on_its_way_is_neither_applied_nor_told() {
        let air = InFlight::default();
        assert_eq!(air.told(Some(id(7))), Some(id(7)));
        air.start(6, Some(id(5)));
        assert_eq!(air.told(Some(id(7))), Some(id(5)));
        assert_eq!(air.told(Some(id(4))), Some(id(4)));
        air.safe_to(5).await.unwrap();
        let waits = tokio::time::timeout(std::time::Duration::from_millis(20), air.safe_to(6));
        assert!(waits.await.is_err());
        air.end(&Ok(()));
        air.safe_to(6).await.unwrap();
        assert_eq!(air.told(Some(id(7))), Some(id(7)));
    }

    #[tokio::test]
    async fn a_refused_write_ends_all_waiting_and_is_never_told() {
        let air = InFlight::default();
        air.start(6, None);
        let (waiting, waits) = (
            air.clone(),
            tokio::spawn({
                let air = air.clone();
                async move { air.landed().await }
            }),
        );
        waiting.end(&Err(io::Error::other("no space")));
        assert!(waits.await.unwrap().is_err());
        assert!(air.safe_to(1).await.is_err());
        assert_eq!(air.told(Some(id(6))), None);
    }
}
