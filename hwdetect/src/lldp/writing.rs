//! Our own frames.

use std::net::IpAddr;

use super::{Announcement, ETHERTYPE, Id, NEAREST_BRIDGE, kind};

/// A record's value has at most so many bytes.
const LONGEST_VALUE: usize = 511;
/// IEEE 802.1AB's limit for text.
const LONGEST_TEXT: usize = 255;
/// The least an Ethernet frame has without its checksum.
const SHORTEST_FRAME: usize = 60;

impl Announcement {
    /// The Ethernet frame that says so, from the card with the address `source`, which is interface `index`.
    ///
    /// Neither location nor 802.1's and 802.3's records are written: those are for switches.
    #[must_use]
    pub fn to_frame(&self, source: [u8; 6], index: u32) -> Vec<u8> {
        let mut frame = Vec::with_capacity(256);
        frame.extend_from_slice(&NEAREST_BRIDGE);
        frame.extend_from_slice(&source);
        frame.extend_from_slice(&ETHERTYPE.to_be_bytes());
        record(&mut frame, kind::CHASSIS, &id(&self.chassis, 4, 5, 7));
        record(&mut frame, kind::PORT, &id(&self.port, 3, 4, 5));
        record(&mut frame, kind::TTL, &self.ttl_secs.to_be_bytes());
        for (kind, text) in [
            (kind::PORT_DESCRIPTION, &self.port_description),
            (kind::SYSTEM_NAME, &self.system_name),
            (kind::SYSTEM_DESCRIPTION, &self.system_description),
        ] {
            if let Some(text) = text {
                record(&mut frame, kind, cut(text).as_bytes());
            }
        }
        if let Some(capabilities) = self.capabilities {
            // What we could be is what we are.
            record(&mut frame, kind::CAPABILITIES, &[capabilities.to_be_bytes(), capabilities.to_be_bytes()].concat());
        }
        for address in &self.management_addresses {
            let address = network_address(*address);
            let mut value = vec![u8::try_from(address.len()).unwrap_or(0)];
            value.extend_from_slice(&address);
            value.push(2); // numbered as the kernel does
            value.extend_from_slice(&index.to_be_bytes());
            value.push(0); // no object of SNMP
            record(&mut frame, kind::MANAGEMENT_ADDRESS, &value);
        }
        record(&mut frame, kind::END, &[]);
        frame.resize(frame.len().max(SHORTEST_FRAME), 0);
        frame
    }
}

fn record(frame: &mut Vec<u8>, kind: u8, value: &[u8]) {
    let value = &value[..value.len().min(LONGEST_VALUE)];
    let length = u16::try_from(value.len()).unwrap_or(0);
    frame.extend_from_slice(&((u16::from(kind) << 9) | length).to_be_bytes());
    frame.extend_from_slice(value);
}

fn id(id: &Id, mac: u8, network: u8, text: u8) -> Vec<u8> {
    let (subtype, bytes) = match id {
        Id::Mac(address) => (mac, address.to_vec()),
        Id::Address(address) => (network, network_address(*address)),
        Id::Text(name) => (text, cut(name).as_bytes().to_vec()),
    };
    let mut value = vec![subtype];
    value.extend_from_slice(&bytes);
    value
}

/// IANA's number of the family, then the address.
fn network_address(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => [&[1][..], &address.octets()].concat(),
        IpAddr::V6(address) => [&[2][..], &address.octets()].concat(),
    }
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(LONGEST_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
