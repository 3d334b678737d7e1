//! Packets with file descriptors on Unix sockets: what `recvmsg` and `accept4` give as bare numbers becomes owned.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg, sendmsg};

/// A packet that was received. No bytes and no descriptors: the peer has closed.
#[derive(Debug)]
pub struct Received {
    /// How much of the buffer it filled.
    pub len: usize,
    /// What rode along, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
    /// The packet or its descriptors were larger than the room for them.
    pub truncated: bool,
}

/// Descriptors one packet may carry.
pub const MAX_DESCRIPTORS_PER_PACKET: usize = 4;

/// Receives one packet.
///
/// # Errors
/// What `recvmsg(2)` says; `WouldBlock` when nothing is there and the socket does not block.
pub fn receive(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = nix::cmsg_space!([RawFd; MAX_DESCRIPTORS_PER_PACKET]);
    let mut room = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_fd().as_raw_fd(), &mut room, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let truncated = message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC);
    let mut descriptors = Vec::new();
    for control_message in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = control_message {
            descriptors.extend(numbers.into_iter().map(own));
        }
    }
    Ok(Received { len: message.bytes, descriptors, truncated })
}

/// Sends one packet, with at most one descriptor.
///
/// # Errors
/// What `sendmsg(2)` says. A closed peer is `EPIPE`, never a signal.
pub fn send(socket: impl AsFd, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let numbers: Vec<RawFd> = descriptor.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&numbers)];
    let control = if numbers.is_empty() { &rights[..0] } else { &rights[..] };
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Accepts one connection; it is close-on-exec and does not block.
///
/// # Errors
/// What `accept4(2)` says; `WouldBlock` when nobody waits.
pub fn accept(listener: impl AsFd) -> io::Result<OwnedFd> {
    let number = accept4(listener.as_fd().as_raw_fd(), SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
    Ok(own(number))
}

/// Takes charge of a descriptor the kernel has just made for us.
fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the number comes from `recvmsg` or `accept4` above, which opened it for this process; nobody else here
    // knows it, so nobody else closes it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockType, socketpair};
    use std::io::{Read, Seek, Write};

    #[test]
    fn a_descriptor_arrives_and_is_the_same_file() {
        let (left, right) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let path = std::env::temp_dir().join(format!("packet-test-{}", std::process::id()));
        let mut file = std::fs::File::options().create_new(true).read(true).write(true).open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        file.write_all(b"kept").unwrap();
        send(&left, b"take this", Some(file.as_fd())).unwrap();
        let mut buffer = [0; 64];
        let received = receive(&right, &mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], b"take this");
        let mut twin = std::fs::File::from(received.descriptors.into_iter().next().unwrap());
        let mut text = String::new();
        twin.rewind().unwrap();
        twin.read_to_string(&mut text).unwrap();
        assert_eq!(text, "kept");
    }

    #[test]
    fn a_packet_that_does_not_fit_is_told_from_one_that_does() {
        let (left, right) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        send(&left, b"0123456789", None).unwrap();
        send(&left, b"0123", None).unwrap();
        let mut buffer = [0; 4];
        assert!(receive(&right, &mut buffer).unwrap().truncated);
        assert!(!receive(&right, &mut buffer).unwrap().truncated);
        drop(left);
        assert_eq!(receive(&right, &mut buffer).unwrap().len, 0);
    }
}
