//! The loop of `init`: one thread, one `poll`, every wait with a deadline.

use std::io;
use std::os::fd::AsFd;

use agent_core::handover::{ExitStatus, InitReply, InitRequest, PowerAction};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::clients::{Arrived, Clients};
use super::console::Console;
use super::descriptors::Descriptors;
use super::exits::{Claim, Exits, Process};
use super::faults::{Fault, Faults};
use super::reaper;
use super::service::{Next, Service};
use super::watchdog::Watchdog;
use crate::uptime;

/// The longest sleep: unclaimed exits expire at this grain.
const LONGEST_TURN_MS: u64 = 10_000;
/// A service held back for another starts at the latest after this time: hardware that never settles must not keep a
/// machine from its master.
const HELD_BACK_MS: u64 = 30_000;
/// The longest status line.
const STATUS_CHARS: usize = 200;

/// Whose the machine is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Owner {
    /// Ours, to the last: it ends when we are told so.
    Us,
    /// Hosted mode ends processes, never the machine.
    SomebodyElse,
}

/// Everything `init` looks after.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) console: Console,
    pub(crate) services: Vec<Service>,
    pub(crate) watchdog: Watchdog,
    /// Only on a machine that is booted to be tested.
    pub(super) faults: Option<Faults>,
    exits: Exits,
    descriptors: Descriptors,
    clients: Clients,
    signals: SignalFd,
    owner: Owner,
    /// Set once; from then on nothing is started again.
    ending: Option<PowerAction>,
    /// (who waits, for whom, until when at the latest)
    held_back: Option<(&'static str, &'static str, u64)>,
    /// The silent agent that was killed last: one that does not die of it is not killed again.
    silenced: Option<Pid>,
}

/// What a descriptor in the poll set stands for.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Client(u64),
    Service(usize),
    Console,
    Keyboard(usize),
    Faults,
}

