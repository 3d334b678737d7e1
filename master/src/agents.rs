//! One gRPC stream per agent: words of the link to the driver, the driver's words to the link.

pub mod beside;
mod disk_keys;
mod inquiries;
mod reading;
mod standby;
mod telling;
mod unclaimed;
mod word;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::link::from_agent::Message as FromAgent;
use api::link::from_master::Message as FromMaster;
use api::link::link_server::Link;
use api::link::{self, read_file};
use api::node_api::{Method, NodeRole};
use api::{MasterId, NodeName};
use bytes::Bytes;
use futures_util::Stream;
use master_core::{AgentMessage, SessionId, ToAgent};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tonic::{Request, Response, Status, Streaming};

use crate::authority::Authority;
use crate::ca::{self, Holder, Role};
use crate::claims::Admission;
use crate::clock;
use crate::crashes::Crashes;
use crate::driver::{Handle, Message, Opening};
use crate::http::auth::Guard;
use crate::raft::{Links, Replica};
use crate::secrets::Secrets;
use reading::{read_change, read_registration, read_return, read_update};
use standby::Standby;
pub use standby::Standbys;
use telling::Reports;
pub use unclaimed::Gate;
use unclaimed::{Next, Wait};

/// Words waiting to go to one agent. Full: the connection is closed; the agent comes back and the
/// master compares what it knows with what the agent does.
const COMMANDS_CAPACITY: usize = 1024;
/// From connecting to the registration.
pub(crate) const REGISTER_DEADLINE: Duration = Duration::from_secs(10);
/// Files read from one agent at once. Full: the reader is told to come back.
const READS_PER_AGENT: usize = 64;
/// Chunks waiting for one reader. Full: the agent is told to stop, and the reader goes on from there later.
pub const CHUNKS_CAPACITY: usize = 16;
/// No agent of ours sends a longer piece of a file. With the capacity above: what a reader may cost.
const LONGEST_CHUNK: usize = 256 << 10;

/// Questions of the node API that wait for one agent. Full: who asks is told to come back.
const CALLS_PER_AGENT: usize = 16;
/// An answer is a list of processes, at most.
const LONGEST_REPLY: usize = 4 << 20;

/// How to talk to a connected agent.
#[derive(Clone, Debug)]
pub struct SessionHandle {
    /// Which connection.
    pub id: SessionId,
    /// Whose.
    pub node: NodeName,
    /// What it is to do.
    pub commands: mpsc::Sender<SessionCommand>,
}

/// What the task that owns a connection is told.
#[derive(Debug)]
pub enum SessionCommand {
    /// Send this.
    Send {
        /// What.
        message: Box<ToAgent>,
        /// Who says it; only a new agent has to know.
        master: Option<MasterId>,
        /// In which term it leads.
        term: u64,
    },
    /// Ask for a file, and pass on what comes.
    // Boxed, for the queue of every agent has room for some of these from the beginning.
    Read(Box<Read>),
    /// The reader is gone.
    CancelRead(u64),
    /// Ask the node API.
    // Boxed like the above.
    Call(Box<Call>),
    /// Run a program beside a task.
    OpenExec(Box<beside::Exec>),
    /// A word for such a program.
    ExecInput(link::ExecInput),
    /// Look into a directory.
    List(Box<beside::List>),
    /// End the connection after what was sent before.
    Close,
}

/// A file somebody reads.
#[derive(Debug)]
pub struct Read {
    /// Chosen by [`next_read`].
    pub request: u64,
    /// Which file.
    pub source: read_file::Source,
    /// From where.
    pub offset: u64,
    /// Go on with what is appended.
    pub follow: bool,
    /// Where to.
    pub chunks: mpsc::Sender<Chunk>,
}

