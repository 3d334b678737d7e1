//! Raft's log and vote on disk, as the consensus library asks for them.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[cfg(feature = "planted-bugs")]
use master_core::planted::{self, Bug};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use tokio::sync::watch;

use super::in_flight::InFlight;
use super::room::Room;
use super::segment_log::{LogError, SegmentLog};
use super::types::{Entry, IoError, LogId, StorageError, Types, Vote};
use crate::atomic_file;
use crate::disk::{self, Disk, SharedDisk};

/// The file that names the last entry that was removed because a snapshot has it.
pub(super) const LAST_REMOVED: &str = "purged";
/// Records handed out at once; whoever needs more asks again.
const READ_LIMIT_BYTES: usize = 8 << 20;

/// Entries kept in memory besides, so that applying what was just written reads no file. Full: the oldest that is on the
/// disk goes, and is read from there if somebody wants it after all.
const RECENT: usize = 64;

/// The newest entries, without a gap.
#[derive(Debug, Default)]
struct Recent(VecDeque<Entry>);

impl Recent {
    fn append(&mut self, entry: Entry, in_flight: Option<u64>) {
        let follows = self.0.back().is_none_or(|last| last.log_id.index + 1 == entry.log_id.index);
        if !follows {
            self.0.clear();
        }
        self.0.push_back(entry);
        let on_disk = |entry: &Entry| in_flight.is_none_or(|first| entry.log_id.index < first);
        if self.0.len() > RECENT && self.0.front().is_some_and(on_disk) {
            self.0.pop_front();
        }
    }

    /// All of a range, or nothing.
    fn get(&self, range: &std::ops::Range<u64>) -> Option<Vec<Entry>> {
        let (first, last) = (self.0.front()?.log_id.index, self.0.back()?.log_id.index);
        if range.start < first || range.end > last + 1 || range.is_empty() {
            return None;
        }
        let position = |index: u64| usize::try_from(index - first).ok();
        let wanted = self.0.range(position(range.start)?..position(range.end)?);
        Some(wanted.cloned().collect())
    }

    fn truncate_from(&mut self, index: u64) {
        self.0.retain(|entry| entry.log_id.index < index);
    }

    /// Applied and acknowledged: nobody asks for them soon.
    fn purge_to(&mut self, index: u64) {
        self.0.retain(|entry| entry.log_id.index > index);
    }
}

/// How far the snapshot on the disk goes, for those who may only then forget.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Safe {
    /// The last entry it stands for.
    pub(super) upto: Option<u64>,
    /// One could not be written: nothing must be forgotten any more.
    pub(super) failed: bool,
}

impl Safe {
    pub(super) fn extend(&mut self, last: Option<LogId>) {
        self.upto = self.upto.max(last.map(|id| id.index));
    }
}

/// Clones share the log.
#[derive(Clone, Debug)]
pub(super) struct LogStore {
    /// Whose log this is.
    id: u64,
    disk: SharedDisk,
    directory: PathBuf,
    /// Locked for a moment, never across a wait.
    recent: Arc<Mutex<Recent>>,
    /// Locked only in blocking threads, one operation at a time.
    log: Arc<Mutex<SegmentLog>>,
    in_flight: InFlight,
    purged: Option<LogId>,
    vote: Option<Vote>,
    /// How far the snapshot on the disk goes.
    snapshot: watch::Receiver<Safe>,
    /// Of the log, or of the snapshot that replaced it: what a candidate compares.
    last: LastLog,
    room: Room,
}

/// The newest entry's id, for those who only look.
#[derive(Clone, Debug, Default)]
pub(super) struct LastLog(Arc<Mutex<Option<LogId>>>);

impl LastLog {
    pub(super) fn get(&self) -> Option<LogId> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, id: Option<LogId>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = id;
    }
}

