//! Keeps what tasks write to stdout and stderr from growing without end.
//!
//! A task writes into its file itself, so nothing stands between that could fail, be slow, or end with the agent. What is too
//! much is taken away at the file's beginning: a hole is made there (fallocate(2)), the file keeps its length, and every
//! offset still means the same, to those who follow it and to Mesos's pagers. Readers go past the hole.
//!
//! While no agent runs nothing is taken away. On a node without disks what a task writes counts against its own memory then,
//! as it always does.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::v1::CommandInfo;
use nix::fcntl::{FallocateFlags, OFlag, fallocate};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Whence, lseek64};

/// What one file keeps (Mesos's logrotate module: 10 MB).
const FILE_BYTES: u64 = 10 << 20;
/// What is left of one that was too long, in percent: holes are not made for every line.
const LEFT_PERCENT: u64 = 50;
/// What all files together may have of their file system, in percent.
const NODE_PERCENT: u64 = 20;
/// No file is left with less.
const LEAST_BYTES: u64 = 64 << 10;
/// Holes begin and end at these.
const BLOCK: u64 = 4096;
/// How often files are looked at, and how often while one grows quickly.
pub(crate) const EVERY: Duration = Duration::from_secs(1);
const SOON: Duration = Duration::from_millis(100);
/// Quickly is so much between two looks.
const QUICK_BYTES: u64 = 1 << 20;

/// What the operator gives one file, as the driver said when it was last asked: what the agent itself writes for the
/// programs beside tasks keeps to it without asking.
static MOST: AtomicU64 = AtomicU64::new(FILE_BYTES);

/// A task's output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Written {
    pub(crate) sandbox: PathBuf,
    /// What stdout and stderr keep, in bytes.
    pub(crate) keep: [u64; 2],
}

/// What a task asks for itself, as with Mesos's logrotate module: `CONTAINER_LOGGER_MAX_STDOUT_SIZE=1MB` in its environment.
/// Never more than the operator gives.
pub(crate) fn kept(command: Option<&CommandInfo>, limit_mib: Option<u64>) -> [u64; 2] {
    let most = limit_mib.map_or(FILE_BYTES, |limit| limit << 20);
    MOST.store(most, Ordering::Relaxed);
    let variables = || command.iter().filter_map(|command| command.environment.as_ref()).flat_map(|all| &all.variables);
    ["CONTAINER_LOGGER_MAX_STDOUT_SIZE", "CONTAINER_LOGGER_MAX_STDERR_SIZE"].map(|name| {
        let asked =
            variables().find(|variable| variable.name == name).and_then(|variable| bytes(variable.value.as_ref()?));
        asked.map_or(most, |asked| asked.clamp(LEAST_BYTES, most))
    })
}

/// `10MB`, as Mesos reads it.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit {
        "B" => 0,
        "KB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// Looks at these files once. Gives when to look again.
pub(crate) fn look(work_dir: &Path, written: &[Written]) -> Duration {
    let files = written.iter().flat_map(|one| {
        let [stdout, stderr] = one.keep;
        [("stdout", stdout), ("stderr", stderr)].map(|(name, keep)| (one.sandbox.join(name), keep))
    });
    // Only what is too long is opened: there may be more files than this process may have open.
    let all: Vec<(PathBuf, u64, u64)> = files
        .filter_map(|(path, keep)| {
            let about = std::fs::symlink_metadata(&path).ok().filter(is_own)?;
            Some((path, about.blocks() * 512, keep))
        })
        .collect();
    let total: u64 = all.iter().map(|(_, held, _)| *held).sum();
    let room = statvfs(work_dir).map_or(u64::MAX, |stat| stat.blocks() * stat.fragment_size() / 100 * NODE_PERCENT);
    let share = share(total, room, all.len() as u64);
    let mut next = EVERY;
    for (path, held, keep) in &all {
        let cap = share.min(*keep);
        if *held <= cap {
            continue;
        }
        // Another file may be there by now.
        let Some(file) = open(path) else { continue };
        match shorten(&file, cap / 100 * LEFT_PERCENT) {
            Ok(()) => tracing::info!(path = %path.display(), held, cap, "the beginning of a task's output was dropped"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a task's output cannot be shortened"),
        }
        if *held > cap + QUICK_BYTES {
            next = SOON;
        }
    }
    next
}

/// What each file may have, whatever it is given: less when there are so many that the node has no room.
fn share(total: u64, room: u64, files: u64) -> u64 {
    if total <= room { u64::MAX } else { (room / files.max(1)).max(LEAST_BYTES) }
}

/// Only what is surely a task's own: a link could lead to anything, and so could a second name.
fn open(path: &Path) -> Option<File> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits();
    let file = File::options().read(true).write(true).custom_flags(flags).open(path).ok()?;
    file.metadata().ok().filter(is_own).map(|_| file)
}

