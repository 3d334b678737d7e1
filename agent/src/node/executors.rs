//! Where executors' processes listen: one stream each, and what is done about them.

use std::collections::BTreeMap;

use agent_core::agent::executors::{CallRefused, ExecutorEffect};
use agent_core::launch::Limits;
use agent_core::record::Process;
use api::link::{ExecutorEnded, ExecutorMessage, FromAgent, from_agent};
use api::v1::ContentType;
use api::v1::executor::{Call, Event};
use api::{ContainerId, recordio};
use tokio::sync::{mpsc, oneshot};

use super::cgroup::Cgroup;
use super::events::Session;

/// Events that wait for an executor to read. Full: its stream is closed, and it has to subscribe again; what it is to
/// run or kill is told again then, as is what it said without an answer.
const WAITING: usize = 1024;

/// A call that was read and is well-formed.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) call: Box<Call>,
    /// What it shows of itself.
    pub(crate) token: Option<String>,
    /// How it wants events.
    pub(crate) wanted: ContentType,
    pub(crate) reply: oneshot::Sender<Result<Answer, CallRefused>>,
}

/// To a call that is taken.
#[derive(Debug)]
pub(crate) enum Answer {
    Accepted,
    /// Records as they come.
    Stream {
        container: ContainerId,
        stream: u64,
        records: mpsc::Receiver<Vec<u8>>,
    },
}

/// The open streams.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    streams: BTreeMap<ContainerId, Stream>,
    last: u64,
}

#[derive(Debug)]
struct Stream {
    number: u64,
    content_type: ContentType,
    records: mpsc::Sender<Vec<u8>>,
}

impl Desk {
    /// Opens a stream; the one the executor had is closed.
    pub(crate) fn open(&mut self, container: ContainerId, content_type: ContentType) -> (u64, Answer) {
        self.last += 1;
        let (sender, records) = mpsc::channel(WAITING);
        let number = self.last;
        self.streams.insert(container.clone(), Stream { number, content_type, records: sender });
        (number, Answer::Stream { container, stream: number, records })
    }

    /// Sends, if that stream is still open. False: it had to be closed.
    pub(crate) fn send(&mut self, container: &ContainerId, number: u64, event: &Event) -> bool {
        let Some(stream) = self.streams.get(container).filter(|stream| stream.number == number) else { return true };
        let record = recordio::encode(&stream.content_type.encode(event));
        let sent = stream.records.try_send(record).is_ok();
        if !sent {
            tracing::warn!(%container, "an executor does not read: its stream is closed");
            self.streams.remove(container);
        }
        sent
    }

    /// Closes a stream, after what was sent before.
    pub(crate) fn close(&mut self, container: &ContainerId, number: u64) {
        if self.streams.get(container).is_some_and(|stream| stream.number == number) {
            self.streams.remove(container);
        }
    }
}

/// A message for the master about an executor; `None` for an effect that is none.
pub(crate) fn word(effect: ExecutorEffect) -> Option<FromAgent> {
    let message = match effect {
        ExecutorEffect::Message { framework, executor, data } => {
            let (framework_id, executor_id) = (framework.into(), executor.into());
            from_agent::Message::ExecutorMessage(ExecutorMessage { framework_id, executor_id, data })
        }
        ExecutorEffect::TellEnd { framework, executor, container, status } => {
            let (framework_id, executor_id) = (framework.into(), executor.into());
            let container_id = container.into();
            from_agent::Message::ExecutorEnded(ExecutorEnded { framework_id, executor_id, container_id, status })
        }
        ExecutorEffect::Save(_)
        | ExecutorEffect::Forget(_)
        | ExecutorEffect::Send { .. }
        | ExecutorEffect::Close { .. }
        | ExecutorEffect::Resize { .. }
        | ExecutorEffect::Volumes { .. } => return None,
    };
    Some(FromAgent { message: Some(message) })
}

/// Tells the master, if it listens.
pub(crate) fn tell_master(session: Option<&Session>, word: FromAgent) {
    if let Some(session) = session {
        // Full or closed: an end is repeated by the core; messages may be lost, as in Mesos.
        let _ = session.urgent.try_send(word);
    }
}

/// Gives a container other limits.
pub(crate) fn resize(cgroup: Cgroup, container: ContainerId, process: Process, limits: Limits) {
    tokio::spawn(async move {
        if let Err(error) = cgroup.resize(process, &limits).await {
            tracing::warn!(%container, %error, "an executor's limits cannot be changed");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_stream_takes_the_place_of_the_old_one_and_a_full_one_is_closed() {
        let (mut desk, event) = (Desk::default(), Event::default());
        let (first, Answer::Stream { mut records, .. }) = desk.open("c".into(), ContentType::Json) else {
            panic!("a stream was opened");
        };
        let (second, _answer) = desk.open("c".into(), ContentType::Json);
        assert!(desk.send(&"c".into(), first, &event), "nobody waits for it");
        assert!(records.try_recv().is_err() && records.is_closed());
        desk.close(&"c".into(), first);
        for _ in 0..WAITING {
            assert!(desk.send(&"c".into(), second, &event));
        }
        assert!(!desk.send(&"c".into(), second, &event));
        assert!(desk.streams.is_empty());
    }
}
