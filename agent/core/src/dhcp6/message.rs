//! The bytes of DHCPv6 messages. Options are types, lengths and values all the way down.

use std::net::Ipv6Addr;

use super::client::Wish;
use crate::network::dhcp6_domains;

const CLIENT_ID: u16 = 1;
const SERVER_ID: u16 = 2;
const IA_NA: u16 = 3;
const IA_ADDRESS: u16 = 5;
const REQUESTED: u16 = 6;
const PREFERENCE: u16 = 7;
const ELAPSED: u16 = 8;
const STATUS: u16 = 13;
const RAPID_COMMIT: u16 = 14;
const NAME_SERVERS: u16 = 23;
const DOMAINS: u16 = 24;
const SNTP_SERVERS: u16 = 31;
const REFRESH_TIME: u16 = 32;
const NTP_SERVER: u16 = 56;
const SOL_MAX_RT: u16 = 82;
/// Identifiers are no longer (RFC 8415 section 11.1).
const LONGEST_DUID: usize = 130;
/// A lease is not renewed sooner, whatever its server says.
const LEAST_RENEW_SECS: u32 = 60;
/// Addresses of one lease.
const MOST: usize = 16;

/// What kind of message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Kind {
    Solicit = 1,
    Advertise = 2,
    Request = 3,
    Renew = 5,
    Rebind = 6,
    Reply = 7,
    Information = 11,
}

/// Who a machine is to DHCPv6 servers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Duid(pub Vec<u8>);

impl Duid {
    /// Of an Ethernet address: the same after every boot, without anything kept (DUID-LL).
    #[must_use]
    pub fn of_mac(mac: [u8; 6]) -> Self {
        let mut bytes = vec![0, 3, 0, 1];
        bytes.extend(mac);
        Self(bytes)
    }
}

/// What a server lends, or only says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Lease {
    /// Ours for the time being; none of a server that was only asked.
    pub addresses: Vec<Lent>,
    /// Name servers.
    pub dns: Vec<Ipv6Addr>,
    /// Domains to search in.
    pub domains: Vec<String>,
    /// Time servers.
    pub ntp: Vec<Ipv6Addr>,
    /// The server's identifier.
    pub server: Vec<u8>,
    /// When to ask this server again, in seconds.
    pub renew_secs: u32,
    /// When to ask any.
    pub rebind_secs: u32,
    /// When it is over; `u32::MAX` is never.
    pub valid_secs: u32,
}

/// An address.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Lent {
    /// It.
    pub address: Ipv6Addr,
    /// For how long it may be used, in seconds.
    pub valid_secs: u32,
}

/// An answer to us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Answer {
    pub(super) kind: Kind,
    pub(super) preference: u8,
    pub(super) rapid: bool,
    /// Of the message and of the addresses: 0 is success.
    pub(super) status: u16,
    pub(super) refresh_secs: Option<u32>,
    pub(super) sol_max_rt: Option<u32>,
    pub(super) lease: Lease,
}

/// What all our messages have in common.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) duid: Duid,
    pub(super) iaid: u32,
    pub(super) wish: Wish,
}

impl Sender {
    pub(super) fn message(&self, kind: Kind, xid: u32, elapsed_ms: u64, lease: Option<&Lease>) -> Vec<u8> {
        let id = xid.to_be_bytes();
        let mut bytes = vec![kind as u8, id[1], id[2], id[3]];
        put(&mut bytes, CLIENT_ID, &self.duid.0);
        let hundredths = u16::try_from(elapsed_ms / 10).unwrap_or(u16::MAX);
        put(&mut bytes, ELAPSED, &hundredths.to_be_bytes());
        let wanted = [NAME_SERVERS, DOMAINS, SNTP_SERVERS, NTP_SERVER, SOL_MAX_RT, REFRESH_TIME];
        let count = if self.wish == Wish::Information { wanted.len() } else { wanted.len() - 1 };
        let wanted: Vec<u8> = wanted.iter().take(count).flat_map(|code| code.to_be_bytes()).collect();
        put(&mut bytes, REQUESTED, &wanted);
        if matches!(kind, Kind::Request | Kind::Renew)
            && let Some(lease) = lease
        {
            put(&mut bytes, SERVER_ID, &lease.server);
        }
        if kind == Kind::Solicit {
            put(&mut bytes, RAPID_COMMIT, &[]);
        }
        if self.wish == Wish::Addresses {
            let mut association = self.iaid.to_be_bytes().to_vec();
            // T1 and T2 are the server's business.
            association.extend([0; 8]);
            for lent in lease.iter().flat_map(|lease| &lease.addresses) {
                let mut address = lent.address.octets().to_vec();
                address.extend([0; 8]);
                put(&mut association, IA_ADDRESS, &address);
            }
            put(&mut bytes, IA_NA, &association);
        }
        bytes
    }
}

