//! One program beside a task: between its streams and the master, never more on the way than either side has room for.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use agent_core::handover::ExitStatus;
use api::exec::{PIECE, WINDOW, cost};
use api::link::{ExecEnd, exec_end, exec_input, exec_output};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::Voice;
use crate::logging::chain;
use crate::node::beside::{self, Io, Program, Started};

/// What the program has left behind may hold its streams open: after its end this long without a byte is the end.
const SILENCE: Duration = Duration::from_millis(300);
/// The same while the other side does not take what there is.
const UNREAD: Duration = Duration::from_secs(60);
/// End of transmission: how a terminal is told that its input has ended.
const EOT: u8 = 4;

/// Runs it to its end.
pub(super) async fn run(voice: Voice, words: mpsc::Receiver<exec_input::Word>, program: Program) {
    let started = match beside::start(program).await {
        Ok(started) => started,
        Err(error) => return voice.refuse(chain(&error)),
    };
    let pid = started.pid;
    let outcome = match Session::new(voice.clone(), words, started) {
        Ok(session) => session.run().await,
        Err(error) => {
            beside::kill(pid);
            Err(Ending::Failed(error.to_string()))
        }
    };
    let word = match outcome {
        Ok(ExitStatus::Code(code)) => exec_output::Word::End(ExecEnd { how: Some(exec_end::How::Code(code)) }),
        Ok(ExitStatus::Signal(signal)) => exec_output::Word::End(ExecEnd { how: Some(exec_end::How::Signal(signal)) }),
        Err(Ending::Left) => return,
        Err(Ending::Failed(reason)) => exec_output::Word::Failed(reason),
    };
    // Nobody is there to hear it.
    let _ = voice.say(word).await;
}

/// Why a session ends before its program.
enum Ending {
    /// Nobody is there any more.
    Left,
    /// It cannot go on.
    Failed(String),
}

/// One end of a stream.
type End = AsyncFd<File>;

/// Input that waits to be written, with what its word cost.
struct Piece {
    data: Vec<u8>,
    written: usize,
    cost: u64,
}

struct Session {
    voice: Voice,
    words: mpsc::Receiver<exec_input::Word>,
    pid: i32,
    ended: oneshot::Receiver<ExitStatus>,
    /// How it ended, once that was told.
    status: Option<ExitStatus>,
    /// The terminal is both.
    input: Option<End>,
    terminal: bool,
    output: Option<End>,
    errors: Option<End>,
    waiting: VecDeque<Piece>,
    /// Together.
    waiting_cost: u64,
    /// Nothing comes after what waits.
    input_ends: bool,
    /// What the other side still takes.
    credit: u64,
}

impl Session {
    fn new(voice: Voice, words: mpsc::Receiver<exec_input::Word>, started: Started) -> io::Result<Self> {
        let (input, output, errors, terminal) = match started.io {
            Io::Nowhere => (None, None, None, false),
            Io::Pipes { stdin, stdout, stderr } => (Some(end(stdin)?), Some(end(stdout)?), Some(end(stderr)?), false),
            Io::Terminal(master) => {
                let twin = master.try_clone()?;
                (Some(end(twin)?), Some(end(master)?), None, true)
            }
        };
        let (pid, ended) = (started.pid, started.ended);
        let waiting = VecDeque::new();
        let (waiting_cost, input_ends, credit) = (0, false, WINDOW);
        Ok(Self {
            voice,
            words,
            pid,
            ended,
            status: None,
            input,
            terminal,
            output,
            errors,
            waiting,
            waiting_cost,
            input_ends,
            credit,
        })
    }

    async fn run(mut self) -> Result<ExitStatus, Ending> {
        self.tell(exec_output::Word::Started(true)).await?;
        let mut buffer = vec![0; PIECE];
        let mut heard = Instant::now();
        loop {
            if let Some(status) = self.status
                && self.output.is_none()
                && self.errors.is_none()
            {
                return Ok(status);
            }
            let room = usize::try_from(self.credit.saturating_sub(cost(0))).unwrap_or(usize::MAX).min(PIECE);
            let patience = heard + if room > 0 { SILENCE } else { UNREAD };
            tokio::select! {
                word = self.words.recv() => self.hear(word.ok_or(Ending::Left)?)?,
                read = read(self.output.as_ref(), &mut buffer[..room]), if room > 0 && self.output.is_some() => {
                    heard = Instant::now();
                    match read {
                        0 => self.output = None,
                        length => self.say(exec_output::Word::Stdout(buffer[..length].to_vec()), length).await?,
                    }
                }
                read = self::read_errors(self.errors.as_ref(), room), if room > 0 && self.errors.is_some() => {
                    heard = Instant::now();
                    if read.is_empty() {
                        self.errors = None;
                    } else {
                        let length = read.len();
                        self.say(exec_output::Word::Stderr(read), length).await?;
                    }
                }
                written = write(self.input.as_ref(), self.waiting.front()), if !self.waiting.is_empty() => {
                    self.wrote(written).await?;
                }
                ended = &mut self.ended, if self.status.is_none() => {
                    self.status = Some(ended.map_err(|_| Ending::Failed("nobody waited for it".to_owned()))?);
                    heard = Instant::now();
                }
                () = sleep_until(patience), if self.status.is_some() => {
                    (self.output, self.errors) = (None, None);
                }
            }
        }
    }

    async fn say(&mut self, word: exec_output::Word, length: usize) -> Result<(), Ending> {
        self.credit = self.credit.saturating_sub(cost(length));
        self.tell(word).await
    }

