//! Programs beside a task: in its namespaces, its cgroup and its files, as its user. Checks and people run them.
//!
//! Each has a thread in the agent, which starts it and waits for it: the PID namespace it is to be born in can only be
//! chosen by a thread for all its children. When the agent ends, so do they. The second half is `enter.rs`.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent_core::handover::ExitStatus;
use agent_core::record::Process;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair};
use nix::sys::time::{TimeVal, TimeValLike};
use tokio::sync::oneshot;

use super::cgroup::start_ticks;
use crate::enter::{Confinement, MAX_ORDER, ORDERS, Order, TARGET};

/// The threads only start and wait.
const STACK: usize = 256 * 1024;
/// From its start to its terminal.
const TERMINAL_WITHIN: Duration = Duration::from_secs(20);
/// What is told of why there is no terminal.
const LONGEST_REASON: u64 = 4096;

/// Whether tasks of this node are kept apart.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Isolation {
    Containers,
    None,
}

/// What to start beside which task.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The task's first process.
    pub(crate) beside: Process,
    /// The task's `config.json`.
    pub(crate) config: PathBuf,
    pub(crate) isolation: Isolation,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) streams: Streams,
}

/// What a program reads and writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Streams {
    /// Nothing.
    Nowhere,
    /// Three pipes.
    Pipes,
    /// A terminal of so many rows and columns.
    Terminal(u16, u16),
}

/// A program that runs.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its process, also the group and the session it began with.
    pub(crate) pid: i32,
    pub(crate) io: Io,
    /// How it ends.
    pub(crate) ended: oneshot::Receiver<ExitStatus>,
}

