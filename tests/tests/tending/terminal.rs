//! A terminal with a person in front of it, as far as a program can tell.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::SOON;

/// See above.
pub(super) struct Terminal {
    master: File,
    peer: OwnedFd,
    seen: Arc<Mutex<Vec<u8>>>,
    /// What was waited for already.
    past: usize,
}

impl Terminal {
    pub(super) fn open(rows: u16, columns: u16) -> Self {
        let master = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        let peer = agent_sys::terminal::open_peer(&master).unwrap();
        agent_sys::terminal::set_size(&master, rows, columns).unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut reader, all) = (master.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = reader.read(&mut buffer) {
                all.lock().unwrap().extend_from_slice(&buffer[..length]);
            }
        });
        Self { master, peer, seen, past: 0 }
    }

    pub(super) fn spawn(&self, command: &mut Command) -> Child {
        let twin = || self.peer.as_fd().try_clone_to_owned().unwrap();
        command.stdin(twin()).stdout(twin()).stderr(twin()).spawn().unwrap()
    }

    pub(super) fn say(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    pub(super) fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()[self.past..]).into_owned()
    }

    pub(super) fn sees(&mut self, text: &str, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        loop {
            let found = {
                let seen = self.seen.lock().unwrap();
                let rest = &seen[self.past..];
                rest.windows(text.len())
                    .position(|window| window == text.as_bytes())
                    .map(|at| self.past + at + text.len())
            };
            if let Some(end) = found {
                self.past = end;
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(super) fn wait_for(&mut self, text: &str) {
        assert!(self.sees(text, SOON), "`{text}` does not come: {}", self.seen());
    }

    /// The program is not of the terminal's session, so it is told by hand what the kernel would tell it.
    pub(super) fn resize(&self, rows: u16, columns: u16, program: u32) {
        agent_sys::terminal::set_size(&self.master, rows, columns).unwrap();
        kill(Pid::from_raw(program.cast_signed()), Signal::SIGWINCH).unwrap();
    }
}
