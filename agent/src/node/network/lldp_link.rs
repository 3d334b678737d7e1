//! One link's LLDP: hears who is at the other end, and says who we are.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use agent_core::cmdline::Lldp;
use agent_core::lldp::{INTERVAL_MS, own_announcement};
use hwdetect::lldp::{ETHERTYPE, NEAREST_BRIDGE};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

/// Larger than any Ethernet frame switches send of themselves.
const FRAME: usize = 2048;
/// A socket that cannot be had is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// A frame that came in on a link.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) index: u32,
    pub(super) bytes: Vec<u8>,
}

/// What we say of ourselves on every link.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    pub(super) name: Option<String>,
    pub(super) address: Option<IpAddr>,
}

/// Which card.
#[derive(Clone, Debug)]
pub(super) struct Card {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    /// Whether we say who we are.
    pub(super) lldp: Lldp,
}

/// Listens and speaks until aborted.
pub(super) async fn run(card: Card, mut words: watch::Receiver<Words>, frames: mpsc::Sender<Frame>) {
    loop {
        match talk(&card, &mut words, &frames).await {
            Ok(()) => return,
            // The link went down meanwhile, or the kernel has no packet sockets.
            Err(error) => tracing::debug!(link = %card.name, %error, "LLDP fails, trying again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn talk(card: &Card, words: &mut watch::Receiver<Words>, frames: &mpsc::Sender<Frame>) -> io::Result<()> {
    let Card { index, name, mac, lldp } = card;
    // To the runtime one datagram socket is like another: it waits, then calls recv(2) and send(2).
    let socket = UdpSocket::from_std(agent_sys::ethernet::open(*index, ETHERTYPE, NEAREST_BRIDGE)?.into())?;
    let mut interval = tokio::time::interval(Duration::from_millis(INTERVAL_MS));
    let mut buffer = vec![0; FRAME];
    loop {
        tokio::select! {
            heard = socket.recv(&mut buffer) => {
                let length = heard?;
                let bytes = buffer.get(..length).unwrap_or_default();
                // Our own, sent back by whatever is at the other end.
                let is_own = bytes.get(6..12) == Some(&mac[..]);
                let frame = Frame { index: *index, bytes: bytes.to_vec() };
                if !is_own && frames.send(frame).await.is_err() {
                    return Ok(());
                }
                continue;
            }
            changed = words.changed() => if changed.is_err() {
                return Ok(());
            },
            _ = interval.tick() => {}
        }
        if *lldp != Lldp::On {
            continue;
        }
        let Words { name: own, address } = words.borrow_and_update().clone();
        let frame = own_announcement(*mac, name, own.as_deref(), address).to_frame(*mac, *index);
        socket.send(&frame).await?;
    }
}
