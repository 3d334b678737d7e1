//! `ready.json`: says that the master serves, and where.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::atomic_file;

/// The file's content.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Ready {
    /// `ip:port` of the API.
    pub http: String,
    /// `http` with `--insecure-api`, otherwise `https`.
    pub scheme: String,
    /// `ip:port` of the agents' link.
    pub link: String,
    /// `ip:port` of the boot endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// What others reach this master by.
    pub advertise: String,
    /// SHA-256 of the authority's certificate.
    pub ca_sha256: String,
    /// Of the process.
    pub pid: u32,
}

const NAME: &str = "ready.json";

impl Ready {
    /// Writes the file.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(&self, data: &Path) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        bytes.push(b'\n');
        atomic_file::write(&data.join(NAME), &bytes, 0o644)
    }

    /// Reads the file; `None` if no master has written it.
    ///
    /// # Errors
    /// The file cannot be read or understood.
    pub fn read(data: &Path) -> io::Result<Option<Self>> {
        let bytes = atomic_file::read(&data.join(NAME))?;
        bytes.map(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::from)).transpose()
    }

    /// Removes the file: nobody serves (any more, or not yet).
    ///
    /// # Errors
    /// The file system refuses.
    pub fn remove(data: &Path) -> io::Result<()> {
        match std::fs::remove_file(data.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// An address others on this machine can connect to: what was bound, with `0.0.0.0` as loopback.
#[must_use]
pub fn connectable(bound: SocketAddr) -> SocketAddr {
    let mut address = bound;
    if bound.ip().is_unspecified() {
        address.set_ip(if bound.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}
