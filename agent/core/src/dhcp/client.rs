//! The client's states, RFC 2131 figure 5, from SELECTING to REBINDING.

use std::net::Ipv4Addr;

use super::lease::Lease;
use super::message::{Reply, Sender, decode};
use crate::randomness::Randomness;

/// One link's client. Feed it packets and the time; send what [`poll_transmit`](Self::poll_transmit) gives.
///
/// ```text
/// Selecting ─OFFER▶ Requesting ─ACK▶ Bound ─T1▶ Renewing ─T2▶ Rebinding
///     ▲                 │NAK, silence   ▲────ACK────┴────ACK──────┤
///     └─────────────────┴───────────NAK, lease over───────────────┘
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    sender: Sender,
    randomness: Randomness,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    Selecting { exchange: Exchange },
    Requesting { exchange: Exchange, address: Ipv4Addr, server: Ipv4Addr },
    Bound { lease: Box<Lease>, since_ms: u64 },
    Renewing { exchange: Exchange, lease: Box<Lease>, since_ms: u64 },
    Rebinding { exchange: Exchange, lease: Box<Lease>, since_ms: u64 },
}

/// One transaction: its id, when it began, how often we asked, when to ask again.
#[derive(Clone, Copy, Debug)]
struct Exchange {
    xid: u32,
    since_ms: u64,
    sent: u32,
    next_ms: u64,
}

/// Something the network's configuration has to follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A first or a changed lease.
    Bound(Box<Lease>),
    /// The same lease for longer.
    Extended(Box<Lease>),
    /// The address is no longer ours: remove it.
    Lost,
}

/// A packet for the socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Transmit {
    /// The UDP payload, from port 68 to port 67.
    pub bytes: Vec<u8>,
    /// Where to.
    pub to: Destination,
}

/// See [`Transmit`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Destination {
    /// 255.255.255.255 on this link.
    Broadcast,
    /// The lease's server.
    Server(Ipv4Addr),
}

/// After this many unanswered requests the offer is given up.
const REQUESTS: u32 = 4;
/// Least time between two requests in RENEWING and REBINDING (RFC 2131 section 4.4.5).
const LEAST_EXTEND_MS: u64 = 60_000;
/// Pause before starting over after a NAK: a server that offers what it refuses must not be hammered.
const NAK_PAUSE_MS: u64 = 1_000;

impl Client {
    /// A client that wants to ask at once. `hostname` goes into option 12.
    #[must_use]
    pub fn new(mac: [u8; 6], hostname: Option<String>, seed: [u8; 16], now_ms: u64) -> Self {
        let mut randomness = Randomness::new(seed);
        let exchange = Exchange::begin(&mut randomness, now_ms, now_ms);
        Self { sender: Sender { mac, hostname }, randomness, state: State::Selecting { exchange } }
    }

