//! The network between the masters: connections, and questions and answers on their way.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use master::peers::{Caller, Dial, Question};
use tokio::sync::{mpsc, oneshot};

use crate::trace::{Micros, SECOND};

/// A master that leaves a question unanswered for so long is given up, as over TLS.
const SILENCE: Micros = 10 * SECOND;

/// Where one master's process leaves the connections it wants to open.
#[derive(Clone, Default)]
pub(crate) struct Exchange(Arc<Mutex<Vec<Dialed>>>);

/// A connection that is being opened.
pub(crate) struct Dialed {
    pub(crate) address: String,
    pub(crate) asked: mpsc::Receiver<Question>,
    pub(crate) reply: oneshot::Sender<io::Result<()>>,
}

impl Exchange {
    pub(crate) fn take(&self) -> Vec<Dialed> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Dial for Exchange {
    fn dial(
        &self,
        address: &str,
        asked: mpsc::Receiver<Question>,
    ) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> {
        let (reply, answer) = oneshot::channel();
        let dialed = Dialed { address: address.to_owned(), asked, reply };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(dialed);
        Box::pin(async { answer.await.unwrap_or_else(|_| Err(io::ErrorKind::ConnectionRefused.into())) })
    }
}

/// An answer a process has given.
pub(crate) struct Answered {
    pub(crate) question: u64,
    pub(crate) result: Result<Vec<u8>, String>,
}

/// One end of the network: which machine, and which of its lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Life {
    pub(crate) machine: usize,
    pub(crate) number: u64,
}

/// An open connection.
struct Wire {
    from: Life,
    to: Life,
    asked: mpsc::Receiver<Question>,
    /// When the oldest question without an answer was asked.
    waits_since: Option<Micros>,
}

/// A question on its way.
pub(crate) struct Asked {
    pub(crate) number: u64,
    pub(crate) wire: u64,
    pub(crate) from: Life,
    pub(crate) to: Life,
    pub(crate) kind: u8,
    pub(crate) content: Bytes,
}

struct Waiting {
    wire: u64,
    reply: oneshot::Sender<Result<Bytes, String>>,
}

/// All of them.
#[derive(Default)]
pub(crate) struct Wires {
    wires: BTreeMap<u64, Wire>,
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

impl Wires {
    /// A connection was accepted.
    pub(crate) fn open(&mut self, from: Life, to: Life, asked: mpsc::Receiver<Question>) -> u64 {
        self.next += 1;
        self.wires.insert(self.next, Wire { from, to, asked, waits_since: None });
        self.next
    }

    /// What a process has asked since it was looked at, and the connections it has closed.
    pub(crate) fn collect(&mut self, machine: usize, now: Micros) -> (Vec<Asked>, Vec<u64>) {
        let (mut questions, mut closed) = (Vec::new(), Vec::new());
        for (number, wire) in self.wires.iter_mut().filter(|(_, wire)| wire.from.machine == machine) {
            loop {
                match wire.asked.try_recv() {
                    Ok(Question { kind, content, reply }) => {
                        self.next += 1;
                        self.waiting.insert(self.next, Waiting { wire: *number, reply });
                        wire.waits_since.get_or_insert(now);
                        questions.push(Asked {
                            number: self.next,
                            wire: *number,
                            from: wire.from,
                            to: wire.to,
                            kind,
                            content: content.into(),
                        });
                    }
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => {
                        closed.push(*number);
                        break;
                    }
                }
            }
            if wire.waits_since.is_some_and(|since| now > since + SILENCE) {
                closed.push(*number);
            }
        }
        (questions, closed)
    }

    /// Who answers whom.
    pub(crate) fn ends_of(&self, question: u64) -> Option<(Life, Life)> {
        let wire = self.wires.get(&self.waiting.get(&question)?.wire)?;
        Some((wire.to, wire.from))
    }

    /// An answer has arrived; whoever asked may have given up.
    pub(crate) fn answered(&mut self, question: u64, result: Result<Vec<u8>, String>) -> bool {
        let Some(Waiting { wire, reply }) = self.waiting.remove(&question) else { return false };
        if let Some(wire) = self.wires.get_mut(&wire) {
            wire.waits_since = None;
        }
        reply.send(result.map(Bytes::from)).is_ok()
    }

    /// A connection ends: whoever waits for an answer learns it. Who was asked has to be told.
    pub(crate) fn cut(&mut self, wire: u64) -> Option<Life> {
        let cut = self.wires.remove(&wire)?;
        self.waiting.retain(|_, waiting| waiting.wire != wire);
        Some(cut.to)
    }

    /// Is this connection open, with these two at its ends?
    pub(crate) fn is_open(&self, wire: u64) -> bool {
        self.wires.contains_key(&wire)
    }

    /// The machines of those that this one has opened, or that were opened to it.
    pub(crate) fn of(&self, machine: usize) -> Vec<u64> {
        let ends = self.wires.iter().filter(|(_, wire)| wire.from.machine == machine || wire.to.machine == machine);
        ends.map(|(number, _)| *number).collect()
    }
}

/// How the one who is asked knows a connection.
pub(crate) fn caller(wire: u64, from: usize) -> Caller {
    let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    Caller { remote, master: Some(address(from)), connection: wire }
}

/// Of a machine.
pub(crate) fn address(machine: usize) -> String {
    format!("master-{machine}:5052")
}

/// The reverse.
pub(crate) fn machine(address: &str) -> Option<usize> {
    address.strip_prefix("master-")?.strip_suffix(":5052")?.parse().ok()
}
