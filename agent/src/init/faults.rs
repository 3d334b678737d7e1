//! Faults on demand, for tests of booted nodes: lines on the second serial port, only where the kernel's command line
//! holds [`WORD`].
//!
//! `pids` answers one line `NAME PID` a service; `kill NAME` sends SIGKILL and answers the pid that had it; `hang NAME` stops
//! it and every process that is started in its place; `panic` ends the kernel. Who can
//! write to the machine's serial port and set its command line can do worse, but a node that is not a test says so.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

/// What the kernel's command line must hold.
pub(super) const WORD: &str = "mesolith.insecure_faults";
const LINE: &str = "/dev/ttyS1";
/// A longer line is dropped.
const LONGEST: usize = 256;

/// What a line asks for.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Fault {
    /// The pids of all services.
    Pids,
    /// SIGKILL for the service of that name.
    Kill(String),
    /// SIGSTOP for it, now and after each start.
    Hang(String),
    /// A panic of the kernel.
    Panic,
}

/// The line, and what of it has come so far.
#[derive(Debug)]
pub(super) struct Faults {
    line: File,
    partial: Vec<u8>,
    /// The services that are to hang.
    pub(super) hanging: Vec<String>,
}

impl Faults {
    /// Opens the line if the command line asks for it.
    pub(super) fn open(command_line: &str) -> io::Result<Option<Faults>> {
        if !command_line.split_whitespace().any(|word| word == WORD) {
            return Ok(None);
        }
        let line = OpenOptions::new().read(true).write(true).custom_flags(O_NOCTTY | O_NONBLOCK).open(LINE)?;
        let mut modes = tcgetattr(&line)?;
        cfmakeraw(&mut modes);
        tcsetattr(&line, SetArg::TCSANOW, &modes)?;
        Ok(Some(Faults { line, partial: Vec::new(), hanging: Vec::new() }))
    }

    /// What has been asked since the last call.
    pub(super) fn read(&mut self) -> Vec<Fault> {
        let mut buffer = [0; LONGEST];
        while let Ok(count @ 1..) = self.line.read(&mut buffer) {
            self.partial.extend_from_slice(&buffer[..count]);
        }
        let mut faults = Vec::new();
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            faults.extend(parse(&String::from_utf8_lossy(&line)));
        }
        if self.partial.len() > LONGEST {
            self.partial.clear();
        }
        faults
    }

    /// Answers `NAME PID`. An answer that does not fit the port's buffer is lost: the asker asks again.
    pub(super) fn answer(&mut self, name: &str, pid: i32) {
        let _ = self.line.write_all(format!("{name} {pid}\n").as_bytes());
    }
}

impl AsFd for Faults {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

fn parse(line: &str) -> Option<Fault> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["pids"] => Some(Fault::Pids),
        ["hang", name] => Some(Fault::Hang(name.to_owned())),
        ["panic"] => Some(Fault::Panic),
        ["kill", name] => Some(Fault::Kill(name.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_not_told_so_has_no_line_for_faults() {
        assert!(Faults::open("quiet mesolith.name=a mesolith.insecure_faultsx").unwrap().is_none());
    }

    #[test]
    fn only_what_is_understood_is_done() {
        assert_eq!(parse("pids\r\n"), Some(Fault::Pids));
        assert_eq!(parse("kill agent\n"), Some(Fault::Kill("agent".to_owned())));
        for line in ["", "kill", "kill a b", "reboot", "\u{fffd}"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
