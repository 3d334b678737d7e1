//! What an operator may want of the disks of a node: which ones, and what they are for.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The longest pattern.
const LONGEST: usize = 200;
/// Patterns of one list.
const MOST: usize = 256;
/// A state partition of less holds no file system worth the name; of more, wastes the disk.
const STATE_MIB: std::ops::RangeInclusive<u64> = 64..=65_536;
/// Without a wish.
const DEFAULT_STATE_MIB: u64 = 512;
/// What kinds of disks there are.
pub const CLASSES: [&str; 8] = ["nvme", "ssd", "hdd", "virtual", "san", "usb", "mmc", "pmem"];

/// What is to become of some of a node's disks. Without a rule nothing is ever written to a disk.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskRule {
    /// Which of the machine's disks. All that is given must fit.
    #[serde(default)]
    pub pick: Pick,
    /// What for.
    #[serde(rename = "use")]
    pub purpose: Purpose,
    /// What is made on it.
    #[serde(default)]
    pub filesystem: FileSystem,
    /// With a key that the masters keep.
    #[serde(default)]
    pub encrypted: bool,
    /// Of the first of the disks so much is set apart for the node's own state, in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_mib: Option<u64>,
    /// Disks that may be emptied although somebody else's data is on them: serial numbers, or `foreign` for whatever is
    /// not ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wipe: Vec<String>,
}

/// A rule of the operator's for one node.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct NamedRule {
    /// What the operator calls it.
    pub name: String,
    /// What it says of disks.
    pub disks: DiskRule,
}

/// As the link carries them.
#[must_use]
pub fn rules_to_wire(rules: &[NamedRule]) -> Vec<u8> {
    serde_json::to_vec(rules).unwrap_or_default()
}

/// Reads what the master sends.
///
/// # Errors
/// Which text is none: a later version's, say.
pub fn rules_from_wire(json: &[u8]) -> Result<Vec<NamedRule>, serde_json::Error> {
    if json.is_empty() { Ok(Vec::new()) } else { serde_json::from_slice(json) }
}

/// Which disks: by what they are, never by the kernel's name, which may be another disk's tomorrow.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pick {
    /// One of these kinds, of [`CLASSES`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub class: Vec<String>,
    /// At least this large, in GB (10^9, as disks are sold).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gb: Option<u64>,
    /// At most this large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_gb: Option<u64>,
    /// One of these models; `*` stands for anything, case does not matter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model: Vec<String>,
    /// Attached in one of these ways: `nvme`, `sata`, `sas`, `virtio`…
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transport: Vec<String>,
    /// One of these serial numbers, with `*` as above.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub serial: Vec<String>,
    /// No more than so many of a machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// What a disk is for.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// The first is the agent's: sandboxes, images, volumes; more are PATH disks, to be shared by many.
    #[default]
    Path,
    /// Each is a MOUNT disk: given to one as a whole.
    Mount,
    /// The node's own state only.
    State,
}

/// What is made on a disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FileSystem {
    /// ext4.
    #[default]
    Ext4,
    /// XFS.
    Xfs,
}

impl Purpose {
    /// As rules and labels write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Path => "path",
            Self::Mount => "mount",
            Self::State => "state",
        }
    }
}

impl FileSystem {
    /// As the kernel, rules and labels write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
        }
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for FileSystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a rule cannot be followed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DiskRuleError {
    /// A kind there is not.
    #[error("disks: `{0}` is no kind of disk: {kinds}", kinds = CLASSES.join(", "))]
    Class(String),
    /// The smallest is larger than the largest.
    #[error("disks: no disk has {0} GB or more and {1} GB or less")]
    Sizes(u64, u64),
    /// It would take every disk there is, of every kind.
    #[error("disks: the rule says not which disks: class, size, model, transport, serial or count")]
    Everything,
    /// Nothing is picked.
    #[error("disks: a count of 0 picks nothing")]
    None,
    /// Of a pattern.
    #[error("disks: `{0}…` is empty, too long, or one of too many: at most {LONGEST} characters, {MOST} of a kind")]
    Pattern(String),
    /// Of the state partition.
    #[error("disks: a state partition has {min} to {max} MiB, not {0}", min = STATE_MIB.start(), max = STATE_MIB.end())]
    StateSize(u64),
    /// The node needs its state before it knows a master that could give it a key.
    #[error("disks: what is for state only cannot be encrypted: a node reads it before it can ask for a key")]
    EncryptedState,
}

