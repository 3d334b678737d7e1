//! What the consensus library's type parameters stand for here, so that nobody else sees them.

use std::fmt;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use master_core::Command;
use master_core::command::DecodeError;
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

openraft::declare_raft_types!(
    /// The library's types for our log. What is answered to an entry: was it applied, or of another term?
    pub(super) Types:
        D = Batch,
        R = bool,
        NodeId = u64,
        Node = Member,
        Entry = openraft::Entry<Types>,
        SnapshotData = Cursor<Vec<u8>>,
        AsyncRuntime = openraft::TokioRuntime,
);

/// Where a master is.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Member {
    /// `host:port` of its link: where masters and agents reach it. (The name is that of the library's own type, which
    /// earlier logs hold.)
    pub addr: String,
    /// `host:port` of its API.
    #[serde(default)]
    pub http: String,
}

pub(super) type Entry = openraft::Entry<Types>;
pub(super) type LogId = openraft::LogId<u64>;
pub(super) type Vote = openraft::Vote<u64>;
pub(super) type StorageError = openraft::StorageError<u64>;
pub(super) type IoError = openraft::StorageIOError<u64>;
pub(super) type Membership = openraft::StoredMembership<u64, Member>;
pub(super) type SnapshotMeta = openraft::SnapshotMeta<u64, Member>;

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
    /// In which term the leader decided. An entry that got into the log in another term was decided on a state that may
    /// have changed since: it says nothing. Entries of before there were several masters have none.
    term: Option<u64>,
    /// `Command::encode_batch`'s.
    bytes: Bytes,
    /// The same, where they were proposed.
    proposed: Option<Proposed>,
}

impl Batch {
    pub(super) fn new(term: u64, commands: Vec<Command>) -> (Self, Proposed) {
        let bytes = Command::encode_batch(&commands).into();
        let proposed = Proposed::new(commands);
        (Self { term: Some(term), bytes, proposed: Some(proposed.clone()) }, proposed)
    }

    /// Was it decided in the term in which it got into the log?
    pub(super) fn is_of(&self, term: u64) -> bool {
        self.term.is_none_or(|decided| decided == term)
    }

    /// In bytes, as in the log.
    pub(super) fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// What to apply, if it [is of](Self::is_of) its term.
    pub(super) fn commands(&self) -> Result<Vec<Command>, DecodeError> {
        match self.proposed.as_ref().and_then(Proposed::take) {
            Some(commands) => Ok(commands),
            None => Command::decode_batch(&self.bytes),
        }
    }
}

impl PartialEq for Batch {
    fn eq(&self, other: &Self) -> bool {
        (self.term, &self.bytes) == (other.term, &other.bytes)
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
        let mut pair = serializer.serialize_tuple(2)?;
        pair.serialize_element(&self.term)?;
        pair.serialize_element(&Blob(self.bytes.to_vec()))?;
        pair.end()
    }
}

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Batch;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a term and bytes, or bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Batch, E> {
                Ok(Batch { term: None, bytes: Bytes::copy_from_slice(bytes), proposed: None })
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Batch, E> {
                Ok(Batch { term: None, bytes: bytes.into(), proposed: None })
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut pair: A) -> Result<Batch, A::Error> {
                let missing = |at| serde::de::Error::invalid_length(at, &self);
                let term = pair.next_element()?.ok_or_else(|| missing(0))?;
                let Blob(bytes) = pair.next_element()?.ok_or_else(|| missing(1))?;
                Ok(Batch { term, bytes: bytes.into(), proposed: None })
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

/// Bytes, not a list of numbers.
struct Blob(Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(Visitor)
    }
}
