//! Disks: what holds data and is not made of other disks.

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::device_path::DevicePath;
use crate::disk_identity::DiskIdentity;
use crate::pci::vendor_name;
use crate::transport::{Transport, nvme_controller};

/// A disk. Loop, RAM, mapped and RAID devices are not disks; neither are the paths below a multipath NVMe disk.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Disk {
    /// The kernel's name, which may differ after a reboot: `nvme0n1`.
    pub name: String,
    /// How it is attached.
    pub transport: Option<Transport>,
    /// The driver of its controller, which tells RAID and paravirtual controllers apart: `ahci`, `megaraid_sas`.
    pub driver: Option<String>,
    /// The kernel's opinion. Paravirtual disks and RAID volumes say `true` whatever is below them.
    pub rotational: Option<bool>,
    /// Its size; 0 for a reader without a card.
    pub size_bytes: Option<u64>,
    /// Who made it.
    pub vendor: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its serial number. Namespaces of one NVMe controller share it: `wwid` tells them apart.
    pub serial: Option<String>,
    /// Its world-wide name, in the kernel's form: `naa.5000c500a0000002`.
    pub wwid: Option<String>,
    /// The version of its firmware.
    pub firmware: Option<String>,
    /// The unit of addressing.
    pub logical_sector_bytes: Option<u32>,
    /// The unit it writes without reading first.
    pub physical_sector_bytes: Option<u32>,
    /// The medium, or the whole disk, can be pulled out in operation.
    pub removable: Option<bool>,
    /// Writing is refused.
    pub read_only: Option<bool>,
    /// The NUMA node of its controller.
    pub numa_node: Option<u32>,
    /// The PCI function of its controller.
    pub pci_address: Option<String>,
    /// Partitions the kernel found.
    pub partitions: Vec<Partition>,
}

/// A part of a disk.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Partition {
    /// `nvme0n1p1`.
    pub name: String,
    /// Its place in the partition table.
    pub number: Option<u32>,
    /// Where it begins.
    pub start_bytes: Option<u64>,
    /// Its size.
    pub size_bytes: Option<u64>,
    /// Its name in a GPT: `ESP`.
    pub label: Option<String>,
}

/// `size` and `start` count these, whatever the disk's own sectors are.
const SECTOR_BYTES: u64 = 512;

/// What `/sys/block` lists besides disks. Most hang below `virtual`; these do not, or not always.
const NOT_DISKS: &[&str] =
    &["loop", "ram", "zram", "dm-", "md", "nbd", "rbd", "drbd", "bcache", "fd", "mtdblock", "zd"];

impl Disk {
    /// All disks, and apart from them the optical drives: those hold no data of ours.
    pub(crate) fn detect(root: &SysRoot) -> (Vec<Self>, Vec<Self>) {
        let names = root.list("sys/block").into_iter().filter(|name| is_disk_name(name));
        names.filter_map(|name| Self::read(root, name)).partition(|disk: &Self| !is_numbered(&disk.name, "sr"))
    }

    fn read(root: &SysRoot, name: String) -> Option<Self> {
        let block = format!("sys/block/{name}");
        let file = |file: &str| format!("{block}/{file}");
        let path = DevicePath::of(root, &block);
        let is_subsystem = path.any(|part| part == "nvme-subsystem");
        if (path.is_virtual() && !is_subsystem) || root.flag(&file("hidden")) == Some(true) {
            return None;
        }
        let scsi_vendor = root.text(&file("device/vendor"));
        let transport = Transport::of(root, &name, &path, scsi_vendor.as_deref());
        // A multipath disk hangs on no bus; its controllers do.
        let bus = if is_subsystem { DevicePath::of(root, &nvme_controller(root, &path)?) } else { path.clone() };
        let identity = DiskIdentity::read(root, &block, &path);
        let is_nvme = transport == Some(Transport::Nvme);
        Some(Self {
            transport,
            driver: bus.driver(root),
            rotational: root.flag(&file("queue/rotational")),
            size_bytes: sectors(root, &file("size")),
            vendor: identity.vendor.or_else(|| is_nvme.then(|| controller_vendor(root, &bus)).flatten()),
            model: identity.model,
            serial: identity.serial,
            wwid: identity.wwid,
            firmware: identity.firmware,
            logical_sector_bytes: root.parse(&file("queue/logical_block_size")),
            physical_sector_bytes: root.parse(&file("queue/physical_block_size")),
            removable: root.flag(&file("removable")),
            read_only: root.flag(&file("ro")),
            numa_node: bus.numa_node(root),
            pci_address: bus.pci_address().map(str::to_owned),
            partitions: Partition::detect(root, &block, &name),
            name,
        })
    }
}

impl Partition {
    fn detect(root: &SysRoot, block: &str, disk: &str) -> Vec<Self> {
        let mut partitions: Vec<Self> = root
            .list(block)
            .into_iter()
            .filter(|name| name.starts_with(disk))
            .filter_map(|name| {
                let file = |file: &str| format!("{block}/{name}/{file}");
                Some(Self {
                    number: Some(root.parse(&file("partition"))?),
                    start_bytes: sectors(root, &file("start")),
                    size_bytes: sectors(root, &file("size")),
                    label: root.text(&file("uevent")).and_then(|uevent| {
                        Some(uevent.lines().find_map(|line| line.strip_prefix("PARTNAME="))?.to_owned())
                    }),
                    name,
                })
            })
            .collect();
        partitions.sort_by_key(|partition| partition.number);
        partitions
    }
}

fn is_disk_name(name: &str) -> bool {
    // eMMC's boot and replay-protected areas are devices of their own on the same chip.
    let is_emmc_area = name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb"));
    !is_emmc_area && !NOT_DISKS.iter().any(|prefix| is_numbered(name, prefix))
}

fn is_numbered(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn sectors(root: &SysRoot, path: &str) -> Option<u64> {
    root.parse::<u64>(path)?.checked_mul(SECTOR_BYTES)
}

/// NVMe drives do not name their maker; their PCI function does.
fn controller_vendor(root: &SysRoot, path: &DevicePath) -> Option<String> {
    let id = root.hex(&format!("{}/vendor", path.pci_directory()?))?;
    vendor_name(u16::try_from(id).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_no_copy_of_another_is_a_disk() {
        for (name, is) in [
            ("sda", true),
            ("nvme0n1", true),
            ("vda", true),
            ("mmcblk0", true),
            ("mmcblk0boot0", false),
            ("mmcblk0rpmb", false),
            ("sr0", true),
            ("loop0", false),
            ("dm-0", false),
            ("md127", false),
            ("zram0", false),
            ("fd0", false),
        ] {
            assert_eq!(is_disk_name(name), is, "{name}");
        }
    }
}
