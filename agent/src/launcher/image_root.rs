//! Roots made of images: mounted while a container is made, which takes its own view of them along.
//!
//! It is done here because in hosted mode the launcher has a mount namespace of its own, and because no mount is left
//! behind when a container, the agent or this process ends: the container's namespace holds the only one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_images::ContainerRoot;
use agent_images::container_root::ensure_directory;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as mount_now, umount2};
use oci_spec::runtime::Spec;

use crate::node::bundle::ROOT_FILE;

/// Why a container's root is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageRootError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot enter the image store {}", path.display())]
    Enter { path: PathBuf, source: Errno },
    #[error("this kernel has no overlayfs (module `overlay`), which images need")]
    NoOverlay,
    #[error("cannot mount the image's layers on {}", path.display())]
    Mount { path: PathBuf, source: Errno },
    #[error("the image has no directory {}, and it cannot be made", path.display())]
    WorkingDirectory { path: PathBuf, source: io::Error },
}

/// A root as long as this process needs it.
#[derive(Debug)]
pub(super) struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = umount2(&self.0, MntFlags::MNT_DETACH) {
            tracing::warn!(path = %self.0.display(), %error, "a container's root stays mounted");
        }
    }
}

/// Mounts the root of a bundle that has an image. A bundle without one is left alone.
pub(super) fn mount(bundle: &Path, spec: &Spec) -> Result<Option<Mounted>, ImageRootError> {
    let path = bundle.join(ROOT_FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| ImageRootError::Read { path: path.clone(), source })?,
    };
    let root: ContainerRoot =
        serde_json::from_slice(&bytes).map_err(|error| ImageRootError::Read { path, source: error.into() })?;
    // The paths are relative, for the options have no more than a page.
    nix::unistd::chdir(&root.store).map_err(|source| ImageRootError::Enter { path: root.store.clone(), source })?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mounted =
        mount_now(Some("overlay"), root.target.as_str(), Some("overlay"), flags, Some(root.options().as_str()));
    let _ = nix::unistd::chdir("/");
    match mounted {
        Ok(()) => {}
        Err(Errno::ENODEV) => return Err(ImageRootError::NoOverlay),
        Err(source) => return Err(ImageRootError::Mount { path: root.path(), source }),
    }
    let mounted = Mounted(root.path());
    if let Some(process) = spec.process() {
        let path = process.cwd().clone();
        ensure_directory(&mounted.0, &path).map_err(|source| ImageRootError::WorkingDirectory { path, source })?;
    }
    Ok(Some(mounted))
}
