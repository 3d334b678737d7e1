//! What the kernel has of links, addresses and routes, and how it changes by the steps we ask for.
//!
//! The model refuses what the kernel refuses: the planner foresees with it what its steps lead to, and tests apply plans
//! to it. What real kernels say is tried by booted nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use api::network::{Bond, BondMode, Card, HashPolicy, LacpRate, Prefix};

/// Everything, by the names of links.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Kernel {
    /// Cards, bonds, VLANs; whatever else there is, is not ours.
    pub links: BTreeMap<String, Seen>,
}

/// One link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Seen {
    /// The kernel's number.
    pub index: u32,
    /// What it is.
    pub kind: Kind,
    /// Its address now; a bond's cards have the bond's.
    pub mac: [u8; 6],
    /// Switched on.
    pub up: bool,
    /// Something is at the other end.
    pub carrier: bool,
    /// The largest packet.
    pub mtu: u32,
    /// The bond it is a port of.
    pub bond: Option<String>,
    /// Its addresses.
    pub addresses: BTreeMap<Prefix, Owner>,
    /// Routes that we made.
    pub routes: BTreeSet<Route>,
}

/// What a link is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Hardware.
    Card(Card),
    /// Several cards.
    Bond(BondOptions),
    /// A part of another link.
    Vlan {
        /// Of which.
        of: String,
        /// Its number.
        id: u16,
    },
}

/// What can be set of a bond.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BondOptions {
    /// How its cards work together. Never changes while it exists.
    pub mode: BondMode,
    /// How often LACP speaks. Changes only while the bond is down.
    pub lacp_rate: LacpRate,
    /// By what a packet's card is chosen.
    pub hash: HashPolicy,
    /// How often carriers are looked at.
    pub miimon_ms: u32,
    /// Fewer cards than this are none.
    pub min_links: u32,
}

impl From<&Bond> for BondOptions {
    fn from(bond: &Bond) -> Self {
        let Bond { mode, lacp_rate, hash, miimon_ms, min_links, ports: _ } = bond;
        let options =
            Self { mode: *mode, lacp_rate: *lacp_rate, hash: *hash, miimon_ms: *miimon_ms, min_links: *min_links };
        options.normal()
    }
}

impl BondOptions {
    /// What has no meaning without LACP is as the kernel has it there.
    #[must_use]
    pub const fn normal(self) -> Self {
        match self.mode {
            BondMode::Lacp => self,
            BondMode::ActiveBackup => {
                Self { lacp_rate: LacpRate::Slow, hash: HashPolicy::Layer2, min_links: 0, ..self }
            }
        }
    }
}

/// Whose an address is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owner {
    /// We give it and take it.
    Node,
    /// The kernel made it, of a router's prefix or for the link itself.
    Kernel,
}

/// One of our routes.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Route {
    /// Where to.
    pub to: Prefix,
    /// Through whom.
    pub via: Option<IpAddr>,
    /// The least is taken.
    pub metric: u32,
}

