//! `mesolith exec TASK -- COMMAND` and `mesolith attach TASK`: at a task's side, through the master.

mod console;

use std::io::{Read, Write};

use anyhow::{Context, Result};
use api::exec::{Decoder, Open, PIECE, Word};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::advice::advise;
use crate::cluster::State;
use crate::master::{Master, segment};
use crate::options::{Attach, Exec};
use console::Console;

/// Pieces of our input that wait to be sent; the thread that reads waits then, too.
const PIECES: usize = 4;

type Sender = WriteHalf<TokioIo<Upgraded>>;
type Receiver = ReadHalf<TokioIo<Upgraded>>;

/// Runs a program beside a task; gives its exit status.
pub(crate) async fn exec(master: &Master, what: &Exec) -> Result<u8> {
    let console = match what.tty {
        true => Some(Console::open().map_err(|error| {
            advise(format!("--tty takes a terminal, and standard input is none ({error})"), "leave --tty out")
        })?),
        false => None,
    };
    let terminal = console.as_ref().map(Console::size);
    let environment = what.env.iter().map(|variable| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        (name.to_owned(), value.to_owned())
    });
    let mut environment: Vec<(String, String)> = environment.collect();
    if let (Some(_), Ok(term)) = (&console, std::env::var("TERM")) {
        environment.insert(0, ("TERM".to_owned(), term));
    }
    let open = Open { arguments: what.command.clone(), environment, terminal };
    let stream = enter(master, &what.task, open).await?;
    let input = if what.interactive { Input::Ours } else { Input::Nothing };
    converse(stream, input, console).await
}

/// Shows what a task writes from now on, until it ends.
pub(crate) async fn attach(master: &Master, what: &Attach) -> Result<u8> {
    let stream = enter(master, &what.task, Open::default()).await?;
    converse(stream, Input::Detached, None).await
}

async fn enter(master: &Master, task: &str, open: Open) -> Result<TokioIo<Upgraded>> {
    let state = State::read(master).await?;
    let Some(found) = state.find_task(task)? else {
        return Err(advise(format!("no task is called `{task}`"), "`mesolith tasks` lists those that run"));
    };
    let path = format!("/mesolith/v1/tasks/{}/{}/exec", segment(&found.framework_id), segment(&found.id));
    let mut stream = master.upgrade(&path, api::exec::UPGRADE).await?;
    stream.write_all(&Word::Open(open).encode()).await.context("the master has gone")?;
    stream.flush().await.context("the master has gone")?;
    Ok(stream)
}

/// What the program gets to read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Input {
    /// What we read.
    Ours,
    /// The end at once.
    Nothing,
    /// There is no program of ours: signals are for us alone.
    Detached,
}

/// What happens on our side.
struct Ours {
    input: mpsc::Receiver<Vec<u8>>,
    resized: Signal,
    interrupted: Signal,
    terminated: Signal,
}

async fn converse(stream: TokioIo<Upgraded>, input: Input, console: Option<Console>) -> Result<u8> {
    let (reader, mut writer) = tokio::io::split(stream);
    let sizes = console.as_ref().map(Console::twin).transpose()?;
    let on = |kind| signal(kind).context("cannot hear signals");
    let ours = Ours {
        input: if input == Input::Ours { read_stdin() } else { mpsc::channel(1).1 },
        resized: on(SignalKind::window_change())?,
        interrupted: on(SignalKind::interrupt())?,
        terminated: on(SignalKind::terminate())?,
    };
    let speaking = async {
        if input == Input::Detached {
            std::future::pending::<()>().await;
        }
        // The master has gone: whoever listens will see it.
        let _ = speak(&mut writer, ours, sizes).await;
        std::future::pending::<()>().await;
    };
    tokio::select! {
        code = listen(reader) => code,
        () = speaking => Ok(0),
    }
}

async fn speak(writer: &mut Sender, mut ours: Ours, console: Option<Console>) -> std::io::Result<()> {
    let mut reads = true;
    loop {
        let word = tokio::select! {
            piece = ours.input.recv(), if reads => match piece {
                Some(data) => Word::Data(data),
                None => {
                    reads = false;
                    Word::End
                }
            },
            _ = ours.resized.recv() => match &console {
                Some(console) => { let (rows, columns) = console.size(); Word::Size(rows, columns) }
                None => continue,
            },
            // With a terminal these come as bytes.
            _ = ours.interrupted.recv() => Word::Signal(2),
            _ = ours.terminated.recv() => Word::Signal(15),
        };
        writer.write_all(&word.encode()).await?;
        writer.flush().await?;
    }
}

async fn listen(mut reader: Receiver) -> Result<u8> {
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; PIECE];
    let (mut stdout, mut stderr) = (std::io::stdout(), std::io::stderr());
    loop {
        while let Some(word) = decoder.pop().context("the master speaks another version of this")? {
            match word {
                Word::Stdout(data) => {
                    stdout.write_all(&data)?;
                    stdout.flush()?;
                }
                Word::Stderr(data) => stderr.write_all(&data)?,
                Word::Ended(how) => return Ok(how.code()),
                Word::Failed(reason) => {
                    return Err(advise(
                        reason,
                        "`mesolith tasks` shows whether the task runs, and `mesolith logs` what it says",
                    ));
                }
                Word::Started | Word::Open(_) | Word::Data(_) | Word::End | Word::Size(..) | Word::Signal(_) => {}
            }
        }
        let length = reader.read(&mut buffer).await.context("the connection to the master broke")?;
        if length == 0 {
            return Err(advise("the master has closed the connection", "it may have lost its leadership: try again"));
        }
        decoder.push(&buffer[..length]);
    }
}

/// A thread of its own: reading standard input cannot be given up.
fn read_stdin() -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel(PIECES);
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin();
        let mut buffer = vec![0; PIECE];
        while let Ok(length) = stdin.read(&mut buffer) {
            if length == 0 || sender.blocking_send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    receiver
}
