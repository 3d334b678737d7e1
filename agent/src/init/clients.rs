//! Who is connected to `init`, and what waits to be sent to them.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};

use agent_core::handover::{Hello, InitCall, InitMessage, InitReply, MAX_PACKET, VERSION, Welcome};

use super::exits::Exits;
use crate::seqpacket::{Connection, Listener, SeqpacketError, encode};

/// Connections at a time; one more is refused with the reason.
const MAX_CLIENTS: usize = 32;
/// Replies waiting for one client. One that asks more without reading is disconnected and may come again.
const MAX_REPLIES: usize = 128;
/// A connection that does not say who it is for so long is closed.
const HELLO_MS: u64 = 10_000;
/// Packets taken from one client before others have their turn.
const PACKETS_PER_TURN: usize = 16;

/// The connected clients, by a number that is never used again.
#[derive(Debug)]
pub(crate) struct Clients {
    listener: Listener,
    connected: BTreeMap<u64, Client>,
    next_id: u64,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Client {
    connection: Connection,
    since_ms: u64,
    greeted: bool,
    /// The next exit to send, when it watches. Exits are not queued for a slow client: they are kept anyway.
    watches_from: Option<u64>,
    replies: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

/// A call that has arrived.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) client: u64,
    pub(crate) pid: i32,
    pub(crate) call: InitCall,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Clients {
    pub(crate) fn new(listener: Listener) -> Clients {
        Clients { listener, connected: BTreeMap::new(), next_id: 0, buffer: vec![0; MAX_PACKET] }
    }

    pub(crate) fn listener(&self) -> &Listener {
        &self.listener
    }

    /// Each client, and whether there is something to send to it.
    pub(crate) fn sockets(&self, exits: &Exits) -> impl Iterator<Item = (u64, &impl AsFd, bool)> {
        self.connected.iter().map(|(id, client)| (*id, &client.connection, client.has_something(exits)))
    }

    /// When the first silent connection is closed.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.connected.values().filter(|client| !client.greeted).map(|client| client.since_ms + HELLO_MS).min()
    }

    /// Closes connections that never said who they are.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        self.connected.retain(|_, client| client.greeted || now_ms < client.since_ms + HELLO_MS);
    }

    /// Accepts whoever waits.
    pub(crate) fn accept(&mut self, now_ms: u64) {
        loop {
            let connection = match self.listener.accept() {
                Ok(connection) => connection,
                Err(SeqpacketError::NotRoot(_)) => continue,
                Err(_) => return,
            };
            if self.connected.len() >= MAX_CLIENTS {
                let reason = format!("{MAX_CLIENTS} clients are connected, no more are accepted");
                // It is closed either way; the reason is a courtesy.
                let _ = connection.send(&Welcome::Refused { reason });
                continue;
            }
            self.next_id += 1;
            let client =
                Client { connection, since_ms: now_ms, greeted: false, watches_from: None, replies: VecDeque::new() };
            self.connected.insert(self.next_id, client);
        }
    }

    /// Reads what a client has sent. One that breaks the rules is disconnected.
    pub(crate) fn read(&mut self, id: u64) -> Vec<Arrived> {
        let mut calls = Vec::new();
        for _ in 0..PACKETS_PER_TURN {
            let Some(client) = self.connected.get_mut(&id) else {
                break;
            };
            match client.read(&mut self.buffer) {
                Ok(Read::Call(call, descriptors)) => {
                    let pid = client.connection.peer_pid();
                    calls.push(Arrived { client: id, pid, call, descriptors });
                }
                Ok(Read::Greeting) => {}
                Ok(Read::End) => drop(self.connected.remove(&id)),
                Err(error) if error.would_block() => break,
                Err(_) => drop(self.connected.remove(&id)),
            }
        }
        calls
    }

    /// Answers a call. A client that is gone misses its answer.
    pub(crate) fn reply(&mut self, to: &Arrived, reply: InitReply, descriptor: Option<OwnedFd>) {
        let Some(client) = self.connected.get_mut(&to.client) else {
            return;
        };
        let id = to.call.id;
        let packet = encode(&InitMessage::Reply { id, reply }).or_else(|error| {
            encode(&InitMessage::Reply { id, reply: InitReply::Failed { reason: error.to_string() } })
        });
        match packet {
            Ok(packet) if client.replies.len() < MAX_REPLIES => client.replies.push_back((packet, descriptor)),
            Ok(_) | Err(_) => drop(self.connected.remove(&to.client)),
        }
    }

    /// From now on the client gets every exit, beginning with all that are kept.
    pub(crate) fn watch(&mut self, id: u64) {
        if let Some(client) = self.connected.get_mut(&id) {
            client.watches_from = Some(0);
        }
    }

    /// Sends what the sockets take. A client whose socket fails is disconnected.
    pub(crate) fn flush(&mut self, exits: &Exits) {
        self.connected.retain(|_, client| match client.flush(exits) {
            Ok(()) => true,
            Err(error) => error.would_block(),
        });
    }
}

enum Read {
    Greeting,
    Call(InitCall, Vec<OwnedFd>),
    End,
}

