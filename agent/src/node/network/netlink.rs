//! Links, addresses and routes through rtnetlink: reads what the kernel has, does one step at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use agent_core::network::{BondOptions, Kernel, Kind, Owner, Route, Seen, Step};
use api::network::{BondMode, Card, HashPolicy, LacpRate, Prefix};
use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage, AddressProtocol, AddressScope};
use netlink_packet_route::link::{
    BondLacpRate, BondMode as WireMode, BondXmitHashPolicy, InfoBond, InfoData, InfoKind, InfoVlan, LinkAttribute,
    LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{
    Handle, LinkBond, LinkMessageBuilder, LinkUnspec, LinkVlan, MulticastGroup, RouteMessageBuilder,
    new_multicast_connection,
};
use tokio::sync::mpsc;

/// Loopback's index, the same on every Linux.
const LOOPBACK: u32 = 1;
/// Our mark on IPv6 addresses, beside those the kernel makes of what routers say (IFA_PROTO).
const OURS: u8 = 77;

/// The kernel would not.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetlinkError {
    #[error("cannot open a netlink socket")]
    Open(#[source] std::io::Error),
    #[error("the kernel refuses to {what}")]
    Refused { what: String, source: rtnetlink::Error },
    #[error("there is no link {0}")]
    NoLink(String),
    #[error("netlink ended")]
    Closed,
}

pub(super) struct Netlink(Handle);

impl Netlink {
    /// A handle, and a word whenever something changed: one that waits stands for all that follow.
    pub(super) fn open() -> Result<(Self, mpsc::Receiver<()>), NetlinkError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, mut messages) = new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        let (sender, changes) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
                if is_of_a_container(&message) {
                    continue;
                }
                if matches!(sender.try_send(()), Err(mpsc::error::TrySendError::Closed(()))) {
                    return;
                }
            }
        });
        Ok((Self(handle), changes))
    }

    pub(super) async fn loopback_up(&self) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(LOOPBACK).up().build();
        self.0.link().set(message).execute().await.map_err(refused("bring the loopback up"))
    }

    /// Everything that is ours to look after.
    pub(super) async fn read(&self) -> Result<Kernel, NetlinkError> {
        let links: Vec<LinkMessage> =
            self.0.link().get().execute().try_collect().await.map_err(refused("list links"))?;
        let addresses: Vec<AddressMessage> =
            self.0.address().get().execute().try_collect().await.map_err(refused("list addresses"))?;
        let mut routes = Vec::new();
        for message in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
        ] {
            let mut all = self.0.route().get(message).execute();
            // A kernel without IPv6 has none of its routes.
            while let Ok(Some(route)) = all.try_next().await {
                routes.push(route);
            }
        }
        Ok(kernel_of(&links, &addresses, &routes))
    }

    /// Does a step; the model says which link has which number, and follows.
    pub(super) async fn perform(&self, kernel: &mut Kernel, step: &Step) -> Result<(), NetlinkError> {
        let result = self.ask(kernel, step).await;
        if result.is_ok() {
            // What the kernel made of it is read afterwards.
            let _ = kernel.apply(step);
            if let Step::CreateBond { link, .. } | Step::CreateVlan { link, .. } = step {
                let index =
                    nix::net::if_::if_nametoindex(link.as_str()).map_err(|_| NetlinkError::NoLink(link.clone()))?;
                if let Some(seen) = kernel.links.get_mut(link) {
                    seen.index = index;
                }
            }
        }
        result
    }

    async fn ask(&self, kernel: &Kernel, step: &Step) -> Result<(), NetlinkError> {
        let failed = refused(&step.to_string());
        let index = |link: &String| {
            kernel.links.get(link).map(|seen| seen.index).ok_or_else(|| NetlinkError::NoLink(link.clone()))
        };
        let links = self.0.link();
        match step {
            Step::CreateBond { link, options } => {
                links.add(with_options(LinkBond::new(link).mode(mode(options.mode)), *options).build()).execute().await
            }
            Step::SetBond { link, options } => {
                let message = LinkMessageBuilder::<LinkBond>::new(link).index(index(link)?);
                links.change(with_options(message, *options).build()).execute().await
            }
            Step::CreateVlan { link, of, id } => {
                links.add(LinkVlan::new(link, index(of)?, *id).build()).execute().await
            }
            Step::Delete { link } => links.del(index(link)?).execute().await,
            Step::Up { link } => links.set(LinkUnspec::new_with_index(index(link)?).up().build()).execute().await,
            Step::Down { link } => links.set(LinkUnspec::new_with_index(index(link)?).down().build()).execute().await,
            Step::Enslave { link, bond } => {
                let message = LinkUnspec::new_with_index(index(link)?).controller(index(bond)?).build();
                links.set(message).execute().await
            }
            Step::Release { link } => {
                links.set(LinkUnspec::new_with_index(index(link)?).nocontroller().build()).execute().await
            }
            Step::SetMtu { link, mtu } => {
                links.set(LinkUnspec::new_with_index(index(link)?).mtu(*mtu).build()).execute().await
            }
            Step::AddAddress { link, address } => {
                let mut request = self.0.address().add(index(link)?, address.address, address.length);
                if address.address.is_ipv6() {
                    let mark = AddressAttribute::Protocol(AddressProtocol::Other(OURS));
                    request.message_mut().attributes.push(mark);
                }
                request.replace().execute().await
            }
            Step::RemoveAddress { link, address } => {
                let mut request = self.0.address().add(index(link)?, address.address, address.length);
                let message = request.message_mut().clone();
                self.0.address().del(message).execute().await
            }
            Step::AddRoute { link, route } => {
                let near = kernel.links.get(link).is_some_and(|seen| {
                    route.via.is_none_or(|via| seen.addresses.keys().any(|address| address.contains(via)))
                });
                let mut message = route_message(index(link)?, route).map_err(|reason| failed(invalid(&reason)))?;
                if !near {
                    // A router that is in no network of ours is on the link all the same.
                    message.header.flags |= netlink_packet_route::route::RouteFlags::Onlink;
                }
                self.0.route().add(message).replace().execute().await
            }
            Step::RemoveRoute { link, route } => {
                let message = route_message(index(link)?, route).map_err(|reason| failed(invalid(&reason)))?;
                self.0.route().del(message).execute().await
            }
        }
        .map_err(failed)
    }
}

