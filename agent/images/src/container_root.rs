//! A container's root: an image's layers with a directory of its own on top.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;
use serde::{Deserialize, Serialize};

use crate::disk::{CONTAINERS, short_name};
use crate::store::Store;

/// What overlayfs is told; written into the bundle, for whoever makes the container mounts it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ContainerRoot {
    /// The store: every other path is relative to it, because overlayfs's options have no more than a page.
    pub store: PathBuf,
    /// The layers, the topmost first.
    pub lower: Vec<String>,
    /// What the container writes.
    pub upper: String,
    /// overlayfs's own.
    pub work: String,
    /// Where it is mounted.
    pub target: String,
}

/// Why there is no root.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the container's root in {}", path.display())]
pub struct ContainerRootError {
    path: PathBuf,
    source: io::Error,
}

impl ContainerRoot {
    /// overlayfs's options. The container's root does not outlive the node, so nothing waits for its disk.
    #[must_use]
    pub fn options(&self) -> String {
        let Self { lower, upper, work, .. } = self;
        format!("lowerdir={},upperdir={upper},workdir={work},volatile", lower.join(":"))
    }

    /// The same where the layers are found from another place than what is written.
    #[must_use]
    pub fn apart(&self) -> String {
        let [upper, work] = [&self.upper, &self.work].map(|path| self.store.join(path));
        format!("lowerdir={},upperdir={},workdir={},volatile", self.lower.join(":"), upper.display(), work.display())
    }

    /// Where it is mounted, absolutely.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.store.join(&self.target)
    }
}

impl Store {
    /// Makes the directories of a container's root, anew if there are any. `layers` has the lowest first.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn make_root(&self, container: &str, layers: &[String]) -> Result<ContainerRoot, ContainerRootError> {
        let directory = self.0.disk.container(container);
        self.clear(&directory).map_err(|source| ContainerRootError { path: directory.clone(), source })?;
        self.make_layered(container, layers)
    }

    /// The same of an image that is a container's volume, in a directory of its own. Whoever mounts it says where.
    ///
    /// # Errors
    /// When they cannot be made.
    pub fn make_volume(
        &self,
        container: &str,
        name: &str,
        layers: &[String],
    ) -> Result<ContainerRoot, ContainerRootError> {
        let own = self.0.disk.container(container);
        fs::create_dir_all(&own).map_err(|source| ContainerRootError { path: own.clone(), source })?;
        let directory = own.join(name);
        self.0
            .disk
            .remove(&directory)
            .map_err(|error| ContainerRootError { path: directory.clone(), source: io::Error::other(error) })?;
        self.make_layered(&format!("{container}/{name}"), layers)
    }

    fn make_layered(&self, place: &str, layers: &[String]) -> Result<ContainerRoot, ContainerRootError> {
        let directory = self.0.disk.container(place);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| ContainerRootError { path, source }
        };
        for name in ["", "upper", "work", "rootfs"] {
            let path = directory.join(name);
            fs::create_dir(&path).map_err(failed(&path))?;
        }
        let mut lower: Vec<String> = layers.iter().rev().map(|layer| short_name(layer)).collect();
        let upper = directory.join("upper");
        match layers.last() {
            // What the image's root is like shows only in its layers, and the topmost directory hides it.
            Some(top) => like(&self.0.disk.layer(top), &upper).map_err(failed(&upper))?,
            // An image may be empty, overlayfs may not.
            None => {
                let path = directory.join("nothing");
                fs::create_dir(&path).map_err(failed(&path))?;
                lower.push(format!("{CONTAINERS}/{place}/nothing"));
            }
        }
        let own = |name: &str| format!("{CONTAINERS}/{place}/{name}");
        Ok(ContainerRoot {
            store: self.directory().to_owned(),
            lower,
            upper: own("upper"),
            work: own("work"),
            target: own("rootfs"),
        })
    }

    /// Removes what a container had here, and lets its layers go. One that had nothing is removed.
    ///
    /// # Errors
    /// When its files cannot be removed.
    pub fn remove_root(&self, container: &str) -> Result<(), ContainerRootError> {
        self.release(container);
        let path = self.0.disk.container(container);
        self.clear(&path).map_err(|source| ContainerRootError { path, source })
    }

    fn clear(&self, directory: &Path) -> io::Result<()> {
        // A launcher that was killed while it made a container has left it mounted.
        match rustix::mount::unmount(directory.join("rootfs"), UnmountFlags::DETACH) {
            // Not there, not mounted, or not ours to unmount because it is not there for us.
            Ok(()) | Err(Errno::NOENT | Errno::INVAL | Errno::PERM) => {}
            Err(errno) => return Err(errno.into()),
        }
        self.0.disk.remove(directory).map_err(io::Error::other)
    }

    /// The containers that have a root here.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub fn roots(&self) -> Result<Vec<String>, crate::DiskError> {
        self.0.disk.containers()
    }
}

