//! What a task asks for beyond its resources, by labels: input and output, memory kept or slowed, huge pages, devices of
//! the node. Mesos has no fields for them.

use std::collections::BTreeMap;

use api::v1::TaskInfo;
use serde_json::{Value, json};

use super::{LaunchError, Limits, Site};

/// Between one and ten thousand, a hundred where nobody says.
const IO_WEIGHT: &str = "mesolith.io.weight";
/// `sda:rbps=10m,wiops=200;sdb:…`.
const IO_MAX: &str = "mesolith.io.max";
/// MiB the kernel leaves it when memory gets scarce.
const MEMORY_LOW: &str = "mesolith.memory.low";
/// MiB from which on it is slowed.
const MEMORY_HIGH: &str = "mesolith.memory.high";
/// `2MB=64,1GB=1024`: MiB of pages of a size.
const HUGE_PAGES: &str = "mesolith.hugepages";
/// `/dev/vdb:r,/dev/fuse`.
const DEVICES: &str = "mesolith.devices";

/// What one disk may be asked for in a second.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DiskLimit {
    /// Its name below `/dev`.
    pub disk: String,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Times read.
    pub reads: Option<u64>,
    /// Times written.
    pub writes: Option<u64>,
}

/// A device node of this machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeDevice {
    /// Where it is, there and in the container.
    pub path: String,
    /// `r` or `rw`.
    pub access: &'static str,
}

/// A graphics processor.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Gpu {
    /// What it is known by as long as the machine runs.
    pub id: String,
    /// What opens it, and what it shares with others of its kind.
    pub nodes: Vec<String>,
}

/// What is named here and numbered on the node.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Named {
    /// Limits of disks.
    pub disks: Vec<DiskLimit>,
    /// Devices it may open.
    pub devices: Vec<NodeDevice>,
    /// Its share of disks that are busy.
    pub io_weight: Option<u64>,
}

/// See the module.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Asked {
    pub(super) named: Named,
    memory_low: Option<u64>,
    memory_high: Option<u64>,
    huge_pages: BTreeMap<String, u64>,
}

impl DiskLimit {
    /// Reads a list of them.
    ///
    /// # Errors
    /// The entry that is none.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let one = |entry: &str| {
            let (disk, limits) = entry.split_once(':')?;
            let fine = !disk.is_empty() && disk.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
            let mut limit = Self { disk: disk.to_owned(), ..Self::default() };
            for pair in limits.split(',') {
                let (name, value) = pair.split_once('=')?;
                let value = Some(amount(value).filter(|value| *value > 0)?);
                match name {
                    "rbps" => limit.read_bytes = value,
                    "wbps" => limit.write_bytes = value,
                    "riops" => limit.reads = value,
                    "wiops" => limit.writes = value,
                    _ => return None,
                }
            }
            fine.then_some(limit)
        };
        text.split(';').map(|entry| one(entry.trim()).ok_or_else(|| entry.to_owned())).collect()
    }
}

impl Gpu {
    /// `/dev/nvidia0,/dev/dri/renderD128+/dev/kfd`: what opens each.
    ///
    /// # Errors
    /// What is no path of a device.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let one = |entry: &str| {
            let nodes: Vec<String> = entry.split('+').map(str::to_owned).collect();
            match nodes.iter().find(|node| !is_device(node)) {
                Some(wrong) => Err(wrong.clone()),
                None => Ok(Self { id: entry.to_owned(), nodes }),
            }
        };
        text.split(',').map(one).collect()
    }
}

/// Paths of devices a node shows: `/dev/vdb,/dev/fuse`.
///
/// # Errors
/// What is no path of a device.
pub fn device_paths(text: &str) -> Result<Vec<String>, String> {
    let one = |path: &str| if is_device(path) { Ok(path.to_owned()) } else { Err(path.to_owned()) };
    text.split(',').map(one).collect()
}

