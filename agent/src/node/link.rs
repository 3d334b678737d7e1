//! One session with the master, from the handshake to its end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use api::link::{FromAgent, from_agent, link_client};
use futures_util::Stream;
use tokio::sync::mpsc;

use super::authorities::Digests;
use super::events::{Event, Events, Session};
use super::identity::Identity;
use super::{join, tls};

/// Updates and answers that wait for the link; what does not fit is repeated by the core.
const URGENT: usize = 256;
/// File chunks that wait; readers then wait, too. 16 chunks of 32 KiB.
const BULK: usize = 16;
/// How long the master may take to open the session.
const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a session with these first words and passes on what the master says until it ends.
pub(crate) async fn run(
    master: String,
    trusted: Digests,
    identity: Identity,
    first: from_agent::Message,
    generation: u64,
    events: Events,
) {
    let reason = match session(&master, &trusted, &identity, first, generation, &events).await {
        Ok(()) => "the master closed the link".to_owned(),
        Err(reason) => reason,
    };
    let _ = events.send(Event::SessionEnded { generation, reason }).await;
}

async fn session(
    master: &str,
    trusted: &[[u8; 32]],
    identity: &Identity,
    first: from_agent::Message,
    generation: u64,
    events: &Events,
) -> Result<(), String> {
    let channel =
        tls::connect(master, trusted, Some(identity)).await.map_err(|error| join::not_connected(&error).reason)?;
    let (urgent, urgent_out) = mpsc::channel(URGENT);
    let (bulk, bulk_out) = mpsc::channel(BULK);
    let first = FromAgent { message: Some(first) };
    urgent.try_send(first).map_err(|error| error.to_string())?;
    let opened = Event::SessionOpened { generation, session: Session { urgent, bulk } };
    events.send(opened).await.map_err(|_| "the agent ends".to_owned())?;
    let outgoing = Outgoing { urgent: urgent_out, bulk: bulk_out };
    let mut client = link_client::LinkClient::new(channel);
    let mut incoming = tokio::time::timeout(OPEN_TIMEOUT, client.session(outgoing))
        .await
        .map_err(|_| format!("the master at {master} does not open a session"))?
        .map_err(|status| said(&status))?
        .into_inner();
    while let Some(message) = incoming.message().await.map_err(|status| said(&status))? {
        let event = Event::FromMaster { generation, message: Box::new(message) };
        if events.send(event).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn said(status: &tonic::Status) -> String {
    if status.message().is_empty() { status.to_string() } else { status.message().to_owned() }
}

/// What we send: urgent things first.
struct Outgoing {
    urgent: mpsc::Receiver<FromAgent>,
    bulk: mpsc::Receiver<FromAgent>,
}

impl Stream for Outgoing {
    type Item = FromAgent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FromAgent>> {
        match self.urgent.poll_recv(context) {
            Poll::Ready(Some(message)) => return Poll::Ready(Some(message)),
            // The driver has dropped the session.
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Pending => {}
        }
        match self.bulk.poll_recv(context) {
            Poll::Ready(Some(message)) => Poll::Ready(Some(message)),
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }
}
