//! A program beside a task, second half: a process that was started in the task's PID namespace takes the rest of its
//! namespaces, its cgroup, its user and its limits, and becomes the program.
//!
//! The first half is `node/beside.rs`, in the agent. What to do comes on a socket, so that no command line shows it.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail, ensure};
use libcontainer::capabilities::{drop_privileges, reset_effective};
use libcontainer::seccomp::initialize_seccomp;
use libcontainer::syscall::syscall::create_syscall;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, execve, fchown, geteuid, setgroups, setresgid, setresuid, setsid};
use oci_spec::runtime::{PosixRlimitType, Process, Spec};
use serde::{Deserialize, Serialize};

use crate::launcher::plain_task;

/// Where the order comes in, and the terminal goes out.
pub(crate) const ORDERS: i32 = 3;
/// The task's first process, as a pidfd.
pub(crate) const TARGET: i32 = 4;
/// The longest order.
pub(crate) const MAX_ORDER: usize = 128 * 1024;
/// What a shell answers when it cannot execute something.
const CANNOT_EXECUTE: u8 = 126;
/// What it answers when there is nothing of that name.
const NOT_FOUND: u8 = 127;

/// What to become.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    /// `config.json` of the task's container.
    pub(crate) config: PathBuf,
    /// Where the task is kept apart; none where nothing is.
    pub(crate) confinement: Option<Confinement>,
    /// The program and its arguments.
    pub(crate) arguments: Vec<String>,
    /// Added to the task's own.
    pub(crate) environment: Vec<(String, String)>,
    /// Rows and columns, if it is to have a terminal.
    pub(crate) terminal: Option<(u16, u16)>,
}

/// See [`Order::confinement`].
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// Directory of the first process's cgroup.
    pub(crate) cgroup: PathBuf,
    /// Those namespaces of the first process that are not the agent's, as `CLONE_NEW...`.
    pub(crate) namespaces: i32,
}

/// There is no such program.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` was not found")]
struct NotFound(String);

/// Becomes the program. What goes wrong before is told on its stderr.
pub(crate) fn run() -> ExitCode {
    let Err(error) = enter();
    eprintln!("{error:#}");
    ExitCode::from(if error.is::<NotFound>() { NOT_FOUND } else { CANNOT_EXECUTE })
}

fn enter() -> anyhow::Result<std::convert::Infallible> {
    let orders = agent_sys::inherit::take(ORDERS).context("this is not for people")?;
    let mut buffer = vec![0; MAX_ORDER];
    let received = agent_sys::packet::receive(&orders, &mut buffer).context("no order came")?;
    ensure!(received.len > 0 && !received.truncated, "no order came");
    let order: Order = serde_json::from_slice(&buffer[..received.len]).context("the order cannot be read")?;
    let mut spec = Spec::load(&order.config).context("the task's container is gone")?;
    setsid().context("cannot begin a session")?;
    if let Some(confinement) = &order.confinement {
        join(confinement, &spec)?;
    } else {
        let bundle = order.config.parent().unwrap_or_else(|| "/".as_ref()).to_owned();
        spec = plain_task::as_on_host(spec, &bundle);
    }
    umask(Mode::from_bits_truncate(0o022));
    let process = spec.process().as_ref().context("the specification has no process")?;
    if let Some(size) = order.terminal {
        let user = order.confinement.as_ref().map(|_| Uid::from_raw(process.user().uid()));
        take_terminal(&orders, size, user).context("there is no terminal to be had")?;
    }
    let environment = environment(process, &order);
    if order.confinement.is_some() {
        confine(process, &spec)?;
    } else if geteuid().is_root() {
        plain_task::become_user(process.user())?;
    }
    std::env::set_current_dir(process.cwd()).with_context(|| format!("cannot enter {}", process.cwd().display()))?;
    // Of the thread in the agent that waits for us: a program nobody waits for has no business here.
    prctl::set_pdeathsig(Signal::SIGKILL).context("cannot be bound to the agent's life")?;
    agent_sys::signal::restore_pipe().context("cannot restore a signal")?;
    agent_sys::inherit::close_all_on_exec().context("cannot close what is open")?;
    if let Some(seccomp) = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref()) {
        // As late as possible: from here on only what the task may do is done.
        initialize_seccomp(seccomp).context("cannot filter system calls")?;
    }
    execute(&order.arguments, &environment)
}

/// Takes the task's cgroup and its namespaces. Its own limits hold from here on.
fn join(confinement: &Confinement, spec: &Spec) -> anyhow::Result<()> {
    let target = agent_sys::inherit::take(TARGET).context("the task's process is missing")?;
    let score = spec.process().as_ref().and_then(Process::oom_score_adj).unwrap_or_default();
    fs::write("/proc/self/oom_score_adj", score.to_string()).context("cannot set the OOM score")?;
    fs::write(confinement.cgroup.join("cgroup.procs"), "0").context("cannot enter the task's cgroup")?;
    let namespaces = CloneFlags::from_bits_truncate(confinement.namespaces);
    let renames = namespaces.contains(CloneFlags::CLONE_NEWUSER);
    if let Some(process) = spec.process().as_ref().filter(|_| renames) {
        // Nobody in a user namespace of its own may raise one.
        limit(process)?;
    }
    if !namespaces.is_empty() {
        setns(&target, namespaces).context("cannot enter the task's namespaces")?;
    }
    if renames {
        // Whoever we were is nobody there.
        let root = (Uid::from_raw(0), Gid::from_raw(0));
        setgroups(&[]).context("cannot leave our groups")?;
        setresgid(root.1, root.1, root.1).context("cannot become the task's root group")?;
        setresuid(root.0, root.0, root.0).context("cannot become the task's root")?;
    }
    std::env::set_current_dir("/").context("the task's root is gone")
}

