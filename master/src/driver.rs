//! The only owner of [`Master`]: takes what happens, hands it in, and performs what comes out.
//!
//! It never waits for a socket or the disk. What the master proposes while a log write is in flight
//! gathers, and goes into the next entry as one batch: one sync of the disk for all of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::v1::scheduler::Call;
use api::{AgentId, FrameworkId, NodeName, recordio};
use bytes::Bytes;
use master_core::io::operator::OperatorWrite;
#[cfg(feature = "planted-bugs")]
use master_core::planted;
use master_core::state::Kept;
use master_core::{
    AgentMessage, Command, Input, Master, Output, Registration, RequestId, Response, Return, SessionId, StreamId,
    ToAgent, View,
};
use tokio::sync::{mpsc, oneshot, watch};

use crate::agents::{SessionCommand, SessionHandle};
use crate::clock::Clock;
use crate::raft::{FromLog, Replica, WriteError};
use crate::subscribers::EventSink;
use crate::timings;

/// What waits for the driver. Full: HTTP callers wait up to their deadline and are then told to come
/// back (503), agents' streams wait, which slows the agents down.
const INBOX_CAPACITY: usize = 4096;
/// Handled between two looks at the log and the clock.
const BURST: usize = 256;
/// Commands in one log entry, so that an entry stays of a size that replicates well.
const BATCH_COMMANDS: usize = 1024;

/// Frameworks that are told, when they return, that they were cut off. Full: one of them is not told.
const CUT_OFF_CAPACITY: usize = 1024;

/// What the other tasks tell the driver.
#[derive(Debug)]
pub enum Message {
    /// A scheduler call other than SUBSCRIBE.
    Call {
        /// Its `Mesos-Stream-Id`.
        stream: Option<StreamId>,
        /// Who calls, if they had to say.
        principal: Option<String>,
        /// What was asked.
        call: Box<Call>,
        /// For the answer.
        reply: oneshot::Sender<Response>,
    },
    /// SUBSCRIBE, with the new stream.
    Subscribe {
        /// The new stream's id.
        stream: StreamId,
        /// Its driver's end.
        sink: EventSink,
        /// What was asked.
        call: Box<Call>,
        /// For the answer.
        reply: oneshot::Sender<Response>,
    },
    /// A stream's connection is gone.
    StreamClosed(StreamId),
    /// An operator removes a framework.
    Teardown {
        /// Which.
        framework: FrameworkId,
        /// For the answer.
        reply: oneshot::Sender<Response>,
    },
    /// An operator writes.
    Operator {
        /// What.
        write: Box<OperatorWrite>,
        /// For the answer.
        reply: oneshot::Sender<Response>,
    },
    /// A picture of everything, for readers.
    View(oneshot::Sender<Arc<View>>),
    /// An agent is there.
    SessionOpened {
        /// How to talk to it.
        session: SessionHandle,
        /// What it says of itself.
        first: Opening,
    },
    /// An agent registers that could not return.
    Registers {
        /// Which connection.
        session: SessionId,
        /// What it says of itself.
        registration: Box<Registration>,
    },
    /// An agent says something.
    FromAgent {
        /// Which connection.
        session: SessionId,
        /// What.
        message: AgentMessage,
    },
    /// An agent's connection is gone.
    SessionClosed(SessionId),
    /// How to talk to an agent.
    FindAgent {
        /// Which.
        agent: AgentName,
        /// `None` when it is not connected.
        reply: oneshot::Sender<Option<SessionHandle>>,
    },
}

/// The two ways an agent may begin.
#[derive(Debug)]
pub enum Opening {
    /// It says all of itself.
    Registers(Box<Registration>),
    /// It was here, or with another master, before.
    Returns(Box<Return>),
}

/// The two ways to name an agent.
#[derive(Clone, Debug)]
pub enum AgentName {
    /// The id frameworks see.
    Id(AgentId),
    /// The name of its node.
    Node(NodeName),
}

