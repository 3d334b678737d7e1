//! Where an attribute's value is from, and which value counts when several sources have one.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Attribute;

/// A value an attribute may have.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Fact {
    /// Name and value.
    pub attribute: Attribute,
    /// Who says so.
    pub source: Source,
    /// What it was seen in, for people: `eth0 hears Ethernet1/7 of tor-r7`.
    #[serde(default)]
    pub evidence: String,
}

/// Where a value is from; the first one that has a value for a name wins. What a person wrote comes before what was
/// observed, and what is nearest to the wire before what somebody once typed into a configuration.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// `mesolith.attributes=` on the kernel's command line, or `--attributes`.
    CommandLine,
    /// A rule the operator keeps on the master.
    Rule,
    /// What switches say of themselves on the node's links.
    Lldp,
    /// Options of the DHCP server.
    Dhcp,
    /// Strings the firmware holds.
    Smbios,
    /// What the kernel shows of the hardware.
    Kernel,
    /// What the agent knows of itself.
    Agent,
}

impl Source {
    /// Every one, the strongest first.
    pub const ALL: [Self; 7] =
        [Self::CommandLine, Self::Rule, Self::Lldp, Self::Dhcp, Self::Smbios, Self::Kernel, Self::Agent];

    /// As it is written: `command-line`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "command-line",
            Self::Rule => "rule",
            Self::Lldp => "lldp",
            Self::Dhcp => "dhcp",
            Self::Smbios => "smbios",
            Self::Kernel => "kernel",
            Self::Agent => "agent",
        }
    }

    /// The source of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Fact {
    /// From the operator's own list.
    #[must_use]
    pub fn typed(attribute: Attribute) -> Self {
        Self { attribute, source: Source::CommandLine, evidence: String::new() }
    }
}

/// The facts that count: of each name those of the strongest source, in the order in which names first appear. A person
/// may give a name several values, as in Mesos; of any other source the first one counts.
#[must_use]
pub fn winners(facts: &[Fact]) -> Vec<&Fact> {
    let mut best: BTreeMap<&str, Source> = BTreeMap::new();
    for fact in facts {
        let strongest = best.entry(&fact.attribute.name).or_insert(fact.source);
        *strongest = fact.source.min(*strongest);
    }
    let mut first: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, fact) in facts.iter().enumerate() {
        first.entry(&fact.attribute.name).or_insert(at);
    }
    let mut taken: BTreeMap<&str, ()> = BTreeMap::new();
    let mut chosen: Vec<(usize, &Fact)> = Vec::with_capacity(best.len());
    for fact in facts {
        let name = fact.attribute.name.as_str();
        if best.get(name) != Some(&fact.source) {
            continue;
        }
        if taken.insert(name, ()).is_none() || fact.source == Source::CommandLine {
            chosen.push((first.get(name).copied().unwrap_or(0), fact));
        }
    }
    chosen.sort_by_key(|(first, _)| *first);
    chosen.into_iter().map(|(_, fact)| fact).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(name: &str, value: &str, source: Source) -> Fact {
        Fact { attribute: Attribute::text(name, value), source, evidence: String::new() }
    }

    #[test]
    fn the_strongest_source_wins_whatever_the_order() {
        let facts = [
            fact("rack", "from-dhcp", Source::Dhcp),
            fact("virt", "none", Source::Kernel),
            fact("rack", "from-the-switch", Source::Lldp),
            fact("rack", "from-another-switch", Source::Lldp),
        ];
        let names: Vec<String> = winners(&facts).iter().map(|fact| format!("{:?}", fact.attribute)).collect();
        assert_eq!(winners(&facts).len(), 2);
        assert!(names[0].contains("from-the-switch") && names[1].contains("virt"), "{names:?}");
        let mut typed = facts.to_vec();
        typed.push(fact("rack", "typed", Source::CommandLine));
        assert_eq!(winners(&typed)[0].attribute, Attribute::text("rack", "typed"));
    }

    #[test]
    fn a_person_may_give_one_name_several_values() {
        let facts = [fact("tier", "a", Source::CommandLine), fact("tier", "b", Source::CommandLine)];
        assert_eq!(winners(&facts).len(), 2);
    }

    #[test]
    fn sources_are_known_by_name() {
        for source in Source::ALL {
            assert_eq!(Source::from_name(source.name()), Some(source));
        }
        assert_eq!(Source::from_name("stars"), None);
    }
}