fn invalid(reason: &str) -> rtnetlink::Error {
    rtnetlink::Error::InvalidNla(reason.to_owned())
}

fn route_message(index: u32, route: &Route) -> Result<RouteMessage, String> {
    let message = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.to.address, route.to.length)
        .map_err(|error| error.to_string())?
        .output_interface(index)
        .priority(route.metric);
    match route.via {
        Some(via) => Ok(message.gateway(via).map_err(|error| error.to_string())?.build()),
        None => Ok(message.build()),
    }
}

fn with_options(message: LinkMessageBuilder<LinkBond>, options: BondOptions) -> LinkMessageBuilder<LinkBond> {
    let message = message.append_info_data(InfoBond::MiiMon(options.miimon_ms));
    match options.mode {
        BondMode::ActiveBackup => message,
        BondMode::Lacp => {
            let rate = match options.lacp_rate {
                LacpRate::Slow => BondLacpRate::Slow,
                LacpRate::Fast => BondLacpRate::Fast,
            };
            let hash = match options.hash {
                HashPolicy::Layer2 => BondXmitHashPolicy::Layer2,
                HashPolicy::Layer23 => BondXmitHashPolicy::Layer23,
                HashPolicy::Layer34 => BondXmitHashPolicy::Layer34,
            };
            message
                .append_info_data(InfoBond::AdLacpRate(rate))
                .append_info_data(InfoBond::XmitHashPolicy(hash))
                .append_info_data(InfoBond::MinLinks(options.min_links))
        }
    }
}

const fn mode(mode: BondMode) -> WireMode {
    match mode {
        BondMode::Lacp => WireMode::Ieee8023Ad,
        BondMode::ActiveBackup => WireMode::ActiveBackup,
    }
}

/// Interfaces of containers come and go all day.
fn is_of_a_container(message: &RouteNetlinkMessage) -> bool {
    let (RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link)) = message else { return false };
    matches!(kind_of(link), Some(InfoKind::Veth | InfoKind::Bridge))
}

