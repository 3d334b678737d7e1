//! Makes the root read-only: what a node writes is in the file systems of `mounts`, and nowhere else.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::mount::{MsFlags, mount};

/// The few files that change: names, name servers.
const ETC: &str = "/etc";
const NEW_ETC: &str = "/run/.etc";
/// The authorities' certificates are some hundred kilobytes.
const ETC_OPTIONS: &str = "mode=755,size=4m";

/// Gives /etc a file system of its own with what was in it, then makes / read-only. The kernel's own root lies below a
/// mount that nobody can reach any more.
pub(crate) fn seal() -> io::Result<()> {
    let none: Option<&str> = None;
    fs::create_dir_all(NEW_ETC)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), NEW_ETC, Some("tmpfs"), flags, Some(ETC_OPTIONS))?;
    copy(Path::new(ETC), Path::new(NEW_ETC))?;
    mount(Some(NEW_ETC), ETC, none, MsFlags::MS_MOVE, none)?;
    fs::remove_dir(NEW_ETC)?;
    mount(none, "/", none, MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV, none)?;
    Ok(())
}

/// Directories, files and links, with their permissions.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let about = entry.metadata()?;
        if about.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
        } else if about.is_dir() {
            fs::create_dir(&target)?;
            copy(&source, &target)?;
            fs::set_permissions(&target, about.permissions())?;
        } else if about.is_file() {
            fs::copy(&source, &target)?;
            std::os::unix::fs::chown(&target, Some(about.uid()), Some(about.gid()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_links_and_directories_are_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(from.join("ssl")).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("ssl/certs"), "x").unwrap();
        fs::set_permissions(from.join("ssl/certs"), fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("/proc/mounts", from.join("mtab")).unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("ssl/certs")).unwrap(), b"x");
        assert_eq!(fs::metadata(to.join("ssl/certs")).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_link(to.join("mtab")).unwrap(), Path::new("/proc/mounts"));
    }
}
