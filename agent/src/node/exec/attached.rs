//! Somebody who looks at what a task writes, from now on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use api::exec::{PIECE, WINDOW, cost};
use api::link::{ExecEnd, exec_end, exec_input, exec_output};
use api::{FrameworkId, TaskId};
use tokio::sync::{mpsc, oneshot};

use super::{Gone, Voice};
use crate::node::events::{Event, Events};
use crate::node::file_reader::open_beneath;

/// How often the files are looked at.
const POLL: Duration = Duration::from_millis(100);

/// One of them.
pub(super) struct Attached {
    pub(super) voice: Voice,
    pub(super) words: mpsc::Receiver<exec_input::Word>,
    pub(super) sandbox: PathBuf,
    pub(super) framework: FrameworkId,
    pub(super) task: TaskId,
}

/// A file and how far it has been told.
struct Growing {
    file: File,
    offset: u64,
}

impl Attached {
    /// Until the task ends or nobody looks any more.
    pub(super) async fn run(mut self, events: Events) {
        let open = |name: &str| {
            let file = open_beneath(&self.sandbox, name)?;
            let offset = file.metadata()?.len();
            std::io::Result::Ok(Growing { file, offset })
        };
        match (open("stdout"), open("stderr")) {
            (Ok(stdout), Ok(stderr)) => {
                // Whoever looked has gone.
                let _ = self.tell([stdout, stderr], &events).await;
            }
            (Err(error), _) | (_, Err(error)) => self.voice.refuse(format!("the task's output is not there: {error}")),
        }
    }

    async fn tell(&mut self, mut files: [Growing; 2], events: &Events) -> Result<(), Gone> {
        self.voice.say(exec_output::Word::Started(true)).await?;
        let mut credit = WINDOW;
        let mut buffer = vec![0; PIECE];
        // Asked before the last look, so that nothing written before the end is missed.
        let mut last = false;
        loop {
            let mut told = false;
            for (number, growing) in files.iter_mut().enumerate() {
                let room = usize::try_from(credit.saturating_sub(cost(0))).unwrap_or(usize::MAX).min(PIECE);
                let length = growing.file.read_at(&mut buffer[..room], growing.offset).unwrap_or(0);
                if length == 0 {
                    continue;
                }
                growing.offset += length as u64;
                credit = credit.saturating_sub(cost(length));
                let data = buffer[..length].to_vec();
                let word = if number == 0 { exec_output::Word::Stdout(data) } else { exec_output::Word::Stderr(data) };
                self.voice.say(word).await?;
                told = true;
            }
            if last && !told && credit > cost(0) {
                let end = ExecEnd { how: Some(exec_end::How::Code(0)) };
                return self.voice.say(exec_output::Word::End(end)).await;
            }
            let wait = if told { Duration::ZERO } else { POLL };
            tokio::select! {
                word = self.words.recv() => match word {
                    Some(exec_input::Word::Credit(more)) => credit = credit.saturating_add(more).min(WINDOW),
                    None | Some(exec_input::Word::Close(_)) => return Err(Gone),
                    // Its input is nothing, and it has no terminal.
                    Some(
                        exec_input::Word::Data(_)
                        | exec_input::Word::End(_)
                        | exec_input::Word::Size(_)
                        | exec_input::Word::Signal(_),
                    ) => {}
                },
                () = tokio::time::sleep(wait) => if !told && !last {
                    let (reply, answer) = oneshot::channel();
                    let event =
                        Event::IsLive { framework: self.framework.clone(), task: self.task.clone(), reply };
                    last = events.send(event).await.is_err() || !answer.await.unwrap_or(false);
                },
            }
        }
    }
}
