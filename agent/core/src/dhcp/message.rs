//! The bytes of DHCP messages, through `dhcproto`.

use std::net::Ipv4Addr;

use dhcproto::v4::{
    Decodable, Decoder, DhcpOption, DhcpOptions, Encodable, Encoder, Flags, Message, MessageType, Opcode, OptionCode,
};

use hwdetect::CivicAddress;

use super::lease::{Lease, Route, class_prefix_len, prefix_len};

/// GEOCONF_CIVIC (RFC 4776).
const CIVIC_LOCATION: u8 = 99;
/// The first of the numbers left to sites: where this one writes `rack=R7 row=3`.
const PLACE: u8 = 224;

/// What a server said to us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Reply {
    /// An address could be had.
    Offer { address: Ipv4Addr, server: Ipv4Addr },
    /// It is ours.
    Ack(Box<Lease>),
    /// It is not.
    Nak,
}

/// What all our messages have in common.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) mac: [u8; 6],
    pub(super) hostname: Option<String>,
}

impl Sender {
    pub(super) fn discover(&self, xid: u32, secs: u16) -> Vec<u8> {
        encode(&self.message(xid, secs, MessageType::Discover))
    }

    /// In SELECTING: names the server and the address, `ciaddr` stays zero.
    pub(super) fn request_offer(&self, xid: u32, secs: u16, address: Ipv4Addr, server: Ipv4Addr) -> Vec<u8> {
        let mut message = self.message(xid, secs, MessageType::Request);
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(server));
        encode(&message)
    }

    /// In RENEWING and REBINDING: `ciaddr` filled in, neither option 50 nor 54 (table 5).
    pub(super) fn extend(&self, xid: u32, secs: u16, address: Ipv4Addr) -> Vec<u8> {
        let mut message = self.message(xid, secs, MessageType::Request);
        message.set_ciaddr(address);
        // We have an address now: a unicast answer reaches us.
        message.set_flags(Flags::default());
        encode(&message)
    }

    fn message(&self, xid: u32, secs: u16, kind: MessageType) -> Message {
        let zero = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(xid, zero, zero, zero, zero, &self.mac);
        // Without an address only a broadcast answer gets through the IP layer.
        message.set_opcode(Opcode::BootRequest).set_secs(secs).set_flags(Flags::default().set_broadcast());
        let options = message.opts_mut();
        options.insert(DhcpOption::MessageType(kind));
        let mut client = vec![1];
        client.extend_from_slice(&self.mac);
        options.insert(DhcpOption::ClientIdentifier(client));
        options.insert(DhcpOption::MaxMessageSize(1472));
        options.insert(DhcpOption::ClassIdentifier(b"mesolith".to_vec()));
        if let Some(name) = &self.hostname {
            options.insert(DhcpOption::Hostname(name.clone()));
        }
        options.insert(DhcpOption::ParameterRequestList(vec![
            OptionCode::SubnetMask,
            OptionCode::Router,
            OptionCode::DomainNameServer,
            OptionCode::Hostname,
            OptionCode::DomainName,
            OptionCode::InterfaceMtu,
            OptionCode::NtpServers,
            OptionCode::Renewal,
            OptionCode::Rebinding,
            OptionCode::ClasslessStaticRoute,
            OptionCode::Unknown(CIVIC_LOCATION),
            OptionCode::Unknown(PLACE),
        ]));
        message
    }
}

/// Reads a packet; `None` when it is not an answer to this transaction of this client.
pub(super) fn decode(bytes: &[u8], xid: u32, mac: [u8; 6]) -> Option<Reply> {
    let message = Message::decode(&mut Decoder::new(bytes)).ok()?;
    if message.opcode() != Opcode::BootReply || message.xid() != xid || message.chaddr().get(..6) != Some(&mac[..]) {
        return None;
    }
    let options = message.opts();
    let server = match options.get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server,
        _ => message.siaddr(),
    };
    let kind = options.msg_type()?;
    if kind == MessageType::Nak {
        return Some(Reply::Nak);
    }
    if message.yiaddr().is_unspecified() {
        return None;
    }
    if kind == MessageType::Offer {
        return Some(Reply::Offer { address: message.yiaddr(), server });
    }
    (kind == MessageType::Ack).then(|| Reply::Ack(Box::new(lease(message.yiaddr(), server, options))))
}

