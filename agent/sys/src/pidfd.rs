//! Descriptors that stand for processes, so that a number used again is not mistaken for the old process.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Opens a process. The descriptor becomes readable when the process ends, whoever its parent is.
///
/// # Errors
/// What `pidfd_open(2)` says; `ESRCH` when there is no such process.
pub fn open(pid: i32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open(2) takes two integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let number = RawFd::try_from(result).map_err(io::Error::other)?;
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_living_processes_open() {
        open(i32::try_from(std::process::id()).unwrap()).unwrap();
        assert_eq!(open(i32::MAX).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
}
