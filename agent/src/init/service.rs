//! One child that `init` keeps alive: started, its output read, started again when it ends.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::backoff::Backoff;
use super::console::{Console, printable, stamped};
use super::log_file::{Lines, LogFile};
use crate::uptime;

/// Lines up to this level of the kernel's scale are shown on the console.
const SHOWN_LEVEL: u8 = 6;

/// What a service is.
#[derive(Debug)]
pub(crate) struct ServicePlan {
    /// Its subcommand and name.
    pub(crate) name: &'static str,
    /// What stands before the subcommand.
    pub(crate) options: Vec<OsString>,
    /// Added to our own environment.
    pub(crate) environment: Vec<(&'static str, OsString)>,
    /// Directory of the cgroup it lives in.
    pub(crate) cgroup: Option<PathBuf>,
    /// How the kernel weighs it when memory runs out; `None` leaves what we have.
    pub(crate) oom_score: Option<i32>,
    /// Its log.
    pub(crate) log: PathBuf,
    /// Where its program is executed from.
    pub(crate) program: Program,
}

/// Our own binary, in one of two ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Program {
    /// As it is.
    Plain,
    /// On a read-only mount of its own: processes of tasks begin as clones of this service's, and whoever gets hold of
    /// their executable must not be able to change it.
    Sealed,
}

/// What follows the end of a service's process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// Another one, after a while.
    Restart,
    /// Nothing: the node ends.
    Stop,
}

/// A service and what became of it.
#[derive(Debug)]
pub(crate) struct Service {
    plan: ServicePlan,
    pid: Option<Pid>,
    restarts: u32,
    started_ms: u64,
    /// When to start it; `None` while it runs or is held back.
    due_ms: Option<u64>,
    backoff: Backoff,
    // Both ends stay open here, so that the pipe outlives each child and never reads as closed.
    output: File,
    child_end: OwnedFd,
    lines: Lines,
    log: LogFile,
}

impl Service {
    /// Prepares a service; it starts when told its time.
    pub(crate) fn new(plan: ServicePlan) -> io::Result<Service> {
        let (output, child_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let log = LogFile::open(&plan.log)?;
        Ok(Service {
            plan,
            pid: None,
            restarts: 0,
            started_ms: 0,
            due_ms: None,
            backoff: Backoff::default(),
            output: output.into(),
            child_end,
            lines: Lines::default(),
            log,
        })
    }

    pub(crate) fn name(&self) -> &'static str {
        self.plan.name
    }

    pub(crate) fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// Milliseconds since its process was started.
    pub(crate) fn runs_for(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.started_ms)
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }

    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Lets it start at a time.
    pub(crate) fn schedule(&mut self, at_ms: u64) {
        if self.pid.is_none() {
            self.due_ms = Some(at_ms);
        }
    }

    /// Starts it if its time has come. A failure counts as a short life.
    pub(crate) fn start_if_due(&mut self, now_ms: u64, console: &mut Console) {
        if self.due_ms.is_none_or(|due| due > now_ms) {
            return;
        }
        self.due_ms = None;
        self.started_ms = now_ms;
        match self.spawn() {
            Ok(pid) => {
                self.pid = Some(pid);
                if self.restarts == 0 {
                    console.say(format!("started {} as process {pid}", self.plan.name));
                }
            }
            Err(error) => {
                let wait = self.backoff.after(0);
                self.due_ms = Some(now_ms + wait);
                console.say(format!("cannot start {}: {error}; next try in {wait} ms", self.plan.name));
            }
        }
    }

    /// Notes that its process has ended.
    pub(crate) fn ended(&mut self, how: &str, next: Next, console: &mut Console) {
        self.drain(console);
        let now = uptime::millis();
        self.pid = None;
        let life = now.saturating_sub(self.started_ms);
        if next == Next::Stop {
            return console.say(format!("{} {how}", self.plan.name));
        }
        let wait = self.backoff.after(life);
        self.restarts += 1;
        self.due_ms = Some(now + wait);
        console.say(format!(
            "{} {how} after {} s; start {} in {wait} ms",
            self.plan.name,
            life / 1000,
            self.restarts + 1
        ));
    }

    /// Sends it a signal if it runs.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            // It may have ended since; the reaper will tell.
            let _ = kill(pid, signal);
        }
    }

    /// Reads what it has written: all of it to its log, what matters to the console.
    pub(crate) fn drain(&mut self, console: &mut Console) {
        let mut buffer = [0; 4096];
        // Bounded, so that a service that writes without pause does not keep `init` from its other work.
        for _ in 0..64 {
            let count = match self.output.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            };
            let (name, log) = (self.plan.name, &mut self.log);
            self.lines.push(&buffer[..count], |line| {
                let (level, text) = split_level(line);
                let line = stamped(name, &printable(text));
                log.append(&line);
                if level <= SHOWN_LEVEL {
                    console.relay(&line);
                }
            });
        }
    }

    fn spawn(&self) -> io::Result<Pid> {
        let sealed = match self.plan.program {
            Program::Plain => None,
            Program::Sealed => Some(agent_sys::sealed::open(c"/proc/self/exe")?),
        };
        let path = sealed
            .as_ref()
            .map_or_else(|| "/proc/self/exe".to_owned(), |own| format!("/proc/self/fd/{}", own.as_raw_fd()));
        // Never waited for through `Child`: the reaper is the only one who waits.
        #[allow(clippy::zombie_processes)]
        let child = Command::new(path)
            .arg0("mesolith-agent")
            .args(&self.plan.options)
            .arg(self.plan.name)
            .envs(self.plan.environment.iter().map(|(name, value)| (name, value)))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(self.child_end.try_clone()?)
            .stderr(self.child_end.try_clone()?)
            .spawn()?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        if let Some(cgroup) = &self.plan.cgroup {
            enter(cgroup, pid);
        }
        if let Some(score) = self.plan.oom_score {
            // Without it the process is as likely to be chosen as a task.
            let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), score.to_string());
        }
        Ok(pid)
    }
}

impl AsFd for Service {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.output.as_fd()
    }
}

/// Moves a process into a cgroup. Without it the process runs where `init` does, which is worse but works.
fn enter(cgroup: &Path, pid: Pid) {
    let _ = std::fs::write(cgroup.join("cgroup.procs"), pid.to_string());
}

/// Takes the level off a line that has one.
fn split_level(line: &str) -> (u8, &str) {
    match line.as_bytes() {
        [b'<', level @ b'0'..=b'7', b'>', ..] => (level - b'0', &line[3..]),
        _ => (SHOWN_LEVEL, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_taken_off_and_text_without_one_is_shown() {
        assert_eq!(split_level("<4>careful"), (4, "careful"));
        assert_eq!(split_level("<7>detail"), (7, "detail"));
        assert_eq!(split_level("<8>what"), (6, "<8>what"));
        assert_eq!(split_level("<"), (6, "<"));
        assert_eq!(split_level("thread 'main' panicked"), (6, "thread 'main' panicked"));
    }
}