impl LogStore {
    /// Opens or creates the log in `directory`.
    pub(super) fn open(
        id: u64,
        disk: SharedDisk,
        directory: &Path,
        snapshot: watch::Receiver<Safe>,
        room: Room,
    ) -> Result<Self, LogError> {
        let purged: Option<LogId> = read_json(&*disk, &directory.join(LAST_REMOVED))?;
        let vote = read_json(&*disk, &directory.join("vote"))?.map(|vote: Vote| follows(vote, id));
        let (log, torn) = SegmentLog::open(disk.clone(), directory, purged.map(|id| id.index))?;
        if let Some(torn) = torn {
            tracing::warn!(
                file = %torn.path.display(), offset = torn.offset, bytes = torn.bytes,
                "the log ended in a record that was never acknowledged; it was cut off"
            );
        }
        let (log, recent) = (Arc::new(Mutex::new(log)), Arc::default());
        Ok(Self {
            id,
            disk,
            directory: directory.to_owned(),
            recent,
            log,
            in_flight: InFlight::default(),
            purged,
            vote,
            snapshot,
            last: LastLog::default(),
            room,
        })
    }

    /// Follows the newest entry's id; known once the library has asked for the log's state.
    pub(super) fn last(&self) -> LastLog {
        self.last.clone()
    }

    /// Follows what is appended and not on the disk yet.
    pub(super) fn in_flight(&self) -> InFlight {
        self.in_flight.clone()
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works on the files, behind what is on its way to them.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SegmentLog) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.in_flight.landed().await?;
        self.at_once(work).await
    }

    async fn at_once<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SegmentLog) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let log = self.log.clone();
        disk::blocking(&self.disk, move || work(&mut log.lock().unwrap_or_else(PoisonError::into_inner))).await?
    }

    async fn write_file(&self, name: &str, value: &impl serde::Serialize) -> io::Result<()> {
        let (path, bytes) = (self.directory.join(name), serde_json::to_vec(value).map_err(io::Error::other)?);
        let written = Arc::new((path, bytes));
        let write = || async {
            let (disk, written) = (self.disk.clone(), written.clone());
            disk::blocking(&self.disk, move || atomic_file::write_on(&*disk, &written.0, &written.1, 0o600)).await?
        };
        self.room.find(write).await
    }

    /// Did we write these, as the leader we still are? Then nobody waits for our acknowledgement.
    fn is_ours(&self, entries: &[Entry]) -> bool {
        let leader = self.vote.filter(Vote::is_committed).map(|vote| vote.leader_id);
        leader.is_some_and(|leader| {
            leader.voted_for() == Some(self.id) && entries.iter().all(|entry| entry.log_id.leader_id == leader)
        })
    }

    /// Waits for room on the disk if there is none.
    async fn append_records(&self, records: Arc<Vec<(u64, Vec<u8>)>>) -> io::Result<()> {
        let append = || {
            let records = records.clone();
            self.at_once(move |log| log.append(&records))
        };
        self.room.find(append).await
    }

    /// The log has these from now on.
    fn take(&self, entries: Vec<Entry>) {
        self.last.set(entries.last().map(|entry| entry.log_id).or(self.last.get()));
        let (mut recent, first) = (self.recent(), self.in_flight.first());
        entries.into_iter().for_each(|entry| recent.append(entry, first));
    }

    fn write_meanwhile(&self, entries: Vec<Entry>, records: Arc<Vec<(u64, Vec<u8>)>>) {
        let Some(first) = entries.first().map(|entry| entry.log_id.index) else { return };
        self.in_flight.start(first, self.last.get());
        self.take(entries);
        let store = self.clone();
        tokio::spawn(async move {
            let written = store.append_records(records).await;
            if let Err(error) = &written {
                tracing::error!(%error, "cannot write the log");
            }
            store.in_flight.end(&written);
        });
    }

    async fn entries(&self, range: std::ops::Range<u64>, max_bytes: usize) -> Result<Vec<Entry>, StorageError> {
        if let Some(entries) = self.recent().get(&range) {
            return Ok(entries);
        }
        let records =
            self.blocking(move |log| log.read(range, max_bytes)).await.map_err(|error| IoError::read_logs(&error))?;
        let entries: Result<Vec<Entry>, _> = records.iter().map(|record| rmp_serde::from_slice(record)).collect();
        Ok(entries.map_err(|error| IoError::read_logs(&error))?)
    }
}

