//! The client's states, RFC 8415 section 18.2.

use super::message::{Answer, Duid, Kind, Lease, Sender, decode};
use crate::randomness::Randomness;

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wish {
    /// Addresses and the rest.
    Addresses,
    /// Only the rest: addresses are from routers, or static.
    Information,
}

/// One link's client. Feed it packets and the time; send what [`poll_transmit`](Self::poll_transmit) gives to all servers.
///
/// ```text
/// Soliciting ─ADVERTISE▶ Requesting ─REPLY▶ Bound ─T1▶ Renewing ─T2▶ Rebinding        Asking ─REPLY▶ Informed
///     │  ▲                   │silence        ▲ ▲───REPLY───┴───REPLY────┤               ▲──refresh time──┘
///     │  └───────────────────┴── lease over ─┼──────────────────────────┘
///     └── REPLY to a rapid commit ───────────┘
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    sender: Sender,
    randomness: Randomness,
    state: State,
    sol_max_ms: u64,
}

#[derive(Clone, Debug)]
enum State {
    Soliciting { exchange: Exchange, best: Option<Box<Answer>> },
    Requesting { exchange: Exchange, offer: Box<Lease> },
    Bound { lease: Box<Lease>, since_ms: u64 },
    Renewing { exchange: Exchange, lease: Box<Lease>, since_ms: u64 },
    Rebinding { exchange: Exchange, lease: Box<Lease>, since_ms: u64 },
    Asking { exchange: Exchange, known: Option<Box<Lease>> },
    Informed { lease: Box<Lease>, until_ms: u64 },
}

/// Something the network's configuration has to follow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// A first or a changed lease.
    Bound(Box<Lease>),
    /// Its addresses are no longer ours.
    Lost,
}

/// First wait, longest wait, how many times; in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Patience(u64, u64, u32);

const SOLICIT: Patience = Patience(1_000, 3_600_000, u32::MAX);
const REQUEST: Patience = Patience(1_000, 30_000, 10);
const EXTEND: Patience = Patience(10_000, 600_000, u32::MAX);
const INFORM: Patience = Patience(1_000, 3_600_000, u32::MAX);
/// Clients of a rack that booted together do not ask together.
const FIRST_DELAY_MS: u64 = 1_000;
/// Nodes wait for addresses: not as long as the RFC lets them.
const LONGEST_SOLICIT_MS: u64 = 64_000;
/// A day, unless the server says otherwise; not less than ten minutes.
const REFRESH_SECS: u32 = 86_400;
const LEAST_REFRESH_SECS: u32 = 600;

#[derive(Clone, Copy, Debug)]
struct Exchange {
    xid: u32,
    since_ms: u64,
    next_ms: u64,
    wait_ms: u64,
    sent: u32,
    patience: Patience,
}

impl Exchange {
    fn begin(randomness: &mut Randomness, now_ms: u64, first_ms: u64, patience: Patience) -> Self {
        let xid = randomness.next_u32() >> 8;
        Self { xid, since_ms: now_ms, next_ms: first_ms, wait_ms: 0, sent: 0, patience }
    }

    /// RFC 8415 section 15: doubled, up to the longest, each give or take a tenth.
    fn sent(&mut self, now_ms: u64, randomness: &mut Randomness) {
        if self.sent == 0 {
            self.since_ms = now_ms;
        }
        let Patience(first, longest, _) = self.patience;
        let wait = if self.wait_ms == 0 { first } else { (self.wait_ms * 2).min(longest) };
        self.wait_ms = wait;
        self.sent = self.sent.saturating_add(1);
        let around = wait - wait / 10 + randomness.up_to(wait / 5);
        // The first solicitation waits for all servers: not less than the whole wait.
        self.next_ms = now_ms + if self.sent == 1 { around.max(wait) } else { around };
    }

    const fn is_over(&self, now_ms: u64) -> bool {
        self.sent >= self.patience.2 && self.next_ms <= now_ms
    }
}

impl Client {
    /// A client that wants to ask soon. `iaid` tells a machine's links apart.
    #[must_use]
    pub fn new(duid: Duid, iaid: u32, wish: Wish, seed: [u8; 16], now_ms: u64) -> Self {
        let mut client = Self {
            sender: Sender { duid, iaid, wish },
            randomness: Randomness::new(seed),
            state: State::Informed { lease: Box::default(), until_ms: 0 },
            sol_max_ms: LONGEST_SOLICIT_MS,
        };
        let first_ms = now_ms + client.randomness.up_to(FIRST_DELAY_MS);
        client.begin(now_ms, first_ms);
        client
    }

    fn exchange(&mut self, now_ms: u64, first_ms: u64, patience: Patience) -> Exchange {
        Exchange::begin(&mut self.randomness, now_ms, first_ms, patience)
    }

