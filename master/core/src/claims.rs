//! Which machines belong to the cluster: claimed by hand, by a rule, by a token that was made for them, or listed.
//!
//! Pure: the shell keeps the entries in a replicated table and asks [`verdict`] when a machine registers.

use std::collections::{BTreeMap, BTreeSet};

use api::attributes::AttributeValue;
use api::condition::Condition;
use api::{Attribute, Fact, NodeName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What tells machines apart. None of it is trusted alone: firmware repeats UUIDs and serial numbers, cards move.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct MachineId {
    /// SMBIOS; empty when there is none worth the name.
    #[serde(default)]
    pub uuid: String,
    /// Of system, chassis or board.
    #[serde(default)]
    pub serial: String,
    /// Of its cards.
    #[serde(default)]
    pub macs: BTreeSet<String>,
}

impl MachineId {
    /// As its own facts say.
    #[must_use]
    pub fn of(facts: &[Fact]) -> Self {
        let text = |name: &str| {
            let found = facts.iter().find(|fact| fact.attribute.name == name).map(|fact| &fact.attribute.value);
            match found {
                Some(AttributeValue::Text(text)) => text.clone(),
                Some(AttributeValue::Scalar(number)) => number.units().to_string(),
                Some(AttributeValue::Ranges(_)) | None => String::new(),
            }
        };
        let macs = text("net.mac.set").split(',').filter(|mac| !mac.is_empty()).map(str::to_owned).collect();
        Self { uuid: text("node.uuid"), serial: text("node.serial"), macs }
    }

    /// Is anything known of it?
    #[must_use]
    pub fn is_known(&self) -> bool {
        !(self.uuid.is_empty() && self.serial.is_empty() && self.macs.is_empty())
    }

    /// Is it the same machine, as far as can be told? A card may have been replaced, or the board: one of the two stays.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        let shares_a_card = self.macs.iter().any(|mac| other.macs.contains(mac));
        let same = |one: &str, other: &str| !one.is_empty() && one == other;
        let all_the_same = self.is_known() && self == other;
        shares_a_card || all_the_same || (same(&self.uuid, &other.uuid) && self.serial == other.serial)
    }

    /// Does firmware say that two machines are one, though they are not? Cards tell them apart.
    fn repeats(&self, other: &Self) -> bool {
        !self.uuid.is_empty() && self.uuid == other.uuid
    }
}

/// How a machine became one of the cluster's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// Somebody named it.
    Hand,
    /// The rule of this name.
    Rule(String),
    /// It came with a token that was made for its name.
    Token,
    /// It is in the operator's list of machines.
    List,
}

/// One machine of the cluster's.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Claim {
    /// Milliseconds since 1970.
    pub claimed_ms: u64,
    /// Who did it.
    pub by: String,
    /// By what.
    pub how: How,
    /// Which machine it was then; unknown for one that was claimed before it came.
    #[serde(default)]
    pub machine: MachineId,
}

/// Machines for which the condition holds are the cluster's as soon as they come.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ClaimRule {
    /// In the language of `mesolith nodes --where`.
    pub condition: String,
    /// Milliseconds since 1970.
    pub made_ms: u64,
    /// Who made it.
    pub by: String,
}

/// An entry of the table.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Entry {
    /// Under `node/NAME`.
    Node(Claim),
    /// Under `rule/NAME`.
    Rule(ClaimRule),
}

/// What is to become of a machine that registers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is one of ours.
    Admitted,
    /// It is to be, and this is to be written down first.
    Claims(How),
    /// It waits, and why.
    Waits(String),
}

/// Is it in the operator's list?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Listed {
    /// Yes.
    Listed,
    /// No.
    Unlisted,
}

/// A machine that registers.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// From its certificate.
    pub node: &'a NodeName,
    /// Which machine it is.
    pub machine: &'a MachineId,
    /// What conditions ask.
    pub attributes: &'a [Attribute],
    /// Is it in the operator's list?
    pub listed: Listed,
}

/// Decides. Rules are tried in the order of their names.
#[must_use]
pub fn verdict<'a>(
    candidate: Candidate<'_>,
    claim: Option<&Claim>,
    rules: impl IntoIterator<Item = (&'a str, &'a ClaimRule)>,
) -> Verdict {
    if let Some(claim) = claim {
        if !claim.machine.is_known() || !candidate.machine.is_known() || claim.machine.is_same(candidate.machine) {
            return Verdict::Admitted;
        }
        return Verdict::Waits(format!(
            "another machine is claimed under the name {}: claim this one again if it took its place",
            candidate.node
        ));
    }
    if candidate.listed == Listed::Listed {
        return Verdict::Claims(How::List);
    }
    for (name, rule) in rules {
        // A later version's condition claims nothing here.
        let Ok(condition) = Condition::parse(&rule.condition) else { continue };
        if condition.holds(&|field| value(candidate.node, candidate.attributes, field)) {
            return Verdict::Claims(How::Rule(name.to_owned()));
        }
    }
    Verdict::Waits("nobody has claimed this machine yet".to_owned())
}

