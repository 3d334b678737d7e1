//! Removes sandboxes of ended tasks when their file system fills: on a node without disks it is memory.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agent_core::garbage::Policy;
use nix::sys::statvfs::statvfs;

/// How often the file system is looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(30);
/// File systems tell the time in steps.
const STEP: Duration = Duration::from_secs(1);

/// Removes sandboxes that are not in use and older than they may be, the oldest first; each that goes may leave room for the
/// next. Returns how many.
///
/// `in_use` was true at `asked`: what is younger may be the sandbox of a task that came meanwhile.
pub(crate) fn collect(work_dir: &Path, in_use: &BTreeSet<String>, policy: Policy, asked: SystemTime) -> usize {
    remove_graves(work_dir);
    for agent in children(&work_dir.join("slaves")) {
        for framework in children(&agent.join("frameworks")) {
            super::task_links::remove_dangling(&framework.join("executors"), in_use);
        }
    }
    let mut sandboxes = sandboxes(work_dir, in_use);
    sandboxes.retain(|(changed, _)| asked.duration_since(*changed).is_ok_and(|age| age > STEP));
    sandboxes.sort();
    let mut removed = 0;
    for (changed, path) in sandboxes {
        if !policy.goes(unix_ms(changed), unix_ms(SystemTime::now()), used(work_dir)) {
            break;
        }
        if let Err(error) = bury(&path, work_dir) {
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

/// Where sandboxes go to be taken apart; nobody looks for one there.
const GRAVES: &str = "removing";

/// Moves a sandbox away, so that it is there whole or not at all, and removes it.
fn bury(sandbox: &Path, work_dir: &Path) -> io::Result<()> {
    let graves = work_dir.join(GRAVES);
    fs::create_dir_all(&graves)?;
    fs::rename(sandbox, graves.join(uuid::Uuid::new_v4().to_string()))?;
    empty(&graves)
}

/// What an agent that was killed left half removed.
fn remove_graves(work_dir: &Path) {
    let graves = work_dir.join(GRAVES);
    if graves.exists()
        && let Err(error) = empty(&graves)
    {
        tracing::warn!(path = %graves.display(), %error, "a sandbox cannot be removed");
    }
}

/// Removes everything in a directory, which stays. A task may have nested directories deeper than our stack and our
/// descriptors reach, so each directory is lifted to the top before it is looked into.
fn empty(directory: &Path) -> io::Result<()> {
    let mut waiting = children(directory);
    while let Some(here) = waiting.pop() {
        for entry in fs::read_dir(&here)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let lifted = directory.join(uuid::Uuid::new_v4().to_string());
                fs::rename(entry.path(), &lifted)?;
                waiting.push(lifted);
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(here)?;
    }
    Ok(())
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

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How much of a file system is in use, in thousandths.
fn used(path: &Path) -> u64 {
    let free = |stat: nix::sys::statvfs::Statvfs| stat.blocks_available() * 1000 / stat.blocks().max(1);
    statvfs(path).map_or(0, |stat| 1000 - free(stat).min(1000))
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
        bury(&run("t1", "c1"), dir.path()).unwrap();
        remove_empty_parents(&run("t1", "c1"), dir.path());
        assert!(!dir.path().join("slaves/a/frameworks/f/executors/t1").exists());
        assert!(run("t2", "c2").exists());
    }
    #[test]
    fn a_sandbox_deeper_than_any_stack_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = dir.path().join("sandbox");
        fs::create_dir(&sandbox).unwrap();
        fs::write(sandbox.join("file"), "").unwrap();
        // From the inside out, for no path may be so long.
        for _ in 0..3_000 {
            let outer = dir.path().join("outer");
            fs::create_dir(&outer).unwrap();
            fs::rename(&sandbox, outer.join("d")).unwrap();
            fs::rename(&outer, &sandbox).unwrap();
        }
        std::os::unix::fs::symlink("/", sandbox.join("away")).unwrap();
        bury(&sandbox, dir.path()).unwrap();
        assert!(!sandbox.exists());
        assert_eq!(fs::read_dir(dir.path().join(GRAVES)).unwrap().count(), 0);
        assert!(Path::new("/proc/self").exists(), "links are not followed");
    }

    #[test]
    fn a_sandbox_younger_than_the_question_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slaves/a/frameworks/f/executors/t/runs/c");
        fs::create_dir_all(&path).unwrap();
        let file = fs::File::create(path.join("stdout")).unwrap();
        let asked = SystemTime::now();
        let in_use = BTreeSet::new();
        let week = Duration::from_millis(Policy::default().delay_ms);
        file.set_modified(asked - week - STEP * 60).unwrap();
        assert_eq!(collect(dir.path(), &in_use, Policy::default(), asked - week - STEP * 60), 0);
        let long = Policy { delay_ms: u64::MAX / 2000, headroom: 0 };
        assert_eq!(collect(dir.path(), &in_use, long, asked), 0, "the operator keeps it longer");
        assert_eq!(collect(dir.path(), &in_use, Policy::default(), asked), 1);
        assert!(!path.exists());
    }
}
