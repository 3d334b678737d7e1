//! LLDP (IEEE 802.1AB): what a switch says of itself on a link, decoded from raw bytes. Total on any input, as anybody
//! on the wire writes any input.
//!
//! A frame is a chain of records (type in 7 bits, length in 9, value). Chassis, port and time to live come first and in
//! this order; a frame without them says nothing. What follows is optional: a record that is cut off ends the reading,
//! one that makes no sense is passed over.

mod id;
mod writing;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

pub use id::Id;

use crate::civic_address::CivicAddress;

/// The group that switches do not forward: what arrives there comes from the other end of the cable.
pub const NEAREST_BRIDGE: [u8; 6] = [0x01, 0x80, 0xc2, 0x00, 0x00, 0x0e];
/// LLDP's number in the Ethernet header.
pub const ETHERTYPE: u16 = 0x88cc;

/// What one end of a link says of itself.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// Names the device.
    pub chassis: Id,
    /// Names its port.
    pub port: Id,
    /// For so long it holds; 0 takes it back.
    pub ttl_secs: u16,
    /// For people: `Ethernet1/7 to rack R7`.
    pub port_description: Option<String>,
    /// What its administrator calls the device.
    pub system_name: Option<String>,
    /// Maker, model, software.
    pub system_description: Option<String>,
    /// What it is: see [`forwards`](Self::forwards).
    pub capabilities: Option<u16>,
    /// Where it can be managed.
    pub management_addresses: Vec<IpAddr>,
    /// The VLAN of untagged packets (802.1).
    pub port_vlan: Option<u16>,
    /// The largest frame (802.3).
    pub max_frame_bytes: Option<u16>,
    /// Where the port is (LLDP-MED).
    pub location: Option<CivicAddress>,
    /// The owner's tag of the device (LLDP-MED).
    pub asset_tag: Option<String>,
}

