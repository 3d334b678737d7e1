//! The pretended tasks of one agent, and the updates nobody has acknowledged yet. No IO: time is an argument.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use api::link::{TaskReport, from_agent};
use api::{ContainerId, FrameworkId, TaskId, TaskState};

use super::script::Script;
use super::words::{self, Launch, Told, Update};

/// An update is repeated after so long without acknowledgement.
const RETRY: Duration = Duration::from_secs(10);

/// Framework and task.
type Key = (String, String);

struct Run {
    container: String,
    killing: bool,
    /// The latest, told or not.
    state: TaskState,
    /// The first one was sent and waits for its acknowledgement.
    updates: VecDeque<Update>,
    /// How it ends by itself.
    script: Script,
}

/// See the module.
pub(super) struct Runs {
    told: Told,
    runs: BTreeMap<Key, Run>,
    /// What happens when: tasks that end, updates that are repeated. An entry whose task is gone means nothing.
    agenda: BTreeMap<(Instant, u64), (Key, Due)>,
    /// Distinguishes agenda entries of one moment, and makes uuids.
    counter: u64,
    seed: u64,
}

#[derive(Clone, Copy)]
enum Due {
    End,
    /// If the update of this uuid is still the first.
    Repeat([u8; 16]),
}

impl Runs {
    pub(super) fn new(told: Told, seed: u64) -> Self {
        Self { told, runs: BTreeMap::new(), agenda: BTreeMap::new(), counter: 0, seed }
    }

    /// When [`due`](Self::due) wants to be called.
    pub(super) fn next(&self) -> Option<Instant> {
        self.agenda.keys().next().map(|(at, _)| *at)
    }

    /// The node starts anew.
    pub(super) fn clear(&mut self) {
        self.runs.clear();
        self.agenda.clear();
    }

    pub(super) fn launch(&mut self, launch: Launch, now: Instant, out: &mut Vec<from_agent::Message>) {
        let key = (launch.framework, launch.task);
        if self.runs.get(&key).is_some_and(|run| run.container == launch.container) {
            return; // a repeated word
        }
        let run = Run {
            container: launch.container,
            killing: launch.killing,
            state: TaskState::Staging,
            updates: VecDeque::new(),
            script: launch.script.clone(),
        };
        self.runs.insert(key.clone(), run);
        if self.told == Told::StartingAndRunning {
            self.tell(&key, TaskState::Starting, None, None, now, out);
        }
        match launch.script {
            Script::Fail { reason, message } => {
                self.tell(&key, TaskState::Failed, Some(reason), Some(message), now, out);
            }
            Script::Exit { after, .. } => {
                self.tell(&key, TaskState::Running, None, None, now, out);
                if after.is_zero() {
                    self.exit(&key, now, out);
                } else {
                    self.plan(now + after, key, Due::End);
                }
            }
            Script::UntilKilled => self.tell(&key, TaskState::Running, None, None, now, out),
        }
    }

    pub(super) fn kill(&mut self, key: Key, now: Instant, out: &mut Vec<from_agent::Message>) {
        let Some(run) = self.runs.get(&key).filter(|run| !run.state.is_terminal()) else { return };
        if run.killing {
            self.tell(&key, TaskState::Killing, None, None, now, out);
        }
        let message = "Command terminated with signal Terminated".to_owned();
        self.tell(&key, TaskState::Killed, None, Some(message), now, out);
    }

    pub(super) fn shutdown(&mut self, framework: &str) {
        self.runs.retain(|(of, _), _| of != framework);
    }

    pub(super) fn acknowledge(&mut self, key: &Key, uuid: &[u8], now: Instant, out: &mut Vec<from_agent::Message>) {
        let Some(run) = self.runs.get_mut(key) else { return };
        if run.updates.front().is_none_or(|first| first.uuid != uuid) {
            return;
        }
        let acknowledged = run.updates.pop_front();
        if acknowledged.is_some_and(|update| update.state.is_terminal()) {
            self.runs.remove(key);
        } else {
            self.send(key, now, out);
        }
    }

