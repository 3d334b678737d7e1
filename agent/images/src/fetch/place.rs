//! A sandbox that things are put into: nothing that is made in it, or was before, leads outside.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

/// More are not looked at when a sandbox is measured: seconds of work.
const MOST_FILES: usize = 1 << 22;
/// Directories that are known and not yet looked into: each takes its path, which may be 4 KiB.
const MOST_DIRECTORIES: usize = 1 << 16;

/// An open sandbox, and whose it is.
#[derive(Debug)]
pub(super) struct Sandbox {
    root: OwnedFd,
    /// Who gets what is made; none when we cannot give anything away.
    owner: Option<(Uid, Gid)>,
}

impl Sandbox {
    pub(super) fn open(path: &Path, uid: u32, gid: u32) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let root = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
        let owner = rustix::process::geteuid().is_root().then(|| (Uid::from_raw(uid), Gid::from_raw(gid)));
        Ok(Self { root, owner })
    }

    /// A new file in place of whatever is there but a directory; directories on the way are made.
    pub(super) fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        let (parent, name) = self.parent(path)?;
        self.make_room(&parent, &name)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&parent, &name, flags, Mode::from_raw_mode(mode))?;
        Ok(File::from(file))
    }

    /// Gives a file to its owner.
    pub(super) fn finish(&self, file: &File, mode: u32) -> io::Result<()> {
        self.give(file)?;
        Ok(rustix::fs::fchmod(file, Mode::from_raw_mode(mode & 0o777))?)
    }

    fn give(&self, file: impl AsFd) -> io::Result<()> {
        match self.owner {
            Some((uid, gid)) => Ok(rustix::fs::fchown(file, Some(uid), Some(gid))?),
            None => Ok(()),
        }
    }

    /// A directory, maybe there already.
    pub(super) fn directory(&self, path: &Path, mode: u32) -> io::Result<()> {
        let parts = parts(path)?;
        if parts.is_empty() {
            return Ok(());
        }
        let made = self.walk(&parts)?;
        // The task itself must be able to use it.
        Ok(rustix::fs::fchmod(&made, Mode::from_raw_mode((mode & 0o777) | 0o700))?)
    }

    pub(super) fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        let (parent, name) = self.parent(path)?;
        self.make_room(&parent, &name)?;
        rustix::fs::symlinkat(target, &parent, &name)?;
        self.give_at(&parent, &name)
    }

    /// A second name for a file of the sandbox.
    pub(super) fn link(&self, target: &Path, path: &Path) -> io::Result<()> {
        let (from, old) = self.parent(target)?;
        let stat = rustix::fs::statat(&from, &old, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a hard link to what is no file"));
        }
        let (parent, name) = self.parent(path)?;
        // Of itself there would be nothing left.
        if rustix::fs::statat(&parent, &name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|there| (there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino))
        {
            return Ok(());
        }
        self.make_room(&parent, &name)?;
        Ok(rustix::fs::linkat(&from, &old, &parent, &name, AtFlags::empty())?)
    }

    fn give_at(&self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        match self.owner {
            Some((uid, gid)) => Ok(rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?),
            None => Ok(()),
        }
    }

    fn make_room(&self, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        let mut parts = parts(path)?;
        let name = parts.pop().ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.walk(&parts)?, name))
    }

    /// The directory, made where it is missing. The kernel resolves below the sandbox, links in it included.
    fn walk(&self, parts: &[OsString]) -> io::Result<OwnedFd> {
        let mut here = self.enter(Path::new("."))?;
        let mut so_far = PathBuf::new();
        for part in parts {
            so_far.push(part);
            here = match self.enter(&so_far) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    rustix::fs::mkdirat(&here, part, Mode::from_raw_mode(0o755))?;
                    let made = self.enter(&so_far)?;
                    self.give(&made)?;
                    made
                }
                entered => entered?,
            };
        }
        Ok(here)
    }

    fn enter(&self, path: &Path) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
                // The kernel cannot tell while something is renamed.
                Err(Errno::AGAIN) => {}
                opened => return Ok(opened?),
            }
        }
    }
}

/// What a sandbox has, in bytes; links count for nothing.
pub(super) fn size(path: &Path) -> io::Result<u64> {
    let mut directories = vec![path.to_owned()];
    let (mut bytes, mut seen) = (0_u64, 0_usize);
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > MOST_FILES || directories.len() > MOST_DIRECTORIES {
                return Err(io::Error::other("it has too many files"));
            }
            match entry.metadata() {
                Ok(about) if about.is_dir() => directories.push(entry.path()),
                Ok(about) if about.is_file() => bytes = bytes.saturating_add(about.len()),
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(bytes)
}

/// The parts of a relative path without `..`.
fn parts(path: &Path) -> io::Result<Vec<OsString>> {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_owned()),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it leads outside"));
            }
        }
    }
    Ok(parts)
}
