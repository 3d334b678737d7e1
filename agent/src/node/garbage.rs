//! Removes sandboxes of ended tasks when their file system fills: on a node without disks it is memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use nix::sys::statvfs::statvfs;

/// How often the file system is looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(30);
/// Below this part of free space the oldest sandboxes go.
const FREE_PERCENT: u64 = 25;
/// Nobody has asked for it for so long (Mesos's gc_delay).
const OLDEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// Removes the oldest sandboxes that are not in use until there is room. Returns how many.
pub(crate) fn collect(work_dir: &Path, in_use: &BTreeSet<String>) -> usize {
    let mut sandboxes = sandboxes(work_dir, in_use);
    sandboxes.sort();
    let mut removed = 0;
    for (changed, path) in sandboxes {
        let old = SystemTime::now().duration_since(changed).is_ok_and(|age| age > OLDEST);
        if !old && free_percent(work_dir) >= FREE_PERCENT {
            break;
        }
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "a sandbox cannot be removed");
            continue;
        }
        removed += 1;
        remove_empty_parents(&path, work_dir);
    }
    removed
}

/// `slaves/A/frameworks/F/executors/E/runs/C`, with the time of the last change.
fn sandboxes(work_dir: &Path, in_use: &BTreeSet<String>) -> Vec<(SystemTime, PathBuf)> {
    let mut level = vec![work_dir.join("slaves")];
    for below in ["", "frameworks", "", "executors", "", "runs", ""] {
        level = level
            .iter()
            .flat_map(|path| if below.is_empty() { children(path) } else { vec![path.join(below)] })
            .collect();
    }
    level
        .into_iter()
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !in_use.contains(name)))
        .filter_map(|path| {
            Some((fs::metadata(path.join("stdout")).or_else(|_| fs::metadata(&path)).ok()?.modified().ok()?, path))
        })
        .collect()
}

/// Directories only: `latest` is a link.
fn children(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove_empty_parents(sandbox: &Path, work_dir: &Path) {
    let Some(runs) = sandbox.parent() else { return };
    if children(runs).is_empty() {
        // A link to nothing.
        let _ = fs::remove_file(runs.join("latest"));
    }
    for parent in sandbox.ancestors().skip(1).take_while(|parent| *parent != work_dir) {
        if fs::remove_dir(parent).is_err() {
            return;
        }
    }
}

fn free_percent(path: &Path) -> u64 {
    statvfs(path).map_or(100, |stat| stat.blocks_available() * 100 / stat.blocks().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sandboxes_nobody_uses_are_found_and_their_empty_parents_go() {
        let dir = tempfile::tempdir().unwrap();
        let run = |task: &str, run: &str| dir.path().join(format!("slaves/a/frameworks/f/executors/{task}/runs/{run}"));
        for path in [run("t1", "c1"), run("t2", "c2")] {
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("stdout"), "").unwrap();
        }
        std::os::unix::fs::symlink("c1", run("t1", "latest")).unwrap();
        let in_use = BTreeSet::from(["c2".to_owned()]);
        let found = sandboxes(dir.path(), &in_use);
        assert_eq!(found.iter().map(|(_, path)| path.clone()).collect::<Vec<_>>(), [run("t1", "c1")]);
        fs::remove_dir_all(run("t1", "c1")).unwrap();
        remove_empty_parents(&run("t1", "c1"), dir.path());
        assert!(!dir.path().join("slaves/a/frameworks/f/executors/t1").exists());
        assert!(run("t2", "c2").exists());
    }
}