/// The way to the driver.
#[derive(Clone, Debug)]
pub struct Handle(mpsc::Sender<Message>);

/// The driver has more to do than it can: come back.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the master is overloaded or stopping: try again")]
pub struct Overloaded;

impl Handle {
    /// A way to a new driver, and the driver's inbox.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Message>) {
        let (sender, inbox) = mpsc::channel(INBOX_CAPACITY);
        (Self(sender), inbox)
    }

    /// Tells, waiting while the inbox is full.
    ///
    /// # Errors
    /// The driver has stopped.
    pub async fn send(&self, message: Message) -> Result<(), Overloaded> {
        self.0.send(message).await.map_err(|_| Overloaded)
    }

    /// Tells from where one cannot wait. Never lost while the driver runs.
    pub fn tell(&self, message: Message) {
        if let Err(mpsc::error::TrySendError::Full(message)) = self.0.try_send(message) {
            let sender = self.0.clone();
            // The runtime is there whenever connections are.
            tokio::spawn(async move { drop(sender.send(message).await) });
        }
    }

    /// Asks, and waits for the answer up to a deadline.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn ask<T>(&self, message: impl FnOnce(oneshot::Sender<T>) -> Message) -> Result<T, Overloaded> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.send(message(reply)).await?;
            answer.await.map_err(|_| Overloaded)
        };
        tokio::time::timeout(ANSWER_DEADLINE, asked).await.map_err(|_| Overloaded)?
    }
}

/// Longer than a disk's worst sync; a caller that waited so long should rather hear that we are overloaded.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// Why the driver ended.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The log.
    #[error("the replicated log failed, and without it nothing can be promised: {0}")]
    Log(String),
}

/// See the module's documentation.
pub struct Driver {
    master: Master,
    clock: Clock,
    replica: Replica,
    inbox: mpsc::Receiver<Message>,
    log: mpsc::Receiver<FromLog>,
    written: (mpsc::Sender<Written>, mpsc::Receiver<Written>),
    /// Proposed, not yet on the way.
    gathered: VecDeque<Command>,
    writing: bool,
    /// Shows the readers what the masters keep.
    kept: watch::Sender<Kept>,
    /// In which term we lead.
    leading: Option<u64>,
    /// Tells the agents' sessions.
    term: watch::Sender<Option<u64>>,
    /// Grows whenever we begin to lead: what was written before then concerns nobody any more.
    reign: u64,
    next_request: u64,
    waiting: BTreeMap<RequestId, oneshot::Sender<Response>>,
    /// How many commands were gathered, and how many of them are committed, in this reign.
    proposed: u64,
    committed: u64,
    /// Answers that promise what is not committed yet, with how many commands have to be.
    promised: VecDeque<(u64, oneshot::Sender<Response>, Response)>,
    streams: BTreeMap<StreamId, EventSink>,
    /// Frameworks whose last stream was cut off, until they return or are forgotten.
    cut_off: BTreeMap<FrameworkId, String>,
    sessions: BTreeMap<SessionId, Session>,
}

struct Session {
    handle: SessionHandle,
    agent: Option<AgentId>,
}

/// In which reign a batch was proposed, its size, and what became of it.
type Written = (u64, u64, Result<(), WriteError>);