/// A question of the node API.
#[derive(Debug)]
pub struct Call {
    /// Chosen by [`next_read`].
    pub request: u64,
    /// What.
    pub method: Method,
    /// As what the one who asks may ask.
    pub role: NodeRole,
    /// Who asks.
    pub principal: String,
    /// Where to: JSON, or why there is none.
    pub reply: oneshot::Sender<Result<Bytes, String>>,
}

/// A piece of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Chunk {
    /// What follows begins here: what is before it is gone.
    From(u64),
    /// Bytes; none when the agent only says that the file is open.
    Data(Bytes),
    /// That was all.
    End,
    /// It cannot be read, or not any further.
    Failed(String),
}

/// A number for a new read.
#[must_use]
pub fn next_read() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The `Link` service.
pub struct LinkService {
    driver: Handle,
    /// Knows where the other masters are.
    replica: Replica,
    standbys: Standbys,
    beside: Beside,
    next_session: Arc<AtomicU64>,
    /// What agents are told: without a ping for this long they connect anew.
    ping_timeout: Duration,
}

impl LinkService {
    /// Serves on behalf of the driver.
    #[must_use]
    pub fn new(driver: Handle, replica: Replica, standbys: Standbys, beside: Beside, ping_timeout: Duration) -> Self {
        Self { driver, replica, standbys, beside, next_session: Arc::new(AtomicU64::new(1)), ping_timeout }
    }
}

/// What sessions need beside the driver.
#[derive(Clone)]
pub struct Beside {
    /// Which machines are ours.
    pub gate: Gate,
    /// What nodes found of boots that ended badly.
    pub crashes: Arc<Crashes>,
    /// Who vouches for us.
    pub authority: Arc<Authority>,
    /// Knows who may do what, for those who speak to a node itself.
    pub guard: Arc<Guard>,
    /// What tasks name instead of giving it.
    pub secrets: Arc<Secrets>,
}

/// The node a connection belongs to, by its certificate.
///
/// # Errors
/// There is none, or it is not a node's.
// tonic's own type; it is built once per refused connection.
#[allow(clippy::result_large_err)]
pub fn node_of<T>(request: &Request<T>) -> Result<NodeName, Status> {
    let certificates = request.peer_certs().filter(|certificates| !certificates.is_empty());
    let Some(certificates) = certificates else {
        return Err(Status::unauthenticated("a certificate of this cluster is required: join first"));
    };
    match ca::subject(&certificates[0]) {
        Some((Role::Node, name)) => Ok(NodeName::from(name)),
        Some((role, name)) => {
            Err(Status::permission_denied(format!("the certificate of '{name}' is not a node's but a {role:?}'s")))
        }
        None => Err(Status::permission_denied("the certificate does not name a node")),
    }
}

#[tonic::async_trait]
impl Link for LinkService {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<link::FromMaster, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<link::FromAgent>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let remote = request.remote_addr();
        let node = node_of(&request).inspect_err(|status| {
            tracing::warn!(?remote, reason = status.message(), "session refused");
        })?;
        let certificates = request.peer_certs();
        let holder = certificates.as_ref().and_then(|chain| chain.first()).and_then(|leaf| ca::holder(leaf));
        if let Some(leaf) = certificates.as_ref().and_then(|chain| chain.first()) {
            self.beside.authority.noted(node.as_str(), leaf);
        }
        let (commands, queue) = mpsc::channel(COMMANDS_CAPACITY);
        let session = Session {
            id: SessionId(self.next_session.fetch_add(1, Ordering::Relaxed)),
            node,
            driver: self.driver.clone(),
            replica: self.replica.clone(),
            links: {
                let mut links = self.replica.links();
                // Where they are now is news to the agent.
                links.mark_changed();
                links
            },
            registered: false,
            register_by: None,
            standbys: self.standbys.clone(),
            gate: self.beside.gate.clone(),
            crashes: self.beside.crashes.clone(),
            authority: self.beside.authority.clone(),
            authorities: {
                let mut changes = self.beside.authority.changes();
                // Which there are is news to the agent.
                changes.mark_changed();
                changes
            },
            reports: Reports::default(),
            holder,
            stage: Stage::New(commands),
            inbound: request.into_inner(),
            queue,
            reads: BTreeMap::new(),
            calls: BTreeMap::new(),
            beside: beside::Beside::default(),
            ping_timeout: self.ping_timeout,
            guard: self.beside.guard.clone(),
            secrets: self.beside.secrets.clone(),
        };
        let words = futures_util::stream::unfold(session, |mut session| async move {
            let message = Some(session.next().await?);
            Some((Ok(link::FromMaster { message }), session))
        });
        Ok(Response::new(Box::pin(words)))
    }
}

