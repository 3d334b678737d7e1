//! Mounts that show files as a user namespace's own.

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
    // SAFETY: the path is empty, the attributes live through the call, and their size is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
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
