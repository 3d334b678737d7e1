//! JSON messages on `SOCK_SEQPACKET` Unix sockets, as `init` and `launcher` speak them.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use agent_core::handover::MAX_PACKET;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, UnixCredentials, bind, connect, getsockopt, listen, socket,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a socket or a message on it failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeqpacketError {
    #[error("cannot listen on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot connect to {}", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("cannot accept a connection")]
    Accept(#[source] io::Error),
    #[error("the peer has user id {0}, only root may connect")]
    NotRoot(u32),
    #[error("cannot send a message")]
    Send(#[source] io::Error),
    #[error("cannot receive a message")]
    Receive(#[source] io::Error),
    #[error("the peer sent more than {MAX_PACKET} bytes or too many descriptors in one packet")]
    TooLarge,
    #[error("the peer sent something that is not the expected message")]
    Unreadable(#[source] serde_json::Error),
    #[error("the message takes {0} bytes, at most {MAX_PACKET} fit a packet")]
    DoesNotFit(usize),
}

impl SeqpacketError {
    /// Nothing wrong: there is nothing to do now.
    pub(crate) fn would_block(&self) -> bool {
        match self {
            Self::Accept(error) | Self::Send(error) | Self::Receive(error) => error.kind() == io::ErrorKind::WouldBlock,
            Self::Listen { .. }
            | Self::Connect { .. }
            | Self::NotRoot(_)
            | Self::TooLarge
            | Self::Unreadable(_)
            | Self::DoesNotFit(_) => false,
        }
    }
}

/// A listening socket that accepts only peers with our own user id or root's.
#[derive(Debug)]
pub(crate) struct Listener(OwnedFd);

impl Listener {
    /// Listens on a path, replacing what an earlier process left there.
    pub(crate) fn bind(path: &Path) -> Result<Listener, SeqpacketError> {
        let failed = |source: io::Error| SeqpacketError::Listen { path: path.to_owned(), source };
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        let fd = new_socket(SockFlag::SOCK_NONBLOCK).map_err(failed)?;
        let address = UnixAddr::new(path).map_err(|errno| failed(errno.into()))?;
        bind(fd.as_raw_fd(), &address).map_err(|errno| failed(errno.into()))?;
        let backlog = Backlog::new(16).expect("16 is a valid backlog");
        listen(&fd, backlog).map_err(|errno| failed(errno.into()))?;
        Ok(Listener(fd))
    }

    /// The next waiting peer.
    pub(crate) fn accept(&self) -> Result<Connection, SeqpacketError> {
        let fd = agent_sys::packet::accept(&self.0).map_err(SeqpacketError::Accept)?;
        let peer = getsockopt(&fd, PeerCredentials).map_err(|errno| SeqpacketError::Accept(errno.into()))?;
        let own = nix::unistd::geteuid().as_raw();
        if peer.uid() != 0 && peer.uid() != own {
            return Err(SeqpacketError::NotRoot(peer.uid()));
        }
        Ok(Connection { fd, peer })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A connected socket.
#[derive(Debug)]
pub(crate) struct Connection {
    fd: OwnedFd,
    peer: UnixCredentials,
}

impl Connection {
    /// Connects to a listener; sends and receives then wait.
    pub(crate) fn connect(path: &Path) -> Result<Connection, SeqpacketError> {
        let failed = |source: io::Error| SeqpacketError::Connect { path: path.to_owned(), source };
        let fd = new_socket(SockFlag::empty()).map_err(failed)?;
        let address = UnixAddr::new(path).map_err(|errno| failed(errno.into()))?;
        connect(fd.as_raw_fd(), &address).map_err(|errno| failed(errno.into()))?;
        let peer = getsockopt(&fd, PeerCredentials).map_err(|errno| failed(errno.into()))?;
        Ok(Connection { fd, peer })
    }

    /// The process at the other end when it connected.
    pub(crate) fn peer_pid(&self) -> i32 {
        self.peer.pid()
    }

    /// Sends a message in one packet.
    pub(crate) fn send(&self, message: &impl Serialize) -> Result<(), SeqpacketError> {
        self.send_packet(&encode(message)?, None)
    }

    /// Sends what [`encode`] made, perhaps with a descriptor.
    pub(crate) fn send_packet(&self, packet: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), SeqpacketError> {
        agent_sys::packet::send(&self.fd, packet, descriptor).map_err(SeqpacketError::Send)
    }

    /// Receives a message and what rode along; `None` when the peer has closed.
    pub(crate) fn receive<M: DeserializeOwned>(
        &self,
        buffer: &mut [u8],
    ) -> Result<Option<(M, Vec<OwnedFd>)>, SeqpacketError> {
        let received = agent_sys::packet::receive(&self.fd, buffer).map_err(SeqpacketError::Receive)?;
        if received.truncated {
            return Err(SeqpacketError::TooLarge);
        }
        if received.len == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(&buffer[..received.len]).map_err(SeqpacketError::Unreadable)?;
        Ok(Some((message, received.descriptors)))
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A message as one packet.
pub(crate) fn encode(message: &impl Serialize) -> Result<Vec<u8>, SeqpacketError> {
    let packet = serde_json::to_vec(message).map_err(SeqpacketError::Unreadable)?;
    if packet.len() > MAX_PACKET {
        return Err(SeqpacketError::DoesNotFit(packet.len()));
    }
    Ok(packet)
}

fn new_socket(flags: SockFlag) -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC | flags, None)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::handover::{Hello, Welcome};

    #[test]
    fn messages_pass_and_the_end_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let listener = Listener::bind(&path).unwrap();
        assert!(listener.accept().unwrap_err().would_block());
        let client = Connection::connect(&path).unwrap();
        let server = listener.accept().unwrap();
        assert_eq!(server.peer_pid(), i32::try_from(std::process::id()).unwrap());
        let hello = Hello { version: 1, client: "test".to_owned() };
        client.send(&hello).unwrap();
        let mut buffer = vec![0; MAX_PACKET];
        let (got, fds) = server.receive::<Hello>(&mut buffer).unwrap().unwrap();
        assert_eq!((got, fds.len()), (hello, 0));
        client.send(&1).unwrap();
        assert!(matches!(server.receive::<Hello>(&mut buffer), Err(SeqpacketError::Unreadable(_))));
        drop(client);
        assert!(server.receive::<Welcome>(&mut buffer).unwrap().is_none());
    }

    #[test]
    fn a_message_that_fits_no_packet_is_refused_before_it_is_sent() {
        assert!(matches!(encode(&"x".repeat(MAX_PACKET)), Err(SeqpacketError::DoesNotFit(_))));
    }
}
