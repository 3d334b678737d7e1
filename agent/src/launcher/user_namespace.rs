//! A user namespace for one container, made before the container is.
//!
//! libcontainer can make one itself, but takes systemd for granted then; and the mounts that are shown under the
//! container's names need it beforehand. A namespace is there as long as anybody has it open.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

/// How long a process may take to make one.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum UserNamespaceError {
    #[error("the specification has a user namespace and no range of ids for it")]
    NoRange,
    #[error("cannot start a process in a new user namespace")]
    Start(#[source] io::Error),
    #[error("the kernel makes no user namespace ({0})")]
    Refused(String),
    #[error("cannot write the ids of a user namespace")]
    Map(#[source] io::Error),
    #[error("cannot open a user namespace")]
    Open(#[source] io::Error),
    #[error("cannot raise {resource:?} for a container")]
    Limit { resource: Resource, source: nix::errno::Errno },
}

/// See the module.
#[derive(Debug)]
pub(super) struct UserNamespace {
    /// The first id of its range; its root.
    pub(super) first: u32,
    opened: File,
    /// Our own limits, to be put back.
    limits: Vec<(Resource, u64, u64)>,
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.opened.as_fd()
    }
}

impl Drop for UserNamespace {
    fn drop(&mut self) {
        for (resource, soft, hard) in self.limits.drain(..) {
            if let Err(error) = setrlimit(resource, soft, hard) {
                tracing::warn!(?resource, %error, "own limit not restored");
            }
        }
    }
}

/// Makes the one a specification asks for, if it does.
pub(super) fn make(spec: &Spec) -> Result<Option<UserNamespace>, UserNamespaceError> {
    let Some(linux) = spec.linux() else { return Ok(None) };
    let namespaces = linux.namespaces().iter().flatten();
    if !namespaces.into_iter().any(|namespace| namespace.typ() == LinuxNamespaceType::User) {
        return Ok(None);
    }
    let range = linux.uid_mappings().as_ref().and_then(|ranges| ranges.first());
    let range = range.ok_or(UserNamespaceError::NoRange)?;
    let opened = open(range.host_id(), range.size())?;
    let mut made = UserNamespace { first: range.host_id(), opened, limits: Vec::new() };
    made.allow_limits(spec)?;
    Ok(Some(made))
}

fn open(first: u32, size: u32) -> Result<File, UserNamespaceError> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0_of_agent().arg("user-namespace").env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(UserNamespaceError::Start)?;
    let result = (|| {
        let output = child.stdout.take().ok_or(UserNamespaceError::Start(io::ErrorKind::BrokenPipe.into()))?;
        let said = answer(output)?;
        if said != "made" {
            return Err(UserNamespaceError::Refused(said));
        }
        let place = format!("/proc/{}", child.id());
        for map in ["uid_map", "gid_map"] {
            std::fs::write(format!("{place}/{map}"), format!("0 {first} {size}")).map_err(UserNamespaceError::Map)?;
        }
        File::open(format!("{place}/ns/user")).map_err(UserNamespaceError::Open)
    })();
    drop(child.stdin.take());
    // It ends by itself; whatever held it up does so no longer.
    let _ = child.kill();
    let _ = child.wait();
    result
}

/// What it says, in one go.
fn answer(mut output: impl Read + AsFd) -> Result<String, UserNamespaceError> {
    let patience = PollTimeout::try_from(PATIENCE).unwrap_or(PollTimeout::MAX);
    let ready = poll(&mut [PollFd::new(output.as_fd(), PollFlags::POLLIN)], patience);
    if ready.map_err(|errno| UserNamespaceError::Start(errno.into()))? == 0 {
        return Err(UserNamespaceError::Refused("it takes too long".to_owned()));
    }
    let mut buffer = [0; 256];
    let length = output.read(&mut buffer).map_err(UserNamespaceError::Start)?;
    Ok(String::from_utf8_lossy(&buffer[..length]).trim().to_owned())
}

trait Named {
    fn arg0_of_agent(&mut self) -> &mut Self;
}

impl Named for Command {
    fn arg0_of_agent(&mut self) -> &mut Self {
        std::os::unix::process::CommandExt::arg0(self, "mesolith-agent")
    }
}

/// The process that makes one, and waits until somebody has it open.
pub(crate) fn hold() -> ExitCode {
    let said = match unshare(CloneFlags::CLONE_NEWUSER) {
        Ok(()) => "made".to_owned(),
        Err(errno) => errno.desc().to_owned(),
    };
    let mut output = io::stdout();
    let told = output.write_all(said.as_bytes()).and_then(|()| output.flush());
    let _ = io::stdin().read(&mut [0]);
    if told.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl UserNamespace {
    /// Nobody in it may raise a limit of processes, so the container gets what it shall have from us.
    fn allow_limits(&mut self, spec: &Spec) -> Result<(), UserNamespaceError> {
        let wanted = spec.process().as_ref().and_then(|process| process.rlimits().clone()).unwrap_or_default();
        for limit in wanted {
            let Some(resource) = crate::enter::resource(limit.typ()) else { continue };
            let failed = |source| UserNamespaceError::Limit { resource, source };
            let (soft, hard) = getrlimit(resource).map_err(failed)?;
            if limit.hard() > hard {
                setrlimit(resource, soft, limit.hard()).map_err(failed)?;
                self.limits.push((resource, soft, hard));
            }
        }
        Ok(())
    }
}
