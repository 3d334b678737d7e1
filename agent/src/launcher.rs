//! The only process that makes containers.
//!
//! libcontainer clones its caller and then runs ordinary code in the clone, which hangs when another thread holds a
//! lock; and it alters the process it runs in. So it lives here, in one thread, and answers one call at a time. State
//! is in files below the run directory, so this process may end at any moment: what was half made is removed at the
//! next start.

mod causes;
mod container_cgroup;
mod executable;
mod filter;
mod first_process;
mod host_root;
mod image_root;
mod loopback;
mod oci;
mod plain;
pub(crate) mod plain_task;
mod stage;
pub(crate) mod user_namespace;
pub(crate) mod volumes;

use std::os::fd::AsFd;
use std::process::ExitCode;

use agent_core::handover::{ContainerState, Hello, LauncherReply, LauncherRequest, MAX_PACKET, Welcome};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tracing::{error, info, warn};

use crate::init::welcome;
use crate::logging::chain;
use crate::run_dir::{self, RunDir};
use crate::seqpacket::{Connection, Listener, SeqpacketError};

/// Connections at a time; the agent has one. More wait until one ends.
const MAX_CLIENTS: usize = 8;
/// The longest container id, so that it fits a file name with something added.
const MAX_ID: usize = 200;

/// Why a call failed, with its causes.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A way of running containers.
trait Runtime {
    /// Removes what an earlier launcher has left half made.
    fn recover(&mut self);
    /// Makes a container whose process waits; returns the process.
    fn create(&mut self, container: &str, bundle: &str, stdout: &str, stderr: &str) -> Result<i32, Failure>;
    /// Lets the process go.
    fn start(&mut self, container: &str) -> Result<(), Failure>;
    /// Signals the process.
    fn kill(&mut self, container: &str, signal: i32) -> Result<(), Failure>;
    /// Kills everything in the container.
    fn kill_all(&mut self, container: &str) -> Result<(), Failure>;
    /// Removes the container; one that does not exist is removed.
    fn delete(&mut self, container: &str) -> Result<(), Failure>;
    /// Every container.
    fn list(&mut self) -> Result<Vec<ContainerState>, Failure>;
}