fn lease(address: Ipv4Addr, server: Ipv4Addr, options: &DhcpOptions) -> Lease {
    let unnamed = |code| match options.get(OptionCode::Unknown(code)) {
        Some(DhcpOption::Unknown(option)) => Some(option.data()),
        _ => None,
    };
    let addresses = |code| match options.get(code) {
        Some(DhcpOption::Router(list) | DhcpOption::DomainNameServer(list) | DhcpOption::NtpServers(list)) => {
            list.clone()
        }
        _ => Vec::new(),
    };
    // Option 51 is mandatory in an ACK; a server without it gets an hour.
    let lease_secs = match options.get(OptionCode::AddressLeaseTime) {
        Some(DhcpOption::AddressLeaseTime(secs)) => (*secs).max(1),
        _ => 3600,
    };
    let rebind_secs = match options.get(OptionCode::Rebinding) {
        Some(DhcpOption::Rebinding(secs)) if *secs < lease_secs => *secs,
        _ => lease_secs - lease_secs / 8,
    };
    let renew_secs = match options.get(OptionCode::Renewal) {
        Some(DhcpOption::Renewal(secs)) if *secs < rebind_secs => *secs,
        _ => (lease_secs / 2).min(rebind_secs),
    };
    let routes: Vec<Route> = match options.get(OptionCode::ClasslessStaticRoute) {
        Some(DhcpOption::ClasslessStaticRoute(list)) => list
            .iter()
            .map(|(network, gateway)| Route {
                network: network.network(),
                prefix_len: network.prefix_len(),
                gateway: *gateway,
            })
            .collect(),
        _ => Vec::new(),
    };
    Lease {
        address,
        prefix_len: match options.get(OptionCode::SubnetMask) {
            Some(DhcpOption::SubnetMask(mask)) => prefix_len(*mask).unwrap_or(class_prefix_len(address)),
            _ => class_prefix_len(address),
        },
        routers: if routes.is_empty() { addresses(OptionCode::Router) } else { Vec::new() },
        routes,
        dns: addresses(OptionCode::DomainNameServer),
        ntp: addresses(OptionCode::NtpServers),
        domain: match options.get(OptionCode::DomainName) {
            Some(DhcpOption::DomainName(name)) => printable(name),
            _ => None,
        },
        hostname: match options.get(OptionCode::Hostname) {
            Some(DhcpOption::Hostname(name)) => printable(name),
            _ => None,
        },
        mtu: match options.get(OptionCode::InterfaceMtu) {
            Some(DhcpOption::InterfaceMtu(mtu)) if *mtu >= 576 => Some(*mtu),
            _ => None,
        },
        location: unnamed(CIVIC_LOCATION).and_then(CivicAddress::parse),
        place: unnamed(PLACE).and_then(line),
        server,
        lease_secs,
        renew_secs,
        rebind_secs,
    }
}

/// Words for people: no longer than an option, and nothing in it that could command a terminal.
fn line(bytes: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A name that may go into a configuration file: a server may pad with NUL or send anything.
fn printable(name: &str) -> Option<String> {
    let name = name.trim_end_matches('\0');
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (!name.is_empty() && name.len() <= 253 && name.chars().all(fine)).then(|| name.to_owned())
}

fn encode(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(300);
    let encoded = message.encode(&mut Encoder::new(&mut bytes));
    debug_assert!(encoded.is_ok(), "our own messages fit: {encoded:?}");
    // BOOTP's least length: some relays and servers drop anything shorter (RFC 951).
    bytes.resize(bytes.len().max(300), 0);
    bytes
}

#[cfg(test)]
pub(super) mod tests {
    use dhcproto::v4::UnknownOption;

    use super::*;

    /// A server's answer, for the tests of the client too.
    pub(crate) fn answer(kind: MessageType, xid: u32, mac: [u8; 6], options: Vec<DhcpOption>) -> Vec<u8> {
        let zero = Ipv4Addr::UNSPECIFIED;
        let mut message = Message::new_with_id(xid, zero, Ipv4Addr::new(10, 0, 2, 15), zero, zero, &mac);
        message.set_opcode(Opcode::BootReply);
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        message.opts_mut().insert(DhcpOption::ServerIdentifier(Ipv4Addr::new(10, 0, 2, 2)));
        for option in options {
            message.opts_mut().insert(option);
        }
        encode(&message)
    }

    #[test]
    fn an_acknowledgement_becomes_a_lease_with_the_rfcs_defaults() {
        let mac = [2, 0, 0, 0, 0, 1];
        let bytes = answer(
            MessageType::Ack,
            7,
            mac,
            vec![
                DhcpOption::SubnetMask(Ipv4Addr::new(255, 255, 255, 0)),
                DhcpOption::Router(vec![Ipv4Addr::new(10, 0, 2, 2)]),
                DhcpOption::DomainNameServer(vec![Ipv4Addr::new(10, 0, 2, 3)]),
                DhcpOption::NtpServers(vec![Ipv4Addr::new(10, 0, 2, 4)]),
                DhcpOption::DomainName("rack.example\0".to_owned()),
                DhcpOption::AddressLeaseTime(86400),
                DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(99), b"\x01DE\x1c\x0212".to_vec())),
                DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(224), b"rack=R7\0".to_vec())),
            ],
        );
        let Some(Reply::Ack(lease)) = decode(&bytes, 7, mac) else { panic!("no lease") };
        assert_eq!((lease.address, lease.prefix_len), (Ipv4Addr::new(10, 0, 2, 15), 24));
        assert_eq!((lease.renew_secs, lease.rebind_secs), (43200, 75600));
        assert_eq!(lease.domain.as_deref(), Some("rack.example"));
        assert_eq!(lease.ntp, vec![Ipv4Addr::new(10, 0, 2, 4)]);
        assert_eq!(lease.location.unwrap().room.as_deref(), Some("12"));
        assert_eq!(lease.place.as_deref(), Some("rack=R7"));
    }

    #[test]
    fn another_clients_answer_and_noise_are_not_ours() {
        let mac = [2, 0, 0, 0, 0, 1];
        let bytes = answer(MessageType::Offer, 7, mac, vec![]);
        assert!(decode(&bytes, 7, mac).is_some());
        assert!(decode(&bytes, 8, mac).is_none());
        assert!(decode(&bytes, 7, [2, 0, 0, 0, 0, 2]).is_none());
        for length in 0..bytes.len() {
            // Only: no panic. A prefix may still hold all that counts.
            let _ = decode(&bytes[..length], 7, mac);
        }
        assert!(decode(&[0xff; 300], 7, mac).is_none());
    }
}
