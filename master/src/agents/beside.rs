//! What people do beside tasks, on one agent's connection: programs that run there, and directories that are listed.

use std::collections::BTreeMap;

use api::exec::LONGEST;
use api::link::exec_output::Word;
use api::link::from_master::Message as FromMaster;
use api::link::{self, FileEntry, SandboxFile, exec_input};
use tokio::sync::{mpsc, oneshot};

/// Programs beside the tasks of one agent at once.
const EXECS_PER_AGENT: usize = 32;
/// Words that wait for whoever runs a program: as many as the credit it gives pays for, and some without data. An agent
/// that sends more is not obeying it.
pub const WORDS_CAPACITY: usize = 5_000;
/// Directories of one agent's tasks that are being listed.
const LISTS_PER_AGENT: usize = 16;

/// A program somebody wants to run beside a task.
#[derive(Debug)]
pub struct Exec {
    /// What, where and for whom. The number is chosen by [`next_read`](super::next_read).
    pub open: link::OpenExec,
    /// Where its words go.
    pub words: mpsc::Sender<Word>,
}

/// A directory somebody wants to see.
#[derive(Debug)]
pub struct List {
    /// Chosen by [`next_read`](super::next_read).
    pub request: u64,
    /// Which.
    pub of: SandboxFile,
    /// Where the answer goes: the entries and whether there are more, or why not.
    pub reply: oneshot::Sender<Listed>,
}

/// See [`List::reply`].
pub type Listed = Result<(Vec<FileEntry>, bool), String>;

/// All of one connection.
#[derive(Debug, Default)]
pub(super) struct Beside {
    execs: BTreeMap<u64, mpsc::Sender<Word>>,
    lists: BTreeMap<u64, oneshot::Sender<Listed>>,
}

impl Beside {
    pub(super) fn open(&mut self, exec: Exec) -> Option<FromMaster> {
        self.execs.retain(|_, words| !words.is_closed());
        if self.execs.len() >= EXECS_PER_AGENT {
            let text = format!("{EXECS_PER_AGENT} programs run beside tasks of this node already: try again");
            // Who has gone does not mind.
            drop(exec.words.try_send(Word::Failed(text)));
            return None;
        }
        self.execs.insert(exec.open.request, exec.words);
        Some(FromMaster::OpenExec(exec.open))
    }

    pub(super) fn input(&mut self, input: link::ExecInput) -> Option<FromMaster> {
        if matches!(input.word, Some(exec_input::Word::Close(_))) {
            self.execs.remove(&input.request);
        }
        Some(FromMaster::ExecInput(input))
    }

    pub(super) fn list(&mut self, list: List) -> Option<FromMaster> {
        self.lists.retain(|_, reply| !reply.is_closed());
        if self.lists.len() >= LISTS_PER_AGENT {
            drop(list.reply.send(Err("too many directories of this node are being listed: try again".to_owned())));
            return None;
        }
        self.lists.insert(list.request, list.reply);
        Some(FromMaster::ListFiles(link::ListFiles { request: list.request, sandbox: Some(list.of) }))
    }

    /// Takes a program's word. Of one nobody listens to any more the agent is told so.
    pub(super) fn output(&mut self, output: link::ExecOutput) -> Option<FromMaster> {
        let word = output.word?;
        let words = self.execs.get(&output.request)?;
        let too_long = match &word {
            Word::Stdout(data) | Word::Stderr(data) => data.len() > LONGEST,
            Word::Failed(text) => text.len() > LONGEST,
            Word::Started(_) | Word::Credit(_) | Word::End(_) => false,
        };
        let last = matches!(word, Word::End(_) | Word::Failed(_));
        let taken = !too_long && words.try_send(word).is_ok();
        if last || !taken {
            self.execs.remove(&output.request);
        }
        let close = link::ExecInput { request: output.request, word: Some(exec_input::Word::Close(true)) };
        (!last && !taken).then_some(FromMaster::ExecInput(close))
    }

    pub(super) fn listed(&mut self, list: link::FileList) {
        let Some(reply) = self.lists.remove(&list.request) else { return };
        let answer = if list.error.is_empty() { Ok((list.entries, list.more)) } else { Err(list.error) };
        // Who has gone does not mind.
        drop(reply.send(answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(request: u64, word: Word) -> link::ExecOutput {
        link::ExecOutput { request, word: Some(word) }
    }

    #[test]
    fn a_program_nobody_listens_to_is_closed_and_one_that_says_too_much_too() {
        let mut beside = Beside::default();
        let open = |request| link::OpenExec { request, ..link::OpenExec::default() };
        let (words, mut heard) = mpsc::channel(2);
        assert!(beside.open(Exec { open: open(1), words }).is_some());
        assert!(beside.output(output(1, Word::Started(true))).is_none());
        assert!(beside.output(output(2, Word::Started(true))).is_none(), "of nobody's");
        assert!(beside.output(output(1, Word::Stdout(vec![1]))).is_none());
        assert!(beside.output(output(1, Word::Stdout(vec![2]))).is_some(), "the queue is full");
        assert_eq!(heard.try_recv().unwrap(), Word::Started(true));
        let (words, heard) = mpsc::channel(2);
        beside.open(Exec { open: open(3), words });
        drop(heard);
        assert!(beside.output(output(3, Word::Stdout(vec![1]))).is_some());
        let (words, _heard) = mpsc::channel(2);
        beside.open(Exec { open: open(4), words });
        assert!(beside.output(output(4, Word::Stdout(vec![0; LONGEST + 1]))).is_some());
    }
}