impl DiskRule {
    /// Can it be followed?
    ///
    /// # Errors
    /// The first thing wrong with it.
    pub fn validate(&self) -> Result<(), DiskRuleError> {
        let pick = &self.pick;
        if let Some(class) = pick.class.iter().find(|class| !CLASSES.contains(&class.as_str())) {
            return Err(DiskRuleError::Class(class.chars().take(40).collect()));
        }
        if let (Some(min), Some(max)) = (pick.min_gb, pick.max_gb)
            && min > max
        {
            return Err(DiskRuleError::Sizes(min, max));
        }
        if pick.count == Some(0) {
            return Err(DiskRuleError::None);
        }
        if *pick == Pick::default() {
            return Err(DiskRuleError::Everything);
        }
        for list in [&pick.model, &pick.transport, &pick.serial, &self.wipe] {
            let bad = |text: &&String| {
                text.trim().is_empty() || text.len() > LONGEST || text.contains(char::is_control) || list.len() > MOST
            };
            if let Some(text) = list.iter().find(bad) {
                return Err(DiskRuleError::Pattern(text.chars().take(20).collect()));
            }
        }
        if let Some(size) = self.state_mib.filter(|size| !STATE_MIB.contains(size)) {
            return Err(DiskRuleError::StateSize(size));
        }
        if self.encrypted && self.purpose == Purpose::State {
            return Err(DiskRuleError::EncryptedState);
        }
        Ok(())
    }

    /// How much is set apart for the node's state on the first disk; `None` for nothing.
    #[must_use]
    pub fn state_size_mib(&self) -> Option<u64> {
        match self.purpose {
            Purpose::State => Some(self.state_mib.unwrap_or(DEFAULT_STATE_MIB)),
            Purpose::Path | Purpose::Mount => self.state_mib,
        }
    }

    /// May a disk be emptied that somebody else has written to?
    #[must_use]
    pub fn may_wipe_foreign(&self, serial: Option<&str>) -> bool {
        self.wipe.iter().any(|word| word == "foreign") || self.may_wipe(serial)
    }

    /// May this very disk be emptied, whatever is on it?
    #[must_use]
    pub fn may_wipe(&self, serial: Option<&str>) -> bool {
        serial.is_some_and(|serial| self.wipe.iter().any(|word| word == serial))
    }
}

/// `*` stands for any characters; case does not matter.
#[must_use]
pub fn fits_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(json: &str) -> DiskRule {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_rule_is_read_as_it_is_written_and_says_what_is_wrong() {
        let good =
            rule(r#"{"pick":{"class":["nvme"],"min_gb":400},"use":"mount","filesystem":"xfs","encrypted":true}"#);
        assert_eq!(good.validate(), Ok(()));
        assert_eq!(rule(&serde_json::to_string(&good).unwrap()), good);
        for (text, wrong) in [
            (r#"{"use":"path"}"#, DiskRuleError::Everything),
            (r#"{"pick":{"class":["floppy"]},"use":"path"}"#, DiskRuleError::Class("floppy".to_owned())),
            (r#"{"pick":{"min_gb":2,"max_gb":1},"use":"path"}"#, DiskRuleError::Sizes(2, 1)),
            (r#"{"pick":{"count":0},"use":"path"}"#, DiskRuleError::None),
            (r#"{"pick":{"model":[" "]},"use":"path"}"#, DiskRuleError::Pattern(" ".to_owned())),
            (r#"{"pick":{"count":1},"use":"state","encrypted":true}"#, DiskRuleError::EncryptedState),
            (r#"{"pick":{"count":1},"use":"path","state_mib":1}"#, DiskRuleError::StateSize(1)),
        ] {
            assert_eq!(rule(text).validate(), Err(wrong), "{text}");
        }
        assert!(serde_json::from_str::<DiskRule>(r#"{"use":"path","name":"sda"}"#).is_err(), "no kernel names");
        assert!(serde_json::from_str::<DiskRule>(r#"{"use":"swap"}"#).is_err());
    }

    #[test]
    fn our_own_disks_are_emptied_by_serial_number_only() {
        let all = rule(r#"{"pick":{"count":1},"use":"path","wipe":["foreign"]}"#);
        let one = rule(r#"{"pick":{"count":1},"use":"path","wipe":["S1"]}"#);
        assert!(all.may_wipe_foreign(None) && !all.may_wipe(Some("S1")));
        assert!(one.may_wipe_foreign(Some("S1")) && one.may_wipe(Some("S1")));
        assert!(!one.may_wipe_foreign(None) && !one.may_wipe_foreign(Some("S2")));
    }

    #[test]
    fn patterns_are_for_the_whole_text() {
        for (pattern, text, fits) in [
            ("SAMSUNG*", "samsung MZ", true),
            ("*mz*", "SAMSUNG MZ7", true),
            ("MZ", "MZ7", false),
            ("a*a", "a", false),
            ("*", "", true),
            ("", "x", false),
            ("a*b*c", "aXbXc", true),
            ("a*b*c", "acb", false),
        ] {
            assert_eq!(fits_pattern(pattern, text), fits, "{pattern} {text}");
        }
    }
}
