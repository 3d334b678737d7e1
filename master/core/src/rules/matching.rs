//! Whether a machine is one a rule is for, and what its patterns found.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::Fact;
use api::attributes::AttributeValue;
use regex_lite::Regex;

use super::{Machines, RuleError, check_length};

/// A rule's patterns, ready to be used.
pub(super) struct Matcher<'a> {
    mac: &'a [String],
    subnet: Option<(IpAddr, u8)>,
    serial: Option<Regex>,
    switch: Option<Regex>,
    switch_port: Option<Regex>,
    node: Option<Regex>,
}

/// What named groups found.
pub(super) type Groups = BTreeMap<String, String>;

/// What rules can ask of a machine, taken from its facts.
pub(super) struct Known<'a> {
    node: &'a str,
    address: Option<IpAddr>,
    macs: Vec<&'a str>,
    serial: Option<&'a str>,
    /// Name and port of each switch, the primary link's first.
    switches: Vec<(&'a str, &'a str)>,
}

impl<'a> Known<'a> {
    pub(super) fn new(node: &'a str, address: &str, facts: &'a [Fact]) -> Self {
        let text = |name: &str| {
            facts.iter().filter(move |fact| fact.attribute.name == name).find_map(|fact| text_of(&fact.attribute.value))
        };
        let mut switches: Vec<(&str, &str)> = text("switch").zip(text("switch.port")).into_iter().collect();
        for fact in facts {
            let link = fact.attribute.name.strip_prefix("switch.").and_then(|rest| rest.strip_suffix(".name"));
            let Some(link) = link else { continue };
            let pair = text_of(&fact.attribute.value).zip(text(&format!("switch.{link}.port")));
            switches.extend(pair.filter(|pair| !switches.contains(pair)));
        }
        Self {
            node,
            address: address.parse().ok(),
            macs: text("net.mac.set").map(|set| set.split(',').collect()).unwrap_or_default(),
            serial: text("node.serial"),
            switches,
        }
    }
}

fn text_of(value: &AttributeValue) -> Option<&str> {
    match value {
        AttributeValue::Text(text) => Some(text),
        AttributeValue::Scalar(_) | AttributeValue::Ranges(_) => None,
    }
}

impl<'a> Matcher<'a> {
    pub(super) fn new(machines: &'a Machines) -> Result<Self, RuleError> {
        for mac in &machines.mac {
            let parts = mac.replace('*', "");
            let is_part = |c: char| c.is_ascii_hexdigit() || c == ':';
            if mac.is_empty() || mac.len() > 64 || !parts.chars().all(is_part) {
                return Err(RuleError::BadMac(mac.chars().take(64).collect()));
            }
        }
        let pattern = |field: &'static str, text: &Option<String>| -> Result<Option<Regex>, RuleError> {
            let Some(text) = text else { return Ok(None) };
            check_length(text)?;
            let bad = |error: regex_lite::Error| RuleError::BadPattern {
                field,
                pattern: text.clone(),
                reason: error.to_string(),
            };
            Regex::new(&format!("^(?:{text})$")).map(Some).map_err(bad)
        };
        Ok(Self {
            mac: &machines.mac,
            subnet: machines.subnet.as_deref().map(subnet).transpose()?,
            serial: pattern("serial", &machines.serial)?,
            switch: pattern("switch", &machines.switch)?,
            switch_port: pattern("switch_port", &machines.switch_port)?,
            node: pattern("node", &machines.node)?,
        })
    }

    pub(super) fn has_group(&self, name: &str) -> bool {
        let patterns = [&self.serial, &self.switch, &self.switch_port, &self.node];
        patterns.into_iter().flatten().any(|pattern| pattern.capture_names().flatten().any(|group| group == name))
    }

    /// What the groups found, if the machine is one of those meant.
    pub(super) fn fit(&self, known: &Known<'_>) -> Option<Groups> {
        let mut groups = Groups::new();
        if !self.mac.is_empty() && !known.macs.iter().any(|mac| self.mac.iter().any(|glob| fits_glob(glob, mac))) {
            return None;
        }
        if let Some((network, length)) = self.subnet
            && !known.address.is_some_and(|address| is_in(address, network, length))
        {
            return None;
        }
        if let Some(pattern) = &self.node {
            take(pattern, known.node, &mut groups)?;
        }
        if let Some(pattern) = &self.serial {
            take(pattern, known.serial?, &mut groups)?;
        }
        if self.switch.is_some() || self.switch_port.is_some() {
            // Both must be of one switch.
            let found = known.switches.iter().find_map(|(switch, port)| {
                let mut found = Groups::new();
                for (pattern, text) in [(&self.switch, switch), (&self.switch_port, port)] {
                    if let Some(pattern) = pattern {
                        take(pattern, text, &mut found)?;
                    }
                }
                Some(found)
            });
            groups.extend(found?);
        }
        Some(groups)
    }
}

