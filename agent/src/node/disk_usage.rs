//! What a directory tree takes of its disk, measured as its owner goes on writing to it.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat, openat, openat2, statat};

/// What `st_blocks` counts.
const BLOCK: u64 = 512;
/// Directories deeper than so many bytes of path are measured from a new start: paths have an end, trees have none.
const LONGEST_PATH: usize = 2048;

/// Bytes below `root`, on its own file system; files with several names count once. No link is followed, and what goes
/// away meanwhile counts for nothing.
pub(crate) fn disk_usage(root: &Path) -> u64 {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let Ok(start) = openat(CWD, root, flags, Mode::empty()) else { return 0 };
    let Ok(own) = rustix::fs::fstat(&start) else { return 0 };
    let mut used = blocks(&own);
    let mut named_twice = BTreeSet::new();
    let mut queue: VecDeque<(Arc<OwnedFd>, PathBuf)> = VecDeque::from([(Arc::new(start), PathBuf::from("."))]);
    // Depth first, so that the queue holds siblings and not a whole level.
    while let Some((start, path)) = queue.pop_back() {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let Ok(here) = openat2(&*start, &path, flags, Mode::empty(), resolve) else { continue };
        let deep = path.as_os_str().len() > LONGEST_PATH;
        let Ok(entries) = Dir::read_from(&here) else { continue };
        let here = Arc::new(here);
        for entry in entries.flatten() {
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(stat) = statat(&*here, name, AtFlags::SYMLINK_NOFOLLOW) else { continue };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !is_directory && stat.st_nlink > 1 && !named_twice.insert((stat.st_dev, stat.st_ino)) {
                continue;
            }
            used = used.saturating_add(blocks(&stat));
            if is_directory && stat.st_dev == own.st_dev {
                let name = OsStr::from_bytes(name.to_bytes());
                queue.push_back(if deep {
                    (Arc::clone(&here), PathBuf::from(name))
                } else {
                    (Arc::clone(&start), path.join(name))
                });
            }
        }
    }
    used
}

fn blocks(stat: &Stat) -> u64 {
    u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn files_count_once_and_links_lead_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("large"), vec![1; 4 << 20]).unwrap();
        let empty = disk_usage(dir.path());
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/b/file"), vec![1; 1 << 20]).unwrap();
        fs::hard_link(dir.path().join("a/b/file"), dir.path().join("again")).unwrap();
        symlink(outside.path(), dir.path().join("away")).unwrap();
        let used = disk_usage(dir.path()) - empty;
        assert!((1 << 20..(1 << 20) + (64 << 10)).contains(&used), "{used}");
        assert_eq!(disk_usage(&dir.path().join("away")), 0);
        assert_eq!(disk_usage(&dir.path().join("missing")), 0);
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_measured_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let mut here = openat(CWD, dir.path(), flags, Mode::empty()).unwrap();
        let name = "d".repeat(100);
        for _ in 0..60 {
            rustix::fs::mkdirat(&here, name.as_str(), Mode::from_raw_mode(0o755)).unwrap();
            here = openat(&here, name.as_str(), flags, Mode::empty()).unwrap();
        }
        let before = disk_usage(dir.path());
        let file = openat(&here, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap();
        rustix::io::write(&file, &vec![1; 1 << 20]).unwrap();
        assert!(disk_usage(dir.path()) >= before + (1 << 20));
    }
}
