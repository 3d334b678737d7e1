//! One gRPC stream per agent: words of the link to the driver, the driver's words to the link.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::link::from_agent::Message as FromAgent;
use api::link::from_master::Message as FromMaster;
use api::link::link_server::Link;
use api::link::{self, read_file};
use api::v1::{attributes_from_wire, resources_from_wire};
use api::{Attribute, MasterId, NodeName, Resources, TaskState};
use bytes::Bytes;
use futures_util::Stream;
use master_core::{AgentMessage, Registration, ReportedTask, SessionId, ToAgent};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::ca::{self, Role};
use crate::driver::{Handle, Message};

/// Words waiting to go to one agent. Full: the connection is closed; the agent comes back and the
/// master compares what it knows with what the agent does.
const COMMANDS_CAPACITY: usize = 1024;
/// Words on their way into the connection: small, the queue above is the one that counts.
const OUTBOUND_CAPACITY: usize = 64;
/// An agent that takes nothing for so long is not alive, whatever TCP says.
const SEND_DEADLINE: Duration = Duration::from_secs(20);
/// From connecting to the registration.
const REGISTER_DEADLINE: Duration = Duration::from_secs(10);
/// Files read from one agent at once. Full: the reader is told to come back.
const READS_PER_AGENT: usize = 64;
/// Chunks waiting for one reader. Full: the agent is told to stop, and the reader goes on from there later.
pub const CHUNKS_CAPACITY: usize = 64;

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
        /// Who says it.
        master: MasterId,
    },
    /// Ask for a file, and pass on what comes.
    Read {
        /// Chosen by [`next_read`].
        request: u64,
        /// Which file.
        source: read_file::Source,
        /// From where.
        offset: u64,
        /// Go on with what is appended.
        follow: bool,
        /// Where to.
        chunks: mpsc::Sender<Chunk>,
    },
    /// The reader is gone.
    CancelRead(u64),
    /// End the connection after what was sent before.
    Close,
}

/// A piece of a file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Chunk {
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
#[derive(Debug)]
pub struct LinkService {
    driver: Handle,
    next_session: Arc<AtomicU64>,
    /// What agents are told: without a ping for this long they connect anew.
    ping_timeout: Duration,
}

impl LinkService {
    /// Serves on behalf of the driver.
    #[must_use]
    pub fn new(driver: Handle, ping_timeout: Duration) -> Self {
        Self { driver, next_session: Arc::new(AtomicU64::new(1)), ping_timeout }
    }
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
        Some((Role::Node, name)) => Ok(NodeName(name)),
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
        let (outbound, stream) = mpsc::channel(OUTBOUND_CAPACITY);
        let (commands, queue) = mpsc::channel(COMMANDS_CAPACITY);
        let id = SessionId(self.next_session.fetch_add(1, Ordering::Relaxed));
        let session = Session {
            id,
            node,
            driver: self.driver.clone(),
            outbound,
            reads: BTreeMap::new(),
            ping_timeout: self.ping_timeout,
        };
        tokio::spawn(session.run(request.into_inner(), commands, queue));
        Ok(Response::new(Box::pin(tokio_stream::wrappers::ReceiverStream::new(stream))))
    }
}

/// The task that owns one connection.
struct Session {
    id: SessionId,
    node: NodeName,
    driver: Handle,
    outbound: mpsc::Sender<Result<link::FromMaster, Status>>,
    reads: BTreeMap<u64, mpsc::Sender<Chunk>>,
    ping_timeout: Duration,
}

/// The connection is to end.
struct Ended;

