//! A node's network as an operator writes it: cards, bonds, VLANs, addresses, routes, name servers. `docs/network.md`
//! explains it; the node's command line, the master's rules and the node's own report use the same words.

mod prefix;
mod selector;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use prefix::{ParsePrefixError, Prefix};
pub use selector::{Card, ParseSelectorError, Selector};

/// How long a node waits for its master with a new setting before it goes back to the one before.
pub const TRY_SECONDS: u32 = 60;
/// The longest of those waits.
const LONGEST_TRY: u32 = 3600;
/// Links, addresses or routes: more than this is a mistake.
const MANY: usize = 256;
/// The kernel's longest name of a link.
const NAME_LENGTH: usize = 15;

/// All of it. What is not said stays as it is without this.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// By name: `eth0`, `bond0`, `bond0.100`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub links: BTreeMap<String, Link>,
    /// What cards do that are in no entry of `links`; without it they ask for addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub others: Option<Methods>,
    /// Name servers, in place of those of DHCP and router advertisements.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// Domains names are searched in.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// How long the master may be away with this before the node goes back to what was before; 0: it never does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub try_seconds: Option<u32>,
}

/// One link.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Link {
    /// Which card, if not the one of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<Selector>,
    /// It is made of several cards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bond: Option<Bond>,
    /// It is a VLAN of another link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<Vlan>,
    /// The largest packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Where its IPv4 addresses are from, beside those below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<Ipv4Method>,
    /// Where its IPv6 addresses are from, beside those below.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<Ipv6Method>,
    /// Addresses it has in any case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Prefix>,
    /// Routes through it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
}

/// Where addresses are from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Methods {
    /// Of IPv4.
    pub ipv4: Ipv4Method,
    /// Of IPv6.
    pub ipv6: Ipv6Method,
}

/// Where IPv4 addresses are from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv4Method {
    /// DHCP.
    Dhcp,
    /// Nowhere.
    #[default]
    Off,
}

/// Where IPv6 addresses are from.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6Method {
    /// As routers say: their prefixes, and DHCPv6 where they name it.
    Auto,
    /// DHCPv6 whatever routers say; they still are the way out.
    Dhcp,
    /// Routers' prefixes, never DHCPv6.
    Slaac,
    /// Nowhere, but for the link-local one.
    #[default]
    Off,
}

impl Methods {
    /// What a card does of which nothing was said.
    pub const USUAL: Self = Self { ipv4: Ipv4Method::Dhcp, ipv6: Ipv6Method::Auto };
    /// Nothing.
    pub const OFF: Self = Self { ipv4: Ipv4Method::Off, ipv6: Ipv6Method::Off };
}

/// Several cards as one link.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bond {
    /// Its cards: every one that fits one of these.
    pub ports: Vec<Selector>,
    /// How they work together.
    pub mode: BondMode,
    /// 802.3ad: how often the other end is to speak.
    #[serde(default)]
    pub lacp_rate: LacpRate,
    /// 802.3ad: by what a packet's card is chosen.
    #[serde(default)]
    pub hash: HashPolicy,
    /// How often carriers are looked at.
    #[serde(default = "usual_miimon")]
    pub miimon_ms: u32,
    /// 802.3ad: fewer working cards than this are none.
    #[serde(default)]
    pub min_links: u32,
}

const fn usual_miimon() -> u32 {
    100
}

/// How a bond's cards work together.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum BondMode {
    /// LACP.
    #[serde(rename = "802.3ad")]
    Lacp,
    /// One works, the others wait.
    #[serde(rename = "active-backup")]
    ActiveBackup,
}

impl BondMode {
    /// As the kernel names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lacp => "802.3ad",
            Self::ActiveBackup => "active-backup",
        }
    }
}

/// How often LACP speaks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LacpRate {
    /// Every 30 seconds.
    #[default]
    Slow,
    /// Every second.
    Fast,
}

/// By what a packet's card is chosen.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum HashPolicy {
    /// MACs.
    #[default]
    #[serde(rename = "layer2")]
    Layer2,
    /// MACs and addresses.
    #[serde(rename = "layer2+3")]
    Layer23,
    /// Addresses and ports.
    #[serde(rename = "layer3+4")]
    Layer34,
}

/// A VLAN of a link.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vlan {
    /// The name of the link.
    pub of: String,
    /// 1 to 4094.
    pub id: u16,
}

/// A route through a link.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// `10.0.0.0/8`, `0.0.0.0/0`, `::/0`.
    pub to: Prefix,
    /// The next router; none: whoever it is to is on the link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<IpAddr>,
    /// The least is taken; without one the node chooses, so that the link its master is behind comes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<u32>,
}