fn is_device(path: &str) -> bool {
    let plain = path.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    let parts = path.strip_prefix("/dev/");
    plain && parts.is_some_and(|parts| parts.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

/// `64`, `10k`, `5m`, `1g`.
fn amount(text: &str) -> Option<u64> {
    let lower = text.to_ascii_lowercase();
    let (digits, factor) = match lower.chars().last()? {
        'k' => (&lower[..lower.len() - 1], 1 << 10),
        'm' => (&lower[..lower.len() - 1], 1 << 20),
        'g' => (&lower[..lower.len() - 1], 1 << 30),
        _ => (lower.as_str(), 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

impl Asked {
    pub(super) fn of(site: &Site, task: &TaskInfo, limits: &Limits) -> Result<Self, LaunchError> {
        let mut asked = Self::default();
        asked.named.disks.clone_from(&site.disk_limits);
        let labels = task.labels.iter().flat_map(|labels| &labels.labels);
        for label in labels.filter(|label| label.key.starts_with("mesolith.")) {
            let value = label.value.as_deref().unwrap_or_default();
            let wrong = |what: &str| LaunchError::Volume(format!("the label {} is '{value}', not {what}", label.key));
            let mib = || value.parse::<u64>().ok().and_then(|mib| mib.checked_mul(1 << 20));
            match label.key.as_str() {
                IO_WEIGHT => {
                    let weight = value.parse().ok().filter(|weight| (1..=10_000).contains(weight));
                    asked.named.io_weight = Some(weight.ok_or_else(|| wrong("a number from 1 to 10000"))?);
                }
                IO_MAX => {
                    let own = DiskLimit::parse(value);
                    asked.disks(own.map_err(|_| wrong("DISK:rbps=N,wbps=N,riops=N,wiops=N, several with ;"))?);
                }
                MEMORY_LOW => {
                    let low = mib().filter(|low| limits.memory_bytes.is_none_or(|most| *low <= most));
                    asked.memory_low = Some(low.ok_or_else(|| wrong("MiB, at most the task's mem"))?);
                }
                MEMORY_HIGH => asked.memory_high = Some(mib().ok_or_else(|| wrong("MiB"))?),
                HUGE_PAGES => {
                    for pair in value.split(',') {
                        let (size, mib) = pair.split_once('=').ok_or_else(|| wrong("SIZE=MiB, several with ,"))?;
                        if !site.huge_pages.iter().any(|known| known == size) {
                            return Err(wrong(&format!("of a size this node has ({})", site.huge_pages.join(", "))));
                        }
                        let bytes = mib.parse::<u64>().ok().and_then(|mib| mib.checked_mul(1 << 20));
                        asked.huge_pages.insert(size.to_owned(), bytes.ok_or_else(|| wrong("SIZE=MiB"))?);
                    }
                }
                DEVICES => {
                    for word in value.split(',') {
                        let (path, access) = word.rsplit_once(':').map_or((word, "rw"), |(path, mode)| {
                            (
                                path,
                                if mode == "r" {
                                    "r"
                                } else if mode == "rw" {
                                    "rw"
                                } else {
                                    ""
                                },
                            )
                        });
                        if access.is_empty() || !is_device(path) {
                            return Err(wrong("/dev/NAME or /dev/NAME:r, several with ,"));
                        }
                        if !site.devices.iter().any(|shown| shown == path) {
                            return Err(LaunchError::Volume(format!(
                                "this node does not show its device '{path}' to tasks (mesolith.devices)"
                            )));
                        }
                        asked.named.devices.push(NodeDevice { path: path.to_owned(), access });
                    }
                }
                _ => {}
            }
        }
        Ok(asked)
    }

    /// The node's limits hold for disks the task does not speak of; of others, the lower.
    fn disks(&mut self, own: Vec<DiskLimit>) {
        let lower = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min();
        for limit in own {
            match self.named.disks.iter_mut().find(|known| known.disk == limit.disk) {
                None => self.named.disks.push(limit),
                Some(known) => {
                    known.read_bytes = lower(known.read_bytes, limit.read_bytes);
                    known.write_bytes = lower(known.write_bytes, limit.write_bytes);
                    known.reads = lower(known.reads, limit.reads);
                    known.writes = lower(known.writes, limit.writes);
                }
            }
        }
    }

    /// Graphics processors it was given.
    pub(super) fn give(&mut self, gpus: impl Iterator<Item = Gpu>) {
        for path in gpus.flat_map(|gpu| gpu.nodes) {
            if !self.named.devices.iter().any(|known| known.path == path) {
                self.named.devices.push(NodeDevice { path, access: "rw" });
            }
        }
    }

    /// Puts what needs no number into a specification's resources.
    pub(super) fn apply(&self, site: &Site, resources: &mut Value) {
        if let Some(low) = self.memory_low {
            resources["unified"]["memory.low"] = json!(low.to_string());
        }
        if let Some(high) = self.memory_high {
            resources["unified"]["memory.high"] = json!(high.to_string());
        }
        // Huge pages are set aside for somebody: nobody has them without asking.
        for size in &site.huge_pages {
            let bytes = self.huge_pages.get(size).copied().unwrap_or(0);
            resources["unified"][format!("hugetlb.{size}.max")] = json!(bytes.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{site, task};
    use super::*;

    fn asked(site: &Site, key: &str, value: &str) -> Result<Asked, LaunchError> {
        let task = task(&format!(
            r#"{{"labels":{{"labels":[{{"key":"{key}","value":"{value}"}}]}},
                "resources":[{{"name":"mem","type":"SCALAR","scalar":{{"value":64}}}}]}}"#
        ));
        Asked::of(site, &task, &Limits::of(&task, 9))
    }

    #[test]
    fn labels_become_limits() {
        let mut site = site();
        site.huge_pages = vec!["2MB".to_owned(), "1GB".to_owned()];
        site.devices = vec!["/dev/vdb".to_owned()];
        let of = |key: &str, value: &str| asked(&site, key, value).unwrap();
        assert_eq!(of(IO_WEIGHT, "250").named.io_weight, Some(250));
        let disks = of(IO_MAX, "vda:rbps=2m,wiops=10; vdb:wbps=1k").named.disks;
        assert_eq!((disks[0].read_bytes, disks[0].writes, disks[0].reads), (Some(2 << 20), Some(10), None));
        assert_eq!((disks[1].disk.as_str(), disks[1].write_bytes), ("vdb", Some(1 << 10)));
        let device = NodeDevice { path: "/dev/vdb".to_owned(), access: "r" };
        assert_eq!(of(DEVICES, "/dev/vdb:r").named.devices, [device]);
        let mut resources = json!({"unified": {}});
        of(MEMORY_HIGH, "48").apply(&site, &mut resources);
        of(MEMORY_LOW, "16").apply(&site, &mut resources);
        assert_eq!(resources["unified"]["memory.high"], (48 << 20).to_string());
        assert_eq!(resources["unified"]["memory.low"], (16 << 20).to_string());
        assert_eq!(resources["unified"]["hugetlb.2MB.max"], "0", "nobody has them without asking");
        of(HUGE_PAGES, "2MB=8").apply(&site, &mut resources);
        assert_eq!(resources["unified"]["hugetlb.2MB.max"], (8 << 20).to_string());
        assert_eq!(of("mesolith.cpus", "shared"), Asked::default(), "others read theirs");
    }

    #[test]
    fn the_nodes_own_limits_of_a_disk_can_only_be_lowered() {
        let mut site = site();
        site.disk_limits = DiskLimit::parse("vda:rbps=4m,wbps=4m").unwrap();
        let disks = asked(&site, IO_MAX, "vda:rbps=8m,wbps=1m,riops=5").unwrap().named.disks;
        assert_eq!((disks.len(), disks[0].read_bytes, disks[0].write_bytes), (1, Some(4 << 20), Some(1 << 20)));
        assert_eq!(disks[0].reads, Some(5));
    }

    #[test]
    fn what_cannot_be_says_why() {
        let site = site();
        for (key, value, words) in [
            (IO_WEIGHT, "0", "1 to 10000"),
            (IO_MAX, "vda", "DISK:"),
            (IO_MAX, "../x:rbps=1", "DISK:"),
            (IO_MAX, "vda:rbps=0", "DISK:"),
            (IO_MAX, "vda:speed=1", "DISK:"),
            (MEMORY_LOW, "65", "at most"),
            (MEMORY_HIGH, "much", "MiB"),
            (HUGE_PAGES, "2MB=1", "a size this node has"),
            (DEVICES, "/dev/vdb", "does not show its device"),
            (DEVICES, "/dev/../etc/passwd", "/dev/NAME"),
            (DEVICES, "/dev/vdb:x", "/dev/NAME"),
        ] {
            let error = asked(&site, key, value).unwrap_err().to_string();
            assert!(error.contains(words), "{key} {value}: {error}");
        }
        assert!(Gpu::parse("/dev/nvidia0+/dev/nvidiactl,/dev/nvidia1").is_ok_and(|gpus| gpus[0].nodes.len() == 2));
        assert!(Gpu::parse("nvidia0").is_err() && device_paths("/dev/a,/etc").is_err());
    }
}
