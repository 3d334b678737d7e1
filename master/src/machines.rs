//! The operator's list of machines: names and settings by MAC address.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use api::Attribute;
use serde::Deserialize;

/// One entry of the file.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Any of its addresses.
    pub mac: String,
    /// What the node is called; without it a name is made from the address.
    #[serde(default)]
    pub name: Option<String>,
    /// Mesos's grammar: `rack:r1;zone:a`.
    #[serde(default)]
    pub attributes: Option<String>,
    /// Put at the end of the kernel command line.
    #[serde(default)]
    pub cmdline: Option<String>,
}

/// By normalized MAC address.
#[derive(Clone, Debug, Default)]
pub struct Machines(BTreeMap<String, Machine>);

impl Machines {
    /// Reads the file; reports every mistake in it.
    ///
    /// # Errors
    /// One text per mistake.
    pub fn read(path: &Path) -> Result<Self, Vec<String>> {
        let text = std::fs::read_to_string(path).map_err(|error| vec![format!("cannot read it: {error}")])?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, Vec<String>> {
        let list: Vec<Machine> =
            serde_json::from_str(text).map_err(|error| vec![format!("not a list of machines: {error}")])?;
        let (mut machines, mut names, mut mistakes) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        for machine in list {
            let Some(mac) = normalize_mac(&machine.mac) else {
                mistakes.push(format!("'{}' is not a MAC address", machine.mac));
                continue;
            };
            mistakes.extend(machine.mistakes().into_iter().map(|mistake| format!("{mac}: {mistake}")));
            if let Some(name) = &machine.name
                && !names.insert(name.clone())
            {
                mistakes.push(format!("{mac}: the name '{name}' is taken by another entry"));
            }
            if machines.insert(mac.clone(), machine).is_some() {
                mistakes.push(format!("{mac} appears twice"));
            }
        }
        if mistakes.is_empty() { Ok(Self(machines)) } else { Err(mistakes) }
    }

    /// What the operator says of the machine, if anything.
    #[must_use]
    pub fn get(&self, mac: &str) -> Option<&Machine> {
        self.0.get(mac)
    }

    /// Are there any?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is a node of this name one of the listed machines?
    #[must_use]
    pub fn has_name(&self, node: &str) -> bool {
        self.0.keys().any(|mac| self.name(mac) == node)
    }

    /// Would [`name`](Self::name) give this machine, which is not listed, the name of one that is?
    #[must_use]
    pub fn takes_anothers_name(&self, mac: &str) -> bool {
        let name = self.name(mac);
        self.0.keys().any(|listed| listed != mac && self.name(listed) == name)
    }

    /// The node's name: the operator's, or `node-` and the last six digits of the address.
    #[must_use]
    pub fn name(&self, mac: &str) -> String {
        if let Some(name) = self.get(mac).and_then(|machine| machine.name.clone()) {
            return name;
        }
        let digits: String = mac.chars().filter(char::is_ascii_hexdigit).collect();
        format!("node-{}", &digits[digits.len().saturating_sub(6)..])
    }
}

impl Machine {
    fn mistakes(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        if let Some(name) = &self.name
            && !is_node_name(name)
        {
            mistakes.push(format!("'{name}' is not a node name: {NODE_NAME_RULE}"));
        }
        if let Some(attributes) = &self.attributes {
            if let Err(error) = Attribute::parse_list(attributes) {
                mistakes.push(format!("attributes '{attributes}': {error}"));
            }
            if attributes.chars().any(|c| c.is_whitespace() || c.is_control() || !c.is_ascii() || c == '"') {
                mistakes.push(format!("attributes '{attributes}' cannot stand on a kernel command line"));
            }
        }
        if let Some(cmdline) = &self.cmdline
            && cmdline.chars().any(|c| c.is_control() || !c.is_ascii())
        {
            mistakes.push("cmdline must be one line of ASCII".to_owned());
        }
        mistakes
    }
}

/// What [`is_node_name`] asks for.
pub const NODE_NAME_RULE: &str = "1 to 63 letters, digits, '-' or '.', starting and ending with a letter or digit";

/// May a node be called so? Names become host names.
#[must_use]
pub fn is_node_name(name: &str) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    name.len() <= 63
        && edge(name.chars().next())
        && edge(name.chars().last())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.')
}

/// Lower case with colons, or `None` when it is no MAC address.
#[must_use]
pub fn normalize_mac(text: &str) -> Option<String> {
    let parts: Vec<&str> = text.trim().split([':', '-']).collect();
    let good =
        parts.len() == 6 && parts.iter().all(|part| part.len() == 2 && part.chars().all(|c| c.is_ascii_hexdigit()));
    good.then(|| parts.join(":").to_ascii_lowercase())
}

/// Lower case, or `None` when it is no UUID. The empty text stays empty.
#[must_use]
pub fn normalize_uuid(text: &str) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    if text.is_empty() {
        return Some(text);
    }
    uuid::Uuid::try_parse(&text).ok().map(|uuid| uuid.hyphenated().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_named_by_the_file_or_by_their_address() {
        let machines = Machines::parse(
            r#"[{"mac":"52-54-00-77-00-01","name":"node-1","attributes":"rack:r1-a;zone:b","cmdline":"quiet"}]"#,
        )
        .unwrap();
        assert_eq!(machines.name("52:54:00:77:00:01"), "node-1");
        assert_eq!(machines.name("52:54:00:77:00:02"), "node-770002");
        assert!(!machines.takes_anothers_name("52:54:00:77:00:02"));
        let machines = Machines::parse(r#"[{"mac":"52:54:00:77:00:01","name":"node-770002"}]"#).unwrap();
        assert!(machines.takes_anothers_name("52:54:00:77:00:02") && !machines.is_empty());
    }

    #[test]
    fn every_mistake_is_reported() {
        let mistakes = Machines::parse(
            r#"[{"mac":"nonsense"},{"mac":"52:54:00:77:00:01","name":"-a","attributes":"rack"},
                {"mac":"52:54:00:77:00:01","name":"b"},{"mac":"52:54:00:77:00:02","name":"b","cmdline":"a\nb"}]"#,
        )
        .unwrap_err();
        assert_eq!(mistakes.len(), 6, "{mistakes:#?}");
        assert!(
            Machines::parse("{}").is_err() && Machines::parse(r#"[{"mac":"52:54:00:77:00:01","nam":"x"}]"#).is_err()
        );
    }

    #[test]
    fn addresses_and_uuids_are_normalized_or_refused() {
        assert_eq!(normalize_mac("52-54-00-AB-00-01").as_deref(), Some("52:54:00:ab:00:01"));
        for bad in ["", "52:54:00:77:00", "52:54:00:77:00:0g", "52:54:00:77:00:01:02", "5254.0077.0001"] {
            assert_eq!(normalize_mac(bad), None, "{bad}");
        }
        assert_eq!(normalize_uuid("").as_deref(), Some(""));
        assert_eq!(
            normalize_uuid("00112233-4455-6677-8899-AABBCCDDEEFF").as_deref(),
            Some("00112233-4455-6677-8899-aabbccddeeff")
        );
        assert_eq!(normalize_uuid("x"), None);
    }
}
