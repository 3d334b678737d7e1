//! Brings the network up: every wired link, DHCPv4 on each that has a carrier, the first lease wins.

mod dhcp_link;
mod lldp_link;
mod netlink;
mod resolver;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use agent_core::attributes::Surroundings;
use agent_core::dhcp::{Event as DhcpEvent, Lease};
use agent_core::lldp::{Change, Neighbours};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::events::{Event, Events, Online};
use super::settings::Settings;
use super::{clock, timekeeping};
use crate::logging::chain;
use crate::uptime;
use dhcp_link::Heard;
use lldp_link::{Card, Frame, Words};
use netlink::{LinkState, Netlink, NetlinkError, Rank};

/// Lease events of all links that wait for the coordinator; clients wait when it is full.
const HEARD: usize = 64;
/// LLDP frames of all links that wait; links wait when it is full, and their sockets drop what comes then.
const FRAMES: usize = 64;
/// How often the clock is compared with its source again.
const CLOCK_AGAIN: Duration = Duration::from_secs(3600);

/// One link we look after.
struct Port {
    name: String,
    client: Option<JoinHandle<()>>,
    lldp: Option<JoinHandle<()>>,
    lease: Option<Box<Lease>>,
}

struct Network {
    settings: Settings,
    netlink: Netlink,
    events: Events,
    ports: BTreeMap<u32, Port>,
    /// The link whose lease names servers and the default route first.
    primary: Option<u32>,
    heard: mpsc::Sender<Heard>,
    neighbours: Neighbours,
    frames: mpsc::Sender<Frame>,
    words: watch::Sender<Words>,
    /// What the driver knows.
    told: Surroundings,
    synchronised: bool,
    /// For who keeps the clock right.
    time_servers: watch::Sender<Vec<String>>,
}

/// Runs for ever. The console learns each stage through `status`.
pub(crate) async fn run(settings: Settings, events: Events, status: mpsc::Sender<String>) {
    let result = start(settings, events, status.clone()).await;
    if let Err(error) = result {
        tracing::error!(error = %chain(&error), "the network cannot be looked after");
        let _ = status.send(format!("no network: {}", chain(&error))).await;
    }
}

async fn start(settings: Settings, events: Events, status: mpsc::Sender<String>) -> Result<(), NetlinkError> {
    let (netlink, mut changes) = Netlink::open()?;
    netlink.loopback_up().await?;
    let (heard, mut hear) = mpsc::channel(HEARD);
    let (frames, mut incoming) = mpsc::channel(FRAMES);
    let (words, _) = watch::channel(Words { name: settings.config.name.clone(), address: None });
    let (time_servers, servers) = watch::channel(Vec::new());
    tokio::spawn(timekeeping::run(servers));
    let mut network = Network {
        settings,
        netlink,
        events,
        ports: BTreeMap::new(),
        primary: None,
        heard,
        neighbours: Neighbours::default(),
        frames,
        words,
        told: Surroundings::default(),
        synchronised: false,
        time_servers,
    };
    for link in network.netlink.links().await? {
        network.link(link, &status).await;
    }
    if network.ports.is_empty() {
        let _ = status.send("no network card yet: waiting for one".to_owned()).await;
    }
    let mut clock = tokio::time::interval(CLOCK_AGAIN);
    clock.reset();
    loop {
        tokio::select! {
            link = changes.recv() => match link {
                Some(link) => network.link(link, &status).await,
                None => return Err(NetlinkError::Closed),
            },
            heard = hear.recv() => match heard {
                Some(heard) => network.heard(heard, &status).await,
                None => return Err(NetlinkError::Closed),
            },
            frame = incoming.recv() => match frame {
                Some(frame) => network.frame(&frame),
                None => return Err(NetlinkError::Closed),
            },
            () = tokio::time::sleep(network.until_a_neighbour_is_forgotten()) => {
                network.neighbours.handle_timeout(uptime::millis());
            }
            _ = clock.tick() => { network.synchronise().await; }
        }
        network.tell_surroundings().await;
    }
}

impl Network {
    /// A link appeared or changed.
    async fn link(&mut self, link: LinkState, status: &mpsc::Sender<String>) {
        if !link.is_wired {
            return;
        }
        let index = link.index;
        if link.gone {
            if let Some(port) = self.ports.get_mut(&index) {
                for task in [port.client.take(), port.lldp.take()].into_iter().flatten() {
                    task.abort();
                }
            }
            self.neighbours.link_lost(index);
            self.lost(index).await;
            self.ports.remove(&index);
            return;
        }
        if !self.ports.contains_key(&index) {
            tracing::info!(link = %link.name, mac = %link.mac_text(), "network card found");
            if let Err(error) = self.netlink.up(index).await {
                tracing::warn!(link = %link.name, error = %chain(&error), "a link cannot be brought up");
            }
            self.ports.insert(index, Port { name: link.name.clone(), client: None, lldp: None, lease: None });
        }
        let Some(port) = self.ports.get_mut(&index) else { return };
        match (link.carrier, port.client.take()) {
            (true, None) => {
                tracing::info!(link = %link.name, "carrier is there, asking for an address");
                let hostname = self.settings.config.name.clone();
                let client = dhcp_link::run(index, link.name.clone(), link.mac, hostname, self.heard.clone());
                port.client = Some(tokio::spawn(client));
                let card = Card { index, name: link.name.clone(), mac: link.mac };
                port.lldp = Some(tokio::spawn(lldp_link::run(card, self.words.subscribe(), self.frames.clone())));
                let _ = self.events.send(Event::HardwareChanged).await;
            }
            (false, Some(client)) => {
                // Another cable may come: what was leased on this one is not ours there.
                client.abort();
                if let Some(lldp) = port.lldp.take() {
                    lldp.abort();
                }
                self.neighbours.link_lost(index);
                let _ = self.events.send(Event::HardwareChanged).await;
                let _ = status.send(format!("{} has lost its carrier", link.name)).await;
                self.lost(index).await;
            }
            (_, client) => port.client = client,
        }
    }

