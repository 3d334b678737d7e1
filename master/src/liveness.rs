//! Is a node up, that somebody asks for a second token in its name?

use std::time::Duration;

use api::link::read_file::Source;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::agents::{Read, SessionCommand, SessionHandle, next_read};
use crate::driver::{AgentName, Handle, Message};
use crate::peers::Dialer;
use crate::raft::Replica;

/// A live agent answers a question over its session in milliseconds; the session of a machine that was
/// cut off stays open for longer than the machine takes to boot.
const SESSION: Duration = Duration::from_secs(2);
/// For the leader's answer, whose nodes they are.
const LEADER: Duration = Duration::from_secs(5);

/// The kind of a frame between masters that asks this. See `cluster`.
pub(crate) const IS_ALIVE: u8 = 19;

/// Asks the leader, who has the sessions; it may be ourselves.
#[derive(Clone)]
pub struct Liveness {
    /// Knows the sessions here.
    pub driver: Handle,
    /// Knows who leads.
    pub replica: Replica,
    /// The way there.
    pub dialer: Dialer,
}

/// The question and its answer.
#[derive(Deserialize, Serialize)]
pub(crate) struct Asked {
    pub(crate) node: String,
}

impl Liveness {
    /// True also if nobody can tell: a second token could be somebody else's.
    pub async fn is_alive(&self, node: &str) -> bool {
        let standing = self.replica.standing();
        if standing.leader == Some(standing.id) {
            return self.answer(node).await;
        }
        let asked = async {
            let leader = standing.leader_member()?;
            let question = serde_json::to_vec(&Asked { node: node.to_owned() }).ok()?;
            let connection = self.dialer.connect(&leader.addr).await.ok()?;
            serde_json::from_slice(&connection.call(IS_ALIVE, question).await.ok()?).ok()
        };
        tokio::time::timeout(LEADER, asked).await.ok().flatten().unwrap_or(true)
    }

    /// Does it answer on the session it has with us? A machine that was reset has a session for some seconds
    /// more, and must get its token all the same.
    pub(crate) async fn answer(&self, node: &str) -> bool {
        let name = AgentName::Node(node.into());
        match self.driver.ask(|reply| Message::FindAgent { agent: name, reply }).await {
            Ok(Some(session)) => tokio::time::timeout(SESSION, answers(&session)).await.unwrap_or(false),
            Ok(None) => false,
            Err(_) => true,
        }
    }
}

/// Any word about a file says that somebody reads what we send.
async fn answers(session: &SessionHandle) -> bool {
    let (chunks, mut answer) = mpsc::channel(1);
    let request = next_read();
    let source = Source::NodeLog("console".to_owned());
    let read = SessionCommand::Read(Box::new(Read { request, source, offset: 0, follow: false, chunks }));
    if session.commands.send(read).await.is_err() {
        return false;
    }
    let answered = answer.recv().await.is_some();
    // A full queue: the session notices a closed channel with the next chunk.
    drop(session.commands.try_send(SessionCommand::CancelRead(request)));
    answered
}