    /// The lease in force.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Selecting { .. } | State::Requesting { .. } => None,
            State::Bound { lease, .. } | State::Renewing { lease, .. } | State::Rebinding { lease, .. } => Some(lease),
        }
    }

    /// The link's carrier came back, perhaps in another network: ask anew, keep nothing.
    pub fn restart(&mut self, now_ms: u64) -> Option<Event> {
        let had = self.lease().is_some();
        self.select(now_ms, now_ms);
        had.then_some(Event::Lost)
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit)
    /// if nothing arrives.
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        match &self.state {
            State::Selecting { exchange } | State::Requesting { exchange, .. } => exchange.next_ms,
            State::Bound { lease, .. } if lease.is_infinite() => u64::MAX,
            State::Bound { lease, since_ms } => after(*since_ms, lease.renew_secs),
            State::Renewing { exchange, lease, since_ms } => exchange.next_ms.min(after(*since_ms, lease.rebind_secs)),
            State::Rebinding { exchange, lease, since_ms } => exchange.next_ms.min(after(*since_ms, lease.lease_secs)),
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Option<Event> {
        match &self.state {
            State::Selecting { .. } => None,
            State::Requesting { exchange, .. } => {
                if exchange.sent >= REQUESTS && exchange.next_ms <= now_ms {
                    self.select(now_ms, now_ms);
                }
                None
            }
            State::Bound { lease, since_ms } => {
                if !lease.is_infinite() && after(*since_ms, lease.renew_secs) <= now_ms {
                    let (lease, since_ms) = (lease.clone(), *since_ms);
                    let exchange = Exchange::begin(&mut self.randomness, now_ms, now_ms);
                    self.state = State::Renewing { exchange, lease, since_ms };
                    // After a long sleep T2 or the end may have passed as well.
                    return self.handle_timeout(now_ms);
                }
                None
            }
            State::Renewing { lease, since_ms, .. } => {
                if after(*since_ms, lease.rebind_secs) <= now_ms {
                    let (lease, since_ms) = (lease.clone(), *since_ms);
                    let exchange = Exchange::begin(&mut self.randomness, now_ms, now_ms);
                    self.state = State::Rebinding { exchange, lease, since_ms };
                    return self.handle_timeout(now_ms);
                }
                None
            }
            State::Rebinding { lease, since_ms, .. } => {
                if after(*since_ms, lease.lease_secs) <= now_ms {
                    self.select(now_ms, now_ms);
                    return Some(Event::Lost);
                }
                None
            }
        }
    }

    /// The next packet to send, if one is due at `now_ms`.
    pub fn poll_transmit(&mut self, now_ms: u64) -> Option<Transmit> {
        let (sender, randomness) = (&self.sender, &mut self.randomness);
        match &mut self.state {
            State::Selecting { exchange } => exchange.due(now_ms).then(|| {
                exchange.sent_with_backoff(now_ms, randomness);
                let bytes = sender.discover(exchange.xid, exchange.secs(now_ms));
                Transmit { bytes, to: Destination::Broadcast }
            }),
            State::Requesting { exchange, address, server } => exchange.due(now_ms).then(|| {
                exchange.sent_with_backoff(now_ms, randomness);
                let bytes = sender.request_offer(exchange.xid, exchange.secs(now_ms), *address, *server);
                Transmit { bytes, to: Destination::Broadcast }
            }),
            State::Bound { .. } => None,
            State::Renewing { exchange, lease, since_ms } => exchange.due(now_ms).then(|| {
                exchange.sent_until(now_ms, after(*since_ms, lease.rebind_secs));
                let bytes = sender.extend(exchange.xid, exchange.secs(now_ms), lease.address);
                Transmit { bytes, to: Destination::Server(lease.server) }
            }),
            State::Rebinding { exchange, lease, since_ms } => exchange.due(now_ms).then(|| {
                exchange.sent_until(now_ms, after(*since_ms, lease.lease_secs));
                let bytes = sender.extend(exchange.xid, exchange.secs(now_ms), lease.address);
                Transmit { bytes, to: Destination::Broadcast }
            }),
        }
    }

    /// Takes a UDP payload from port 67. What is not for us changes nothing.
    pub fn handle_packet(&mut self, bytes: &[u8], now_ms: u64) -> Option<Event> {
        let reply = decode(bytes, self.xid()?, self.sender.mac)?;
        match (&self.state, reply) {
            (State::Selecting { .. }, Reply::Offer { address, server }) => {
                // The same xid goes on: RFC 2131 section 4.4.1.
                let mut exchange = Exchange::begin(&mut self.randomness, now_ms, now_ms);
                exchange.xid = self.xid()?;
                self.state = State::Requesting { exchange, address, server };
                None
            }
            (State::Requesting { .. }, Reply::Ack(lease)) => {
                self.state = State::Bound { lease: lease.clone(), since_ms: now_ms };
                Some(Event::Bound(lease))
            }
            (State::Requesting { .. }, Reply::Nak) => {
                self.select(now_ms, now_ms + NAK_PAUSE_MS);
                None
            }
            (State::Renewing { lease: old, .. } | State::Rebinding { lease: old, .. }, Reply::Ack(lease)) => {
                let same = Lease { server: old.server, ..(*lease).clone() } == **old;
                self.state = State::Bound { lease: lease.clone(), since_ms: now_ms };
                Some(if same { Event::Extended(lease) } else { Event::Bound(lease) })
            }
            (State::Renewing { .. } | State::Rebinding { .. }, Reply::Nak) => {
                self.select(now_ms, now_ms + NAK_PAUSE_MS);
                Some(Event::Lost)
            }
            // A second offer, an answer to what was answered: the first one counts.
            (State::Selecting { .. }, Reply::Ack(_) | Reply::Nak)
            | (State::Requesting { .. } | State::Renewing { .. } | State::Rebinding { .. }, Reply::Offer { .. })
            | (State::Bound { .. }, Reply::Offer { .. } | Reply::Ack(_) | Reply::Nak) => None,
        }
    }

    const fn xid(&self) -> Option<u32> {
        match &self.state {
            State::Selecting { exchange }
            | State::Requesting { exchange, .. }
            | State::Renewing { exchange, .. }
            | State::Rebinding { exchange, .. } => Some(exchange.xid),
            State::Bound { .. } => None,
        }
    }

    fn select(&mut self, now_ms: u64, first_ms: u64) {
        self.state = State::Selecting { exchange: Exchange::begin(&mut self.randomness, now_ms, first_ms) };
    }
}