/// One connection. It has no task of its own: it goes on whenever the connection can take another word, so an agent
/// that does not read is not listened to either, and is soon found silent.
struct Session {
    id: SessionId,
    node: NodeName,
    driver: Handle,
    replica: Replica,
    /// Where all masters are.
    links: watch::Receiver<Arc<Links>>,
    /// The agent was told that it is: the first word is about that.
    registered: bool,
    /// It was told to, after it could not return: until then.
    register_by: Option<Instant>,
    standbys: Standbys,
    gate: Gate,
    crashes: Arc<Crashes>,
    authority: Arc<Authority>,
    authorities: watch::Receiver<u64>,
    reports: Reports,
    /// Whose certificate it is.
    holder: Option<Holder>,
    stage: Stage,
    inbound: Streaming<link::FromAgent>,
    queue: mpsc::Receiver<SessionCommand>,
    reads: BTreeMap<u64, mpsc::Sender<Chunk>>,
    calls: BTreeMap<u64, oneshot::Sender<Result<Bytes, String>>>,
    beside: beside::Beside,
    ping_timeout: Duration,
    guard: Arc<Guard>,
    secrets: Arc<Secrets>,
}

/// How far a session is.
enum Stage {
    /// Nothing was said. Holds the driver's end of the queue.
    New(mpsc::Sender<SessionCommand>),
    /// It waits until we lead.
    Standby(mpsc::Sender<SessionCommand>, Standby),
    /// Nobody has claimed the machine.
    Unclaimed(mpsc::Sender<SessionCommand>, Box<Wait>),
    /// The driver knows it.
    Open,
    /// Nothing follows.
    Over,
}

/// How a session begins.
enum First {
    /// With an agent.
    Opening(Opening),
    /// With one that waits until we lead.
    Standby,
}

/// The connection is to end.
struct Ended;

impl Drop for Session {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Open) {
            self.driver.tell(Message::SessionClosed(self.id));
        }
    }
}

impl Session {
    /// The next word for the agent; none when the connection is to end.
    async fn next(&mut self) -> Option<FromMaster> {
        loop {
            match std::mem::replace(&mut self.stage, Stage::Over) {
                Stage::New(commands) => match self.first_word().await {
                    Ok(First::Opening(opening)) => {
                        if let Some(word) = self.come_in(commands, opening).await? {
                            return Some(word);
                        }
                    }
                    Ok(First::Standby) => match self.standbys.admit(&self.node, self.holder.clone()) {
                        Ok(standby) => self.stage = Stage::Standby(commands, standby),
                        Err(reason) => return Some(self.refused(reason)),
                    },
                    Err(reason) => return Some(self.refused(reason)),
                },
                Stage::Standby(commands, mut standby) => {
                    let word = tokio::select! {
                        word = self.inbound.message() => word.ok()??.message,
                        leading = standby.news() => {
                            let leading = leading?;
                            self.stage = Stage::Standby(commands, standby);
                            return Some(FromMaster::Leading(leading));
                        }
                    };
                    // What was on its way to the leader of before says nothing here.
                    let begins = |word: &FromAgent| matches!(word, FromAgent::Register(_) | FromAgent::Back(_));
                    match word.filter(begins).map_or(Ok(First::Standby), |word| self.first(word)) {
                        // Once more: it waits already.
                        Ok(First::Standby) => self.stage = Stage::Standby(commands, standby),
                        Ok(First::Opening(opening)) => match standby.check() {
                            Ok(()) => {
                                if let Some(word) = self.come_in(commands, opening).await? {
                                    return Some(word);
                                }
                            }
                            Err(reason) => return Some(self.refused(reason)),
                        },
                        Err(reason) => return Some(self.refused(reason)),
                    }
                }
                Stage::Unclaimed(commands, mut wait) => match self.wait(&mut wait).await {
                    Next::Say(word) => {
                        self.stage = Stage::Unclaimed(commands, wait);
                        return Some(*word);
                    }
                    Next::Claimed(opening) => self.open(commands, opening).await?,
                    Next::End => return None,
                },
                Stage::Open => {
                    self.stage = Stage::Open;
                    return self.talk().await;
                }
                Stage::Over => return None,
            }
        }
    }

