//! Waiting for any child. `nix` cannot say that a child died of a real-time signal and loses it.

use std::io;

/// How a child ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// It called exit(2).
    Code(i32),
    /// A signal killed it; real-time signals have numbers from 34.
    Signal(i32),
}

/// Takes one child that has ended, of whatever kind, without waiting. `None` when none has ended.
///
/// # Errors
/// What `waitpid(2)` says; `ECHILD` when there are no children at all.
pub fn take_ended() -> io::Result<Option<(i32, Ended)>> {
    let mut status = 0;
    // SAFETY: waitpid(2) writes one int, which `status` is. __WALL: some children have no exit signal.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    match pid {
        0 => Ok(None),
        pid if pid < 0 => Err(io::Error::last_os_error()),
        pid if libc::WIFSIGNALED(status) => Ok(Some((pid, Ended::Signal(libc::WTERMSIG(status))))),
        // Without WUNTRACED and WCONTINUED there is nothing else to report.
        pid => Ok(Some((pid, Ended::Code(libc::WEXITSTATUS(status))))),
    }
}
