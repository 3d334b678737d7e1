//! Volumes on disks of their own: what nobody has there any more is set aside and removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agent_core::disks::gpt::Guid;
use api::Resources;
use api::disks::Purpose;

use super::Board;
use super::board::root_of;
use super::mounting::{DATA, DISKS, data, is_mounted};
use crate::node::volumes::{self, Unnamed};

/// What begins with this was destroyed, and goes.
const GONE: &str = "gone-";
/// What begins with this the master did not know.
const UNKNOWN: &str = "unknown-";
/// How long that is kept: a master that was restored from an older copy of its log must not cost anybody their data at once.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// A disk that a key or a slow controller keeps waiting.
const OPENED: Duration = Duration::from_secs(20);

/// Is the disk there that this path is on? What is on none of ours is there. A volume that was made where its disk is not
/// would be in memory, and lost.
pub(crate) fn is_there(path: &str) -> bool {
    let Some(rest) = Path::new(path).strip_prefix(DISKS).ok() else { return true };
    rest.components().next().is_some_and(|guid| is_mounted(&Path::new(DISKS).join(guid)))
}

/// The same, after a while if need be. Blocks.
pub(crate) fn awaited(path: &str) -> bool {
    let until = std::time::Instant::now() + OPENED;
    while !is_there(path) {
        if std::time::Instant::now() >= until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    true
}

/// Are there volumes below it, or any that were set aside? What cannot be read has some.
pub(super) fn has_volumes(root: &Path) -> bool {
    let entries = |path: &Path| match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<PathBuf>>>(),
    };
    let volumes = root.join("volumes");
    let any = || -> io::Result<bool> {
        for role in entries(&volumes.join("roles"))? {
            if !entries(&role)?.is_empty() {
                return Ok(true);
            }
        }
        Ok(!entries(&volumes.join("unknown"))?.is_empty())
    };
    any().unwrap_or(true)
}

/// Brings what is on disks in line with what the master named last.
pub(super) fn settle(board: &Board) {
    let report = |path: &Path, result: io::Result<usize>| {
        if let Err(error) = result {
            tracing::warn!(path = %path.display(), %error, "volumes on a disk cannot be brought up to date");
        }
    };
    let all: Vec<(Guid, Purpose)> =
        board.lock().parts.values().map(|used| (used.part.guid, used.part.purpose)).collect();
    for (guid, purpose) in all {
        let root = data(guid);
        let now = SystemTime::now();
        match set_aside(board, guid, &root, now) {
            Ok(Settled::Yes) => {}
            Ok(Settled::No) => continue,
            Err(error) => report(&root, Err(error)),
        }
        // May take minutes: not under the lock.
        match purpose {
            Purpose::Mount => report(&root, collect(&root, now)),
            Purpose::Path => report(&root, volumes::collect(&root, now)),
            Purpose::State => {}
        }
    }
}

/// Is there something to be collected?
enum Settled {
    Yes,
    No,
}

/// Decides and renames under the lock: a volume the master names meanwhile is in the list, or comes to a new directory.
fn set_aside(board: &Board, guid: Guid, root: &Path, now: SystemTime) -> io::Result<Settled> {
    let mut known = board.lock();
    let Some(persistent) = known.persistent.clone() else { return Ok(Settled::No) };
    let roots: Vec<PathBuf> = persistent.iter().filter_map(|one| root_of(one).map(PathBuf::from)).collect();
    known.named.extend(roots);
    // What is on the work directory's disk is the work directory's.
    if known.pool().is_some_and(|pool| pool.part.guid == guid) {
        return Ok(Settled::No);
    }
    let named = known.named.contains(root);
    let Some(used) = known.parts.get(&guid).filter(|used| used.is_open()) else { return Ok(Settled::No) };
    match used.part.purpose {
        Purpose::Mount => empty(root, &persistent, if named { GONE } else { UNKNOWN }, now)?,
        // Another pool, of an earlier boot: nobody knows what of it is wanted.
        Purpose::Path if used.is_marked() => return Ok(Settled::No),
        Purpose::Path => {
            let unnamed = if named { Unnamed::Remove } else { Unnamed::SetAside };
            let own = persistent.filter(|resource| root_of(resource).is_some_and(|found| Path::new(found) == root));
            volumes::keep(root, &own, unnamed)?;
        }
        Purpose::State => return Ok(Settled::No),
    }
    Ok(Settled::Yes)
}