impl Session {
    async fn run(
        mut self,
        mut inbound: Streaming<link::FromAgent>,
        commands: mpsc::Sender<SessionCommand>,
        mut queue: mpsc::Receiver<SessionCommand>,
    ) {
        let registration = match self.first_word(&mut inbound).await {
            Ok(registration) => registration,
            Err(reason) => {
                tracing::warn!(node = %self.node, %reason, "registration refused");
                let refused = link::Refused { reason, retry: false };
                let _ended = self.send(FromMaster::Refused(refused)).await;
                return;
            }
        };
        let handle = SessionHandle { id: self.id, node: self.node.clone(), commands };
        let opened = Message::SessionOpened { session: handle, registration: Box::new(registration) };
        if self.driver.send(opened).await.is_err() {
            return;
        }
        loop {
            let alive = tokio::select! {
                word = inbound.message() => match word {
                    Ok(Some(link::FromAgent { message: Some(word) })) => self.heard(word).await,
                    // A word of a newer protocol: not for us.
                    Ok(Some(link::FromAgent { message: None })) => Ok(()),
                    Ok(None) => Err(Ended),
                    Err(status) => {
                        tracing::info!(node = %self.node, error = status.message(), "connection to agent lost");
                        Err(Ended)
                    }
                },
                command = queue.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => Err(Ended),
                },
            };
            if alive.is_err() {
                break;
            }
        }
        self.driver.tell(Message::SessionClosed(self.id));
    }

    /// The registration, or why there is none.
    async fn first_word(&self, inbound: &mut Streaming<link::FromAgent>) -> Result<Registration, String> {
        let word = tokio::time::timeout(REGISTER_DEADLINE, inbound.message())
            .await
            .map_err(|_| format!("no registration within {} s", REGISTER_DEADLINE.as_secs()))?
            .map_err(|status| status.message().to_owned())?;
        match word.and_then(|word| word.message) {
            Some(FromAgent::Register(register)) => read_registration(self.node.clone(), register),
            _ => Err("the first message of a session must be a registration".to_owned()),
        }
    }

    async fn send(&self, message: FromMaster) -> Result<(), Ended> {
        let message = Ok(link::FromMaster { message: Some(message) });
        match tokio::time::timeout(SEND_DEADLINE, self.outbound.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Ended),
            Err(_) => {
                tracing::warn!(node = %self.node, "agent took nothing for too long; its connection is closed");
                Err(Ended)
            }
        }
    }

    async fn command(&mut self, command: SessionCommand) -> Result<(), Ended> {
        match command {
            SessionCommand::Send { message, master } => {
                let word = self.word(*message, &master);
                self.send(word).await
            }
            SessionCommand::Read { request, source, offset, follow, chunks } => {
                self.reads.retain(|_, chunks| !chunks.is_closed());
                if self.reads.len() >= READS_PER_AGENT {
                    let text = format!("{READS_PER_AGENT} files are being read from this node already: try again");
                    // A reader that left does not mind.
                    drop(chunks.try_send(Chunk::Failed(text)));
                    return Ok(());
                }
                self.reads.insert(request, chunks);
                self.send(FromMaster::ReadFile(link::ReadFile { request, source: Some(source), offset, follow })).await
            }
            SessionCommand::CancelRead(request) => self.cancel(request).await,
            SessionCommand::Close => Err(Ended),
        }
    }

    async fn cancel(&mut self, request: u64) -> Result<(), Ended> {
        if self.reads.remove(&request).is_none() {
            return Ok(());
        }
        self.send(FromMaster::CancelRead(link::CancelRead { request })).await
    }

    async fn heard(&mut self, word: FromAgent) -> Result<(), Ended> {
        let message = match word {
            FromAgent::FileChunk(chunk) => return self.chunk(chunk).await,
            FromAgent::Register(_) => {
                tracing::warn!(node = %self.node, "agent registers twice on one connection; it is closed");
                return Err(Ended);
            }
            FromAgent::Update(update) => read_update(update),
            FromAgent::Pong(pong) => Ok(AgentMessage::Pong { nonce: pong.nonce }),
            FromAgent::Capacity(capacity) => {
                read_capacity(&capacity).map(|(resources, attributes)| AgentMessage::Capacity { resources, attributes })
            }
        };
        match message {
            Ok(message) => {
                let message = Message::FromAgent { session: self.id, message };
                self.driver.send(message).await.map_err(|_| Ended)
            }
            Err(reason) => {
                // Closing would only make it say the same again.
                tracing::error!(node = %self.node, %reason, "message from agent not understood; ignored");
                Ok(())
            }
        }
    }

    async fn chunk(&mut self, chunk: link::FileChunk) -> Result<(), Ended> {
        // What was cancelled may still be on its way.
        let Some(reader) = self.reads.get(&chunk.request) else { return Ok(()) };
        // An empty piece says that the file is open; at the end it says nothing.
        let data = Bytes::from(chunk.data);
        let mut fits = (chunk.end && data.is_empty()) || reader.try_send(Chunk::Data(data)).is_ok();
        if chunk.end {
            let last = if chunk.error.is_empty() { Chunk::End } else { Chunk::Failed(chunk.error) };
            if fits {
                // Full: the reader sees the channel end without an end, and asks again from there.
                drop(reader.try_send(last));
            }
            self.reads.remove(&chunk.request);
            fits = true;
        }
        if fits { Ok(()) } else { self.cancel(chunk.request).await }
    }

    fn word(&self, message: ToAgent, master: &MasterId) -> FromMaster {
        match message {
            ToAgent::Registered { agent } => FromMaster::Registered(link::Registered {
                agent_id: agent.0,
                master_id: master.0.clone(),
                ping_timeout_ms: u64::try_from(self.ping_timeout.as_millis()).unwrap_or(u64::MAX),
            }),
            ToAgent::Refused { reason, retry } => FromMaster::Refused(link::Refused { reason, retry }),
            ToAgent::RunTask { framework, container, task, framework_info } => FromMaster::RunTask(link::RunTask {
                framework_id: framework.0,
                container_id: container.0,
                task: Some(*task),
                framework_info: Some(framework_info.as_ref().clone()),
            }),
            ToAgent::KillTask { framework, task, grace_ms } => {
                FromMaster::KillTask(link::KillTask { framework_id: framework.0, task_id: task.0, grace_ms })
            }
            ToAgent::Acknowledge { framework, task, uuid } => FromMaster::Acknowledge(link::Acknowledge {
                framework_id: framework.0,
                task_id: task.0,
                uuid: uuid.to_vec(),
            }),
            ToAgent::ShutdownFramework { framework } => {
                FromMaster::ShutdownFramework(link::ShutdownFramework { framework_id: framework.0 })
            }
            ToAgent::Ping { nonce } => FromMaster::Ping(link::Ping { nonce }),
        }
    }
}

