//! The loopback interface of the calling thread's network namespace: ioctls of netdevice(7).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Sets `IFF_UP` on `lo`.
///
/// # Errors
/// When the kernel refuses.
pub fn bring_up() -> io::Result<()> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let socket = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *place = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: the pointer is to an ifreq that lives through the call, which fills in the flags.
    let read = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) };
    if read != 0 {
        return Err(io::Error::last_os_error());
    }
    #[allow(clippy::cast_possible_truncation)] // IFF_UP is 1
    let up = libc::IFF_UP as libc::c_short;
    // SAFETY: the call before has made the flags the union's content.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | up;
    // SAFETY: the pointer is to an ifreq that lives through the call, which reads it.
    let written = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if written != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
