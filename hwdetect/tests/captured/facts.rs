//! What is known of the captured machines from how they were built, written down by hand. The golden inventories were
//! written by the program under test and prove only that it has not changed; this proves that it is right.

mod compute_numa;
mod microvm;
mod netstack;
mod storage;
mod uefi_epyc;

use hwdetect::{Disk, EccKind, Inventory, IsaLevel, Nic, NicKind, OperState, Transport, Virtualisation};

use crate::capture::detect;

const MIB: u64 = 1 << 20;

#[track_caller]
fn assert_platform(inventory: &Inventory, product: &str, serial: &str, uuid: &str) {
    let platform = &inventory.platform;
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(platform.system.vendor, some("Acme"));
    assert_eq!(platform.system.product, some(product));
    assert_eq!(platform.system.version, some("A01"));
    assert_eq!(platform.system.serial, some(serial));
    assert_eq!(platform.system.uuid, some(uuid));
    assert_eq!(platform.system.sku, Some(format!("SKU-{serial}")));
    assert_eq!(platform.system.family, some("RackStar"));
    assert_eq!(platform.board.vendor, some("Acme"));
    assert_eq!(platform.board.product, Some(format!("MB-{product}")));
    assert_eq!(platform.board.version, some("1.3"));
    assert_eq!(platform.board.serial, Some(format!("MB{serial}")));
    assert_eq!(platform.board.asset_tag, Some(format!("ASSET-MB-{serial}")));
    assert_eq!(platform.board.location, some("Slot U12"));
    assert_eq!(platform.chassis.vendor, some("Acme"));
    assert_eq!((platform.chassis.type_code, &platform.chassis.type_name), (Some(1), &None));
    assert_eq!(platform.chassis.version, some("CH2"));
    assert_eq!(platform.chassis.serial, Some(format!("CH{serial}")));
    assert_eq!(platform.chassis.asset_tag, Some(format!("ASSET-CH-{serial}")));
    assert_eq!(platform.chassis.sku, some("CHSKU"));
    assert_eq!(platform.bios.vendor, some("Acme Firmware Inc."));
    assert_eq!(platform.bios.version, some("2.1.7"));
    assert_eq!(platform.bios.date, some("03/14/2025"));
    assert_eq!(platform.bios.release, some("2.1"));
    assert_eq!(platform.smbios_version, some("2.8"));
    assert_eq!(platform.oem_strings, ["lab.site=berlin-1", "lab.rack=R07", "lab.unit=U12"]);
}

struct Topology {
    model: &'static str,
    online: &'static str,
    possible: &'static str,
    packages: u32,
    dies: u32,
    cores: u32,
    cpus: u32,
    level: IsaLevel,
}

#[track_caller]
fn assert_topology(inventory: &Inventory, expected: &Topology) {
    let cpu = &inventory.cpu;
    assert_eq!(cpu.model_name.as_deref(), Some(expected.model));
    assert_eq!(cpu.online.to_string(), expected.online);
    assert_eq!(cpu.possible.to_string(), expected.possible);
    let counts = (cpu.sockets, cpu.dies, cpu.cores, cpu.threads);
    assert_eq!(counts, (expected.packages, expected.dies, expected.cores, expected.cpus));
    assert_eq!(cpu.isa_level, Some(expected.level));
    assert_eq!(cpu.architecture.as_deref(), Some("x86_64"));
    assert_eq!(cpu.logical.len(), expected.cpus as usize);
    assert!(cpu.logical.iter().all(|logical| logical.online && logical.numa_node.is_some()));
}

/// Each row: MemTotal in KiB, then node, CPUs, distances and KiB of each node.
#[track_caller]
fn assert_memory(inventory: &Inventory, total_kib: u64, nodes: &[(u32, &str, &[u32], u64)]) {
    assert_eq!(inventory.memory.total_bytes, Some(total_kib * 1024));
    let found: Vec<_> = inventory
        .numa_nodes
        .iter()
        .map(|node| {
            let distances: Vec<u32> = node.distances.iter().map(|to| to.distance).collect();
            (node.id, node.cpus.to_string(), distances, node.total_bytes)
        })
        .collect();
    let expected: Vec<_> = nodes
        .iter()
        .map(|(id, cpus, distances, kib)| (*id, (*cpus).to_owned(), distances.to_vec(), Some(kib * 1024)))
        .collect();
    assert_eq!(found, expected);
}

#[track_caller]
fn assert_dimm(inventory: &Inventory, serial: &str, size_bytes: u64) {
    let memory = &inventory.memory;
    assert_eq!(
        (memory.installed_bytes, memory.slots, memory.ecc),
        (Some(size_bytes), Some(1), Some(EccKind::MultiBit))
    );
    let [dimm] = memory.dimms.as_slice() else { panic!("{:?}", memory.dimms) };
    assert_eq!(dimm.size_bytes, Some(size_bytes));
    assert_eq!(dimm.speed_mts, Some(3200));
    assert_eq!(dimm.configured_speed_mts, Some(3200));
    assert_eq!(dimm.ecc, Some(EccKind::MultiBit));
    assert_eq!(dimm.form_factor.as_deref(), Some("DIMM"));
    assert_eq!(dimm.memory_type.as_deref(), Some("RAM"));
    let texts = [&dimm.manufacturer, &dimm.part_number, &dimm.serial, &dimm.asset_tag, &dimm.locator, &dimm.bank];
    let texts = texts.map(|text| text.as_deref().unwrap_or_default());
    assert_eq!(texts, ["Acme DRAM", "AD4-16G", serial, "ASSET-DIMM", "DIMM_ 0", "BANK"]);
}