    /// The driver knows it from now on.
    async fn open(&mut self, commands: mpsc::Sender<SessionCommand>, first: Opening) -> Option<()> {
        let session = SessionHandle { id: self.id, node: self.node.clone(), commands };
        self.driver.send(Message::SessionOpened { session, first }).await.ok()?;
        self.stage = Stage::Open;
        Some(())
    }

    fn refused(&self, reason: String) -> FromMaster {
        tracing::warn!(node = %self.node, %reason, "registration refused");
        FromMaster::Refused(link::Refused { reason, retry: false, leader: String::new() })
    }

    /// The next word for an agent the driver knows.
    async fn talk(&mut self) -> Option<FromMaster> {
        loop {
            let word = tokio::select! {
                word = self.inbound.message() => match word {
                    Ok(Some(link::FromAgent { message: Some(word) })) => self.heard(word).await,
                    // A word of a newer protocol: not for us.
                    Ok(Some(link::FromAgent { message: None })) => Ok(None),
                    Ok(None) => Err(Ended),
                    Err(status) => {
                        tracing::info!(node = %self.node, error = status.message(), "connection to agent lost");
                        Err(Ended)
                    }
                },
                command = self.queue.recv() => match command {
                    Some(command) => self.command(command),
                    None => Err(Ended),
                },
                () = clock::at(self.register_by) => {
                    tracing::warn!(node = %self.node, "an agent that was to register does not; its connection is closed");
                    Err(Ended)
                }
                Ok(()) = self.authorities.changed(), if self.registered => Ok(Some(self.trust())),
                Ok(()) = self.links.changed(), if self.registered => {
                    let Links { all, standby } = self.links.borrow_and_update().as_ref().clone();
                    Ok(Some(FromMaster::Masters(link::Masters { links: all, standby: standby.unwrap_or_default() })))
                }
            };
            match word {
                Ok(Some(word)) => return Some(word),
                Ok(None) => {}
                // The drop tells the driver.
                Err(Ended) => return None,
            }
        }
    }

    /// How it begins, or why it does not.
    async fn first_word(&mut self) -> Result<First, String> {
        let word = tokio::time::timeout(REGISTER_DEADLINE, self.inbound.message())
            .await
            .map_err(|_| format!("no registration within {} s", REGISTER_DEADLINE.as_secs()))?
            .map_err(|status| status.message().to_owned())?;
        self.first(word.and_then(|word| word.message).ok_or("the session ended before a registration")?)
    }

