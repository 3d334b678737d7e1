//! Our own terminal, while what is typed belongs to somebody else.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

/// A terminal that passes every key on; it becomes what it was when this is dropped.
#[derive(Debug)]
pub(super) struct Console {
    terminal: File,
    before: Option<Termios>,
}

/// Where the size is not known.
const USUAL: (u16, u16) = (24, 80);

impl Console {
    /// That of standard input.
    pub(super) fn open() -> io::Result<Self> {
        let terminal = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let before = tcgetattr(&terminal)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        tcsetattr(&terminal, SetArg::TCSADRAIN, &raw)?;
        Ok(Self { terminal, before: Some(before) })
    }

    /// The same terminal, to ask for its size.
    pub(super) fn twin(&self) -> io::Result<Self> {
        Ok(Self { terminal: self.terminal.try_clone()?, before: None })
    }

    /// Rows and columns.
    pub(super) fn size(&self) -> (u16, u16) {
        agent_sys::terminal::size(&self.terminal)
            .ok()
            .filter(|(rows, columns)| *rows > 0 && *columns > 0)
            .unwrap_or(USUAL)
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            // There is nobody left to tell.
            let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, before);
        }
    }
}
