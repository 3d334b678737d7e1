//! Removes sandboxes of ended tasks when their file system fills: on a node without disks it is memory.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use agent_core::garbage::Policy;
use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::stat::{UtimensatFlags, utimensat};
use nix::sys::statvfs::statvfs;
use nix::sys::time::TimeSpec;

/// How often the file system is looked at.
pub(crate) const EVERY: Duration = Duration::from_secs(30);
/// File systems tell the time in steps.
const STEP: Duration = Duration::from_secs(1);

/// When a sandbox last changed, as far as we know.
type Changed<'a> = &'a dyn Fn(&Path) -> Option<SystemTime>;

/// A run has ended: its sandbox is as old as that, however long ago it was last written to.
pub(crate) fn begin_to_age(sandbox: &Path) {
    let (now, flags) = (TimeSpec::UTIME_NOW, UtimensatFlags::NoFollowSymlink);
    match utimensat(AT_FDCWD, sandbox, &now, &now, flags) {
        // It never came to have one.
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(error) => tracing::warn!(path = %sandbox.display(), %error, "a sandbox may be removed too early"),
    }
}

/// Removes sandboxes that are not in use and older than they may be, the oldest first; each that goes may leave room for the
/// next. Returns how many.
///
/// `in_use` was true at `asked`: what is younger may be the sandbox of a task that came meanwhile.
pub(crate) fn collect(work_dir: &Path, in_use: &BTreeSet<String>, policy: Policy, asked: SystemTime) -> usize {
    collect_by(work_dir, in_use, policy, asked, &changed)
}

fn collect_by(
    work_dir: &Path,
    in_use: &BTreeSet<String>,
    policy: Policy,
    asked: SystemTime,
    changed: Changed<'_>,
) -> usize {
    remove_graves(work_dir);
    for agent in children(&work_dir.join("slaves")) {
        for framework in children(&agent.join("frameworks")) {
            super::task_links::remove_dangling(&framework.join("executors"), in_use);
        }
    }
    let mut sandboxes = sandboxes(work_dir, in_use, changed);
    let now = SystemTime::now();
    for (since, path) in &mut sandboxes {
        // The clock was set back: nothing is to wait until it is there again.
        if *since > now + STEP {
            begin_to_age(path);
            *since = now;
        }
    }
    sandboxes.retain(|(since, _)| asked.duration_since(*since).is_ok_and(|age| age > STEP));
    sandboxes.sort();
    let mut removed = 0;
    for (since, path) in sandboxes {
        if !policy.goes(unix_ms(since), unix_ms(SystemTime::now()), used(work_dir)) {
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
fn sandboxes(work_dir: &Path, in_use: &BTreeSet<String>, changed: Changed<'_>) -> Vec<(SystemTime, PathBuf)> {
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
        .filter_map(|path| Some((changed(&path)?, path)))
        .collect()
}

/// The kernel's own time of the directory's last change. A task may give its files and the directory any other, and put
/// links there; this it can only bring to now.
fn changed(sandbox: &Path) -> Option<SystemTime> {
    let about = fs::symlink_metadata(sandbox).ok()?;
    let whole = Duration::from_secs(u64::try_from(about.ctime()).unwrap_or_default());
    let rest = Duration::from_nanos(u64::try_from(about.ctime_nsec()).unwrap_or_default());
    SystemTime::UNIX_EPOCH.checked_add(whole + rest)
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
        let found = sandboxes(dir.path(), &in_use, &changed);
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
        let asked = SystemTime::now();
        let in_use = BTreeSet::new();
        let week = Duration::from_millis(Policy::default().delay_ms);
        let ended = asked - week - STEP * 60;
        let changed = |_: &Path| Some(ended);
        assert_eq!(collect_by(dir.path(), &in_use, Policy::default(), ended, &changed), 0);
        let long = Policy { delay_ms: u64::MAX / 2000, headroom: 0 };
        assert_eq!(collect_by(dir.path(), &in_use, long, asked, &changed), 0, "the operator keeps it longer");
        assert_eq!(collect_by(dir.path(), &in_use, Policy::default(), asked, &changed), 1);
        assert!(!path.exists());
    }

    /// File systems take their time from the kernel's last tick.
    const TICKS: Duration = Duration::from_millis(100);

    #[test]
    fn a_silent_run_s_sandbox_ages_from_the_end_of_the_run() {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = dir.path().join("sandbox");
        fs::create_dir(&sandbox).unwrap();
        let made = changed(&sandbox).unwrap();
        std::thread::sleep(TICKS);
        begin_to_age(&sandbox);
        assert!(changed(&sandbox).unwrap() > made);
        begin_to_age(&dir.path().join("never made"));
        assert!(!dir.path().join("never made").exists());
    }

    #[test]
    fn a_task_cannot_make_its_sandbox_younger_than_now() {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = dir.path().join("sandbox");
        fs::create_dir(&sandbox).unwrap();
        let file = fs::File::create(sandbox.join("stdout")).unwrap();
        let far = SystemTime::now() + Duration::from_secs(10 * 365 * 24 * 3600);
        file.set_modified(far).unwrap();
        fs::File::open(&sandbox).unwrap().set_modified(far).unwrap();
        assert!(changed(&sandbox).unwrap() <= SystemTime::now());
        fs::remove_file(sandbox.join("stdout")).unwrap();
        std::os::unix::fs::symlink("/proc/uptime", sandbox.join("stdout")).unwrap();
        let now = changed(&sandbox).unwrap();
        std::thread::sleep(TICKS);
        assert_eq!(changed(&sandbox).unwrap(), now);
    }

    #[test]
    fn what_ended_before_the_clock_was_set_back_ages_from_now() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("slaves/a/frameworks/f/executors/t/runs/c");
        fs::create_dir_all(&path).unwrap();
        let made = changed(&path).unwrap();
        std::thread::sleep(TICKS);
        let ahead = SystemTime::now() + Duration::from_secs(3600);
        let policy = Policy { delay_ms: 0, headroom: 0 };
        assert_eq!(collect_by(dir.path(), &BTreeSet::new(), policy, SystemTime::now(), &|_: &Path| Some(ahead)), 0);
        let since = changed(&path).unwrap();
        assert!(since > made && since < ahead);
    }
}
