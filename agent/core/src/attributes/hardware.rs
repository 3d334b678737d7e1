//! What the kernel and the firmware show of the machine.

use std::collections::{BTreeMap, BTreeSet};

use api::facts::Source;
use hwdetect::{
    Accelerator, AcceleratorKind, CacheKind, Disk, EccKind, Inventory, Nic, NicKind, Transport, Virtualisation,
};

use super::collector::{Collector, From};
use super::spelling::{date, maker, slug};

const MIB: u64 = 1 << 20;
/// Disks are sold in these.
const GB: u64 = 1_000_000_000;

/// What programs are built for, or choose their fast path by. All flags are in the inventory.
const FLAGS: [&str; 33] = [
    "aes",
    "amx_bf16",
    "amx_int8",
    "amx_tile",
    "avx",
    "avx2",
    "avx512_bf16",
    "avx512_fp16",
    "avx512_vnni",
    "avx512bw",
    "avx512cd",
    "avx512dq",
    "avx512f",
    "avx512vl",
    "avx_vnni",
    "bmi1",
    "bmi2",
    "cat_l3",
    "fma",
    "gfni",
    "la57",
    "mba",
    "pclmulqdq",
    "pdpe1gb",
    "popcnt",
    "rdrand",
    "rdseed",
    "sgx",
    "sha_ni",
    "sse4_2",
    "vaes",
    "vpclmulqdq",
    "waitpkg",
];

/// No more NUMA nodes than this are listed one by one.
const NODES_LISTED: usize = 16;

pub(super) fn collect(facts: &mut Collector, inventory: &Inventory) {
    firmware(&mut facts.from(Source::Smbios, ""), inventory);
    let from = &mut facts.from(Source::Kernel, "");
    machine(from, inventory);
    processors(from, inventory);
    memory(from, inventory);
    numa(from, inventory);
    disks(from, inventory);
    network(from, inventory);
    accelerators(from, inventory);
    functions(from, inventory);
}

/// What somebody wrote into the firmware.
fn firmware(from: &mut From<'_>, inventory: &Inventory) {
    let platform = &inventory.platform;
    let (system, board, chassis, bios) = (&platform.system, &platform.board, &platform.chassis, &platform.bios);
    from.text("node.uuid", system.uuid.as_ref());
    from.text("node.serial", system.serial.as_ref().or(chassis.serial.as_ref()).or(board.serial.as_ref()));
    from.text("node.asset", chassis.asset_tag.as_ref().or(board.asset_tag.as_ref()));
    from.text("node.vendor", system.vendor.as_ref().or(board.vendor.as_ref()).and_then(|vendor| maker(vendor)));
    from.text("node.model", system.product.as_ref().or(board.product.as_ref()).and_then(|product| slug(product)));
    from.text("node.sku", system.sku.as_ref());
    from.text("node.chassis.type", chassis.type_name.as_ref());
    from.text("node.bios.version", bios.version.as_ref());
    from.text("node.bios.date", bios.date.as_deref().map(date));
    let memory = &inventory.memory;
    from.number("mem.installed_mib", memory.installed_bytes.map(|bytes| bytes / MIB));
    if !memory.dimms.is_empty() {
        from.count("mem.dimms", memory.dimms.len());
    }
    // The slowest module sets the pace.
    from.number(
        "mem.speed_mts",
        memory.dimms.iter().filter_map(|dimm| dimm.configured_speed_mts.or(dimm.speed_mts)).min(),
    );
    from.flag("mem.ecc", memory.ecc.map(|ecc| ecc != EccKind::None));
    let kinds: BTreeSet<String> =
        memory.dimms.iter().filter_map(|dimm| dimm.memory_type.as_deref().and_then(slug)).collect();
    from.set("mem.type", kinds);
}

fn machine(from: &mut From<'_>, inventory: &Inventory) {
    let bios = &inventory.platform.bios;
    from.text("node.firmware", Some(if bios.uefi { "uefi" } else { "bios" }));
    from.flag("boot.secureboot", bios.secure_boot);
    if inventory.watchdogs.iter().any(|watchdog| watchdog.caused_last_reset == Some(true)) {
        from.text("boot.reason", Some("watchdog"));
    }
    from.text("kernel.version", inventory.kernel.release.as_ref());
    from.text("virt", Some(virtualisation(inventory.virtualisation)));
    if let Some(tpm) = &inventory.tpm {
        from.text(
            "tpm.version",
            match tpm.version_major {
                Some(1) => Some("1.2".to_owned()),
                Some(major) => Some(format!("{major}.0")),
                None => Some("present".to_owned()),
            },
        );
    }
    from.flag("bmc.present", Some(inventory.bmc.is_some()));
    from.text("bmc.fw", inventory.bmc.as_ref().and_then(|bmc| bmc.firmware_revision.as_ref()));
    let hardware = inventory.watchdogs.iter().find(|watchdog| !watchdog.software);
    from.text("watchdog", hardware.and_then(|watchdog| watchdog.identity.as_ref()));
    from.flag("iommu", Some(inventory.pci.iter().any(|function| function.iommu_group.is_some())));
}

