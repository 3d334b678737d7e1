//! How a disk is attached, read from its place in the device tree.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::device_path::DevicePath;

/// How a disk is attached. A controller that makes volumes of its own shows them as `Scsi`; its driver tells.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// NVMe in this machine.
    Nvme,
    /// NVMe of another machine, over TCP, RDMA or Fibre Channel.
    NvmeFabrics,
    /// SATA or the older ATA, on a port of the board or behind a SAS controller.
    Sata,
    /// SAS.
    Sas,
    /// SCSI of any other kind, paravirtual and RAID volumes included.
    Scsi,
    /// USB.
    Usb,
    /// virtio block device.
    Virtio,
    /// SD card or eMMC.
    Mmc,
    /// SCSI of another machine over TCP.
    Iscsi,
    /// SCSI of another machine over Fibre Channel.
    FibreChannel,
    /// Persistent memory.
    Nvdimm,
    /// Xen's paravirtual disk.
    Xen,
}

impl Transport {
    pub(crate) fn of(root: &SysRoot, name: &str, path: &DevicePath, scsi_vendor: Option<&str>) -> Option<Self> {
        let has = |prefix: &str| {
            path.any(|part| {
                part.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
            })
        };
        if name.starts_with("nvme") {
            return Some(match nvme_transport(root, path).as_deref() {
                Some("pcie") | None => Self::Nvme,
                Some(_) => Self::NvmeFabrics,
            });
        }
        let is_scsi = has("host") && has("target");
        // Order matters: a USB disk is a SCSI disk too, and a SATA disk behind a SAS controller hangs on an end device.
        if has("usb") {
            Some(Self::Usb)
        } else if has("ata") {
            Some(Self::Sata)
        } else if has("session") {
            Some(Self::Iscsi)
        } else if has("rport-") {
            Some(Self::FibreChannel)
        } else if has("end_device-") {
            Some(if scsi_vendor == Some("ATA") { Self::Sata } else { Self::Sas })
        } else if is_scsi {
            Some(if scsi_vendor == Some("ATA") { Self::Sata } else { Self::Scsi })
        } else if has("mmc") {
            Some(Self::Mmc)
        } else if has("virtio") {
            Some(Self::Virtio)
        } else if has("vbd-") {
            Some(Self::Xen)
        } else if name.starts_with("pmem") {
            Some(Self::Nvdimm)
        } else {
            None
        }
    }
}

/// `pcie`, `tcp`, `rdma`, `fc`; of the first path where a subsystem has several.
fn nvme_transport(root: &SysRoot, path: &DevicePath) -> Option<String> {
    nvme_controller(root, path).and_then(|directory| root.text(&format!("{directory}/transport")))
}

/// The directory of a namespace's controller. With multipath the namespace hangs on a virtual subsystem instead, which
/// links to its controllers.
pub(crate) fn nvme_controller(root: &SysRoot, path: &DevicePath) -> Option<String> {
    let parent = path.ancestors().nth(1)?;
    let name = parent.rsplit('/').next()?;
    if !name.starts_with("nvme-subsys") {
        return Some(parent.to_owned());
    }
    let is_controller = |name: &String| {
        name.strip_prefix("nvme")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let first = root.list(parent).into_iter().find(is_controller)?;
    Some(root.resolve(&format!("{parent}/{first}")))
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Nvme => "nvme",
            Self::NvmeFabrics => "nvme-of",
            Self::Sata => "sata",
            Self::Sas => "sas",
            Self::Scsi => "scsi",
            Self::Usb => "usb",
            Self::Virtio => "virtio",
            Self::Mmc => "mmc",
            Self::Iscsi => "iscsi",
            Self::FibreChannel => "fc",
            Self::Nvdimm => "nvdimm",
            Self::Xen => "xen",
        })
    }
}
