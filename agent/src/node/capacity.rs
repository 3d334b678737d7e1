//! What the node offers and what is known of it, as the master wants to read it.

use std::path::Path;

use agent_core::attributes::{self, Own, Surroundings};
use agent_core::capacity::{Facts, resources};
use agent_core::launch::Gpu;
use api::link::{Capacity, Machine, facts_to_wire};
use api::v1::{Format, resources_to_wire};
use hwdetect::{Inventory, SysRoot};
use sha2::{Digest, Sha256};

use super::settings::Settings;
use super::{machine, named};

/// One look at the machine.
#[derive(Debug)]
pub(crate) struct Detected {
    pub(crate) machine: Machine,
    pub(crate) kernel: String,
    /// Resources and facts; without the inventory.
    pub(crate) capacity: Capacity,
    pub(crate) inventory_json: String,
    /// What tasks may have of them.
    pub(crate) gpus: Vec<Gpu>,
}

/// What the master was told last: enough to see whether there is news. The inventory is large and not kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    capacity: Capacity,
    inventory: [u8; 32],
    /// What tasks may have of them.
    pub(crate) gpus: Vec<Gpu>,
}

impl Told {
    /// The names of what is other, for people: not all of a machine that became another one.
    pub(crate) fn differences(&self, other: &Self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for (one, another) in [(self, other), (other, self)] {
            let only = one.capacity.facts.iter().filter(|fact| !another.capacity.facts.contains(fact));
            names.extend(only.filter_map(|fact| fact.attribute.as_ref()).map(|attribute| attribute.name.clone()));
        }
        if self.capacity.resources != other.capacity.resources {
            names.push("resources".to_owned());
        }
        names.sort();
        names.dedup();
        names.truncate(16);
        names
    }

    pub(crate) fn facts(&self) -> &[api::link::Fact] {
        &self.capacity.facts
    }

    pub(crate) fn resources(&self) -> &[api::v1::Resource] {
        &self.capacity.resources
    }

    pub(crate) fn knows_inventory_of(&self, other: &Self) -> bool {
        self.inventory == other.inventory
    }
}

impl Detected {
    pub(crate) fn told(&self) -> Told {
        Told {
            capacity: self.capacity.clone(),
            inventory: Sha256::digest(self.inventory_json.as_bytes()).into(),
            gpus: self.gpus.clone(),
        }
    }
}

/// Looks at the machine. `hosted` is the id of a hosted node, which may share its hardware with others.
pub(crate) fn detect(
    settings: &Settings,
    surroundings: &Surroundings,
    node_name: &str,
    hosted: Option<&str>,
) -> Detected {
    let inventory = hwdetect::detect(&SysRoot::host());
    let own = Own {
        node_name: node_name.to_owned(),
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        image_version: if settings.hosted { None } else { image_version() },
    };
    let mut facts = attributes::facts(&own, &inventory, surroundings, &settings.config.attributes);
    facts.extend(settings.disks.facts());
    // Post-refinement form: it can say everything.
    let format = Format { refined: true, allocation_role: None };
    let mut offered = resources(&sizes(settings, &inventory), &settings.config.resources);
    for disk in settings.disks.resources() {
        offered.add(disk);
    }
    let capacity = Capacity {
        resources: resources_to_wire(&offered, &format),
        facts: facts_to_wire(&facts),
        ..Capacity::default()
    };
    Detected {
        machine: machine::of(&inventory, node_name, hosted),
        kernel: inventory.kernel.release.clone().unwrap_or_default(),
        capacity,
        gpus: gpus(settings, &inventory),
        inventory_json: serde_json::to_string(&inventory).unwrap_or_default(),
    }
}

fn gpus(settings: &Settings, inventory: &Inventory) -> Vec<Gpu> {
    if settings.config.gpus.is_empty() { named::gpus(inventory) } else { settings.config.gpus.clone() }
}

fn sizes(settings: &Settings, inventory: &Inventory) -> Facts {
    let gpus = gpus(settings, inventory).len();
    let pool = settings.disks.pool_mib();
    Facts {
        cpus: u64::from(inventory.cpu.threads),
        memory_bytes: inventory.memory.total_bytes.unwrap_or_default(),
        disk_bytes: pool.map_or_else(|| file_system_bytes(&settings.work_dir), |mib| mib << 20),
        disk_in_memory: !settings.hosted && pool.is_none(),
        gpus: u64::try_from(gpus).unwrap_or(0),
    }
}

fn file_system_bytes(path: &Path) -> u64 {
    nix::sys::statvfs::statvfs(path).map_or(0, |stat| stat.blocks().saturating_mul(stat.fragment_size()))
}

/// Of the image we booted, which says so as every distribution does.
fn image_version() -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let version = text.lines().find_map(|line| line.strip_prefix("VERSION_ID="))?;
    Some(version.trim_matches('"').to_owned())
}