fn is_own(about: &Metadata) -> bool {
    about.is_file() && about.nlink() == 1
}

/// What the operator gives a file of one that cannot ask for less.
pub(crate) fn most() -> u64 {
    MOST.load(Ordering::Relaxed)
}

/// Shortens a file of the agent's own writing if it holds more than `most`.
pub(crate) fn keep(file: &File, most: u64) -> io::Result<()> {
    if file.metadata()?.blocks() * 512 > most { shorten(file, most / 100 * LEFT_PERCENT) } else { Ok(()) }
}

/// Takes everything away but the last bytes.
fn shorten(file: &File, left: u64) -> io::Result<()> {
    let length = file.metadata()?.len();
    let hole = length.saturating_sub(left) / BLOCK * BLOCK;
    if hole == 0 {
        return Ok(());
    }
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    Ok(fallocate(file, flags, 0, hole.cast_signed())?)
}

/// Where there is something to read at or after this offset; the end if there is nothing.
pub(crate) fn past_hole(file: &File, offset: u64) -> u64 {
    let length = file.metadata().map_or(0, |about| about.len());
    if offset >= length {
        return offset;
    }
    // File systems that know no holes answer with the offset itself.
    lseek64(file, offset.cast_signed(), Whence::SeekData).map_or(offset, |found| found.cast_unsigned().max(offset))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Seek, SeekFrom, Write};
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_is_too_much_goes_from_the_beginning_and_offsets_stay() {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = dir.path().to_owned();
        let path = sandbox.join("stdout");
        let mut file = File::options().append(true).create(true).open(&path).unwrap();
        for number in 0..200_000u64 {
            writeln!(file, "{number:>99}").unwrap();
        }
        assert_eq!(file.metadata().unwrap().len(), 20_000_000);
        look(dir.path(), &[Written { sandbox: sandbox.clone(), keep: [FILE_BYTES; 2] }]);
        let reader = File::open(&path).unwrap();
        let about = reader.metadata().unwrap();
        assert_eq!(about.len(), 20_000_000, "offsets stay");
        assert!(about.blocks() * 512 <= FILE_BYTES, "{} blocks", about.blocks());
        let begins = past_hole(&reader, 0);
        assert!((20_000_000 - FILE_BYTES..20_000_000).contains(&begins), "{begins}");
        // The task goes on, and the end is as it was.
        writeln!(file, "{:>99}", "more").unwrap();
        let mut line = [0; 100];
        reader.read_exact_at(&mut line, 19_999_900).unwrap();
        assert!(line.ends_with(b"199999\n"));
        assert_eq!(past_hole(&reader, 19_999_900), 19_999_900);
        assert_eq!(past_hole(&reader, 30_000_000), 30_000_000);
        (&reader).seek(SeekFrom::Start(0)).unwrap();
    }

    #[test]
    fn nothing_but_the_tasks_own_file_is_touched() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, vec![1; 12 << 20]).unwrap();
        let sandbox = dir.path().join("sandbox");
        std::fs::create_dir(&sandbox).unwrap();
        std::os::unix::fs::symlink(&victim, sandbox.join("stdout")).unwrap();
        std::fs::hard_link(&victim, sandbox.join("stderr")).unwrap();
        look(dir.path(), &[Written { sandbox: sandbox.clone(), keep: [FILE_BYTES; 2] }]);
        assert!(std::fs::read(&victim).unwrap().iter().all(|byte| *byte == 1));
    }

    #[test]
    fn many_files_share_what_the_node_has() {
        assert_eq!(share(5 << 20, 100 << 20, 4), u64::MAX);
        assert_eq!(share(200 << 20, 100 << 20, 100), 1 << 20);
        assert_eq!(share(200 << 20, 1 << 20, 1000), LEAST_BYTES);
    }

    #[test]
    fn a_task_may_ask_for_less_and_the_operator_gives_the_most() {
        let command = |size: &str| -> CommandInfo {
            let text = format!(
                r#"{{"environment":{{"variables":[{{"name":"CONTAINER_LOGGER_MAX_STDOUT_SIZE","value":"{size}"}}]}}}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        assert_eq!(kept(None, None), [FILE_BYTES; 2]);
        assert_eq!(kept(Some(&command("1MB")), None), [1 << 20, FILE_BYTES]);
        assert_eq!(kept(Some(&command("1GB")), Some(64)), [64 << 20, 64 << 20], "not more than the operator gives");
        assert_eq!(kept(Some(&command("1B")), None)[0], LEAST_BYTES);
        for bad in ["", "MB", "1", "1 MB", "-1MB", "99999999999999999999GB"] {
            assert_eq!(kept(Some(&command(bad)), None)[0], FILE_BYTES, "{bad}");
        }
    }
}