/// Why a frame says nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum LldpError {
    /// Another protocol's, or too short for an Ethernet header.
    #[error("not an LLDP frame")]
    NotLldp,
    /// The records every frame begins with are not there, or not in their order.
    #[error("the frame lacks its {0}")]
    Missing(&'static str),
    /// It names neither device nor port.
    #[error("the frame's {0} is empty or too long")]
    BadId(&'static str),
}

/// No more addresses of one device are kept.
const ADDRESSES_LIMIT: usize = 8;
/// An Ethernet header without tags.
const HEADER_BYTES: usize = 14;

mod kind {
    pub(super) const END: u8 = 0;
    pub(super) const CHASSIS: u8 = 1;
    pub(super) const PORT: u8 = 2;
    pub(super) const TTL: u8 = 3;
    pub(super) const PORT_DESCRIPTION: u8 = 4;
    pub(super) const SYSTEM_NAME: u8 = 5;
    pub(super) const SYSTEM_DESCRIPTION: u8 = 6;
    pub(super) const CAPABILITIES: u8 = 7;
    pub(super) const MANAGEMENT_ADDRESS: u8 = 8;
    pub(super) const ORGANISATION: u8 = 127;
}

/// Reads a whole Ethernet frame.
///
/// # Errors
/// It is another protocol's, or lacks what every LLDP frame has.
pub fn parse_frame(frame: &[u8]) -> Result<Announcement, LldpError> {
    let (header, payload) = frame.split_at_checked(HEADER_BYTES).ok_or(LldpError::NotLldp)?;
    if header[12..] != ETHERTYPE.to_be_bytes() {
        return Err(LldpError::NotLldp);
    }
    parse(payload)
}

/// Reads what follows the Ethernet header.
///
/// # Errors
/// It lacks what every LLDP frame has.
pub fn parse(payload: &[u8]) -> Result<Announcement, LldpError> {
    let mut records = Records(payload);
    let mut first = |kind, name| match records.next() {
        Some((found, value)) if found == kind => Ok(value),
        _ => Err(LldpError::Missing(name)),
    };
    let chassis = first(kind::CHASSIS, "chassis id")?;
    let port = first(kind::PORT, "port id")?;
    let ttl = first(kind::TTL, "time to live")?;
    let &[high, low, ..] = ttl else { return Err(LldpError::Missing("time to live")) };
    let mut announcement = Announcement {
        chassis: Id::of_chassis(chassis).ok_or(LldpError::BadId("chassis id"))?,
        port: Id::of_port(port).ok_or(LldpError::BadId("port id"))?,
        ttl_secs: u16::from_be_bytes([high, low]),
        port_description: None,
        system_name: None,
        system_description: None,
        capabilities: None,
        management_addresses: Vec::new(),
        port_vlan: None,
        max_frame_bytes: None,
        location: None,
        asset_tag: None,
    };
    for (kind, value) in records {
        match kind {
            kind::END => break,
            kind::PORT_DESCRIPTION => announcement.port_description = text(value),
            kind::SYSTEM_NAME => announcement.system_name = text(value),
            kind::SYSTEM_DESCRIPTION => announcement.system_description = text(value),
            // What it could be, then what it is.
            kind::CAPABILITIES => announcement.capabilities = value.get(2..).and_then(word),
            kind::MANAGEMENT_ADDRESS => {
                let address = management_address(value);
                let known = &mut announcement.management_addresses;
                if let Some(address) = address.filter(|address| !known.contains(address))
                    && known.len() < ADDRESSES_LIMIT
                {
                    known.push(address);
                }
            }
            kind::ORGANISATION => announcement.organisation(value),
            _ => {}
        }
    }
    Ok(announcement)
}

/// Repeater, bridge, access point, router, telephone, cable modem, customer and service VLAN component, two-port relay.
const FORWARDING: u16 = 0b0111_0111_1110;

/// A machine that only sends and receives.
pub const STATION: u16 = 1 << 7;

impl Announcement {
    /// Whether packets go through it, so that it can be what a machine is plugged into. A device that does not say is
    /// taken for a switch; one that says it is a station is another machine, heard through a switch that forwards what
    /// it should not.
    #[must_use]
    pub fn forwards(&self) -> bool {
        self.capabilities.is_none_or(|capabilities| capabilities & FORWARDING != 0)
    }

    /// Records that are not LLDP's own: the organisation, its number for the kind, the value.
    fn organisation(&mut self, record: &[u8]) {
        let &[a, b, c, subtype, ref value @ ..] = record else { return };
        match ([a, b, c], subtype) {
            // 802.1: the VLAN of untagged packets, 0 for none.
            ([0x00, 0x80, 0xc2], 1) => self.port_vlan = word(value).filter(|vlan| *vlan != 0),
            // 802.3.
            ([0x00, 0x12, 0x0f], 4) => self.max_frame_bytes = word(value),
            // TIA's LLDP-MED. 2 is a civic address, after its length; coordinates and emergency numbers place no rack.
            ([0x00, 0x12, 0xbb], 3) => {
                if let &[2, length, ref address @ ..] = value {
                    let end = usize::from(length).min(address.len());
                    self.location = CivicAddress::parse(&address[..end]);
                }
            }
            ([0x00, 0x12, 0xbb], 11) => self.asset_tag = text(value),
            _ => {}
        }
    }
}

/// Walks the records until one is cut off.
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let &[first, second, ref rest @ ..] = self.0 else { return None };
        let length = (usize::from(first & 1) << 8) | usize::from(second);
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((first >> 1, value))
    }
}

fn word(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]))
}

/// Text as switches pad it: NULs and blanks at the end, and nothing that could command a terminal.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    let text: String = String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Length, family and address; then numbers of interfaces, which say nothing here.
fn management_address(value: &[u8]) -> Option<IpAddr> {
    let &[length, ref rest @ ..] = value else { return None };
    address(rest.get(..usize::from(length))?)
}

/// A family of IANA's and the address.
pub(crate) fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes {
        [1, address @ ..] => <[u8; 4]>::try_from(address).ok().map(|octets| Ipv4Addr::from(octets).into()),
        [2, address @ ..] => <[u8; 16]>::try_from(address).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
