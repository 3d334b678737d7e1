//! Container images as far as decisions go: how they are named, what they say about themselves, whose files are in them.

mod accounts;
mod config;
mod reference;

pub use accounts::{Accounts, Identity};
pub use config::{ConfigError, ImageConfig, Platform, parse_config};
pub use reference::{Digest, DigestError, Reference, ReferenceError};

use serde::{Deserialize, Serialize};

/// An image as it lies in the node's store, ready to be the root of containers.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Image {
    /// What was asked for, spelled out.
    pub reference: String,
    /// Digest of the manifest (`sha256:…`) that was found under it; of the configuration for an archive without one.
    pub digest: String,
    /// Digests of the unpacked layers, the lowest first: the names they have in the store.
    pub layers: Vec<String>,
    /// What the image says about processes in it.
    pub config: ImageConfig,
}

/// What has to be brought here before a task can have its root.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImageRequest {
    /// Which image.
    pub reference: Reference,
    /// Whether one that is here under that name will do.
    pub cached: Cached,
    /// A Docker configuration file with credentials, from the task itself. Never logged.
    pub credentials: Option<Credentials>,
}

/// Whether the registry must be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cached {
    /// What was pulled under this name before will do.
    Accepted,
    /// The name may mean something else by now.
    Refused,
}

/// The content of a Docker configuration file. Shows nothing of itself.
#[derive(Clone, Eq, PartialEq)]
pub struct Credentials(pub Vec<u8>);

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}
