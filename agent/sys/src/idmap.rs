//! Mounts that have no place yet: how they show files, and what may be done with them.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Shows the files of a mount that has no place yet under the names they have in a user namespace: what belongs to 0 on
/// disk belongs to its root.
///
/// # Errors
/// What `mount_setattr(2)` says; `EINVAL` for file systems that cannot.
pub fn apply(tree: impl AsFd, user_namespace: impl AsFd) -> io::Result<()> {
    let number = user_namespace.as_fd().as_raw_fd();
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::try_from(number).map_err(io::Error::other)?,
    };
    set(tree, &attributes)
}

/// May anybody write through a mount?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Writes {
    /// Who else may.
    Allowed,
    /// Nobody.
    Refused,
}

/// Takes from a mount what no volume has: programs with the rights of their owners, devices; and writing.
///
/// # Errors
/// What `mount_setattr(2)` says.
pub fn restrict(tree: impl AsFd, writes: Writes) -> io::Result<()> {
    let read_only = match writes {
        Writes::Allowed => 0,
        Writes::Refused => libc::MOUNT_ATTR_RDONLY,
    };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    set(tree, &attributes)
}

fn set(tree: impl AsFd, attributes: &libc::mount_attr) -> io::Result<()> {
    // SAFETY: the path is empty, the attributes live through the call, and their size is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            std::ptr::from_ref(attributes),
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn what_is_no_mount_is_refused() {
        let file = File::open("/").unwrap();
        let own = File::open("/proc/self/ns/user").unwrap();
        let error = apply(&file, &own).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EPERM)), "{error}");
    }
}