/// A whole disk that nobody has a volume on is empty.
fn empty(root: &Path, persistent: &Resources, prefix: &str, now: SystemTime) -> io::Result<()> {
    let named = persistent.iter().any(|resource| root_of(resource).is_some_and(|found| Path::new(found) == root));
    if named || fs::read_dir(root)?.next().is_none() {
        return Ok(());
    }
    let millis = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let aside = root.with_file_name(format!("{prefix}{millis}"));
    tracing::warn!(path = %root.display(), now_at = %aside.display(), "nobody has a volume on this disk: what is on it is set aside");
    fs::rename(root, aside)?;
    fs::create_dir(root)
}

/// Removes what was set aside long enough ago.
fn collect(root: &Path, now: SystemTime) -> io::Result<usize> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    let mut removed = 0;
    let Some(above) = root.parent() else { return Ok(0) };
    for entry in fs::read_dir(above)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let due = match (name.strip_prefix(GONE), name.strip_prefix(UNKNOWN)) {
            (Some(_), _) => true,
            (None, Some(since)) => since.parse::<u128>().unwrap_or(0) + KEPT.as_millis() <= now,
            (None, None) => false,
        };
        if due && name != DATA {
            fs::remove_dir_all(&path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::v1::resources_from_wire;

    fn volume(root: &Path) -> Resources {
        let text = format!(
            r#"{{"name":"disk","type":"SCALAR","scalar":{{"value":64}},"reservations":[{{"type":"DYNAMIC","role":"a"}}],
                "disk":{{"source":{{"type":"MOUNT","mount":{{"root":"{}"}}}},"persistence":{{"id":"v"}},
                "volume":{{"container_path":"data","mode":"RW"}}}}}}"#,
            root.display()
        );
        resources_from_wire(&[serde_json::from_str(&text).unwrap()]).unwrap()
    }

    #[test]
    fn a_disk_keeps_what_its_volume_holds_and_is_empty_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join(DATA);
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "kept").unwrap();
        let now = SystemTime::now();
        empty(&root, &volume(&root), GONE, now).unwrap();
        assert!(root.join("file").exists());
        // Of another disk.
        empty(&root, &volume(Path::new("/elsewhere")), UNKNOWN, now).unwrap();
        assert!(root.exists() && !root.join("file").exists());
        assert_eq!(collect(&root, now).unwrap(), 0, "for a day");
        assert_eq!(collect(&root, now + KEPT + KEPT).unwrap(), 1);
        fs::write(root.join("file"), "destroyed").unwrap();
        empty(&root, &Resources::new(), GONE, now).unwrap();
        assert_eq!(collect(&root, now).unwrap(), 1);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn volumes_are_seen_until_the_last_one_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_volumes(dir.path()));
        let role = dir.path().join("volumes/roles/a");
        fs::create_dir_all(role.join("one")).unwrap();
        assert!(has_volumes(dir.path()));
        let unknown = dir.path().join("volumes/unknown");
        fs::create_dir(&unknown).unwrap();
        fs::rename(role.join("one"), unknown.join("0 1 a one")).unwrap();
        assert!(has_volumes(dir.path()), "it is kept for a while");
        fs::remove_dir(unknown.join("0 1 a one")).unwrap();
        assert!(!has_volumes(dir.path()));
    }

    #[test]
    fn a_path_on_no_disk_of_ours_is_there() {
        assert!(is_there("/var/lib/mesolith/volumes"));
        assert!(!is_there("/var/disks/00000000-0000-0000-0000-000000000000/data"));
        assert!(!is_there("/var/disks"));
    }
}
