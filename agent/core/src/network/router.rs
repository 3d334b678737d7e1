//! What routers say of a link (RFC 4861, 8106). Addresses and routes of it are the kernel's work; here is the rest: whether
//! DHCPv6 has more, name servers, domains.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// Router solicitation: type, code, room for the checksum, which the kernel fills in, and reserved.
pub const SOLICITATION: [u8; 8] = [133, 0, 0, 0, 0, 0, 0, 0];
const ADVERTISEMENT: u8 = 134;
const RDNSS: u8 = 25;
const DNSSL: u8 = 31;
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
/// More servers and domains than this of one link are not remembered.
const MOST: usize = 8;

/// What the routers of one link say together.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Advertisement {
    /// DHCPv6 lends addresses.
    pub managed: bool,
    /// DHCPv6 knows the rest.
    pub other: bool,
    servers: BTreeMap<Ipv6Addr, u64>,
    domains: BTreeMap<String, u64>,
}

impl Advertisement {
    /// Takes a packet of ICMPv6. True when something is other than before.
    pub fn hear(&mut self, packet: &[u8], now_ms: u64) -> bool {
        let before = (self.managed, self.other, self.servers(), self.domains());
        let Some((header, options)) = packet.split_at_checked(16) else { return false };
        if header[0] != ADVERTISEMENT || header[1] != 0 {
            return false;
        }
        // What one router says, another does not take back: its silence is no word about the other's DHCPv6.
        self.managed |= header[5] & MANAGED != 0;
        self.other |= header[5] & OTHER != 0;
        let mut rest = options;
        while let [kind, length, ..] = rest {
            let length = usize::from(*length) * 8;
            let Some((option, behind)) = rest.split_at_checked(length).filter(|_| length > 0) else { break };
            rest = behind;
            let Some((head, body)) = option.split_at_checked(8) else { continue };
            let seconds = u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            // For ever is some weeks.
            let until = if seconds == 0 { 0 } else { now_ms.saturating_add(u64::from(seconds) * 1000) };
            match *kind {
                RDNSS => {
                    for server in body.chunks_exact(16) {
                        let server = Ipv6Addr::from(<[u8; 16]>::try_from(server).unwrap_or_default());
                        remember(&mut self.servers, server, until);
                    }
                }
                DNSSL => {
                    for domain in domains(body) {
                        remember(&mut self.domains, domain, until);
                    }
                }
                _ => {}
            }
        }
        before != (self.managed, self.other, self.servers(), self.domains())
    }

    /// Forgets what was not said again in time. True when there was something.
    pub fn handle_timeout(&mut self, now_ms: u64) -> bool {
        let before = self.servers.len() + self.domains.len();
        self.servers.retain(|_, until| *until > now_ms);
        self.domains.retain(|_, until| *until > now_ms);
        before != self.servers.len() + self.domains.len()
    }

    /// Name servers.
    #[must_use]
    pub fn servers(&self) -> Vec<Ipv6Addr> {
        self.servers.keys().copied().collect()
    }

    /// Domains to search in.
    #[must_use]
    pub fn domains(&self) -> Vec<String> {
        self.domains.keys().cloned().collect()
    }
}

fn remember<K: Ord>(known: &mut BTreeMap<K, u64>, what: K, until: u64) {
    if until == 0 {
        known.remove(&what);
    } else if known.len() < MOST || known.contains_key(&what) {
        known.insert(what, until);
    }
}

/// Names as labels with their lengths; zeros fill the rest.
pub(crate) fn domains(body: &[u8]) -> Vec<String> {
    let (mut domains, mut labels, mut rest) = (Vec::new(), Vec::new(), body);
    while let Some((length, behind)) = rest.split_first() {
        if *length == 0 {
            if !labels.is_empty() {
                domains.push(std::mem::take(&mut labels).join("."));
            }
            rest = behind;
            continue;
        }
        let Some((label, behind)) = behind.split_at_checked(usize::from(*length)) else { break };
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = behind;
    }
    domains.retain(|domain| api::network::is_domain(domain));
    domains
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(flags: u8, seconds: u32) -> Vec<u8> {
        let mut packet = vec![134, 0, 0, 0, 64, flags, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
        packet.extend([25, 3, 0, 0]);
        packet.extend(seconds.to_be_bytes());
        packet.extend("fd77::53".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend([31, 3, 0, 0]);
        packet.extend(seconds.to_be_bytes());
        packet.extend(b"\x04rack\x07example\0\0\0");
        packet
    }

    #[test]
    fn servers_and_domains_last_as_long_as_their_router_says() {
        let mut heard = Advertisement::default();
        assert!(heard.hear(&packet(0xc0, 60), 1_000));
        assert!(heard.managed && heard.other);
        assert_eq!(
            (heard.servers(), heard.domains()),
            (vec!["fd77::53".parse().unwrap()], vec!["rack.example".to_owned()])
        );
        assert!(!heard.hear(&packet(0xc0, 60), 2_000));
        assert!(!heard.handle_timeout(61_999));
        assert!(heard.handle_timeout(62_000) && heard.servers().is_empty());
        heard.hear(&packet(0, 60), 0);
        assert!(heard.hear(&packet(0, 0), 1) && heard.domains().is_empty());
        assert!(!heard.hear(&SOLICITATION, 2));
    }

    #[test]
    fn routers_that_differ_do_not_take_back_each_others_flags() {
        let mut heard = Advertisement::default();
        assert!(heard.hear(&packet(MANAGED, 60), 0));
        assert!(!heard.hear(&packet(0, 60), 1), "nothing is other than before");
        assert!(heard.managed && !heard.other);
        assert!(heard.hear(&packet(OTHER, 60), 2));
        assert!(heard.managed && heard.other);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..200), flags: u8) {
            let mut heard = Advertisement::default();
            heard.hear(&bytes, 0);
            let mut whole = packet(flags, 9);
            whole.extend(bytes);
            heard.hear(&whole, 0);
            prop_assert!(heard.servers().len() <= MOST);
        }
    }
}