/// A registration in the master's words, or what is wrong with it, for a person.
fn read_registration(node: NodeName, register: link::Register) -> Result<Registration, String> {
    if register.protocol != link::PROTOCOL {
        return Err(format!(
            "the agent speaks protocol {}, this master {}: update the older one",
            register.protocol,
            link::PROTOCOL
        ));
    }
    let (resources, attributes) = read_capacity(&register.capacity.unwrap_or_default())?;
    let tasks = register.tasks.into_iter().map(read_task_report).collect::<Result<_, _>>()?;
    Ok(Registration {
        node,
        boot_id: register.boot_id,
        agent: (!register.agent_id.is_empty()).then(|| register.agent_id.into()),
        hostname: register.hostname,
        address: register.address,
        version: register.version,
        kernel: register.kernel,
        resources,
        attributes,
        inventory_json: register.inventory_json,
        tasks,
    })
}

fn read_task_report(report: link::TaskReport) -> Result<ReportedTask, String> {
    let state = TaskState::from_name(&report.state).ok_or_else(|| format!("'{}' is no task state", report.state))?;
    Ok(ReportedTask {
        framework: report.framework_id.into(),
        task: report.task_id.into(),
        container: report.container_id.into(),
        state,
    })
}

fn read_capacity(capacity: &link::Capacity) -> Result<(Resources, Vec<Attribute>), String> {
    let resources =
        resources_from_wire(&capacity.resources).map_err(|error| format!("its resources are invalid: {error}"))?;
    Ok((resources, attributes_from_wire(&capacity.attributes)))
}

fn read_update(update: link::StatusUpdate) -> Result<AgentMessage, String> {
    let status = update.status.filter(|status| !status.task_id.as_str().is_empty());
    let status = status.ok_or("a status update names no task")?;
    let latest = TaskState::from_name(&update.latest_state)
        .ok_or_else(|| format!("'{}' is no task state", update.latest_state))?;
    Ok(AgentMessage::Update { framework: update.framework_id.into(), status: Box::new(status), latest })
}

#[cfg(test)]
mod tests {
    use api::v1::{Format, TaskStatus, attributes_to_wire, resources_to_wire};

    use super::*;

    fn register() -> link::Register {
        link::Register {
            protocol: link::PROTOCOL,
            boot_id: "b".to_owned(),
            capacity: Some(link::Capacity {
                resources: resources_to_wire(&Resources::parse("cpus:2").unwrap(), &Format::default()),
                attributes: attributes_to_wire(&Attribute::parse_list("rack:r1").unwrap()),
            }),
            ..link::Register::default()
        }
    }

    #[test]
    fn a_registration_is_read_or_refused_with_a_reason() {
        let good = read_registration("n".into(), register()).unwrap();
        assert_eq!(good.resources.scalar("cpus").units(), 2.0);
        assert_eq!((good.agent, good.attributes.len()), (None, 1));
        let newer = link::Register { protocol: 9, ..register() };
        assert!(read_registration("n".into(), newer).unwrap_err().contains("protocol 9"));
        let broken = link::Capacity { resources: vec![api::v1::Resource::default()], ..link::Capacity::default() };
        let broken = link::Register { capacity: Some(broken), ..register() };
        assert!(read_registration("n".into(), broken).unwrap_err().contains("resources"));
    }

    #[test]
    fn updates_are_read_or_refused() {
        let update = |status: Option<TaskStatus>, latest: &str| {
            read_update(link::StatusUpdate { framework_id: "f".to_owned(), status, latest_state: latest.to_owned() })
        };
        let good = Some(TaskStatus::new("t".into(), TaskState::Running));
        assert!(update(good.clone(), "TASK_RUNNING").is_ok());
        assert!(update(good, "TASK_BORED").is_err());
        assert!(update(None, "TASK_RUNNING").is_err());
        assert!(update(Some(TaskStatus::default()), "TASK_RUNNING").is_err());
    }
}
