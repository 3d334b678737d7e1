//! Volumes: each is found without leaving its base, and shown at a place no task can replace, for as long as the
//! container that gets it is being made. The specification names that place.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use agent_core::launch::Staged;
use agent_images::ContainerRoot;
use nix::mount::{MntFlags, MsFlags, mount as mount_now, umount2};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::image_root::{self, ImageRootError};
use super::stage::Stage;
use super::user_namespace::UserNamespace;
use crate::node::bundle::{COVER_FILE, IMAGES_FILE, VOLUMES_FILE};
use crate::renaming::{Renaming, rename_all};

/// Why a volume is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot find the volume {path} below {base}")]
    Find { base: String, path: String, source: io::Error },
    #[error("the volume {path} below {base} is neither a directory nor a file")]
    Kind { base: String, path: String },
    #[error("cannot give the volume {path} below {base} to a user namespace")]
    Give { base: String, path: String, source: io::Error },
    #[error("cannot mount an image as a volume")]
    Image(#[source] Box<ImageRootError>),
    #[error("cannot make {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot show a volume at {}", path.display())]
    Mount { path: PathBuf, source: io::Error },
}

/// Everything shown for one container.
#[derive(Debug, Default)]
pub(super) struct Shown(Vec<PathBuf>);

impl Drop for Shown {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            if let Err(error) = umount2(path, MntFlags::MNT_DETACH) {
                tracing::warn!(path = %path.display(), %error, "a volume stays mounted");
            }
        }
    }
}

/// Shows the volumes of a bundle, and covers its read-only root if it has to have more directories.
pub(super) fn show(bundle: &Path, mut names: Option<(&UserNamespace, &mut Stage)>) -> Result<Shown, VolumeError> {
    let mut shown = Shown::default();
    if let Some(root) = read::<String>(&bundle.join(COVER_FILE))? {
        cover(bundle, &root, &mut shown, names.as_ref().map(|(names, _)| *names))?;
    }
    let directory = bundle.join("volumes");
    for (name, root) in read::<BTreeMap<String, ContainerRoot>>(&bundle.join(IMAGES_FILE))?.unwrap_or_default() {
        make(&directory)?;
        let place = directory.join(name);
        make(&place)?;
        let root = ContainerRoot { target: place.display().to_string(), ..root };
        image_root::layered(&root, names.as_mut().map(|(names, stage)| (*names, &mut **stage)))
            .map_err(|source| VolumeError::Image(Box::new(source)))?;
        shown.0.push(place);
    }
    let Some(volumes) = read::<Vec<Staged>>(&bundle.join(VOLUMES_FILE))? else { return Ok(shown) };
    make(&directory)?;
    for volume in volumes {
        let source = find(&volume)?;
        let place = directory.join(&volume.name);
        let failed = |source: rustix::io::Errno| VolumeError::Mount { path: place.clone(), source: source.into() };
        let kind = fstat(&source).map_err(failed)?.st_mode;
        let kind = FileType::from_raw_mode(kind);
        if kind == FileType::Directory {
            make(&place)?;
        } else if kind == FileType::RegularFile {
            fs::File::create(&place).map_err(|source| VolumeError::Make { path: place.clone(), source })?;
        } else {
            return Err(VolumeError::Kind { base: volume.base, path: volume.path });
        }
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(source.as_fd(), "", flags).map_err(failed)?;
        if let Some((names, _)) = names.as_ref().filter(|_| volume.persistence.is_some()) {
            give(&volume, &tree, names)?;
        }
        move_mount(tree.as_fd(), "", CWD, &place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed)?;
        shown.0.push(place);
    }
    Ok(shown)
}

/// Persistent volumes outlive the names of those who write to them. They are kept under those people have in their
/// containers, and shown under them where the kernel can do it.
fn give(volume: &Staged, tree: &OwnedFd, names: &UserNamespace) -> Result<(), VolumeError> {
    let failed = |source| VolumeError::Give { base: volume.base.clone(), path: volume.path.clone(), source };
    match agent_sys::idmap::apply(tree, names) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) && volume.shared => {
            Err(failed(io::Error::other("others share it, and its file system has one set of names")))
        }
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            rename_all(tree.as_fd(), Renaming::Into(names.first)).map_err(failed)
        }
        applied => applied.map_err(failed),
    }
}

/// A root nobody may write to, with directories of this container's own on top.
fn cover(bundle: &Path, root: &str, shown: &mut Shown, names: Option<&UserNamespace>) -> Result<(), VolumeError> {
    for name in ["upper", "work", "rootfs"] {
        make(&bundle.join(name))?;
    }
    let target = bundle.join("rootfs");
    let of = |name: &str| bundle.join(name).display().to_string();
    let more = if names.is_some() { ",metacopy=on" } else { "" };
    let options = format!("lowerdir={root},upperdir={},workdir={}{more}", of("upper"), of("work"));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_now(Some("overlay"), &target, Some("overlay"), flags, Some(options.as_str()))
        .map_err(|errno| VolumeError::Mount { path: target.clone(), source: errno.into() })?;
    shown.0.push(target.clone());
    let Some(names) = names else { return Ok(()) };
    let given = fs::File::open(&target).and_then(|top| rename_all(top.as_fd(), Renaming::Into(names.first)));
    given.map_err(|source| VolumeError::Give { base: root.to_owned(), path: String::new(), source })
}

/// Opens what a volume is, following no link below its base.
pub(crate) fn find(volume: &Staged) -> Result<OwnedFd, VolumeError> {
    let failed = |errno: rustix::io::Errno| VolumeError::Find {
        base: volume.base.clone(),
        path: volume.path.clone(),
        source: errno.into(),
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let base =
        rustix::fs::openat(CWD, volume.base.as_str(), flags | OFlags::DIRECTORY, Mode::empty()).map_err(failed)?;
    if volume.path.is_empty() {
        return Ok(base);
    }
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&base, volume.path.as_str(), flags, Mode::empty(), resolve).map_err(failed)
}

fn make(path: &Path) -> Result<(), VolumeError> {
    match fs::create_dir(path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            Err(VolumeError::Make { path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, VolumeError> {
    let failed = |source| VolumeError::Read { path: path.to_owned(), source };
    match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => serde_json::from_slice(&read.map_err(failed)?).map(Some).map_err(|error| failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn volume(base: &Path, path: &str) -> Staged {
        Staged { name: "0".to_owned(), base: base.display().to_string(), path: path.to_owned(), ..Staged::default() }
    }

    #[test]
    fn no_link_of_a_task_leads_anywhere() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().join("base");
        fs::create_dir_all(base.join("real/deep")).unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        symlink(dir.path().join("outside"), base.join("away")).unwrap();
        symlink("real", base.join("inside")).unwrap();
        assert!(find(&volume(&base, "real/deep")).is_ok() && find(&volume(&base, "")).is_ok());
        for path in ["away", "inside", "inside/deep", "../outside", "missing", "/etc"] {
            assert!(find(&volume(&base, path)).is_err(), "{path}");
        }
    }
}
