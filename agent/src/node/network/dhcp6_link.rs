//! One link's DHCPv6 client: the core's state machine between a UDP socket and the clock.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::time::Duration;

use agent_core::dhcp6::{Client, Duid, Event, Wish};
use nix::sys::socket::sockopt::{BindToDevice, Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn6, bind, setsockopt, socket};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::uptime;

const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;
/// All servers and relays of a link.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// Larger than any Ethernet frame's payload.
const PACKET: usize = 2048;
/// A socket that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// News of one link.
#[derive(Debug)]
pub(super) struct Heard6 {
    pub(super) link: String,
    pub(super) event: Event,
}

/// Which link, and who asks.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    pub(super) link: String,
    pub(super) index: u32,
    pub(super) duid: Duid,
    pub(super) iaid: u32,
    pub(super) wish: Wish,
}

/// Asks and keeps what is lent, until aborted.
pub(super) async fn run(asking: Asking, heard: mpsc::Sender<Heard6>) {
    loop {
        match talk(&asking, &heard).await {
            Ok(()) => return,
            // The link-local address is still being tried, for one.
            Err(error) => tracing::debug!(link = %asking.link, %error, "DHCPv6 fails, trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn talk(asking: &Asking, heard: &mpsc::Sender<Heard6>) -> io::Result<()> {
    let Asking { link, index, duid, iaid, wish } = asking.clone();
    let socket = open(&link)?;
    let mut client = Client::new(duid, iaid, wish, *uuid::Uuid::new_v4().as_bytes(), uptime::millis());
    let mut packet = vec![0; PACKET];
    loop {
        let now = uptime::millis();
        let mut event = client.handle_timeout(now);
        if let Some(bytes) = client.poll_transmit(now) {
            // Until the link-local address is ours the kernel refuses; the machine asks again.
            if let Err(error) = socket.send_to(&bytes, SocketAddrV6::new(SERVERS, SERVER_PORT, 0, index)).await {
                tracing::debug!(%link, %error, "a DHCPv6 packet was not sent");
            }
        }
        if event.is_none() {
            let wait = Duration::from_millis(client.poll_timeout().saturating_sub(now).min(60_000));
            event = match tokio::time::timeout(wait, socket.recv_from(&mut packet)).await {
                Ok(Ok((length, from))) if from.port() == SERVER_PORT => {
                    client.handle_packet(packet.get(..length).unwrap_or_default(), uptime::millis())
                }
                Ok(Ok(_)) | Err(_) => None,
                Ok(Err(error)) => return Err(error),
            };
        }
        if let Some(event) = event
            && heard.send(Heard6 { link: link.clone(), event }).await.is_err()
        {
            return Ok(());
        }
    }
}

fn open(link: &str) -> io::Result<UdpSocket> {
    let fd = socket(AddressFamily::Inet6, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, Ipv6V6Only, &true)?;
    setsockopt(&fd, ReuseAddr, &true)?;
    setsockopt(&fd, BindToDevice, &OsString::from(link))?;
    bind(fd.as_raw_fd(), &SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, CLIENT_PORT, 0, 0)))?;
    UdpSocket::from_std(fd.into())
}
