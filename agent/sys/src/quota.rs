//! Project quotas of ext4 and xfs: what a tree of files may take, kept by the file system itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`.
const GET_ATTRIBUTES: libc::c_ulong = 0x801c_581f;
const SET_ATTRIBUTES: libc::c_ulong = 0x401c_5820;
/// What is made in a directory belongs to its project.
const INHERIT: u32 = 0x200;
/// `QCMD(command, PRJQUOTA)`.
const fn command(number: u32) -> u32 {
    number << 8 | 2
}
const GET_QUOTA: u32 = command(0x80_0007);
const SET_QUOTA: u32 = command(0x80_0008);
const GET_STATE: u32 = command(0x5808);
/// Projects are counted, and kept within their limits.
const ENFORCED: u16 = 3 << 4;
/// What a limit is counted in.
const BLOCK: u64 = 1024;
/// Only the limits of space are set.
const SPACE_LIMITS: u32 = 1;

/// `struct fsxattr`.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    rest: [u8; 8],
}

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Quota {
    hard_blocks: u64,
    soft_blocks: u64,
    used_bytes: u64,
    hard_files: u64,
    soft_files: u64,
    used_files: u64,
    blocks_since: u64,
    files_since: u64,
    valid: u32,
}

/// `struct fs_quota_statv`, as far as it is of use here.
#[repr(C)]
struct State {
    version: i8,
    padding: u8,
    flags: u16,
    rest: [u64; 24],
}

/// What a project takes and may take, in bytes; no limit is none.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Now.
    pub used: u64,
    /// At most.
    pub limit: Option<u64>,
}

/// Does the file system of this directory hold projects to their limits?
pub fn is_enforced(directory: impl AsFd) -> bool {
    let mut state = State { version: 1, padding: 0, flags: 0, rest: [0; 24] };
    control(directory, GET_STATE, 0, &mut state).is_ok() && state.flags & ENFORCED == ENFORCED
}

/// The project of a file or directory; 0 is none.
///
/// # Errors
/// What the kernel says; `ENOTTY` for file systems without projects.
pub fn project(file: impl AsFd) -> io::Result<u32> {
    attributes(file.as_fd()).map(|attributes| attributes.project)
}

/// Puts a directory, and all that will be made in it, into a project.
///
/// # Errors
/// What the kernel says.
pub fn set_project(directory: impl AsFd, project: u32) -> io::Result<()> {
    let mut attributes = attributes(directory.as_fd())?;
    attributes.project = project;
    attributes.flags |= INHERIT;
    // SAFETY: the structure is the one the command reads, and lives through the call.
    let result = unsafe { libc::ioctl(directory.as_fd().as_raw_fd(), SET_ATTRIBUTES, &raw const attributes) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn attributes(file: impl AsFd) -> io::Result<Attributes> {
    let mut attributes = Attributes::default();
    // SAFETY: the structure is the one the command fills, and lives through the call.
    let result = unsafe { libc::ioctl(file.as_fd().as_raw_fd(), GET_ATTRIBUTES, &raw mut attributes) };
    if result == 0 { Ok(attributes) } else { Err(io::Error::last_os_error()) }
}

/// Bounds a project on the file system of this directory; none lifts the limit.
///
/// # Errors
/// What the kernel says.
pub fn limit(directory: impl AsFd, project: u32, bytes: Option<u64>) -> io::Result<()> {
    // Nothing at all cannot be said: 0 is no limit.
    let blocks = bytes.map_or(0, |bytes| bytes.div_ceil(BLOCK).max(1));
    let mut quota = Quota { hard_blocks: blocks, soft_blocks: blocks, valid: SPACE_LIMITS, ..Quota::default() };
    control(directory, SET_QUOTA, project, &mut quota)
}

/// What a project takes on the file system of this directory.
///
/// # Errors
/// What the kernel says; `ESRCH` where projects are not counted.
pub fn usage(directory: impl AsFd, project: u32) -> io::Result<Usage> {
    let mut quota = Quota::default();
    match control(directory, GET_QUOTA, project, &mut quota) {
        Ok(()) => {}
        // xfs knows only those that have something.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Usage::default()),
        Err(error) => return Err(error),
    }
    let limit = (quota.hard_blocks > 0).then(|| quota.hard_blocks.saturating_mul(BLOCK));
    Ok(Usage { used: quota.used_bytes, limit })
}

fn control<T>(directory: impl AsFd, command: u32, project: u32, argument: &mut T) -> io::Result<()> {
    // SAFETY: the structure is the one the command reads or fills, and lives through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_quotactl_fd,
            directory.as_fd().as_raw_fd(),
            command,
            project,
            std::ptr::from_mut(argument),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!((size_of::<Attributes>(), size_of::<Quota>()), (28, 72));
        // fs_quota_statv has 176 bytes; ours is at least as long.
        assert!(size_of::<State>() >= 176);
    }

    #[test]
    fn a_file_system_without_projects_says_so() {
        let proc = File::open("/proc").unwrap();
        assert!(!is_enforced(&proc) && project(&proc).is_err() && usage(&proc, 7).is_err());
    }
}
