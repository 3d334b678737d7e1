//! The task's stdout and stderr, copied to ours while it runs.

use std::io::Write;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Format, FrameworkId, Master, TaskId};
use crate::advice::{describe, reader_is_gone};
use crate::pump::Pump;

/// After its end, a task's files are given so long to come.
const LAST_BYTES: Duration = Duration::from_secs(10);

/// Both copies.
pub(super) struct Copies {
    sources: Vec<(Pump, Sink)>,
    running: Vec<JoinHandle<()>>,
    over: watch::Sender<bool>,
}

#[derive(Clone, Copy)]
enum Sink {
    Stdout,
    Stderr,
}

impl Sink {
    fn writer(self) -> Box<dyn Write + Send> {
        match self {
            Self::Stdout => Box::new(std::io::stdout()),
            Self::Stderr => Box::new(std::io::stderr()),
        }
    }
}

impl Copies {
    /// Where our stdout is for machines, both copies go to stderr.
    pub(super) fn new(master: &Master, framework: &FrameworkId, task: &TaskId, format: Format) -> Self {
        let stdout = match format {
            Format::Table => Sink::Stdout,
            Format::Json => Sink::Stderr,
        };
        let source = |file| Pump::task(master, framework.as_str(), task.as_str(), file);
        let sources = vec![(source("stdout"), stdout), (source("stderr"), Sink::Stderr)];
        Self { sources, running: Vec::new(), over: watch::Sender::new(false) }
    }

    /// The task has a sandbox. The second time nothing happens.
    pub(super) fn start(&mut self) {
        for (pump, sink) in self.sources.drain(..) {
            self.running.push(tokio::spawn(copy(pump, sink, self.over.subscribe())));
        }
    }

    /// The task is over: what is left of its output is copied.
    pub(super) async fn finish(self) {
        self.over.send_replace(true);
        for copy in self.running {
            // Its own deadlines end it.
            let _ = copy.await;
        }
    }
}

async fn copy(mut pump: Pump, sink: Sink, mut over: watch::Receiver<bool>) {
    let mut writer = sink.writer();
    loop {
        let over_already = *over.borrow_and_update();
        if over_already {
            break;
        }
        tokio::select! {
            followed = pump.follow(&mut writer) => {
                if followed.is_err_and(|error| reader_is_gone(&error)) {
                    return;
                }
            }
            _ = over.changed() => continue,
        }
        // The file ended before the task's end was told, or it was too early for it.
        let _ = timeout(Duration::from_millis(200), over.changed()).await;
    }
    // Everything was written before the exit was reported.
    let problem = match timeout(LAST_BYTES, pump.rest(&mut writer)).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) if reader_is_gone(&error) => return,
        Ok(Err(error)) => describe(&error).0,
        Err(_) => format!("nothing came within {} s", LAST_BYTES.as_secs()),
    };
    eprintln!("mesolith: the end of the task's output may be missing: {problem}");
}