    fn first(&self, word: FromAgent) -> Result<First, String> {
        match word {
            FromAgent::Register(register) => {
                let registration = Box::new(read_registration(self.node.clone(), register)?);
                Ok(First::Opening(Opening::Registers(registration)))
            }
            FromAgent::Back(back) => {
                Ok(First::Opening(Opening::Returns(Box::new(read_return(self.node.clone(), back)?))))
            }
            FromAgent::Standby(_) => Ok(First::Standby),
            FromAgent::Update(_)
            | FromAgent::Pong(_)
            | FromAgent::FileChunk(_)
            | FromAgent::Capacity(_)
            | FromAgent::ExecutorMessage(_)
            | FromAgent::ExecutorEnded(_)
            | FromAgent::ExecOutput(_)
            | FromAgent::FileList(_)
            | FromAgent::CrashReport(_)
            | FromAgent::Inquiry(_)
            | FromAgent::DiskKeyWanted(_)
            | FromAgent::NodeReply(_) => Err("the first message of a session must be a registration".to_owned()),
        }
    }

    fn command(&mut self, command: SessionCommand) -> Result<Option<FromMaster>, Ended> {
        match command {
            SessionCommand::Send { message, master, term } => {
                self.registered |= matches!(*message, ToAgent::Registered { .. });
                if matches!(*message, ToAgent::RegisterInFull) {
                    self.register_by = Some(Instant::now() + REGISTER_DEADLINE);
                }
                Ok(Some(self.word(*message, &master.unwrap_or_default(), term)))
            }
            SessionCommand::Read(read) => {
                let Read { request, source, offset, follow, chunks } = *read;
                self.reads.retain(|_, chunks| !chunks.is_closed());
                if self.reads.len() >= READS_PER_AGENT {
                    let text = format!("{READS_PER_AGENT} files are being read from this node already: try again");
                    // A reader that left does not mind.
                    drop(chunks.try_send(Chunk::Failed(text)));
                    return Ok(None);
                }
                self.reads.insert(request, chunks);
                Ok(Some(FromMaster::ReadFile(link::ReadFile {
                    request,
                    source: Some(source),
                    offset,
                    length: None,
                    follow,
                })))
            }
            SessionCommand::CancelRead(request) => Ok(self.cancel(request)),
            SessionCommand::Call(call) => Ok(self.call(*call)),
            SessionCommand::OpenExec(exec) => Ok(self.beside.open(*exec)),
            SessionCommand::ExecInput(input) => Ok(self.beside.input(input)),
            SessionCommand::List(list) => Ok(self.beside.list(*list)),
            SessionCommand::Close => Err(Ended),
        }
    }

    fn call(&mut self, call: Call) -> Option<FromMaster> {
        let Call { request, method, role, principal, reply } = call;
        // Whoever asked has gone.
        self.calls.retain(|_, reply| !reply.is_closed());
        if self.calls.len() >= CALLS_PER_AGENT {
            drop(reply.send(Err(format!("{CALLS_PER_AGENT} questions wait for this node already: try again"))));
            return None;
        }
        self.calls.insert(request, reply);
        let method = method.name().to_owned();
        Some(FromMaster::NodeCall(link::NodeCall { request, method, role: role.name().to_owned(), principal }))
    }

    /// Takes an answer. It is given to whoever asked as it is: it has to be an object of JSON.
    fn reply(&mut self, reply: link::NodeReply) {
        let Some(waiting) = self.calls.remove(&reply.request) else { return };
        let answer = if !reply.error.is_empty() {
            Err(reply.error)
        } else if reply.json.len() > LONGEST_REPLY {
            Err(format!("its answer has {} bytes: at most {LONGEST_REPLY} are taken", reply.json.len()))
        } else {
            let checked: Result<BTreeMap<String, serde::de::IgnoredAny>, _> = serde_json::from_slice(&reply.json);
            checked.map(|_| Bytes::from(reply.json)).map_err(|error| format!("its answer is no JSON object: {error}"))
        };
        // Who has gone does not mind.
        drop(waiting.send(answer));
    }

    fn cancel(&mut self, request: u64) -> Option<FromMaster> {
        self.reads.remove(&request)?;
        Some(FromMaster::CancelRead(link::CancelRead { request }))
    }

