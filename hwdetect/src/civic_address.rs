//! A place in a building, as LLDP-MED and DHCP's option 99 write it (RFC 4776).

use serde::{Deserialize, Serialize};

use crate::lldp::text;

/// The parts of a civic address that say where in a building something stands.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct CivicAddress {
    /// Type 25.
    pub building: Option<String>,
    /// Type 27.
    pub floor: Option<String>,
    /// Type 28.
    pub room: Option<String>,
    /// Type 22, free text: `rack=R7 row=3`.
    pub additional: Option<String>,
}

impl CivicAddress {
    /// Reads which object is meant, the country, then elements of type, length and value. One that is cut off ends the
    /// reading; `None` if nothing of interest came before.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut address = Self::default();
        let mut rest = bytes.get(3..)?;
        while let &[kind, length, ref tail @ ..] = rest {
            let Some((value, tail)) = tail.split_at_checked(usize::from(length)) else { break };
            match kind {
                22 => address.additional = text(value),
                25 => address.building = text(value),
                27 => address.floor = text(value),
                28 => address.room = text(value),
                _ => {}
            }
            rest = tail;
        }
        (address != Self::default()).then_some(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn elements_are_read_until_one_is_cut_off() {
        let bytes = b"\x01DE\x19\x03bln\x1c\x0212\x16\x07rack=R7\x1b\x09short";
        let address = CivicAddress::parse(bytes).unwrap();
        assert_eq!((address.building.as_deref(), address.room.as_deref()), (Some("bln"), Some("12")));
        assert_eq!((address.additional.as_deref(), address.floor), (Some("rack=R7"), None));
        assert_eq!(CivicAddress::parse(b"\x01DE"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_address_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = CivicAddress::parse(&bytes);
        }
    }
}
