//! Containers inside of containers, as Mesos's API has them: programs beside a task or an executor, in its namespaces, its
//! cgroup and its files and as its user, with a name, an output one can attach to, and an end one can wait for.
//!
//! They are this process's: they end with the container they are in, and with the agent.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use agent_core::handover::ExitStatus;
use api::ContainerId;
use api::exec::{WINDOW, cost};
use api::link::{ExecEnd, WindowSize, exec_end, exec_input, exec_output, from_agent};
use api::v1::ContainerId as WireContainerId;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchown};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{AbortHandle, JoinHandle, spawn_blocking};
use tokio::time::timeout;

use super::picture::spelled;
use crate::node::beside::Program;
use crate::node::{exec, log_cap};

/// On this node at once, those that have ended and were not removed included. For one more one that has ended goes; if
/// none has, it is refused.
const MOST: usize = 256;
/// In one container: nobody takes all of them.
const SHARE: usize = MOST / 4;
/// Words on their way to one.
const WORDS: usize = 256;
/// Pieces of output that wait for one who has attached. Full: whoever launched it holds it up, whoever came later is let go.
const PIECES: usize = 32;
/// Pieces on their way to its files. Full: the program is held up.
const UNWRITTEN: usize = 4;
/// After so much of it a file is looked at, in bytes.
const LOOK: u64 = 1 << 20;
/// Its files have all of it before its end is told, unless their disk takes longer.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);
/// A signal waits so long for one that is just being started.
const SIGNAL_WITHIN: Duration = Duration::from_secs(30);

/// A piece of output.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Piece {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
}

impl Piece {
    fn data(&self) -> &[u8] {
        let (Self::Stdout(data) | Self::Stderr(data)) = self;
        data
    }
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
    /// When it ended.
    over: Arc<OnceLock<Instant>>,
    words: mpsc::Sender<exec_input::Word>,
    /// Ends it past all words.
    kill: Arc<Notify>,
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
        if !make_room(&mut all, &root) {
            return Err(NotLaunched::TooMany);
        }
        let (words, heard) = mpsc::channel(WORDS);
        let (out, said) = mpsc::channel(PIECES);
        let (tell, state) = watch::channel(State::Starting);
        let room = Arc::new(Semaphore::new(usize::try_from(WINDOW).unwrap_or(usize::MAX >> 4)));
        let attached = Arc::new(Mutex::new(Vec::new()));
        let (kill, over) = (Arc::new(Notify::new()), Arc::new(OnceLock::new()));
        let nested = Arc::new(Nested {
            id,
            root,
            state,
            over: over.clone(),
            words: words.clone(),
            kill: kill.clone(),
            room: room.clone(),
            attached: attached.clone(),
            input: Mutex::new(false),
        });
        all.insert(name, nested.clone());
        drop(all);
        let session = tokio::spawn(exec::run_here(program, heard, out)).abort_handle();
        let (sink, writer) = match output {
            Output::Stream(listener) => (listener, None),
            Output::Files(files) => {
                let (sink, pieces) = mpsc::channel(UNWRITTEN);
                (sink, Some(tokio::spawn(Files { files, unseen: [LOOK; 2] }.run(pieces))))
            }
        };
        let (pending, owed) = (VecDeque::new(), 0);
        let pump = Pump { said, tell, over, words, kill, room, attached, session, sink, writer, pending, owed };
        tokio::spawn(pump.run());
        Ok(nested)
    }
}