/// One thing to ask of the kernel. Displayed as people would write it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs)] // the fields of the steps are what they are called
pub enum Step {
    /// A new bond, down, without ports.
    CreateBond { link: String, options: BondOptions },
    /// A new VLAN, down.
    CreateVlan { link: String, of: String, id: u16 },
    /// A bond or a VLAN goes; a bond's VLANs with it.
    Delete { link: String },
    /// Other options of a bond.
    SetBond { link: String, options: BondOptions },
    /// On.
    Up { link: String },
    /// Off.
    Down { link: String },
    /// A card that is down becomes a port, and is up then.
    Enslave { link: String, bond: String },
    /// A port becomes a card of its own.
    Release { link: String },
    /// The largest packet.
    SetMtu { link: String, mtu: u32 },
    /// An address more.
    AddAddress { link: String, address: Prefix },
    /// An address less.
    RemoveAddress { link: String, address: Prefix },
    /// A route more.
    AddRoute { link: String, route: Route },
    /// A route less.
    RemoveRoute { link: String, route: Route },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateBond { link, options } => write!(f, "make bond {link} ({})", options.mode.name()),
            Self::CreateVlan { link, of, id } => write!(f, "make {link}, VLAN {id} of {of}"),
            Self::Delete { link } => write!(f, "remove {link}"),
            Self::SetBond { link, .. } => write!(f, "set the options of {link}"),
            Self::Up { link } => write!(f, "bring {link} up"),
            Self::Down { link } => write!(f, "take {link} down"),
            Self::Enslave { link, bond } => write!(f, "make {link} a port of {bond}"),
            Self::Release { link } => write!(f, "release {link} from its bond"),
            Self::SetMtu { link, mtu } => write!(f, "set the MTU of {link} to {mtu}"),
            Self::AddAddress { link, address } => write!(f, "add {address} to {link}"),
            Self::RemoveAddress { link, address } => write!(f, "remove {address} from {link}"),
            Self::AddRoute { link, route } => write!(f, "add the route to {} on {link}", route.to),
            Self::RemoveRoute { link, route } => write!(f, "remove the route to {} on {link}", route.to),
        }
    }
}

/// Why the kernel would not.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// ENODEV.
    #[error("there is no such link")]
    NoLink,
    /// EEXIST.
    #[error("it exists")]
    Exists,
    /// EOPNOTSUPP.
    #[error("not of this kind of link")]
    WrongKind,
    /// EBUSY, EPERM.
    #[error("the link is up")]
    IsUp,
    /// ENETDOWN.
    #[error("the link is down")]
    IsDown,
    /// EINVAL.
    #[error("not so large")]
    TooLarge,
    /// ENOENT, ESRCH, EADDRNOTAVAIL.
    #[error("there is no such thing")]
    NothingThere,
}

impl Kernel {
    fn get(&mut self, link: &str) -> Result<&mut Seen, Refusal> {
        self.links.get_mut(link).ok_or(Refusal::NoLink)
    }

    fn create(&mut self, link: &str, kind: Kind, mac: [u8; 6], mtu: u32) -> Result<(), Refusal> {
        if self.links.contains_key(link) {
            return Err(Refusal::Exists);
        }
        let index = self.links.values().map(|seen| seen.index).max().unwrap_or(1) + 1;
        let seen = Seen {
            index,
            kind,
            mac,
            up: false,
            carrier: false,
            mtu,
            bond: None,
            addresses: BTreeMap::new(),
            routes: BTreeSet::new(),
        };
        self.links.insert(link.to_owned(), seen);
        Ok(())
    }

    /// The names of a link's VLANs.
    pub(super) fn vlans_of(&self, link: &str) -> Vec<String> {
        let is = |seen: &Seen| matches!(&seen.kind, Kind::Vlan { of, .. } if of == link);
        self.links.iter().filter(|(_, seen)| is(seen)).map(|(name, _)| name.clone()).collect()
    }

    /// The names of a bond's ports.
    #[must_use]
    pub fn ports_of(&self, bond: &str) -> Vec<String> {
        let is = |seen: &Seen| seen.bond.as_deref() == Some(bond);
        self.links.iter().filter(|(_, seen)| is(seen)).map(|(name, _)| name.clone()).collect()
    }

