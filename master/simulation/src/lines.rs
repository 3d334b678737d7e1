//! Connections of agents and frameworks with masters, as far as the driver sees them: sessions, streams, calls.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use api::recordio;
use api::v1::ContentType;
use api::v1::scheduler::{Call, Event};
use hyper::body::Body;
use master::agents::{SessionCommand, SessionHandle};
use master::driver::{Message, Opening};
use master::subscribers::{self, EventBody, Kill};
use master_core::io::operator::OperatorWrite;
use master_core::{AgentMessage, Registration, Response, SessionId, StreamId, ToAgent};
use tokio::sync::{mpsc, oneshot};

use crate::process::Running;
use crate::trace::Micros;
use crate::wires::Life;

/// Words a master may have waiting for one agent, as on a real link.
const COMMANDS: usize = 1024;
/// No event is longer.
const LONGEST: usize = 16 << 20;

/// Whose.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Client {
    Agent(usize),
    Framework(usize),
    Operator,
}

/// To a master.
#[derive(Debug)]
pub(crate) enum Word {
    Open(Opening),
    Register(Box<Registration>),
    Subscribe(Box<Call>),
    Say(AgentMessage),
    Call(Box<Call>),
    Write(Box<OperatorWrite>),
    Bye,
}

/// From a master.
#[derive(Debug)]
pub(crate) enum Heard {
    ToAgent(Box<ToAgent>),
    Event(Box<Event>),
    Answer(Option<Response>),
    Closed,
}

/// One connection.
pub(crate) struct Line {
    pub(crate) client: Client,
    pub(crate) machine: usize,
    /// Once the master has it.
    pub(crate) life: Option<Life>,
    commands: Option<mpsc::Receiver<SessionCommand>>,
    stream: Option<EventBody>,
    records: recordio::Decoder,
    answers: VecDeque<oneshot::Receiver<Response>>,
    /// What was sent last arrives then: nothing overtakes on one connection.
    pub(crate) to_master_at: Micros,
    pub(crate) to_client_at: Micros,
}

impl Line {
    pub(crate) fn new(client: Client, machine: usize) -> Self {
        Self {
            client,
            machine,
            life: None,
            commands: None,
            stream: None,
            records: recordio::Decoder::new(LONGEST),
            answers: VecDeque::new(),
            to_master_at: 0,
            to_client_at: 0,
        }
    }

    /// A word arrives at the master.
    pub(crate) fn arrives(&mut self, number: u64, word: Word, at: &Running) {
        let (session, stream) = (SessionId(number), StreamId(format!("s{number}")));
        match word {
            Word::Open(first) => {
                let (commands, queue) = mpsc::channel(COMMANDS);
                self.commands = Some(queue);
                let node = match &first {
                    Opening::Registers(registration) => registration.node.clone(),
                    Opening::Returns(back) => back.node.clone(),
                };
                let session = SessionHandle { id: session, node, commands };
                at.driver.tell(Message::SessionOpened { session, first });
            }
            Word::Register(registration) => at.driver.tell(Message::Registers { session, registration }),
            Word::Subscribe(call) => {
                let (sink, body) =
                    subscribers::channel(stream.clone(), at.driver.clone(), Kill::default(), ContentType::Protobuf);
                self.stream = Some(body);
                let reply = self.expect();
                at.driver.tell(Message::Subscribe { stream, sink, call, reply });
            }
            Word::Say(message) => at.driver.tell(Message::FromAgent { session, message }),
            Word::Call(call) => {
                let reply = self.expect();
                at.driver.tell(Message::Call { stream: Some(stream), principal: None, call, reply });
            }
            Word::Write(write) => {
                let reply = self.expect();
                at.driver.tell(Message::Operator { write, reply });
            }
            Word::Bye => {
                // A stream tells of its end itself.
                if self.commands.take().is_some() {
                    at.driver.tell(Message::SessionClosed(session));
                }
                self.stream = None;
            }
        }
    }

    fn expect(&mut self) -> oneshot::Sender<Response> {
        let (reply, answer) = oneshot::channel();
        self.answers.push_back(answer);
        reply
    }

    /// What the master has said since.
    pub(crate) fn collect(&mut self) -> Vec<Heard> {
        let mut heard = Vec::new();
        while let Some(answer) = self.answers.front_mut() {
            match answer.try_recv() {
                Ok(response) => heard.push(Heard::Answer(Some(response))),
                Err(oneshot::error::TryRecvError::Closed) => heard.push(Heard::Answer(None)),
                Err(oneshot::error::TryRecvError::Empty) => break,
            }
            self.answers.pop_front();
        }
        if let Some(commands) = &mut self.commands {
            loop {
                match commands.try_recv() {
                    Ok(SessionCommand::Send { message, .. }) => heard.push(Heard::ToAgent(message)),
                    // Nobody reads files here, or asks a node.
                    Ok(
                        SessionCommand::Read(_)
                        | SessionCommand::CancelRead(_)
                        | SessionCommand::Call(_)
                        | SessionCommand::OpenExec(_)
                        | SessionCommand::ExecInput(_)
                        | SessionCommand::List(_),
                    ) => {}
                    Ok(SessionCommand::Close) | Err(mpsc::error::TryRecvError::Disconnected) => {
                        heard.push(Heard::Closed);
                        break;
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                }
            }
        }
        if let Some(stream) = &mut self.stream {
            let mut context = Context::from_waker(Waker::noop());
            loop {
                match Pin::new(&mut *stream).poll_frame(&mut context) {
                    Poll::Ready(Some(Ok(frame))) => {
                        self.records.push(&frame.into_data().expect("a stream has no trailers"));
                    }
                    Poll::Ready(Some(Err(never))) => match never {},
                    Poll::Ready(None) => {
                        heard.push(Heard::Closed);
                        break;
                    }
                    Poll::Pending => break,
                }
            }
            let mut events = Vec::new();
            while let Some(record) = self.records.pop().expect("the master writes records") {
                let event = ContentType::Protobuf.decode(&record).expect("the master writes events");
                events.push(Heard::Event(Box::new(event)));
            }
            // Before the end, if it has ended.
            let end = heard.iter().position(|heard| matches!(heard, Heard::Closed)).unwrap_or(heard.len());
            heard.splice(end..end, events);
        }
        heard
    }

    /// The master's process is gone.
    pub(crate) fn forget(&mut self) {
        (self.commands, self.stream) = (None, None);
        self.answers.clear();
    }
}

/// All of them.
#[derive(Default)]
pub(crate) struct Lines {
    pub(crate) open: BTreeMap<u64, Line>,
    pub(crate) next: u64,
}
