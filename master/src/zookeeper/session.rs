//! One client: its requests in order, and a word when what it watches changes.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::tree::Tree;
use super::wire::{Framing, Input, Reply};
use crate::random;

/// What a client may ask for as the time within which it says something.
const SHORTEST_SESSION: Duration = Duration::from_secs(4);
const LONGEST_SESSION: Duration = Duration::from_secs(40);
/// To the first request.
const GREETING: Duration = Duration::from_secs(10);
/// Paths one client watches. More: it is sent away.
const WATCHES: usize = 256;

const NO_NODE: i32 = -101;
const READ_ONLY: i32 = -119;
const UNIMPLEMENTED: i32 = -6;

/// Requests by their numbers.
mod op {
    pub(super) const EXISTS: i32 = 3;
    pub(super) const GET_DATA: i32 = 4;
    pub(super) const GET_CHILDREN: i32 = 8;
    pub(super) const SYNC: i32 = 9;
    pub(super) const PING: i32 = 11;
    pub(super) const GET_CHILDREN2: i32 = 12;
    pub(super) const AUTH: i32 = 100;
    pub(super) const SET_WATCHES: i32 = 101;
    pub(super) const CLOSE: i32 = -11;
    /// create, delete, setData, setACL, check, multi, create2 and the like.
    pub(super) const WRITES: [i32; 10] = [1, 2, 5, 7, 13, 14, 15, 16, 19, 21];
}

/// Events by their numbers.
mod event {
    pub(super) const CREATED: i32 = 1;
    pub(super) const DELETED: i32 = 2;
    pub(super) const CHANGED: i32 = 3;
    pub(super) const CHILDREN: i32 = 4;
}

/// What a client wants to hear of, each once.
#[derive(Debug, Default)]
struct Watches {
    /// Its data, its beginning or its end.
    nodes: BTreeSet<String>,
    /// Its children, or its end.
    children: BTreeSet<String>,
}

struct Session {
    tree: Arc<Tree>,
    watches: Watches,
}