    /// Does what the kernel does.
    ///
    /// # Errors
    /// What the kernel would say.
    pub fn apply(&mut self, step: &Step) -> Result<(), Refusal> {
        match step {
            Step::CreateBond { link, options } => self.create(link, Kind::Bond(*options), [0; 6], 1500),
            Step::CreateVlan { link, of, id } => {
                let parent = self.get(of)?;
                let (mac, mtu) = (parent.mac, parent.mtu);
                if matches!(parent.kind, Kind::Vlan { .. }) {
                    return Err(Refusal::WrongKind);
                }
                self.create(link, Kind::Vlan { of: of.clone(), id: *id }, mac, mtu)
            }
            Step::Delete { link } => {
                if matches!(self.get(link)?.kind, Kind::Card(_)) {
                    return Err(Refusal::WrongKind);
                }
                for vlan in self.vlans_of(link) {
                    self.links.remove(&vlan);
                }
                for port in self.ports_of(link) {
                    let port = self.get(&port)?;
                    (port.bond, port.up) = (None, false);
                }
                self.links.remove(link);
                Ok(())
            }
            Step::SetBond { link, options } => {
                let seen = self.get(link)?;
                let Kind::Bond(old) = &mut seen.kind else { return Err(Refusal::WrongKind) };
                if old.mode != options.mode || old.lacp_rate != options.lacp_rate && seen.up {
                    return Err(Refusal::IsUp);
                }
                *old = *options;
                Ok(())
            }
            Step::Up { link } => {
                if let Kind::Vlan { of, .. } = &self.get(link)?.kind {
                    let of = of.clone();
                    if !self.get(&of)?.up {
                        return Err(Refusal::IsDown);
                    }
                }
                self.get(link)?.up = true;
                Ok(())
            }
            Step::Down { link } => {
                self.down(link)?;
                for vlan in self.vlans_of(link) {
                    self.down(&vlan)?;
                }
                Ok(())
            }
            Step::Enslave { link, bond } => {
                let master = self.get(bond)?;
                let (mtu, mac) = (master.mtu, master.mac);
                if !matches!(master.kind, Kind::Bond(_)) {
                    return Err(Refusal::WrongKind);
                }
                let port = self.get(link)?;
                if !matches!(port.kind, Kind::Card(_)) || port.bond.is_some() {
                    return Err(Refusal::WrongKind);
                }
                if port.up {
                    return Err(Refusal::IsUp);
                }
                let own = port.mac;
                (port.bond, port.up, port.mtu) = (Some(bond.clone()), true, mtu);
                if mac == [0; 6] {
                    self.get(bond)?.mac = own;
                } else {
                    port.mac = mac;
                }
                Ok(())
            }
            Step::Release { link } => {
                let port = self.get(link)?;
                if port.bond.take().is_none() {
                    return Err(Refusal::NothingThere);
                }
                port.up = false;
                port.routes.clear();
                Ok(())
            }
            Step::SetMtu { link, mtu } => self.set_mtu(link, *mtu),
            Step::AddAddress { link, address } => {
                let seen = self.get(link)?;
                if seen.addresses.contains_key(address) {
                    return Err(Refusal::Exists);
                }
                seen.addresses.insert(*address, Owner::Node);
                Ok(())
            }
            Step::RemoveAddress { link, address } => {
                let seen = self.get(link)?;
                seen.addresses.remove(address).map(drop).ok_or(Refusal::NothingThere)
            }
            Step::AddRoute { link, route } => {
                let seen = self.get(link)?;
                if !seen.up {
                    return Err(Refusal::IsDown);
                }
                if seen.routes.insert(*route) { Ok(()) } else { Err(Refusal::Exists) }
            }
            Step::RemoveRoute { link, route } => {
                if self.get(link)?.routes.remove(route) {
                    Ok(())
                } else {
                    Err(Refusal::NothingThere)
                }
            }
        }
    }

    fn down(&mut self, link: &str) -> Result<(), Refusal> {
        let seen = self.get(link)?;
        seen.up = false;
        seen.routes.clear();
        // IPv6 addresses go with the link, IPv4 ones stay.
        seen.addresses.retain(|address, _| address.address.is_ipv4());
        Ok(())
    }

    fn set_mtu(&mut self, link: &str, mtu: u32) -> Result<(), Refusal> {
        if let Kind::Vlan { of, .. } = &self.get(link)?.kind {
            let of = of.clone();
            if self.get(&of)?.mtu < mtu {
                return Err(Refusal::TooLarge);
            }
        }
        self.get(link)?.mtu = mtu;
        for port in self.ports_of(link) {
            self.get(&port)?.mtu = mtu;
        }
        for vlan in self.vlans_of(link) {
            let vlan = self.get(&vlan)?;
            vlan.mtu = vlan.mtu.min(mtu);
        }
        Ok(())
    }
}