/// Why the launcher ends; `init` starts it again.
#[derive(Debug, thiserror::Error)]
enum LauncherError {
    #[error("cannot prepare for containers")]
    Prepare(#[source] Failure),
    #[error("cannot serve")]
    Serve(#[source] SeqpacketError),
    #[error("cannot wait for calls")]
    Wait(#[source] Errno),
}

/// Answers calls for ever. There may be two launchers, each with containers of its own.
pub(crate) fn run(number: usize) -> ExitCode {
    let _ = nix::sys::prctl::set_name(c"mesolith-launch");
    let causes = causes::start();
    match serve(causes, number) {
        Ok(never) => match never {},
        Err(error) => {
            error!(error = %chain(&error), "launcher ended");
            ExitCode::FAILURE
        }
    }
}

fn serve(causes: causes::Causes, number: usize) -> Result<std::convert::Infallible, LauncherError> {
    let run = RunDir::from_environment();
    let mut runtime: Box<dyn Runtime> = if run_dir::without_isolation() {
        Box::new(plain::PlainRuntime::open(&run.containers(), number).map_err(LauncherError::Prepare)?)
    } else {
        if let Some(path) = run_dir::host_root() {
            host_root::show(&path).map_err(|error| LauncherError::Prepare(error.into()))?;
        }
        let task_cgroup = run_dir::task_cgroup();
        let runtime = oci::OciRuntime::open(&run.containers(), &task_cgroup, causes, number);
        Box::new(runtime.map_err(LauncherError::Prepare)?)
    };
    runtime.recover();
    let listener = Listener::bind(&run.launcher_socket(number)).map_err(LauncherError::Serve)?;
    info!("launcher ready");
    let mut clients: Vec<Client> = Vec::new();
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let ready = wait(&listener, &clients)?;
        // A client that closes during its own call loses the reply; the call is finished all the same, and the next
        // agent finds the container by `List`.
        let mut turn = ready.clients.into_iter();
        clients.retain_mut(|client| match turn.next() {
            Some(true) => client.serve(runtime.as_mut(), &mut buffer),
            Some(false) | None => true,
        });
        if ready.listener {
            match listener.accept() {
                Ok(connection) => clients.push(Client { connection, greeted: false }),
                Err(error) if error.would_block() => {}
                Err(error) => warn!(error = %chain(&error), "connection refused"),
            }
        }
    }
}

struct Ready {
    listener: bool,
    clients: Vec<bool>,
}

fn wait(listener: &Listener, clients: &[Client]) -> Result<Ready, LauncherError> {
    let mut set: Vec<PollFd<'_>> =
        clients.iter().map(|client| PollFd::new(client.connection.as_fd(), PollFlags::POLLIN)).collect();
    let accepts = clients.len() < MAX_CLIENTS;
    if accepts {
        set.push(PollFd::new(listener.as_fd(), PollFlags::POLLIN));
    }
    match poll(&mut set, PollTimeout::NONE) {
        Ok(_) => {}
        Err(Errno::EINTR) => return Ok(Ready { listener: false, clients: vec![false; clients.len()] }),
        Err(errno) => return Err(LauncherError::Wait(errno)),
    }
    let mut ready: Vec<bool> = set.iter().map(|fd| fd.any().unwrap_or(true)).collect();
    let listener = if accepts { ready.pop().unwrap_or(false) } else { false };
    Ok(Ready { listener, clients: ready })
}

struct Client {
    connection: Connection,
    greeted: bool,
}

impl Client {
    /// Answers one packet. False when the connection ends.
    fn serve(&mut self, runtime: &mut dyn Runtime, buffer: &mut [u8]) -> bool {
        match self.answer(runtime, buffer) {
            Ok(goes_on) => goes_on,
            Err(error) if error.would_block() => true,
            Err(error) => {
                warn!(error = %chain(&error), "connection ended");
                false
            }
        }
    }

    fn answer(&mut self, runtime: &mut dyn Runtime, buffer: &mut [u8]) -> Result<bool, SeqpacketError> {
        if !self.greeted {
            let Some((hello, _)) = self.connection.receive::<Hello>(buffer)? else {
                return Ok(false);
            };
            let welcome = welcome(&hello);
            self.connection.send(&welcome)?;
            self.greeted = true;
            return Ok(matches!(welcome, Welcome::Ready { .. }));
        }
        let Some((request, _)) = self.connection.receive::<LauncherRequest>(buffer)? else {
            return Ok(false);
        };
        let reply = perform(runtime, &request);
        match self.connection.send(&reply) {
            Err(error @ SeqpacketError::DoesNotFit(_)) => {
                self.connection.send(&LauncherReply::Failed { reason: error.to_string() })?;
            }
            sent => sent?,
        }
        Ok(true)
    }
}

fn perform(runtime: &mut dyn Runtime, request: &LauncherRequest) -> LauncherReply {
    let done = |result: Result<(), Failure>| result.map(|()| LauncherReply::Done);
    let valid = |container: &str| check_id(container);
    let result = match request {
        LauncherRequest::Create { container, bundle, stdout, stderr } => valid(container)
            .and_then(|()| runtime.create(container, bundle, stdout, stderr))
            .map(|pid| LauncherReply::Created { pid }),
        LauncherRequest::Start { container } => done(valid(container).and_then(|()| runtime.start(container))),
        LauncherRequest::Kill { container, signal } => {
            done(valid(container).and_then(|()| runtime.kill(container, *signal)))
        }
        LauncherRequest::KillAll { container } => done(valid(container).and_then(|()| runtime.kill_all(container))),
        LauncherRequest::Delete { container } => done(valid(container).and_then(|()| runtime.delete(container))),
        LauncherRequest::List => runtime.list().map(LauncherReply::Containers),
    };
    result.unwrap_or_else(|error| {
        let reason = chain(error.as_ref());
        warn!(error = %reason, ?request, "call failed");
        LauncherReply::Failed { reason }
    })
}

/// Ids become names of directories, so only what libcontainer accepts, too, is one.
fn check_id(container: &str) -> Result<(), Failure> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "_+-.".contains(character);
    let valid = !container.is_empty() && container.len() <= MAX_ID && container.chars().all(allowed);
    if !valid || container.starts_with('.') {
        return Err(format!(
            "`{}` is no container id: 1 to {MAX_ID} letters, digits, `_`, `+`, `-` or `.`, no leading dot",
            container.escape_debug().take(MAX_ID).collect::<String>()
        )
        .into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_directory() {
        for good in ["a", "web.42_x+y-z", "00000000-0000-4000-8000-000000000000"] {
            check_id(good).unwrap();
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "../x", "a b", "ä", &"x".repeat(MAX_ID + 1), "a\0"] {
            assert!(check_id(bad).is_err(), "{bad:?}");
        }
    }
}
