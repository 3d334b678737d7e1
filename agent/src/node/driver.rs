//! The one task that owns the agent's state: it hears, asks the core, and does.

mod at_the_door;
mod disks;
mod joining;
mod master_said;
mod new_network;
mod outlook;
mod standing_by;
pub(crate) mod watching;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::agent::{Input, executors};
use agent_core::attributes::Surroundings;
use agent_core::debounce::Debounce;
use agent_core::handover::InitRequest;
use agent_core::registration::{self, Action, Credential, Registration};
use agent_core::standby::Standby;
use api::link::{FromAgent, from_agent};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use super::authorities::Authorities;
use super::capacity::{Detected, Told};
use super::checkpoint::{Checkpoint, CheckpointError, Kept};
use super::crash_reports::{self, CrashReports};
use super::door::Door;
use super::door::access::Inquiries;
use super::events::{Event, Events, Online, Session};
use super::identity::{Identity, IdentityError};
use super::init_client::{GreetingError, InitClient};
use super::settings::Settings;
use super::statistics::Seen;
use super::supervision::{Supervision, SupervisionError};
use super::{capacity, door, exec, garbage, hotplug, log_cap, network, volumes};
use crate::logging::chain;
use crate::uptime;
use joining::new_edition;
use outlook::Outlook;
use standing_by::Waiting;

/// Events that wait for the driver; whoever has more waits.
const EVENTS: usize = 1024;
/// Lines for the console that wait.
const STATUS_LINES: usize = 64;
/// How often `init` is told that we make progress.
const ALIVE: Duration = Duration::from_secs(5);
/// How long the driver sleeps at most.
const LONGEST_SLEEP_MS: u64 = 60_000;
/// How often the age of our certificate is looked at, and a renewal that failed is tried again.
const RENEWAL: Duration = Duration::from_secs(3600);
/// Where executors find the agent of a node: Mesos's port, on the loopback.
const EXECUTOR_PORT: u16 = 5051;

