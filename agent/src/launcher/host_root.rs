//! The host's own file tree as the root of containers, in hosted mode.
//!
//! A container cannot take `/` itself for its root: the kernel does not pivot to where a process already is, and
//! libcontainer would make its device files in the host's own `/dev`. So the launcher has a mount namespace of its own,
//! in which the whole tree is bound a second time. What the host mounts later shows there too; what happens there never
//! shows on the host, and is gone with the launcher and its containers.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Why containers cannot see the host's root.
#[derive(Debug, thiserror::Error)]
pub(super) enum HostRootError {
    #[error("cannot get a mount namespace")]
    Namespace(#[source] Errno),
    #[error("cannot keep mounts from the host")]
    Propagation(#[source] Errno),
    #[error("cannot make directory {}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("cannot bind the host's root to {}", path.display())]
    Bind { path: PathBuf, source: Errno },
}

/// Shows the host's root at `path`, to this process and its containers. The process has one thread.
pub(super) fn show(path: &Path) -> Result<(), HostRootError> {
    fs::create_dir_all(path).map_err(|source| HostRootError::Directory { path: path.to_owned(), source })?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(HostRootError::Namespace)?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing).map_err(HostRootError::Propagation)?;
    mount(Some("/"), path, nothing, MsFlags::MS_REC | MsFlags::MS_BIND, nothing)
        .map_err(|source| HostRootError::Bind { path: path.to_owned(), source })
}
