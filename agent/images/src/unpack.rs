//! Unpacks a layer into a directory of its own, in the form overlayfs wants it.
//!
//! Every path is resolved by the kernel below the layer's root (`openat2` with `RESOLVE_BENEATH`), so neither `..` nor
//! a symbolic link leads outside, whatever was unpacked before. Deletions become what overlayfs understands: a
//! character device 0:0 for a name, an attribute for a directory whose lower content is gone.

pub(crate) mod archive;
pub(crate) mod archive_entries;
mod entry;
mod stream;

pub use archive_entries::TarError;
pub use entry::{Meaning, Place, Refusal, keeps_xattr, meaning, place};

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use agent_core::image::Digest;
use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use archive_entries::{Head, Kind, each, shown};
use stream::Stream;

/// What one layer may become.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of the unpacked tar stream.
    pub bytes: u64,
    /// Files, directories, links and deletions.
    pub entries: u64,
}

/// What a layer became.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unpacked {
    /// Of the unpacked stream.
    pub diff_id: Digest,
    /// Its bytes.
    pub bytes: u64,
    /// Its entries.
    pub entries: u64,
}

/// Why a layer cannot be unpacked. What there is of it is worthless then.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is not one, or one of its entries is refused.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// More bytes than allowed.
    #[error("the layer has more than {0} bytes unpacked")]
    TooLarge(u64),
    /// More entries than allowed.
    #[error("the layer has more than {0} entries")]
    TooMany(u64),
    /// The kernel says no; a path that leads outside ends here.
    #[error("cannot make `{path}`")]
    Make {
        /// In the layer.
        path: String,
        /// The kernel's word.
        source: io::Error,
    },
    /// The layer cannot be decompressed or read.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// The directory cannot be used.
    #[error("cannot unpack into {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// Nobody wants it any more.
    #[error("unpacking was given up")]
    Cancelled,
}

impl UnpackError {
    /// Whether there was no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        let full = |source: &io::Error| {
            matches!(source.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::NOSPC | Errno::DQUOT))
        };
        match self {
            Self::Make { source, .. } | Self::Directory { source, .. } => full(source),
            Self::Tar(_) | Self::TooLarge(_) | Self::TooMany(_) | Self::Read(_) | Self::Cancelled => false,
        }
    }
}

/// Unpacks `layer` (tar, plain or compressed with gzip or zstd, told by its first bytes) into the empty directory `into`.
///
/// # Errors
/// When anything about the layer is not as it must be; `into` is to be removed then.
pub fn unpack(layer: impl Read, into: &Path, limits: Limits, cancel: &AtomicBool) -> Result<Unpacked, UnpackError> {
    let failed = |source: Errno| UnpackError::Directory { path: into.to_owned(), source: source.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, into, flags, Mode::empty()).map_err(failed)?;
    let stream = Stream::new(layer, limits.bytes).map_err(UnpackError::Read)?;
    let mut unpacker =
        Unpacker { root, privileged: rustix::process::geteuid().is_root(), directories: Vec::new(), entries: 0 };
    let result = each(stream, |head, data| {
        if cancel.load(Ordering::Relaxed) {
            return Err(UnpackError::Cancelled);
        }
        unpacker.entries += 1;
        if unpacker.entries > limits.entries {
            return Err(UnpackError::TooMany(limits.entries));
        }
        unpacker.take(&head, data)
    });
    let finished = result.and_then(|stream| stream.finish().map_err(|error| UnpackError::Tar(TarError::Read(error))));
    let (diff_id, bytes) = finished.map_err(|error| {
        // It comes through the tar reader as any other error of reading.
        let over = matches!(&error, UnpackError::Tar(TarError::Read(source)) | UnpackError::Make { source, .. }
            if stream::is_over_limit(source));
        if over { UnpackError::TooLarge(limits.bytes) } else { error }
    })?;
    let entries = unpacker.entries;
    unpacker.finish()?;
    Ok(Unpacked { diff_id, bytes, entries })
}

/// Whether a file stands for a deletion.
#[must_use]
pub fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// The attribute of a directory that hides what lower layers have in it. Only root may set the one for root's mounts.
#[must_use]
pub fn opaque_attribute() -> &'static str {
    if rustix::process::geteuid().is_root() { "trusted.overlay.opaque" } else { "user.overlay.opaque" }
}

struct Unpacker {
    root: OwnedFd,
    /// Owners can be given and all attributes set.
    privileged: bool,
    /// Their times, which are set when nothing is put into them any more.
    directories: Vec<(Place, i64)>,
    entries: u64,
}

/// How a directory is come by.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Missing {
    Make,
    Fail,
}

