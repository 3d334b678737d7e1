//! How a device or a port is named: by a MAC, an address, or text.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A chassis or port id.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Id {
    /// The address of a network card.
    Mac([u8; 6]),
    /// A network address.
    Address(IpAddr),
    /// An interface's name, or whatever the device likes.
    Text(String),
}

/// An id has 1 to 255 bytes.
const LONGEST: usize = 255;

impl Id {
    /// Of a chassis: 4 is a MAC, 5 a network address.
    pub(super) fn of_chassis(value: &[u8]) -> Option<Self> {
        Self::read(value, 4, 5)
    }

    /// Of a port: 3 is a MAC, 4 a network address.
    pub(super) fn of_port(value: &[u8]) -> Option<Self> {
        Self::read(value, 3, 4)
    }

    fn read(value: &[u8], mac: u8, network: u8) -> Option<Self> {
        let (&subtype, id) = value.split_first()?;
        if id.is_empty() || id.len() > LONGEST {
            return None;
        }
        if subtype == mac
            && let Ok(mac) = <[u8; 6]>::try_from(id)
        {
            return Some(Self::Mac(mac));
        }
        if subtype == network
            && let Some(address) = super::address(id)
        {
            return Some(Self::Address(address));
        }
        // What claims to be an address and is none, is shown by its bytes: it still tells two ports apart.
        if subtype == mac || subtype == network || super::text(id).is_none() {
            return Some(Self::Text(id.iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        super::text(id).map(Self::Text)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => f.pad(&mac.map(|byte| format!("{byte:02x}")).join(":")),
            Self::Address(address) => f.pad(&address.to_string()),
            Self::Text(text) => f.pad(text),
        }
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    /// What it looks like, not what it was: enough to be shown and compared.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Text)
    }
}