impl Client {
    fn read(&mut self, buffer: &mut [u8]) -> Result<Read, SeqpacketError> {
        if self.greeted {
            let received = self.connection.receive::<InitCall>(buffer)?;
            return Ok(received.map_or(Read::End, |(call, descriptors)| Read::Call(call, descriptors)));
        }
        let Some((hello, _)) = self.connection.receive::<Hello>(buffer)? else {
            return Ok(Read::End);
        };
        let welcome = welcome(&hello);
        let refused = matches!(welcome, Welcome::Refused { .. });
        self.connection.send(&welcome)?;
        self.greeted = true;
        Ok(if refused { Read::End } else { Read::Greeting })
    }

    fn has_something(&self, exits: &Exits) -> bool {
        !self.replies.is_empty() || self.watches_from.is_some_and(|from| exits.at_or_after(from).is_some())
    }

    fn flush(&mut self, exits: &Exits) -> Result<(), SeqpacketError> {
        while let Some((packet, descriptor)) = self.replies.front() {
            self.connection.send_packet(packet, descriptor.as_ref().map(AsFd::as_fd))?;
            self.replies.pop_front();
        }
        while let Some(exit) = self.watches_from.and_then(|from| exits.at_or_after(from)) {
            self.connection.send(&InitMessage::Exited(exit))?;
            self.watches_from = Some(exit.sequence + 1);
        }
        Ok(())
    }
}

/// What a greeting is answered with.
pub(crate) fn welcome(hello: &Hello) -> Welcome {
    if hello.version == VERSION {
        return Welcome::Ready { version: VERSION };
    }
    let reason = format!("`{}` speaks version {}, this process speaks {VERSION}", hello.client, hello.version);
    Welcome::Refused { reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_core::handover::{Exit, ExitStatus, InitRequest};

    struct Rig {
        clients: Clients,
        exits: Exits,
        peer: Connection,
        _dir: tempfile::TempDir,
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("init.sock");
        let mut clients = Clients::new(Listener::bind(&path).unwrap());
        let peer = Connection::connect(&path).unwrap();
        clients.accept(0);
        Rig { clients, exits: Exits::default(), peer, _dir: dir }
    }

    fn greet(rig: &mut Rig, version: u32) -> Welcome {
        rig.peer.send(&Hello { version, client: "test".to_owned() }).unwrap();
        assert_eq!(rig.clients.read(1).len(), 0);
        receive(&rig.peer)
    }

    fn receive<M: serde::de::DeserializeOwned>(peer: &Connection) -> M {
        peer.receive::<M>(&mut vec![0; MAX_PACKET]).unwrap().unwrap().0
    }

    #[test]
    fn a_version_nobody_knows_is_refused_by_name() {
        let mut rig = rig();
        let Welcome::Refused { reason } = greet(&mut rig, 99) else { panic!("version 99 is welcome") };
        assert!(reason.contains("version 99"), "{reason}");
        assert_eq!(rig.clients.connected.len(), 0);
    }

    #[test]
    fn a_silent_connection_is_closed() {
        let mut rig = rig();
        assert_eq!(rig.clients.due_ms(), Some(HELLO_MS));
        rig.clients.expire(HELLO_MS);
        assert_eq!(rig.clients.connected.len(), 0);
    }

    #[test]
    fn exits_are_told_again_to_every_watcher_until_acknowledged() {
        let mut rig = rig();
        greet(&mut rig, VERSION);
        let exit = rig.exits.record(5, ExitStatus::Code(3), 0);
        for _ in 0..2 {
            rig.clients.watch(1);
            rig.clients.flush(&rig.exits);
            assert_eq!(receive::<InitMessage>(&rig.peer), InitMessage::Exited(exit));
        }
        let next = rig.exits.record(6, ExitStatus::Signal(9), 0);
        rig.clients.flush(&rig.exits);
        assert_eq!(receive::<InitMessage>(&rig.peer), InitMessage::Exited(next));
        assert!(rig.clients.sockets(&rig.exits).all(|(_, _, waiting)| !waiting));
    }

    #[test]
    fn a_watcher_that_does_not_read_costs_nothing_and_gets_all_in_the_end() {
        let mut rig = rig();
        greet(&mut rig, VERSION);
        let all: Vec<Exit> = (1..5000).map(|pid| rig.exits.record(pid, ExitStatus::Code(0), 0)).collect();
        rig.clients.watch(1);
        let mut seen = Vec::new();
        while seen.len() < all.len() {
            rig.clients.flush(&rig.exits);
            let InitMessage::Exited(exit) = receive(&rig.peer) else { panic!("only exits are sent") };
            seen.push(exit);
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn one_who_asks_and_never_reads_is_disconnected() {
        let mut rig = rig();
        greet(&mut rig, VERSION);
        for id in 0..10_000 {
            let Ok(()) = rig.peer.send(&InitCall { id, request: InitRequest::ListDescriptors }) else { break };
            for call in rig.clients.read(1) {
                rig.clients.reply(&call, InitReply::Descriptors(vec!["x".repeat(200); 100]), None);
            }
            rig.clients.flush(&rig.exits);
            if rig.clients.connected.is_empty() {
                return;
            }
        }
        panic!("still connected");
    }
}