    /// Does what the agenda has up to now.
    pub(super) fn due(&mut self, now: Instant, out: &mut Vec<from_agent::Message>) {
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let (key, due) = entry.remove();
            match due {
                Due::End => self.exit(&key, now, out),
                Due::Repeat(uuid) => {
                    let first = self.runs.get(&key).and_then(|run| run.updates.front());
                    if first.is_some_and(|first| first.uuid == uuid) {
                        self.send(&key, now, out);
                    }
                }
            }
        }
    }

    /// Every unacknowledged update once more: the connection is a new one.
    pub(super) fn repeat_all(&mut self, now: Instant, out: &mut Vec<from_agent::Message>) {
        let keys: Vec<Key> = self.runs.keys().cloned().collect();
        keys.iter().for_each(|key| self.send(key, now, out));
    }

    /// For a registration.
    pub(super) fn reports(&self) -> Vec<TaskReport> {
        let report = |((framework, task), run): (&Key, &Run)| TaskReport {
            framework_id: framework.clone(),
            task_id: task.clone(),
            container_id: run.container.clone(),
            state: run.state.name().to_owned(),
        };
        self.runs.iter().map(report).collect()
    }

    /// Of the same, for an agent that returns.
    pub(super) fn digest(&self) -> [u8; 32] {
        let ids = |((framework, task), run): (&Key, &Run)| {
            let (framework, task) = (FrameworkId::from(framework.as_str()), TaskId::from(task.as_str()));
            (framework, task, ContainerId::from(run.container.as_str()), run.state)
        };
        let ids: Vec<_> = self.runs.iter().map(ids).collect();
        api::tasks_digest(ids.iter().map(|(framework, task, container, state)| (framework, task, container, *state)))
    }

    fn exit(&mut self, key: &Key, now: Instant, out: &mut Vec<from_agent::Message>) {
        let Some(run) = self.runs.get(key).filter(|run| !run.state.is_terminal()) else { return };
        let Script::Exit { status, .. } = run.script else { return };
        let state = if status == 0 { TaskState::Finished } else { TaskState::Failed };
        let reason = (status != 0).then(|| "REASON_COMMAND_EXECUTOR_FAILED".to_owned());
        self.tell(key, state, reason, Some(format!("Command exited with status {status}")), now, out);
    }

    fn tell(
        &mut self,
        key: &Key,
        state: TaskState,
        reason: Option<String>,
        message: Option<String>,
        now: Instant,
        out: &mut Vec<from_agent::Message>,
    ) {
        let uuid = self.uuid();
        let Some(run) = self.runs.get_mut(key) else { return };
        run.state = state;
        run.updates.push_back(Update { state, reason, message, uuid });
        if run.updates.len() == 1 {
            self.send(key, now, out);
        }
    }

    /// Sends the first update of a task, and plans to do so again.
    fn send(&mut self, key: &Key, now: Instant, out: &mut Vec<from_agent::Message>) {
        let Some((run, first)) = self.runs.get(key).and_then(|run| Some((run, run.updates.front()?))) else { return };
        out.push(words::update(&key.0, &key.1, &run.container, first, run.state));
        let uuid = first.uuid;
        self.plan(now + RETRY, key.clone(), Due::Repeat(uuid));
    }

    fn plan(&mut self, at: Instant, key: Key, due: Due) {
        self.counter += 1;
        self.agenda.insert((at, self.counter), (key, due));
    }

    /// Unlike any other of this process: they need not be hard to guess.
    fn uuid(&mut self) -> [u8; 16] {
        self.counter += 1;
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&self.seed.to_be_bytes());
        uuid[8..].copy_from_slice(&self.counter.to_be_bytes());
        (uuid[6], uuid[8]) = (uuid[6] & 0x0f | 0x40, uuid[8] & 0x3f | 0x80); // RFC 9562, version 4
        uuid
    }
}

#[cfg(test)]
mod tests {
    use api::link::from_agent::Message;

    use super::*;

    fn key() -> Key {
        ("f".to_owned(), "t".to_owned())
    }

    fn launch(command: &str) -> Launch {
        let (framework, task) = key();
        Launch { framework, task, container: "c".to_owned(), script: Script::of(command), killing: false }
    }

    fn uuid_of(runs: &Runs) -> [u8; 16] {
        runs.runs[&key()].updates[0].uuid
    }

    #[test]
    fn the_next_update_waits_for_the_acknowledgement_of_the_one_before() {
        let (now, mut out) = (Instant::now(), Vec::new());
        let mut runs = Runs::new(Told::Running, 1);
        runs.launch(launch("exit 3"), now, &mut out);
        assert_eq!(out.len(), 1, "RUNNING");
        let Message::Update(first) = &out[0] else { panic!("an update") };
        assert_eq!(first.latest_state, "TASK_RUNNING");
        out.clear();
        runs.due(now + RETRY, &mut out);
        assert_eq!(out.len(), 1, "repeated");
        let uuid = uuid_of(&runs);
        runs.acknowledge(&key(), &[0; 16], now, &mut out);
        assert_eq!(out.len(), 1, "another's acknowledgement means nothing");
        runs.acknowledge(&key(), &uuid, now, &mut out);
        let Message::Update(last) = &out[1] else { panic!("an update") };
        assert_eq!(last.latest_state, "TASK_FAILED");
        let uuid = uuid_of(&runs);
        runs.acknowledge(&key(), &uuid, now, &mut out);
        assert!(runs.reports().is_empty() && out.len() == 2);
    }

    #[test]
    fn a_kill_ends_what_runs_and_a_delay_ends_by_itself() {
        let (now, mut out) = (Instant::now(), Vec::new());
        let mut runs = Runs::new(Told::Running, 1);
        runs.launch(launch("cat"), now, &mut out);
        runs.kill(key(), now, &mut out);
        assert_eq!(runs.reports()[0].state, "TASK_KILLED");
        runs.clear();
        runs.launch(launch("sleep 2"), now, &mut out);
        runs.due(now + Duration::from_secs(1), &mut out);
        assert_eq!(runs.reports()[0].state, "TASK_RUNNING");
        runs.due(now + Duration::from_secs(2), &mut out);
        assert_eq!(runs.reports()[0].state, "TASK_FINISHED");
    }
}
