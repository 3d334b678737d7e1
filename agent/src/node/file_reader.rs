//! Reads a sandbox's file or one of the node's logs for the master, and follows what is appended.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use api::link::{FileChunk, FileEntry, FromAgent, SandboxFile, from_agent, read_file};
use api::{AgentId, FrameworkId, TaskId};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use tokio::sync::{mpsc, oneshot};

use super::events::{Event, Events};
use super::node_log::NodeLog;
use super::{directory, log_cap};

/// How much goes into one message.
const CHUNK: usize = 32 * 1024;
/// How often a followed file is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Whose file.
#[derive(Debug)]
pub(crate) enum Source {
    Sandbox { framework: FrameworkId, task: TaskId, run: String, path: String },
    NodeLog(String),
}

/// One request of the master.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) request: u64,
    pub(crate) source: Source,
    pub(crate) offset: u64,
    /// No more than this.
    pub(crate) length: u64,
    pub(crate) follow: bool,
    pub(crate) work_dir: PathBuf,
    pub(crate) logs: PathBuf,
    pub(crate) agent: AgentId,
    pub(crate) out: mpsc::Sender<FromAgent>,
    pub(crate) events: Events,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("`{0}` is not a valid id")]
    Id(String),
    #[error("there is no task `{0}` on this node, or its sandbox is gone")]
    NoTask(String),
    #[error("the node has no log `{0}`: there are console, init, agent, launcher, launcher-2 and devices")]
    NoLog(String),
    #[error("cannot read `{path}`: {source}")]
    Open { path: String, source: io::Error },
    #[error("`{0}` is not a regular file")]
    NotAFile(String),
    #[error("the request names no file")]
    NoSource,
}

impl Source {
    pub(crate) fn of(source: Option<read_file::Source>) -> Option<Self> {
        match source? {
            read_file::Source::Sandbox(file) => {
                let (framework, task) = (file.framework_id.into(), file.task_id.into());
                Some(Self::Sandbox { framework, task, run: file.container_id, path: file.path })
            }
            read_file::Source::NodeLog(name) => Some(Self::NodeLog(name)),
        }
    }
}

/// Answers a request that names nothing.
pub(crate) async fn refuse(request: u64, out: mpsc::Sender<FromAgent>) {
    send(
        &out,
        FileChunk { request, data: Vec::new(), end: true, error: ReadError::NoSource.to_string(), offset: None },
    )
    .await;
}

async fn send(out: &mpsc::Sender<FromAgent>, chunk: FileChunk) -> bool {
    out.send(FromAgent { message: Some(from_agent::Message::FileChunk(chunk)) }).await.is_ok()
}

impl Reader {
    /// Sends the file; ends when it is read, or when whoever follows it cancels or its task has ended.
    pub(crate) async fn run(self) {
        let result = match &self.source {
            Source::NodeLog(name) if name == "console" => self.read_node_log().await,
            Source::NodeLog(_) | Source::Sandbox { .. } => self.read().await,
        };
        let error = match result {
            Ok(()) => String::new(),
            Err(error) => error.to_string(),
        };
        send(&self.out, FileChunk { request: self.request, data: Vec::new(), end: true, error, offset: None }).await;
    }

