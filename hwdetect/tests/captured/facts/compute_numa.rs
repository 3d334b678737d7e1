//! Two sockets, two NUMA nodes, NVMe and network cards on both, TPM, BMC.

use hwdetect::{CacheKind, Duplex, IsaLevel, OperState, PciId, Transport};

use super::{
    ExpectedNic, LOOPBACK, MIB, Topology, assert_dimm, assert_disks, assert_memory, assert_nics, assert_platform,
    assert_topology, assert_watchdogs, card,
};
use crate::capture::detect;

#[test]
fn compute_numa_is_a_two_socket_machine_with_devices_on_both_nodes() {
    let inventory = detect("compute-numa");
    assert_platform(&inventory, "RackStar 2200", "SN-A-0001", "11111111-2222-3333-4444-0000000000a1");
    assert_topology(
        &inventory,
        &Topology {
            model: "Intel Xeon Processor (Skylake)",
            online: "0-7",
            possible: "0-7",
            packages: 2,
            dies: 2,
            cores: 4,
            cpus: 8,
            level: IsaLevel::V3,
        },
    );
    let cpu = &inventory.cpu;
    assert_eq!(cpu.vendor.as_deref(), Some("GenuineIntel"));
    assert_eq!((cpu.family, cpu.model, cpu.stepping), (Some(6), Some(85), Some(4)));
    assert_eq!(cpu.microcode.as_deref(), Some("0x1"));
    assert_eq!((cpu.physical_address_bits, cpu.virtual_address_bits), (Some(40), Some(48)));
    for logical in &cpu.logical {
        assert_eq!(logical.numa_node, Some(logical.id / 4));
        assert_eq!(logical.socket, Some(logical.id / 4));
        let first = logical.id / 2 * 2;
        assert_eq!(logical.thread_siblings.to_string(), format!("{first}-{}", first + 1));
    }
    let caches: Vec<_> =
        cpu.caches.iter().map(|cache| (cache.level, cache.kind, cache.size_bytes, cache.shared_by.len())).collect();
    assert_eq!(
        caches,
        [
            (1, CacheKind::Data, Some(32 << 10), 8),
            (1, CacheKind::Instruction, Some(32 << 10), 8),
            (2, CacheKind::Unified, Some(4 << 20), 4),
            (3, CacheKind::Unified, Some(16 << 20), 2),
        ]
    );
    assert_eq!(cpu.caches[3].shared_by.iter().map(ToString::to_string).collect::<Vec<_>>(), ["0-3", "4-7"]);
    assert_memory(&inventory, 2_015_432, &[(0, "0-3", &[10, 21], 984_716), (1, "4-7", &[21, 10], 1_030_716)]);
    assert_dimm(&inventory, "DMSN-A-0001", 2048 * MIB);
    let pages: Vec<_> = inventory.memory.huge_pages.iter().map(|pool| (pool.page_bytes, pool.pages)).collect();
    assert_eq!(pages, [(2 << 20, 0), (1 << 30, 0)]);
    assert!(inventory.numa_nodes.iter().all(|node| node.huge_pages.len() == 2));
}

#[test]
fn compute_numa_has_three_cards_of_which_one_is_on_the_second_node() {
    let inventory = detect("compute-numa");
    let e1000e = Some((0x8086, 0x10d3));
    assert_nics(
        &inventory,
        &[
            card("eth0", "52:54:00:aa:00:03", Some(1000), OperState::Up, "e1000e", e1000e),
            ExpectedNic {
                numa: Some(1),
                ..card("eth1", "52:54:00:aa:00:02", Some(1000), OperState::Up, "e1000e", e1000e)
            },
            card("eth2", "52:54:00:aa:00:01", None, OperState::Up, "virtio_net", Some((0x1af4, 0x1000))),
            LOOPBACK,
        ],
    );
    assert_eq!(inventory.nics[1].pci_address.as_deref(), Some("0000:82:00.0"));
    assert_eq!((inventory.nics[0].duplex, inventory.nics[2].duplex), (Some(Duplex::Full), None));
    assert!(inventory.nics.iter().all(|nic| nic.carrier == Some(true)));
}

#[test]
fn compute_numa_has_three_namespaces_on_two_nvme_controllers() {
    let inventory = detect("compute-numa");
    let model = Some("QEMU NVMe Ctrl");
    let wwid = |text| Some(text);
    assert_disks(
        &inventory.disks,
        &[
            (
                "nvme0n1",
                3_750_748_848,
                false,
                (512, 512),
                false,
                model,
                Some("NVA0001"),
                wwid("nvme.1b36-4e564130303031-51454d55204e564d65204374726c-00000001"),
                Transport::Nvme,
                "nvme",
            ),
            (
                "nvme0n2",
                937_703_088,
                false,
                (512, 512),
                false,
                model,
                Some("NVA0001"),
                wwid("nvme.1b36-4e564130303031-51454d55204e564d65204374726c-00000002"),
                Transport::Nvme,
                "nvme",
            ),
            (
                "nvme1n1",
                7_501_476_528,
                false,
                (4096, 4096),
                false,
                model,
                Some("NVB0002"),
                wwid("nvme.1b36-4e564230303032-51454d55204e564d65204374726c-00000001"),
                Transport::Nvme,
                "nvme",
            ),
        ],
    );
    let places: Vec<_> = inventory.disks.iter().map(|disk| (disk.pci_address.as_deref(), disk.numa_node)).collect();
    assert_eq!(places, [(Some("0000:01:00.0"), None), (Some("0000:01:00.0"), None), (Some("0000:81:00.0"), Some(1))]);
    assert!(inventory.disks.iter().all(|disk| disk.firmware.as_deref() == Some("7.2.22")));
}

#[test]
fn compute_numa_has_tpm_bmc_watchdogs_and_fourteen_functions() {
    let inventory = detect("compute-numa");
    assert_eq!(inventory.pci.len(), 14);
    let tpm = inventory.tpm.as_ref().unwrap();
    assert_eq!((tpm.name.as_str(), tpm.version_major), ("tpm0", Some(2)));
    let bmc = inventory.bmc.as_ref().unwrap();
    assert_eq!((bmc.device.as_deref(), bmc.interface.as_deref()), (Some("ipmi0"), Some("KCS")));
    assert_eq!((bmc.manufacturer_id, bmc.product_id), (Some(0x1234), Some(0x42)));
    assert_watchdogs(&inventory, &["i6300ESB timer", "iTCO_wdt", "Software Watchdog"]);
    assert!(!inventory.platform.bios.uefi);

    let lan = inventory.pci.iter().find(|function| function.address == "0000:82:00.0").unwrap();
    assert_eq!(lan.class.to_string(), "0x020000");
    assert_eq!((lan.vendor, lan.device), (Some(PciId(0x8086)), Some(PciId(0x10d3))));
    assert_eq!(lan.vendor_name.as_deref(), Some("Intel Corporation"));
    assert_eq!(lan.device_name.as_deref(), Some("82574L Gigabit Network Connection"));
    assert_eq!(lan.class_name.as_deref(), Some("Network controller"));
    assert_eq!(lan.subclass_name.as_deref(), Some("Ethernet controller"));
    assert_eq!((lan.driver.as_deref(), lan.numa_node), (Some("e1000e"), Some(1)));
    assert_eq!(lan.subsystem_vendor, Some(PciId(0x8086)));
    let onboard = inventory.pci.iter().find(|function| function.label.is_some()).unwrap();
    assert_eq!((onboard.address.as_str(), onboard.label.as_deref()), ("0000:00:03.0", Some("Onboard-LAN-1")));
}