/// Makes room for one more in this container, if need be by forgetting one that has ended: its own first, and the oldest.
/// False: there is none.
fn make_room(all: &mut BTreeMap<String, Arc<Nested>>, root: &ContainerId) -> bool {
    let own = all.values().filter(|one| one.root == *root).count();
    if own < SHARE && all.len() < MOST {
        return true;
    }
    let ended = all.iter().filter(|(_, one)| one.state.borrow().is_over());
    // What is full is its own share: nobody else's helps.
    let ended = ended.filter(|(_, one)| own < SHARE || one.root == *root);
    let first = ended.min_by_key(|(_, one)| (one.root != *root, one.over.get().copied()));
    let first = first.map(|(name, _)| name.clone());
    first.is_some_and(|name| all.remove(&name).is_some())
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
        // Asked while nobody else can: those who are there when its end is told are let go after it.
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.state.borrow().is_over() {
            attached.push(sender);
        }
        drop(attached);
        pieces
    }

    /// Sends it a signal; false if that cannot be done any more. SIGKILL waits for nothing.
    pub(crate) async fn signal(&self, signal: i32) -> bool {
        let Ok(number) = u32::try_from(signal) else { return false };
        let kills = signal == libc::SIGKILL;
        if kills && *self.state.borrow() == State::Starting {
            self.kill.notify_one();
            return true;
        }
        match self.words.try_send(exec_input::Word::Signal(number)) {
            Ok(()) => true,
            Err(TrySendError::Closed(_)) => false,
            Err(TrySendError::Full(_)) if kills => {
                self.kill.notify_one();
                true
            }
            Err(TrySendError::Full(word)) => {
                timeout(SIGNAL_WITHIN, self.words.send(word)).await.is_ok_and(|sent| sent.is_ok())
            }
        }
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

/// The files its output goes to. None keeps more than the output of a task may.
struct Files {
    files: Box<[File; 2]>,
    /// Bytes since each was looked at. The first look is the first time: one of its name may have been there before.
    unseen: [u64; 2],
}

impl Files {
    /// Writes to the last piece. Disks may be slow: not with a thread others need.
    async fn run(mut self, mut pieces: mpsc::Receiver<Piece>) {
        let mut some = Vec::new();
        while pieces.recv_many(&mut some, UNWRITTEN).await > 0 {
            let batch = std::mem::take(&mut some);
            let writing = spawn_blocking(move || {
                batch.iter().for_each(|piece| self.write(piece, log_cap::most()));
                self
            });
            // It cannot be written any more: the program ends as if nobody listened.
            let Ok(files) = writing.await else { return };
            self = files;
        }
    }

    fn write(&mut self, piece: &Piece, most: u64) {
        let number = match piece {
            Piece::Stdout(_) => 0,
            Piece::Stderr(_) => 1,
        };
        let (file, unseen) = (&mut self.files[number], &mut self.unseen[number]);
        if let Err(error) = file.write_all(piece.data()) {
            tracing::warn!(%error, "the output of a nested container is lost");
        }
        *unseen += piece.data().len() as u64;
        if *unseen >= LOOK {
            *unseen = 0;
            if let Err(error) = log_cap::keep(file, most) {
                tracing::warn!(%error, "the output of a nested container cannot be shortened");
            }
        }
    }
}

/// Between the program and those who look at it. It waits for none of them alone: the program would wait for it, and who
/// speaks to the program for that one.
struct Pump {
    said: mpsc::Receiver<api::link::FromAgent>,
    tell: watch::Sender<State>,
    over: Arc<OnceLock<Instant>>,
    words: mpsc::Sender<exec_input::Word>,
    kill: Arc<Notify>,
    room: Arc<Semaphore>,
    attached: Arc<Mutex<Vec<mpsc::Sender<Piece>>>>,
    /// The program ends with it.
    session: AbortHandle,
    /// Where all of the output goes.
    sink: mpsc::Sender<Piece>,
    /// The other end of the sink, if those are files.
    writer: Option<JoinHandle<()>>,
    /// What the sink has had no room for. Never more than the program has credit for.
    pending: VecDeque<Piece>,
    /// Credit the program gets for what the sink took.
    owed: u64,
}

impl Pump {
    async fn run(mut self) {
        let last = self.until_over().await;
        self.session.abort();
        self.room.close();
        let Self { sink, writer, pending, over, tell, attached, .. } = self;
        let _ = over.set(Instant::now());
        let end = || {
            tell.send_replace(last);
            attached.lock().unwrap_or_else(PoisonError::into_inner).clear();
        };
        let Some(writer) = writer else {
            end();
            // Whoever launched it may be slow; that holds up nobody else. When they go, so does the rest.
            return drain(pending, sink).await;
        };
        let written = async {
            drain(pending, sink).await;
            let _ = writer.await;
        };
        if timeout(WRITTEN_WITHIN, written).await.is_err() {
            tracing::warn!("the end of a nested container's output takes long to be written");
        }
        end();
    }

    /// Passes on what the program says, until its end or somebody else's wish. Whoever launched it for its output alone may
    /// go meanwhile: then it ends.
    async fn until_over(&mut self) -> State {
        let given_up = || State::Failed("it was given up".to_owned());
        loop {
            let message = tokio::select! {
                message = self.said.recv() => message,
                permit = self.words.reserve(), if self.owed > 0 => {
                    let owed = std::mem::take(&mut self.owed);
                    // One that has ended needs none, and what it said is still to come.
                    if let Ok(permit) = permit {
                        permit.send(exec_input::Word::Credit(owed));
                    }
                    continue;
                }
                permit = self.sink.reserve(), if !self.pending.is_empty() => {
                    let Ok(permit) = permit else { return given_up() };
                    if let Some(piece) = self.pending.pop_front() {
                        self.owed += cost(piece.data().len());
                        permit.send(piece);
                    }
                    continue;
                }
                () = self.sink.closed() => return given_up(),
                () = self.kill.notified() => return State::Ended(ExitStatus::Signal(libc::SIGKILL)),
            };
            let Some(message) = message else { return given_up() };
            let Some(from_agent::Message::ExecOutput(output)) = message.message else { continue };
            match output.word {
                Some(exec_output::Word::Started(_)) => {
                    self.tell.send_replace(State::Running);
                }
                Some(exec_output::Word::Stdout(data)) => self.pass(Piece::Stdout(data)),
                Some(exec_output::Word::Stderr(data)) => self.pass(Piece::Stderr(data)),
                Some(exec_output::Word::Credit(more)) => {
                    self.room.add_permits(usize::try_from(more).unwrap_or(0));
                }
                Some(exec_output::Word::End(ExecEnd { how })) => {
                    return State::Ended(match how {
                        Some(exec_end::How::Code(code)) => ExitStatus::Code(code),
                        Some(exec_end::How::Signal(signal)) => ExitStatus::Signal(signal),
                        None => ExitStatus::Code(-1),
                    });
                }
                Some(exec_output::Word::Failed(reason)) => return State::Failed(reason),
                None => {}
            }
        }
    }

    fn pass(&mut self, piece: Piece) {
        self.attached.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| one.try_send(piece.clone()).is_ok());
        self.pending.push_back(piece);
    }
}

