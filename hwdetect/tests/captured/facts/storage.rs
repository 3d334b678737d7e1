//! Disks on every kind of bus QEMU has.

use hwdetect::{IsaLevel, OperState, Transport};

use super::{
    LOOPBACK, MIB, Topology, assert_dimm, assert_disks, assert_memory, assert_nics, assert_platform, assert_topology,
    assert_watchdogs, card,
};
use crate::capture::detect;

#[test]
fn storage_is_an_old_machine_of_four_cores() {
    let inventory = detect("storage");
    assert_platform(&inventory, "StorBox 12", "SN-B-0002", "11111111-2222-3333-4444-0000000000b2");
    assert_topology(
        &inventory,
        &Topology {
            model: "Intel Core i7 9xx (Nehalem Class Core i7)",
            online: "0-3",
            possible: "0-3",
            packages: 1,
            dies: 1,
            cores: 4,
            cpus: 4,
            level: IsaLevel::V2,
        },
    );
    assert_memory(&inventory, 982_952, &[(0, "0-3", &[10], 982_952)]);
    assert_dimm(&inventory, "DMSN-B-0002", 1024 * MIB);
    assert_nics(
        &inventory,
        &[
            card("eth0", "52:54:00:bb:00:01", Some(1000), OperState::Up, "vmxnet3", Some((0x15ad, 0x07b0))),
            card("eth1", "52:54:00:bb:00:02", Some(1000), OperState::Up, "e1000", Some((0x8086, 0x100e))),
            card("eth2", "52:54:00:bb:00:03", Some(10_000), OperState::Up, "virtio_net", Some((0x1af4, 0x1000))),
            LOOPBACK,
        ],
    );
    assert_eq!(inventory.pci.len(), 17);
    assert_eq!(inventory.tpm, None);
    assert_eq!(inventory.bmc.as_ref().unwrap().device.as_deref(), Some("ipmi0"));
    assert_watchdogs(&inventory, &["iTCO_wdt", "Software Watchdog"]);
    assert!(!inventory.platform.bios.uefi);
}

#[test]
fn storage_has_disks_on_every_kind_of_bus() {
    use Transport::{Sata, Scsi, Usb, Virtio};
    let inventory = detect("storage");
    let qemu = Some("QEMU HARDDISK");
    let half = (512, 512);
    assert_disks(
        &inventory.disks,
        &[
            ("sda", 1_953_525_168, true, half, false, qemu, Some("PV0001"), None, Scsi, "vmw_pvscsi"),
            ("sdb", 7_814_037_168, true, half, false, qemu, Some("MR0001"), None, Scsi, "megaraid_sas"),
            (
                "sdc",
                15_628_053_168,
                true,
                half,
                false,
                Some("ST8000NM0055"),
                Some("ZA1AAAA2"),
                Some("naa.5000c500a0000002"),
                Sata,
                "ahci",
            ),
            (
                "sdd",
                15_628_053_168,
                true,
                half,
                false,
                Some("ST8000NM0055"),
                Some("ZA1AAAA1"),
                Some("naa.5000c500a0000001"),
                Sata,
                "ahci",
            ),
            (
                "sde",
                937_703_088,
                false,
                half,
                false,
                Some("ACME-SSD-480"),
                Some("S3SSD0003"),
                Some("t10.ATA ACME-SSD-480 S3SSD0003"),
                Sata,
                "ahci",
            ),
            ("sdf", 7_814_037_168, true, half, false, qemu, Some("MR0002"), None, Scsi, "megaraid_sas"),
            ("sdg", 125_045_424, true, half, false, qemu, Some("UAS1"), None, Usb, "uas"),
            (
                "sdh",
                1_172_123_568,
                true,
                half,
                false,
                Some("ST600MM0009"),
                Some("SAS0001"),
                Some("naa.5000c500b0000001"),
                Scsi,
                "virtio_scsi",
            ),
            ("sdi", 1_172_123_568, true, half, false, qemu, Some("SAS0002"), None, Scsi, "virtio_scsi"),
            ("sdj", 1_875_385_008, false, half, false, qemu, Some("SASSSD3"), None, Scsi, "virtio_scsi"),
            // The stick has no serial number page; its USB device has a number.
            ("sdk", 62_533_296, true, half, true, qemu, Some("USB-STICK-1"), None, Usb, "usb-storage"),
            ("vda", 209_715_200, true, (512, 4096), false, None, Some("VBLK-0001"), None, Virtio, "virtio_blk"),
        ],
    );
    assert_disks(
        &inventory.optical_drives,
        &[("sr0", 2_097_151, true, half, true, Some("QEMU DVD-ROM"), None, None, Sata, "ahci")],
    );
    let addresses: Vec<_> = inventory.disks.iter().filter_map(|disk| disk.pci_address.as_deref()).collect();
    assert_eq!(
        addresses,
        [
            "0000:00:05.0",
            "0000:00:03.0",
            "0000:00:1f.2",
            "0000:00:1f.2",
            "0000:00:1f.2",
            "0000:00:03.0",
            "0000:00:06.0",
            "0000:00:02.0",
            "0000:00:02.0",
            "0000:00:02.0",
            "0000:00:06.0",
            "0000:00:01.0",
        ]
    );
    assert_eq!(inventory.disks[2].firmware.as_deref(), Some("SN02"));
    let vendors = [0, 2].map(|disk: usize| inventory.disks[disk].vendor.as_deref());
    assert_eq!(vendors, [Some("QEMU"), None], "ATA is no vendor");
}
