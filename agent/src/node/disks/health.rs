//! How disks are: what they say themselves, and what their file systems noticed.

use std::fs::{self, File};
use std::path::Path;

use hwdetect::smart::{AtaStatus, Health};
use hwdetect::{Disk, Transport};

/// Asks a disk. None of those that do not say.
pub(super) fn of(disk: &Disk) -> Option<Health> {
    let file = File::open(Path::new("/dev").join(&disk.name)).ok()?;
    match disk.transport? {
        Transport::Nvme => Health::of_nvme(&agent_sys::disk::nvme_health(&file).ok()?),
        Transport::Sata => {
            let data = agent_sys::disk::ata_smart_data(&file).ok()?;
            let status = agent_sys::disk::ata_smart_status(&file);
            let status = status.map_or(AtaStatus::Unknown, |(mid, high)| AtaStatus::of(mid, high));
            Health::of_ata(&data, status)
        }
        Transport::NvmeFabrics
        | Transport::Sas
        | Transport::Scsi
        | Transport::Usb
        | Transport::Virtio
        | Transport::Mmc
        | Transport::Iscsi
        | Transport::FibreChannel
        | Transport::Nvdimm
        | Transport::Xen => None,
    }
}

/// What a mounted file system noticed: errors it counted, or that it takes no more writes.
pub(super) fn trouble_of(mount_point: &Path) -> Option<String> {
    let stat = match nix::sys::statvfs::statvfs(mount_point) {
        Ok(stat) => stat,
        Err(errno) => return Some(format!("its file system does not answer: {errno}")),
    };
    if stat.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY) {
        return Some("its file system takes no more writes after an error".to_owned());
    }
    if let Err(error) = fs::read_dir(mount_point) {
        return Some(format!("its file system cannot be read: {error}"));
    }
    let device = device_of(mount_point)?;
    let errors = fs::read_to_string(format!("/sys/fs/ext4/{device}/errors_count")).ok()?;
    let count: u64 = errors.trim().parse().ok()?;
    (count > 0).then(|| format!("its file system has counted {count} errors"))
}

/// The kernel's name of what is mounted there.
fn device_of(mount_point: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let device = fs::metadata(mount_point).ok()?.dev();
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let link = fs::read_link(format!("/sys/dev/block/{major}:{minor}")).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}