fn put(bytes: &mut Vec<u8>, code: u16, value: &[u8]) {
    bytes.extend(code.to_be_bytes());
    bytes.extend(u16::try_from(value.len()).unwrap_or(0).to_be_bytes());
    bytes.extend(value);
}

/// Codes and values; what is cut off is left out.
fn options(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (head, behind) = rest.split_at_checked(4)?;
        let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
        let (value, behind) = behind.split_at_checked(length)?;
        rest = behind;
        Some((u16::from_be_bytes([head[0], head[1]]), value))
    })
}

fn number(value: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(value.get(..4)?.try_into().ok()?))
}

fn addresses(value: &[u8]) -> impl Iterator<Item = Ipv6Addr> {
    let address = |bytes: &[u8]| <[u8; 16]>::try_from(bytes).ok().map(Ipv6Addr::from);
    value.chunks_exact(16).filter_map(address).take(8)
}

fn status(value: &[u8]) -> u16 {
    value.get(..2).map_or(1, |code| u16::from_be_bytes([code[0], code[1]]))
}

/// Reads a packet; `None` when it is not an answer to this transaction of this client.
pub(super) fn decode(bytes: &[u8], xid: u32, sender: &Sender) -> Option<Answer> {
    let (head, body) = bytes.split_at_checked(4)?;
    let kind = match head[0] {
        2 => Kind::Advertise,
        7 => Kind::Reply,
        _ => return None,
    };
    if u32::from_be_bytes([0, head[1], head[2], head[3]]) != xid {
        return None;
    }
    let mut client = None;
    let mut answer = Answer {
        kind,
        preference: 0,
        rapid: false,
        status: 0,
        refresh_secs: None,
        sol_max_rt: None,
        lease: Lease::default(),
    };
    for (code, value) in options(body) {
        match code {
            CLIENT_ID => client = Some(value),
            SERVER_ID if value.len() <= LONGEST_DUID => answer.lease.server = value.to_vec(),
            PREFERENCE => answer.preference = value.first().copied().unwrap_or(0),
            RAPID_COMMIT => answer.rapid = true,
            STATUS if answer.status == 0 => answer.status = status(value),
            NAME_SERVERS => answer.lease.dns = addresses(value).collect(),
            DOMAINS => answer.lease.domains = dhcp6_domains(value),
            SNTP_SERVERS => answer.lease.ntp.extend(addresses(value)),
            NTP_SERVER => {
                // Suboption 1 is the address of a server.
                answer
                    .lease
                    .ntp
                    .extend(options(value).filter(|(code, _)| *code == 1).flat_map(|(_, one)| addresses(one)));
            }
            REFRESH_TIME => answer.refresh_secs = number(value),
            SOL_MAX_RT => answer.sol_max_rt = number(value).filter(|secs| (60..=86_400).contains(secs)),
            IA_NA if number(value) == Some(sender.iaid) => association(&mut answer, value),
            _ => {}
        }
    }
    answer.lease.ntp.dedup();
    // Who does not say who it is cannot be answered.
    if client != Some(&sender.duid.0[..]) || answer.lease.server.is_empty() {
        return None;
    }
    Some(answer)
}

