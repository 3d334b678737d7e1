//! Signals by number: `nix` knows none of the real-time ones.

use std::io;

/// Sends a signal to one process.
///
/// # Errors
/// What `kill(2)` says; `EINVAL` for a pid that would mean a group or everybody.
pub fn send(pid: i32, signal: i32) -> io::Result<()> {
    if pid <= 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    let result = unsafe { libc::kill(pid, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sends a signal to a process group.
///
/// # Errors
/// What `kill(2)` says; `EINVAL` for a number that would mean our own group or everybody.
pub fn send_to_group(group: i32, signal: i32) -> io::Result<()> {
    if group <= 1 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: kill(2) takes two integers and touches no memory of ours.
    let result = unsafe { libc::kill(-group, signal) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Lets a closed pipe end this process again, as programs expect: Rust's own start ignores the signal, and a program that
/// is executed inherits that.
///
/// # Errors
/// What `signal(2)` says.
pub fn restore_pipe() -> io::Result<()> {
    // SAFETY: the default action runs no code of ours.
    let result = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    if result == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_no_process_is_refused_before_it_hits_everybody() {
        let own = i32::try_from(std::process::id()).unwrap();
        send(own, 0).unwrap();
        for (pid, signal, errno) in [(0, 0, libc::EINVAL), (-1, 0, libc::EINVAL), (own, 1000, libc::EINVAL)] {
            assert_eq!(send(pid, signal).unwrap_err().raw_os_error(), Some(errno));
        }
    }
}
