//! Hears from the kernel that the machine is another than before: a disk, a card, a processor, memory.

use std::time::Duration;

use nix::errno::Errno;
use tokio::net::UnixDatagram;

use super::events::{Event, Events};
use crate::devices::uevent::{EVENT_BYTES, Subject, UeventError, Uevents, subject};
use crate::logging::chain;

/// What changes without an event (memory that fails), and what was missed.
const EVERY: Duration = Duration::from_secs(60);
/// After a failure of the socket.
const AGAIN: Duration = Duration::from_secs(5);

/// Runs for ever.
pub(crate) async fn run(events: Events) {
    tokio::spawn(now_and_then(events.clone()));
    loop {
        match listen(&events).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(error = %chain(&error), "hardware that comes and goes is noticed late"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn now_and_then(events: Events) {
    let mut interval = tokio::time::interval(EVERY);
    interval.reset();
    loop {
        interval.tick().await;
        if events.send(Event::HardwareChanged).await.is_err() {
            return;
        }
    }
}

async fn listen(events: &Events) -> Result<(), UeventError> {
    // To the runtime one datagram socket is like another: it waits, then calls recv(2).
    let socket = UnixDatagram::from_std(Uevents::open()?.into_socket().into()).map_err(UeventError::Open)?;
    let mut buffer = vec![0; EVENT_BYTES];
    loop {
        let about = match socket.recv(&mut buffer).await {
            Ok(length) => subject(buffer.get(..length).unwrap_or_default()),
            // What was lost may have been of interest.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Subject::Hardware,
            Err(error) => return Err(UeventError::Receive(error)),
        };
        if about == Subject::Hardware && events.send(Event::HardwareChanged).await.is_err() {
            return Ok(());
        }
    }
}
