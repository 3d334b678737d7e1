//! What the consensus library's type parameters stand for here, so that nobody else sees them.

use std::fmt;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use master_core::Command;
use master_core::command::DecodeError;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

openraft::declare_raft_types!(
    /// The library's types for our log.
    pub(super) Types:
        D = Batch,
        R = (),
        NodeId = u64,
        Node = openraft::BasicNode,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

pub(super) type Entry = openraft::Entry<Types>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type IoError = openraft::StorageIOError<u64>;
pub(super) type Membership = openraft::StoredMembership<u64, openraft::BasicNode>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, openraft::BasicNode>;

/// Commands on their way through the log of the replica that proposed them: whoever applies them takes them, and need
/// not read the bytes again.
#[derive(Clone)]
pub(super) struct Proposed(Arc<Mutex<Option<Vec<Command>>>>);

impl Proposed {
    pub(super) fn new(commands: Vec<Command>) -> Self {
        Self(Arc::new(Mutex::new(Some(commands))))
    }

    /// Once.
    pub(super) fn take(&self) -> Option<Vec<Command>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// One log entry's content.
#[derive(Clone)]
pub(super) struct Batch {
    /// `Command::encode_batch`'s.
    pub(super) bytes: Bytes,
    /// The same, where they were proposed.
    proposed: Option<Proposed>,
}

impl Batch {
    pub(super) fn new(commands: Vec<Command>) -> (Self, Proposed) {
        let bytes = Command::encode_batch(&commands).into();
        let proposed = Proposed::new(commands);
        (Self { bytes, proposed: Some(proposed.clone()) }, proposed)
    }

    /// What to apply.
    pub(super) fn commands(&self) -> Result<Vec<Command>, DecodeError> {
        match self.proposed.as_ref().and_then(Proposed::take) {
            Some(commands) => Ok(commands),
            None => Command::decode_batch(&self.bytes),
        }
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A batch may hold environment variables: never print the bytes.
        write!(f, "Batch({} bytes)", self.bytes.len())
    }
}

impl Serialize for Batch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.bytes)
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Batch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Batch, E> {
                Ok(Batch { bytes: Bytes::copy_from_slice(bytes), proposed: None })
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Batch, E> {
                Ok(Batch { bytes: bytes.into(), proposed: None })
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}
