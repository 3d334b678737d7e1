//! Containers inside of containers, as Mesos's API has them: programs beside a task or an executor, in its namespaces, its
//! cgroup and its files and as its user, with a name, an output one can attach to, and an end one can wait for.
//!
//! They are this process's: they end with the container they are in, and with the agent.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent_core::handover::ExitStatus;
use api::ContainerId;
use api::exec::{WINDOW, cost};
use api::link::{ExecEnd, WindowSize, exec_end, exec_input, exec_output, from_agent};
use api::v1::ContainerId as WireContainerId;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchown};
use tokio::sync::{Semaphore, mpsc, watch};

use super::picture::spelled;
use crate::node::beside::Program;
use crate::node::exec;

/// On this node at once, those that have ended and were not removed included. One more is refused.
const MOST: usize = 256;
/// Words on their way to one.
const WORDS: usize = 256;
/// Pieces of output that wait for one who has attached. Full: whoever launched it holds it up, whoever came later is let go.
const PIECES: usize = 32;

/// A piece of output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Piece {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

/// Where a nested container is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum State {
    Starting,
    Running,
    Ended(ExitStatus),
    /// It could not be started, or not be waited for.
    Failed(String),
}

impl State {
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Failed(_))
    }
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Nested {
    pub(crate) id: WireContainerId,
    /// The container it is in: a task's or an executor's.
    pub(crate) root: ContainerId,
    state: watch::Receiver<State>,
    words: mpsc::Sender<exec_input::Word>,
    /// Bytes its input has room for.
    room: Arc<Semaphore>,
    attached: Arc<Mutex<Vec<mpsc::Sender<Piece>>>>,
    /// One at a time may write to it.
    input: Mutex<bool>,
}

/// All of them, by their spelled ids.
#[derive(Clone, Debug, Default)]
pub(crate) struct AllNested(Arc<Mutex<BTreeMap<String, Arc<Nested>>>>);

/// What is to be done with its output beside telling those who attach.
#[derive(Debug)]
pub(crate) enum Output {
    /// Into files of its own sandbox.
    Files(Box<[File; 2]>),
    /// To whoever launched it; when they go, it ends.
    Stream(mpsc::Sender<Piece>),
}

/// Why one is not launched.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum NotLaunched {
    /// One is called so already.
    Already,
    TooMany,
}

impl AllNested {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<Nested>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn get(&self, id: &WireContainerId) -> Option<Arc<Nested>> {
        self.lock().get(&spelled(id)).cloned()
    }

    /// Those that run.
    pub(crate) fn running(&self) -> Vec<Arc<Nested>> {
        self.lock().values().filter(|one| !one.state.borrow().is_over()).cloned().collect()
    }

    /// Forgets those whose container is gone.
    pub(crate) fn retain(&self, lives: impl Fn(&ContainerId) -> bool) {
        self.lock().retain(|_, one| !one.state.borrow().is_over() || lives(&one.root));
    }

    /// Removes one that has ended; those that never were are removed already.
    pub(crate) fn remove(&self, id: &WireContainerId) -> bool {
        let mut all = self.lock();
        let id = spelled(id);
        if all.get(&id).is_some_and(|one| !one.state.borrow().is_over()) {
            return false;
        }
        all.remove(&id);
        true
    }

    /// Starts one.
    pub(crate) fn launch(
        &self,
        id: WireContainerId,
        root: ContainerId,
        program: Program,
        output: Output,
    ) -> Result<Arc<Nested>, NotLaunched> {
        let mut all = self.lock();
        let name = spelled(&id);
        if all.contains_key(&name) {
            return Err(NotLaunched::Already);
        }
        if all.len() >= MOST {
            return Err(NotLaunched::TooMany);
        }
        let (words, heard) = mpsc::channel(WORDS);
        let (out, said) = mpsc::channel(PIECES);
        let (tell, state) = watch::channel(State::Starting);
        let room = Arc::new(Semaphore::new(usize::try_from(WINDOW).unwrap_or(usize::MAX >> 4)));
        let attached = Arc::new(Mutex::new(Vec::new()));
        let nested = Arc::new(Nested {
            id,
            root,
            state,
            words: words.clone(),
            room: room.clone(),
            attached: attached.clone(),
            input: Mutex::new(false),
        });
        all.insert(name, nested.clone());
        drop(all);
        tokio::spawn(exec::run_here(program, heard, out));
        tokio::spawn(Pump { said, tell, words, room, attached, output }.run());
        Ok(nested)
    }
}

