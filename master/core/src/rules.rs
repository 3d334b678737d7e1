//! What the operator knows of machines that the machines do not: rules that set attributes by MAC, serial number,
//! subnet, or the switch a machine is plugged into. Kept in the log; applied when a node registers, when what is known
//! of it changes, and when the rules do.

mod matching;
mod resolve;

use std::collections::BTreeMap;
use std::fmt;

use api::attributes::ParseAttributesError;
use api::disks::{DiskRule, DiskRuleError};
use serde::{Deserialize, Serialize};

pub use resolve::{Resolved, resolve};

/// More rules than this are a database's business.
pub const MAX_RULES: usize = 1000;
/// What one rule may set.
const MAX_SET: usize = 32;
/// The longest name, pattern or value.
const LONGEST: usize = 512;

/// One rule. Rules are looked at in order, and the first that sets a name counts.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// What the operator calls it.
    pub name: String,
    /// Which machines: all of what is given must fit.
    #[serde(default, rename = "match")]
    pub machines: Machines,
    /// Attributes by name. `{rack}` in a value is what the group `(?<rack>…)` of a pattern found.
    #[serde(default)]
    pub set: BTreeMap<String, String>,
    /// All that nobody has reserved and no task uses is reserved for this role, as it becomes free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reserve: Option<String>,
    /// What their networks are to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<api::network::Settings>,
    /// What is to become of disks of these machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disks: Option<DiskRule>,
}

/// Which machines a rule is for. What is not given fits all.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Machines {
    /// One of these is one of its cards' addresses; `*` stands for anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mac: Vec<String>,
    /// A regular expression for the whole serial number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Its address is in this network: `10.7.0.0/16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// A regular expression for the whole name of a switch it is plugged into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
    /// A regular expression for the whole name of that switch's port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switch_port: Option<String>,
    /// A regular expression for the node's whole name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// Why a rule is refused.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RuleError {
    /// Not a name.
    #[error("a rule's name is 1 to 64 letters, digits, dots, hyphens and underscores")]
    BadName,
    /// It would do nothing, or too much.
    #[error(
        "a rule sets 1 to {MAX_SET} attributes, or reserves, or says what a network is to be, or what disks are for"
    )]
    BadSet,
    /// It names no machine at all.
    #[error("a rule says which machines it is for: mac, serial, subnet, switch, switch_port or node")]
    MatchesEverything,
    /// Too long to be meant.
    #[error("`{0}…` is too long: at most {LONGEST} characters")]
    TooLong(String),
    /// Not a regular expression.
    #[error("{field}: `{pattern}` is not a valid regular expression: {reason}")]
    BadPattern {
        /// Of which field.
        field: &'static str,
        /// As written.
        pattern: String,
        /// What the parser says.
        reason: String,
    },
    /// Not a network.
    #[error("`{0}` is not a network: write 10.7.0.0/16 or fd00::/8")]
    BadSubnet(String),
    /// Not a MAC.
    #[error("`{0}` is not a MAC or a part of one with `*`: write 52:54:00:*")]
    BadMac(String),
    /// An attribute nobody may set, or no name at all.
    #[error("`{0}` is not an attribute's name: letters, digits, dots, hyphens, underscores and slashes")]
    BadAttribute(String),
    /// Detected facts are facts.
    #[error("`{0}` is what a machine is found to be: a rule cannot set it")]
    Detected(String),
    /// A brace that does not end, or names no group.
    #[error("`{{{group}}}` in the value of `{attribute}` names no group (?<{group}>…) of this rule's patterns")]
    UnknownGroup {
        /// Of which attribute.
        attribute: String,
        /// The group.
        group: String,
    },
    /// The network of nobody.
    #[error("network: {0}")]
    BadNetwork(#[from] api::network::SettingsError),
    /// Their addresses change with their networks.
    #[error(
        "a rule for networks names machines by mac, serial, switch, switch_port or node: what is in a subnet changes with it"
    )]
    NetworkBySubnet,
    /// What it says of disks.
    #[error(transparent)]
    Disks(#[from] DiskRuleError),
    /// Not the name of a role.
    #[error("reserve: {0}")]
    BadRole(String),
    /// A value that is none.
    #[error("the value of `{attribute}` is wrong: {reason}")]
    BadValue {
        /// Of which attribute.
        attribute: String,
        /// Why.
        reason: String,
    },
}

impl From<ParseAttributesError> for RuleError {
    fn from(error: ParseAttributesError) -> Self {
        Self::BadValue { attribute: String::new(), reason: error.to_string() }
    }
}

/// Families of attributes that are detected; a machine is not another because a rule says so.
const DETECTED: [&str; 14] = [
    "node.", "cpu.", "mem.", "numa.", "disks.", "net.", "switch.", "gpu.", "accel.", "pci.", "kernel.", "agent.",
    "os.", "boot.",
];

impl Rule {
    /// Is it one that can be applied? Patterns are compiled, and thrown away: a state is data.
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn validate(&self) -> Result<(), RuleError> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(is_name) {
            return Err(RuleError::BadName);
        }
        let else_nothing = self.reserve.is_none() && self.network.is_none() && self.disks.is_none();
        if (self.set.is_empty() && else_nothing) || self.set.len() > MAX_SET {
            return Err(RuleError::BadSet);
        }
        if self.machines == Machines::default() {
            return Err(RuleError::MatchesEverything);
        }
        let matcher = matching::Matcher::new(&self.machines)?;
        if let Some(network) = &self.network {
            network.validate()?;
            if self.machines.subnet.is_some() {
                return Err(RuleError::NetworkBySubnet);
            }
        }
        if let Some(disks) = &self.disks {
            disks.validate()?;
        }
        if let Some(role) = &self.reserve {
            check_length(role)?;
            if role == "*" {
                return Err(RuleError::BadRole("`*` is everybody: nothing is reserved for it".to_owned()));
            }
            crate::validate::role(role).map_err(RuleError::BadRole)?;
        }
        for (attribute, value) in &self.set {
            if attribute.is_empty() || !attribute.chars().all(|c| is_name(c) || c == '/') {
                return Err(RuleError::BadAttribute(attribute.clone()));
            }
            if DETECTED.iter().any(|family| attribute.starts_with(family)) {
                return Err(RuleError::Detected(attribute.clone()));
            }
            for text in [attribute, value] {
                check_length(text)?;
            }
            if value.trim().is_empty() || value.contains(['\n', ';']) || value.chars().any(char::is_control) {
                let reason = "it is empty, or holds a semicolon or a control character".to_owned();
                return Err(RuleError::BadValue { attribute: attribute.clone(), reason });
            }
            for group in resolve::groups(value) {
                if !matcher.has_group(group) {
                    return Err(RuleError::UnknownGroup { attribute: attribute.clone(), group: group.to_owned() });
                }
            }
        }
        Ok(())
    }
}

fn check_length(text: &str) -> Result<(), RuleError> {
    if text.len() > LONGEST {
        return Err(RuleError::TooLong(text.chars().take(20).collect()));
    }
    Ok(())
}

impl fmt::Display for Machines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = [
            ("serial", &self.serial),
            ("subnet", &self.subnet),
            ("switch", &self.switch),
            ("switch port", &self.switch_port),
            ("node", &self.node),
        ];
        let mut parts = Vec::new();
        if !self.mac.is_empty() {
            parts.push(format!("mac {}", self.mac.join(" or ")));
        }
        parts.extend(patterns.into_iter().filter_map(|(name, pattern)| Some(format!("{name} {}", pattern.as_ref()?))));
        f.pad(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests;