fn like(model: &Path, path: &Path) -> io::Result<()> {
    let metadata = fs::metadata(model)?;
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(path, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(metadata.mode() & 0o7777))
}

/// Makes a directory in a mounted root if it is missing, as Docker does with working directories. Links are followed
/// inside the root only. What is made belongs to `owner`, if that is somebody else.
///
/// # Errors
/// When something else is there, or it cannot be made.
pub fn ensure_directory(root: &Path, path: &Path, owner: Option<u32>) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, root, flags, Mode::empty())?;
    let open = |path: &Path| -> Result<OwnedFd, Errno> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve)
    };
    let mut here = PathBuf::from("/");
    for component in path.components() {
        let name: &OsStr = match component {
            Component::Normal(name) => name,
            Component::ParentDir => OsStr::new(".."),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        };
        let parent = open(&here)?;
        here.push(name);
        match open(&here) {
            Err(Errno::NOENT) if name != ".." => {
                let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
                rustix::fs::mkdirat(&parent, name, mode)?;
                if let Some(owner) = owner {
                    let (uid, gid) = (rustix::fs::Uid::from_raw(owner), rustix::fs::Gid::from_raw(owner));
                    let flags = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
                    rustix::fs::chownat(&parent, name, Some(uid), Some(gid), flags)?;
                }
            }
            opened => drop(opened?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_options_of_the_largest_image_fit_into_a_page() {
        let layer = |number: usize| short_name(&format!("{number:064x}").chars().rev().collect::<String>());
        let root = ContainerRoot {
            store: "/var/lib/mesolith/images".into(),
            lower: (0..crate::manifest::MAX_LAYERS).map(layer).collect(),
            upper: "containers/00000000-0000-4000-8000-000000000000/upper".to_owned(),
            work: "containers/00000000-0000-4000-8000-000000000000/work".to_owned(),
            target: "containers/00000000-0000-4000-8000-000000000000/rootfs".to_owned(),
        };
        assert!(root.options().len() < 4096, "{}", root.options().len());
        assert!(root.options().starts_with("lowerdir=l/0"), "{}", root.options());
    }

    #[test]
    fn a_working_directory_is_made_inside_and_nowhere_else() {
        let outside = tempfile::tempdir().unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("real")).unwrap();
        symlink("/real", dir.path().join("absolute")).unwrap();
        symlink(outside.path(), dir.path().join("away")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        ensure_directory(dir.path(), Path::new("/a/b/c"), None).unwrap();
        ensure_directory(dir.path(), Path::new("/absolute/x"), None).unwrap();
        ensure_directory(dir.path(), Path::new("/../../up"), None).unwrap();
        assert!(
            dir.path().join("a/b/c").is_dir() && dir.path().join("real/x").is_dir() && dir.path().join("up").is_dir()
        );
        assert!(ensure_directory(dir.path(), Path::new("/file/x"), None).is_err());
        assert!(ensure_directory(dir.path(), Path::new("/away/x"), None).is_err(), "it points nowhere inside the root");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