fn kind_of(link: &LinkMessage) -> Option<InfoKind> {
    info_of(link).find_map(|info| if let LinkInfo::Kind(kind) = info { Some(kind.clone()) } else { None })
}

fn info_of<'a>(link: &'a LinkMessage) -> impl Iterator<Item = &'a LinkInfo> {
    let infos =
        |attribute: &'a LinkAttribute| if let LinkAttribute::LinkInfo(infos) = attribute { Some(infos) } else { None };
    link.attributes.iter().filter_map(infos).flatten()
}

fn data_of(link: &LinkMessage) -> Option<&InfoData> {
    info_of(link).find_map(|info| if let LinkInfo::Data(data) = info { Some(data) } else { None })
}

/// The dumps as one picture.
fn kernel_of(links: &[LinkMessage], addresses: &[AddressMessage], routes: &[RouteMessage]) -> Kernel {
    let name_of = |link: &LinkMessage| {
        link.attributes
            .iter()
            .find_map(|one| if let LinkAttribute::IfName(name) = one { Some(name.clone()) } else { None })
    };
    let names: BTreeMap<u32, String> =
        links.iter().filter_map(|link| Some((link.header.index, name_of(link)?))).collect();
    let mut kernel = Kernel::default();
    for link in links {
        if let (Some(name), Some(seen)) = (name_of(link), seen_of(link, &names)) {
            kernel.links.insert(name, seen);
        }
    }
    let own = |index: u32| names.get(&index).cloned();
    for message in addresses {
        let address = address_of(message);
        let seen = own(message.header.index).and_then(|name| kernel.links.get_mut(&name));
        if let (Some((address, owner)), Some(seen)) = (address, seen) {
            seen.addresses.insert(address, owner);
        }
    }
    for message in routes {
        let Some((index, route)) = route_of(message) else { continue };
        if let Some(seen) = own(index).and_then(|name| kernel.links.get_mut(&name)) {
            seen.routes.insert(route);
        }
    }
    kernel
}

/// A card, a bond or a VLAN; `None` for whatever else software makes.
fn seen_of(link: &LinkMessage, names: &BTreeMap<u32, String>) -> Option<Seen> {
    if link.header.link_layer_type != LinkLayerType::Ether {
        return None;
    }
    let flags = link.header.flags;
    let (mut mac, mut permanent, mut mtu, mut controller, mut lower) = ([0; 6], None, 0, None, None);
    for attribute in &link.attributes {
        if let LinkAttribute::Address(address) = attribute {
            mac = <[u8; 6]>::try_from(address.as_slice()).ok()?;
        } else if let LinkAttribute::PermAddress(address) = attribute {
            permanent = <[u8; 6]>::try_from(address.as_slice()).ok().filter(|mac| *mac != [0; 6]);
        } else if let LinkAttribute::Mtu(size) = attribute {
            mtu = *size;
        } else if let LinkAttribute::Controller(index) = attribute {
            controller = names.get(index).cloned();
        } else if let LinkAttribute::Link(index) = attribute {
            lower = names.get(index).cloned();
        }
    }
    let name = names.get(&link.header.index)?;
    let kind = match (kind_of(link), data_of(link)) {
        (None, _) => Kind::Card(card(name, permanent.unwrap_or(mac))),
        (Some(InfoKind::Bond), Some(InfoData::Bond(options))) => Kind::Bond(bond_options(options)?),
        (Some(InfoKind::Vlan), Some(InfoData::Vlan(infos))) => {
            let id = infos.iter().find_map(|info| if let InfoVlan::Id(id) = info { Some(*id) } else { None })?;
            Kind::Vlan { of: lower?, id }
        }
        _ => return None,
    };
    Some(Seen {
        index: link.header.index,
        kind,
        mac,
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::LowerUp),
        mtu,
        bond: controller,
        addresses: BTreeMap::new(),
        routes: BTreeSet::new(),
    })
}

