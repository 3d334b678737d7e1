//! Directories of volumes: made before a container is, and persistent ones kept until the master says they are
//! destroyed.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agent_core::launch::{Staged, User, volume_directory};
use api::Resources;
use rustix::fs::{CWD, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

use super::disks;
use crate::renaming::{Renaming, rename_all};

/// Where persistent volumes of the work directory's own disk are.
const VOLUMES: &str = "volumes";
/// Volumes a master did not know when we came to it. It is the master that knows, but one that was restored from an
/// older copy of its log must not cost anybody their data at once.
const UNKNOWN: &str = "volumes/unknown";
/// How long they are kept.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// Makes what a volume is, if it is to be made, and gives it to its task.
pub(crate) fn prepare(volume: &Staged) -> io::Result<()> {
    if !volume.make {
        return Ok(());
    }
    if !disks::awaited(&volume.base) {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the disk it is on is not there"));
    }
    fs::create_dir_all(&volume.base)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut here: OwnedFd = rustix::fs::openat(CWD, volume.base.as_str(), flags, Mode::empty())?;
    let mode = Mode::from_raw_mode(0o755);
    for name in volume.path.split('/').filter(|name| !name.is_empty()) {
        match rustix::fs::mkdirat(&here, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        here = rustix::fs::openat2(&here, name, flags, Mode::empty(), resolve)?;
    }
    let about = rustix::fs::fstat(&here)?;
    if volume.persistence.is_some() && agent_core::ids::inside(about.st_uid).is_some() {
        // Of a run with a user namespace, on a file system that has one set of names.
        rename_all(here.as_fd(), Renaming::Back)?;
    }
    match volume.owner.filter(|_| rustix::process::geteuid().is_root()) {
        Some(User { uid, gid }) => {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            Ok(rustix::fs::chownat(&here, "", Some(uid), Some(gid), rustix::fs::AtFlags::EMPTY_PATH)?)
        }
        None => Ok(()),
    }
}

/// What is to be done about volumes the master does not name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Unnamed {
    /// They were destroyed.
    Remove,
    /// They may have been: kept for a while.
    SetAside,
}

/// Makes the persistent volumes there are, and takes the others away: [`collect`] removes what was destroyed, which may
/// take a while. Gives how many went.
pub(crate) fn keep(work_dir: &Path, persistent: &Resources, unnamed: Unnamed) -> io::Result<usize> {
    let mut named = BTreeSet::new();
    for resource in persistent.iter() {
        let Some((base, path)) = volume_directory(&work_dir.display().to_string(), resource) else { continue };
        let volume =
            Staged { name: String::new(), base: base.clone(), path: path.clone(), make: true, ..Staged::default() };
        named.insert(Path::new(&base).join(path));
        if disks::is_there(&base) {
            prepare(&volume)?;
        }
    }
    let mut gone = 0;
    for path in present(work_dir)? {
        if named.contains(&path) {
            continue;
        }
        set_aside(work_dir, &path, unnamed)?;
        gone += 1;
    }
    Ok(gone)
}

/// The volumes that are there: `volumes/roles/ROLE/ID`.
fn present(work_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for role in entries(&work_dir.join(VOLUMES).join("roles"))? {
        paths.extend(entries(&role)?);
    }
    Ok(paths)
}

fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read?.map(|entry| Ok(entry?.path())).collect(),
    }
}

fn set_aside(work_dir: &Path, path: &Path, unnamed: Unnamed) -> io::Result<()> {
    let unknown = work_dir.join(UNKNOWN);
    fs::create_dir_all(&unknown)?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let words: Vec<_> = path.iter().rev().take(2).collect();
    let name = words.iter().rev().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let place = match unnamed {
        Unnamed::Remove => unknown.join(format!("0 {now} {name}")),
        Unnamed::SetAside => unknown.join(format!("{now} {name}")),
    };
    match unnamed {
        Unnamed::Remove => tracing::info!(path = %path.display(), "a persistent volume was destroyed"),
        Unnamed::SetAside => tracing::warn!(
            path = %path.display(), now_at = %place.display(),
            "the master does not know a persistent volume: it is kept for a day"
        ),
    }
    fs::rename(path, place)
}

/// Removes what was set aside long enough ago.
pub(crate) fn collect(work_dir: &Path, now: SystemTime) -> io::Result<usize> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut removed = 0;
    for path in entries(&work_dir.join(UNKNOWN))? {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let since: u128 = name.split(' ').next().and_then(|since| since.parse().ok()).unwrap_or(0);
        if since + KEPT.as_millis() <= now {
            fs::remove_dir_all(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use api::v1::resources_from_wire;

    use super::*;

    fn volumes(ids: &[&str]) -> Resources {
        let one = |id: &&str| {
            serde_json::from_str(&format!(
                r#"{{"name":"disk","type":"SCALAR","scalar":{{"value":64}},"reservations":[{{"type":"DYNAMIC","role":"a/b"}}],
                    "disk":{{"persistence":{{"id":"{id}"}},"volume":{{"container_path":"data","mode":"RW"}}}}}}"#
            ))
            .unwrap()
        };
        resources_from_wire(&ids.iter().map(one).collect::<Vec<api::v1::Resource>>()).unwrap()
    }

    #[test]
    fn volumes_are_kept_until_they_are_destroyed() {
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path();
        assert_eq!(keep(work, &volumes(&["one", "two"]), Unnamed::SetAside).unwrap(), 0);
        let one = work.join("volumes/roles/a b/one");
        fs::write(one.join("file"), "kept").unwrap();
        assert_eq!(keep(work, &volumes(&["one"]), Unnamed::Remove).unwrap(), 1);
        assert!(one.join("file").is_file() && !work.join("volumes/roles/a b/two").exists());
        assert_eq!(collect(work, SystemTime::now()).unwrap(), 1);
        // A master that does not know it.
        assert_eq!(keep(work, &volumes(&[]), Unnamed::SetAside).unwrap(), 1);
        assert!(!one.exists());
        let set_aside = entries(&work.join(UNKNOWN)).unwrap();
        assert_eq!(fs::read_to_string(set_aside[0].join("file")).unwrap(), "kept");
        assert_eq!(collect(work, SystemTime::now()).unwrap(), 0);
        assert_eq!(collect(work, SystemTime::now() + KEPT + KEPT).unwrap(), 1);
        assert!(entries(&work.join(UNKNOWN)).unwrap().is_empty());
    }

    #[test]
    fn a_volume_is_made_below_its_base_and_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("outside")).unwrap();
        let base = dir.path().join("base");
        fs::create_dir(&base).unwrap();
        symlink("../outside", base.join("away")).unwrap();
        let volume = |path: &str| Staged {
            name: String::new(),
            base: base.display().to_string(),
            path: path.to_owned(),
            make: true,
            ..Staged::default()
        };
        prepare(&volume("a/b")).unwrap();
        prepare(&volume("a/b")).unwrap();
        assert!(base.join("a/b").is_dir());
        assert!(prepare(&volume("away/x")).is_err());
        assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 0);
    }
}