/// What is left goes where the rest went.
async fn drain(pending: VecDeque<Piece>, sink: mpsc::Sender<Piece>) {
    for piece in pending {
        if sink.send(piece).await.is_err() {
            return;
        }
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
        let about = opened.metadata()?;
        // A second name could be that of anything.
        if !about.is_file() || about.nlink() != 1 {
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

    fn id(name: &str) -> ContainerId {
        ContainerId::from(name)
    }

    fn nested(root: &str, is: State, over: Option<Instant>) -> Arc<Nested> {
        Arc::new(Nested {
            id: WireContainerId::default(),
            root: id(root),
            state: watch::channel(is).1,
            over: Arc::new(over.map_or_else(OnceLock::new, OnceLock::from)),
            words: mpsc::channel(1).0,
            kill: Arc::default(),
            room: Arc::new(Semaphore::new(0)),
            attached: Arc::default(),
            input: Mutex::new(false),
        })
    }

    #[test]
    fn those_that_have_ended_make_room_and_no_container_has_all() {
        let ended = |root: &str, after: u64| {
            nested(root, State::Ended(ExitStatus::Code(0)), Some(Instant::now() + Duration::from_secs(after)))
        };
        let mut all = BTreeMap::new();
        for number in 0..SHARE {
            all.insert(format!("a{number}"), ended("a", if number == 7 { 0 } else { 100 }));
        }
        assert!(make_room(&mut all, &id("b")) && all.len() == SHARE, "others are not asked");
        assert!(make_room(&mut all, &id("a")));
        assert!(all.len() == SHARE - 1 && !all.contains_key("a7"), "the first goes");
        for number in 0..SHARE {
            all.insert(format!("b{number}"), nested("b", State::Running, None));
        }
        assert!(!make_room(&mut all, &id("b")), "nothing of its own has ended");
        for number in 0..SHARE {
            all.insert(format!("c{number}"), nested("c", State::Running, None));
            all.insert(format!("d{number}"), nested("d", State::Running, None));
        }
        all.insert("a7".to_owned(), ended("a", 0));
        assert_eq!(all.len(), MOST);
        assert!(make_room(&mut all, &id("e")) && !all.contains_key("a7"), "the node is full of those that have ended");
        all.retain(|_, one| *one.state.borrow() == State::Running);
        for number in 0..SHARE {
            all.insert(format!("f{number}"), nested("f", State::Running, None));
        }
        assert!(!make_room(&mut all, &id("e")), "all run");
    }

    #[tokio::test]
    async fn a_program_nobody_hears_and_nobody_listens_to_ends_all_the_same() {
        let within = Duration::from_secs(20);
        let message = |word| api::link::FromAgent {
            message: Some(from_agent::Message::ExecOutput(api::link::ExecOutput { request: 0, word: Some(word) })),
        };
        for killed in [false, true] {
            let ((out, said), (words, mut heard), (sink, mut pieces)) =
                (mpsc::channel(1), mpsc::channel(1), mpsc::channel(1));
            let (tell, state) = watch::channel(State::Running);
            let one = Nested { state, words, ..Arc::into_inner(nested("a", State::Running, None)).unwrap() };
            one.words.try_send(exec_input::Word::End(true)).unwrap();
            let session = tokio::spawn(std::future::pending::<()>());
            let pump = Pump {
                said,
                tell,
                over: one.over.clone(),
                words: one.words.clone(),
                kill: one.kill.clone(),
                room: one.room.clone(),
                attached: one.attached.clone(),
                session: session.abort_handle(),
                sink,
                writer: None,
                pending: VecDeque::new(),
                owed: 0,
            };
            tokio::spawn(pump.run());
            for _ in 0..100 {
                let piece = message(exec_output::Word::Stdout(vec![1]));
                timeout(within, out.send(piece)).await.unwrap().unwrap();
            }
            if killed {
                assert!(timeout(within, one.signal(libc::SIGKILL)).await.unwrap());
                let last = timeout(within, one.ended()).await.unwrap();
                assert_eq!(last, State::Ended(ExitStatus::Signal(libc::SIGKILL)));
                assert!(session.await.unwrap_err().is_cancelled());
                continue;
            }
            heard.recv().await.unwrap();
            let credit = timeout(within, heard.recv()).await.unwrap();
            assert_eq!(credit, Some(exec_input::Word::Credit(cost(1))), "the one piece there was room for");
            let end = ExecEnd { how: Some(exec_end::How::Code(3)) };
            out.send(message(exec_output::Word::End(end))).await.unwrap();
            let last = timeout(within, one.ended()).await.unwrap();
            assert_eq!(last, State::Ended(ExitStatus::Code(3)));
            let mut count = 0;
            while timeout(within, pieces.recv()).await.unwrap().is_some() {
                count += 1;
            }
            assert_eq!(count, 100, "what was said comes all the same");
        }
    }

    #[tokio::test]
    async fn its_files_keep_the_end_of_its_output() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files { files: Box::new(output_files(dir.path(), "n").unwrap()), unseen: [0; 2] };
        for _ in 0..100 {
            files.write(&Piece::Stdout(vec![7; 64 << 10]), 1 << 20);
        }
        let (sink, pieces) = mpsc::channel(UNWRITTEN);
        sink.send(Piece::Stdout(b"the end".to_vec())).await.unwrap();
        drop(sink);
        files.run(pieces).await;
        let path = dir.path().join("containers/n/stdout");
        let about = std::fs::metadata(&path).unwrap();
        assert_eq!(about.len(), (6400 << 10) + 7, "offsets stay");
        assert!(about.blocks() * 512 <= 3 << 20, "{} blocks", about.blocks());
        assert!(std::fs::read(&path).unwrap().ends_with(b"the end"));
    }
}