impl Unpacker {
    fn take(&mut self, head: &Head, data: &mut dyn Read) -> Result<(), UnpackError> {
        let refused = |refusal| TarError::Refused { path: shown(&head.path), refusal };
        let failed = |source: Errno| UnpackError::Make { path: shown(&head.path), source: source.into() };
        match meaning(&head.path).map_err(refused)? {
            Meaning::Nothing => Ok(()),
            Meaning::Opaque(parents) => {
                let directory = self.directory(&parents, Missing::Make).map_err(failed)?;
                self.hide_lower(directory.as_fd()).map_err(failed)
            }
            Meaning::Whiteout(place) => self.whiteout(&place).map_err(failed),
            Meaning::Entry(place) => self.entry(&place, head, data),
        }
    }

    fn entry(&mut self, place: &Place, head: &Head, data: &mut dyn Read) -> Result<(), UnpackError> {
        let refused = |refusal| UnpackError::Tar(TarError::Refused { path: shown(&head.path), refusal });
        let failed = |source: Errno| UnpackError::Make { path: shown(&head.path), source: source.into() };
        match head.kind {
            Kind::Device => return Err(refused(Refusal::Device)),
            Kind::Sparse => return Err(refused(Refusal::Sparse)),
            Kind::Other(kind) => return Err(refused(Refusal::Kind(kind))),
            Kind::Directory if place.name.is_empty() => {
                let root = self.directory(&[], Missing::Fail).map_err(failed)?;
                self.describe(root.as_fd(), head).map_err(failed)?;
                self.directories.push((place.clone(), head.mtime));
                return Ok(());
            }
            _ if place.name.is_empty() => return Err(refused(Refusal::Root)),
            Kind::File | Kind::HardLink | Kind::Symlink | Kind::Directory | Kind::Fifo => {}
        }
        let parent = self.directory(&place.parents, Missing::Make).map_err(failed)?;
        let was_hidden = self.make_room(parent.as_fd(), &place.name, head.kind).map_err(failed)?;
        match head.kind {
            Kind::Directory => {
                match rustix::fs::mkdirat(&parent, &place.name, Mode::RWXU) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(failed(errno)),
                }
                let directory = open_directory(parent.as_fd(), Path::new(&place.name)).map_err(failed)?;
                if was_hidden {
                    self.hide_lower(directory.as_fd()).map_err(failed)?;
                }
                self.describe(directory.as_fd(), head).map_err(failed)?;
                self.directories.push((place.clone(), head.mtime));
                Ok(())
            }
            Kind::File => self.file(parent.as_fd(), &place.name, head, data),
            Kind::HardLink => {
                let target = self::place(&head.link).map_err(refused)?;
                let from = self.directory(&target.parents, Missing::Fail).map_err(failed)?;
                rustix::fs::linkat(&from, &target.name, &parent, &place.name, AtFlags::empty()).map_err(failed)
            }
            Kind::Symlink => {
                rustix::fs::symlinkat(OsStr::from_bytes(&head.link), &parent, &place.name).map_err(failed)?;
                self.describe_at(parent.as_fd(), &place.name, head, Described::Link).map_err(failed)
            }
            Kind::Fifo => {
                rustix::fs::mknodat(&parent, &place.name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                    .map_err(failed)?;
                self.describe_at(parent.as_fd(), &place.name, head, Described::Node).map_err(failed)
            }
            Kind::Device | Kind::Sparse | Kind::Other(_) => Err(refused(Refusal::Device)),
        }
    }

    fn file(&self, parent: BorrowedFd<'_>, name: &OsStr, head: &Head, data: &mut dyn Read) -> Result<(), UnpackError> {
        let failed = |source: io::Error| UnpackError::Make { path: shown(&head.path), source };
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            rustix::fs::openat(parent, name, flags, Mode::RUSR | Mode::WUSR).map_err(|errno| failed(errno.into()))?;
        let mut file = File::from(file);
        let written = io::copy(&mut data.take(head.size), &mut file).map_err(failed)?;
        if written != head.size {
            return Err(UnpackError::Tar(TarError::Read(io::ErrorKind::UnexpectedEof.into())));
        }
        self.describe(file.as_fd(), head).map_err(|errno| failed(errno.into()))?;
        rustix::fs::futimens(&file, &times(head.mtime)).map_err(|errno| failed(errno.into()))
    }

    /// Removes what an earlier entry of the layer has put where this one goes. Whether that was a deletion, which a
    /// directory in its place must go on being for what lies below.
    fn make_room(&self, parent: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> Result<bool, Errno> {
        let stat = match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(false),
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            rustix::fs::unlinkat(parent, name, AtFlags::empty())?;
            return Ok(is_whiteout(&stat));
        }
        if kind != Kind::Directory {
            let path = PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name);
            std::fs::remove_dir_all(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        }
        Ok(false)
    }

