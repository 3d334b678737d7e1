//! Keeps the machine's network as it shall be: what the command line, the master and servers say, resolved and planned by
//! the core ([`agent_core::network`]), asked of the kernel step by step, again whenever something changed.

mod clients;
mod dhcp6_link;
mod dhcp_link;
mod ipv6;
mod lldp_link;
mod names;
mod netlink;
pub(crate) mod report;
mod resolver;
mod routers;
mod stub;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_core::attributes::Surroundings;
use agent_core::cmdline::Dns;
use agent_core::dhcp::Event as DhcpEvent;
use agent_core::dhcp6;
use agent_core::lldp::{Change as Heard, Neighbours};
use agent_core::network::{
    Advertisement, Change, Found, Kept, Kernel, Kind, Layer, Offered, Outcome, Source, Trial, Wanted, plan, primary,
    resolve,
};
use api::network::{Ipv6Method, Prefix};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::events::{Event, Events, Online};
use super::settings::Settings;
use super::{clock, private_file, timekeeping};
use crate::logging::chain;
use crate::uptime;
use clients::Clients;
use lldp_link::{Frame, Words};
use netlink::{Netlink, NetlinkError};
use resolver::Names;

/// News of all links that wait for us; whoever has more waits.
const HEARD: usize = 64;
/// Words of the driver that wait; it tries again what does not fit.
pub(crate) const WORDS: usize = 64;
/// How often the clock is compared with its source again.
const CLOCK_AGAIN: Duration = Duration::from_secs(3600);
/// What changes together is looked at together.
const SETTLE: Duration = Duration::from_millis(30);
/// Everything is looked at again, should a word of the kernel have been lost.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// What the kernel refuses is asked again.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// What the agent before was lent stays so long without a word of DHCP: for how long it was lent is not known.
const INHERITED: Duration = Duration::from_secs(600);

/// What the driver knows and we have to.
#[derive(Clone, Debug)]
pub(crate) enum Word {
    /// The master's rules say this of our network.
    Offered(Offered),
    /// A session with the master is open.
    Found,
}

struct Network {
    settings: Settings,
    netlink: Netlink,
    events: Events,
    status: mpsc::Sender<String>,
    trial: Trial,
    kernel: Kernel,
    wanted: Wanted,
    found: BTreeMap<String, Found>,
    /// Until when what the agent before was lent stays; `None` before the first look.
    inherited_until: Option<u64>,
    routers: BTreeMap<u32, Advertisement>,
    router_socket: Option<Arc<UdpSocket>>,
    clients: Clients,
    /// The link whose way out is taken.
    primary: Option<String>,
    neighbours: Neighbours,
    words: watch::Sender<Words>,
    servers: watch::Sender<Vec<IpAddr>>,
    cached: watch::Receiver<bool>,
    names: Names,
    /// What could not be done, and when it is tried again.
    failures: Vec<String>,
    retry: Duration,
    /// What was told of problems.
    said: Vec<String>,
    /// What the driver knows.
    told: Surroundings,
    online: Option<Online>,
    synchronised: bool,
    /// For who keeps the clock right.
    time_servers: watch::Sender<Vec<String>>,
}

/// Runs for ever. The console learns each stage through `status`.
pub(crate) async fn run(settings: Settings, events: Events, status: mpsc::Sender<String>, words: mpsc::Receiver<Word>) {
    if let Err(error) = start(settings, events, status.clone(), words).await {
        tracing::error!(error = %chain(&error), "the network cannot be looked after");
        let _ = status.send(format!("no network: {}", chain(&error))).await;
    }
}

