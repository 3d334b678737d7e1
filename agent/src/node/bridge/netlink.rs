//! Netlink messages as bytes, and a socket that sends them and waits for each to be acknowledged.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

const REQUEST: u16 = 1;
const ACK: u16 = 4;
const ERROR: u16 = 2;
/// Attributes that hold attributes.
const NESTED: u16 = 0x8000;
/// The kernel answers at once, or something is wrong.
const PATIENCE_SECS: i64 = 5;
/// Rules of a thousand containers are one message.
const SEND_BUFFER: usize = 8 << 20;

/// A message in the making: a header, a fixed part, attributes.
#[derive(Clone, Debug)]
pub(super) struct Message {
    kind: u16,
    flags: u16,
    body: Vec<u8>,
}

impl Message {
    /// `fixed` comes after the header.
    pub(super) fn new(kind: u16, flags: u16, fixed: &[u8]) -> Self {
        Self { kind, flags, body: fixed.to_vec() }
    }

    /// Adds attributes.
    #[must_use]
    pub(super) fn with(mut self, attributes: &[Attribute]) -> Self {
        for attribute in attributes {
            attribute.write(&mut self.body);
        }
        self
    }

    fn write(&self, sequence: u32, flags: u16, to: &mut Vec<u8>) {
        let length = u32::try_from(16 + self.body.len()).unwrap_or(u32::MAX);
        to.extend_from_slice(&length.to_ne_bytes());
        to.extend_from_slice(&self.kind.to_ne_bytes());
        to.extend_from_slice(&(self.flags | flags | REQUEST).to_ne_bytes());
        to.extend_from_slice(&sequence.to_ne_bytes());
        to.extend_from_slice(&0u32.to_ne_bytes());
        to.extend_from_slice(&self.body);
        to.resize(to.len().next_multiple_of(4), 0);
    }
}

/// A type and a value.
#[derive(Clone, Debug)]
pub(super) struct Attribute {
    kind: u16,
    value: Vec<u8>,
}

impl Attribute {
    pub(super) fn bytes(kind: u16, value: &[u8]) -> Self {
        Self { kind, value: value.to_vec() }
    }

    pub(super) fn text(kind: u16, text: &str) -> Self {
        Self { kind, value: text.bytes().chain([0]).collect() }
    }

    /// As nf_tables wants its numbers.
    pub(super) fn big(kind: u16, number: u32) -> Self {
        Self::bytes(kind, &number.to_be_bytes())
    }

    /// As rtnetlink wants them.
    pub(super) fn native(kind: u16, number: u32) -> Self {
        Self::bytes(kind, &number.to_ne_bytes())
    }

    pub(super) fn nested(kind: u16, attributes: &[Self]) -> Self {
        Self::nested_after(kind, &[], attributes)
    }

    /// Attributes after a fixed part.
    pub(super) fn nested_after(kind: u16, fixed: &[u8], attributes: &[Self]) -> Self {
        let mut value = fixed.to_vec();
        for attribute in attributes {
            attribute.write(&mut value);
        }
        Self { kind: kind | NESTED, value }
    }

    fn write(&self, to: &mut Vec<u8>) {
        let length = u16::try_from(4 + self.value.len()).unwrap_or(u16::MAX);
        to.extend_from_slice(&length.to_ne_bytes());
        to.extend_from_slice(&self.kind.to_ne_bytes());
        to.extend_from_slice(&self.value);
        to.resize(to.len().next_multiple_of(4), 0);
    }
}

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    pub(super) fn open(protocol: SockProtocol) -> io::Result<Self> {
        let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&fd, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE_SECS, 0))?;
        // Without the privilege the usual size has to do.
        let _ = setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER);
        Ok(Self(fd))
    }

    /// One message.
    pub(super) fn ask(&self, message: &Message) -> io::Result<()> {
        let mut bytes = Vec::new();
        message.write(1, ACK, &mut bytes);
        self.send(&bytes)?;
        self.acknowledged(&[1])
    }

    /// One message that may find its work done: `done` is the errno that says so.
    pub(super) fn ask_unless(&self, message: &Message, done: i32) -> io::Result<()> {
        match self.ask(message) {
            Err(error) if error.raw_os_error() == Some(done) => Ok(()),
            result => result,
        }
    }

    /// All or nothing: `begin` and `end` are around them and are not acknowledged.
    pub(super) fn transact(&self, begin: &Message, messages: &[Message], end: &Message) -> io::Result<()> {
        let mut bytes = Vec::new();
        begin.write(0, 0, &mut bytes);
        let mut sequences = Vec::new();
        for (message, sequence) in messages.iter().zip(1u32..) {
            message.write(sequence, ACK, &mut bytes);
            sequences.push(sequence);
        }
        end.write(u32::MAX, 0, &mut bytes);
        self.send(&bytes)?;
        self.acknowledged(&sequences)
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        sendto(self.0.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }

    /// Waits until each of these is acknowledged; the first error ends it.
    fn acknowledged(&self, sequences: &[u32]) -> io::Result<()> {
        let mut left = sequences.len();
        let mut buffer = vec![0; 64 << 10];
        while left > 0 {
            let count = recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
            for answer in answers(&buffer[..count]) {
                match answer {
                    0 => left = left.saturating_sub(1),
                    errno => return Err(io::Error::from_raw_os_error(errno)),
                }
            }
        }
        Ok(())
    }
}

/// The errnos of every acknowledgement in a datagram.
fn answers(mut bytes: &[u8]) -> Vec<i32> {
    let mut all = Vec::new();
    while let (Some(length), Some(kind)) = (number(bytes, 0), bytes.get(4..6)) {
        let length = usize::try_from(length).unwrap_or(0);
        if length < 16 || length > bytes.len() {
            break;
        }
        if kind == ERROR.to_ne_bytes()
            && let Some(code) = number(bytes, 16)
        {
            all.push(code.cast_signed().wrapping_neg());
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_padded_and_counted() {
        let nested = Attribute::nested(4, &[Attribute::text(1, "ab"), Attribute::big(2, 7)]);
        let mut bytes = Vec::new();
        nested.write(&mut bytes);
        // 4 + (4 + "ab\0" + padding) + (4 + 4)
        assert_eq!(bytes.len(), 20);
        assert_eq!(bytes[..4], [20, 0, 4, 0x80]);
        assert_eq!(bytes[4..12], [7, 0, 1, 0, b'a', b'b', 0, 0]);
        assert_eq!(bytes[12..], [8, 0, 2, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn an_answer_that_is_cut_short_is_none() {
        let mut bytes = Vec::new();
        Message::new(ERROR, 0, &(-17i32).to_ne_bytes()).write(1, 0, &mut bytes);
        assert_eq!(answers(&bytes), [17]);
        for end in 0..bytes.len() {
            assert!(answers(&bytes[..end]).is_empty());
        }
    }
}