    fn begin(&mut self, now_ms: u64, first_ms: u64) {
        self.state = match self.sender.wish {
            Wish::Addresses => {
                let Patience(first, longest, times) = SOLICIT;
                let patience = Patience(first, longest.min(self.sol_max_ms), times);
                State::Soliciting { exchange: self.exchange(now_ms, first_ms, patience), best: None }
            }
            Wish::Information => {
                let exchange = self.exchange(now_ms, first_ms, INFORM);
                State::Asking { exchange, known: None }
            }
        };
    }

    /// What is lent or known.
    #[must_use]
    pub fn lease(&self) -> Option<&Lease> {
        match &self.state {
            State::Soliciting { .. } | State::Requesting { .. } => None,
            State::Bound { lease, .. } | State::Renewing { lease, .. } | State::Rebinding { lease, .. } => Some(lease),
            State::Informed { lease, .. } => Some(lease),
            State::Asking { known, .. } => known.as_deref(),
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and [`poll_transmit`](Self::poll_transmit) if nothing arrives.
    #[must_use]
    pub fn poll_timeout(&self) -> u64 {
        match &self.state {
            State::Soliciting { exchange, .. }
            | State::Requesting { exchange, .. }
            | State::Asking { exchange, .. } => exchange.next_ms,
            State::Bound { lease, since_ms } => after(*since_ms, lease.renew_secs),
            State::Renewing { exchange, lease, since_ms } => exchange.next_ms.min(after(*since_ms, lease.rebind_secs)),
            State::Rebinding { exchange, lease, since_ms } => exchange.next_ms.min(after(*since_ms, lease.valid_secs)),
            State::Informed { until_ms, .. } => *until_ms,
        }
    }

    /// Lets time pass.
    pub fn handle_timeout(&mut self, now_ms: u64) -> Option<Event> {
        match &mut self.state {
            State::Soliciting { exchange, best } => {
                if exchange.sent > 0
                    && exchange.next_ms <= now_ms
                    && let Some(best) = best.take()
                {
                    self.request(best.lease, now_ms);
                }
                None
            }
            State::Requesting { exchange, .. } => {
                if exchange.is_over(now_ms) {
                    self.begin(now_ms, now_ms);
                }
                None
            }
            State::Bound { lease, since_ms } => {
                if after(*since_ms, lease.renew_secs) > now_ms {
                    return None;
                }
                let (lease, since_ms) = (lease.clone(), *since_ms);
                let exchange = self.exchange(now_ms, now_ms, EXTEND);
                self.state = State::Renewing { exchange, lease, since_ms };
                self.handle_timeout(now_ms)
            }
            State::Renewing { lease, since_ms, .. } => {
                if after(*since_ms, lease.rebind_secs) > now_ms {
                    return None;
                }
                let (lease, since_ms) = (lease.clone(), *since_ms);
                let exchange = self.exchange(now_ms, now_ms, EXTEND);
                self.state = State::Rebinding { exchange, lease, since_ms };
                self.handle_timeout(now_ms)
            }
            State::Rebinding { lease, since_ms, .. } => {
                if after(*since_ms, lease.valid_secs) > now_ms {
                    return None;
                }
                self.begin(now_ms, now_ms);
                Some(Event::Lost)
            }
            State::Informed { lease, until_ms } => {
                if *until_ms <= now_ms {
                    let known = Some(std::mem::take(lease));
                    let exchange = self.exchange(now_ms, now_ms, INFORM);
                    self.state = State::Asking { exchange, known };
                }
                None
            }
            State::Asking { .. } => None,
        }
    }

    /// The next packet to send, if one is due at `now_ms`.
    pub fn poll_transmit(&mut self, now_ms: u64) -> Option<Vec<u8>> {
        let (kind, exchange, lease) = match &mut self.state {
            State::Soliciting { exchange, .. } => (Kind::Solicit, exchange, None),
            State::Requesting { exchange, offer } => (Kind::Request, exchange, Some(&**offer)),
            State::Renewing { exchange, lease, .. } => (Kind::Renew, exchange, Some(&**lease)),
            State::Rebinding { exchange, lease, .. } => (Kind::Rebind, exchange, Some(&**lease)),
            State::Asking { exchange, .. } => (Kind::Information, exchange, None),
            State::Bound { .. } | State::Informed { .. } => return None,
        };
        if exchange.next_ms > now_ms {
            return None;
        }
        let elapsed = if exchange.sent == 0 { 0 } else { now_ms.saturating_sub(exchange.since_ms) };
        let bytes = self.sender.message(kind, exchange.xid, elapsed, lease);
        exchange.sent(now_ms, &mut self.randomness);
        Some(bytes)
    }

    /// Takes a UDP payload from port 547. What is not for us changes nothing.
    pub fn handle_packet(&mut self, bytes: &[u8], now_ms: u64) -> Option<Event> {
        let xid = match &self.state {
            State::Soliciting { exchange, .. }
            | State::Requesting { exchange, .. }
            | State::Renewing { exchange, .. }
            | State::Rebinding { exchange, .. }
            | State::Asking { exchange, .. } => exchange.xid,
            State::Bound { .. } | State::Informed { .. } => return None,
        };
        let answer = decode(bytes, xid, &self.sender)?;
        if let Some(secs) = answer.sol_max_rt {
            self.sol_max_ms = u64::from(secs) * 1000;
        }
        let lends = answer.status == 0 && !answer.lease.addresses.is_empty();
        match (&mut self.state, answer.kind) {
            (State::Soliciting { exchange, best }, Kind::Advertise) if lends => {
                if answer.preference == u8::MAX || exchange.sent > 1 {
                    // Nobody is better, or the first to answer after everybody had a chance.
                    self.request(answer.lease, now_ms);
                } else if best.as_ref().is_none_or(|best| best.preference < answer.preference) {
                    *best = Some(Box::new(answer));
                }
                None
            }
            (State::Soliciting { .. }, Kind::Reply) if lends && answer.rapid => Some(self.bind(answer.lease, now_ms)),
            (State::Requesting { .. }, Kind::Reply) => {
                if lends {
                    return Some(self.bind(answer.lease, now_ms));
                }
                // It offered what it does not give: others may.
                self.begin(now_ms, now_ms + FIRST_DELAY_MS);
                None
            }
            (State::Renewing { lease, .. } | State::Rebinding { lease, .. }, Kind::Reply) => {
                if lends {
                    let old = lease.clone();
                    let event = self.bind(answer.lease, now_ms);
                    let changed = self.lease().is_none_or(|new| !same(new, &old));
                    return changed.then_some(event);
                }
                // It knows nothing of us, or takes the addresses back.
                self.begin(now_ms, now_ms);
                Some(Event::Lost)
            }
            (State::Asking { known, .. }, Kind::Reply) if answer.status == 0 => {
                let secs = answer.refresh_secs.unwrap_or(REFRESH_SECS).max(LEAST_REFRESH_SECS);
                let lease = Box::new(Lease { addresses: Vec::new(), ..answer.lease });
                let changed = known.as_ref().is_none_or(|known| !same(known, &lease));
                self.state = State::Informed { lease: lease.clone(), until_ms: after(now_ms, secs) };
                changed.then_some(Event::Bound(lease))
            }
            // Too late, too little, or out of turn.
            (
                State::Soliciting { .. }
                | State::Requesting { .. }
                | State::Renewing { .. }
                | State::Rebinding { .. }
                | State::Asking { .. }
                | State::Bound { .. }
                | State::Informed { .. },
                _,
            ) => None,
        }
    }

    fn request(&mut self, offer: Lease, now_ms: u64) {
        let exchange = self.exchange(now_ms, now_ms, REQUEST);
        self.state = State::Requesting { exchange, offer: Box::new(offer) };
    }

    fn bind(&mut self, lease: Lease, now_ms: u64) -> Event {
        let lease = Box::new(lease);
        self.state = State::Bound { lease: lease.clone(), since_ms: now_ms };
        Event::Bound(lease)
    }
}

/// But for who says it, and for how long.
fn same(one: &Lease, other: &Lease) -> bool {
    let addresses = |lease: &Lease| lease.addresses.iter().map(|lent| lent.address).collect::<Vec<_>>();
    addresses(one) == addresses(other) && (&one.dns, &one.domains, &one.ntp) == (&other.dns, &other.domains, &other.ntp)
}

const fn after(since_ms: u64, secs: u32) -> u64 {
    if secs == u32::MAX { u64::MAX } else { since_ms.saturating_add(secs as u64 * 1000) }
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::answer;
    use super::*;

    fn client(wish: Wish) -> (Client, u64) {
        let client = Client::new(Duid::of_mac([2, 0, 0, 0, 0, 1]), 7, wish, [3; 16], 0);
        let first = client.poll_timeout();
        assert!(first <= FIRST_DELAY_MS);
        (client, first)
    }

    fn sent(client: &mut Client, now_ms: u64) -> (u8, u32) {
        let bytes = client.poll_transmit(now_ms).unwrap();
        assert!(client.poll_transmit(now_ms).is_none(), "one packet at a time");
        (bytes[0], u32::from_be_bytes([0, bytes[1], bytes[2], bytes[3]]))
    }

    fn bound(valid: u32) -> (Client, u64) {
        let (mut client, now) = client(Wish::Addresses);
        let (kind, xid) = sent(&mut client, now);
        assert_eq!(kind, 1);
        assert_eq!(client.handle_packet(&answer(2, xid, 255, valid, &[]), now), None);
        let (kind, xid) = sent(&mut client, now);
        assert_eq!(kind, 3);
        assert!(matches!(client.handle_packet(&answer(7, xid, 0, valid, &[]), now), Some(Event::Bound(_))));
        (client, now)
    }

    #[test]
    fn the_best_of_those_who_answer_in_the_first_second_is_asked() {
        let (mut client, now) = client(Wish::Addresses);
        let (_, xid) = sent(&mut client, now);
        for preference in [1, 9, 4] {
            client.handle_packet(&answer(2, xid, preference, 60, &[]), now + 10);
        }
        assert!(client.poll_transmit(now + 20).is_none());
        let later = client.poll_timeout();
        assert!((1_000..=1_100).contains(&(later - now)));
        client.handle_timeout(later);
        let request = client.poll_transmit(later).unwrap();
        assert_eq!(request[0], 3);
        assert!(request.windows(6).any(|part| part == [0, 2, 0, 2, 9, 9]), "the server of preference 9: {request:?}");
    }

    #[test]
    fn a_rapid_commit_needs_no_request_and_nothing_lent_is_no_answer() {
        let (mut client, now) = client(Wish::Addresses);
        let (_, xid) = sent(&mut client, now);
        assert_eq!(client.handle_packet(&answer(7, xid, 0, 60, &[]), now), None, "without the option it is no commit");
        assert_eq!(client.handle_packet(&answer(2, xid, 255, 0, &[]), now), None);
        assert!(matches!(client.handle_packet(&answer(7, xid, 0, 60, &[(14, vec![])]), now), Some(Event::Bound(_))));
    }

    #[test]
    fn a_lease_is_renewed_then_rebound_then_lost() {
        let (mut client, now) = bound(1000);
        assert_eq!(client.poll_timeout(), now + 500_000);
        client.handle_timeout(now + 500_000);
        let (kind, xid) = sent(&mut client, now + 500_000);
        assert_eq!(kind, 5);
        assert_eq!(client.handle_packet(&answer(7, xid, 0, 1000, &[]), now + 500_010), None, "the same for longer");
        client.handle_timeout(now + 1_300_010);
        assert_eq!(sent(&mut client, now + 1_300_010).0, 6);
        assert_eq!(client.handle_timeout(now + 1_500_010), Some(Event::Lost));
        assert_eq!(sent(&mut client, now + 1_500_010).0, 1);
        assert!(client.lease().is_none());
    }

    #[test]
    fn a_server_that_takes_the_address_back_is_obeyed_and_silence_starts_over() {
        let (mut client, now) = bound(1000);
        client.handle_timeout(now + 500_000);
        let (_, xid) = sent(&mut client, now + 500_000);
        assert_eq!(client.handle_packet(&answer(7, xid, 0, 0, &[]), now + 500_001), Some(Event::Lost));
        let (_, xid) = sent(&mut client, now + 500_001);
        client.handle_packet(&answer(2, xid, 255, 60, &[]), now + 500_002);
        let (mut at, mut requests) = (now + 500_002, 0);
        while client.poll_transmit(at).is_some_and(|bytes| bytes[0] == 3) {
            requests += 1;
            at = client.poll_timeout();
            client.handle_timeout(at);
        }
        assert_eq!(requests, 10);
        assert!(matches!(client.state, State::Soliciting { .. }));
    }

    #[test]
    fn information_alone_lends_nothing_and_is_asked_for_again() {
        let (mut client, now) = client(Wish::Information);
        let (kind, xid) = sent(&mut client, now);
        assert_eq!(kind, 11);
        let Some(Event::Bound(lease)) =
            client.handle_packet(&answer(7, xid, 0, 60, &[(32, 700u32.to_be_bytes().to_vec())]), now)
        else {
            panic!("nothing was learnt")
        };
        assert!(lease.addresses.is_empty() && lease.dns.len() == 1);
        assert_eq!(client.poll_timeout(), now + 700_000);
        client.handle_timeout(now + 700_000);
        let (_, xid) = sent(&mut client, now + 700_000);
        assert_eq!(client.handle_packet(&answer(7, xid, 0, 0, &[]), now + 700_001), None, "status 2: out of turn");
    }

    #[test]
    fn solicitations_become_rare_and_never_stop() {
        let (mut client, mut now) = client(Wish::Addresses);
        for _ in 0..20 {
            assert_eq!(sent(&mut client, now).0, 1);
            let wait = client.poll_timeout() - now;
            assert!((900..=71_000).contains(&wait), "{wait}");
            now = client.poll_timeout();
            assert_eq!(client.handle_timeout(now), None);
        }
    }
}