async fn start(
    settings: Settings,
    events: Events,
    status: mpsc::Sender<String>,
    mut driver: mpsc::Receiver<Word>,
) -> Result<(), NetlinkError> {
    let (netlink, mut changes) = Netlink::open()?;
    netlink.loopback_up().await?;
    if let Err(error) = ipv6::begin() {
        tracing::debug!(%error, "the kernel is not told what to do with routers of new links");
    }
    let (heard4, mut hear4) = mpsc::channel(HEARD);
    let (heard6, mut hear6) = mpsc::channel(HEARD);
    let (frames, mut incoming) = mpsc::channel(HEARD);
    let (said, mut routers) = mpsc::channel(HEARD);
    let (words, _) = watch::channel(Words { name: settings.config.name.clone(), address: None });
    let (time_servers, times) = watch::channel(Vec::new());
    tokio::spawn(timekeeping::run(times));
    let router_socket = routers::open();
    if let Some(socket) = router_socket.clone() {
        tokio::spawn(routers::listen(socket, said));
    }
    let (servers, asked) = watch::channel(Vec::new());
    let (serving, mut cached) = watch::channel(false);
    if settings.config.dns == Dns::Cache {
        tokio::spawn(stub::run(asked, serving.clone()));
    }
    let trial = Trial::new(load(&settings));
    let clients = Clients::new(heard4, heard6, frames, words.subscribe());
    let mut network = Network {
        clients,
        settings,
        netlink,
        events,
        status,
        trial,
        kernel: Kernel::default(),
        wanted: Wanted::default(),
        found: BTreeMap::new(),
        inherited_until: None,
        routers: BTreeMap::new(),
        router_socket,
        primary: None,
        neighbours: Neighbours::default(),
        words,
        servers,
        cached: cached.clone(),
        names: Names::default(),
        failures: Vec::new(),
        retry: FIRST_RETRY,
        said: Vec::new(),
        told: Surroundings::default(),
        online: None,
        synchronised: false,
        time_servers,
    };
    network.reconcile().await;
    if network.kernel.links.is_empty() {
        let _ = network.status.send("no network card yet: waiting for one".to_owned()).await;
    }
    let mut clock = tokio::time::interval(CLOCK_AGAIN);
    clock.reset();
    // Of the last look, not of the last turn: frames and routers that say nothing new do not put it off.
    let mut look_at = network.next_look();
    loop {
        tokio::select! {
            change = changes.recv() => {
                change.ok_or(NetlinkError::Closed)?;
                tokio::time::sleep(SETTLE).await;
                // What came meanwhile is seen by the same look.
                let _ = changes.try_recv();
            }
            Some(heard) = hear4.recv() => network.heard(heard).await,
            Some(heard) = hear6.recv() => network.heard6(heard),
            Some(frame) = incoming.recv() => {
                network.frame(&frame);
                network.tell_surroundings().await;
                continue;
            }
            Some(said) = routers.recv() => {
                let advertisement = network.routers.entry(said.index).or_default();
                if !advertisement.hear(&said.packet, uptime::millis()) {
                    continue;
                }
            }
            Some(word) = driver.recv() => if !network.word(word).await { continue },
            Ok(()) = cached.changed() => {}
            () = tokio::time::sleep(network.until_something_is_over()) => {
                network.neighbours.handle_timeout(uptime::millis());
                for router in network.routers.values_mut() {
                    router.handle_timeout(uptime::millis());
                }
                if let Some(outcome) = network.trial.handle_timeout(uptime::millis()) {
                    network.tried(&outcome).await;
                }
            }
            () = tokio::time::sleep_until(look_at) => {}
            _ = clock.tick() => {
                network.synchronise().await;
                continue;
            }
        }
        network.reconcile().await;
        look_at = network.next_look();
    }
}

fn file(settings: &Settings) -> PathBuf {
    settings.state.join("network.json")
}

