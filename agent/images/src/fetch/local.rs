//! A file of the node itself, as far as the task's user may read it.
//!
//! The file is opened with that user's rights, not ours: else a task could ask for the node's keys. Root in a container is
//! nobody outside.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::OFlags;

use super::Trouble;
use super::progress::Sink;

/// Who may read only what everybody may.
const NOBODY: u32 = 65_534;
const PIECE: usize = 128 * 1024;

/// Copies the file.
pub(super) async fn copy(path: PathBuf, uid: u32, gid: u32, sink: &mut Sink) -> Result<(), Trouble> {
    sink.again()?;
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread of its own: it has other rights than the rest, and does not come back.
    let opening = std::thread::Builder::new().name("fetch".to_owned()).stack_size(128 * 1024).spawn(move || {
        let _ = tell.send(open(&path, uid, gid));
    });
    opening.map_err(Trouble::lasting)?;
    let mut file = told.await.map_err(Trouble::lasting)?.map_err(Trouble::io("cannot read it"))?;
    let about = file.metadata().map_err(Trouble::lasting)?;
    if !about.is_file() {
        return Err(Trouble::Lasting("it is not a regular file".to_owned()));
    }
    sink.expect(Some(about.len()))?;
    let mut buffer = vec![0; PIECE];
    loop {
        let length = file.read(&mut buffer).map_err(Trouble::io("cannot read it"))?;
        if length == 0 {
            return Ok(());
        }
        sink.take(&buffer[..length])?;
        tokio::task::yield_now().await;
    }
}

fn open(path: &Path, uid: u32, gid: u32) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut options = File::options();
    options.read(true).custom_flags(flags.bits().cast_signed());
    if !rustix::process::geteuid().is_root() {
        return options.open(path);
    }
    let (uid, gid) = if uid == 0 { (NOBODY, NOBODY) } else { (uid, gid) };
    // Of this thread alone; with the user go the rights to look past permissions.
    setfsgid(Gid::from_raw(gid));
    setfsuid(Uid::from_raw(uid));
    let file = options.open(path)?;
    let about = file.metadata()?;
    // We may be of groups that the task is not.
    let may = about.mode() & 0o004 != 0
        || (about.uid() == uid && about.mode() & 0o400 != 0)
        || (about.gid() == gid && about.mode() & 0o040 != 0);
    if may { Ok(file) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_task_gets_no_file_its_user_may_not_read() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "secret").unwrap();
        let open_as = |uid: u32| {
            let path = path.clone();
            std::thread::spawn(move || open(&path, uid, 4321).is_ok()).join().unwrap()
        };
        let is_root = rustix::process::geteuid().is_root();
        for (mode, uid, expected) in
            [(0o600, 4321, !is_root), (0o600, 0, !is_root), (0o644, 4321, true), (0o644, 0, true)]
        {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(open_as(uid), expected, "{mode:o} {uid}");
        }
        if is_root {
            std::os::unix::fs::chown(&path, Some(4321), None).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(open_as(4321) && !open_as(4322));
        }
    }
}
