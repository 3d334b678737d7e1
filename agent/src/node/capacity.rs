//! What the node offers, as the master wants to read it.

use std::path::Path;

use agent_core::capacity::{Facts, resources};
use api::Attribute;
use api::link::Capacity;
use api::v1::{Format, attributes_to_wire, resources_to_wire};

use super::machine::Detected;
use super::settings::Settings;

/// Resources and attributes; the operator's word is first and wins.
pub(crate) fn of(settings: &Settings, detected: &Detected) -> Capacity {
    let facts = Facts {
        cpus: detected.cpus,
        memory_bytes: detected.memory_bytes,
        disk_bytes: file_system_bytes(&settings.work_dir),
        disk_in_memory: !settings.hosted,
        gpus: detected.gpus,
    };
    let resources = resources(&facts, &settings.config.resources);
    let told = &settings.config.attributes;
    let found = detected.attributes.iter().filter(|found| !told.iter().any(|attribute| attribute.name == found.name));
    let attributes: Vec<Attribute> = told.iter().chain(found).cloned().collect();
    // Post-refinement form: it can say everything.
    let format = Format { refined: true, allocation_role: None };
    Capacity { resources: resources_to_wire(&resources, &format), attributes: attributes_to_wire(&attributes) }
}

fn file_system_bytes(path: &Path) -> u64 {
    nix::sys::statvfs::statvfs(path).map_or(0, |stat| stat.blocks().saturating_mul(stat.fragment_size()))
}
