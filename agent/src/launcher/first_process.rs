//! A container's first process is its PID 1, and the kernel lets PID 1 miss every signal it has no handler for.
//!
//! A task that never heard of this, `sleep` for one, expects what happens elsewhere: SIGTERM ends it. So a signal
//! that would end any other process, and that this one neither handles nor ignores, becomes SIGKILL.

use std::fs;

/// Signals that end nobody by default.
const HARMLESS: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGWINCH,
];

/// Whether a process, being PID 1 of its namespace, would miss a signal that ends others.
pub(super) fn would_miss(pid: i32, signal: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| misses(&status, signal))
}

fn misses(status: &str, signal: i32) -> bool {
    if signal == libc::SIGKILL || HARMLESS.contains(&signal) {
        return false;
    }
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    // The last number is the process's own in the innermost namespace.
    let is_first = field("NSpid:").and_then(|pids| pids.split_whitespace().last()) == Some("1");
    let bit = u32::try_from(signal - 1).ok().and_then(|shift| 1u64.checked_shl(shift));
    let has = |name| {
        let mask = field(name).and_then(|mask| u64::from_str_radix(mask, 16).ok());
        // What cannot be read is taken as handled: the signal is then sent as it is.
        mask.is_none_or(|mask| bit.is_none_or(|bit| mask & bit != 0))
    };
    is_first && !has("SigCgt:") && !has("SigIgn:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_process_without_handler_misses_a_deadly_signal() {
        let status = |nspid: &str, ignored: &str, caught: &str| {
            format!("Name:\tsleep\nNSpid:\t{nspid}\nSigBlk:\t0000000000000000\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n")
        };
        let (none, term) = ("0000000000000000", "0000000000004000");
        for (status, signal, expected) in [
            (status("812\t1", none, none), libc::SIGTERM, true),
            (status("812\t1", none, none), 40, true),
            (status("812\t1", none, none), libc::SIGKILL, false),
            (status("812\t1", none, none), libc::SIGWINCH, false),
            (status("812\t1", none, term), libc::SIGTERM, false),
            (status("812\t1", term, none), libc::SIGTERM, false),
            (status("812", none, none), libc::SIGTERM, false),
            (status("812\t7", none, none), libc::SIGTERM, false),
            (String::new(), libc::SIGTERM, false),
        ] {
            assert_eq!(misses(&status, signal), expected, "{status} {signal}");
        }
    }
}