/// What was confirmed before. A file that cannot be read is none: the master says everything again.
fn load(settings: &Settings) -> Kept {
    let read = private_file::read(&file(settings)).ok().flatten();
    read.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

impl Network {
    /// Looks at everything and does what there is to do.
    async fn reconcile(&mut self) {
        match self.netlink.read().await {
            Ok(kernel) => self.kernel = kernel,
            Err(error) => return self.failed(vec![chain(&error).to_string()]),
        }
        self.inherit();
        self.forget_what_is_gone().await;
        self.resolve();
        let solicited = self.follow_routers();
        let mut failures = Vec::new();
        let steps = plan(&self.kernel, &self.wanted);
        for step in &steps {
            match self.netlink.perform(&mut self.kernel, step).await {
                Ok(()) => tracing::info!(%step, "network"),
                Err(error) => {
                    tracing::warn!(error = %chain(&error), "a step of the network's configuration failed");
                    failures.push(chain(&error).to_string());
                }
            }
        }
        if !steps.is_empty() {
            // New links have numbers and carriers now.
            if let Ok(kernel) = self.netlink.read().await {
                self.kernel = kernel;
            }
            self.resolve();
            self.follow_routers();
        }
        self.failed(failures);
        let lldp = self.settings.config.lldp;
        let hostname = self.settings.config.name.clone();
        let came = self.clients.follow(&self.kernel, &self.wanted, &self.routers, hostname.as_deref(), lldp);
        for link in &came {
            tracing::info!(%link, "the carrier is there");
            let _ = self.events.send(Event::HardwareChanged).await;
        }
        // The kernel asks when a link comes up, but an agent that starts anew has not heard the answer.
        for link in solicited.iter().chain(came.iter().filter(|link| !solicited.contains(link))) {
            let hears = self.wanted.links.get(link).is_some_and(|link| link.methods.ipv6 != Ipv6Method::Off);
            if !hears {
                continue;
            }
            if let (Some(socket), Some(seen)) = (self.router_socket.clone(), self.kernel.links.get(link)) {
                tokio::spawn(routers::solicit(socket, seen.index));
            }
        }
        self.forget_what_was_not_asked_for();
        self.name_servers();
        self.announce().await;
        self.tell_surroundings().await;
        self.report();
    }

    /// When everything is looked at again.
    fn next_look(&self) -> Instant {
        Instant::now() + if self.failures.is_empty() { LOOK_AGAIN } else { self.retry }
    }

    /// What the agent before was lent stays until DHCP speaks of the link, its carrier goes, or it takes too long.
    fn inherit(&mut self) {
        let now = uptime::millis();
        match self.inherited_until {
            None => {
                let layers = Self::layers(self.settings.config.network.as_ref(), &self.trial);
                let said = resolve(&layers, &self.kernel, &BTreeMap::new(), None);
                self.found.extend(self.kernel.links.iter().filter_map(|(name, seen)| {
                    let left = Found::left_on(seen, said.links.get(name)?)?;
                    Some((name.clone(), left))
                }));
                let longest = u64::try_from(INHERITED.as_millis()).unwrap_or(u64::MAX);
                self.inherited_until = Some(now.saturating_add(longest));
            }
            Some(until) if until <= now => {
                for found in self.found.values_mut() {
                    found.before = None;
                }
            }
            Some(_) => {}
        }
    }

    fn failed(&mut self, failures: Vec<String>) {
        self.retry = if failures.is_empty() || self.failures.is_empty() {
            FIRST_RETRY
        } else {
            (self.retry * 2).min(LONGEST_RETRY)
        };
        self.failures = failures;
    }

    fn layers<'a>(command_line: Option<&'a api::network::Settings>, trial: &'a Trial) -> Vec<Layer<'a>> {
        let typed = command_line.map(|settings| Layer { source: Source::CommandLine, settings });
        typed.into_iter().chain([Layer { source: Source::Master, settings: &trial.in_force().settings }]).collect()
    }

    fn resolve(&mut self) {
        let layers = Self::layers(self.settings.config.network.as_ref(), &self.trial);
        let wanted = resolve(&layers, &self.kernel, &self.found, self.primary.as_deref());
        let first = primary(&self.kernel, &wanted, self.primary.as_deref());
        self.wanted =
            if first == self.primary { wanted } else { resolve(&layers, &self.kernel, &self.found, first.as_deref()) };
        self.primary = first;
    }

    /// Leases of links that lost their carrier: another cable may come, and what was lent on this one is not ours there.
    async fn forget_what_is_gone(&mut self) {
        let gone: Vec<String> =
            self.clients.names().filter(|name| !self.clients.is_wanted(name, &self.kernel)).collect();
        for link in gone {
            if let Some(index) = self.clients.stop(&link) {
                self.neighbours.link_lost(index);
                self.routers.remove(&index);
            }
            if self.found.remove(&link).is_some() {
                let _ = self.status.send(format!("{link} has lost its carrier")).await;
            }
            let _ = self.events.send(Event::HardwareChanged).await;
        }
    }

    /// What was lent for a link that does not ask any more.
    fn forget_what_was_not_asked_for(&mut self) {
        let clients = &self.clients;
        for (link, found) in &mut self.found {
            found.four = found.four.take().filter(|_| clients.asks(link));
            found.before = found.before.take().filter(|_| clients.asks(link));
            found.six = found.six.take().filter(|_| clients.asks6(link));
        }
        self.found.retain(|_, found| *found != Found::default());
    }

    /// Those whose routers are to be asked.
    fn follow_routers(&self) -> Vec<String> {
        let mut ask = Vec::new();
        for (name, link) in &self.wanted.links {
            if !self.kernel.links.contains_key(name) || link.bond.is_some() {
                continue;
            }
            match ipv6::follow(name, link.methods.ipv6) {
                Ok(true) => ask.push(name.clone()),
                Ok(false) => {}
                Err(error) => tracing::debug!(link = %name, %error, "the kernel is not told what to do with routers"),
            }
        }
        ask
    }

    fn name_servers(&mut self) {
        let layers = Self::layers(self.settings.config.network.as_ref(), &self.trial);
        let mut names = names::gather(&layers, &self.kernel, &self.found, &self.routers, self.primary.as_deref());
        names.address = self.address();
        names.cached = *self.cached.borrow();
        self.servers.send_if_modified(|servers| {
            let other = *servers != names.servers;
            servers.clone_from(&names.servers);
            other
        });
        if names != self.names {
            if let Err(error) = resolver::write(&names, self.settings.config.name.as_deref()) {
                tracing::warn!(%error, "name resolution is not set up");
            }
            self.names = names;
        }
    }

    /// Where we can be reached.
    fn address(&self) -> Option<IpAddr> {
        let seen = self.kernel.links.get(self.primary.as_ref()?)?;
        let link = self.wanted.links.get(self.primary.as_ref()?)?;
        // What DHCP has not confirmed is kept for those who use it, and not told: name and time servers come with the lease.
        let before = self.found.get(self.primary.as_ref()?).and_then(|found| found.before.as_ref());
        let confirmed = |address: &&Prefix| before.is_none_or(|before| !before.addresses.contains(*address));
        let there = seen.addresses.keys().filter(confirmed).map(|address| address.address);
        let global = |address: &IpAddr| match address {
            IpAddr::V4(four) => !four.is_link_local(),
            IpAddr::V6(six) => (six.segments()[0] & 0xffc0) != 0xfe80,
        };
        // Ours before what the kernel made of routers' words, which may change by itself.
        let ours = |address: &IpAddr| link.addresses.iter().any(|own| own.address == *address);
        there.filter(global).min_by_key(|address| (address.is_ipv6(), !ours(address)))
    }

    /// The driver learns where we can be reached, once the clock is right enough for certificates.
    async fn announce(&mut self) {
        let Some(address) = self.address() else { return };
        let online = Online { address: Some(address), domain: self.names.domain.clone() };
        if self.online.as_ref() == Some(&online) {
            return;
        }
        let link = self.primary.clone().unwrap_or_default();
        let _ = self.status.send(format!("{link} has address {address}")).await;
        if !self.synchronised {
            let source = self.synchronise().await;
            self.synchronised = true;
            let source = source.unwrap_or_else(|| "nobody".to_owned());
            let _ = self.status.send(format!("clock: {} (from {source})", clock::now_text())).await;
        }
        // First, so that the registration has it.
        self.tell_surroundings().await;
        self.online = Some(online.clone());
        let _ = self.events.send(Event::Online(online)).await;
    }

    async fn synchronise(&self) -> Option<String> {
        let mut ntp = self.settings.config.ntp.clone();
        ntp.extend(names::time_servers(&self.found, self.primary.as_deref()));
        ntp.dedup();
        if self.synchronised && !ntp.is_empty() {
            // It is kept right already.
            return None;
        }
        let source = clock::synchronise(&ntp, self.settings.config.boot_url.as_deref()).await;
        self.time_servers.send_if_modified(|servers| {
            let other = *servers != ntp;
            *servers = ntp;
            other
        });
        source
    }

    /// A DHCP client's news.
    async fn heard(&mut self, heard: dhcp_link::Heard) {
        let dhcp_link::Heard { link, event } = heard;
        if !self.clients.asks(&link) {
            // Of a client that was stopped.
            return;
        }
        match event {
            DhcpEvent::Bound(lease) => {
                let router =
                    lease.routers.first().map_or_else(|| "no router".to_owned(), |router| format!("router {router}"));
                let line = format!(
                    "{link} has address {}/{} from {}, {router}",
                    lease.address, lease.prefix_len, lease.server
                );
                let _ = self.status.send(line).await;
                let found = self.found.entry(link).or_default();
                (found.four, found.before) = (Some(*lease), None);
            }
            DhcpEvent::Extended(_) => {}
            DhcpEvent::Lost => {
                let _ = self.status.send(format!("{link} has lost its address")).await;
                let found = self.found.entry(link).or_default();
                (found.four, found.before) = (None, None);
            }
        }
    }

    fn heard6(&mut self, heard: dhcp6_link::Heard6) {
        let dhcp6_link::Heard6 { link, event } = heard;
        if !self.clients.asks6(&link) {
            return;
        }
        let found = self.found.entry(link.clone()).or_default();
        match event {
            dhcp6::Event::Bound(lease) => {
                let addresses: Vec<String> = lease.addresses.iter().map(|lent| lent.address.to_string()).collect();
                tracing::info!(%link, ?addresses, "DHCPv6 answers");
                found.six = Some(*lease);
            }
            dhcp6::Event::Lost => {
                tracing::warn!(%link, "what DHCPv6 lent is over");
                found.six = None;
            }
        }
    }

    /// A switch, or whoever is at the other end, says who it is.
    fn frame(&mut self, Frame { index, bytes }: &Frame) {
        // A frame of a link that has just gone.
        let Some(name) = self.kernel.links.iter().find(|(_, seen)| seen.index == *index).map(|(name, _)| name) else {
            return;
        };
        match self.neighbours.hear((*index, name), bytes, uptime::millis()) {
            Ok(Heard::Changed) => tracing::info!(link = %name, "another neighbour on a link"),
            Ok(Heard::None) => {}
            Err(error) => tracing::debug!(link = %name, %error, "a frame says nothing"),
        }
    }

    /// Until a neighbour, a router's word or a trial is over.
    fn until_something_is_over(&self) -> Duration {
        let due = self.neighbours.poll_timeout().min(self.trial.poll_timeout());
        Duration::from_millis(due.saturating_sub(uptime::millis())).min(LOOK_AGAIN)
    }

    /// The driver's word. Whether something changes by it.
    async fn word(&mut self, word: Word) -> bool {
        match word {
            Word::Found => match self.trial.found() {
                Some(outcome) => {
                    self.tried(&outcome).await;
                    true
                }
                None => false,
            },
            Word::Offered(offered) => {
                let rule = offered.rule.clone();
                let change = self.trial.offer(offered, uptime::millis());
                tracing::info!(%rule, ?change, "the master says what the network is to be");
                match change {
                    Change::Same | Change::FailedBefore => self.keep(),
                    Change::Taken => {
                        self.keep();
                        self.change().await;
                    }
                    Change::Tried => {
                        let line = format!("trying the network of rule {rule}");
                        let _ = self.status.send(line).await;
                        self.change().await;
                    }
                }
                true
            }
        }
    }

    /// Other settings are in force: the master has to be found anew with them.
    async fn change(&mut self) {
        self.reconcile().await;
        let _ = self.events.send(Event::NetworkChanged).await;
    }

    async fn tried(&mut self, outcome: &Outcome) {
        self.keep();
        match outcome {
            Outcome::Confirmed => {
                let rule = &self.trial.in_force().rule;
                tracing::info!(%rule, "the master was found with the new network: it stays");
                let _ = self.status.send(format!("the network of rule {rule} stays")).await;
            }
            Outcome::Reverted(failed) => {
                let rule = &failed.rule;
                tracing::warn!(%rule, "the master was not found with the new network: back to the one before");
                let _ = self.status.send(format!("no master with the network of rule {rule}: back to before")).await;
                self.change().await;
            }
        }
    }

    fn keep(&self) {
        let written = serde_json::to_vec(self.trial.kept())
            .map_err(std::io::Error::other)
            .and_then(|bytes| private_file::write(&file(&self.settings), &bytes));
        if let Err(error) = written {
            tracing::error!(%error, "what was found out of the network is not kept");
        }
    }

    /// Tells the driver what it does not know, and every link what to say of us.
    async fn tell_surroundings(&mut self) {
        let four = self.primary.as_ref().and_then(|link| self.found.get(link)).and_then(|found| found.four.as_ref());
        let address = self.address();
        let surroundings = Surroundings {
            primary: self.primary.clone(),
            address,
            neighbours: self.neighbours.all(),
            location: four.and_then(|lease| lease.location.clone()),
            place: four.and_then(|lease| lease.place.clone()),
        };
        self.words.send_if_modified(|words| {
            let other = words.address != address;
            words.address = address;
            other
        });
        if surroundings != self.told {
            self.told = surroundings.clone();
            let _ = self.events.send(Event::Surroundings(Box::new(surroundings))).await;
        }
    }

    fn report(&mut self) {
        if self.wanted.problems != self.said {
            for problem in &self.wanted.problems {
                tracing::warn!(%problem, "the network cannot be as it was asked for");
            }
            self.said.clone_from(&self.wanted.problems);
        }
        report::tell(&report::Told {
            command_line: self.settings.config.network.as_ref(),
            trial: &self.trial,
            kernel: &self.kernel,
            wanted: &self.wanted,
            primary: self.primary.as_deref(),
            names: &self.names,
            failures: &self.failures,
        });
    }
}

/// A card, of those there are.
fn is_card(kind: &Kind) -> bool {
    matches!(kind, Kind::Card(_))
}