/// The named groups of a pattern that fits.
fn take(pattern: &Regex, text: &str, groups: &mut Groups) -> Option<()> {
    let captures = pattern.captures(text)?;
    for name in pattern.capture_names().flatten() {
        if let Some(found) = captures.name(name) {
            groups.insert(name.to_owned(), found.as_str().to_owned());
        }
    }
    Some(())
}

/// `*` stands for any characters; case does not matter.
fn fits_glob(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = glob.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut ended = true;
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        ended = part.is_empty();
    }
    if glob.contains('*') {
        // What follows the last star must be at the very end.
        let last = glob.rsplit('*').next().unwrap_or_default();
        return ended || text.ends_with(last);
    }
    rest.is_empty()
}

fn subnet(text: &str) -> Result<(IpAddr, u8), RuleError> {
    let bad = || RuleError::BadSubnet(text.chars().take(64).collect());
    let (address, length) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let length: u8 = length.parse().map_err(|_| bad())?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    if length > longest { Err(bad()) } else { Ok((address, length)) }
}

fn is_in(address: IpAddr, network: IpAddr, length: u8) -> bool {
    let length = u32::from(length);
    match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (a.to_bits() ^ n.to_bits()).leading_zeros() >= length,
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits() ^ n.to_bits()).leading_zeros() >= length,
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (glob, text, fits) in [
            ("52:54:00:77:00:01", "52:54:00:77:00:01", true),
            ("52:54:00:*", "52:54:00:77:00:01", true),
            ("52:54:00:*", "52:55:00:77:00:01", false),
            ("*:0A", "52:54:00:77:00:0a", true),
            ("*:0a", "52:54:00:0a:00:0b", false),
            ("52:*:01", "52:54:00:77:00:01", true),
            ("*", "52:54:00:77:00:01", true),
            ("52:54", "52:54:00:77:00:01", false),
            ("52:54:00:77:00:01:*", "52:54:00:77:00:01", false),
        ] {
            assert_eq!(fits_glob(glob, text), fits, "{glob} {text}");
        }
    }

    #[test]
    fn networks_hold_their_addresses() {
        for (network, address, holds) in [
            ("10.77.0.0/24", "10.77.0.11", true),
            ("10.77.0.0/24", "10.77.1.11", false),
            ("0.0.0.0/0", "10.77.1.11", true),
            ("10.77.0.11/32", "10.77.0.11", true),
            ("fd77::/64", "fd77::1", true),
            ("fd77::/64", "fd78::1", false),
            ("fd77::/64", "10.0.0.1", false),
        ] {
            let (network, length) = subnet(network).unwrap();
            assert_eq!(is_in(address.parse().unwrap(), network, length), holds, "{network}/{length} {address}");
        }
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129", "10.0.0.0/-1"] {
            assert!(subnet(bad).is_err(), "{bad}");
        }
    }
}