/// Why settings are refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SettingsError {
    /// Not a name the kernel takes.
    #[error("`{0}` is no name of a link: 1 to {NAME_LENGTH} letters, digits, dots, hyphens, underscores")]
    BadName(String),
    /// Both, or with a card.
    #[error("link `{0}` is one of: a card, a bond, a VLAN")]
    Ambiguous(String),
    /// No cards.
    #[error("bond `{0}` has no ports")]
    NoPorts(String),
    /// The number of a VLAN.
    #[error("VLAN `{link}`: {id} is not a number from 1 to 4094")]
    BadVlan {
        /// The link.
        link: String,
        /// Its number.
        id: u16,
    },
    /// VLANs of VLANs, and of nothing.
    #[error("VLAN `{link}` is of `{of}`, which is a VLAN itself")]
    VlanOfVlan {
        /// The link.
        link: String,
        /// What it is of.
        of: String,
    },
    /// Twice the same VLAN.
    #[error("links `{0}` and `{1}` are the same VLAN of the same link")]
    SameVlan(String, String),
    /// The size of packets.
    #[error("link `{link}`: an MTU of {mtu}: it is 68 to 65535, with IPv6 at least 1280")]
    BadMtu {
        /// The link.
        link: String,
        /// Its size.
        mtu: u32,
    },
    /// A VLAN carries no more than its link.
    #[error("VLAN `{link}` has a larger MTU than `{of}`, which carries it")]
    MtuOfVlan {
        /// The link.
        link: String,
        /// What it is of.
        of: String,
    },
    /// Not an address of a host.
    #[error("link `{link}`: `{address}` is no address of a host")]
    BadAddress {
        /// The link.
        link: String,
        /// The address.
        address: String,
    },
    /// A route with routers of the other family, or whose destination has bits behind its prefix.
    #[error("link `{link}`: the route to {to}: {reason}")]
    BadRoute {
        /// The link.
        link: String,
        /// Where to.
        to: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// Not a domain.
    #[error("`{0}` is no domain")]
    BadDomain(String),
    /// Nobody answers there.
    #[error("`{0}` is no address of a name server")]
    BadServer(IpAddr),
    /// Carriers are to be looked at.
    #[error("bond `{0}`: miimon_ms is 10 to 10000")]
    BadMiimon(String),
    /// The wait.
    #[error("try_seconds is 0 (it stays whatever happens) or 10 to {LONGEST_TRY}")]
    BadTry,
    /// Too much.
    #[error("more than {MANY} links, addresses, routes, servers or domains")]
    TooMany,
}

impl Settings {
    /// Can this be at all? What cards there are is known to the node alone.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if self.links.len() > MANY || self.dns.len() > 16 || self.search.len() > 16 {
            return Err(SettingsError::TooMany);
        }
        if self.try_seconds.is_some_and(|seconds| seconds != 0 && !(10..=LONGEST_TRY).contains(&seconds)) {
            return Err(SettingsError::BadTry);
        }
        if let Some(server) = self.dns.iter().find(|server| server.is_unspecified() || server.is_multicast()) {
            return Err(SettingsError::BadServer(*server));
        }
        if let Some(domain) = self.search.iter().find(|domain| !is_domain(domain)) {
            return Err(SettingsError::BadDomain(domain.clone()));
        }
        let mut vlans: BTreeMap<(&str, u16), &String> = BTreeMap::new();
        for (name, link) in &self.links {
            link.validate(name)?;
            let Some(vlan) = &link.vlan else { continue };
            let parent = self.links.get(&vlan.of);
            if parent.is_some_and(|parent| parent.vlan.is_some()) {
                return Err(SettingsError::VlanOfVlan { link: name.clone(), of: vlan.of.clone() });
            }
            if let (Some(own), Some(its)) = (link.mtu, parent.map(|parent| parent.mtu.unwrap_or(1500)))
                && own > its
            {
                return Err(SettingsError::MtuOfVlan { link: name.clone(), of: vlan.of.clone() });
            }
            if let Some(other) = vlans.insert((&vlan.of, vlan.id), name) {
                return Err(SettingsError::SameVlan(other.clone(), name.clone()));
            }
        }
        Ok(())
    }

    /// Nothing is said at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { try_seconds: self.try_seconds, ..Self::default() }
    }
}

