//! Tasks as plain processes, for hosts that cannot isolate them: own session, nothing else.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_core::handover::{ContainerState, launcher_of};
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use oci_spec::runtime::Spec;
use procfs::process::{Process, all_processes};
use serde::{Deserialize, Serialize};
use tracing::warn;

use super::executable;
use super::{Failure, Runtime, check_id};
use crate::logging::chain;
use crate::run_dir;

/// How long a new task may take until it waits for its start, and how long killed ones may take to be gone.
const DEADLINE: Duration = Duration::from_secs(5);
const STATE_FILE: &str = "state.json";
/// There when the task was let go.
const STARTED_FILE: &str = "started";
/// The task waits at this FIFO.
pub(super) const START_FIFO: &str = "start";

#[derive(Debug, thiserror::Error)]
enum PlainError {
    #[error("task `{0}` exists already")]
    Exists(String),
    #[error("there is no task `{0}`")]
    Unknown(String),
    #[error("cannot make {}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot start a process")]
    Spawn(#[source] io::Error),
    #[error("the task's process did not come up: {0}")]
    Parent(String),
    #[error("the task's process has ended")]
    Ended,
    #[error("the task's process does not wait to be started")]
    NotWaiting(#[source] io::Error),
    #[error("cannot send signal {signal} to process {pid}")]
    Signal { signal: i32, pid: i32, source: io::Error },
    #[error("processes of the task still live {} s after they were killed", DEADLINE.as_secs())]
    StillAlive,
    #[error("cannot remove {}", path.display())]
    Remove { path: PathBuf, source: io::Error },
}

/// A task's process, told from a later one of the same number by when it began.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
struct Task {
    pid: i32,
    start_ticks: u64,
}

/// Tasks as plain processes.
#[derive(Debug)]
pub(super) struct PlainRuntime {
    root: PathBuf,
    /// Which launcher this is.
    number: usize,
}

impl PlainRuntime {
    pub(super) fn open(root: &Path, number: usize) -> Result<PlainRuntime, Failure> {
        fs::create_dir_all(root).map_err(|source| PlainError::Make { path: root.to_owned(), source })?;
        Ok(PlainRuntime { root: root.to_owned(), number })
    }

    fn dir(&self, container: &str) -> PathBuf {
        self.root.join(container)
    }

    fn load(&self, container: &str) -> Result<Task, PlainError> {
        let path = self.dir(container).join(STATE_FILE);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| PlainError::Read { path, source: error.into() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(PlainError::Unknown(container.to_owned())),
            Err(source) => Err(PlainError::Read { path, source }),
        }
    }

    fn spawn(&self, container: &str, bundle: &str, stdout: &str, stderr: &str) -> Result<i32, Failure> {
        let dir = self.dir(container);
        let path = Path::new(bundle).join("config.json");
        let spec = Spec::load(&path)?;
        executable::check(&super::plain_task::as_on_host(spec, Path::new(bundle)), Path::new("/"))?;
        let fifo = dir.join(START_FIFO);
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|errno| PlainError::Make { path: fifo, source: errno.into() })?;
        // The parent in between ends at once, so that the task becomes a child of the subreaper, as containers do.
        let output = Command::new("/proc/self/exe")
            .arg("plain-parent")
            .args([Path::new("--bundle"), Path::new(bundle), Path::new("--state"), &dir])
            .args(["--stdout", stdout, "--stderr", stderr])
            .stdin(Stdio::null())
            .output()
            .map_err(PlainError::Spawn)?;
        if !output.status.success() {
            return Err(PlainError::Parent(String::from_utf8_lossy(&output.stderr).trim().to_owned()).into());
        }
        let answer = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let pid: i32 = answer.parse().map_err(|_| PlainError::Parent(answer))?;
        let start_ticks = Process::new(pid).and_then(|process| process.stat()).map(|stat| stat.starttime)?;
        let path = dir.join(STATE_FILE);
        let text = serde_json::to_vec(&Task { pid, start_ticks })?;
        let temporary = dir.join("state.json.new");
        fs::write(&temporary, text)
            .and_then(|()| fs::rename(&temporary, &path))
            .map_err(|source| PlainError::Make { path, source })?;
        Ok(pid)
    }

    /// Kills the whole session, and again until nothing is left of it.
    fn end(&self, task: Task) -> Result<(), PlainError> {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let living = task.processes();
            if living.is_empty() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(PlainError::StillAlive);
            }
            for pid in living {
                // One that has just ended is what we want.
                let _ = agent_sys::signal::send(pid, libc::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Task {
    fn is_alive(self) -> bool {
        let stat = Process::new(self.pid).and_then(|process| process.stat());
        stat.is_ok_and(|stat| stat.starttime == self.start_ticks && stat.state != 'Z')
    }

    /// Every living process of the task's session, and the task's own even before it has one.
    fn processes(self) -> Vec<i32> {
        let stats = all_processes().into_iter().flatten().flatten().filter_map(|process| process.stat().ok());
        stats
            .filter(|stat| stat.state != 'Z' && stat.starttime >= self.start_ticks)
            .filter(|stat| stat.session == self.pid || (stat.pid == self.pid && stat.starttime == self.start_ticks))
            .map(|stat| stat.pid)
            .collect()
    }
}

impl Runtime for PlainRuntime {
    fn recover(&mut self) {
        let launchers = run_dir::launchers();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            if launcher_of(&entry.file_name().to_string_lossy(), launchers) != self.number {
                continue;
            }
            // One without a state has no process that was told to anybody; it waits at a FIFO nobody will open.
            if !entry.path().join(STATE_FILE).exists() {
                kill_waiting(&entry.path());
                if let Err(error) = fs::remove_dir_all(entry.path()) {
                    warn!(%error, "half-made task not removed");
                }
            }
        }
    }

    fn create(&mut self, container: &str, bundle: &str, stdout: &str, stderr: &str) -> Result<i32, Failure> {
        let dir = self.dir(container);
        match fs::create_dir(&dir) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(PlainError::Exists(container.to_owned()).into());
            }
            Err(source) => return Err(PlainError::Make { path: dir, source }.into()),
        }
        self.spawn(container, bundle, stdout, stderr).inspect_err(|_| {
            kill_waiting(&dir);
            if let Err(error) = fs::remove_dir_all(&dir) {
                warn!(container, %error, "half-made task not removed");
            }
        })
    }

    fn start(&mut self, container: &str) -> Result<(), Failure> {
        let task = self.load(container)?;
        let deadline = Instant::now() + DEADLINE;
        let fifo = self.dir(container).join(START_FIFO);
        // Without a reader yet, opening fails with ENXIO: the task is on its way.
        let mut fifo = loop {
            match File::options().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&fifo) {
                Ok(fifo) => break fifo,
                Err(_) if !task.is_alive() => return Err(PlainError::Ended.into()),
                Err(error) if Instant::now() >= deadline => return Err(PlainError::NotWaiting(error).into()),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let path = self.dir(container).join(STARTED_FILE);
        File::create(&path).map_err(|source| PlainError::Make { path, source })?;
        Ok(fifo.write_all(b"1").map_err(PlainError::NotWaiting)?)
    }

    fn kill(&mut self, container: &str, signal: i32) -> Result<(), Failure> {
        let task = self.load(container)?;
        if !task.is_alive() {
            return Err(PlainError::Ended.into());
        }
        let pid = task.pid;
        // The group: without a PID namespace a shell's children would stay. Before it has its own, the process.
        let sent = agent_sys::signal::send_to_group(pid, signal).or_else(|_| agent_sys::signal::send(pid, signal));
        Ok(sent.map_err(|source| PlainError::Signal { signal, pid, source })?)
    }

    fn kill_all(&mut self, container: &str) -> Result<(), Failure> {
        Ok(self.end(self.load(container)?)?)
    }

    fn delete(&mut self, container: &str) -> Result<(), Failure> {
        match self.load(container) {
            Ok(task) => self.end(task)?,
            Err(PlainError::Unknown(_)) => {}
            Err(error) => warn!(container, error = %chain(&error), "task removed without its state"),
        }
        let dir = self.dir(container);
        match fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(PlainError::Remove { path: dir, source }.into())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn list(&mut self) -> Result<Vec<ContainerState>, Failure> {
        let failed = |source| PlainError::Read { path: self.root.clone(), source };
        let mut states = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let Ok(container) = entry.map_err(failed)?.file_name().into_string() else {
                continue;
            };
            if check_id(&container).is_err() {
                continue;
            }
            let task = self.load(&container).ok();
            let started = self.dir(&container).join(STARTED_FILE).exists();
            let status = match task {
                Some(task) if task.is_alive() => {
                    if started {
                        "running"
                    } else {
                        "created"
                    }
                }
                Some(_) | None => "stopped",
            };
            states.push(ContainerState { container, pid: task.map(|task| task.pid), status: status.to_owned() });
        }
        states.sort_by(|one, other| one.container.cmp(&other.container));
        Ok(states)
    }
}

/// Kills a process that waits at the FIFO of a state directory and that nobody knows the number of.
fn kill_waiting(dir: &Path) {
    for process in all_processes().into_iter().flatten().flatten() {
        let line = process.cmdline().unwrap_or_default();
        let is_task = line.iter().any(|argument| argument == "plain-task");
        if is_task && line.iter().any(|argument| Path::new(argument) == dir) {
            let _ = agent_sys::signal::send(process.pid(), libc::SIGKILL);
        }
    }
}
