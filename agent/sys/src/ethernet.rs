//! Raw frames of one Ethernet protocol on one interface: `nix` can neither name such a protocol nor build the address.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_int, c_void, packet_mreq, sockaddr_ll, socklen_t};

/// A socket that takes in and sends whole frames of `ethertype` on interface `index`, those to the multicast `group`
/// included. Close-on-exec; does not block. The kernel filters: other protocols never reach it, nor do our own frames.
///
/// # Errors
/// What `socket(2)`, `bind(2)` or `setsockopt(2)` says: without CAP_NET_RAW `PermissionDenied`, for an interface that is
/// gone `ENODEV`.
pub fn open(index: u32, ethertype: u16, group: [u8; 6]) -> io::Result<OwnedFd> {
    let index = c_int::try_from(index).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // Protocol 0: nothing is received before `bind` has said on which interface.
    // SAFETY: takes three numbers and no memory.
    let number = unsafe { libc::socket(libc::AF_PACKET, kind, 0) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `socket` has just opened it for this process; nobody else here knows the number, so nobody else closes it.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let address = sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: index,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    // SAFETY: the pointer is to a whole `sockaddr_ll` that lives until the call returns, and the length is its size.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of::<sockaddr_ll>()) };
    if bound < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut address = [0; 8];
    address[..6].copy_from_slice(&group);
    let membership = packet_mreq {
        mr_ifindex: index,
        mr_type: u16::try_from(libc::PACKET_MR_MULTICAST).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        mr_alen: 6,
        mr_address: address,
    };
    let (level, option) = (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP);
    let value: *const c_void = (&raw const membership).cast();
    // SAFETY: the pointer is to a whole `packet_mreq` that lives until the call returns, and the length is its size.
    let joined = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, length_of::<packet_mreq>()) };
    if joined < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

fn length_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_an_error_and_no_socket() {
        let error = open(u32::MAX, 0x88cc, [1, 0x80, 0xc2, 0, 0, 0xe]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        // Without the privilege the kernel refuses earlier.
        let error = open(2_000_000, 0x88cc, [1, 0x80, 0xc2, 0, 0, 0xe]).unwrap_err();
        let expected = [libc::ENODEV, libc::EPERM, libc::EACCES];
        assert!(error.raw_os_error().is_some_and(|errno| expected.contains(&errno)), "{error}");
    }
}
