//! The hardware watchdog's one request that is an ioctl.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

mod request {
    // WDIOC_SETTIMEOUT of linux/watchdog.h: the driver writes back the value it chose.
    nix::ioctl_readwrite!(set_timeout, b'W', 6, i32);
}

/// Asks the watchdog for a timeout and returns the one it took, both in seconds.
///
/// # Errors
/// What the driver says; `EOPNOTSUPP` or `ENOTTY` when its timeout is fixed.
pub fn set_timeout(watchdog: impl AsFd, secs: i32) -> io::Result<i32> {
    let mut chosen = secs;
    // SAFETY: the request reads and writes one int, which `chosen` is, and keeps no pointer.
    unsafe { request::set_timeout(watchdog.as_fd().as_raw_fd(), &raw mut chosen) }?;
    Ok(chosen)
}