    /// All processes' logs together; they never end.
    async fn read_node_log(&self) -> Result<(), ReadError> {
        let mut log = NodeLog::new(&self.logs, self.offset);
        loop {
            let text = log.read().map_err(|source| ReadError::Open { path: "console".to_owned(), source })?;
            for data in text.chunks(CHUNK) {
                let chunk = FileChunk {
                    request: self.request,
                    data: data.to_vec(),
                    end: false,
                    error: String::new(),
                    offset: None,
                };
                if !send(&self.out, chunk).await {
                    return Ok(());
                }
            }
            if !self.follow {
                return Ok(());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    async fn read(&self) -> Result<(), ReadError> {
        let (file, name) = self.open()?;
        let failed = |source| ReadError::Open { path: name.clone(), source };
        let mut offset = self.offset;
        let mut buffer = vec![0; CHUNK];
        // Asked before the last read, so that nothing written before the end is missed.
        let mut last = !self.follow;
        let mut left = self.length;
        loop {
            let room = usize::try_from(left).unwrap_or(usize::MAX).min(CHUNK);
            // Only at the beginning: what comes later is there, or will be.
            let mut gone = None;
            if offset == self.offset {
                offset = log_cap::past_hole(&file, offset);
                gone = (offset > self.offset).then_some(offset);
            }
            let length = file.read_at(&mut buffer[..room], offset).map_err(failed)?;
            if length > 0 {
                left -= length as u64;
                offset += u64::try_from(length).unwrap_or(0);
                let chunk = FileChunk {
                    request: self.request,
                    data: buffer[..length].to_vec(),
                    end: false,
                    error: String::new(),
                    offset: gone,
                };
                if !send(&self.out, chunk).await {
                    return Ok(());
                }
                continue;
            }
            if last || left == 0 {
                return Ok(());
            }
            last = !self.is_live().await;
            if !last {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    /// A node's log never ends; a sandbox's file does with its task.
    async fn is_live(&self) -> bool {
        let Source::Sandbox { framework, task, .. } = &self.source else { return true };
        let (reply, answer) = oneshot::channel();
        let event = Event::IsLive { framework: framework.clone(), task: task.clone(), reply };
        self.events.send(event).await.is_ok() && answer.await.unwrap_or(false)
    }

    fn open(&self) -> Result<(File, String), ReadError> {
        let (directory, name) = match &self.source {
            Source::NodeLog(name) => {
                let file = match name.as_str() {
                    "init" => "init.log",
                    "agent" => "agent.log",
                    "launcher" => "launcher.log",
                    "launcher-2" => "launcher-2.log",
                    "devices" => "devices.log",
                    _ => return Err(ReadError::NoLog(name.clone())),
                };
                (self.logs.clone(), file.to_owned())
            }
            Source::Sandbox { framework, task, run, path } => {
                let sandbox = sandbox(&self.work_dir, &self.agent, framework, task, run)?;
                (sandbox, path.trim_start_matches('/').to_owned())
            }
        };
        let file = open_beneath(&directory, &name).map_err(|source| ReadError::Open { path: name.clone(), source })?;
        if !file.metadata().is_ok_and(|about| about.is_file()) {
            return Err(ReadError::NotAFile(name));
        }
        Ok((file, name))
    }
}

/// What a directory of a sandbox holds, and whether there is more.
pub(crate) fn list(
    work_dir: &Path,
    agent: &AgentId,
    of: Option<SandboxFile>,
) -> Result<(Vec<FileEntry>, bool), ReadError> {
    let of = of.ok_or(ReadError::NoSource)?;
    let (framework, task) = (of.framework_id.into(), of.task_id.into());
    let sandbox = sandbox(work_dir, agent, &framework, &task, &of.container_id)?;
    directory::list(&sandbox, &of.path).map_err(|source| ReadError::Open { path: of.path, source })
}

/// The newest run's sandbox, or that of the run that is named.
fn sandbox(
    work_dir: &Path,
    agent: &AgentId,
    framework: &FrameworkId,
    task: &TaskId,
    run: &str,
) -> Result<PathBuf, ReadError> {
    let run = if run.is_empty() { "latest" } else { run };
    for id in [framework.as_str(), task.as_str(), run] {
        api::id::validate(id).map_err(|_| ReadError::Id(id.to_owned()))?;
    }
    let path = work_dir.join(format!("slaves/{agent}/frameworks/{framework}/executors/{task}/runs/{run}"));
    path.canonicalize().map_err(|_| ReadError::NoTask(task.to_string()))
}

/// Opens a file below a directory whatever links a task has planted: the kernel refuses every way out (openat2(2)).
pub(crate) fn open_beneath(directory: &Path, name: &str) -> io::Result<File> {
    let directory = File::open(directory)?;
    let how = OpenHow::new()
        // A FIFO must not hold us up.
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    Ok(File::from(openat2(&directory, name, how)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_may_not_leave_the_sandbox() {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = dir.path().join("sandbox");
        std::fs::create_dir_all(sandbox.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        std::fs::write(sandbox.join("sub/inside"), "y").unwrap();
        std::os::unix::fs::symlink("../secret", sandbox.join("up")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", sandbox.join("out")).unwrap();
        std::os::unix::fs::symlink("sub/inside", sandbox.join("in")).unwrap();
        for (name, ok) in [
            ("sub/inside", true),
            ("in", true),
            ("up", false),
            ("out", false),
            ("../secret", false),
            ("/etc/passwd", false),
        ] {
            assert_eq!(open_beneath(&sandbox, name).is_ok(), ok, "{name}");
        }
    }
}
