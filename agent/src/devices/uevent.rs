//! The kernel's messages about devices, from its netlink socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::{RcvBuf, RcvBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, setsockopt, socket,
};

/// The multicast group of the kernel itself; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;
/// Room for events while a driver initialises. Beyond it the kernel drops events and says so.
const RECEIVE_BUFFER_BYTES: usize = 2 * 1024 * 1024;
/// The kernel's own limit for one event.
pub(crate) const EVENT_BYTES: usize = 8 * 1024;

/// What an event means to us.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Uevent {
    /// A device that a driver may want.
    DeviceAdded { modalias: String },
    /// The kernel asks user space for a firmware file it has not found itself.
    FirmwareWanted { name: String, device_path: String },
    /// Anything else.
    Other,
}

/// Whether the machine may be another than before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Subject {
    /// Something an inventory shows came, went or changed.
    Hardware,
    /// Anything else.
    Other,
}

/// What an inventory is made of, by the kernel's name of the subsystem.
const HARDWARE: [&str; 13] =
    ["block", "cpu", "drm", "accel", "edac", "ipmi", "memory", "net", "node", "nvme", "pci", "tpm", "watchdog"];

#[derive(Debug, thiserror::Error)]
pub(crate) enum UeventError {
    #[error("cannot open the kernel's event socket")]
    Open(#[source] io::Error),
    #[error("cannot receive events")]
    Receive(#[source] io::Error),
    #[error("events were lost")]
    Overrun,
}

/// The socket.
#[derive(Debug)]
pub(crate) struct Uevents(OwnedFd);

impl Uevents {
    pub(crate) fn open() -> Result<Uevents, UeventError> {
        let failed = |errno: Errno| UeventError::Open(errno.into());
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkKObjectUEvent)
            .map_err(failed)?;
        // Without the privilege for more, what everybody may have.
        if setsockopt(&fd, RcvBufForce, &RECEIVE_BUFFER_BYTES).is_err() {
            setsockopt(&fd, RcvBuf, &RECEIVE_BUFFER_BYTES).map_err(failed)?;
        }
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP)).map_err(failed)?;
        Ok(Uevents(fd))
    }

    /// The socket alone, for who waits in another way; what it gives is for [`subject`].
    pub(crate) fn into_socket(self) -> OwnedFd {
        self.0
    }

    /// The next event; `None` when none waits.
    pub(crate) fn next(&mut self) -> Result<Option<Uevent>, UeventError> {
        let mut buffer = [0; EVENT_BYTES];
        loop {
            return match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(len) => Ok(Some(parse(&buffer[..len]))),
                Err(Errno::EAGAIN) => Ok(None),
                Err(Errno::EINTR) => continue,
                Err(Errno::ENOBUFS) => Err(UeventError::Overrun),
                Err(errno) => Err(UeventError::Receive(errno.into())),
            };
        }
    }
}

impl AsFd for Uevents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// One of the `KEY=value` strings, each ended by NUL, after `ACTION@DEVPATH`.
fn field(message: &[u8], key: &str) -> Option<String> {
    let mut values =
        message.split(|byte| *byte == 0).filter_map(|entry| entry.strip_prefix(key.as_bytes())?.strip_prefix(b"="));
    values.next().map(|value| String::from_utf8_lossy(value).into_owned())
}

/// What a message is about. A container's end of a virtual link and a loop device come and go by the hundred: they are below `/devices/virtual`.
pub(crate) fn subject(message: &[u8]) -> Subject {
    let known = field(message, "SUBSYSTEM").is_some_and(|subsystem| HARDWARE.contains(&subsystem.as_str()));
    let is_virtual = field(message, "DEVPATH").is_some_and(|path| path.starts_with("/devices/virtual/"));
    if known && !is_virtual { Subject::Hardware } else { Subject::Other }
}

/// Reads one message.
fn parse(message: &[u8]) -> Uevent {
    let field = |key: &str| field(message, key);
    if field("ACTION").as_deref() != Some("add") {
        return Uevent::Other;
    }
    if field("SUBSYSTEM").as_deref() == Some("firmware")
        && let (Some(name), Some(device_path)) = (field("FIRMWARE"), field("DEVPATH"))
    {
        return Uevent::FirmwareWanted { name, device_path };
    }
    match field("MODALIAS").filter(|alias| !alias.is_empty()) {
        Some(modalias) => Uevent::DeviceAdded { modalias },
        None => Uevent::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_is_told_from_what_software_makes() {
        let table: &[(&[u8], Subject)] = &[
            (b"add@/d\0ACTION=add\0DEVPATH=/devices/pci0/nvme0n1\0SUBSYSTEM=block\0DEVTYPE=disk\0", Subject::Hardware),
            (b"remove@/d\0ACTION=remove\0DEVPATH=/devices/pci0/0000:01:00.0\0SUBSYSTEM=pci\0", Subject::Hardware),
            (b"add@/d\0ACTION=add\0DEVPATH=/devices/virtual/net/veth1\0SUBSYSTEM=net\0", Subject::Other),
            (b"add@/d\0ACTION=add\0DEVPATH=/devices/virtual/block/loop0\0SUBSYSTEM=block\0", Subject::Other),
            (b"change@/d\0ACTION=change\0DEVPATH=/devices/x\0SUBSYSTEM=power_supply\0", Subject::Other),
            (b"", Subject::Other),
        ];
        for (message, expected) in table {
            assert_eq!(subject(message), *expected, "{}", String::from_utf8_lossy(message));
        }
    }

    #[test]
    fn the_kernels_events_are_read_as_documented() {
        let table: &[(&[u8], Uevent)] = &[
            (
                b"add@/devices/pci0/0000:00:03.0\0ACTION=add\0DEVPATH=/devices/pci0\0SUBSYSTEM=pci\0\
                    MODALIAS=pci:v00001AF4d00001000\0SEQNUM=12\0",
                Uevent::DeviceAdded { modalias: "pci:v00001AF4d00001000".to_owned() },
            ),
            (b"remove@/d\0ACTION=remove\0DEVPATH=/d\0MODALIAS=pci:v1\0", Uevent::Other),
            (
                b"add@/d/firmware/x\0ACTION=add\0DEVPATH=/d/firmware/x\0SUBSYSTEM=firmware\0FIRMWARE=tigon/tg3.bin\0",
                Uevent::FirmwareWanted { name: "tigon/tg3.bin".to_owned(), device_path: "/d/firmware/x".to_owned() },
            ),
            (b"add@/d\0ACTION=add\0MODALIAS=\0", Uevent::Other),
            (b"", Uevent::Other),
            (b"\xff\xfe\0\0=\0", Uevent::Other),
        ];
        for (message, expected) in table {
            assert_eq!(parse(message), *expected);
        }
    }
}
