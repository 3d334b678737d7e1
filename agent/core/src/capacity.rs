//! What a node offers: facts about the machine in, Mesos resources out.

use api::resources::ResourceValue;
use api::{Milli, Ranges, Resource, Resources};

/// What detection found.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Facts {
    /// Online CPUs.
    pub cpus: u64,
    /// All memory the kernel manages.
    pub memory_bytes: u64,
    /// Size of the file system that holds the sandboxes.
    pub disk_bytes: u64,
    /// The sandboxes live in memory: what they fill, tasks cannot have.
    pub disk_in_memory: bool,
    /// Graphics processors and other accelerators tasks may ask for as `gpus`.
    pub gpus: u64,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Ports for tasks when the operator names none (Mesos's default).
const PORTS: (u64, u64) = (31_000, 32_000);
/// Kernel, the image in memory and our own processes, on a node that runs from memory.
const SYSTEM_BYTES: u64 = 256 * MIB;
/// This part of a memory-only node's memory becomes `disk`.
const DISK_PART: u64 = 8;

/// Mesos's detection rules (containerizer.cpp), by resource name; `configured` wins where it names one.
///
/// Mesos keeps 1 GiB of memory back, or half below 2 GiB. On a node without disks the sandboxes are a
/// file system in memory, so an eighth of memory is offered as `disk` and `mem` shrinks where both and
/// the system would not fit.
#[must_use]
pub fn resources(facts: &Facts, configured: &Resources) -> Resources {
    let total = facts.memory_bytes;
    let memory_rule = if total >= 2 * GIB { total - GIB } else { total / 2 };
    let (memory, disk) = if facts.disk_in_memory {
        let disk = (total / DISK_PART).min(facts.disk_bytes);
        (memory_rule.min(total.saturating_sub(SYSTEM_BYTES + disk)), disk)
    } else if facts.disk_bytes >= 10 * GIB {
        (memory_rule, facts.disk_bytes - 5 * GIB)
    } else {
        (memory_rule, facts.disk_bytes / 2)
    };
    let units = |count: u64| ResourceValue::Scalar(Milli(count.saturating_mul(1000)));
    let detected = [
        ("cpus", units(facts.cpus.max(1))),
        ("mem", units(memory / MIB)),
        ("disk", units(disk / MIB)),
        ("gpus", units(facts.gpus)),
        ("ports", ResourceValue::Ranges(Ranges::new([PORTS]))),
    ];
    let named = |name: &str| configured.iter().any(|resource| resource.name == name);
    let mut all: Resources = detected
        .into_iter()
        .filter(|(name, value)| !named(name) && *value != units(0))
        .map(|(name, value)| Resource::unreserved(name, value))
        .collect();
    all.add_all(configured);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_kept_back_as_mesos_does_and_a_disk_in_memory_is_not_promised_twice() {
        for (name, facts, expected) in [
            (
                "a small virtual server without a disk",
                Facts { cpus: 2, memory_bytes: 960 * MIB, disk_bytes: 480 * MIB, disk_in_memory: true, gpus: 0 },
                "cpus:2; mem:480; disk:120; ports:[31000-32000]",
            ),
            (
                "a large one",
                Facts { cpus: 64, memory_bytes: 64 * GIB, disk_bytes: 32 * GIB, disk_in_memory: true, gpus: 2 },
                "cpus:64; mem:57088; disk:8192; gpus:2; ports:[31000-32000]",
            ),
            (
                "a machine with a disk",
                Facts { cpus: 4, memory_bytes: 8 * GIB, disk_bytes: 100 * GIB, disk_in_memory: false, gpus: 0 },
                "cpus:4; mem:7168; disk:97280; ports:[31000-32000]",
            ),
        ] {
            assert_eq!(
                resources(&facts, &Resources::default()),
                Resources::parse(&expected.replace("; ", ";")).unwrap(),
                "{name}"
            );
        }
    }

    #[test]
    fn the_operator_wins_by_name() {
        let facts = Facts { cpus: 4, memory_bytes: 4 * GIB, ..Facts::default() };
        let all = resources(&facts, &Resources::parse("cpus:1;cpus(dev):1;bananas:7").unwrap());
        assert_eq!(all, Resources::parse("mem:3072;ports:[31000-32000];cpus:1;cpus(dev):1;bananas:7").unwrap());
    }
}
