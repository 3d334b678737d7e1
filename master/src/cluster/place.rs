//! `replica.json`: which member of a cluster this data directory is. A founder's has none.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic_file;

/// The file's content.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Place {
    /// The replica's number.
    pub id: u64,
    /// `host:port` of the masters that were there when it joined: whom to ask first.
    pub masters: Vec<String>,
    /// It learns, and does not vote.
    #[serde(default)]
    pub learner: bool,
}

/// What a master is to be in its cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// It votes once it has caught up.
    Voter,
    /// It only learns, until it is promoted.
    Learner,
}

const NAME: &str = "replica.json";

impl Place {
    /// Reads the file; `None` on a founder's data directory, or an empty one.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn read(data: &Path) -> io::Result<Option<Self>> {
        let bytes = atomic_file::read(&data.join(NAME))?;
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from)).transpose()
    }

    /// Writes it: from here on the directory belongs to that member.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        atomic_file::write(&data.join(NAME), &serde_json::to_vec_pretty(self).map_err(io::Error::other)?, 0o600)
    }
}
