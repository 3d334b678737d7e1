//! The part of a rule that says what is to become of disks.

use api::disks::{DiskRule, FileSystem, Pick, Purpose};
use clap::{Args, ValueEnum};

/// Options of `mesolith rules add` about disks.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Disks (docs/disks.md)")]
pub(crate) struct WrittenDisks {
    /// What disks of these machines are for: path (the first holds sandboxes, images and volumes, more are shared PATH disks),
    /// mount (each is given out as a whole), state (the node's own state only)
    #[arg(long = "disks", id = "disks", value_name = "USE")]
    purpose: Option<Use>,
    /// Disks of this kind: nvme, ssd, hdd, virtual, san, usb, mmc or pmem; may be repeated
    #[arg(long = "disk-class", id = "disk-class", value_name = "CLASS", requires = "disks")]
    class: Vec<String>,
    /// Disks of this size or larger, in GB
    #[arg(long = "disk-min-gb", value_name = "GB", requires = "disks")]
    min_gb: Option<u64>,
    /// Disks of this size or smaller
    #[arg(long = "disk-max-gb", value_name = "GB", requires = "disks")]
    max_gb: Option<u64>,
    /// Disks of this model, `*` for any part; may be repeated
    #[arg(long = "disk-model", id = "disk-model", value_name = "MODEL", requires = "disks")]
    model: Vec<String>,
    /// Disks attached in this way: nvme, sata, sas, virtio and so on; may be repeated
    #[arg(long = "disk-transport", id = "disk-transport", value_name = "TRANSPORT", requires = "disks")]
    transport: Vec<String>,
    /// Disks with this serial number, `*` for any part; may be repeated
    #[arg(long = "disk-serial", id = "disk-serial", value_name = "SERIAL", requires = "disks")]
    serial: Vec<String>,
    /// No more than so many of each machine
    #[arg(long = "disk-count", id = "disk-count", value_name = "N", requires = "disks")]
    count: Option<u32>,
    /// What is made on them [default: ext4]
    #[arg(long, value_name = "ext4|xfs", requires = "disks")]
    filesystem: Option<FileSystemName>,
    /// Encrypt them, with keys that the masters keep
    #[arg(long, requires = "disks")]
    encrypted: bool,
    /// Set so much of the first disk apart for what the node has to know again after a boot
    #[arg(long, value_name = "MIB", requires = "disks")]
    state_mib: Option<u64>,
    /// Empty this disk whatever is on it, by its serial number, or `foreign`: all that hold data that is not ours; may be
    /// repeated
    #[arg(long, value_name = "SERIAL|foreign", requires = "disks")]
    wipe: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Use {
    Path,
    Mount,
    State,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FileSystemName {
    Ext4,
    Xfs,
}

impl WrittenDisks {
    /// As the master reads it.
    pub(super) fn rule(&self) -> Option<DiskRule> {
        Some(DiskRule {
            pick: Pick {
                class: self.class.clone(),
                min_gb: self.min_gb,
                max_gb: self.max_gb,
                model: self.model.clone(),
                transport: self.transport.clone(),
                serial: self.serial.clone(),
                count: self.count,
            },
            purpose: match self.purpose? {
                Use::Path => Purpose::Path,
                Use::Mount => Purpose::Mount,
                Use::State => Purpose::State,
            },
            filesystem: match self.filesystem {
                None | Some(FileSystemName::Ext4) => FileSystem::Ext4,
                Some(FileSystemName::Xfs) => FileSystem::Xfs,
            },
            encrypted: self.encrypted,
            state_mib: self.state_mib,
            wipe: self.wipe.clone(),
        })
    }
}

/// In a list of rules.
pub(super) fn shown(rule: &DiskRule) -> String {
    let Pick { class, min_gb, max_gb, model, transport, serial, count } = &rule.pick;
    let mut words = Vec::new();
    let count = count.map(|count| count.to_string());
    for (name, list) in [("", class), ("model ", model), ("by ", transport), ("serial ", serial)] {
        if !list.is_empty() {
            words.push(format!("{name}{}", list.join(" or ")));
        }
    }
    words.extend(min_gb.map(|gb| format!("{gb} GB or more")));
    words.extend(max_gb.map(|gb| format!("{gb} GB or less")));
    let encrypted = if rule.encrypted { ", encrypted" } else { "" };
    let state = rule.state_mib.map(|mib| format!(", {mib} MiB for state")).unwrap_or_default();
    let wipe = if rule.wipe.is_empty() { String::new() } else { format!(", wiping {}", rule.wipe.join(", ")) };
    let many = count.unwrap_or_else(|| "all".to_owned());
    let filesystem = match rule.purpose {
        Purpose::State => FileSystem::Ext4,
        Purpose::Path | Purpose::Mount => rule.filesystem,
    };
    format!("{many} disks ({}) for {} with {filesystem}{encrypted}{state}{wipe}", words.join(", "), rule.purpose)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_is_told_in_a_line() {
        let rule = WrittenDisks {
            purpose: Some(Use::Mount),
            class: vec!["hdd".to_owned()],
            min_gb: Some(1000),
            filesystem: Some(FileSystemName::Xfs),
            encrypted: true,
            wipe: vec!["S1".to_owned()],
            ..WrittenDisks::default()
        };
        let rule = rule.rule().unwrap();
        assert_eq!(rule.validate(), Ok(()));
        assert_eq!(shown(&rule), "all disks (hdd, 1000 GB or more) for mount with xfs, encrypted, wiping S1");
        assert_eq!(WrittenDisks::default().rule(), None);
    }
}