/// What a condition sees of a machine: its attributes, and its name.
#[must_use]
pub fn value(node: &NodeName, attributes: &[Attribute], field: &str) -> Option<Value> {
    if let Some(attribute) = attributes.iter().find(|attribute| attribute.name == field) {
        return Some(match &attribute.value {
            AttributeValue::Scalar(number) => number.units().into(),
            AttributeValue::Text(text) => text.as_str().into(),
            AttributeValue::Ranges(ranges) => {
                let one = |(begin, end): (u64, u64)| format!("{begin}-{end}");
                format!("[{}]", ranges.iter().map(one).collect::<Vec<_>>().join(", ")).into()
            }
        });
    }
    (field == "name").then(|| node.as_str().into())
}

/// A machine as it is compared with the others.
#[derive(Clone, Debug)]
pub struct Known {
    /// Its name.
    pub node: NodeName,
    /// Of the boot: two nodes of one boot are agents on one host.
    pub boot_id: String,
    /// What it says of itself.
    pub machine: MachineId,
}

/// Machines whose firmware gives them the UUID of others, with the names of those.
#[must_use]
pub fn duplicates(all: &[Known]) -> BTreeMap<NodeName, Vec<NodeName>> {
    let mut by_uuid: BTreeMap<&str, Vec<&Known>> = BTreeMap::new();
    for one in all.iter().filter(|one| !one.machine.uuid.is_empty()) {
        by_uuid.entry(&one.machine.uuid).or_default().push(one);
    }
    let mut found = BTreeMap::new();
    for group in by_uuid.values().filter(|group| group.len() > 1) {
        for one in group {
            let others: Vec<NodeName> = group
                .iter()
                .filter(|other| other.boot_id != one.boot_id && other.machine.repeats(&one.machine))
                .map(|other| other.node.clone())
                .collect();
            if !others.is_empty() {
                found.insert(one.node.clone(), others);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(uuid: &str, serial: &str, macs: &[&str]) -> MachineId {
        let macs = macs.iter().map(|&mac| mac.to_owned()).collect();
        MachineId { uuid: uuid.to_owned(), serial: serial.to_owned(), macs }
    }

    fn claim(machine: MachineId) -> Claim {
        Claim { claimed_ms: 1, by: "ops".to_owned(), how: How::Hand, machine }
    }

    fn rule(condition: &str) -> ClaimRule {
        ClaimRule { condition: condition.to_owned(), made_ms: 1, by: "ops".to_owned() }
    }

    #[test]
    fn a_machine_waits_until_a_claim_a_list_or_a_rule_says_it_is_ours() {
        let node = NodeName::from("node-1");
        let known = machine("u", "s", &["52:54:00:00:00:01"]);
        let attributes = [Attribute::text("node.vendor", "dell"), Attribute::scalar("disks.nvme", 2.0).unwrap()];
        let candidate = Candidate { node: &node, machine: &known, attributes: &attributes, listed: Listed::Unlisted };
        let (small, large, broken) = (rule("disks.nvme < 2"), rule("disks.nvme >= 2 && name =~ 'node-.*'"), rule("=="));
        assert!(matches!(verdict(candidate, None, []), Verdict::Waits(_)));
        assert!(matches!(verdict(candidate, None, [("a", &small), ("b", &broken)]), Verdict::Waits(_)));
        let by_rule = verdict(candidate, None, [("a", &small), ("c", &large)]);
        assert_eq!(by_rule, Verdict::Claims(How::Rule("c".to_owned())));
        let listed = Candidate { listed: Listed::Listed, ..candidate };
        assert_eq!(verdict(listed, None, []), Verdict::Claims(How::List));
        assert_eq!(verdict(candidate, Some(&claim(known.clone())), []), Verdict::Admitted);
        assert_eq!(verdict(candidate, Some(&claim(MachineId::default())), []), Verdict::Admitted);
    }

    #[test]
    fn another_machine_of_that_name_waits_and_one_with_a_new_card_does_not() {
        let node = NodeName::from("node-1");
        let claimed = claim(machine("u1", "s1", &["m1", "m2"]));
        for (now, admitted) in [
            (machine("u1", "s1", &["m9"]), true),  // another card
            (machine("u2", "s2", &["m2"]), true),  // another board, one of its cards
            (machine("u1", "s2", &["m9"]), false), // firmware that repeats itself
            (machine("u2", "s1", &["m9"]), false),
            (MachineId::default(), true), // says nothing of itself, as before
        ] {
            let candidate = Candidate { node: &node, machine: &now, attributes: &[], listed: Listed::Listed };
            let is_admitted = verdict(candidate, Some(&claimed), []) == Verdict::Admitted;
            assert_eq!(is_admitted, admitted, "{now:?}");
        }
    }

    #[test]
    fn machines_with_one_uuid_are_found_and_agents_of_one_host_are_not() {
        let one = |node: &str, boot: &str, uuid: &str| Known {
            node: node.into(),
            boot_id: boot.to_owned(),
            machine: machine(uuid, "", &[]),
        };
        let all =
            [one("a", "1", "x"), one("b", "2", "x"), one("c", "3", "y"), one("h1", "4", "z"), one("h2", "4", "z")];
        let found = duplicates(&all);
        assert_eq!(found.len(), 2);
        assert_eq!(found[&NodeName::from("a")], [NodeName::from("b")]);
        assert!(duplicates(&[one("d", "5", ""), one("e", "6", "")]).is_empty());
    }
}