const fn virtualisation(of: Virtualisation) -> &'static str {
    match of {
        Virtualisation::None => "none",
        Virtualisation::Kvm => "kvm",
        Virtualisation::Qemu => "qemu",
        Virtualisation::Vmware => "vmware",
        Virtualisation::HyperV => "hyper-v",
        Virtualisation::Xen => "xen",
        Virtualisation::VirtualBox => "virtualbox",
        Virtualisation::Bhyve => "bhyve",
        Virtualisation::Parallels => "parallels",
        Virtualisation::Other => "other",
    }
}

fn processors(from: &mut From<'_>, inventory: &Inventory) {
    let cpu = &inventory.cpu;
    from.text("cpu.arch", cpu.architecture.as_ref());
    from.text(
        "cpu.level",
        cpu.isa_level.and_then(|level| serde_json::to_value(level).ok()?.as_str().map(str::to_owned)),
    );
    from.text("cpu.vendor", cpu.vendor.as_deref().and_then(maker));
    from.number("cpu.family", cpu.family);
    from.number("cpu.model", cpu.model);
    from.text("cpu.model_name", cpu.model_name.as_ref());
    from.number("cpu.stepping", cpu.stepping);
    from.number("cpu.sockets", Some(cpu.sockets).filter(|count| *count != 0));
    from.number("cpu.dies", Some(cpu.dies).filter(|count| *count != 0));
    from.number("cpu.cores", Some(cpu.cores).filter(|count| *count != 0));
    from.number("cpu.threads", Some(cpu.threads).filter(|count| *count != 0));
    from.flag("cpu.smt", cpu.smt_active);
    from.ranges("cpu.isolated", &cpu.isolated);
    from.number("cpu.base_mhz", cpu.base_mhz);
    from.number("cpu.max_mhz", cpu.max_mhz);
    from.set("cpu.flags", FLAGS.into_iter().filter(|flag| cpu.flags.contains(*flag)));
    let third = |cache: &&hwdetect::Cache| cache.level == 3 && cache.kind == CacheKind::Unified;
    let domains: usize = cpu.caches.iter().filter(third).map(|cache| cache.shared_by.len()).sum();
    if domains > 0 {
        from.count("cpu.l3.domains", domains);
        let bytes = cpu
            .caches
            .iter()
            .filter(third)
            .filter_map(|cache| cache.size_bytes?.checked_mul(u64::try_from(cache.shared_by.len()).ok()?));
        from.number("cpu.l3.kib", Some(bytes.sum::<u64>() / 1024).filter(|kib| *kib != 0));
    }
    from.text("cpu.microcode", cpu.microcode.as_ref());
    let virt = ["vmx", "svm"].into_iter().find(|flag| cpu.flags.contains(*flag));
    from.text("cpu.virt", virt);
    let confidential = [("sev", "sev"), ("sev_es", "sev-es"), ("sev_snp", "sev-snp"), ("tdx_host_platform", "tdx")];
    from.set("cpu.cc", confidential.into_iter().filter(|(flag, _)| cpu.flags.contains(*flag)).map(|(_, name)| name));
    for (name, word) in &cpu.vulnerabilities {
        let state = if word.starts_with("Vulnerable") {
            "vulnerable"
        } else if word.starts_with("Mitigation") || word.contains("Mitigation:") {
            "mitigated"
        } else {
            continue; // not affected, or not known: no reason to choose or avoid the machine
        };
        from.text(&format!("cpu.vuln.{name}"), Some(state));
    }
}

fn memory(from: &mut From<'_>, inventory: &Inventory) {
    let memory = &inventory.memory;
    from.number("mem.total_mib", memory.total_bytes.map(|bytes| bytes / MIB));
    for pages in memory.huge_pages.iter().filter(|pages| pages.pages > 0) {
        let size = match pages.page_bytes {
            0x20_0000 => "2m",
            0x4000_0000 => "1g",
            _ => continue,
        };
        from.number(&format!("hugepages.{size}"), Some(pages.pages));
    }
    if let Some(errors) = &memory.errors {
        // Only the order of magnitude: a module that fails slowly must not take offers back once a second.
        from.number("mem.ce", Some(magnitude(errors.corrected)));
        from.number("mem.ue", Some(errors.uncorrected));
        from.set("mem.failing", &errors.modules);
    }
}

