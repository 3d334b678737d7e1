//! Roots made of images: mounted while a container is made, which takes its own view of them along.
//!
//! It is done here because in hosted mode the launcher has a mount namespace of its own, and because no mount is left
//! behind when a container, the agent or this process ends: the container's namespace holds the only one.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use agent_core::ids;
use agent_images::ContainerRoot;
use agent_images::container_root::ensure_directory;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount as mount_now, umount2};
use oci_spec::runtime::Spec;

use super::stage::{Depth, Stage, StageError};
use super::user_namespace::UserNamespace;
use crate::node::bundle::ROOT_FILE;
use crate::renaming::{Renaming, rename_all};

/// What the options of a mount have at most.
const PAGE: usize = 4096;

/// Why a container's root is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageRootError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot enter the image store {}", path.display())]
    Enter { path: PathBuf, source: Errno },
    #[error("this kernel has no overlayfs (module `overlay`), which images need")]
    NoOverlay,
    #[error("cannot mount the image's layers on {}", path.display())]
    Mount { path: PathBuf, source: Errno },
    #[error(transparent)]
    Show(StageError),
    #[error("cannot give {} to a user namespace", path.display())]
    Give { path: PathBuf, source: io::Error },
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
pub(super) fn mount(
    bundle: &Path,
    spec: &Spec,
    mut names: Option<(&UserNamespace, &mut Stage)>,
) -> Result<Option<Mounted>, ImageRootError> {
    let path = bundle.join(ROOT_FILE);
    let bytes = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read.map_err(|source| ImageRootError::Read { path: path.clone(), source })?,
    };
    let root: ContainerRoot =
        serde_json::from_slice(&bytes).map_err(|error| ImageRootError::Read { path, source: error.into() })?;
    layered(&root, names.as_mut().map(|(names, stage)| (*names, &mut **stage)))?;
    let mounted = Mounted(root.path());
    if let Some(process) = spec.process() {
        let path = process.cwd().clone();
        let owner = names.as_ref().map(|(names, _)| names.first);
        ensure_directory(&mounted.0, &path, owner)
            .map_err(|source| ImageRootError::WorkingDirectory { path, source })?;
    }
    Ok(Some(mounted))
}

/// Mounts layers with what is written over them. For a user namespace everything in them is its own: shown so where the
/// kernel can do it, else given to it in the upper directory, file by file and without their content.
pub(super) fn layered(root: &ContainerRoot, names: Option<(&UserNamespace, &mut Stage)>) -> Result<(), ImageRootError> {
    let Some((names, stage)) = names else { return overlay(root, &root.store, root.options().as_str()) };
    let upper = root.store.join(&root.upper);
    let failed = |source| ImageRootError::Give { path: upper.clone(), source };
    let options = root.apart();
    if options.len() < PAGE
        && let Some(layers) = shown(stage.show(&root.store, Some(names), Depth::One)).map_err(ImageRootError::Show)?
    {
        // What the root is like was copied from the topmost layer.
        let about = fs::metadata(&upper).map_err(failed)?;
        let (uid, gid) = (about.uid().min(ids::SIZE - 1), about.gid().min(ids::SIZE - 1));
        chown(&upper, Some(names.first + uid), Some(names.first + gid)).map_err(failed)?;
        return overlay(root, &layers, &options);
    }
    overlay(root, &root.store, &format!("{},metacopy=on", root.options()))?;
    let path = root.path();
    let given = File::open(&path).and_then(|top| rename_all(top.as_fd(), Renaming::Into(names.first)));
    given.map_err(|source| {
        let _ = umount2(&path, MntFlags::MNT_DETACH);
        ImageRootError::Give { path, source }
    })
}

/// None where the file system cannot show files under other names.
pub(super) fn shown(result: Result<PathBuf, StageError>) -> Result<Option<PathBuf>, StageError> {
    match result {
        Err(StageError::Show { source, .. }) if source.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        result => result.map(Some),
    }
}

/// Paths are relative to `directory`, for the options have no more than a page.
fn overlay(root: &ContainerRoot, directory: &Path, options: &str) -> Result<(), ImageRootError> {
    nix::unistd::chdir(directory).map_err(|source| ImageRootError::Enter { path: directory.to_owned(), source })?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let mounted = mount_now(Some("overlay"), &root.path(), Some("overlay"), flags, Some(options));
    let _ = nix::unistd::chdir("/");
    match mounted {
        Ok(()) => Ok(()),
        Err(Errno::ENODEV) => Err(ImageRootError::NoOverlay),
        Err(source) => Err(ImageRootError::Mount { path: root.path(), source }),
    }
}
