//! Who asks on which link: DHCP where it is wanted and there is a carrier, LLDP on every card.

use std::collections::BTreeMap;

use agent_core::cmdline::Lldp;
use agent_core::dhcp6::{Duid, Wish};
use agent_core::network::{Advertisement, Kernel, Kind, Seen, Wanted, WantedLink};
use api::network::{Ipv4Method, Ipv6Method};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::dhcp_link::{self, Heard};
use super::dhcp6_link::{self, Asking, Heard6};
use super::is_card;
use super::lldp_link::{self, Card, Frame, Words};

/// All tasks of all links.
pub(super) struct Clients {
    links: BTreeMap<String, Link>,
    heard: mpsc::Sender<Heard>,
    heard6: mpsc::Sender<Heard6>,
    frames: mpsc::Sender<Frame>,
    words: watch::Receiver<Words>,
}

/// Tasks of one link.
#[derive(Debug)]
struct Link {
    index: u32,
    mac: [u8; 6],
    four: Option<AbortHandle>,
    six: Option<(Wish, AbortHandle)>,
    lldp: Option<AbortHandle>,
}

impl Drop for Link {
    fn drop(&mut self) {
        let six = self.six.take().map(|(_, task)| task);
        for task in [self.four.take(), six, self.lldp.take()].into_iter().flatten() {
            task.abort();
        }
    }
}

impl Clients {
    pub(super) fn new(
        heard: mpsc::Sender<Heard>,
        heard6: mpsc::Sender<Heard6>,
        frames: mpsc::Sender<Frame>,
        words: watch::Receiver<Words>,
    ) -> Self {
        Self { links: BTreeMap::new(), heard, heard6, frames, words }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = String> + use<> {
        self.links.keys().cloned().collect::<Vec<_>>().into_iter()
    }

    /// The same link, with its carrier.
    pub(super) fn is_wanted(&self, name: &str, kernel: &Kernel) -> bool {
        let seen = kernel.links.get(name);
        let same = |link: &Link, seen: &Seen| link.index == seen.index && seen.carrier && seen.up;
        self.links.get(name).zip(seen).is_some_and(|(link, seen)| same(link, seen))
    }

    /// Ends what a link does; gives its number.
    pub(super) fn stop(&mut self, name: &str) -> Option<u32> {
        self.links.remove(name).map(|link| link.index)
    }

    /// Is what was heard of a client that runs?
    pub(super) fn asks(&self, name: &str) -> bool {
        self.links.get(name).is_some_and(|link| link.four.is_some())
    }

    /// The same for DHCPv6.
    pub(super) fn asks6(&self, name: &str) -> bool {
        self.links.get(name).is_some_and(|link| link.six.is_some())
    }

    /// Starts and ends what is to be. Gives the links that came.
    pub(super) fn follow(
        &mut self,
        kernel: &Kernel,
        wanted: &Wanted,
        routers: &BTreeMap<u32, Advertisement>,
        hostname: Option<&str>,
        lldp: Lldp,
    ) -> Vec<String> {
        // One for the whole machine: of its first card.
        let cards = kernel.links.values().filter(|seen| is_card(&seen.kind));
        let first = cards.filter_map(permanent).min();
        let mut came = Vec::new();
        for (name, seen) in &kernel.links {
            let Some(shall) = wanted.links.get(name).filter(|_| seen.carrier && seen.up) else { continue };
            let mac = if is_card(&seen.kind) { permanent(seen).unwrap_or(seen.mac) } else { seen.mac };
            if !self.links.contains_key(name) {
                came.push(name.clone());
                self.links
                    .insert(name.clone(), Link { index: seen.index, mac: seen.mac, four: None, six: None, lldp: None });
            }
            let heard = self.heard.clone();
            let Some(link) = self.links.get_mut(name) else { continue };
            if link.mac != seen.mac {
                // A bond took the address of its first card after it came.
                link.mac = seen.mac;
                if let Some(task) = link.four.take() {
                    task.abort();
                }
            }
            let asks = shall.bond.is_none() && shall.methods.ipv4 == Ipv4Method::Dhcp;
            match (asks, &link.four) {
                (true, None) => {
                    let client = dhcp_link::run(name.clone(), seen.mac, hostname.map(str::to_owned), heard);
                    link.four = Some(tokio::spawn(client).abort_handle());
                }
                (false, Some(task)) => {
                    task.abort();
                    link.four = None;
                }
                (true, Some(_)) | (false, None) => {}
            }
            let wish = wish(shall, routers.get(&seen.index));
            if link.six.as_ref().map(|(wish, _)| *wish) != wish {
                if let Some((_, task)) = link.six.take() {
                    task.abort();
                }
                if let Some(wish) = wish {
                    let asking = Asking {
                        link: name.clone(),
                        index: seen.index,
                        duid: Duid::of_mac(first.unwrap_or(mac)),
                        iaid: u32::from_be_bytes([mac[2], mac[3], mac[4], mac[5]]) ^ vlan(&seen.kind),
                        wish,
                    };
                    let client = dhcp6_link::run(asking, self.heard6.clone());
                    link.six = Some((wish, tokio::spawn(client).abort_handle()));
                }
            }
            if is_card(&seen.kind) && link.lldp.is_none() && lldp != Lldp::Off {
                let card = Card { index: seen.index, name: name.clone(), mac, lldp };
                let task = lldp_link::run(card, self.words.clone(), self.frames.clone());
                link.lldp = Some(tokio::spawn(task).abort_handle());
            }
        }
        came
    }
}

/// What to ask of DHCPv6: what is wanted in any case, or what routers say.
fn wish(shall: &WantedLink, router: Option<&Advertisement>) -> Option<Wish> {
    if shall.bond.is_some() {
        return None;
    }
    match (shall.methods.ipv6, router) {
        (Ipv6Method::Dhcp, _) => Some(Wish::Addresses),
        (Ipv6Method::Auto, Some(router)) if router.managed => Some(Wish::Addresses),
        (Ipv6Method::Auto, Some(router)) if router.other => Some(Wish::Information),
        (Ipv6Method::Auto | Ipv6Method::Slaac | Ipv6Method::Off, _) => None,
    }
}

/// VLANs have their link's address: their number tells them apart.
const fn vlan(kind: &Kind) -> u32 {
    match kind {
        Kind::Vlan { id, .. } => (*id as u32) << 16,
        Kind::Card(_) | Kind::Bond(_) => 0,
    }
}

/// A card's own address, also while it has its bond's.
fn permanent(seen: &Seen) -> Option<[u8; 6]> {
    let Kind::Card(card) = &seen.kind else { return None };
    let mut mac = [0; 6];
    let mut parts = card.mac.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(mac)
}