/// 0, 1, 10, 100 and so on: not more than the number.
fn magnitude(number: u64) -> u64 {
    number.checked_ilog10().map_or(0, |digits| 10u64.pow(digits))
}

fn numa(from: &mut From<'_>, inventory: &Inventory) {
    let nodes = &inventory.numa_nodes;
    if nodes.is_empty() {
        return;
    }
    from.count("numa.nodes", nodes.len());
    if nodes.len() < 2 {
        return;
    }
    for node in nodes.iter().take(NODES_LISTED) {
        from.ranges(&format!("numa.cpus.{}", node.id), &node.cpus);
        from.number(&format!("numa.mem_mib.{}", node.id), node.total_bytes.map(|bytes| bytes / MIB));
    }
    let row = |node: &hwdetect::NumaNode| {
        node.distances.iter().map(|to| to.distance.to_string()).collect::<Vec<_>>().join(",")
    };
    from.text("numa.distance", Some(nodes.iter().take(NODES_LISTED).map(row).collect::<Vec<_>>().join(";")));
}

/// What kind of disk it is to somebody who looks for one.
pub(crate) fn disk_type(disk: &Disk) -> &'static str {
    match disk.transport {
        Some(Transport::Nvme) => "nvme",
        Some(Transport::NvmeFabrics | Transport::Iscsi | Transport::FibreChannel) => "san",
        // Whatever they say of turning: it is the hypervisor's choice.
        Some(Transport::Virtio | Transport::Xen) => "virtual",
        Some(Transport::Usb) => "usb",
        Some(Transport::Mmc) => "mmc",
        Some(Transport::Nvdimm) => "pmem",
        Some(Transport::Sata | Transport::Sas | Transport::Scsi) | None => match disk.rotational {
            Some(false) => "ssd",
            Some(true) | None => "hdd",
        },
    }
}

fn disks(from: &mut From<'_>, inventory: &Inventory) {
    // A reader without a card, and what may be pulled out at any moment, are nobody's disk.
    let is_disk = |disk: &&Disk| disk.size_bytes.is_some_and(|bytes| bytes > 0) && disk.removable != Some(true);
    let disks: Vec<&Disk> = inventory.disks.iter().filter(is_disk).collect();
    from.count("disks.count", disks.len());
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for disk in &disks {
        *kinds.entry(disk_type(disk)).or_default() += 1;
    }
    from.set("disks.types", kinds.keys());
    for (kind, count) in &kinds {
        from.count(&format!("disks.{kind}"), *count);
    }
    let sizes = || disks.iter().filter_map(|disk| disk.size_bytes);
    from.number("disks.total_gb", Some(sizes().fold(0u64, u64::saturating_add) / GB).filter(|_| !disks.is_empty()));
    from.number("disks.largest_gb", sizes().max().map(|bytes| bytes / GB));
    from.set("disks.models", disks.iter().filter_map(|disk| disk.model.as_deref().and_then(slug)));
}

fn network(from: &mut From<'_>, inventory: &Inventory) {
    let cards: Vec<&Nic> = inventory.nics.iter().filter(|nic| nic.kind == NicKind::Physical).collect();
    from.count("net.count", cards.len());
    from.count("net.links_up", cards.iter().filter(|nic| nic.carrier == Some(true)).count());
    // A bond of several cards is as fast as they are together.
    let links = inventory.nics.iter().filter(|nic| matches!(nic.kind, NicKind::Physical | NicKind::Bond));
    from.number("net.max_mbps", links.filter_map(|nic| nic.speed_mbps).max());
    from.set("net.drivers", cards.iter().filter_map(|nic| nic.driver.as_deref()));
    from.set("net.mac.set", cards.iter().filter_map(|nic| nic.permanent_mac.as_deref().or(nic.mac.as_deref())));
    from.flag("net.sriov", Some(cards.iter().any(|nic| nic.sriov_total_vfs.is_some())));
}

/// Makers by their PCI number: names in the database change, and are no names to type.
fn chip_maker(accelerator: &Accelerator) -> Option<String> {
    match accelerator.vendor_id?.0 {
        0x10de => Some("nvidia".to_owned()),
        0x1002 => Some("amd".to_owned()),
        0x8086 => Some("intel".to_owned()),
        0x1da3 => Some("habana".to_owned()),
        0x1e52 => Some("tenstorrent".to_owned()),
        _ => accelerator.vendor.as_deref().and_then(maker),
    }
}

