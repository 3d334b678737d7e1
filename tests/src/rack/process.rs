//! One child of the rack: it dies with us whatever happens, its output goes to a file, and it can be ended within a deadline.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A program to start, and where its output goes.
pub(super) struct Program<'a> {
    /// What messages call it.
    pub(super) name: &'a str,
    /// Its file, or a name to be found in PATH.
    pub(super) file: &'a Path,
    /// Its arguments.
    pub(super) args: Vec<String>,
    /// Standard output and error are appended here.
    pub(super) log: &'a Path,
    /// Standard input; `/dev/null` if none.
    pub(super) stdin: Option<OwnedFd>,
    /// The signal the kernel sends it when the rack's process is gone.
    pub(super) orphan_signal: &'a str,
    /// The working directory.
    pub(super) dir: &'a Path,
}

/// A started child. Dropping it kills and reaps it.
pub(super) struct Process {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in its own process group, so that Ctrl-C on the terminal reaches only who should decide on it.
    ///
    /// `setpriv --pdeathsig` executes the program in place, so the child's pid is the program's. The kernel ties that
    /// signal to the *thread* that started the child: the rack starts everything from its only thread.
    pub(super) fn start(program: Program<'_>) -> Result<Self> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(program.log)
            .with_context(|| format!("cannot open {}", program.log.display()))?;
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", program.orphan_signal, "--"])
            .arg(program.file)
            .args(&program.args)
            .current_dir(program.dir)
            .stdin(program.stdin.map_or_else(Stdio::null, Stdio::from))
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {} through setpriv", program.name))?;
        Ok(Self { name: program.name.to_owned(), child, ended: None, log: program.log.to_owned() })
    }

    /// The process id, valid while [`Self::ended`] gives `None`.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has. Reaps.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// One line on how it ended, with the last lines of its log.
    pub(super) fn obituary(&mut self) -> Option<String> {
        let status = self.ended()?;
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exited with status {code}"),
            (None, Some(signal)) => format!("was killed by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        Some(format!("{} {how}; the end of {}:\n{}", self.name, self.log.display(), tail(&self.log, 12)))
    }

    /// SIGKILL, then reaps.
    pub(super) fn kill(&mut self) -> Result<()> {
        if self.ended().is_none() {
            self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
            self.ended = Some(self.child.wait()?);
        }
        Ok(())
    }

    /// SIGTERM, SIGKILL after `grace`, then reaps.
    pub(super) fn stop(&mut self, grace: Duration) -> Result<()> {
        if self.ended().is_none() {
            let pid = Pid::from_raw(i32::try_from(self.pid()).context("a pid fits in i32")?);
            kill(pid, Signal::SIGTERM).with_context(|| format!("cannot end {}", self.name))?;
            let deadline = Instant::now() + grace;
            while Instant::now() < deadline {
                if self.ended().is_some() {
                    return Ok(());
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        self.kill()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Best effort: the death signal is behind it.
        let _ = self.kill();
    }
}

/// The last `count` lines of a text file, empty if it cannot be read.
pub(super) fn tail(file: &Path, count: usize) -> String {
    let text = std::fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
