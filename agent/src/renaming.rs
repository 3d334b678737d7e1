//! Files that are given to a user namespace, or taken back from one, by changing whose they are: for file systems the
//! kernel cannot mount under other names.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_core::ids;
use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, openat, statat};
use rustix::io::Errno;

/// Deeper trees are left as they are; each step is an open directory.
const DEEPEST: usize = 400;

/// To whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Renaming {
    /// The range that begins with this id.
    Into(u32),
    /// What they are called on the node.
    Back,
}

impl Renaming {
    /// The new id; none for what stays as it is.
    fn of(self, id: u32) -> Option<u32> {
        let named = ids::inside(id);
        let new = match self {
            Self::Into(first) => first + named.or_else(|| (id < ids::SIZE).then_some(id))?,
            Self::Back => named?,
        };
        (new != id).then_some(new)
    }
}

/// Gives a directory and everything below it. No link is followed, and nothing outside is touched, whoever changes the
/// tree meanwhile.
pub(crate) fn rename_all(top: BorrowedFd<'_>, renaming: Renaming) -> io::Result<()> {
    let directory = openat(top, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    rename_below(&directory, renaming, 0)?;
    Ok(one(directory.as_fd(), c"", AtFlags::EMPTY_PATH, renaming).map(drop)?)
}

fn rename_below(directory: &OwnedFd, renaming: Renaming, depth: usize) -> io::Result<()> {
    if depth > DEEPEST {
        return Err(io::Error::other(format!("directories are more than {DEEPEST} deep")));
    }
    let mut below: Vec<CString> = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match one(directory.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW, renaming) {
            Ok(FileType::Directory) => below.push(name.to_owned()),
            Ok(_) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    for name in below {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(directory, name.as_c_str(), flags, Mode::empty()) {
            Ok(child) => rename_below(&child, renaming, depth + 1)?,
            // Something else is there by now.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn one(
    directory: BorrowedFd<'_>,
    name: &std::ffi::CStr,
    flags: AtFlags,
    renaming: Renaming,
) -> Result<FileType, Errno> {
    let about = statat(directory, name, flags)?;
    let (uid, gid) = (renaming.of(about.st_uid), renaming.of(about.st_gid));
    if uid.is_some() || gid.is_some() {
        chownat(directory, name, uid.map(Uid::from_raw), gid.map(Gid::from_raw), flags)?;
    }
    Ok(FileType::from_raw_mode(about.st_mode))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_tree_is_given_and_taken_back_and_what_links_name_is_not() {
        if !nix::unistd::geteuid().is_root() {
            return; // nobody else may give files away
        }
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("tree");
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::write(tree.join("a/b/file"), "").unwrap();
        std::os::unix::fs::chown(tree.join("a"), Some(7), Some(70_000)).unwrap();
        fs::write(dir.path().join("outside"), "").unwrap();
        symlink(dir.path().join("outside"), tree.join("link")).unwrap();
        let first = ids::free(&std::collections::BTreeSet::new()).unwrap();
        let opened = File::open(&tree).unwrap();
        for _ in 0..2 {
            rename_all(opened.as_fd(), Renaming::Into(first)).unwrap();
            let of = |path: &str| fs::symlink_metadata(tree.join(path)).unwrap();
            assert_eq!((of("").uid(), of("a/b/file").gid(), of("link").uid()), (first, first, first));
            assert_eq!((of("a").uid(), of("a").gid()), (first + 7, 70_000), "an id that is nobody's there stays");
        }
        assert_eq!(fs::metadata(dir.path().join("outside")).unwrap().uid(), 0);
        rename_all(opened.as_fd(), Renaming::Into(first + ids::SIZE)).unwrap();
        assert_eq!(fs::metadata(tree.join("a")).unwrap().uid(), first + ids::SIZE + 7, "from another range");
        rename_all(opened.as_fd(), Renaming::Back).unwrap();
        assert_eq!((fs::metadata(tree.join("a")).unwrap().uid(), fs::metadata(&tree).unwrap().uid()), (7, 0));
    }
}
