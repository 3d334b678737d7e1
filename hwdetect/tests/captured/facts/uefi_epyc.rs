//! UEFI, an AMD processor with room for more, a partitioned disk, a cable that is out.

use hwdetect::{IsaLevel, OperState, Transport};

use super::{
    LOOPBACK, Topology, assert_disks, assert_memory, assert_nics, assert_platform, assert_topology, assert_watchdogs,
    card,
};
use crate::capture::detect;

#[test]
fn uefi_epyc_has_room_for_four_more_processors() {
    let inventory = detect("uefi-epyc");
    assert_platform(&inventory, "RackStar 1100", "SN-E-0005", "11111111-2222-3333-4444-0000000000e5");
    assert_topology(
        &inventory,
        &Topology {
            model: "AMD EPYC-Rome Processor",
            online: "0-3",
            possible: "0-7",
            packages: 1,
            dies: 1,
            cores: 4,
            cpus: 4,
            level: IsaLevel::V3,
        },
    );
    assert_eq!(inventory.cpu.vendor.as_deref(), Some("AuthenticAMD"));
    assert_eq!((inventory.cpu.present.count(), inventory.cpu.smt_active), (4, Some(false)));
    assert_memory(&inventory, 909_388, &[(0, "0-3", &[10], 909_388)]);
    assert_nics(
        &inventory,
        &[card("eth0", "52:54:00:ee:00:01", None, OperState::Down, "e1000e", Some((0x8086, 0x10d3))), LOOPBACK],
    );
    assert_eq!(inventory.nics[0].carrier, Some(false));
    assert_eq!(inventory.pci.len(), 10);
    assert_eq!(inventory.tpm.as_ref().unwrap().version_major, Some(2));
    assert_eq!(inventory.bmc, None);
    assert_watchdogs(&inventory, &["i6300ESB timer", "iTCO_wdt", "Software Watchdog"]);
    assert!(inventory.platform.bios.uefi);
}

#[test]
fn uefi_epyc_has_a_partitioned_disk() {
    let inventory = detect("uefi-epyc");
    assert_disks(
        &inventory.disks,
        &[(
            "nvme0n1",
            524_288,
            false,
            (512, 512),
            false,
            Some("QEMU NVMe Ctrl"),
            Some("NVE0001"),
            Some("nvme.1b36-4e564530303031-51454d55204e564d65204374726c-00000001"),
            Transport::Nvme,
            "nvme",
        )],
    );
    let partitions: Vec<_> = inventory.disks[0]
        .partitions
        .iter()
        .map(|p| (p.name.as_str(), p.number, p.start_bytes, p.size_bytes, p.label.as_deref()))
        .collect();
    let sectors = |count: u64| Some(count * 512);
    assert_eq!(
        partitions,
        [
            ("nvme0n1p1", Some(1), sectors(2048), sectors(131_072), Some("ESP")),
            ("nvme0n1p2", Some(2), sectors(133_120), sectors(204_800), Some("root-a")),
            ("nvme0n1p3", Some(3), sectors(337_920), sectors(184_320), Some("data")),
        ]
    );
}
