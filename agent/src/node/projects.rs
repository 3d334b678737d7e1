//! Sandboxes and persistent volumes as projects, where the work directory's file system keeps projects to their limits:
//! what is written beyond fails, and what is used is known without looking at files.
//!
//! Which project a directory is, the file system itself remembers, so nothing is written down but the last number given;
//! and which numbers are taken is asked of it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use agent_core::cmdline::Quota;
use agent_sys::quota;

use super::private_file;

/// Below the work directory: the last number given. Numbers are not used twice, for the files of an ended task are there for
/// a while.
const LAST: &str = "last-project";
/// Where the numbers begin; those people give by hand are small.
const FIRST: u32 = 1 << 20;
/// How many numbers that are taken are passed over at once; a look at one takes microseconds.
const MOST_TAKEN: u32 = 1 << 16;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Projects(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    last: PathBuf,
    number: Mutex<u32>,
    quota: Quota,
}

/// A directory could not be bounded.
#[derive(Debug, thiserror::Error)]
#[error("cannot bound what {} takes", path.display())]
pub(crate) struct ProjectError {
    path: PathBuf,
    source: io::Error,
}

impl Projects {
    /// None where the file system of the work directory does not have them.
    pub(crate) fn open(work_dir: &Path, quota: Quota) -> io::Result<Option<Self>> {
        fs::create_dir_all(work_dir)?;
        if !quota::is_enforced(File::open(work_dir)?) {
            return Ok(None);
        }
        let last = work_dir.join(LAST);
        let known = private_file::read(&last)?;
        let known = known.and_then(|text| String::from_utf8(text).ok()?.trim().parse().ok());
        tracing::info!("the work directory's file system bounds what tasks write");
        Ok(Some(Self(Arc::new(Inner { last, number: Mutex::new(known.unwrap_or(FIRST)), quota }))))
    }

    /// Makes an empty directory a project, if it is none yet, and sets what may be written to it.
    pub(crate) fn bound(&self, path: &Path, bytes: Option<u64>) -> Result<(), ProjectError> {
        let failed = |source| ProjectError { path: path.to_owned(), source };
        let directory = open(path).map_err(failed)?;
        let project = match own(path, &directory).map_err(failed)? {
            Some(project) => project,
            None => {
                let project = self.next(&directory).map_err(failed)?;
                quota::set_project(&directory, project).map_err(failed)?;
                project
            }
        };
        let bytes = match self.0.quota {
            Quota::Enforce => bytes,
            Quota::Watch => None,
        };
        quota::limit(&directory, project, bytes).map_err(failed)
    }

    /// The same of a volume, which may have been there before: one with files stays what it is.
    pub(crate) fn bound_volume(&self, path: &Path, bytes: Option<u64>) -> Result<(), ProjectError> {
        let failed = |source| ProjectError { path: path.to_owned(), source };
        let directory = open(path).map_err(failed)?;
        // On a disk of its own it may have a file system without them.
        let known = quota::is_enforced(&directory) && own(path, &directory).map_err(failed)?.is_some();
        let empty = fs::read_dir(path).map_err(failed)?.next().is_none();
        if known || (empty && quota::is_enforced(&directory)) { self.bound(path, bytes) } else { Ok(()) }
    }

    /// A number that the directory's file system does not know: a disk may be older than the work directory, where the
    /// last number is.
    fn next(&self, directory: &File) -> io::Result<u32> {
        let mut number = self.0.number.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..MOST_TAKEN {
            // Also if this fails: the next try goes on from here.
            *number = number.checked_add(1).unwrap_or(FIRST);
            let usage = quota::usage(directory, *number)?;
            if usage.used == 0 && usage.limit.is_none() {
                private_file::write(&self.0.last, number.to_string().as_bytes())?;
                return Ok(*number);
            }
        }
        Err(io::Error::other(format!("its file system knows the last {MOST_TAKEN} numbers that were tried for it")))
    }
}

/// What a directory that is a project takes; none if it is none.
pub(crate) fn used(path: &Path) -> Option<u64> {
    let directory = open(path).ok()?;
    let project = own(path, &directory).ok()??;
    quota::usage(&directory, project).ok().map(|usage| usage.used)
}

/// Lifts the limit of what nobody writes to any more: the file system forgets the project with its last file.
pub(crate) fn release(path: &Path) {
    let Ok(directory) = open(path) else { return };
    if let Ok(Some(project)) = own(path, &directory)
        && let Err(error) = quota::limit(&directory, project, None)
    {
        tracing::debug!(path = %path.display(), %error, "a project keeps its limit");
    }
}

/// The project a directory is, and not only a part of.
fn own(path: &Path, directory: &File) -> io::Result<Option<u32>> {
    let project = match quota::project(directory) {
        Ok(project) => project,
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTTY | libc::EOPNOTSUPP)) => return Ok(None),
        Err(error) => return Err(error),
    };
    let above = path.parent().and_then(|parent| quota::project(open(parent).ok()?).ok()).unwrap_or(0);
    Ok((project >= FIRST && project != above).then_some(project))
}

fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
    File::options().read(true).custom_flags(flags).open(path)
}