/// Serves one client until it leaves, or says nothing for too long.
pub(super) async fn run(mut stream: TcpStream, mut trees: watch::Receiver<Arc<Tree>>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut framing = Framing::default();
    let greeting = tokio::time::timeout(GREETING, next(&mut stream, &mut framing)).await;
    let Some(mut hello) = greeting.map_err(io::Error::other)?? else { return Ok(()) };
    let (answer, patience) = greet(&mut hello)?;
    stream.write_all(&answer).await?;
    let mut session = Session { tree: trees.borrow_and_update().clone(), watches: Watches::default() };
    let mut silent = Instant::now() + patience;
    loop {
        tokio::select! {
            request = next(&mut stream, &mut framing) => {
                let Some(mut request) = request? else { return Ok(()) };
                silent = Instant::now() + patience;
                let (answer, goes_on) = session.answer(&mut request)?;
                stream.write_all(&answer).await?;
                if !goes_on {
                    return stream.shutdown().await;
                }
            }
            changed = trees.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                let now = trees.borrow_and_update().clone();
                let events = session.change(now);
                stream.write_all(&events).await?;
            }
            () = tokio::time::sleep_until(silent) => return Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

/// The next request. Nothing is lost when it is not waited for any more.
async fn next(stream: &mut TcpStream, framing: &mut Framing) -> io::Result<Option<Input>> {
    loop {
        if let Some(request) = framing.next()? {
            return Ok(Some(request));
        }
        if stream.read_buf(framing.buffer()).await? == 0 {
            return Ok(None);
        }
    }
}

fn greet(hello: &mut Input) -> io::Result<(Vec<u8>, Duration)> {
    let (version, _seen, wanted, known) = (hello.int()?, hello.long()?, hello.int()?, hello.long()?);
    let _password = hello.buffer()?;
    let knows_read_only = !hello.is_empty();
    let wanted = Duration::from_millis(u64::try_from(wanted).unwrap_or(0)).clamp(SHORTEST_SESSION, LONGEST_SESSION);
    // Nothing lives with a session here: whoever comes back may keep its number.
    let id = if known == 0 { i64::from_be_bytes(random::bytes()?) & i64::MAX | 1 } else { known };
    let millis = i32::try_from(wanted.as_millis()).unwrap_or(i32::MAX);
    let reply = Reply::new().int(version).int(millis).long(id).buffer(&random::bytes::<16>()?);
    let reply = if knows_read_only { reply.no() } else { reply };
    Ok((reply.bytes(), wanted))
}

impl Session {
    fn answer(&mut self, request: &mut Input) -> io::Result<(Vec<u8>, bool)> {
        let (xid, kind, zxid) = (request.int()?, request.int()?, self.tree.zxid);
        let done = || Reply::to(xid, zxid, 0);
        let answer = match kind {
            op::PING | op::AUTH => done(),
            op::CLOSE => return Ok((done().bytes(), false)),
            op::SYNC => done().buffer(request.text()?.as_bytes()),
            op::EXISTS | op::GET_DATA | op::GET_CHILDREN | op::GET_CHILDREN2 => {
                let (path, watch) = (request.text()?, request.flag()?);
                let node = self.tree.node(&path);
                if watch && (node.is_some() || kind == op::EXISTS) {
                    let of_children = [op::GET_CHILDREN, op::GET_CHILDREN2].contains(&kind);
                    self.room_to_watch()?;
                    let watched = if of_children { &mut self.watches.children } else { &mut self.watches.nodes };
                    watched.insert(path);
                }
                match node {
                    None => Reply::to(xid, zxid, NO_NODE),
                    Some(node) => {
                        let reply = match kind {
                            op::EXISTS => done(),
                            op::GET_DATA => done().buffer(&node.data),
                            _ => {
                                let count = i32::try_from(node.children.len()).unwrap_or(i32::MAX);
                                let names = node.children.iter();
                                names.fold(done().int(count), |reply, name| reply.buffer(name.as_bytes()))
                            }
                        };
                        if kind == op::GET_CHILDREN { reply } else { node.write_stat(reply, zxid) }
                    }
                }
            }
            op::SET_WATCHES => {
                let _seen = request.long()?;
                let (data, exist, children) = (request.texts()?, request.texts()?, request.texts()?);
                let mut bytes = done().bytes();
                // What they saw on another master we cannot know: told of a change they look again.
                for path in exist {
                    self.room_to_watch()?;
                    self.watches.nodes.insert(path);
                }
                for path in data {
                    let gone = self.tree.node(&path).is_none();
                    bytes.extend(told(if gone { event::DELETED } else { event::CHANGED }, &path));
                }
                for path in children {
                    let gone = self.tree.node(&path).is_none();
                    bytes.extend(told(if gone { event::DELETED } else { event::CHILDREN }, &path));
                }
                return Ok((bytes, true));
            }
            write if op::WRITES.contains(&write) => Reply::to(xid, zxid, READ_ONLY),
            _ => Reply::to(xid, zxid, UNIMPLEMENTED),
        };
        Ok((answer.bytes(), true))
    }

    /// Is there room for one more?
    fn room_to_watch(&self) -> io::Result<()> {
        if self.watches.nodes.len() + self.watches.children.len() >= WATCHES {
            return Err(io::Error::other("a client watches too much"));
        }
        Ok(())
    }

    /// Another tree; what is to be told.
    fn change(&mut self, now: Arc<Tree>) -> Vec<u8> {
        let before = std::mem::replace(&mut self.tree, now.clone());
        let mut events = Vec::new();
        self.watches.nodes.retain(|path| {
            let kind = match (before.node(path), now.node(path)) {
                (None, Some(_)) => event::CREATED,
                (Some(_), None) => event::DELETED,
                (Some(before), Some(now)) if before.data != now.data => event::CHANGED,
                (Some(_), Some(_)) | (None, None) => return true,
            };
            events.extend(told(kind, path));
            false
        });
        self.watches.children.retain(|path| {
            let kind = match (before.node(path), now.node(path)) {
                (Some(_), None) => event::DELETED,
                (Some(before), Some(now)) if before.children != now.children => event::CHILDREN,
                (Some(_), Some(_)) | (None, _) => return true,
            };
            events.extend(told(kind, path));
            false
        });
        events
    }
}

/// An event, to a client that is connected.
fn told(kind: i32, path: &str) -> Vec<u8> {
    const CONNECTED: i32 = 3;
    Reply::to(-1, -1, 0).int(kind).int(CONNECTED).buffer(path.as_bytes()).bytes()
}