struct ExpectedNic {
    name: &'static str,
    mac: Option<&'static str>,
    permanent: Option<&'static str>,
    speed: Option<u32>,
    state: OperState,
    driver: Option<&'static str>,
    pci: Option<(u16, u16)>,
    numa: Option<u32>,
    kind: NicKind,
}

const LOOPBACK: ExpectedNic = ExpectedNic {
    name: "lo",
    mac: None,
    permanent: None,
    speed: None,
    state: OperState::Unknown,
    driver: None,
    pci: None,
    numa: None,
    kind: NicKind::Loopback,
};

const fn card(
    name: &'static str,
    mac: &'static str,
    speed: Option<u32>,
    state: OperState,
    driver: &'static str,
    pci: Option<(u16, u16)>,
) -> ExpectedNic {
    ExpectedNic {
        name,
        mac: Some(mac),
        permanent: Some(mac),
        speed,
        state,
        driver: Some(driver),
        pci,
        numa: None,
        kind: NicKind::Physical,
    }
}

#[track_caller]
fn assert_nics(inventory: &Inventory, expected: &[ExpectedNic]) {
    let names = |nics: &[Nic]| nics.iter().map(|nic| nic.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&inventory.nics), expected.iter().map(|nic| nic.name.to_owned()).collect::<Vec<_>>());
    for (nic, expected) in inventory.nics.iter().zip(expected) {
        let name = expected.name;
        assert_eq!(nic.mac.as_deref(), expected.mac, "{name}");
        assert_eq!(nic.permanent_mac.as_deref(), expected.permanent, "{name}");
        assert_eq!(nic.speed_mbps, expected.speed, "{name}");
        assert_eq!(nic.operstate, Some(expected.state), "{name}");
        assert_eq!(nic.driver.as_deref(), expected.driver, "{name}");
        assert_eq!(nic.numa_node, expected.numa, "{name}");
        assert_eq!(nic.kind, expected.kind, "{name}");
        let ids = nic.pci_address.as_ref().map(|address| {
            let function = inventory.pci.iter().find(|function| function.address == *address).unwrap();
            (function.vendor.unwrap().0, function.device.unwrap().0)
        });
        assert_eq!(ids, expected.pci, "{name}");
        assert_eq!(nic.mtu_bytes, Some(if name == "lo" { 65536 } else { 1500 }), "{name}");
    }
}

/// Name, sectors of 512 bytes, rotational, logical/physical sector, removable, model, serial, wwid, transport, driver.
type ExpectedDisk = (
    &'static str,
    u64,
    bool,
    (u32, u32),
    bool,
    Option<&'static str>,
    Option<&'static str>,
    Option<&'static str>,
    Transport,
    &'static str,
);

#[track_caller]
fn assert_disks(disks: &[Disk], expected: &[ExpectedDisk]) {
    assert_eq!(
        disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(),
        expected.iter().map(|disk| disk.0).collect::<Vec<_>>()
    );
    for (disk, &(name, sectors, rotational, (logical, physical), removable, model, serial, wwid, transport, driver)) in
        disks.iter().zip(expected)
    {
        assert_eq!(disk.size_bytes, Some(sectors * 512), "{name}");
        assert_eq!(disk.rotational, Some(rotational), "{name}");
        assert_eq!((disk.logical_sector_bytes, disk.physical_sector_bytes), (Some(logical), Some(physical)), "{name}");
        assert_eq!(disk.removable, Some(removable), "{name}");
        assert_eq!(disk.model.as_deref(), model, "{name}");
        assert_eq!(disk.serial.as_deref(), serial, "{name}");
        // A wwid of form t10 is padded to fixed columns; one blank for each run of them is easier to read here.
        let found = disk.wwid.as_deref().map(|wwid| wwid.split_whitespace().collect::<Vec<_>>().join(" "));
        assert_eq!(found.as_deref(), wwid, "{name}");
        assert_eq!(disk.transport, Some(transport), "{name}");
        assert_eq!(disk.driver.as_deref(), Some(driver), "{name}");
    }
}

#[track_caller]
fn assert_watchdogs(inventory: &Inventory, expected: &[&str]) {
    let found: Vec<_> = inventory.watchdogs.iter().filter_map(|watchdog| watchdog.identity.as_deref()).collect();
    assert_eq!(found, expected);
    for watchdog in &inventory.watchdogs {
        assert_eq!(watchdog.software, watchdog.identity.as_deref() == Some("Software Watchdog"));
        assert_eq!(watchdog.timeout_secs, Some(if watchdog.software { 60 } else { 30 }));
        assert_eq!((watchdog.nowayout, watchdog.caused_last_reset), (Some(false), Some(false)));
    }
}

#[test]
fn every_machine_runs_debians_kernel_under_emulation() {
    for machine in crate::capture::MACHINES {
        let inventory = detect(machine);
        assert_eq!(inventory.kernel.release.as_deref(), Some("6.1.0-56-amd64"), "{machine}");
        let version = inventory.kernel.version.unwrap();
        assert_eq!(version, "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-11-16)", "{machine}");
        assert_eq!(inventory.virtualisation, Virtualisation::Qemu, "{machine}");
        assert!(inventory.cpu.flags.contains("hypervisor"), "{machine}");
        assert_eq!(inventory.accelerators, [], "{machine}");
    }
}
