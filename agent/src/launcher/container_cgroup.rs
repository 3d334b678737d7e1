//! A container's cgroup: killed as a whole, asked whether a process is in it, removed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const HIERARCHY: &str = "/sys/fs/cgroup";
/// How long killed processes may take to be gone: one in the middle of a disk write takes its time.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// Why a container's processes or its cgroup are still there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContainerCgroupError {
    #[error("cannot make cgroup {path}")]
    Make { path: String, source: io::Error },
    #[error("cannot kill the processes in cgroup {path}")]
    Kill { path: String, source: io::Error },
    #[error("processes in cgroup {path} still live {} s after they were killed", KILL_DEADLINE.as_secs())]
    StillPopulated { path: String },
    #[error("cannot remove cgroup {path}")]
    Remove { path: String, source: io::Error },
}

/// One container's cgroup.
#[derive(Debug)]
pub(super) struct ContainerCgroup {
    /// As the container's specification and `/proc/PID/cgroup` name it.
    path: String,
    dir: PathBuf,
}

impl ContainerCgroup {
    pub(super) fn new(task_cgroup: &str, container: &str) -> ContainerCgroup {
        let path = format!("{}/{container}", task_cgroup.trim_end_matches('/'));
        let dir = Path::new(HIERARCHY).join(path.trim_start_matches('/'));
        ContainerCgroup { path, dir }
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn exists(&self) -> bool {
        self.dir.exists()
    }

    /// Makes it. The one above has its controllers already.
    pub(super) fn make(&self) -> Result<(), ContainerCgroupError> {
        fs::create_dir(&self.dir).map_err(|source| ContainerCgroupError::Make { path: self.path.clone(), source })
    }

    /// Whether a living process is in it: tells a container's first process from a stranger of the same number.
    pub(super) fn contains(&self, pid: i32) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else {
            return false;
        };
        let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else {
            return false;
        };
        path == self.path || path.strip_prefix(&self.path).is_some_and(|rest| rest.starts_with('/'))
    }

    /// SIGKILL for everything in it, also what is just being forked. One that is gone has nothing in it.
    pub(super) fn kill(&self) -> Result<(), ContainerCgroupError> {
        let kill = fs::File::options().write(true).open(self.dir.join("cgroup.kill"));
        match kill.and_then(|mut file| io::Write::write_all(&mut file, b"1")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && error.raw_os_error() != Some(libc::ENODEV) => {
                Err(ContainerCgroupError::Kill { path: self.path.clone(), source: error })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Kills what is left and waits until it is gone.
    pub(super) fn empty(&self) -> Result<(), ContainerCgroupError> {
        let deadline = Instant::now() + KILL_DEADLINE;
        let mut pause = Duration::from_millis(1);
        while self.is_populated() {
            self.kill()?;
            if Instant::now() >= deadline {
                return Err(ContainerCgroupError::StillPopulated { path: self.path.clone() });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Removes it with what is below it. It must be empty.
    pub(super) fn remove(&self) -> Result<(), ContainerCgroupError> {
        remove_tree(&self.dir).map_err(|source| ContainerCgroupError::Remove { path: self.path.clone(), source })
    }

    fn is_populated(&self) -> bool {
        fs::read_to_string(self.dir.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }
}

/// Only directories are removed: the files of cgroupfs go with them.
fn remove_tree(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_named_below_the_cgroup_of_tasks() {
        assert_eq!(ContainerCgroup::new("/tasks", "a").path(), "/tasks/a");
        assert_eq!(ContainerCgroup::new("/m.scope/tasks/", "a").dir, Path::new("/sys/fs/cgroup/m.scope/tasks/a"));
    }

    #[test]
    fn one_that_is_gone_is_empty_and_removed() {
        let gone = ContainerCgroup::new("/no-such-cgroup", "x");
        gone.kill().unwrap();
        gone.empty().unwrap();
        gone.remove().unwrap();
        assert!(!gone.exists() && !gone.contains(1));
    }
}
