//! The only place that waits for children.

use std::io::ErrorKind;

use agent_core::handover::ExitStatus;
use agent_sys::wait::{Ended, take_ended};

/// Every child that has ended and was not yet seen. Asked at every turn of the loop and not only after SIGCHLD: a
/// signal that came before this program did is not repeated.
pub(crate) fn ended_children() -> Vec<(i32, ExitStatus)> {
    let mut ended = Vec::new();
    loop {
        match take_ended() {
            Ok(Some((pid, Ended::Code(code)))) => ended.push((pid, ExitStatus::Code(code))),
            Ok(Some((pid, Ended::Signal(signal)))) => ended.push((pid, ExitStatus::Signal(signal))),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // None has ended, or there are none.
            Ok(None) | Err(_) => return ended,
        }
    }
}

/// For people: `ended with status 3`, `was killed by signal 9`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("ended with status {code}"),
        ExitStatus::Signal(signal) => format!("was killed by signal {signal}"),
    }
}