/// Our ends of a program's streams.
#[derive(Debug)]
pub(crate) enum Io {
    Nowhere,
    Pipes { stdin: OwnedFd, stdout: OwnedFd, stderr: OwnedFd },
    Terminal(OwnedFd),
}

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BesideError {
    #[error("the task has ended")]
    Ended,
    #[error("cannot look at the task's process")]
    Look(#[source] io::Error),
    #[error("cannot start a process beside the task")]
    Start(#[source] io::Error),
    #[error("the program and its arguments are too long")]
    TooLong,
    #[error("{0}")]
    Terminal(String),
}

/// Starts a program.
pub(crate) async fn start(program: Program) -> Result<Started, BesideError> {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("beside".to_owned()).stack_size(STACK);
    let spawned = thread.spawn(move || match begin(&program) {
        Ok((mut child, io)) => {
            let (end, ended) = oneshot::channel();
            let pid = child.id().cast_signed();
            // Whoever asked may have gone; then the program goes, too.
            if tell.send(Ok(Started { pid, io, ended })).is_err() {
                let _ = child.kill();
            }
            let status = child.wait().map_or(ExitStatus::Code(-1), |status| match (status.code(), status.signal()) {
                (Some(code), _) => ExitStatus::Code(code),
                (None, Some(signal)) => ExitStatus::Signal(signal),
                (None, None) => ExitStatus::Code(-1),
            });
            let _ = end.send(status);
        }
        Err(error) => {
            let _ = tell.send(Err(error));
        }
    });
    spawned.map_err(BesideError::Start)?;
    told.await.map_err(|_| BesideError::Start(io::Error::other("the thread has ended")))?
}

/// Ends a program and its group. Only before its end was told: until then its number is its own.
pub(crate) fn kill(pid: i32) {
    let _ = agent_sys::signal::send_to_group(pid, libc::SIGKILL);
    // It may not have got to its own group yet.
    let _ = agent_sys::signal::send(pid, libc::SIGKILL);
}

fn begin(program: &Program) -> Result<(Child, Io), BesideError> {
    let target = agent_sys::pidfd::open(program.beside.pid).map_err(|_| BesideError::Ended)?;
    // After it was opened: now the number cannot be another's any more.
    if start_ticks(program.beside.pid) != Some(program.beside.start_ticks) {
        return Err(BesideError::Ended);
    }
    let confinement = match program.isolation {
        Isolation::None => None,
        Isolation::Containers => Some(confinement(program.beside.pid).map_err(BesideError::Look)?),
    };
    let terminal = match program.streams {
        Streams::Terminal(rows, columns) => Some((rows, columns)),
        Streams::Nowhere | Streams::Pipes => None,
    };
    let order = Order {
        config: program.config.clone(),
        confinement,
        arguments: program.arguments.clone(),
        environment: program.environment.clone(),
        terminal,
    };
    let packet = serde_json::to_vec(&order).map_err(|error| BesideError::Start(error.into()))?;
    if packet.len() > MAX_ORDER {
        return Err(BesideError::TooLong);
    }
    spawn(program, &order, &packet, &target)
}

fn spawn(program: &Program, order: &Order, packet: &[u8], target: &OwnedFd) -> Result<(Child, Io), BesideError> {
    let failed = BesideError::Start;
    let errno = |errno: nix::errno::Errno| BesideError::Start(errno.into());
    // A process of the task could otherwise reach the agent's own program through the one that enters.
    let own = match &order.confinement {
        Some(_) => Some(agent_sys::sealed::open(c"/proc/self/exe").map_err(failed)?),
        None => None,
    };
    let path =
        own.as_ref().map_or_else(|| "/proc/self/exe".to_owned(), |own| format!("/proc/self/fd/{}", own.as_raw_fd()));
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).map_err(errno)?;
    let mut command = Command::new(path);
    command.arg0("mesolith-agent").arg("enter").env_clear().stdin(Stdio::null()).stdout(Stdio::null());
    let mut ends = None;
    let mut reason = None;
    match program.streams {
        Streams::Nowhere => {
            command.stderr(Stdio::null());
        }
        Streams::Pipes => {
            let ((stdin, our_in), (our_out, stdout), (our_err, stderr)) =
                (io::pipe().map_err(failed)?, io::pipe().map_err(failed)?, io::pipe().map_err(failed)?);
            command.stdin(stdin).stdout(stdout).stderr(stderr);
            ends = Some((our_in.into(), our_out.into(), our_err.into()));
        }
        Streams::Terminal(..) => {
            let (reader, writer) = io::pipe().map_err(failed)?;
            command.stderr(writer);
            reason = Some(reader);
        }
    }
    agent_sys::inherit::pass(&mut command, &theirs, ORDERS).map_err(failed)?;
    agent_sys::inherit::pass(&mut command, target, TARGET).map_err(failed)?;
    if order.confinement.as_ref().is_some_and(|confinement| confinement.has_own_pids()) {
        // Of this thread's children; it has no other.
        setns(target, CloneFlags::CLONE_NEWPID).map_err(|_| BesideError::Ended)?;
    }
    let mut child = command.spawn().map_err(failed)?;
    // Our copies of what is the child's.
    drop(command);
    drop(theirs);
    agent_sys::packet::send(&ours, packet, None).map_err(failed)?;
    let Some(reason) = reason else {
        let io = ends.map_or(Io::Nowhere, |(stdin, stdout, stderr)| Io::Pipes { stdin, stdout, stderr });
        return Ok((child, io));
    };
    let patience = TimeVal::seconds(TERMINAL_WITHIN.as_secs().cast_signed());
    setsockopt(&ours, ReceiveTimeout, &patience).map_err(errno)?;
    let mut buffer = [0; 64];
    match agent_sys::packet::receive(&ours, &mut buffer).map(|received| received.descriptors.into_iter().next()) {
        Ok(Some(terminal)) => Ok((child, Io::Terminal(terminal))),
        Ok(None) | Err(_) => {
            let _ = child.kill();
            let _ = child.wait();
            let mut said = String::new();
            let _ = reason.take(LONGEST_REASON).read_to_string(&mut said);
            let said = said.trim();
            Err(BesideError::Terminal(if said.is_empty() {
                "the task has no terminal".to_owned()
            } else {
                said.to_owned()
            }))
        }
    }
}

/// Each namespace by its name in `/proc/PID/ns`.
const NAMESPACES: [(&str, CloneFlags); 7] = [
    ("user", CloneFlags::CLONE_NEWUSER),
    ("mnt", CloneFlags::CLONE_NEWNS),
    ("cgroup", CloneFlags::CLONE_NEWCGROUP),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("net", CloneFlags::CLONE_NEWNET),
    ("pid", CloneFlags::CLONE_NEWPID),
];

/// Where a process is kept apart from us, whatever made it so.
fn confinement(pid: i32) -> io::Result<Confinement> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = path.ok_or_else(|| io::Error::other("the task has no cgroup"))?;
    let mut namespaces = CloneFlags::empty();
    for (name, flag) in NAMESPACES {
        if !shares(pid, name)? {
            namespaces |= flag;
        }
    }
    Ok(Confinement { cgroup: PathBuf::from("/sys/fs/cgroup").join(path), namespaces: namespaces.bits() })
}

/// Whether a process has the same namespace as we.
pub(crate) fn shares(pid: i32, namespace: &str) -> io::Result<bool> {
    let theirs = fs::metadata(format!("/proc/{pid}/ns/{namespace}"))?;
    let ours = fs::metadata(format!("/proc/self/ns/{namespace}"))?;
    Ok((theirs.dev(), theirs.ino()) == (ours.dev(), ours.ino()))
}

impl Confinement {
    const fn has_own_pids(&self) -> bool {
        self.namespaces & CloneFlags::CLONE_NEWPID.bits() != 0
    }
}
