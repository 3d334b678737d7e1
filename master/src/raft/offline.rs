//! The log and its snapshot read, and made anew, while no master runs on them: what rescue and restoring need.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use master_core::State;
use master_core::command::DecodeError;
use openraft::EntryPayload;

use super::log_store::{LAST_REMOVED, read_json};
use super::segment_log::{LogError, SegmentLog};
use super::snapshot_file::{self, SnapshotError};
use super::types::{Entry, LogId, Member, Membership, SnapshotMeta, Vote};
use crate::atomic_file;
use crate::disk::{Real, SharedDisk};

/// Why a log cannot be read or made anew.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The log.
    #[error("cannot read the log")]
    Log(#[from] LogError),
    /// The snapshot.
    #[error("cannot read the newest snapshot")]
    Snapshot(#[from] SnapshotError),
    /// Its content, or an entry's.
    #[error("it was written by a version this one does not know")]
    Content(#[from] DecodeError),
    /// An entry.
    #[error("entry {0} of the log makes no sense")]
    Entry(u64, #[source] rmp_serde::decode::Error),
    /// A file.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Everything a log directory says, whether it was committed or not.
#[derive(Debug)]
pub struct Content {
    /// With every entry applied.
    pub state: State,
    /// The last entry's number and term; none in an empty log.
    pub last: Option<(u64, u64)>,
    /// The members as of the last entry.
    pub members: BTreeMap<u64, Member>,
    /// Those of them that vote.
    pub voters: BTreeSet<u64>,
    last_log: Option<LogId>,
}

/// Reads all of it.
///
/// # Errors
/// See [`OfflineError`].
pub fn read(directory: &Path) -> Result<Content, OfflineError> {
    let (meta, mut state) = match snapshot_file::read(&Real, directory)? {
        Some((meta, bytes)) => (meta, State::from_snapshot(&bytes)?),
        None => (SnapshotMeta::default(), State::default()),
    };
    let purged: Option<LogId> = read_json(&Real, &directory.join(LAST_REMOVED))?;
    let (log, _torn) = SegmentLog::open(Real::shared(), directory, purged.map(|id| id.index))?;
    let (mut last, mut membership) = (meta.last_log_id, meta.last_membership);
    let from = last.map_or(0, |id| id.index + 1);
    let failed = |source| OfflineError::Log(LogError::Io { action: "read", path: directory.to_owned(), source });
    for (at, record) in (from..).zip(log.read(from..u64::MAX, usize::MAX).map_err(failed)?) {
        let entry: Entry = rmp_serde::from_slice(&record).map_err(|error| OfflineError::Entry(at, error))?;
        last = Some(entry.log_id);
        match entry.payload {
            EntryPayload::Normal(batch) if batch.is_of(entry.log_id.leader_id.term) => {
                for command in batch.commands()? {
                    state.apply(command);
                }
            }
            EntryPayload::Blank | EntryPayload::Normal(_) => {}
            EntryPayload::Membership(members) => membership = Membership::new(Some(entry.log_id), members),
        }
    }
    let members = membership.membership();
    Ok(Content {
        state,
        last: last.map(|id| (id.index, id.leader_id.term)),
        members: members.nodes().map(|(id, member)| (*id, member.clone())).collect(),
        voters: members.voter_ids().collect(),
        last_log: last,
    })
}

/// Makes the directory say just this content, with `id` as the only member.
///
/// # Errors
/// See [`OfflineError`]. The old log goes only when the new one is safe.
pub fn write_alone(directory: &Path, content: &Content, id: u64, member: Member) -> Result<(), OfflineError> {
    let failed = |path: PathBuf| move |source| OfflineError::Write { path, source };
    fs::create_dir_all(directory).map_err(failed(directory.to_owned()))?;
    let last = content.last_log.unwrap_or_else(|| LogId::new(openraft::CommittedLeaderId::new(1, id), 1));
    let members = openraft::Membership::new(vec![BTreeSet::from([id])], BTreeMap::from([(id, member)]));
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: Membership::new(Some(last), members),
        snapshot_id: format!("{last}-alone"),
    };
    snapshot_file::write(&Real, directory, &meta, &content.state.to_snapshot())
        .map_err(failed(directory.to_owned()))?;
    let removed = directory.join(LAST_REMOVED);
    let bytes = serde_json::to_vec(&last).map_err(io::Error::other).map_err(failed(removed.clone()))?;
    atomic_file::write(&removed, &bytes, 0o600).map_err(failed(removed))?;
    for entry in fs::read_dir(directory).map_err(failed(directory.to_owned()))? {
        let path = entry.map_err(failed(directory.to_owned()))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log-")) {
            fs::remove_file(&path).map_err(failed(path))?;
        }
    }
    atomic_file::sync_directory_of(&directory.join(LAST_REMOVED)).map_err(failed(directory.to_owned()))
}

impl Content {
    /// A state from elsewhere, as the beginning of a log.
    #[must_use]
    pub fn of(state: State) -> Self {
        Self { state, last: None, members: BTreeMap::new(), voters: BTreeSet::new(), last_log: None }
    }
}

/// One record of a log, for those who only compare.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Record {
    /// In which term it got into the log.
    pub term: u64,
    /// By which of that term's leaders: the library lets a greater number take over from a smaller one in one term.
    pub leader: u64,
    /// Of its bytes.
    pub digest: u32,
}

/// What is on a disk, without what it says.
#[derive(Clone, Debug, Default)]
pub struct Outline {
    /// The log, by number.
    pub records: BTreeMap<u64, Record>,
    /// The last entry the snapshot stands for.
    pub snapshot: Option<u64>,
    /// The newest term there is a vote of.
    pub term: u64,
    /// Who was elected in it, as far as this disk knows.
    pub elected: Option<u64>,
}

/// Reads it; a torn tail is cut off.
///
/// # Errors
/// See [`OfflineError`].
pub fn outline(disk: &SharedDisk, directory: &Path) -> Result<Outline, OfflineError> {
    #[derive(serde::Deserialize)]
    struct Head {
        log_id: LogId,
    }
    let snapshot = snapshot_file::read(&**disk, directory)?.and_then(|(meta, _)| meta.last_log_id);
    let purged: Option<LogId> = read_json(&**disk, &directory.join(LAST_REMOVED))?;
    let vote: Option<Vote> = read_json(&**disk, &directory.join("vote"))?;
    let (log, _torn) = SegmentLog::open(disk.clone(), directory, purged.map(|id| id.index))?;
    let failed = |source| OfflineError::Log(LogError::Io { action: "read", path: directory.to_owned(), source });
    let mut records = BTreeMap::new();
    for bytes in log.read(0..u64::MAX, usize::MAX).map_err(failed)? {
        let head: Head = rmp_serde::from_slice(&bytes).map_err(|error| OfflineError::Entry(0, error))?;
        let leader = head.log_id.leader_id;
        let record = Record { term: leader.term, leader: leader.node_id, digest: crc32fast::hash(&bytes) };
        records.insert(head.log_id.index, record);
    }
    Ok(Outline {
        records,
        snapshot: snapshot.map(|id| id.index),
        term: vote.map_or(0, |vote| vote.leader_id.term),
        elected: vote.filter(|vote| vote.committed).map(|vote| vote.leader_id.node_id),
    })
}
