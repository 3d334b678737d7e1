//! A file as nobody can write it, through a mount of its own that nobody else sees.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Opens a file on a read-only mount that has no place in any tree. It can be executed by its descriptor's path in
/// `/proc/self/fd`; a process that gets hold of the executable of what runs from it cannot open it for writing.
///
/// # Errors
/// What `open_tree(2)` and `mount_setattr(2)` say; `EPERM` without the right to mount.
pub fn open(path: &CStr) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC.cast_unsigned();
    // SAFETY: the path is a C string that lives through the call, which only reads it.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let number = RawFd::try_from(result).map_err(io::Error::other)?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows its number.
    let tree = unsafe { OwnedFd::from_raw_fd(number) };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is empty, the attributes live through the call, and their size is told.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(tree) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn it_can_be_read_and_not_written() {
        if !nix::unistd::geteuid().is_root() {
            assert_eq!(open(c"/proc/self/exe").unwrap_err().raw_os_error(), Some(libc::EPERM));
            return;
        }
        let sealed = open(c"/proc/self/exe").unwrap();
        let path = format!("/proc/self/fd/{}", sealed.as_raw_fd());
        assert!(File::open(&path).unwrap().metadata().unwrap().len() > 0);
        let error = File::options().append(true).open(&path).unwrap_err();
        assert!(matches!(error.raw_os_error(), Some(libc::EROFS | libc::ETXTBSY)), "{error}");
    }
}