impl Supervisor {
    pub(crate) fn new(
        console: Console,
        clients: Clients,
        services: Vec<Service>,
        owner: Owner,
    ) -> io::Result<Supervisor> {
        let mut mask = SigSet::empty();
        for signal in [
            Signal::SIGCHLD,
            Signal::SIGINT,
            Signal::SIGTERM,
            Signal::SIGPWR,
            Signal::SIGHUP,
            Signal::SIGUSR1,
            Signal::SIGUSR2,
        ] {
            mask.add(signal);
        }
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&mask), None)?;
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Supervisor {
            console,
            services,
            watchdog: Watchdog::default(),
            faults: None,
            exits: Exits::default(),
            descriptors: Descriptors::default(),
            clients,
            signals,
            owner,
            ending: None,
            held_back: None,
            silenced: None,
        })
    }

    /// Starts every service now, but `waiting` only when `for_whom` has said that it is ready.
    pub(crate) fn start(&mut self, order: Option<(&'static str, &'static str)>) {
        let now = uptime::millis();
        for service in &mut self.services {
            let held = order.is_some_and(|(waiting, _)| waiting == service.name());
            service.schedule(if held { now + HELD_BACK_MS } else { now });
        }
        self.held_back = order.map(|(waiting, for_whom)| (waiting, for_whom, now + HELD_BACK_MS));
    }

    /// Works until the machine shall end.
    pub(crate) fn run(&mut self) -> PowerAction {
        // Once everything runs, most of the code that started it is not needed again.
        let started =
            |this: &Supervisor| this.services.iter().all(|service| service.pid().is_some()) || this.ending.is_some();
        self.work_until(uptime::millis() + 2 * HELD_BACK_MS, started);
        if let Err(error) = agent_sys::memory::forget_code_pages() {
            self.console.say(format!("memory of the start is kept: {error}"));
        }
        loop {
            if let Some(action) = self.ending {
                return action;
            }
            self.turn(LONGEST_TURN_MS);
        }
    }

    /// Whether the agent has made every exit durable that it has asked for.
    pub(super) fn exits_are_taken(&self) -> bool {
        !self.exits.awaits_acknowledgement()
    }

    /// Works until `done` or the deadline; true when done.
    pub(crate) fn work_until(&mut self, deadline_ms: u64, done: impl Fn(&Supervisor) -> bool) -> bool {
        // A short grain: what is waited for here may make no event.
        const GRAIN_MS: u64 = 20;
        while !done(self) {
            let left = deadline_ms.saturating_sub(uptime::millis());
            if left == 0 {
                return false;
            }
            self.turn(left.min(GRAIN_MS));
        }
        true
    }

    /// Waits for something to do, at most so long, and does it.
    fn turn(&mut self, longest_ms: u64) {
        for source in self.wait(longest_ms) {
            match source {
                Source::Signals => self.read_signals(),
                Source::Listener => self.clients.accept(uptime::millis()),
                Source::Client(id) => {
                    for call in self.clients.read(id) {
                        self.answer(call);
                    }
                }
                Source::Service(index) => {
                    if let Some(service) = self.services.get_mut(index) {
                        service.drain(&mut self.console);
                    }
                }
                Source::Console => self.console.flush(),
                Source::Keyboard(at) => self.console.typed(at),
                Source::Faults => self.obey_faults(),
            }
        }
        self.reap();
        let now = uptime::millis();
        if self.ending.is_none() {
            for service in &mut self.services {
                service.start_if_due(now, &mut self.console);
            }
        }
        if let Some((waiting, for_whom, until)) = self.held_back
            && now >= until
        {
            self.held_back = None;
            self.console
                .say(format!("{for_whom} is not ready after {} s: started {waiting} without it", HELD_BACK_MS / 1000));
        }
        self.exits.expire(now);
        self.clients.expire(now);
        self.watchdog.feed(now, &mut self.console);
        self.end_a_silent_agent(now);
        self.clients.flush(&self.exits);
    }

    fn wait(&self, longest_ms: u64) -> Vec<Source> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut set = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.clients.listener().as_fd(), PollFlags::POLLIN),
        ];
        for (id, socket, waiting) in self.clients.sockets(&self.exits) {
            let write = if waiting { PollFlags::POLLOUT } else { PollFlags::empty() };
            sources.push(Source::Client(id));
            set.push(PollFd::new(socket.as_fd(), PollFlags::POLLIN | write));
        }
        for (index, service) in self.services.iter().enumerate() {
            sources.push(Source::Service(index));
            set.push(PollFd::new(service.as_fd(), PollFlags::POLLIN));
        }
        for screen in self.console.waiting() {
            sources.push(Source::Console);
            set.push(PollFd::new(screen, PollFlags::POLLOUT));
        }
        for (at, keyboard) in self.console.keyboards() {
            sources.push(Source::Keyboard(at));
            set.push(PollFd::new(keyboard, PollFlags::POLLIN));
        }
        if let Some(faults) = &self.faults {
            sources.push(Source::Faults);
            set.push(PollFd::new(faults.as_fd(), PollFlags::POLLIN));
        }
        let timeout = PollTimeout::try_from(self.sleep_ms(longest_ms)).unwrap_or(PollTimeout::ZERO);
        match poll(&mut set, timeout) {
            Ok(_) => {}
            // Nothing is lost: everything is looked at again in the next turn.
            Err(_) => return Vec::new(),
        }
        let ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
        sources.into_iter().zip(&set).filter(|(_, fd)| ready(fd)).map(|(source, _)| source).collect()
    }

    fn sleep_ms(&self, longest_ms: u64) -> u64 {
        let starts = self.services.iter().filter_map(Service::due_ms).filter(|_| self.ending.is_none()).min();
        let deadlines = [starts, self.clients.due_ms(), self.watchdog.due_ms()];
        let now = uptime::millis();
        deadlines.into_iter().flatten().map(|due| due.saturating_sub(now)).min().unwrap_or(longest_ms).min(longest_ms)
    }

    fn read_signals(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let Ok(number) = i32::try_from(info.ssi_signo) else {
                continue;
            };
            let action = match Signal::try_from(number) {
                Ok(Signal::SIGINT) => PowerAction::Reboot, // Ctrl-Alt-Del at a machine of ours
                Ok(Signal::SIGTERM | Signal::SIGPWR) => PowerAction::PowerOff,
                // SIGCHLD has done its work by waking us; the others mean nothing here.
                _ => continue,
            };
            self.end(action);
        }
    }

    /// An agent that hangs is started again before the watchdog takes the whole machine. Its tasks go on.
    fn end_a_silent_agent(&mut self, now: u64) {
        if let Some(faults) = &self.faults {
            let hang = |service: &&Service| faults.hanging.iter().any(|name| name == service.name());
            self.services.iter().filter(hang).for_each(|service| service.signal(Signal::SIGSTOP));
        }
        let patience = self.watchdog.patience_ms() / 2;
        let silent = self.watchdog.silence_ms(now).is_some_and(|silence| silence >= patience);
        if !silent || self.ending.is_some() || self.owner == Owner::SomebodyElse {
            return;
        }
        let agent = self.services.iter().find(|service| service.name() == "agent" && service.runs_for(now) >= patience);
        if let Some(agent) = agent.filter(|agent| agent.pid().is_some() && agent.pid() != self.silenced) {
            self.silenced = agent.pid();
            self.console.say(format!("the agent has given no sign of life for {} s: killed", patience / 1000));
            agent.signal(Signal::SIGKILL);
        }
    }

    fn obey_faults(&mut self) {
        let Some(faults) = &mut self.faults else {
            return;
        };
        for fault in faults.read() {
            for service in &self.services {
                let pid = service.pid().map_or(0, Pid::as_raw);
                match &fault {
                    Fault::Pids => faults.answer(service.name(), pid),
                    Fault::Kill(name) if name == service.name() => {
                        service.signal(Signal::SIGKILL);
                        faults.answer(name, pid);
                    }
                    Fault::Hang(name) if name == service.name() => {
                        service.signal(Signal::SIGSTOP);
                        faults.hanging.push(name.clone());
                        faults.answer(name, pid);
                    }
                    Fault::Panic => {
                        let _ = std::fs::write("/proc/sysrq-trigger", "c");
                    }
                    Fault::Kill(_) | Fault::Hang(_) => {}
                }
            }
        }
    }

    fn end(&mut self, action: PowerAction) {
        // The first word stands.
        self.ending.get_or_insert(action);
    }

    fn reap(&mut self) {
        for (pid, status) in reaper::ended_children() {
            let next = if self.ending.is_none() { Next::Restart } else { Next::Stop };
            let service = self.services.iter_mut().find(|service| service.pid().map(Pid::as_raw) == Some(pid));
            match service {
                Some(service) => service.ended(&reaper::describe(status), next, &mut self.console),
                None => self.keep(pid, status),
            }
        }
    }

    fn keep(&mut self, pid: i32, status: ExitStatus) {
        let before = self.exits.dropped();
        self.exits.record(pid, status, uptime::millis());
        if before == 0 && self.exits.dropped() > 0 {
            self.console.say("too many exit statuses are waiting for the agent: the oldest are being lost");
        }
    }

    fn answer(&mut self, mut arrived: Arrived) {
        let descriptors = std::mem::take(&mut arrived.descriptors);
        let failed = |reason: String| InitReply::Failed { reason };
        let done = |result: Result<(), super::descriptors::DescriptorError>| match result {
            Ok(()) => InitReply::Done,
            Err(error) => InitReply::Failed { reason: crate::logging::chain(&error) },
        };
        let mut rides = None;
        let reply = match arrived.call.request.clone() {
            InitRequest::Claim { pid } => match self.exits.claim(pid, look_for(pid)) {
                Claim::Noted | Claim::Kept => InitReply::Done,
                Claim::Unknown => failed(format!("there is no process {pid} and no exit status of it is kept")),
            },
            InitRequest::WatchExits => {
                self.clients.watch(arrived.client);
                InitReply::Done
            }
            InitRequest::AcknowledgeExit { sequence } => match self.exits.acknowledge(sequence) {
                true => InitReply::Done,
                false => failed(format!("no exit status with sequence {sequence} is kept")),
            },
            InitRequest::StoreDescriptor { name } => done(self.descriptors.store(name, descriptors)),
            InitRequest::FetchDescriptor { name } => match self.descriptors.fetch(&name) {
                Ok(descriptor) => {
                    rides = Some(descriptor);
                    InitReply::Done
                }
                Err(error) => failed(crate::logging::chain(&error)),
            },
            InitRequest::DropDescriptor { name } => done(self.descriptors.remove(&name)),
            InitRequest::ListDescriptors => InitReply::Descriptors(self.descriptors.names()),
            InitRequest::Alive => {
                self.watchdog.alive(uptime::millis(), &mut self.console);
                InitReply::Done
            }
            InitRequest::Status { line } => {
                self.console.say(line.chars().take(STATUS_CHARS).collect::<String>());
                InitReply::Done
            }
            InitRequest::Page { lines } => {
                if self.owner == Owner::Us {
                    self.console.show_page(lines);
                }
                InitReply::Done
            }
            InitRequest::Ready => {
                self.ready(arrived.pid);
                InitReply::Done
            }
            InitRequest::Power(_) if self.owner == Owner::SomebodyElse => {
                failed("in hosted mode the machine belongs to somebody else".to_owned())
            }
            InitRequest::Power(action) => {
                self.end(action);
                InitReply::Done
            }
            InitRequest::Describe => self.describe(),
        };
        self.clients.reply(&arrived, reply, rides);
    }

    /// A service has finished starting: who waits for it may start.
    fn ready(&mut self, pid: i32) {
        let Some((waiting, for_whom, _)) = self.held_back else {
            return;
        };
        let is_it = |service: &Service| service.name() == for_whom && service.pid().map(Pid::as_raw) == Some(pid);
        if self.services.iter().any(is_it) {
            self.held_back = None;
            let now = uptime::millis();
            self.services
                .iter_mut()
                .filter(|service| service.name() == waiting)
                .for_each(|service| service.schedule(now));
        }
    }

    fn describe(&self) -> InitReply {
        let service =
            |service: &Service| (service.name().to_owned(), service.pid().map_or(0, Pid::as_raw), service.restarts());
        InitReply::Description {
            services: self.services.iter().map(service).collect(),
            uptime_secs: uptime::millis() / 1000,
            kept_exits: self.exits.len(),
        }
    }
}

fn look_for(pid: i32) -> Process {
    match pid > 0 && kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH) {
        true => Process::Exists,
        false => Process::Gone,
    }
}
