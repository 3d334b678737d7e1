//! Our launcher, asked as the agent asks it.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent_core::handover::{Hello, LauncherReply, LauncherRequest, MAX_PACKET, VERSION, Welcome};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::bundle::{Bundle, CGROUP};
use super::runtimes::Runtime;

/// What it is called beside the others.
pub(super) const NAME: &str = "mesolith";

const START: Duration = Duration::from_secs(20);

/// A launcher of its own. Dropping it kills it.
pub(super) struct Launcher {
    process: Child,
    line: Option<OwnedFd>,
    buffer: Vec<u8>,
}

impl Launcher {
    /// Starts it in `dir`, as `init` would.
    pub(super) fn start(agent: &Path, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let log = fs::File::create(dir.join("launcher.log")).context("cannot write the launcher's log")?;
        let process = Command::new(agent)
            .arg0("mesolith-agent")
            .arg("launcher")
            .env("MESOLITH_RUN_DIR", dir)
            .env("MESOLITH_TASK_CGROUP", format!("/{CGROUP}"))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", agent.display()))?;
        let mut launcher = Self { process, line: None, buffer: vec![0; MAX_PACKET] };
        let path = dir.join("launcher.sock");
        let deadline = Instant::now() + START;
        let line = loop {
            match dial(&path) {
                Ok(line) => break line,
                Err(error) => {
                    let said = || fs::read_to_string(dir.join("launcher.log")).unwrap_or_default();
                    ensure!(Instant::now() < deadline, "the launcher does not listen: {error:#}\n{}", said());
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        launcher.line = Some(line);
        match launcher.ask(&Hello { version: VERSION, client: "bench".to_owned() })? {
            Welcome::Ready { .. } => Ok(launcher),
            Welcome::Refused { reason } => bail!("the launcher refuses: {reason}"),
        }
    }

    fn ask<R: DeserializeOwned>(&mut self, message: &impl Serialize) -> Result<R> {
        let line = self.line.as_ref().context("the launcher was reached")?;
        agent_sys::packet::send(line, &serde_json::to_vec(message)?, None)?;
        let received = agent_sys::packet::receive(line, &mut self.buffer)?;
        ensure!(received.len > 0, "the launcher has ended");
        Ok(serde_json::from_slice(&self.buffer[..received.len])?)
    }

    fn done(&mut self, request: &LauncherRequest) -> Result<()> {
        match self.ask(request)? {
            LauncherReply::Done => Ok(()),
            LauncherReply::Failed { reason } => bail!("{request:?}: {reason}"),
            other @ (LauncherReply::Created { .. } | LauncherReply::Containers(_)) => {
                bail!("the launcher answered {other:?} to {request:?}")
            }
        }
    }
}

fn dial(path: &PathBuf) -> Result<OwnedFd> {
    let line = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    connect(line.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(line)
}

impl Runtime for Launcher {
    fn name(&self) -> &str {
        NAME
    }

    fn create(&mut self, container: &str, bundle: &Bundle) -> Result<i32> {
        let request = LauncherRequest::Create {
            container: container.to_owned(),
            bundle: bundle.path.display().to_string(),
            stdout: bundle.sandbox.join("stdout").display().to_string(),
            stderr: bundle.sandbox.join("stderr").display().to_string(),
        };
        match self.ask(&request)? {
            LauncherReply::Created { pid } => Ok(pid),
            LauncherReply::Failed { reason } => bail!("the launcher made no container: {reason}"),
            other @ (LauncherReply::Done | LauncherReply::Containers(_)) => {
                bail!("the launcher made no container: {other:?}")
            }
        }
    }

    fn start(&mut self, container: &str) -> Result<()> {
        self.done(&LauncherRequest::Start { container: container.to_owned() })
    }

    fn delete(&mut self, container: &str) -> Result<()> {
        self.done(&LauncherRequest::Delete { container: container.to_owned() })
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
