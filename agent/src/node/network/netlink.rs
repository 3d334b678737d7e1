//! Links, addresses and routes through rtnetlink.

use std::net::Ipv4Addr;

use agent_core::dhcp::{Lease, Route};
use futures_util::{StreamExt, TryStreamExt};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::{Handle, LinkUnspec, MulticastGroup, RouteMessageBuilder, new_multicast_connection};
use tokio::sync::mpsc;

/// Changes of links that wait; more are taken from the kernel only when there is room.
const CHANGES: usize = 64;
/// Loopback's index, the same on every Linux.
const LOOPBACK: u32 = 1;
/// The default route of the primary link is preferred to those of the others.
const PRIMARY_METRIC: u32 = 100;
const OTHER_METRIC: u32 = 1000;

/// Which link's default route is taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rank {
    Primary,
    Other,
}

/// The kernel would not.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetlinkError {
    #[error("cannot open a netlink socket")]
    Open(#[source] std::io::Error),
    #[error("the kernel refuses to {what}")]
    Refused { what: &'static str, source: rtnetlink::Error },
    #[error("netlink ended")]
    Closed,
}

/// One network interface, as far as it matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct LinkState {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    /// A real Ethernet card, not a bridge, a tunnel or one end of a pair.
    pub(super) is_wired: bool,
    pub(super) carrier: bool,
    pub(super) gone: bool,
}

impl LinkState {
    fn of(message: &LinkMessage) -> Self {
        let mut state = Self {
            index: message.header.index,
            name: String::new(),
            mac: [0; 6],
            is_wired: message.header.link_layer_type == LinkLayerType::Ether,
            carrier: message.header.flags.contains(LinkFlags::LowerUp),
            gone: false,
        };
        for attribute in &message.attributes {
            if let LinkAttribute::IfName(name) = attribute {
                state.name.clone_from(name);
            } else if let LinkAttribute::Address(address) = attribute {
                match <[u8; 6]>::try_from(address.as_slice()) {
                    Ok(mac) => state.mac = mac,
                    Err(_) => state.is_wired = false,
                }
            } else if let LinkAttribute::LinkInfo(_) = attribute {
                // Only what software made says its kind.
                state.is_wired = false;
            }
        }
        state.is_wired &= !state.name.is_empty();
        state
    }

    pub(super) fn mac_text(&self) -> String {
        self.mac.map(|byte| format!("{byte:02x}")).join(":")
    }
}

pub(super) struct Netlink(Handle);

impl Netlink {
    /// A handle, and every change of a link from now on.
    pub(super) fn open() -> Result<(Self, mpsc::Receiver<LinkState>), NetlinkError> {
        let (connection, handle, mut messages) =
            new_multicast_connection(&[MulticastGroup::Link]).map_err(NetlinkError::Open)?;
        tokio::spawn(connection);
        let (sender, changes) = mpsc::channel(CHANGES);
        tokio::spawn(async move {
            while let Some((message, _)) = messages.next().await {
                let NetlinkPayload::InnerMessage(message) = message.payload else { continue };
                let state = if let RouteNetlinkMessage::NewLink(link) = &message {
                    LinkState::of(link)
                } else if let RouteNetlinkMessage::DelLink(link) = &message {
                    LinkState { gone: true, ..LinkState::of(link) }
                } else {
                    continue;
                };
                if sender.send(state).await.is_err() {
                    return;
                }
            }
        });
        Ok((Self(handle), changes))
    }

    pub(super) async fn links(&self) -> Result<Vec<LinkState>, NetlinkError> {
        let links: Vec<LinkMessage> =
            self.0.link().get().execute().try_collect().await.map_err(refused("list links"))?;
        Ok(links.iter().map(LinkState::of).collect())
    }

    pub(super) async fn loopback_up(&self) -> Result<(), NetlinkError> {
        self.up(LOOPBACK).await
    }

    pub(super) async fn up(&self, index: u32) -> Result<(), NetlinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        self.0.link().set(message).execute().await.map_err(refused("bring a link up"))
    }

    /// Address, routes and packet size of a lease.
    pub(super) async fn configure(&self, index: u32, lease: &Lease, rank: Rank) -> Result<(), NetlinkError> {
        if let Some(mtu) = lease.mtu {
            let message = LinkUnspec::new_with_index(index).mtu(u32::from(mtu)).build();
            self.0.link().set(message).execute().await.map_err(refused("set a link's MTU"))?;
        }
        let address = self.0.address().add(index, lease.address.into(), lease.prefix_len);
        address.replace().execute().await.map_err(refused("add an address"))?;
        let metric = match rank {
            Rank::Primary => PRIMARY_METRIC,
            Rank::Other => OTHER_METRIC + index,
        };
        let default = |gateway: &Ipv4Addr| Route { network: Ipv4Addr::UNSPECIFIED, prefix_len: 0, gateway: *gateway };
        let routes = lease.routers.first().map(default).into_iter().chain(lease.routes.iter().copied());
        for route in routes {
            let mut message = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(route.network, route.prefix_len)
                .output_interface(index)
                .pref_source(lease.address)
                .priority(metric);
            if !route.gateway.is_unspecified() {
                message = message.gateway(route.gateway);
            }
            self.0.route().add(message.build()).replace().execute().await.map_err(refused("add a route"))?;
        }
        Ok(())
    }

    /// Its routes go with it.
    pub(super) async fn remove_address(
        &self,
        index: u32,
        address: Ipv4Addr,
        prefix_len: u8,
    ) -> Result<(), NetlinkError> {
        let message =
            rtnetlink::AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, prefix_len).build();
        self.0.address().del(message).execute().await.map_err(refused("remove an address"))
    }
}

fn refused(what: &'static str) -> impl Fn(rtnetlink::Error) -> NetlinkError {
    move |source| NetlinkError::Refused { what, source }
}
