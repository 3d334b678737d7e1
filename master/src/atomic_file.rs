//! Small files that are either the old or the new, never half: temp, fsync, rename, fsync of the directory.

use std::io;
use std::path::Path;

use crate::disk::{Disk, Opening, Real};

/// Replaces `path` by `bytes`, readable as `mode` says.
///
/// # Errors
/// Whatever the file system says; then `path` is as it was.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    write_on(&Real, path, bytes, mode)
}

/// The same on another disk.
///
/// # Errors
/// Whatever the file system says; then `path` is as it was.
pub(crate) fn write_on(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    // A leftover of a crash may have another mode: it goes first.
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let written = (|| {
        let file = disk.open(&temporary, Opening::New { mode })?;
        file.write_all_at(bytes, 0)?;
        file.sync_all()?;
        disk.rename(&temporary, path)
    })();
    if let Err(error) = written {
        // The cause is what counts; a temporary file that stays is removed by the next write.
        drop(disk.remove(&temporary));
        return Err(error);
    }
    disk.sync_directory_of(path)
}

/// Makes a rename, creation or removal in `path`'s directory durable.
///
/// # Errors
/// Whatever the file system says.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    Real.sync_directory_of(path)
}

/// Reads `path`; `None` if it does not exist.
///
/// # Errors
/// Any other failure.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    Real.read(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_never_readable_by_others_even_after_a_leftover() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        fs::write(dir.path().join("key.tmp"), "leftover").unwrap();
        write(&path, b"one", 0o600).unwrap();
        write(&path, b"two", 0o600).unwrap();
        assert_eq!(read(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&dir.path().join("none")).unwrap(), None);
    }
}