    async fn heard(&mut self, word: FromAgent) -> Result<Option<FromMaster>, Ended> {
        let message = match word {
            FromAgent::FileChunk(chunk) => return self.chunk(chunk),
            FromAgent::NodeReply(reply) => {
                self.reply(reply);
                return Ok(None);
            }
            FromAgent::Register(register) if self.register_by.take().is_some() => {
                let registration = match read_registration(self.node.clone(), register) {
                    Ok(registration) => Box::new(registration),
                    Err(reason) => return Ok(Some(self.refused(reason))),
                };
                if self.gate.claims.admission() == Admission::Claimed
                    && let Err(reason) = self.judge(&registration).await
                {
                    // It waits in a session that begins with its registration.
                    return Ok(Some(FromMaster::Refused(link::Refused { reason, retry: true, leader: String::new() })));
                }
                self.driver.send(Message::Registers { session: self.id, registration }).await.map_err(|_| Ended)?;
                return Ok(None);
            }
            FromAgent::ExecOutput(output) => return Ok(self.beside.output(output)),
            FromAgent::CrashReport(report) => return Ok(self.crash(report)),
            FromAgent::Inquiry(_) | FromAgent::DiskKeyWanted(_) if !self.registered => return Ok(None),
            FromAgent::DiskKeyWanted(wanted) => return Ok(self.disk_key(wanted)),
            FromAgent::Inquiry(inquiry) => return Ok(Some(inquiries::answer(&self.guard, &self.node, inquiry))),
            FromAgent::FileList(list) => {
                self.beside.listed(list);
                return Ok(None);
            }
            FromAgent::Register(_) | FromAgent::Back(_) | FromAgent::Standby(_) => {
                tracing::warn!(node = %self.node, "agent registers twice on one connection; it is closed");
                return Err(Ended);
            }
            FromAgent::Update(update) => read_update(update),
            FromAgent::Pong(pong) => Ok(AgentMessage::Pong { nonce: pong.nonce }),
            FromAgent::Capacity(capacity) => read_change(capacity),
            FromAgent::ExecutorMessage(message) => Ok(AgentMessage::ExecutorMessage {
                framework: message.framework_id.into(),
                executor: message.executor_id.into(),
                data: message.data,
            }),
            FromAgent::ExecutorEnded(ended) => Ok(AgentMessage::ExecutorEnded {
                framework: ended.framework_id.into(),
                executor: ended.executor_id.into(),
                container: ended.container_id.into(),
                status: ended.status,
            }),
        };
        match message {
            Ok(message) => {
                let message = Message::FromAgent { session: self.id, message };
                self.driver.send(message).await.map_err(|_| Ended)?;
            }
            Err(reason) => {
                // Closing would only make it say the same again.
                tracing::error!(node = %self.node, %reason, "message from agent not understood; ignored");
            }
        }
        Ok(None)
    }

    fn chunk(&mut self, chunk: link::FileChunk) -> Result<Option<FromMaster>, Ended> {
        // What was cancelled may still be on its way.
        let Some(reader) = self.reads.get(&chunk.request) else { return Ok(None) };
        if chunk.data.len() > LONGEST_CHUNK {
            tracing::warn!(node = %self.node, bytes = chunk.data.len(), "agent sends too long a piece of a file; its connection is closed");
            return Err(Ended);
        }
        // An empty piece says that the file is open; at the end it says nothing.
        let data = Bytes::from(chunk.data);
        let begins = chunk.offset.is_none_or(|offset| reader.try_send(Chunk::From(offset)).is_ok());
        let mut fits = begins && ((chunk.end && data.is_empty()) || reader.try_send(Chunk::Data(data)).is_ok());
        if chunk.end {
            let last = if chunk.error.is_empty() { Chunk::End } else { Chunk::Failed(chunk.error) };
            if fits {
                // Full: the reader sees the channel end without an end, and asks again from there.
                drop(reader.try_send(last));
            }
            self.reads.remove(&chunk.request);
            fits = true;
        }
        Ok(if fits { None } else { self.cancel(chunk.request) })
    }
}
