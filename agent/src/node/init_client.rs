//! The agent's line to `init`: exit statuses in, acknowledgements and signs of life out.

use std::path::Path;
use std::sync::Arc;

use agent_core::agent::Input;
use agent_core::handover::{Hello, InitCall, InitMessage, InitReply, InitRequest, MAX_PACKET, VERSION, Welcome};

use super::events::{Event, Events};
use crate::logging::chain;
use crate::seqpacket::{Connection, SeqpacketError};

/// A connection that was welcomed.
#[derive(Debug)]
pub(crate) struct InitClient {
    connection: Arc<Connection>,
    next_id: u64,
}

/// Why a peer does not talk to us.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GreetingError {
    #[error("cannot talk to {peer}")]
    Socket { peer: &'static str, source: SeqpacketError },
    #[error("{peer} refuses us: {reason}")]
    Refused { peer: &'static str, reason: String },
    #[error("{0} closed the connection")]
    Closed(&'static str),
}

/// Connects and greets.
pub(crate) fn greet(path: &Path, peer: &'static str) -> Result<Connection, GreetingError> {
    let failed = |source| GreetingError::Socket { peer, source };
    let connection = Connection::connect(path).map_err(failed)?;
    connection.send(&Hello { version: VERSION, client: "agent".to_owned() }).map_err(failed)?;
    let mut buffer = vec![0; 4096];
    match connection.receive::<Welcome>(&mut buffer).map_err(failed)? {
        Some((Welcome::Ready { .. }, _)) => Ok(connection),
        Some((Welcome::Refused { reason }, _)) => Err(GreetingError::Refused { peer, reason }),
        None => Err(GreetingError::Closed(peer)),
    }
}

impl InitClient {
    /// Connects; from then on a thread passes on what `init` says.
    pub(crate) fn connect(path: &Path, events: Events) -> Result<Self, GreetingError> {
        let connection = Arc::new(greet(path, "init")?);
        let reader = Arc::clone(&connection);
        std::thread::Builder::new()
            .name("init".to_owned())
            .stack_size(256 * 1024)
            .spawn(move || listen(&reader, &events))
            .map_err(|error| GreetingError::Socket { peer: "init", source: SeqpacketError::Receive(error) })?;
        Ok(Self { connection, next_id: 0 })
    }

    /// Asks; answers that say "failed" are logged by the reader.
    pub(crate) fn call(&mut self, request: InitRequest) {
        self.next_id += 1;
        if let Err(error) = self.connection.send(&InitCall { id: self.next_id, request }) {
            // The reader sees the same broken line and ends the process.
            tracing::warn!(error = %chain(&error), "init does not take a call");
        }
    }

    /// A line for the console.
    pub(crate) fn say(&mut self, line: &str) {
        let line: String = line.chars().take(200).collect();
        self.call(InitRequest::Status { line });
    }
}

fn listen(connection: &Connection, events: &Events) {
    let mut buffer = vec![0; MAX_PACKET];
    loop {
        let event = match connection.receive::<InitMessage>(&mut buffer) {
            Ok(Some((InitMessage::Exited(exit), _))) => Event::Core(Input::Exited(exit)),
            Ok(Some((InitMessage::Reply { reply: InitReply::Failed { reason }, .. }, _))) => {
                tracing::debug!(%reason, "init refuses a call");
                continue;
            }
            Ok(Some((InitMessage::Reply { .. }, _))) => continue,
            Ok(None) => Event::InitGone,
            Err(error) => {
                tracing::error!(error = %chain(&error), "lost the connection to init");
                Event::InitGone
            }
        };
        let over = matches!(event, Event::InitGone);
        if events.blocking_send(event).is_err() || over {
            return;
        }
    }
}
