//! One link's DHCP client: the core's state machine between a UDP socket and the clock.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;
use std::time::Duration;

use agent_core::dhcp::{Client, Destination, Event};
use nix::sys::socket::sockopt::{BindToDevice, Broadcast, ReuseAddr};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, setsockopt, socket};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::uptime;

const CLIENT_PORT: u16 = 68;
const SERVER_PORT: u16 = 67;
/// Larger than any Ethernet frame's payload.
const PACKET: usize = 2048;
/// A socket that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// News of one link.
#[derive(Debug)]
pub(super) struct Heard {
    pub(super) link: String,
    pub(super) event: Event,
}

/// Asks for an address and keeps it, until aborted.
pub(super) async fn run(name: String, mac: [u8; 6], hostname: Option<String>, heard: mpsc::Sender<Heard>) {
    loop {
        match talk(&name, mac, hostname.clone(), &heard).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(link = %name, %error, "DHCP fails, trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn talk(name: &str, mac: [u8; 6], hostname: Option<String>, heard: &mpsc::Sender<Heard>) -> io::Result<()> {
    let socket = open(name)?;
    let mut client = Client::new(mac, hostname, *uuid::Uuid::new_v4().as_bytes(), uptime::millis());
    let mut packet = vec![0; PACKET];
    loop {
        let now = uptime::millis();
        let mut event = client.handle_timeout(now);
        while let Some(transmit) = client.poll_transmit(now) {
            let to = match transmit.to {
                Destination::Broadcast => Ipv4Addr::BROADCAST,
                Destination::Server(server) => server,
            };
            // A link that goes down takes the packet with it; the machine asks again.
            if let Err(error) = socket.send_to(&transmit.bytes, SocketAddrV4::new(to, SERVER_PORT)).await {
                tracing::debug!(link = %name, %error, "a DHCP packet was not sent");
            }
        }
        if event.is_none() {
            let wait = Duration::from_millis(client.poll_timeout().saturating_sub(now).min(60_000));
            event = match tokio::time::timeout(wait, socket.recv_from(&mut packet)).await {
                Ok(Ok((length, _))) => client.handle_packet(&packet[..length], uptime::millis()),
                Ok(Err(error)) => return Err(error),
                Err(_) => None,
            };
        }
        if let Some(event) = event
            && heard.send(Heard { link: name.to_owned(), event }).await.is_err()
        {
            return Ok(());
        }
    }
}

/// A socket that hears and speaks on one link only, also before it has an address: Linux sends a broadcast out of the
/// device the socket is bound to, and takes one in. Answers are asked for as broadcasts for the same reason.
fn open(link: &str) -> io::Result<UdpSocket> {
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    setsockopt(&fd, ReuseAddr, &true)?;
    setsockopt(&fd, Broadcast, &true)?;
    setsockopt(&fd, BindToDevice, &OsString::from(link))?;
    bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT)))?;
    UdpSocket::from_std(fd.into())
}