fn association(answer: &mut Answer, value: &[u8]) {
    let at = |from: usize| value.get(from..).and_then(number).unwrap_or(0);
    let (t1, t2) = (at(4), at(8));
    let (mut lent, mut preferred) = (Vec::new(), u32::MAX);
    for (code, value) in options(value.get(12..).unwrap_or_default()) {
        match code {
            IA_ADDRESS => {
                let address = addresses(value).next();
                let times = value.get(16..).and_then(number).zip(value.get(20..).and_then(number));
                let Some((address, (usable, valid))) = address.zip(times) else { continue };
                let failed = options(value.get(24..).unwrap_or_default())
                    .any(|(code, value)| code == STATUS && status(value) != 0);
                let nobodys = address.is_multicast() || address.is_unspecified() || address.is_loopback();
                if valid > 0 && usable <= valid && !failed && !nobodys && lent.len() < MOST {
                    lent.push(Lent { address, valid_secs: valid });
                    preferred = preferred.min(usable);
                }
            }
            STATUS => answer.status = status(value),
            _ => {}
        }
    }
    let lease = &mut answer.lease;
    lease.valid_secs = lent.iter().map(|lent| lent.valid_secs).max().unwrap_or(0);
    // RFC 8415 section 14.2: half, and four fifths.
    let part = |times: u64| {
        let part = u64::from(preferred) * times / 10;
        if preferred == u32::MAX { u32::MAX } else { u32::try_from(part).unwrap_or(u32::MAX) }
    };
    lease.renew_secs = if t1 == 0 { part(5) } else { t1 };
    lease.rebind_secs = if t2 == 0 { part(8) } else { t2 }.max(lease.renew_secs);
    if t1 > t2 && t2 > 0 {
        (lease.renew_secs, lease.rebind_secs) = (part(5), part(8));
    }
    // A server that has no preferred time to give would be asked without a pause. Short leases are asked for half way:
    // later is too late.
    let least = LEAST_RENEW_SECS.min(lease.valid_secs / 2).max(1);
    lease.renew_secs = lease.renew_secs.max(least).min(lease.valid_secs);
    lease.rebind_secs = lease.rebind_secs.max(lease.renew_secs).min(lease.valid_secs);
    lease.addresses = lent;
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn sender(wish: Wish) -> Sender {
        Sender { duid: Duid::of_mac([2, 0, 0, 0, 0, 1]), iaid: 7, wish }
    }

    /// A server's answer; `valid` of 0 lends nothing.
    pub(in super::super) fn answer(kind: u8, xid: u32, preference: u8, valid: u32, more: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let id = xid.to_be_bytes();
        let mut bytes = vec![kind, id[1], id[2], id[3]];
        put(&mut bytes, CLIENT_ID, &Duid::of_mac([2, 0, 0, 0, 0, 1]).0);
        put(&mut bytes, SERVER_ID, &[9, preference]);
        put(&mut bytes, PREFERENCE, &[preference]);
        put(&mut bytes, NAME_SERVERS, &"fd77::53".parse::<Ipv6Addr>().unwrap().octets());
        put(&mut bytes, DOMAINS, b"\x04rack\x07example\0");
        let mut association = 7u32.to_be_bytes().to_vec();
        association.extend([0; 8]);
        if valid > 0 {
            let mut address = "fd77::100".parse::<Ipv6Addr>().unwrap().octets().to_vec();
            address.extend(valid.to_be_bytes());
            address.extend(valid.to_be_bytes());
            put(&mut association, IA_ADDRESS, &address);
        } else {
            put(&mut association, STATUS, &[0, 2]);
        }
        put(&mut bytes, IA_NA, &association);
        for (code, value) in more {
            put(&mut bytes, *code, value);
        }
        bytes
    }

    #[test]
    fn an_answer_becomes_a_lease_with_the_rfcs_times() {
        let sender = sender(Wish::Addresses);
        let read = decode(
            &answer(
                7,
                5,
                3,
                1000,
                &[(NTP_SERVER, vec![0, 1, 0, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9])],
            ),
            5,
            &sender,
        )
        .unwrap();
        let lease = &read.lease;
        assert_eq!(lease.addresses, [Lent { address: "fd77::100".parse().unwrap(), valid_secs: 1000 }]);
        assert_eq!((lease.renew_secs, lease.rebind_secs, lease.valid_secs), (500, 800, 1000));
        assert_eq!((lease.dns.len(), lease.domains.as_slice()), (1, &["rack.example".to_owned()][..]));
        assert_eq!(lease.ntp, ["fd00::9".parse::<Ipv6Addr>().unwrap()]);
        assert_eq!(decode(&answer(2, 5, 3, 0, &[]), 5, &sender).unwrap().status, 2);
        assert_eq!(decode(&answer(7, 6, 3, 1000, &[]), 5, &sender), None);
        let other = Sender { duid: Duid::of_mac([2, 0, 0, 0, 0, 2]), ..sender };
        assert_eq!(decode(&answer(7, 5, 3, 1000, &[]), 5, &other), None);
    }

    #[test]
    fn a_lease_is_not_renewed_at_once_and_not_after_its_end() {
        let times = |t1: u32, t2: u32, preferred: u32, valid: u32| {
            let mut address = "fd77::100".parse::<Ipv6Addr>().unwrap().octets().to_vec();
            address.extend([preferred, valid].map(u32::to_be_bytes).concat());
            let mut association = [7, t1, t2].map(u32::to_be_bytes).concat();
            put(&mut association, IA_ADDRESS, &address);
            // The last association counts.
            let read = decode(&answer(7, 5, 0, 1000, &[(IA_NA, association)]), 5, &sender(Wish::Addresses)).unwrap();
            (read.lease.renew_secs, read.lease.rebind_secs)
        };
        assert_eq!(times(0, 0, 0, 3600), (60, 60));
        assert_eq!(times(1, 2, 3600, 3600), (60, 60));
        assert_eq!(times(0, 0, 0, 40), (20, 20));
        assert_eq!(times(0, 0, 40, 40), (20, 32), "a short lease is as before");
        assert_eq!(times(0, 0, 0, 1), (1, 1));
        assert_eq!(times(5000, 9000, 3600, 3600), (3600, 3600));
        assert_eq!(times(0, 0, u32::MAX, u32::MAX), (u32::MAX, u32::MAX));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..150) {
            let sender = sender(Wish::Addresses);
            let _ = decode(&bytes, 5, &sender);
            let whole = answer(7, 5, 0, 60, &[]);
            bytes.splice(..0, whole[..cut.min(whole.len())].iter().copied());
            let _ = decode(&bytes, 5, &sender);
        }
    }
}