fn card(name: &str, mac: [u8; 6]) -> Card {
    let device = |what: &str| {
        let target = std::fs::read_link(format!("/sys/class/net/{name}/device{what}")).ok()?;
        target.file_name()?.to_str().map(str::to_owned)
    };
    // A virtio card's own device has a number; its place is that of the card above it.
    let path = device("").map(|own| {
        let above = std::fs::canonicalize(format!("/sys/class/net/{name}/device")).ok();
        let above = above.and_then(|path| Some(path.parent()?.file_name()?.to_str()?.to_owned()));
        if own.starts_with("virtio") { above.unwrap_or(own) } else { own }
    });
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    Card { name: name.to_owned(), mac, driver: device("/driver"), path }
}

/// `None`: a mode that is none of ours, so the bond is not either.
fn bond_options(infos: &[InfoBond]) -> Option<BondOptions> {
    let mut options = BondOptions {
        mode: BondMode::ActiveBackup,
        lacp_rate: LacpRate::Slow,
        hash: HashPolicy::Layer2,
        miimon_ms: 0,
        min_links: 0,
    };
    for info in infos {
        if let InfoBond::Mode(mode) = info {
            options.mode = if *mode == WireMode::ActiveBackup {
                BondMode::ActiveBackup
            } else if *mode == WireMode::Ieee8023Ad {
                BondMode::Lacp
            } else {
                return None;
            };
        } else if let InfoBond::MiiMon(ms) = info {
            options.miimon_ms = *ms;
        } else if let InfoBond::MinLinks(links) = info {
            options.min_links = *links;
        } else if let InfoBond::AdLacpRate(BondLacpRate::Fast) = info {
            options.lacp_rate = LacpRate::Fast;
        } else if let InfoBond::XmitHashPolicy(BondXmitHashPolicy::Layer34) = info {
            options.hash = HashPolicy::Layer34;
        } else if let InfoBond::XmitHashPolicy(BondXmitHashPolicy::Layer23) = info {
            options.hash = HashPolicy::Layer23;
        }
    }
    Some(options)
}

fn address_of(message: &AddressMessage) -> Option<(Prefix, Owner)> {
    let (mut local, mut other, mut ours) = (None, None, false);
    for attribute in &message.attributes {
        if let AddressAttribute::Local(address) = attribute {
            local = Some(*address);
        } else if let AddressAttribute::Address(address) = attribute {
            other = Some(*address);
        } else if let AddressAttribute::Protocol(AddressProtocol::Other(OURS)) = attribute {
            ours = true;
        }
    }
    let address = Prefix::new(local.or(other)?, message.header.prefix_len)?;
    let kernels = message.header.scope == AddressScope::Host || address.address.is_ipv6() && !ours;
    Some((address, if kernels { Owner::Kernel } else { Owner::Node }))
}

/// Those we made: static ones of the main table.
fn route_of(message: &RouteMessage) -> Option<(u32, Route)> {
    let header = &message.header;
    let is_ours = header.protocol == RouteProtocol::Static
        && header.kind == RouteType::Unicast
        && header.table == RouteHeader::RT_TABLE_MAIN;
    if !is_ours {
        return None;
    }
    let (mut to, mut via, mut metric, mut index) = (None, None, 0, None);
    let address = |address: &RouteAddress| {
        if let RouteAddress::Inet(four) = address {
            return Some(IpAddr::from(*four));
        }
        if let RouteAddress::Inet6(six) = address { Some(IpAddr::from(*six)) } else { None }
    };
    for attribute in &message.attributes {
        if let RouteAttribute::Destination(destination) = attribute {
            to = address(destination);
        } else if let RouteAttribute::Gateway(gateway) = attribute {
            via = address(gateway);
        } else if let RouteAttribute::Priority(number) = attribute {
            metric = *number;
        } else if let RouteAttribute::Oif(number) = attribute {
            index = Some(*number);
        }
    }
    let everywhere = if header.address_family == netlink_packet_route::AddressFamily::Inet {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    let to = Prefix::new(to.unwrap_or(everywhere), header.destination_prefix_length)?;
    Some((index?, Route { to, via, metric }))
}

fn refused(what: &str) -> impl Fn(rtnetlink::Error) -> NetlinkError + use<> {
    let what = what.to_owned();
    move |source| NetlinkError::Refused { what: what.clone(), source }
}