/// Why the process ends; `init` starts it again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DriverError {
    #[error("cannot reach init")]
    Init(#[from] GreetingError),
    #[error("init is gone")]
    InitGone,
    #[error("the work directory is on a disk from now on: starting anew there")]
    PoolAdopted,
    #[error("cannot read the checkpoint")]
    Checkpoint(#[from] CheckpointError),
    #[error("cannot look after tasks")]
    Supervision(#[from] SupervisionError),
    #[error("cannot read the node's identity")]
    Identity(#[from] IdentityError),
    #[error("cannot listen to executors")]
    Executors(#[source] std::io::Error),
    #[error("a thread ended unexpectedly")]
    Thread(#[from] tokio::task::JoinError),
}

struct Driver {
    settings: Settings,
    supervision: Supervision,
    init: InitClient,
    checkpoint: Checkpoint,
    kept: Kept,
    identity: Option<Identity>,
    registration: Option<Registration>,
    /// Why the last try failed: said on the console once, not every half minute.
    last_reason: String,
    online: Option<Online>,
    session: Option<Session>,
    /// The open session's number, so that the words of a closed one are not taken for its.
    generation: u64,
    /// How many there were.
    sessions: u64,
    /// With the master that is to lead next.
    standby: Standby,
    waiting: Option<Waiting>,
    /// Names what the master was told of the machine last.
    edition: u64,
    link: Option<JoinHandle<()>>,
    readers: BTreeMap<u64, AbortHandle>,
    /// Programs people run beside tasks.
    execs: exec::Sessions,
    /// Questions about those who speak to this node itself.
    inquiries: Inquiries,
    /// When this process began, since 1970.
    started_ms: u64,
    /// Where a certificate is asked for: the master of the last session.
    master: String,
    /// The last renewal of the certificate.
    renewal: Option<JoinHandle<()>>,
    /// The last removal of old sandboxes.
    collector: Option<JoinHandle<()>>,
    /// The last look at what tasks take.
    watching: Option<JoinHandle<()>>,
    /// Looks at the disks.
    passes: disks::Passes,
    /// What it found.
    seen: BTreeMap<api::ContainerId, Seen>,
    /// What the network knows of our place.
    surroundings: Surroundings,
    /// To who looks after the network; a host's is not ours.
    network: Option<mpsc::Sender<network::Word>>,
    /// When to look at the machine again.
    look: Debounce,
    /// A look under way, and whether something happened since it began.
    looking: Option<Looking>,
    /// What the master knows of the machine, as far as this session told it.
    told: Option<Told>,
    events: Events,
    /// Says what memory we hold, once after the first registration.
    memory_report: Option<mpsc::Sender<String>>,
    /// Of boots before this one, until a master has them.
    crashes: CrashReports,
    /// Who vouches for masters.
    authorities: Authorities,
    /// Another authority issues: the certificate is renewed however long it is good.
    renew_anyway: bool,
    /// What the consoles show.
    outlook: Outlook,
}

/// A look at the machine that has not ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Looking {
    /// What it finds is what there is.
    Fresh,
    /// Something happened since: it looks again afterwards.
    Stale,
}

/// Runs the node until `init` is gone or something indispensable fails.
pub(crate) async fn run(settings: Settings) -> Result<Infallible, DriverError> {
    let (events, mut inbox) = mpsc::channel(EVENTS);
    let (status, mut lines) = mpsc::channel(STATUS_LINES);
    let mut init = InitClient::connect(&settings.run.init_socket(), events.clone())?;
    let settings = {
        // Reads disks, and may mount some.
        let start = move || {
            super::disks::at_start(&settings);
            settings
        };
        tokio::task::spawn_blocking(start).await?
    };
    let checkpoint = Checkpoint::new(&settings.state);
    checkpoint.settle(&settings.boot_id)?;
    let mut kept = checkpoint.load()?;
    if settings.hosted && kept.machine.is_none() {
        kept.machine = Some(uuid::Uuid::new_v4().to_string());
        checkpoint.keep(&kept)?;
    }
    let ca_sha256 = settings.config.ca_sha256.expect("the settings are refused without a CA");
    let identity = Identity::load(&settings.state, ca_sha256)?;
    let authorities = Authorities::load(&settings.state, &settings.config.authorities);
    for key in &settings.config.unknown {
        tracing::debug!(key, "a command line key is not for the agent");
    }

    // Tasks first: they must be looked after with or without a network.
    let mut site = settings.site.clone();
    site.agent = kept.agent.clone().unwrap_or_default();
    site.hostname = node_name(&settings, identity.as_ref());
    let (listener, port) = listen_to_executors(&settings, &checkpoint, &mut kept).await?;
    site.executor_endpoint = Some(format!("127.0.0.1:{port}"));
    let supervision = {
        let (settings, events) = (settings.clone(), events.clone());
        let seed = *uuid::Uuid::new_v4().as_bytes();
        // The launcher may be waited for.
        tokio::task::spawn_blocking(move || Supervision::recover(&settings, site, seed, &events)).await??
    };
    init.call(InitRequest::WatchExits);
    init.say(&format!("agent started, {} tasks", supervision.agent.running()));

    let mut network_words = None;
    if settings.hosted {
        let online = Online { address: None, domain: None };
        let _ = events.send(Event::Online(online)).await;
    } else {
        let (words, driver_said) = mpsc::channel(network::WORDS);
        network_words = Some(words);
        tokio::spawn(network::run(settings.clone(), events.clone(), status.clone(), driver_said));
    }
    let opening = if settings.config.agent_api.is_some() { door::Opening::Everybody } else { door::Opening::Executors };
    tokio::spawn(door::serve(listener, Door::new(events.clone(), opening)));
    tokio::spawn(hotplug::run(events.clone()));
    let mut driver = Driver {
        settings,
        supervision,
        init,
        checkpoint,
        kept,
        identity,
        registration: None,
        last_reason: String::new(),
        online: None,
        session: None,
        generation: 0,
        sessions: 0,
        standby: Standby::new(*uuid::Uuid::new_v4().as_bytes()),
        waiting: None,
        edition: 0,
        link: None,
        readers: BTreeMap::new(),
        execs: exec::Sessions::default(),
        inquiries: Inquiries::default(),
        started_ms: super::supervision::now().unix_ms,
        master: String::new(),
        renewal: None,
        collector: None,
        watching: None,
        passes: disks::Passes::default(),
        seen: BTreeMap::new(),
        surroundings: Surroundings::default(),
        network: network_words,
        look: Debounce::default(),
        looking: None,
        told: None,
        events,
        memory_report: Some(status),
        crashes: CrashReports::default(),
        authorities,
        renew_anyway: false,
        outlook: Outlook::of_machine(),
    };
    let mut alive = tokio::time::interval(ALIVE);
    tokio::spawn(keep_logs_short(driver.settings.work_dir.clone(), driver.events.clone()));
    let mut garbage = tokio::time::interval(garbage::EVERY);
    let mut renewal = tokio::time::interval(RENEWAL);
    let mut watch = tokio::time::interval(watching::EVERY);
    let mut crashes = tokio::time::interval(crash_reports::AGAIN);
    loop {
        driver.supervision.perform(&mut driver.init, driver.session.as_ref());
        driver.poll_registration();
        driver.poll_standby();
        driver.look_again();
        driver.show_page();
        let sleep = driver.sleep();
        tokio::select! {
            event = inbox.recv() => match event {
                Some(event) => driver.hear(event)?,
                None => return Err(DriverError::InitGone),
            },
            Some(line) = lines.recv() => driver.init.say(&line),
            _ = alive.tick() => driver.init.call(InitRequest::Alive),
            _ = garbage.tick() => driver.collect_garbage(),
            _ = renewal.tick() => driver.renew_certificate(),
            _ = watch.tick() => {
                driver.watch();
                driver.look_at_disks();
            }
            _ = crashes.tick() => driver.report_crashes(),
            () = tokio::time::sleep(sleep) => driver.supervision.input(Input::Tick),
        }
    }
}

/// A node has Mesos's port. A host may have several agents: each keeps the one it found free, for its executors.
async fn listen_to_executors(
    settings: &Settings,
    checkpoint: &Checkpoint,
    kept: &mut Kept,
) -> Result<(TcpListener, u16), DriverError> {
    // Behind a port that was asked for by number there is nothing to give way to.
    let asked = settings.config.agent_api;
    let usual = if settings.hosted { kept.executor_port } else { Some(EXECUTOR_PORT) };
    let wanted = asked.or(usual);
    let reach = if asked.is_some() { door::Opening::Everybody } else { door::Opening::Executors };
    let bound = match door::bind(wanted, reach).await {
        Err(error) if settings.hosted && asked.is_none() => {
            tracing::warn!(?wanted, %error, "executors that run already cannot find this agent: its port is taken");
            door::bind(None, reach).await
        }
        bound => bound,
    };
    let (listener, address) = bound.map_err(DriverError::Executors)?;
    if settings.hosted && kept.executor_port != Some(address.port()) {
        kept.executor_port = Some(address.port());
        checkpoint.keep(kept)?;
    }
    Ok((listener, address.port()))
}

/// Tasks that write without end are told nothing; what they wrote first goes.
async fn keep_logs_short(work_dir: PathBuf, events: Events) {
    let mut wait = log_cap::EVERY;
    loop {
        tokio::time::sleep(wait).await;
        let (reply, sandboxes) = oneshot::channel();
        if events.send(Event::LiveSandboxes(reply)).await.is_err() {
            return;
        }
        let Ok(sandboxes) = sandboxes.await else { return };
        let work_dir = work_dir.clone();
        wait =
            tokio::task::spawn_blocking(move || log_cap::look(&work_dir, &sandboxes)).await.unwrap_or(log_cap::EVERY);
    }
}

/// What this node is called: by the operator, by the master, by the host.
fn node_name(settings: &Settings, identity: Option<&Identity>) -> String {
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    settings
        .config
        .name
        .clone()
        .or_else(|| identity.map(|identity| identity.node_name.clone()))
        .or_else(host)
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "node".to_owned())
}

impl Driver {
    fn sleep(&self) -> Duration {
        let registration = self.registration.as_ref().map(Registration::poll_timeout);
        let look = self.wants_look().then(|| self.look.poll_timeout());
        let standby = self.may_stand_by().then(|| self.standby.poll_timeout());
        let due = [self.supervision.deadline_ms(), registration, standby, look]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(u64::MAX);
        Duration::from_millis(due.saturating_sub(uptime::millis()).min(LONGEST_SLEEP_MS))
    }

    fn hear(&mut self, event: Event) -> Result<(), DriverError> {
        match event {
            Event::Core(input) => self.supervision.input(input),
            Event::Online(online) => self.came_online(online),
            Event::Joined(result) => self.joined(result),
            Event::Renewed(result) => self.renewed(result),
            Event::SessionOpened { generation, session } if generation == self.generation => {
                self.session = Some(session);
                self.registration(registration::Event::Connected);
            }
            Event::FromMaster { generation, message } if generation == self.generation => {
                self.master_said(*message)?;
            }
            Event::SessionEnded { generation, reason } if generation == self.generation => {
                self.failed("lost the master", &reason);
                self.end_session();
                let standby = self.standby.is_open();
                let lost = if standby { registration::Event::LostWithStandby } else { registration::Event::Lost };
                self.registration(lost);
            }
            // Of the standby session, or one that was given up.
            Event::SessionOpened { generation, session } => self.standby_opened(generation, session),
            Event::FromMaster { generation, message } => self.standby_said(generation, *message),
            Event::SessionEnded { generation, reason } => self.standby_ended(generation, &reason),
            Event::Surroundings(surroundings) => {
                self.surroundings = *surroundings;
                self.look.nudge(uptime::millis());
            }
            Event::NetworkChanged => self.find_the_master_anew(),
            Event::HardwareChanged => {
                self.look.nudge(uptime::millis());
                self.look_at_disks_now();
            }
            Event::DisksPassed(passed) => self.disks_passed(passed)?,
            Event::Watched(watched) => self.watched(*watched),
            Event::Told(told) => {
                self.supervision.agent.site_mut().gpus.clone_from(&told.gpus);
                self.told = Some(*told);
            }
            Event::Detected(detected) => self.tell_detected(*detected),
            Event::Power(action) => self.init.call(InitRequest::Power(action)),
            Event::IsLive { framework, task, reply } => {
                let live = self.supervision.agent.sandbox(&framework, &task).is_some_and(|(_, live)| live);
                let _ = reply.send(live);
            }
            Event::ExecutorCall(asked) => self.supervision.executor_calls(*asked),
            Event::ExecutorHungUp { container, stream } => {
                self.supervision.input(Input::Executor(executors::Input::HungUp { container, stream }));
            }
            Event::Door(wish) => self.at_the_door(wish),
            Event::KnownAs { hostname } => self.supervision.agent.site_mut().known_as = Some(hostname),
            Event::LiveSandboxes(reply) => {
                let limit = self.settings.config.log_limit_mib;
                let written = self.supervision.agent.live_sandboxes().map(|(sandbox, command)| log_cap::Written {
                    keep: log_cap::kept(command, limit),
                    sandbox: sandbox.into(),
                });
                let _ = reply.send(written.collect());
            }
            Event::InitGone => return Err(DriverError::InitGone),
        }
        Ok(())
    }

    fn came_online(&mut self, online: Online) {
        if self.online.as_ref().is_some_and(|old| *old != online) {
            // The master knows us by the old address.
            self.forget_the_master();
        }
        self.supervision.agent.site_mut().address = online.address.map(|address| address.to_string());
        self.online = Some(online);
        if self.registration.is_none() {
            let has = if self.identity.is_some() { Credential::Certificate } else { Credential::Nothing };
            self.search(self.settings.config.masters.clone(), has);
        }
    }

    /// Begins to look for a master: these first, then those of which a master has told.
    fn search(&mut self, masters: Vec<String>, has: Credential) {
        let seed = *uuid::Uuid::new_v4().as_bytes();
        let mut registration = Registration::new(masters, has, seed, uptime::millis());
        registration.know(&self.kept.masters);
        self.registration = Some(registration);
    }

    fn registration(&mut self, event: registration::Event) {
        if let Some(registration) = &mut self.registration {
            registration.handle(event, uptime::millis());
        }
    }

    fn poll_registration(&mut self) {
        let Some(action) = self.registration.as_mut().and_then(|registration| registration.poll(uptime::millis()))
        else {
            return;
        };
        match action {
            Action::Join { master } => self.start_join(master),
            Action::Connect { master } => self.start_session(master),
            Action::Disconnect => {
                self.failed("lost the master", "it has said nothing for too long");
                self.next_session();
                self.end_session();
            }
        }
    }

    /// A number no session has had.
    const fn next_session(&mut self) -> u64 {
        self.sessions += 1;
        self.generation = self.sessions;
        self.generation
    }

    /// Only a master that took us wants to know what changed; until then it waits.
    fn wants_look(&self) -> bool {
        self.looking.is_none() && self.registration.as_ref().is_some_and(Registration::is_registered)
    }

    /// Looks at the machine again when something happened a moment ago.
    fn look_again(&mut self) {
        if self.looking.is_some() && self.look.poll(uptime::millis()) {
            self.looking = Some(Looking::Stale);
        }
        if !self.wants_look() || !self.look.poll(uptime::millis()) {
            return;
        }
        self.looking = Some(Looking::Fresh);
        let name = self.identity.as_ref().map(|identity| identity.node_name.clone()).unwrap_or_default();
        let (settings, events, hosted) = (self.settings.clone(), self.events.clone(), self.kept.machine.clone());
        let surroundings = self.surroundings.clone();
        tokio::task::spawn_blocking(move || {
            let began = uptime::millis();
            let detected = capacity::detect(&settings, &surroundings, &name, hosted.as_deref());
            tracing::debug!(millis = uptime::millis().saturating_sub(began), "looked at the machine");
            // Gone only when the process ends.
            let _ = events.blocking_send(Event::Detected(Box::new(detected)));
        });
    }

    /// Tells the master what is new. What cannot be sent now is found again by the next look.
    fn tell_detected(&mut self, detected: Detected) {
        self.supervision.agent.site_mut().gpus.clone_from(&detected.gpus);
        if self.looking.take() == Some(Looking::Stale) {
            self.look.nudge(uptime::millis());
        }
        let told = detected.told();
        if !self.registration.as_ref().is_some_and(Registration::is_registered) {
            // Nobody would hear it: the look after the registration finds it again.
            return self.look.nudge(uptime::millis());
        }
        let Some(session) = self.session.as_ref().filter(|_| self.told.as_ref() != Some(&told)) else { return };
        let new_inventory = !self.told.as_ref().is_some_and(|known| known.knows_inventory_of(&told));
        let what = self.told.as_ref().map(|known| known.differences(&told)).unwrap_or_default();
        let mut capacity = detected.capacity;
        if new_inventory {
            capacity.inventory_json = detected.inventory_json;
        }
        capacity.edition = new_edition();
        let edition = capacity.edition;
        let message = FromAgent { message: Some(from_agent::Message::Capacity(capacity)) };
        if session.urgent.try_send(message).is_ok() {
            self.edition = edition;
            tracing::info!(?what, inventory = new_inventory, "the machine changed: the master is told");
            self.told = Some(told);
        } else {
            self.look.nudge(uptime::millis());
        }
    }

    fn end_session(&mut self) {
        self.session = None;
        if let Some(link) = self.link.take() {
            link.abort();
        }
        for (_, reader) in std::mem::take(&mut self.readers) {
            reader.abort();
        }
        self.execs.end();
        self.inquiries.end();
        self.supervision.input(Input::Disconnected);
    }

    /// Says why something failed, once for each reason.
    fn failed(&mut self, what: &str, reason: &str) {
        tracing::debug!(what, reason, "no session");
        if self.last_reason == reason {
            return;
        }
        reason.clone_into(&mut self.last_reason);
        self.init.say(&format!("{what}: {reason}"));
        tracing::warn!(reason, "{what}");
    }

    fn collect_garbage(&mut self) {
        // A large sandbox takes longer to remove than until we look again.
        if self.collector.as_ref().is_some_and(|collector| !collector.is_finished()) {
            return;
        }
        let asked = std::time::SystemTime::now();
        let in_use: BTreeSet<String> = self.supervision.agent.containers().map(ToString::to_string).collect();
        let work_dir = self.settings.work_dir.clone();
        let (store, policy) = (self.supervision.images.store().cloned(), self.settings.config.garbage);
        self.collector = Some(tokio::task::spawn_blocking(move || {
            match store.map(|store| store.collect()) {
                Some(Ok(0)) | None => {}
                Some(Ok(removed)) => tracing::info!(removed, "removed layers of images nobody uses to make room"),
                Some(Err(error)) => tracing::warn!(error = %chain(&error), "unused images cannot be removed"),
            }
            match volumes::collect(&work_dir, asked) {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "removed persistent volumes no master knew"),
                Err(error) => tracing::warn!(%error, "persistent volumes no master knew cannot be removed"),
            }
            let removed = garbage::collect(&work_dir, &in_use, policy, asked);
            if removed > 0 {
                tracing::info!(removed, "removed sandboxes of ended tasks to make room");
            }
        }));
    }
}