impl Nested {
    /// How it stands.
    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Waits until it runs, or does not.
    pub(crate) async fn started(&self) -> State {
        let mut state = self.state.clone();
        let reached = state.wait_for(|state| *state != State::Starting).await;
        reached.map_or_else(|_| State::Failed("nobody looked after it".to_owned()), |state| state.clone())
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> State {
        let mut state = self.state.clone();
        let reached = state.wait_for(State::is_over).await;
        reached.map_or_else(|_| State::Failed("nobody waited for it".to_owned()), |state| state.clone())
    }

    /// Its output from now on. Ends with it.
    pub(crate) fn attach(&self) -> mpsc::Receiver<Piece> {
        let (sender, pieces) = mpsc::channel(PIECES);
        if !self.state.borrow().is_over() {
            self.attached.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
        }
        pieces
    }

    pub(crate) async fn signal(&self, signal: i32) -> bool {
        let Ok(signal) = u32::try_from(signal) else { return false };
        self.words.send(exec_input::Word::Signal(signal)).await.is_ok()
    }

    /// Takes its input, until the guard is gone; `None` when somebody has it.
    pub(crate) fn take_input(self: &Arc<Self>) -> Option<InputTaken> {
        let mut taken = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        (!std::mem::replace(&mut *taken, true)).then(|| InputTaken(self.clone()))
    }
}

/// The one who writes to it.
#[derive(Debug)]
pub(crate) struct InputTaken(Arc<Nested>);

impl InputTaken {
    /// Writes; waits while it has no room. False: it has ended.
    pub(crate) async fn write(&self, data: Vec<u8>) -> bool {
        let price = u32::try_from(cost(data.len())).unwrap_or(u32::MAX);
        let Ok(permit) = self.0.room.acquire_many(price).await else { return false };
        permit.forget();
        self.0.words.send(exec_input::Word::Data(data)).await.is_ok()
    }

    /// Nothing follows.
    pub(crate) async fn end(&self) -> bool {
        self.0.words.send(exec_input::Word::End(true)).await.is_ok()
    }

    /// Its terminal is of another size.
    pub(crate) async fn resize(&self, rows: u32, columns: u32) -> bool {
        self.0.words.send(exec_input::Word::Size(WindowSize { rows, columns })).await.is_ok()
    }
}

impl Drop for InputTaken {
    fn drop(&mut self) {
        *self.0.input.lock().unwrap_or_else(PoisonError::into_inner) = false;
    }
}

/// Between the program and those who look at it.
struct Pump {
    said: mpsc::Receiver<api::link::FromAgent>,
    tell: watch::Sender<State>,
    words: mpsc::Sender<exec_input::Word>,
    room: Arc<Semaphore>,
    attached: Arc<Mutex<Vec<mpsc::Sender<Piece>>>>,
    output: Output,
}

impl Pump {
    async fn run(mut self) {
        let mut last = State::Failed("it was given up".to_owned());
        while let Some(word) = self.next().await {
            match word {
                exec_output::Word::Started(_) => {
                    self.tell.send_replace(State::Running);
                }
                exec_output::Word::Stdout(data) => self.pass(Piece::Stdout(data)).await,
                exec_output::Word::Stderr(data) => self.pass(Piece::Stderr(data)).await,
                exec_output::Word::Credit(more) => {
                    self.room.add_permits(usize::try_from(more).unwrap_or(0));
                }
                exec_output::Word::End(ExecEnd { how }) => {
                    last = State::Ended(match how {
                        Some(exec_end::How::Code(code)) => ExitStatus::Code(code),
                        Some(exec_end::How::Signal(signal)) => ExitStatus::Signal(signal),
                        None => ExitStatus::Code(-1),
                    });
                    break;
                }
                exec_output::Word::Failed(reason) => {
                    last = State::Failed(reason);
                    break;
                }
            }
        }
        self.room.close();
        // Those who read see the end after all of it.
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.output = Output::Stream(mpsc::channel(1).0);
        self.tell.send_replace(last);
    }