impl Exchange {
    fn begin(randomness: &mut Randomness, now_ms: u64, first_ms: u64) -> Self {
        Self { xid: randomness.next_u32(), since_ms: now_ms, sent: 0, next_ms: first_ms }
    }

    const fn due(&self, now_ms: u64) -> bool {
        self.next_ms <= now_ms
    }

    fn secs(&self, now_ms: u64) -> u16 {
        u16::try_from(now_ms.saturating_sub(self.since_ms) / 1000).unwrap_or(u16::MAX)
    }

    /// 4, 8, 16, 32, 64 seconds, each give or take one (RFC 2131 section 4.1).
    fn sent_with_backoff(&mut self, now_ms: u64, randomness: &mut Randomness) {
        let wait_ms = 4_000u64 << self.sent.min(4);
        self.sent = self.sent.saturating_add(1);
        self.next_ms = now_ms + wait_ms - 1_000 + randomness.up_to(2_000);
    }

    /// Half the time left, not less than a minute.
    fn sent_until(&mut self, now_ms: u64, end_ms: u64) {
        self.sent = self.sent.saturating_add(1);
        self.next_ms = now_ms + (end_ms.saturating_sub(now_ms) / 2).max(LEAST_EXTEND_MS);
    }
}

const fn after(since_ms: u64, secs: u32) -> u64 {
    if secs == u32::MAX { u64::MAX } else { since_ms.saturating_add(secs as u64 * 1000) }
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::{Decodable, Decoder, DhcpOption, Message, MessageType, OptionCode};

    use super::super::message::tests::answer;
    use super::*;

    const MAC: [u8; 6] = [0x52, 0x54, 0, 0x77, 0, 1];

    fn client() -> Client {
        Client::new(MAC, Some("node-1".to_owned()), [3; 16], 0)
    }

    /// The message's type and transaction.
    fn read(transmit: &Transmit) -> (MessageType, Message) {
        let message = Message::decode(&mut Decoder::new(&transmit.bytes)).unwrap();
        (message.opts().msg_type().unwrap(), message)
    }

    fn options(secs: u32) -> Vec<DhcpOption> {
        vec![DhcpOption::AddressLeaseTime(secs), DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0))]
    }

    fn bound(secs: u32) -> Client {
        let mut client = client();
        let (_, discover) = read(&client.poll_transmit(0).unwrap());
        assert_eq!(client.handle_packet(&answer(MessageType::Offer, discover.xid(), MAC, options(secs)), 10), None);
        let (kind, request) = read(&client.poll_transmit(10).unwrap());
        assert_eq!(kind, MessageType::Request);
        assert_eq!(request.xid(), discover.xid());
        assert!(request.opts().get(OptionCode::RequestedIpAddress).is_some());
        let event = client.handle_packet(&answer(MessageType::Ack, request.xid(), MAC, options(secs)), 20);
        assert!(matches!(event, Some(Event::Bound(_))));
        client
    }

    #[test]
    fn discovery_backs_off_from_four_to_sixty_four_seconds() {
        let (mut client, mut now) = (client(), 0);
        for expected in [4, 8, 16, 32, 64, 64] {
            assert_eq!(read(&client.poll_transmit(now).unwrap()).0, MessageType::Discover);
            assert!(client.poll_transmit(now).is_none(), "one packet at a time");
            let wait = client.poll_timeout() - now;
            assert!(((expected - 1) * 1000..=(expected + 1) * 1000).contains(&wait), "{wait} for {expected}");
            now = client.poll_timeout();
        }
    }

    #[test]
    fn a_lease_is_renewed_with_its_server_then_with_anyone_then_lost() {
        let mut client = bound(1000);
        assert_eq!(client.poll_timeout(), 500_020);
        assert!(client.poll_transmit(400_000).is_none());
        assert_eq!(client.handle_timeout(500_020), None);
        let renew = client.poll_transmit(500_020).unwrap();
        assert_eq!(renew.to, Destination::Server(Ipv4Addr::new(10, 0, 2, 2)));
        assert_eq!(read(&renew).1.ciaddr(), Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(client.handle_timeout(875_020), None);
        assert_eq!(client.poll_transmit(875_020).unwrap().to, Destination::Broadcast);
        assert!(client.lease().is_some());
        assert_eq!(client.handle_timeout(1_000_020), Some(Event::Lost));
        assert!(client.lease().is_none());
        assert_eq!(read(&client.poll_transmit(1_000_020).unwrap()).0, MessageType::Discover);
    }

    #[test]
    fn a_renewal_extends_and_a_changed_lease_says_so() {
        let mut client = bound(1000);
        client.handle_timeout(500_020);
        let (_, request) = read(&client.poll_transmit(500_020).unwrap());
        let event = client.handle_packet(&answer(MessageType::Ack, request.xid(), MAC, options(1000)), 500_100);
        assert!(matches!(event, Some(Event::Extended(_))));
        assert_eq!(client.poll_timeout(), 1_000_100);
        client.handle_timeout(1_000_100);
        let (_, request) = read(&client.poll_transmit(1_000_100).unwrap());
        let event = client.handle_packet(&answer(MessageType::Ack, request.xid(), MAC, options(2000)), 1_000_200);
        assert!(matches!(event, Some(Event::Bound(_))));
    }

    #[test]
    fn a_refusal_starts_over() {
        let mut client = bound(1000);
        client.handle_timeout(500_020);
        let (_, request) = read(&client.poll_transmit(500_020).unwrap());
        let event = client.handle_packet(&answer(MessageType::Nak, request.xid(), MAC, vec![]), 500_030);
        assert_eq!(event, Some(Event::Lost));
        assert!(client.poll_transmit(500_030).is_none(), "not at once");
        assert_eq!(read(&client.poll_transmit(501_030).unwrap()).0, MessageType::Discover);
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let mut client = client();
        let (_, discover) = read(&client.poll_transmit(0).unwrap());
        client.handle_packet(&answer(MessageType::Offer, discover.xid(), MAC, vec![]), 0);
        let (mut now, mut requests) = (0, 0);
        loop {
            client.handle_timeout(now);
            let (kind, _) = read(&client.poll_transmit(now).unwrap());
            if kind == MessageType::Discover {
                break;
            }
            requests += 1;
            now = client.poll_timeout();
        }
        assert_eq!(requests, REQUESTS);
    }

    #[test]
    fn an_infinite_lease_is_never_renewed_and_a_lost_carrier_drops_it() {
        let mut client = bound(u32::MAX);
        assert_eq!(client.poll_timeout(), u64::MAX);
        assert_eq!(client.handle_timeout(1 << 50), None);
        assert_eq!(client.restart(1 << 50), Some(Event::Lost));
        assert_eq!(client.restart(1 << 50), None);
    }
}
