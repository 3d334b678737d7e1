//! No firmware tables, no PCI, hardly anything.

use hwdetect::{IsaLevel, OperState, Transport};

use super::{LOOPBACK, Topology, assert_disks, assert_memory, assert_nics, assert_topology, assert_watchdogs, card};
use crate::capture::detect;

#[test]
fn microvm_has_neither_firmware_tables_nor_pci() {
    let inventory = detect("microvm");
    assert_eq!(inventory.platform, hwdetect::Platform::default());
    assert_topology(
        &inventory,
        &Topology {
            model: "QEMU TCG CPU version 2.5+",
            online: "0-1",
            possible: "0-1",
            packages: 1,
            dies: 1,
            cores: 2,
            cpus: 2,
            level: IsaLevel::V3,
        },
    );
    assert_memory(&inventory, 208_620, &[(0, "0-1", &[10], 208_620)]);
    assert_eq!((inventory.memory.installed_bytes, inventory.memory.ecc, inventory.memory.slots), (None, None, None));
    assert_nics(&inventory, &[card("eth0", "52:54:00:ff:00:01", None, OperState::Up, "virtio_net", None), LOOPBACK]);
    assert_disks(
        &inventory.disks,
        &[("vda", 20_971_520, true, (512, 512), false, None, Some("MMIO-1"), None, Transport::Virtio, "virtio_blk")],
    );
    assert_eq!((inventory.disks[0].pci_address.as_deref(), inventory.disks[0].numa_node), (None, None));
    assert_eq!(inventory.pci, []);
    assert_eq!((&inventory.tpm, &inventory.bmc), (&None, &None));
    assert_watchdogs(&inventory, &["Software Watchdog"]);
}