fn accelerators(from: &mut From<'_>, inventory: &Inventory) {
    let of = |kind: AcceleratorKind| -> Vec<&Accelerator> {
        inventory.accelerators.iter().filter(|accelerator| accelerator.kind == kind).collect()
    };
    for (name, kind) in [("gpu", AcceleratorKind::Gpu), ("accel", AcceleratorKind::Accelerator)] {
        let all = of(kind);
        if all.is_empty() {
            continue;
        }
        from.count(&format!("{name}.count"), all.len());
        from.set(&format!("{name}.vendor"), all.iter().filter_map(|one| chip_maker(one)));
        from.text(&format!("{name}.model"), all.iter().find_map(|one| one.model.as_ref()));
        from.set(&format!("{name}.models"), all.iter().filter_map(|one| one.model.as_deref().and_then(slug)));
        from.set(&format!("{name}.drivers"), all.iter().filter_map(|one| one.driver.as_deref()));
        let memory = all.iter().filter_map(|one| one.memory_bytes).min();
        from.number(&format!("{name}.mem_mib"), memory.map(|bytes| bytes / MIB));
    }
}

/// Cards, by class and maker: `pci.0200_15b3` are Mellanox's Ethernet ports. Bridges and the chipset's own are left out.
fn functions(from: &mut From<'_>, inventory: &Inventory) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for function in &inventory.pci {
        let Some(vendor) = function.vendor else { continue };
        let (base, sub) = (function.class.base(), function.class.sub());
        if matches!(base, 0x00..=0x03 | 0x0b | 0x10 | 0x12 | 0xff) {
            *counts.entry(format!("pci.{base:02x}{sub:02x}_{:04x}", vendor.0)).or_default() += 1;
        }
    }
    for (name, count) in counts {
        from.count(&name, count);
    }
}

#[cfg(test)]
mod tests {
    use hwdetect::MemoryErrors;

    use super::*;

    fn facts_of(inventory: &Inventory) -> BTreeMap<String, String> {
        let mut facts = Collector::default();
        collect(&mut facts, inventory);
        let facts = facts.into_facts();
        facts.into_iter().map(|fact| (fact.attribute.name, format!("{:?}", fact.attribute.value))).collect()
    }

    #[test]
    fn failing_memory_shows_with_its_modules_and_in_orders_of_magnitude() {
        let mut inventory = Inventory::default();
        assert!(!facts_of(&inventory).contains_key("mem.ce"), "nobody counts");
        inventory.memory.errors =
            Some(MemoryErrors { corrected: 4711, uncorrected: 2, modules: vec!["CPU0_DIMM_A1".to_owned()] });
        let facts = facts_of(&inventory);
        assert_eq!(facts["mem.ce"], "Scalar(Milli(1000000))");
        assert_eq!(facts["mem.ue"], "Scalar(Milli(2000))");
        assert_eq!(facts["mem.failing"], "Text(\"CPU0_DIMM_A1\")");
        assert_eq!([0, 1, 9, 10, 999].map(magnitude), [0, 1, 1, 10, 100]);
    }

    #[test]
    fn a_machine_that_says_nothing_has_few_attributes_and_no_made_up_ones() {
        let facts = facts_of(&Inventory::default());
        let names: Vec<&str> = facts.keys().map(String::as_str).collect();
        let known =
            ["bmc.present", "disks.count", "iommu", "net.count", "net.links_up", "net.sriov", "node.firmware", "virt"];
        assert_eq!(names, known);
    }

    #[test]
    fn disks_are_counted_by_what_they_are_good_for() {
        let disk = |transport, rotational, bytes, removable| Disk {
            transport: Some(transport),
            rotational: Some(rotational),
            size_bytes: Some(bytes),
            removable: Some(removable),
            ..Disk::default()
        };
        let disks = vec![
            disk(Transport::Nvme, false, 2000 * GB, false),
            disk(Transport::Nvme, false, 1000 * GB, false),
            disk(Transport::Sata, true, 8000 * GB, false),
            disk(Transport::Virtio, true, 10 * GB, false),
            disk(Transport::Usb, true, 10 * GB, true),
            disk(Transport::Sata, false, 0, false),
        ];
        let facts = facts_of(&Inventory { disks, ..Inventory::default() });
        assert_eq!(facts["disks.count"], "Scalar(Milli(4000))");
        assert_eq!(facts["disks.types"], "Text(\"hdd,nvme,virtual\")");
        assert_eq!((facts["disks.nvme"].as_str(), facts.get("disks.usb")), ("Scalar(Milli(2000))", None));
        assert_eq!(facts["disks.total_gb"], "Scalar(Milli(11010000))");
        assert_eq!(facts["disks.largest_gb"], "Scalar(Milli(8000000))");
    }
}