    fn whiteout(&self, place: &Place) -> Result<(), Errno> {
        let parent = self.directory(&place.parents, Missing::Make)?;
        match rustix::fs::statat(&parent, &place.name, AtFlags::SYMLINK_NOFOLLOW) {
            // Deletions are of what lies below; what this layer has itself stays, and hides it.
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let directory = open_directory(parent.as_fd(), Path::new(&place.name))?;
                self.hide_lower(directory.as_fd())
            }
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => rustix::fs::mknodat(&parent, &place.name, FileType::CharacterDevice, Mode::empty(), 0),
            Err(errno) => Err(errno),
        }
    }

    fn hide_lower(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        rustix::fs::fsetxattr(directory, opaque_attribute(), b"y", XattrFlags::empty())
    }

    /// The directory with this path, resolved below the root.
    fn directory(&self, parents: &[std::ffi::OsString], missing: Missing) -> Result<OwnedFd, Errno> {
        let path: PathBuf = parents.iter().collect();
        let path = if parents.is_empty() { PathBuf::from(".") } else { path };
        match open_directory(self.root.as_fd(), &path) {
            // Not a directory: it may be deleted below and made anew here.
            Err(Errno::NOENT | Errno::NOTDIR) if missing == Missing::Make => {}
            opened => return opened,
        }
        // Archives may leave directories out.
        let mut here = open_directory(self.root.as_fd(), Path::new("."))?;
        let mut so_far = PathBuf::new();
        for part in parents {
            so_far.push(part);
            here = match open_directory(self.root.as_fd(), &so_far) {
                Err(errno @ (Errno::NOENT | Errno::NOTDIR)) => {
                    let mode = Mode::RWXU | Mode::RGRP | Mode::XGRP | Mode::ROTH | Mode::XOTH;
                    match rustix::fs::statat(&here, part, AtFlags::SYMLINK_NOFOLLOW) {
                        Ok(stat) if is_whiteout(&stat) => {
                            rustix::fs::unlinkat(&here, part, AtFlags::empty())?;
                            rustix::fs::mkdirat(&here, part, mode)?;
                            let made = open_directory(self.root.as_fd(), &so_far)?;
                            self.hide_lower(made.as_fd())?;
                            made
                        }
                        // A file, or a link to nothing.
                        Ok(_) => return Err(errno),
                        Err(Errno::NOENT) => {
                            rustix::fs::mkdirat(&here, part, mode)?;
                            open_directory(self.root.as_fd(), &so_far)?
                        }
                        Err(errno) => return Err(errno),
                    }
                }
                opened => opened?,
            };
        }
        Ok(here)
    }

    /// Owner, attributes and mode: in this order, for giving a file away takes capabilities and set-user-id bits away.
    fn describe(&self, file: BorrowedFd<'_>, head: &Head) -> Result<(), Errno> {
        if self.privileged {
            rustix::fs::fchown(file, Some(Uid::from_raw(head.uid)), Some(Gid::from_raw(head.gid)))?;
        }
        for (name, value) in head.xattrs.iter().filter(|(name, _)| keeps_xattr(name)) {
            match rustix::fs::fsetxattr(file, OsStr::from_bytes(name), value, XattrFlags::empty()) {
                Ok(()) => {}
                // tmpfs has no user attributes before Linux 6.6; nothing that runs depends on them.
                Err(Errno::OPNOTSUPP) if name.starts_with(b"user.") => {}
                Err(Errno::PERM) if !self.privileged => {}
                Err(errno) => return Err(errno),
            }
        }
        rustix::fs::fchmod(file, Mode::from_raw_mode(head.mode))
    }

    fn describe_at(&self, parent: BorrowedFd<'_>, name: &OsStr, head: &Head, what: Described) -> Result<(), Errno> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if self.privileged {
            rustix::fs::chownat(parent, name, Some(Uid::from_raw(head.uid)), Some(Gid::from_raw(head.gid)), flags)?;
        }
        if what == Described::Node {
            // Made just now, by us, in a directory nobody else sees.
            rustix::fs::chmodat(parent, name, Mode::from_raw_mode(head.mode), AtFlags::empty())?;
        }
        rustix::fs::utimensat(parent, name, &times(head.mtime), flags)
    }

    fn finish(self) -> Result<(), UnpackError> {
        for (place, mtime) in self.directories.iter().rev() {
            let mut path: PathBuf = place.parents.iter().collect();
            path.push(if place.name.is_empty() { OsStr::new(".") } else { place.name.as_os_str() });
            // It may have been replaced meanwhile.
            if let Ok(directory) = open_directory(self.root.as_fd(), &path) {
                let failed =
                    |errno: Errno| UnpackError::Make { path: path.display().to_string(), source: errno.into() };
                rustix::fs::futimens(&directory, &times(*mtime)).map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// What [`Unpacker::describe_at`] describes.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Described {
    Link,
    Node,
}

fn open_directory(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    loop {
        match rustix::fs::openat2(root, path, flags, Mode::empty(), resolve) {
            // The kernel cannot tell while something is renamed; nobody else works here, so soon it can.
            Err(Errno::AGAIN) => {}
            opened => return opened,
        }
    }
}

fn times(mtime: i64) -> Timestamps {
    let time = Timespec { tv_sec: mtime, tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

#[cfg(test)]
mod tests;
