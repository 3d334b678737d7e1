//! What a DHCP server lends.

use std::net::Ipv4Addr;

use hwdetect::CivicAddress;

/// One lease; durations in seconds from the acknowledgement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Lease {
    /// Ours for the time being.
    pub address: Ipv4Addr,
    /// Length of the network prefix.
    pub prefix_len: u8,
    /// Default routers, best first. Empty when the server sent classless routes (RFC 3442 says to
    /// ignore option 3 then).
    pub routers: Vec<Ipv4Addr>,
    /// Classless static routes (option 121).
    pub routes: Vec<Route>,
    /// Name servers, best first.
    pub dns: Vec<Ipv4Addr>,
    /// Time servers (option 42).
    pub ntp: Vec<Ipv4Addr>,
    /// Domain name (option 15).
    pub domain: Option<String>,
    /// Host name the server gives us (option 12).
    pub hostname: Option<String>,
    /// Largest packet the network carries (option 26).
    pub mtu: Option<u16>,
    /// Where the network ends that the request came through (option 99).
    pub location: Option<CivicAddress>,
    /// What the operator lets the server say of the place (option 224): `rack=R7 row=3`.
    pub place: Option<String>,
    /// Who lent it.
    pub server: Ipv4Addr,
    /// `u32::MAX` is for ever.
    pub lease_secs: u32,
    /// T1: when to renew with this server. RFC 2131 section 4.4.5.
    pub renew_secs: u32,
    /// T2: when to ask any server.
    pub rebind_secs: u32,
}

/// One classless static route.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Route {
    /// Network address.
    pub network: Ipv4Addr,
    /// Length of its prefix; 0 is the default route.
    pub prefix_len: u8,
    /// `0.0.0.0`: on the link itself.
    pub gateway: Ipv4Addr,
}

impl Lease {
    /// Never to be renewed.
    #[must_use]
    pub const fn is_infinite(&self) -> bool {
        self.lease_secs == u32::MAX
    }
}

/// The prefix length of a netmask; `None` when its ones are not all in front.
#[must_use]
pub(super) fn prefix_len(mask: Ipv4Addr) -> Option<u8> {
    let bits = mask.to_bits();
    let ones = bits.leading_ones();
    (bits.count_ones() == ones).then(|| u8::try_from(ones).unwrap_or(32))
}

/// The prefix of the address's class, for a server that sends no mask (RFC 950).
#[must_use]
pub(super) const fn class_prefix_len(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..=127 => 8,
        128..=191 => 16,
        _ => 24,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_with_holes_is_no_prefix() {
        for (mask, expected) in [
            ([255, 255, 255, 0], Some(24)),
            ([255, 255, 240, 0], Some(20)),
            ([0, 0, 0, 0], Some(0)),
            ([255, 255, 255, 255], Some(32)),
            ([255, 0, 255, 0], None),
        ] {
            assert_eq!(prefix_len(mask.into()), expected);
        }
        assert_eq!(class_prefix_len(Ipv4Addr::new(10, 0, 0, 1)), 8);
        assert_eq!(class_prefix_len(Ipv4Addr::new(192, 168, 0, 1)), 24);
    }
}
