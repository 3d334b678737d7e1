//! What is asked of disks by ioctl: their partitions anew, their health, and to forget what no file uses.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use libc::{c_int, c_uchar, c_uint, c_ushort, c_void};

/// What a drive may take to answer.
const TIMEOUT_MS: u32 = 5_000;

/// Of linux/nvme_ioctl.h.
#[repr(C)]
#[derive(Default)]
struct NvmeCommand {
    opcode: u8,
    flags: u8,
    reserved: u16,
    namespace: u32,
    words_2_3: [u32; 2],
    metadata: u64,
    address: u64,
    metadata_bytes: u32,
    bytes: u32,
    words_10_15: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

/// Of scsi/sg.h.
#[repr(C)]
struct SgHeader {
    interface: c_int,
    direction: c_int,
    command_bytes: c_uchar,
    sense_room: c_uchar,
    vectors: c_ushort,
    bytes: c_uint,
    data: *mut c_void,
    command: *const c_uchar,
    sense: *mut c_uchar,
    timeout_ms: c_uint,
    flags: c_uint,
    pack: c_int,
    user: *mut c_void,
    status: c_uchar,
    masked_status: c_uchar,
    message_status: c_uchar,
    sense_bytes: c_uchar,
    host_status: c_ushort,
    driver_status: c_ushort,
    left: c_int,
    duration: c_uint,
    info: c_uint,
}

/// Of linux/fs.h.
#[repr(C)]
struct TrimRange {
    start: u64,
    length: u64,
    least: u64,
}

mod request {
    use super::{NvmeCommand, SgHeader, TrimRange};

    // BLKRRPART of linux/fs.h.
    nix::ioctl_none!(read_partitions, 0x12, 95);
    // NVME_IOCTL_ADMIN_CMD.
    nix::ioctl_readwrite!(nvme_admin, b'N', 0x41, NvmeCommand);
    // SG_IO, which is older than the scheme.
    nix::ioctl_readwrite_bad!(sg_io, 0x2285, SgHeader);
    // FITRIM.
    nix::ioctl_readwrite!(trim, b'X', 121, TrimRange);
}

/// Makes the kernel read the partition table again.
///
/// # Errors
/// `EBUSY` while a partition is in use.
pub fn read_partitions(disk: impl AsFd) -> io::Result<()> {
    // SAFETY: the request takes no argument.
    unsafe { request::read_partitions(disk.as_fd().as_raw_fd()) }?;
    Ok(())
}

/// NVMe's log page 02h of the whole drive.
///
/// # Errors
/// What the driver says; `EACCES` without the privilege, `ENOTTY` for what is no NVMe drive.
pub fn nvme_health(disk: impl AsFd) -> io::Result<[u8; 512]> {
    let mut page = [0_u8; 512];
    let mut command = NvmeCommand {
        opcode: 0x02, // Get Log Page
        namespace: u32::MAX,
        address: (&raw mut page).expose_provenance() as u64,
        bytes: 512,
        timeout_ms: TIMEOUT_MS,
        ..NvmeCommand::default()
    };
    // The page's number, and its length in words of four bytes less one.
    command.words_10_15[0] = 0x02 | (512 / 4 - 1) << 16;
    // SAFETY: the command is a whole one, and names a buffer of 512 bytes that lives until the call returns.
    let status = unsafe { request::nvme_admin(disk.as_fd().as_raw_fd(), &raw mut command) }?;
    if status == 0 { Ok(page) } else { Err(io::Error::other(format!("the drive answers with status {status:#x}"))) }
}

/// ATA's SMART READ DATA.
///
/// # Errors
/// What the driver or the drive says.
pub fn ata_smart_data(disk: impl AsFd) -> io::Result<[u8; 512]> {
    let mut data = [0_u8; 512];
    // PIO in; one block, to the host.
    let command = ata(0x08, 0x0e, 0xd0, 1);
    pass_through(disk, &command, &mut data)?;
    Ok(data)
}

/// ATA's SMART RETURN STATUS: the registers LBA mid and high.
///
/// # Errors
/// What the driver or the drive says.
pub fn ata_smart_status(disk: impl AsFd) -> io::Result<(u8, u8)> {
    // No data; the registers come back as sense data.
    let command = ata(0x06, 0x20, 0xda, 0);
    let sense = pass_through(disk, &command, &mut [])?;
    // Sense data with descriptors, the first of them ATA's.
    if sense[0] & 0x7f == 0x72 && sense[8] == 0x09 && sense[9] == 12 {
        Ok((sense[8 + 9], sense[8 + 11]))
    } else {
        Err(io::Error::other("the drive's answer does not come back"))
    }
}

/// SCSI's ATA PASS-THROUGH(16) of a SMART command.
const fn ata(protocol: u8, flags: u8, feature: u8, blocks: u8) -> [u8; 16] {
    [0x85, protocol, flags, 0, feature, 0, blocks, 0, 0, 0, 0x4f, 0, 0xc2, 0, 0xb0, 0]
}

fn pass_through(disk: impl AsFd, command: &[u8; 16], data: &mut [u8]) -> io::Result<[u8; 32]> {
    let mut sense = [0_u8; 32];
    let none = data.is_empty();
    let mut header = SgHeader {
        interface: c_int::from(b'S'),
        direction: if none { -1 } else { -3 },
        command_bytes: 16,
        sense_room: 32,
        vectors: 0,
        bytes: c_uint::try_from(data.len()).unwrap_or(0),
        data: data.as_mut_ptr().cast(),
        command: command.as_ptr(),
        sense: sense.as_mut_ptr(),
        timeout_ms: TIMEOUT_MS,
        flags: 0,
        pack: 0,
        user: std::ptr::null_mut(),
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_bytes: 0,
        host_status: 0,
        driver_status: 0,
        left: 0,
        duration: 0,
        info: 0,
    };
    // SAFETY: the header is a whole one; command, sense and data live until the call returns, with the lengths it names.
    unsafe { request::sg_io(disk.as_fd().as_raw_fd(), &raw mut header) }?;
    // CHECK CONDITION is how registers come back, and what a drive without SMART answers with.
    let asked = none && header.status == 2;
    let fine = header.status == 0 || asked;
    if fine && header.host_status == 0 && header.left <= 0 {
        Ok(sense)
    } else {
        Err(io::Error::other(format!("the drive refuses (status {}, host {})", header.status, header.host_status)))
    }
}

/// Tells the disk below a file system what no file uses. Gives how many bytes that were.
///
/// # Errors
/// `EOPNOTSUPP` where the disk does not want to know.
pub fn trim(mount_point: impl AsFd) -> io::Result<u64> {
    let mut range = TrimRange { start: 0, length: u64::MAX, least: 0 };
    // SAFETY: the request reads and writes one range, which it is, and keeps no pointer.
    unsafe { request::trim(mount_point.as_fd().as_raw_fd(), &raw mut range) }?;
    Ok(range.length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_disk_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(read_partitions(&file).is_err() && nvme_health(&file).is_err() && trim(&file).is_err());
        assert!(ata_smart_data(&file).is_err() && ata_smart_status(&file).is_err());
        assert_eq!(std::mem::size_of::<NvmeCommand>(), 72);
        assert_eq!(std::mem::size_of::<SgHeader>(), 88);
    }
}