impl Driver {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        master: Master,
        clock: Clock,
        replica: Replica,
        inbox: mpsc::Receiver<Message>,
        log: mpsc::Receiver<FromLog>,
    ) -> Self {
        let kept = watch::Sender::new(master.state().kept.clone());
        Self {
            master,
            clock,
            replica,
            inbox,
            log,
            written: mpsc::channel(1),
            gathered: VecDeque::new(),
            writing: false,
            kept,
            leading: None,
            term: watch::Sender::new(None),
            reign: 0,
            next_request: 0,
            waiting: BTreeMap::new(),
            proposed: 0,
            committed: 0,
            promised: VecDeque::new(),
            streams: BTreeMap::new(),
            cut_off: BTreeMap::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// Runs until `stop` becomes true or the log fails. `leading` is told whether we lead.
    ///
    /// # Errors
    /// The log failed.
    pub async fn run(
        mut self,
        mut stop: watch::Receiver<bool>,
        leading: watch::Sender<bool>,
    ) -> Result<(), DriverError> {
        loop {
            let deadline = self.master.next_deadline().map(|at| self.clock.instant(at));
            let tick = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(message) = self.log.recv() => self.logged(message, &leading)?,
                Some(result) = self.written.1.recv() => self.batch_written(result)?,
                () = tick => self.handle(Input::Tick),
                message = self.inbox.recv() => {
                    let Some(message) = message else { return Ok(()) };
                    self.message(message);
                    for _ in 0..BURST {
                        let Ok(message) = self.inbox.try_recv() else { break };
                        self.message(message);
                    }
                }
                stopped = stop.wait_for(|stop| *stop) => {
                    drop(stopped);
                    self.end_streams();
                    return Ok(());
                }
            }
            self.write_gathered();
        }
    }

    fn logged(&mut self, message: FromLog, leading: &watch::Sender<bool>) -> Result<(), DriverError> {
        match message {
            FromLog::Committed { commands, done } => {
                self.handle(Input::Committed(commands));
                self.show_kept();
                // If nobody waits the replica is stopping.
                let _stopping = done.send(());
            }
            FromLog::Snapshot(reply) => drop(reply.send(self.master.view().state.clone())),
            FromLog::Install { state, done } => {
                self.master.install(*state);
                self.show_kept();
                let _stopping = done.send(());
            }
            FromLog::Leading(term) => {
                let leads = term.is_some();
                tracing::info!(leading = leads, term, "leadership");
                if !leads {
                    leading.send_replace(false);
                    self.term.send_replace(None);
                }
                self.leading = term;
                // A write on its way may or may not succeed. If it does, it comes back as what is committed.
                self.reign += 1;
                self.writing = false;
                self.gathered.clear();
                // Whoever waits for these hears that it failed, and asks the leader what became of it.
                (self.proposed, self.committed) = (0, 0);
                self.promised.clear();
                self.handle(Input::Leading(leads));
                if !leads {
                    // Whoever waits for something that only a leader's memory held would wait in vain.
                    self.waiting.clear();
                }
                leading.send_replace(leads);
                self.term.send_replace(term);
            }
            FromLog::Failed(reason) => return Err(DriverError::Log(reason)),
        }
        Ok(())
    }

    /// In which term this master leads, as that changes.
    pub(crate) fn term(&self) -> watch::Receiver<Option<u64>> {
        self.term.subscribe()
    }

    /// What the masters keep, as it changes.
    pub(crate) fn kept(&self) -> watch::Receiver<Kept> {
        self.kept.subscribe()
    }

    fn show_kept(&self) {
        let kept = &self.master.state().kept;
        if self.kept.borrow().version != kept.version {
            self.kept.send_replace(kept.clone());
        }
    }

    fn batch_written(&mut self, (reign, size, result): Written) -> Result<(), DriverError> {
        if reign == self.reign {
            self.writing = false;
        }
        match result {
            Ok(()) if reign == self.reign => {
                self.committed += size;
                while self.promised.front().is_some_and(|(needs, ..)| *needs <= self.committed) {
                    let Some((_, reply, response)) = self.promised.pop_front() else { break };
                    // The caller may have gone away.
                    drop(reply.send(response));
                }
                Ok(())
            }
            Ok(()) => Ok(()),
            // Not written. While we believe to lead it is for a moment only, and order must be kept.
            Err(WriteError::NotLeading(commands)) if self.leading.is_some() && reign == self.reign => {
                commands.into_iter().rev().for_each(|command| self.gathered.push_front(command));
                Ok(())
            }
            Err(WriteError::NotLeading(_)) => Ok(()),
            Err(WriteError::Stopped(reason)) => Err(DriverError::Log(reason)),
        }
    }

    fn write_gathered(&mut self) {
        let Some(term) = self.leading.filter(|_| !self.writing && !self.gathered.is_empty()) else { return };
        // From the front, where nothing else has to move: a burst may be a hundred times a batch.
        let commands: Vec<Command> = self.gathered.drain(..self.gathered.len().min(BATCH_COMMANDS)).collect();
        if self.gathered.is_empty() {
            self.gathered.shrink_to(BATCH_COMMANDS);
        }
        self.writing = true;
        let (replica, written, reign) = (self.replica.clone(), self.written.0.clone(), self.reign);
        let size = commands.len() as u64;
        tokio::spawn(async move {
            let began = std::time::Instant::now();
            let result = replica.write(term, commands).await;
            timings::STATE_STORE.record(began.elapsed());
            if matches!(result, Err(WriteError::NotLeading(_))) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            // If the driver is gone, so is whoever waited for these commands.
            drop(written.send((reign, size, result)).await);
        });
    }

    fn message(&mut self, message: Message) {
        match message {
            Message::Call { stream, principal, call, reply } => {
                let request = self.expect_response(reply);
                self.handle(Input::Call { request, stream, principal, call });
            }
            Message::Subscribe { stream, sink, call, reply } => {
                let request = self.expect_response(reply);
                let id = call.framework_id.as_ref();
                if let Some(why) = id.and_then(|id| self.cut_off.remove(id)) {
                    sink.news().tell(why);
                }
                self.streams.insert(stream.clone(), sink);
                self.handle(Input::Call { request, stream: Some(stream), principal: None, call });
            }
            Message::StreamClosed(stream) => {
                self.streams.remove(&stream);
                self.handle(Input::StreamClosed(stream));
            }
            Message::Teardown { framework, reply } => {
                let request = self.expect_response(reply);
                self.handle(Input::Teardown { request, framework });
            }
            Message::Operator { write, reply } => {
                let request = self.expect_response(reply);
                self.handle(Input::Operator { request, write });
            }
            // Whoever does not wait for the answer any more does not need it.
            Message::View(reply) => drop(reply.send(self.master.view())),
            Message::SessionOpened { session, first } => {
                let id = session.id;
                self.sessions.insert(id, Session { handle: session, agent: None });
                self.handle(match first {
                    Opening::Registers(registration) => Input::AgentRegisters { session: id, registration },
                    Opening::Returns(back) => Input::AgentReturns { session: id, back },
                });
            }
            Message::Registers { session, registration } => {
                if self.sessions.contains_key(&session) {
                    self.handle(Input::AgentRegisters { session, registration });
                }
            }
            Message::FromAgent { session, message } => {
                if self.sessions.contains_key(&session) {
                    self.handle(Input::FromAgent { session, message });
                }
            }
            Message::SessionClosed(session) => {
                if self.sessions.remove(&session).is_some() {
                    self.handle(Input::AgentDisconnected(session));
                }
            }
            Message::FindAgent { agent, reply } => drop(reply.send(self.find_agent(&agent))),
        }
    }

    fn expect_response(&mut self, reply: oneshot::Sender<Response>) -> RequestId {
        self.next_request += 1;
        let request = RequestId(self.next_request);
        self.waiting.insert(request, reply);
        request
    }

    fn find_agent(&self, name: &AgentName) -> Option<SessionHandle> {
        self.sessions
            .values()
            .find(|session| match name {
                AgentName::Id(id) => session.agent.as_ref() == Some(id),
                AgentName::Node(node) => session.agent.is_some() && session.handle.node == *node,
            })
            .map(|session| session.handle.clone())
    }

    fn handle(&mut self, input: Input) {
        // What performing an output causes (a stream that overflows) is handed in after it, not within it.
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let asks = matches!(input, Input::Call { .. } | Input::Teardown { .. } | Input::Operator { .. });
            let before = self.proposed;
            let (began, runs) = (std::time::Instant::now(), self.master.counters().allocation_runs);
            let outputs = self.master.handle(input, self.clock.now());
            if self.master.counters().allocation_runs != runs {
                timings::ALLOCATION_RUN.record(began.elapsed());
            }
            let mut answer = None;
            for output in outputs {
                if asks && answer.is_none() && matches!(output, Output::Respond { .. }) {
                    answer = Some(output);
                } else {
                    self.perform(output, &mut inputs);
                }
            }
            if let Some(Output::Respond { request, response }) = answer {
                self.promise(before, request, response);
            }
        }
    }

    /// Answers a call. What it has caused must be committed by then: who was told that a call is accepted can rely on
    /// it, whatever becomes of this master.
    fn promise(&mut self, before: u64, request: RequestId, response: Response) {
        let Some(reply) = self.waiting.remove(&request) else { return };
        #[cfg(feature = "planted-bugs")]
        let before = if planted::is(planted::Bug::AnsweredTooEarly) { self.proposed } else { before };
        if self.proposed == before {
            // The caller may have gone away.
            drop(reply.send(response));
        } else {
            self.promised.push_back((self.proposed, reply, response));
        }
    }

    fn perform(&mut self, output: Output, caused: &mut Vec<Input>) {
        match output {
            Output::Propose(commands) => {
                self.proposed += commands.len() as u64;
                self.gathered.extend(commands);
            }
            Output::Respond { request, response } => {
                if let Some(reply) = self.waiting.remove(&request) {
                    // The caller may have gone away.
                    drop(reply.send(response));
                }
            }
            Output::Event { stream, event } => {
                let Some(sink) = self.streams.get(&stream) else { return };
                let record = sink.content_type().encode(event.as_ref());
                if sink.push(Bytes::from(recordio::encode(&record))).is_err() {
                    tracing::warn!(stream = %stream.0, "scheduler does not read its events; its stream is closed");
                    self.streams.remove(&stream);
                    self.remember_cut_off(&stream);
                    caused.push(Input::StreamClosed(stream));
                }
            }
            Output::CloseStream(stream) => drop(self.streams.remove(&stream)),
            Output::ToAgent { session, message } => self.send_to_agent(session, message, caused),
            Output::CloseSession(session) => {
                if let Some(session) = self.sessions.remove(&session) {
                    // A full queue: dropping the last handle ends the session too.
                    drop(session.handle.commands.try_send(SessionCommand::Close));
                }
            }
        }
    }

    fn remember_cut_off(&mut self, stream: &StreamId) {
        let mut frameworks = self.master.state().frameworks.values();
        let Some(id) = frameworks.find(|framework| framework.stream == stream.0).map(|one| one.id.clone()) else {
            return;
        };
        if self.cut_off.len() >= CUT_OFF_CAPACITY {
            self.cut_off.pop_first();
        }
        let why = "the last stream was closed because its events were not read: reconcile the tasks".to_owned();
        self.cut_off.insert(id, why);
    }

    fn send_to_agent(&mut self, id: SessionId, message: ToAgent, caused: &mut Vec<Input>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (mut master, term) = (None, self.leading.unwrap_or_default());
        if let ToAgent::Registered { agent } = &message {
            session.agent = Some(agent.clone());
            master.clone_from(&self.master.state().cluster);
        }
        let command = SessionCommand::Send { message: Box::new(message), master, term };
        if session.handle.commands.try_send(command).is_err() {
            tracing::warn!(node = %session.handle.node, "agent does not read; its connection is closed");
            self.sessions.remove(&id);
            caused.push(Input::AgentDisconnected(id));
        }
    }

    fn end_streams(&mut self) {
        self.streams.clear();
        for session in std::mem::take(&mut self.sessions).into_values() {
            drop(session.handle.commands.try_send(SessionCommand::Close));
        }
    }
}