/// A terminal of the task's own, whose other end goes to the agent.
fn take_terminal(orders: &OwnedFd, (rows, columns): (u16, u16), user: Option<Uid>) -> anyhow::Result<()> {
    let path = if user.is_some() { "/dev/pts/ptmx" } else { "/dev/ptmx" };
    let flags = (OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).bits();
    let master = File::options().read(true).write(true).custom_flags(flags).open(path);
    let master = master.with_context(|| format!("cannot open {path}"))?;
    // Which also proves that it is what its name says.
    let peer = agent_sys::terminal::open_peer(&master).with_context(|| format!("{path} is no terminal"))?;
    agent_sys::terminal::set_size(&master, rows, columns)?;
    if let Some(user) = user {
        fchown(&peer, Some(user), None)?;
    }
    agent_sys::packet::send(orders, b"terminal", Some(master.as_fd()))?;
    agent_sys::terminal::control(&peer)?;
    nix::unistd::dup2_stdin(&peer)?;
    nix::unistd::dup2_stdout(&peer)?;
    nix::unistd::dup2_stderr(&peer)?;
    Ok(())
}

/// The limits of the task's processes.
fn limit(process: &Process) -> anyhow::Result<()> {
    for limit in process.rlimits().iter().flatten() {
        let Some(resource) = resource(limit.typ()) else { continue };
        setrlimit(resource, limit.soft(), limit.hard()).with_context(|| format!("cannot limit {resource:?}"))?;
    }
    Ok(())
}

/// The user, its groups, the limits and the few capabilities a task has.
fn confine(process: &Process, spec: &Spec) -> anyhow::Result<()> {
    limit(process)?;
    if process.no_new_privileges() == Some(true) {
        prctl::set_no_new_privs().context("cannot renounce new privileges")?;
    }
    let user = process.user();
    let groups: Vec<Gid> = user.additional_gids().iter().flatten().map(|gid| Gid::from_raw(*gid)).collect();
    setgroups(&groups).context("cannot change groups")?;
    let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
    // What is left of them is chosen below.
    prctl::set_keepcaps(true).context("cannot keep capabilities")?;
    setresgid(gid, gid, gid).context("cannot change the group")?;
    setresuid(uid, uid, uid).context("cannot change the user")?;
    prctl::set_keepcaps(false).context("cannot renounce capabilities")?;
    let calls = create_syscall();
    reset_effective(calls.as_ref()).context("cannot use capabilities")?;
    let capabilities = process.capabilities().as_ref().context("the specification has no capabilities")?;
    ensure!(spec.linux().is_some(), "the specification is not one of a container");
    drop_privileges(capabilities, calls.as_ref()).context("cannot drop capabilities")
}

/// As the kernel calls a limit.
pub(crate) fn resource(kind: PosixRlimitType) -> Option<Resource> {
    Some(match kind {
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
    })
}

/// The task's own variables; over them what the order says.
fn environment(process: &Process, order: &Order) -> Vec<String> {
    let mut environment = process.env().clone().unwrap_or_default();
    for (name, value) in &order.environment {
        let start = format!("{name}=");
        environment.retain(|variable| !variable.starts_with(&start));
        environment.push(format!("{start}{value}"));
    }
    let has = |name: &str| environment.iter().any(|variable| variable.starts_with(name));
    let (no_home, no_term) = (!has("HOME="), !has("TERM="));
    if no_home {
        let uid = process.user().uid().to_string();
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let home = passwd.lines().find_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            (fields.get(2) == Some(&uid.as_str())).then(|| fields.get(5).copied().unwrap_or("/").to_owned())
        });
        environment.push(format!("HOME={}", home.unwrap_or_else(|| "/".to_owned())));
    }
    if no_term && order.terminal.is_some() {
        environment.push("TERM=xterm".to_owned());
    }
    environment
}

fn execute(arguments: &[String], environment: &[String]) -> anyhow::Result<std::convert::Infallible> {
    let name = arguments.first().filter(|name| !name.is_empty()).context("there is nothing to execute")?;
    let to_c = |texts: &[String]| -> anyhow::Result<Vec<CString>> {
        texts.iter().map(|text| CString::new(text.as_str()).context("a NUL in an argument or variable")).collect()
    };
    let (arguments_c, environment_c) = (to_c(arguments)?, to_c(environment)?);
    let path = environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    let mut failed = Errno::ENOENT;
    for candidate in plain_task::candidates(name, path.unwrap_or(plain_task::DEFAULT_PATH)) {
        let candidate = CString::new(candidate.into_os_string().into_encoded_bytes()).context("a NUL in a path")?;
        let Err(errno) = execve(&candidate, &arguments_c, &environment_c);
        if !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
            failed = errno;
        }
    }
    if failed == Errno::ENOENT {
        return Err(NotFound(name.clone()).into());
    }
    bail!("cannot execute `{name}`: {}", failed.desc())
}
