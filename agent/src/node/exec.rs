//! Programs that somebody runs beside a task: their words come and go over the session with the master.

mod attached;
mod session;

use std::collections::BTreeMap;

use api::link::{ExecInput, ExecOutput, FromAgent, OpenExec, exec_input, exec_output, from_agent};
use api::{FrameworkId, TaskId};
use tokio::sync::mpsc;

use super::beside::{Program, Streams};
use super::events::Events;
use super::supervision::Supervision;

/// How many there are on this node at once; one more is refused.
const MOST: usize = 32;
/// Words that wait for one of them: as many as the credit it gives pays for, and some without data. One that gets more
/// is ended.
const WORDS: usize = 5_000;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Sessions(BTreeMap<u64, mpsc::Sender<exec_input::Word>>);

impl Sessions {
    /// Opens one.
    pub(crate) fn open(
        &mut self,
        open: OpenExec,
        supervision: &Supervision,
        out: mpsc::Sender<FromAgent>,
        events: &Events,
    ) {
        self.0.retain(|_, words| !words.is_closed());
        let (framework, task) = (FrameworkId::from(open.framework_id), TaskId::from(open.task_id));
        let program = open.arguments.first().map_or("-", String::as_str);
        tracing::info!(principal = ?open.principal, %framework, %task, ?program, "somebody goes beside a task");
        let voice = Voice { request: open.request, out };
        if self.0.len() >= MOST {
            return voice.refuse(format!("{MOST} programs run beside tasks of this node already"));
        }
        let (sender, words) = mpsc::channel(WORDS);
        if open.arguments.is_empty() {
            let Some((sandbox, _)) = supervision.agent.sandbox(&framework, &task) else {
                return voice.refuse(format!("there is no task `{task}` on this node"));
            };
            let attached = attached::Attached { voice, words, sandbox: sandbox.into(), framework, task };
            tokio::spawn(attached.run(events.clone()));
        } else {
            let Some((container, beside)) = supervision.agent.first_process(&framework, &task) else {
                return voice.refuse(format!("task `{task}` does not run on this node"));
            };
            let size = |number: u32| u16::try_from(number).unwrap_or(u16::MAX);
            let program = Program {
                beside,
                config: supervision.config(&container),
                isolation: supervision.isolation(),
                arguments: open.arguments,
                environment: open.environment.into_iter().map(|variable| (variable.name, variable.value)).collect(),
                streams: match open.terminal {
                    Some(window) => Streams::Terminal(size(window.rows), size(window.columns)),
                    None => Streams::Pipes,
                },
            };
            tokio::spawn(session::run(voice, words, program));
        }
        self.0.insert(open.request, sender);
    }

    /// Passes a word on. Of one that has ended it means nothing.
    pub(crate) fn word(&mut self, input: ExecInput) {
        let Some(word) = input.word else { return };
        let full = self.0.get(&input.request).is_some_and(|words| words.try_send(word).is_err());
        if full {
            // It has ended, or was sent more than it had asked for: it ends with its words.
            self.0.remove(&input.request);
        }
    }

    /// The master is gone, and with it everybody who looked at something.
    pub(crate) fn end(&mut self) {
        self.0.clear();
    }
}

/// Runs a program for somebody on this node. Its words come out of `out`; it ends when nobody has `words` any more.
pub(crate) async fn run_here(program: Program, words: mpsc::Receiver<exec_input::Word>, out: mpsc::Sender<FromAgent>) {
    session::run(Voice { request: 0, out }, words, program).await;
}

/// How one of them speaks.
#[derive(Clone, Debug)]
struct Voice {
    request: u64,
    out: mpsc::Sender<FromAgent>,
}

/// The session with the master has ended.
#[derive(Debug)]
struct Gone;

impl Voice {
    async fn say(&self, word: exec_output::Word) -> Result<(), Gone> {
        self.out.send(self.message(word)).await.map_err(|_| Gone)
    }

    fn message(&self, word: exec_output::Word) -> FromAgent {
        let output = ExecOutput { request: self.request, word: Some(word) };
        FromAgent { message: Some(from_agent::Message::ExecOutput(output)) }
    }

    fn refuse(self, reason: String) {
        tokio::spawn(async move {
            // Nobody is there to hear it.
            let _ = self.say(exec_output::Word::Failed(reason)).await;
        });
    }
}