/// A leader that restarts does not lead on in its term, as the library would: what was on its way to the disk may be
/// lost here and known to others, and the same place in the same term must not be given to something else.
fn follows(vote: Vote, id: u64) -> Vote {
    #[cfg(feature = "planted-bugs")]
    if planted::is(Bug::LeadsOn) {
        return vote;
    }
    match vote.leader_id.voted_for() {
        Some(leader) if leader == id => Vote::new(vote.leader_id.get_term(), id),
        Some(_) | None => vote,
    }
}

/// Planted: takes entries for known by their numbers alone.
#[cfg(feature = "planted-bugs")]
fn without_known(mut entries: Vec<Entry>, last: Option<LogId>) -> Vec<Entry> {
    if planted::is(Bug::ForeignEntriesKept) {
        entries.retain(|entry| last.is_none_or(|last| entry.log_id.index > last.index));
    }
    entries
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(disk: &dyn Disk, path: &Path) -> Result<Option<T>, LogError> {
    let failed = |source| LogError::Io { action: "read", path: path.to_owned(), source };
    let Some(bytes) = disk.read(path).map_err(failed)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidData, error)))
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(start..end, usize::MAX).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        let entries = self.entries(start..end, READ_LIMIT_BYTES).await?;
        // Removed since the library decided to send them: what follows must not be taken for what was asked.
        if entries.first().is_some_and(|first| first.log_id.index != start) {
            return Ok(Vec::new());
        }
        Ok(entries)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let last = self.blocking(|log| Ok(log.last())).await.map_err(|error| IoError::read_logs(&error))?;
        let last_log_id = match last {
            Some(index) => self.entries(index..index + 1, 0).await?.first().map(|entry| entry.log_id),
            None => None,
        };
        let last_log_id = last_log_id.or(self.purged);
        self.last.set(last_log_id);
        Ok(LogState { last_purged_log_id: self.purged, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        #[cfg(feature = "planted-bugs")]
        if planted::is(Bug::VoteNotSaved) {
            self.vote = Some(*vote);
            return Ok(());
        }
        self.write_file("vote", vote).await.map_err(|error| IoError::write_vote(&error))?;
        self.vote = Some(*vote);
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        #[cfg(feature = "planted-bugs")]
        let entries = without_known(entries, self.last.get());
        let records: Result<Vec<_>, _> = entries
            .iter()
            .map(|entry| rmp_serde::to_vec_named(entry).map(|bytes| (entry.log_id.index, bytes)))
            .collect();
        let records = records.map_err(|error| IoError::write_logs(&error))?;
        // One append at a time: another would only wait for the same disk.
        self.in_flight.landed().await.map_err(|error| IoError::write_logs(&error))?;
        if self.is_ours(&entries) {
            self.write_meanwhile(entries, Arc::new(records));
            callback.log_io_completed(Ok(()));
            return Ok(());
        }
        let written = self.append_records(Arc::new(records)).await;
        match &written {
            Ok(()) => self.take(entries),
            Err(error) => tracing::error!(%error, "cannot write the log"),
        }
        callback.log_io_completed(written);
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        #[cfg(feature = "planted-bugs")]
        if planted::is(Bug::ForeignEntriesKept) {
            return Ok(());
        }
        self.recent().truncate_from(log_id.index);
        self.blocking(move |log| log.truncate_from(log_id.index)).await.map_err(|error| IoError::write_logs(&error))?;
        self.get_log_state().await.map(drop)
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        // The library asks for this while the snapshot that takes the place of these records is still being written:
        // without power in between, neither would be there.
        let safe = self.snapshot.wait_for(|safe| safe.failed || safe.upto >= Some(log_id.index)).await;
        if !safe.is_ok_and(|safe| !safe.failed) {
            return Err(
                IoError::write_logs(&io::Error::other("the snapshot that takes its place was not written")).into()
            );
        }
        // First the promise that the records are not needed, then their end.
        self.write_file(LAST_REMOVED, &log_id).await.map_err(|error| IoError::write_logs(&error))?;
        self.purged = Some(log_id);
        self.last.set(self.last.get().max(Some(log_id)));
        self.recent().purge_to(log_id.index);
        self.blocking(move |log| log.purge_to(log_id.index)).await.map_err(|error| IoError::write_logs(&error))?;
        Ok(())
    }
}
