//! Hears from the kernel that the machine is another than before: a disk, a card, a processor, memory.

use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::events::{Event, Events};
use crate::devices::uevent::{Subject, UeventError, Uevents};
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
    let socket = AsyncFd::new(Uevents::open()?).map_err(UeventError::Open)?;
    loop {
        let mut ready = socket.readable().await.map_err(UeventError::Receive)?;
        let mut changed = false;
        loop {
            match socket.get_ref().subject() {
                Ok(Some(Subject::Hardware)) => changed = true,
                Ok(Some(Subject::Other)) => {}
                Ok(None) => break,
                // What was lost may have been of interest.
                Err(UeventError::Overrun) => changed = true,
                Err(error @ (UeventError::Open(_) | UeventError::Receive(_))) => return Err(error),
            }
        }
        ready.clear_ready();
        if changed && events.send(Event::HardwareChanged).await.is_err() {
            return Ok(());
        }
    }
}
