//! An address with the length of its network's prefix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `10.0.0.5/24`, `fd00::/8`: a host in its network, or a network.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address.
    pub address: IpAddr,
    /// How many of its bits are the network's.
    pub length: u8,
}

/// Not one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("`{0}` is no address with the length of its prefix, as 10.0.0.5/24 and fd00::5/64 are")]
pub struct ParsePrefixError(pub String);

impl Prefix {
    /// One that is as long as its family allows, or none.
    #[must_use]
    pub const fn new(address: IpAddr, length: u8) -> Option<Self> {
        let most = if address.is_ipv4() { 32 } else { 128 };
        if length <= most { Some(Self { address, length }) } else { None }
    }

    /// The bits behind the prefix are zero.
    #[must_use]
    pub fn is_network(&self) -> bool {
        self.network() == *self
    }

    /// The network it is in.
    #[must_use]
    pub fn network(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(four) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                IpAddr::from((four.to_bits() & mask).to_be_bytes())
            }
            IpAddr::V6(six) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length)).unwrap_or(0);
                IpAddr::from((six.to_bits() & mask).to_be_bytes())
            }
        };
        Self { address, length: self.length }
    }

    /// Is it in this network?
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self { address, length: self.length }.network() == self.network()
    }

    /// Can a host have it?
    #[must_use]
    pub fn is_host(&self) -> bool {
        let address = self.address;
        if address.is_unspecified() || address.is_multicast() || address.is_loopback() || self.length == 0 {
            return false;
        }
        // The first of a network and its broadcast address are nobody's, where there are more.
        match address {
            IpAddr::V4(four) if self.length <= 30 => {
                let host = four.to_bits() & !u32::MAX.checked_shl(32 - u32::from(self.length)).unwrap_or(0);
                let last = u32::MAX.checked_shr(u32::from(self.length)).unwrap_or(0);
                host != 0 && host != last
            }
            IpAddr::V4(_) | IpAddr::V6(_) => true,
        }
    }

    /// All there is: the default route's.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        self.length == 0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.address, self.length))
    }
}

impl FromStr for Prefix {
    type Err = ParsePrefixError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            Self::new(address.parse().ok()?, length.parse().ok()?)
        };
        parse().ok_or_else(|| ParsePrefixError(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for Prefix {
    type Error = ParsePrefixError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hosts_and_what_is_neither() {
        let read = |text: &str| text.parse::<Prefix>();
        let host = read("10.1.2.3/20").unwrap();
        assert_eq!(host.network().to_string(), "10.1.0.0/20");
        assert!(host.is_host() && !host.is_network() && host.contains("10.1.15.255".parse().unwrap()));
        assert!(!host.contains("10.1.16.0".parse().unwrap()) && !host.contains("::1".parse().unwrap()));
        for nobody in ["10.1.2.0/24", "10.1.2.255/24", "0.0.0.0/0", "127.0.0.1/8", "ff02::1/64", "::/0"] {
            assert!(!read(nobody).unwrap().is_host(), "{nobody}");
        }
        for fine in ["10.1.2.0/31", "10.1.2.1/32", "fd00::5/64"] {
            assert!(read(fine).unwrap().is_host(), "{fine}");
        }
        assert!(read("::/0").unwrap().is_default() && read("0.0.0.0/0").unwrap().is_network());
        for nonsense in ["10.0.0.1", "10.0.0.1/33", "fd00::/129", "/8", "a/8", "10.0.0.1/-1"] {
            assert!(read(nonsense).is_err(), "{nonsense}");
        }
    }
}
