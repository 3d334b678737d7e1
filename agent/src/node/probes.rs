//! Looks at tasks for their checks: runs a program beside them, asks them over HTTP, or connects to them.

mod http;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use agent_core::agent::Input;
use agent_core::checks::{Probe, Seen, Target};
use agent_core::handover::ExitStatus;
use agent_core::record::Process;
use api::ContainerId;
use nix::sched::{CloneFlags, setns};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use http::Page;

use super::beside::{self, Isolation, Program, Streams};
use super::events::{Event, Events};
use crate::logging::chain;

/// What the kernel gives up after by itself is longer; a probe without a limit has this one for its connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);

/// One look at one task.
#[derive(Debug)]
pub(crate) struct Look {
    pub(crate) container: ContainerId,
    /// The task's first process.
    pub(crate) process: Process,
    /// The task's `config.json`.
    pub(crate) config: PathBuf,
    pub(crate) isolation: Isolation,
    pub(crate) probe: Probe,
}

/// Looks, and tells the core. There is one look at a time for each check, so their number is bounded by the tasks.
pub(crate) fn start(look: Look, events: Events) {
    tokio::spawn(async move {
        let (container, kind, number) = (look.container.clone(), look.probe.kind, look.probe.number);
        let seen = match look.probe.timeout_ms {
            Some(millis) => {
                let timed = tokio::time::timeout(Duration::from_millis(millis), look.see()).await;
                timed.unwrap_or_else(|_| Seen::Failed(format!("it has not ended after {millis} ms")))
            }
            None => look.see().await,
        };
        // The driver ends only with the process.
        let _ = events.send(Event::Core(Input::Probed { container, kind, number, seen })).await;
    });
}

impl Look {
    async fn see(&self) -> Seen {
        let own = loopback(&self.probe.target);
        match &self.probe.target {
            Target::Command { arguments, environment } => self.run(arguments.clone(), environment.clone()).await,
            Target::Tcp { port, .. } => match self.connect(SocketAddr::new(own, *port)).await {
                Ok(_) => Seen::Connected,
                Err(error) => Seen::Refused(error.to_string()),
            },
            Target::Http { tls, port, path, .. } => {
                self.ask(Page { tls: *tls, at: SocketAddr::new(own, *port), path: path.clone() }).await
            }
        }
    }

    async fn run(&self, arguments: Vec<String>, environment: Vec<(String, String)>) -> Seen {
        let program = Program {
            beside: self.process,
            config: self.config.clone(),
            isolation: self.isolation,
            arguments,
            environment,
            streams: Streams::Nowhere,
        };
        let started = match beside::start(program).await {
            Ok(started) => started,
            Err(error) => return Seen::Failed(chain(&error)),
        };
        let mut child = Killed { pid: Some(started.pid) };
        let ended = started.ended.await;
        child.pid = None;
        match ended {
            Ok(ExitStatus::Code(code)) => Seen::Exit(code),
            Ok(ExitStatus::Signal(signal)) => Seen::Exit(128 + signal),
            Err(_) => Seen::Failed("nobody waited for it".to_owned()),
        }
    }

    /// A connection in the task's network.
    async fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        if self.isolation == Isolation::None || beside::shares(self.process.pid, "net")? {
            return TcpStream::connect(to).await;
        }
        let target = agent_sys::pidfd::open(self.process.pid)?;
        if super::cgroup::start_ticks(self.process.pid) != Some(self.process.start_ticks) {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let patience = self.probe.timeout_ms.map_or(CONNECT_WITHIN, Duration::from_millis);
        let (tell, told) = oneshot::channel();
        // A thread of its own: it can be in another network than the rest, and does not come back.
        std::thread::Builder::new().name("probe".to_owned()).stack_size(128 * 1024).spawn(move || {
            let connected = setns(&target, CloneFlags::CLONE_NEWNET)
                .map_err(io::Error::from)
                .and_then(|()| std::net::TcpStream::connect_timeout(&to, patience));
            let _ = tell.send(connected);
        })?;
        let stream = told.await.map_err(io::Error::other)??;
        stream.set_nonblocking(true)?;
        TcpStream::from_std(stream)
    }
}

/// The task's own address, as its check wants it.
const fn loopback(target: &Target) -> IpAddr {
    match target {
        Target::Http { v6: true, .. } | Target::Tcp { v6: true, .. } => IpAddr::V6(Ipv6Addr::LOCALHOST),
        Target::Http { v6: false, .. } | Target::Tcp { v6: false, .. } | Target::Command { .. } => {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        }
    }
}

/// A program that ends with the look it is for.
struct Killed {
    pid: Option<i32>,
}

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(pid) = self.pid {
            beside::kill(pid);
        }
    }
}