impl Link {
    fn validate(&self, name: &str) -> Result<(), SettingsError> {
        let link = || name.to_owned();
        if !is_link_name(name) {
            return Err(SettingsError::BadName(link()));
        }
        if usize::from(self.card.is_some()) + usize::from(self.bond.is_some()) + usize::from(self.vlan.is_some()) > 1 {
            return Err(SettingsError::Ambiguous(link()));
        }
        if let Some(bond) = &self.bond {
            if bond.ports.is_empty() {
                return Err(SettingsError::NoPorts(link()));
            }
            if !(10..=10_000).contains(&bond.miimon_ms) {
                return Err(SettingsError::BadMiimon(link()));
            }
        }
        if let Some(vlan) = &self.vlan
            && !(1..=4094).contains(&vlan.id)
        {
            return Err(SettingsError::BadVlan { link: link(), id: vlan.id });
        }
        let six = self.addresses.iter().any(|address| address.address.is_ipv6())
            || !matches!(self.ipv6, None | Some(Ipv6Method::Off));
        let least = if six { 1280 } else { 68 };
        if let Some(mtu) = self.mtu.filter(|mtu| !(least..=65_535).contains(mtu)) {
            return Err(SettingsError::BadMtu { link: link(), mtu });
        }
        if self.addresses.len() > MANY || self.routes.len() > MANY {
            return Err(SettingsError::TooMany);
        }
        let mut seen = BTreeSet::new();
        for address in &self.addresses {
            if !address.is_host() || !seen.insert(address.address) {
                return Err(SettingsError::BadAddress { link: link(), address: address.to_string() });
            }
        }
        for route in &self.routes {
            let bad = |reason| Err(SettingsError::BadRoute { link: link(), to: route.to.to_string(), reason });
            if !route.to.is_network() {
                return bad("it has bits behind the prefix");
            }
            if route.via.is_some_and(|via| via.is_ipv4() != route.to.address.is_ipv4()) {
                return bad("the router is of the other family");
            }
            if route.via.is_some_and(|via| via.is_unspecified() || via.is_multicast() || via.is_loopback()) {
                return bad("the router is no host");
            }
        }
        Ok(())
    }
}

/// What the kernel takes for a link's name, less what would be hard to write.
#[must_use]
pub fn is_link_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    !name.is_empty()
        && name.len() <= NAME_LENGTH
        && name.chars().all(fine)
        && !matches!(name, "." | ".." | "all" | "default" | "lo")
}

/// A name to search in.
#[must_use]
pub fn is_domain(domain: &str) -> bool {
    let label = |label: &str| {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !label.is_empty() && label.len() <= 63 && label.chars().all(fine)
    };
    domain.len() <= 253 && domain.trim_end_matches('.').split('.').all(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RACK: &str = r#"{
        "links": {
            "bond0": {"bond": {"ports": ["eth0", "52:54:00:77:01:*"], "mode": "802.3ad", "lacp_rate": "fast",
                               "hash": "layer3+4"}, "mtu": 9000},
            "bond0.100": {"vlan": {"of": "bond0", "id": 100}, "mtu": 1500, "ipv4": "dhcp",
                          "addresses": ["fd00::5/64"], "routes": [{"to": "10.0.0.0/8", "via": "10.1.0.1"}]}
        },
        "others": {"ipv4": "off", "ipv6": "off"}, "dns": ["10.0.0.53"], "search": ["rack.example"]
    }"#;

    fn changed(pointer: &str, value: serde_json::Value) -> Result<(), String> {
        let mut json: serde_json::Value = serde_json::from_str(RACK).unwrap();
        *json.pointer_mut(pointer).unwrap() = value;
        let settings: Settings = serde_json::from_value(json).map_err(|error| error.to_string())?;
        settings.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn a_racks_settings_are_read_and_written_the_same() {
        let settings: Settings = serde_json::from_str(RACK).unwrap();
        settings.validate().unwrap();
        let bond = settings.links["bond0"].bond.as_ref().unwrap();
        assert_eq!((bond.mode, bond.miimon_ms, bond.ports.len()), (BondMode::Lacp, 100, 2));
        let again: Settings = serde_json::from_str(&serde_json::to_string(&settings).unwrap()).unwrap();
        assert_eq!(again, settings);
        let packed: Settings = rmp_serde::from_slice(&rmp_serde::to_vec_named(&settings).unwrap()).unwrap();
        assert_eq!(packed, settings);
        assert!(!settings.is_empty() && Settings { try_seconds: Some(0), ..Settings::default() }.is_empty());
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        use serde_json::json;
        for (pointer, value, said) in [
            ("/links/bond0/bond/ports", json!([]), "no ports"),
            ("/links/bond0/bond/mode", json!("balance-rr"), "balance-rr"),
            ("/links/bond0.100/vlan/id", json!(4095), "1 to 4094"),
            ("/links/bond0.100/mtu", json!(9100), "larger MTU"),
            ("/links/bond0.100/mtu", json!(1000), "at least 1280"),
            ("/links/bond0.100/addresses/0", json!("10.0.0.0/24"), "no address of a host"),
            ("/links/bond0.100/routes/0/to", json!("10.0.0.1/8"), "behind the prefix"),
            ("/links/bond0.100/routes/0/via", json!("fd00::1"), "other family"),
            ("/links/bond0.100/vlan/of", json!(7), "string"),
            ("/dns/0", json!("0.0.0.0"), "name server"),
            ("/search/0", json!("a b"), "no domain"),
            ("/links/bond0/bond/ports/0", json!("52:54:zz"), "52:54:zz"),
        ] {
            let error = changed(pointer, value).unwrap_err();
            assert!(error.contains(said), "{pointer}: {error}");
        }
        for name in ["lo", "a/b", "", "a-name-too-long-for-it"] {
            assert!(!is_link_name(name));
        }
    }
}