    /// Says it, and hears while the other side has no room for it: who does not listen could not end it otherwise.
    async fn tell(&mut self, word: exec_output::Word) -> Result<(), Ending> {
        let message = self.voice.message(word);
        let out = self.voice.out.clone();
        loop {
            tokio::select! {
                permit = out.reserve() => {
                    permit.map_err(|_| Ending::Left)?.send(message);
                    return Ok(());
                }
                word = self.words.recv() => self.hear(word.ok_or(Ending::Left)?)?,
            }
        }
    }

    fn hear(&mut self, word: exec_input::Word) -> Result<(), Ending> {
        match word {
            exec_input::Word::Data(data) => {
                let cost = cost(data.len());
                self.waiting_cost += cost;
                if self.waiting_cost > WINDOW {
                    return Err(Ending::Failed("more input came than was asked for".to_owned()));
                }
                self.waiting.push_back(Piece { data, written: 0, cost });
            }
            exec_input::Word::End(_) if self.terminal => {
                self.waiting.push_back(Piece { data: vec![EOT], written: 0, cost: 0 });
            }
            exec_input::Word::End(_) => {
                self.input_ends = true;
                self.close_input();
            }
            exec_input::Word::Size(size) => {
                let number = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
                if let Some(terminal) = self.output.as_ref().filter(|_| self.terminal) {
                    // Only how it looks.
                    let _ = agent_sys::terminal::set_size(terminal.get_ref(), number(size.rows), number(size.columns));
                }
            }
            exec_input::Word::Signal(signal) => {
                if let Some(signal) = i32::try_from(signal).ok().filter(|signal| (1..=64).contains(signal)) {
                    // It may not have got to its own group yet; one that has just ended needs none.
                    if agent_sys::signal::send_to_group(self.pid, signal).is_err() {
                        let _ = agent_sys::signal::send(self.pid, signal);
                    }
                }
            }
            exec_input::Word::Credit(credit) => self.credit = self.credit.saturating_add(credit).min(WINDOW),
            exec_input::Word::Close(_) => return Err(Ending::Left),
        }
        Ok(())
    }

    /// So much of the first piece is written; nothing when the program does not read any more.
    async fn wrote(&mut self, length: usize) -> Result<(), Ending> {
        let Some(piece) = self.waiting.front_mut() else { return Ok(()) };
        piece.written += length;
        if length == 0 || piece.written >= piece.data.len() {
            let cost = piece.cost;
            self.waiting.pop_front();
            self.waiting_cost = self.waiting_cost.saturating_sub(cost);
            self.close_input();
            if cost > 0 {
                self.tell(exec_output::Word::Credit(cost)).await?;
            }
        }
        Ok(())
    }

    fn close_input(&mut self) {
        if self.input_ends && self.waiting.is_empty() {
            self.input = None;
        }
    }
}

impl Drop for Session {
    /// Whyever it goes, its program does not stay behind. Its number is its own until its end was told.
    fn drop(&mut self) {
        if self.status.is_none() && self.ended.try_recv().is_err() {
            beside::kill(self.pid);
        }
    }
}

fn end(descriptor: OwnedFd) -> io::Result<End> {
    fcntl(&descriptor, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    // It asks that the descriptor stays the same as long as it is registered. A `File` gives no other, and the call
    // that replaces this one is unsafe.
    #[allow(deprecated)]
    AsyncFd::new(File::from(descriptor))
}

/// Nothing at the end. A terminal whose other side is closed says so with an error.
async fn read(end: Option<&End>, buffer: &mut [u8]) -> usize {
    let Some(end) = end else { return std::future::pending().await };
    end.async_io(tokio::io::Interest::READABLE, |mut file| file.read(buffer)).await.unwrap_or(0)
}

async fn read_errors(end: Option<&End>, room: usize) -> Vec<u8> {
    let mut buffer = vec![0; room.min(4096)];
    let length = read(end, &mut buffer).await;
    buffer.truncate(length);
    buffer
}

async fn write(end: Option<&End>, piece: Option<&Piece>) -> usize {
    // What comes after the end of the input, or of its reader, is as good as written.
    let (Some(end), Some(piece)) = (end, piece) else { return 0 };
    let rest = &piece.data[piece.written..];
    if rest.is_empty() {
        return 0;
    }
    end.async_io(tokio::io::Interest::WRITABLE, |mut file| file.write(rest)).await.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use api::link::{FromAgent, WindowSize};

    use super::*;

    type Ends = (Session, mpsc::Sender<exec_input::Word>, mpsc::Receiver<FromAgent>, oneshot::Sender<ExitStatus>);

    /// A session without streams, with room for one word either way.
    fn session(pid: i32) -> Ends {
        let ((out, said), (sender, words)) = (mpsc::channel(1), mpsc::channel(1));
        let (tell, ended) = oneshot::channel();
        let started = Started { pid, io: Io::Nowhere, ended };
        (Session::new(Voice { request: 0, out }, words, started).unwrap(), sender, said, tell)
    }

    #[tokio::test]
    async fn one_that_cannot_speak_hears() {
        // Signals to this number are refused.
        let (mut session, words, mut said, _tell) = session(0);
        session.voice.out.try_send(FromAgent::default()).unwrap();
        let speaking = session.tell(exec_output::Word::Credit(1));
        let other = async {
            for _ in 0..10 {
                words.send(exec_input::Word::Size(WindowSize { rows: 1, columns: 1 })).await.unwrap();
            }
            said.recv().await.unwrap();
        };
        let both = async { tokio::join!(speaking, other) };
        let (spoken, ()) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
        assert!(spoken.is_ok());
        // Full again: that the other side has gone is heard all the same.
        drop(words);
        let spoken = session.tell(exec_output::Word::Credit(1)).await;
        assert!(matches!(spoken, Err(Ending::Left)));
    }

    #[tokio::test]
    async fn a_program_does_not_outlive_its_session() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let (session, _words, _said, _tell) = session(child.id().cast_signed());
        drop(session);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }
}
