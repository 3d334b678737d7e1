//! Hands what is committed to the driver, in order, and turns its state into snapshots.

use std::io::{self, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use master_core::State;
#[cfg(feature = "planted-bugs")]
use master_core::planted;
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::{mpsc, oneshot, watch};

use super::growth::{Growth, SnapshotSize};
use super::in_flight::InFlight;
use super::log_store::Safe;
use super::room::Room;
use super::snapshot_file::{self, SnapshotError};
use super::types::{Entry, IoError, LogId, Membership, SnapshotMeta, StorageError, Types};
use super::{FromLog, StartError};
use crate::disk::{self, SharedDisk};

/// Owns no state: the driver does.
#[derive(Debug)]
pub(super) struct StateMachine {
    safe: Arc<watch::Sender<Safe>>,
    in_flight: InFlight,
    room: Room,
    disk: SharedDisk,
    directory: PathBuf,
    driver: mpsc::Sender<FromLog>,
    last_applied: Option<LogId>,
    membership: Membership,
    growth: Growth,
}

impl StateMachine {
    /// Reads the newest snapshot: the state machine goes on from it, the driver starts with its state. Tells when the next
    /// one is due, `snapshot_every` entries later or earlier.
    pub(super) fn open(
        disk: SharedDisk,
        directory: &Path,
        driver: mpsc::Sender<FromLog>,
        safe: watch::Sender<Safe>,
        in_flight: InFlight,
        room: Room,
        snapshot_every: u64,
    ) -> Result<(Self, State, watch::Receiver<()>), StartError> {
        let size = SnapshotSize::default();
        let (meta, state) = match snapshot_file::read(&*disk, directory)? {
            Some((meta, bytes)) => {
                size.set(bytes.len());
                (meta, State::from_snapshot(&bytes)?)
            }
            None => (SnapshotMeta::default(), State::default()),
        };
        safe.send_replace(Safe { upto: meta.last_log_id.map(|id| id.index), failed: false });
        let (growth, due) = Growth::new(snapshot_every, size);
        let machine = Self {
            safe: Arc::new(safe),
            in_flight,
            room,
            disk,
            directory: directory.to_owned(),
            driver,
            last_applied: meta.last_log_id,
            membership: meta.last_membership,
            growth,
        };
        Ok((machine, state, due))
    }

    async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> FromLog) -> io::Result<T> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the driver has stopped");
        self.driver.send(message(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

impl RaftStateMachine<Types> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<bool>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let (mut commands, mut applied, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut last = self.last_applied;
        for entry in entries {
            last = Some(entry.log_id);
            if let EntryPayload::Normal(batch) = &entry.payload {
                bytes += batch.size();
            }
            applied.push(match entry.payload {
                EntryPayload::Blank => true,
                EntryPayload::Normal(batch) if batch.is_of(entry.log_id.leader_id.term) => {
                    // A batch this version cannot read must stop the replica: skipping it would diverge.
                    commands.append(&mut batch.commands().map_err(|error| IoError::apply(entry.log_id, &error))?);
                    true
                }
                EntryPayload::Normal(_) => false,
                #[cfg(feature = "planted-bugs")]
                EntryPayload::Membership(_) if planted::is(planted::Bug::MembersForgotten) => true,
                EntryPayload::Membership(membership) => {
                    self.membership = Membership::new(Some(entry.log_id), membership);
                    true
                }
            });
        }
        if let Some(last) = last {
            self.in_flight.safe_to(last.index).await.map_err(|error| IoError::write_logs(&error))?;
        }
        if !commands.is_empty() {
            self.ask(|done| FromLog::Committed { commands, done })
                .await
                .map_err(|error| IoError::write_state_machine(&error))?;
        }
        self.last_applied = last;
        self.growth.applied(applied.len() as u64, bytes);
        Ok(applied)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        // Asked here, not in the builder: nothing is applied until this returns.
        let state = self.ask(FromLog::Snapshot).await.ok();
        let id = self.last_applied.map_or_else(|| "empty".to_owned(), |id| id.to_string());
        SnapshotBuilder {
            safe: self.safe.clone(),
            room: self.room.clone(),
            disk: self.disk.clone(),
            directory: self.directory.clone(),
            state,
            size: self.growth.begins(),
            meta: SnapshotMeta {
                last_log_id: self.last_applied,
                last_membership: self.membership.clone(),
                snapshot_id: id,
            },
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::new(Cursor::new(Vec::new())))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let failed = |error: &(dyn std::error::Error + 'static)| {
            IoError::write_snapshot(Some(meta.signature()), &io::Error::other(error.to_string()))
        };
        let bytes = snapshot.into_inner();
        let state = State::from_snapshot(&bytes).map_err(|error| failed(&error))?;
        let file = SnapshotToWrite { meta: meta.clone(), data: bytes };
        let size = file.data.len();
        let written = file.write(&self.room, &self.disk, &self.directory).await.map(drop);
        self.safe.send_modify(|safe| match written {
            Ok(()) => safe.extend(meta.last_log_id),
            Err(_) => safe.failed = true,
        });
        written.map_err(|error| failed(&error))?;
        self.ask(|done| FromLog::Install { state: Box::new(state), done }).await.map_err(|error| failed(&error))?;
        self.growth.begins().set(size);
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError> {
        let (disk, directory) = (self.disk.clone(), self.directory.clone());
        let read = disk::blocking(&self.disk, move || snapshot_file::read(&*disk, &directory))
            .await
            .map_err(|error| IoError::read_snapshot(None, &error))?
            .map_err(|error: SnapshotError| IoError::read_snapshot(None, &error))?;
        Ok(read.map(|(meta, data)| Snapshot { meta, snapshot: Box::new(Cursor::new(data)) }))
    }
}

/// On its way to the disk.
struct SnapshotToWrite {
    meta: SnapshotMeta,
    data: Vec<u8>,
}

impl SnapshotToWrite {
    /// Gives the data back.
    async fn write(self, room: &Room, disk: &SharedDisk, directory: &Path) -> io::Result<Vec<u8>> {
        let file = Arc::new(self);
        let write = || async {
            let (file, target, directory) = (file.clone(), disk.clone(), directory.to_owned());
            disk::blocking(disk, move || snapshot_file::write(&*target, &directory, &file.meta, &file.data)).await?
        };
        room.find(write).await?;
        Ok(Arc::try_unwrap(file).map_or_else(|shared| shared.data.clone(), |file| file.data))
    }
}

/// A copy of the state at one log position, on its way to the disk.
#[derive(Debug)]
pub(super) struct SnapshotBuilder {
    safe: Arc<watch::Sender<Safe>>,
    room: Room,
    disk: SharedDisk,
    directory: PathBuf,
    state: Option<Arc<State>>,
    size: SnapshotSize,
    meta: SnapshotMeta,
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError> {
        let stopped = || IoError::read_state_machine(&io::Error::other("the driver has stopped"));
        let state = self.state.take().ok_or_else(stopped)?;
        let failed = |error: &io::Error| IoError::write_snapshot(Some(self.meta.signature()), error);
        let data = disk::blocking(&self.disk, move || state.to_snapshot()).await.map_err(|error| failed(&error))?;
        let file = SnapshotToWrite { meta: self.meta.clone(), data };
        let data = file.write(&self.room, &self.disk, &self.directory).await.map_err(|error| failed(&error))?;
        self.size.set(data.len());
        self.safe.send_modify(|safe| safe.extend(self.meta.last_log_id));
        tracing::info!(index = self.meta.last_log_id.map(|id| id.index), bytes = data.len(), "snapshot written");
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Box::new(Cursor::new(data)) })
    }
}