    /// A switch, or whoever is at the other end, says who it is.
    fn frame(&mut self, Frame { index, bytes }: &Frame) {
        // A frame of a link that has just gone.
        let Some(port) = self.ports.get(index).filter(|port| port.lldp.is_some()) else { return };
        match self.neighbours.hear((*index, &port.name), bytes, uptime::millis()) {
            Ok(Change::Changed) => tracing::info!(link = %port.name, "another neighbour on a link"),
            Ok(Change::None) => {}
            Err(error) => tracing::debug!(link = %port.name, %error, "a frame says nothing"),
        }
    }

    fn until_a_neighbour_is_forgotten(&self) -> Duration {
        Duration::from_millis(self.neighbours.poll_timeout().saturating_sub(uptime::millis())).min(CLOCK_AGAIN)
    }

    /// Tells the driver what it does not know, and every link what to say of us.
    async fn tell_surroundings(&mut self) {
        let port = self.primary.and_then(|index| self.ports.get(&index));
        let lease = port.and_then(|port| port.lease.as_ref());
        let address = lease.map(|lease| IpAddr::from(lease.address));
        let surroundings = Surroundings {
            primary: port.map(|port| port.name.clone()),
            address,
            neighbours: self.neighbours.all(),
            location: lease.and_then(|lease| lease.location.clone()),
            place: lease.and_then(|lease| lease.place.clone()),
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

    /// A client's news.
    async fn heard(&mut self, Heard { index, event }: Heard, status: &mpsc::Sender<String>) {
        match event {
            DhcpEvent::Bound(lease) => self.bound(index, lease, status).await,
            DhcpEvent::Extended(_) => {}
            DhcpEvent::Lost => {
                if let Some(port) = self.ports.get(&index) {
                    let _ = status.send(format!("{} has lost its address", port.name)).await;
                }
                self.lost(index).await;
            }
        }
    }

    async fn bound(&mut self, index: u32, lease: Box<Lease>, status: &mpsc::Sender<String>) {
        let Some(port) = self.ports.get_mut(&index) else { return };
        let old = port.lease.replace(lease.clone());
        let name = port.name.clone();
        if let Some(old) = old.filter(|old| old.address != lease.address || old.prefix_len != lease.prefix_len)
            && let Err(error) = self.netlink.remove_address(index, old.address, old.prefix_len).await
        {
            tracing::warn!(link = %name, error = %chain(&error), "an old address stays");
        }
        let primary = *self.primary.get_or_insert(index);
        let rank = if primary == index { Rank::Primary } else { Rank::Other };
        if let Err(error) = self.netlink.configure(index, &lease, rank).await {
            tracing::error!(link = %name, error = %chain(&error), "a lease cannot be applied");
            let _ = status.send(format!("{name}: the lease cannot be applied: {}", chain(&error))).await;
            return;
        }
        let router = lease.routers.first().map_or_else(|| "no router".to_owned(), |router| format!("router {router}"));
        let line = format!("{name} has address {}/{} from {}, {router}", lease.address, lease.prefix_len, lease.server);
        let _ = status.send(line).await;
        if primary == index {
            self.announce(index, status).await;
        }
    }

    /// The primary link's lease counts for the whole node.
    async fn announce(&mut self, index: u32, status: &mpsc::Sender<String>) {
        let Some(lease) = self.ports.get(&index).and_then(|port| port.lease.clone()) else { return };
        if let Err(error) = resolver::write(&lease, self.settings.config.name.as_deref()) {
            tracing::warn!(%error, "name resolution is not set up");
        }
        if !self.synchronised {
            let source = self.synchronise().await;
            self.synchronised = true;
            let source = source.unwrap_or_else(|| "nobody".to_owned());
            let _ = status.send(format!("clock: {} (from {source})", clock::now_text())).await;
        }
        // First, so that the registration has it.
        self.tell_surroundings().await;
        let online = Online { address: Some(lease.address), domain: lease.domain.clone() };
        let _ = self.events.send(Event::Online(online)).await;
    }

    async fn synchronise(&self) -> Option<String> {
        let lease = self.primary.and_then(|index| self.ports.get(&index)?.lease.as_ref());
        let mut ntp = self.settings.config.ntp.clone();
        ntp.extend(lease.iter().flat_map(|lease| lease.ntp.iter().map(ToString::to_string)));
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

    /// A link has no address any more; another one that has may take over.
    async fn lost(&mut self, index: u32) {
        if let Some(lease) = self.ports.get_mut(&index).and_then(|port| port.lease.take())
            && let Err(error) = self.netlink.remove_address(index, lease.address, lease.prefix_len).await
        {
            tracing::debug!(error = %chain(&error), "an address was gone already");
        }
        if self.primary != Some(index) {
            return;
        }
        self.primary = self.ports.iter().find(|(_, port)| port.lease.is_some()).map(|(index, _)| *index);
        if let Some(lease) = self.primary.and_then(|index| self.ports.get(&index)?.lease.clone()) {
            let online = Online { address: Some(lease.address), domain: lease.domain.clone() };
            let _ = self.events.send(Event::Online(online)).await;
        }
    }
}
