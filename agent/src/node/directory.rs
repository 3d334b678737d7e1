//! What a directory of a sandbox holds.

use std::fs::{self, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use api::link::FileEntry;

use super::file_reader::open_beneath;

/// One message holds so many; a directory with more is told in part.
const MOST: usize = 8192;

/// The entries of a directory, sorted by name, and whether there are more; of a file the file itself.
pub(crate) fn list(sandbox: &Path, path: &str) -> io::Result<(Vec<FileEntry>, bool)> {
    let path = path.trim_matches('/');
    let path = if path.is_empty() { "." } else { path };
    let opened = open_beneath(sandbox, path)?;
    let about = opened.metadata()?;
    if !about.is_dir() {
        return Ok((vec![entry(path.to_owned(), &about)], false));
    }
    let mut entries = Vec::new();
    let mut more = false;
    // Through the open directory: what its path leads to may have changed meanwhile.
    for child in fs::read_dir(format!("/proc/self/fd/{}", opened.as_raw_fd()))? {
        if entries.len() == MOST {
            more = true;
            break;
        }
        let child = child?;
        // One that was removed meanwhile.
        let Ok(about) = child.metadata() else { continue };
        let name = child.file_name().to_string_lossy().into_owned();
        entries.push(entry(if path == "." { name } else { format!("{path}/{name}") }, &about));
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((entries, more))
}

fn entry(name: String, about: &Metadata) -> FileEntry {
    #[allow(clippy::cast_precision_loss)] // seconds since 1970 fit 2^53
    let modified = about.mtime() as f64 + about.mtime_nsec() as f64 / 1e9;
    FileEntry {
        name,
        mode: about.mode(),
        links: about.nlink(),
        size: about.size(),
        modified,
        uid: about.uid(),
        gid: about.gid(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_listed_and_nothing_outside_it() {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = dir.path().join("sandbox");
        fs::create_dir_all(sandbox.join("sub")).unwrap();
        fs::write(sandbox.join("sub/b"), "12345").unwrap();
        fs::write(sandbox.join("a"), "").unwrap();
        std::os::unix::fs::symlink("/etc", sandbox.join("out")).unwrap();
        let names = |path: &str| -> Vec<(String, u64)> {
            list(&sandbox, path).unwrap().0.into_iter().map(|entry| (entry.name, entry.size)).collect()
        };
        assert_eq!(names("").iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "out", "sub"]);
        assert_eq!(names("/sub/"), [("sub/b".to_owned(), 5)]);
        assert_eq!(names("sub/b"), [("sub/b".to_owned(), 5)]);
        for outside in ["out", "..", "sub/../..", "/etc/../.."] {
            assert!(list(&sandbox, outside).is_err(), "{outside}");
        }
    }
}