    /// What the program says next. Whoever launched it for its output alone may go meanwhile: then it ends.
    async fn next(&mut self) -> Option<exec_output::Word> {
        loop {
            let message = match &self.output {
                Output::Stream(listener) => {
                    tokio::select! {
                        message = self.said.recv() => message?,
                        () = listener.closed() => {
                            let _ = self.words.send(exec_input::Word::Close(true)).await;
                            return None;
                        }
                    }
                }
                Output::Files(_) => self.said.recv().await?,
            };
            if let Some(from_agent::Message::ExecOutput(output)) = message.message
                && let Some(word) = output.word
            {
                return Some(word);
            }
        }
    }

    async fn pass(&mut self, piece: Piece) {
        let (Piece::Stdout(data) | Piece::Stderr(data)) = &piece;
        let price = cost(data.len());
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| one.try_send(piece.clone()).is_ok());
        match &mut self.output {
            Output::Files(files) => {
                let (file, data) = match &piece {
                    Piece::Stdout(data) => (&mut files[0], data),
                    Piece::Stderr(data) => (&mut files[1], data),
                };
                if let Err(error) = file.write_all(data) {
                    tracing::warn!(%error, "the output of a nested container is lost");
                }
            }
            Output::Stream(listener) => {
                // Who has gone is noticed with the next word.
                let _ = listener.send(piece).await;
            }
        }
        let _ = self.words.send(exec_input::Word::Credit(price)).await;
    }
}

/// Makes `containers/NAME` in a sandbox with `stdout` and `stderr`, its owner's. The task may have put links anywhere there:
/// none is followed.
pub(crate) fn output_files(sandbox: &Path, name: &str) -> io::Result<[File; 2]> {
    let sandbox = File::open(sandbox)?;
    let about = sandbox.metadata()?;
    let owner = (Some(Uid::from_raw(about.uid())), Some(Gid::from_raw(about.gid())));
    let directory = |parent: &File, name: &str| -> io::Result<File> {
        match mkdirat(parent.as_fd(), name, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let opened = File::from(openat(parent.as_fd(), name, flags, Mode::empty())?);
        fchown(opened.as_fd(), owner.0, owner.1)?;
        Ok(opened)
    };
    let own = directory(&directory(&sandbox, "containers")?, name)?;
    let file = |name: &str| -> io::Result<File> {
        let flags = OFlag::O_CREAT
            | OFlag::O_APPEND
            | OFlag::O_WRONLY
            | OFlag::O_NOFOLLOW
            | OFlag::O_CLOEXEC
            | OFlag::O_NONBLOCK;
        let opened = File::from(openat(own.as_fd(), name, flags, Mode::from_bits_truncate(0o644))?);
        if !opened.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        fchown(opened.as_fd(), owner.0, owner.1)?;
        Ok(opened)
    };
    Ok([file("stdout")?, file("stderr")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_sandbox_is_made_inside_and_follows_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = dir.path().join("sandbox");
        std::fs::create_dir(&sandbox).unwrap();
        let [mut stdout, _] = output_files(&sandbox, "n1").unwrap();
        stdout.write_all(b"x").unwrap();
        assert_eq!(std::fs::read(sandbox.join("containers/n1/stdout")).unwrap(), b"x");
        let elsewhere = dir.path().join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, sandbox.join("containers/n2")).unwrap();
        assert!(output_files(&sandbox, "n2").is_err());
        std::fs::create_dir(sandbox.join("containers/n3")).unwrap();
        std::os::unix::fs::symlink(elsewhere.join("file"), sandbox.join("containers/n3/stdout")).unwrap();
        assert!(output_files(&sandbox, "n3").is_err());
        assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    }
}
