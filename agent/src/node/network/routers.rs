//! Hears what routers advertise on all links, and asks them to.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use agent_core::network::SOLICITATION;
use nix::sys::socket::sockopt::Ipv6MulticastHops;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

/// All routers of a link.
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// Larger than any Ethernet frame's payload.
const PACKET: usize = 2048;
/// After an error.
const AGAIN: Duration = Duration::from_secs(1);
/// Routers that were asked too early are asked again (RFC 4861 section 6.3.7).
const SOLICITATIONS: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(4);

/// A packet of ICMPv6 that a router of the link sent.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) index: u32,
    pub(super) packet: Vec<u8>,
}

/// The socket for all links; `None`: the kernel has no IPv6.
pub(super) fn open() -> Option<Arc<UdpSocket>> {
    let open = || -> io::Result<UdpSocket> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet6, SockType::Raw, flags, Some(SockProtocol::IcmpV6))?;
        // Routers take none that came from further away.
        setsockopt(&fd, Ipv6MulticastHops, &255)?;
        UdpSocket::from_std(fd.into())
    };
    open().inspect_err(|error| tracing::info!(%error, "routers of IPv6 are not heard")).ok().map(Arc::new)
}

/// Listens for ever. The kernel hears the same, and makes addresses and routes of it.
pub(super) async fn listen(socket: Arc<UdpSocket>, said: mpsc::Sender<Said>) {
    let mut buffer = vec![0; PACKET];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::debug!(%error, "routers cannot be heard");
                tokio::time::sleep(AGAIN).await;
                continue;
            }
        };
        // A router speaks from its address on the link, which nobody forwards: it is on the link.
        let SocketAddr::V6(from) = from else { continue };
        if !IpAddr::V6(*from.ip()).is_ipv6() || (from.ip().segments()[0] & 0xffc0) != 0xfe80 {
            continue;
        }
        let Some(packet) = buffer.get(..length).filter(|packet| packet.first() == Some(&134)) else { continue };
        if said.send(Said { index: from.scope_id(), packet: packet.to_vec() }).await.is_err() {
            return;
        }
    }
}

/// Asks the routers of a link to say what they have to say now.
pub(super) async fn solicit(socket: Arc<UdpSocket>, index: u32) {
    for _ in 0..SOLICITATIONS {
        // Without an address of the link yet it fails, and is asked again.
        if let Err(error) = socket.send_to(&SOLICITATION, SocketAddrV6::new(ROUTERS, 0, 0, index)).await {
            tracing::debug!(%error, "routers were not asked");
        }
        tokio::time::sleep(BETWEEN).await;
    }
}
