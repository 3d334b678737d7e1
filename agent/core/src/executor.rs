//! One executor with a process of its own: from its first task to the last word about it (mesos-api 2).
//!
//! ```text
//! Registering ──subscribes──▶ Subscribed ──asked to end──▶ Terminating ──its process ends──▶ Ended ──told──▶ forgotten
//!      └───────── too late, or its process ends: as from Terminating ─────────────────────────▲
//! ```
//! Its process is a run like a task's, and walks through [`crate::container`] beside this. What the process says and is
//! told is in `conversation.rs`.

mod conversation;
mod record;
pub mod validate;

pub use record::{ExecutorRecord, ExecutorTask, Kill, Stage, Termination, Token};

use std::collections::VecDeque;

use api::v1::executor::{Event, event};
use api::v1::network_info::{IpAddress, Protocol};
use api::v1::{ContainerId as WireContainerId, ContainerStatus, NetworkInfo, Reason, Source, TaskInfo, TaskStatus};
use api::{ContainerId, TaskId, TaskState};

use crate::agent::Now;
use crate::ending::Verdict;
use crate::launch::Site;
use crate::randomness::Randomness;
use crate::status::Updates;

/// A process that has not subscribed after this long is ended (`--executor_registration_timeout`).
const REGISTRATION_MS: u64 = 60_000;
/// After the agent came back, its process has this long to subscribe again (Mesos's most: our nodes start slowly).
const REREGISTRATION_MS: u64 = 15_000;
/// Between SHUTDOWN and SIGKILL when the framework says nothing (`--executor_shutdown_grace_period`).
const GRACE_MS: u64 = 5_000;
/// How often an end is told until the master knows.
const TELL_MS: u64 = 10_000;
/// How many of a task's updates are known again.
const SEEN: usize = 64;

/// An executor and what is known only while we live.
#[derive(Debug)]
pub struct Executor {
    /// What is kept.
    pub record: ExecutorRecord,
    /// The stream its process listens on.
    stream: Option<u64>,
    /// When it has had its time: to subscribe, or to end.
    due_ms: Option<u64>,
    /// When its end is told again.
    tell_at_ms: u64,
    /// How long its process may take to subscribe.
    registration_ms: u64,
}

/// What an executor is handled with.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// The node.
    pub site: &'a Site,
    /// For uuids.
    pub randomness: &'a mut Randomness,
    /// The time.
    pub now: Now,
    /// Its first process.
    pub pid: Option<u32>,
}

/// What is to be done about an executor. In order.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Write its record durably before anything after it.
    Save,
    /// Send to its process.
    Send {
        /// On which stream.
        stream: u64,
        /// What.
        event: Box<Event>,
    },
    /// Close a stream, after what was sent before.
    Close(u64),
    /// What it may use is another: its tasks are.
    Resize,
    /// SIGKILL for its container.
    Kill,
    /// To its framework.
    Message(Vec<u8>),
    /// To the master: it ended so.
    TellEnd(i32),
    /// Nothing is left to be told.
    Forget,
}

/// LAUNCH or LAUNCH_GROUP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Launch {
    /// A task.
    Task,
    /// All of a group.
    Group,
}

impl Executor {
    /// Received, or read from the checkpoint.
    #[must_use]
    pub const fn new(record: ExecutorRecord) -> Self {
        Self { record, stream: None, due_ms: None, tell_at_ms: 0, registration_ms: REGISTRATION_MS }
    }

    /// With the patience the operator wants.
    #[must_use]
    pub fn with_patience(mut self, registration_ms: Option<u64>) -> Self {
        self.registration_ms = registration_ms.unwrap_or(REGISTRATION_MS);
        self
    }

    /// The agent came back.
    pub fn recovered(&mut self, now: Now) {
        self.due_ms = match self.record.stage {
            _ if self.record.is_pod() => None,
            Stage::Registering => Some(now.uptime_ms + self.registration_ms),
            Stage::Subscribed => Some(now.uptime_ms + REREGISTRATION_MS),
            Stage::Terminating => Some(now.uptime_ms + self.grace_ms()),
            Stage::Ended { .. } => None,
        };
    }

    /// A session with the master begins: what was told counts as lost.
    pub fn tell_again(&mut self, now_ms: u64) {
        self.tell_at_ms = 0;
        self.record.tasks.values_mut().for_each(|task| task.updates.send_now(now_ms));
    }

    fn grace_ms(&self) -> u64 {
        self.record.info.shutdown_grace_period.as_ref().and_then(|grace| grace.millis()).unwrap_or(GRACE_MS)
    }

    /// When [`tick`](Self::tick) has something to do.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        let tell = matches!(self.record.stage, Stage::Ended { told: false, .. }).then_some(self.tell_at_ms);
        [self.due_ms, tell].into_iter().flatten().min()
    }

    /// Tasks that run or will, for what the container may use.
    pub fn live_tasks(&self) -> impl Iterator<Item = &ExecutorTask> {
        self.record.tasks.values().filter(|task| !task.state.is_terminal())
    }

    /// Tasks it is to run: one, or a group.
    pub fn launch(
        &mut self,
        tasks: Vec<(ContainerId, TaskInfo)>,
        togetherness: Launch,
        with: &mut Surroundings<'_>,
    ) -> Vec<Step> {
        let mut together = Vec::with_capacity(tasks.len());
        for (run, info) in tasks {
            let id = info.task_id.clone();
            if self.record.tasks.contains_key(&id) {
                continue; // a repeated word
            }
            let task = ExecutorTask {
                info: Box::new(info),
                run,
                state: TaskState::Staging,
                in_group: togetherness == Launch::Group,
                delivered: false,
                kill: None,
                updates: Updates::default(),
                seen: VecDeque::new(),
            };
            self.record.tasks.insert(id.clone(), task);
            together.push(id);
        }
        if together.is_empty() {
            return Vec::new();
        }
        if self.record.is_over() {
            let ended = matches!(self.record.stage, Stage::Ended { .. });
            let message = if ended { "Executor terminated" } else { "Executor terminating" };
            for id in together {
                self.tell(&id, self.lost_or(TaskState::Dropped), Reason::ExecutorTerminated, message, with);
            }
            return vec![Step::Save];
        }
        self.record.queue.push(together);
        let mut steps = vec![Step::Save];
        if self.record.stage == Stage::Subscribed
            && let Some(stream) = self.stream
        {
            steps = self.deliver(stream);
        }
        steps
    }

    /// KILL.
    pub fn kill(&mut self, id: &TaskId, kill: Kill, with: &mut Surroundings<'_>) -> Vec<Step> {
        if let Some(at) = self.record.queue.iter().position(|together| together.contains(id)) {
            let together = self.record.queue.remove(at);
            let message = if together.len() > 1 {
                "A task within the task group was killed before delivery to the executor"
            } else {
                "Killed before delivery to the executor"
            };
            for id in together {
                self.tell(&id, TaskState::Killed, Reason::TaskKilledDuringLaunch, message, with);
            }
            return vec![Step::Save, Step::Resize];
        }
        let Some(task) = self.record.tasks.get_mut(id).filter(|task| !task.state.is_terminal()) else {
            return Vec::new();
        };
        task.kill = Some(kill);
        let mut steps = vec![Step::Save];
        steps.extend(self.stream.map(|stream| Step::Send { stream, event: Box::new(kill_event(id, kill)) }));
        steps
    }

    /// SHUTDOWN: by its framework, or because that is gone.
    pub fn shut_down(&mut self, now: Now) -> Vec<Step> {
        match self.record.stage {
            Stage::Terminating | Stage::Ended { .. } => return Vec::new(),
            Stage::Registering | Stage::Subscribed => {}
        }
        self.record.stage = Stage::Terminating;
        let Some(stream) = self.stream else {
            // It cannot be asked.
            return vec![Step::Save, Step::Kill];
        };
        self.due_ms = Some(now.uptime_ms + self.grace_ms());
        vec![Step::Save, Step::Send { stream, event: Box::new(event_of(event::Type::Shutdown)) }]
    }

    /// Its process runs.
    pub fn started(&mut self, now: Now) {
        if self.record.stage == Stage::Registering {
            self.due_ms = Some(now.uptime_ms + self.registration_ms);
        }
    }

    /// Its process is no more, or never was.
    pub fn ended(&mut self, verdict: &Verdict, status: i32, with: &mut Surroundings<'_>) -> Vec<Step> {
        if matches!(self.record.stage, Stage::Ended { .. }) {
            return Vec::new();
        }
        let told = self.record.silent;
        self.record.stage = Stage::Ended { status, told };
        self.record.queue.clear();
        self.due_ms = None;
        self.tell_at_ms = 0;
        let own = verdict.reason.filter(|reason| {
            // What Mesos's containerizer says of a container; anything else is the executor's own end.
            matches!(
                reason,
                Reason::ContainerLimitation
                    | Reason::ContainerLimitationDisk
                    | Reason::ContainerLimitationMemory
                    | Reason::ContainerLaunchFailed
                    | Reason::AgentRestarted
            )
        });
        let why = match (own, self.record.why.take()) {
            (Some(reason), _) => Termination { state: verdict.state, reason, message: verdict.message.clone() },
            (None, Some(why)) => why,
            (None, None) => Termination {
                state: TaskState::Failed,
                reason: Reason::ExecutorTerminated,
                message: "Executor terminated".to_owned(),
            },
        };
        let live: Vec<TaskId> = self.live_tasks().map(|task| task.info.task_id.clone()).collect();
        for id in live {
            self.tell(&id, why.state, why.reason, &why.message, with);
            let limitation = verdict.limitation.clone().filter(|_| own.is_some());
            if let (Some(limitation), Some(task)) = (limitation, self.record.tasks.get_mut(&id)) {
                task.updates.change_newest(|status| status.limitation = Some(limitation));
            }
        }
        let mut steps = vec![Step::Save];
        steps.extend(self.stream.take().map(Step::Close));
        steps.extend(self.forget_if_told());
        steps
    }

    /// The master knows of its end.
    pub fn told(&mut self) -> Vec<Step> {
        if let Stage::Ended { told, .. } = &mut self.record.stage {
            *told = true;
        }
        let mut steps = vec![Step::Save];
        steps.extend(self.forget_if_told());
        steps
    }

    /// The framework is gone: nobody hears of the tasks any more.
    pub fn framework_removed(&mut self, now: Now) -> Vec<Step> {
        self.record.silent = true;
        self.record.tasks.clear();
        self.record.queue.clear();
        if let Stage::Ended { told, .. } = &mut self.record.stage {
            *told = true;
            return self.forget_if_told().into_iter().collect();
        }
        self.shut_down(now)
    }

    /// The framework has seen an update.
    pub fn acknowledge(&mut self, id: &TaskId, uuid: &[u8], now: Now) -> Vec<Step> {
        let Some(task) = self.record.tasks.get_mut(id) else { return Vec::new() };
        if task.updates.acknowledge(uuid, now.uptime_ms).is_none() {
            return Vec::new();
        }
        if task.state.is_terminal() && task.updates.is_empty() {
            self.record.tasks.remove(id);
        }
        let mut steps = vec![Step::Save];
        steps.extend(self.forget_if_told());
        steps
    }

    /// Time has passed.
    pub fn tick(&mut self, now: Now) -> Vec<Step> {
        let mut steps = Vec::new();
        if let Stage::Ended { status, told: false } = self.record.stage
            && self.tell_at_ms <= now.uptime_ms
        {
            self.tell_at_ms = now.uptime_ms + TELL_MS;
            steps.push(Step::TellEnd(status));
        }
        if self.due_ms.take_if(|at_ms| *at_ms <= now.uptime_ms).is_none() {
            return steps;
        }
        let why = match self.record.stage {
            Stage::Registering => Some(Termination {
                state: TaskState::Failed,
                reason: Reason::ExecutorRegistrationTimeout,
                message: format!("Executor did not register within {}", crate::launch::spell_ms(self.registration_ms)),
            }),
            Stage::Subscribed => Some(Termination {
                state: self.lost_or(TaskState::Gone),
                reason: Reason::ExecutorReregistrationTimeout,
                message: "Executor did not reregister within 15secs".to_owned(),
            }),
            Stage::Terminating | Stage::Ended { .. } => None,
        };
        tracing::warn!(
            framework = %self.record.framework, executor = %self.record.executor,
            why = why.as_ref().map_or("it did not end when it was asked to", |why| why.message.as_str()),
            "an executor is ended"
        );
        self.record.why = why;
        self.record.stage = Stage::Terminating;
        steps.extend([Step::Save, Step::Kill]);
        steps
    }

    /// The oldest update of each task, if it is time to send it.
    pub fn updates_due(&mut self, now_ms: u64) -> impl Iterator<Item = (TaskStatus, TaskState)> {
        self.record.tasks.values_mut().filter_map(move |task| {
            let latest = task.state;
            task.updates.due(now_ms).map(|status| (status.clone(), latest))
        })
    }

    fn forget_if_told(&self) -> Option<Step> {
        let told = matches!(self.record.stage, Stage::Ended { told: true, .. });
        (told && self.record.tasks.is_empty()).then_some(Step::Forget)
    }

    fn lost_or(&self, aware: TaskState) -> TaskState {
        if self.record.framework_info.has(api::v1::Capability::PartitionAware) { aware } else { TaskState::Lost }
    }

    /// The agent's own word on a task. A terminal state is the last: nothing is added after it.
    fn tell(&mut self, id: &TaskId, state: TaskState, reason: Reason, message: &str, with: &mut Surroundings<'_>) {
        let mut status = TaskStatus::new(id.clone(), state);
        status.source = Some(Source::Agent.into());
        status.reason = Some(reason.into());
        status.message = Some(message.to_owned());
        status.uuid = Some(with.randomness.uuid().to_vec());
        self.complete(&mut status, with);
        let Some(task) = self.record.tasks.get_mut(id).filter(|task| !task.state.is_terminal()) else { return };
        task.state = state;
        task.updates.push(status, with.now.uptime_ms);
    }

    /// What the agent adds to every status.
    fn complete(&self, status: &mut TaskStatus, with: &Surroundings<'_>) {
        status.agent_id = Some(self.record.agent.clone());
        status.executor_id = Some(self.record.executor.clone());
        #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 fit 2^53 for a long while
        let seconds = with.now.unix_ms as f64 / 1000.0;
        status.timestamp.get_or_insert(seconds);
        let of_container = status.container_status.get_or_insert_with(|| Box::new(ContainerStatus::default()));
        let value = self.record.container.to_string();
        of_container.container_id.get_or_insert_with(|| WireContainerId { value, ..WireContainerId::default() });
        of_container.executor_pid = of_container.executor_pid.or(with.pid);
        if let Some(address) = with.site.address.clone().filter(|_| of_container.network_infos.is_empty()) {
            let protocol = if address.contains(':') { Protocol::IPv6 } else { Protocol::IPv4 };
            let address = IpAddress { protocol: Some(protocol.into()), ip_address: Some(address) };
            of_container.network_infos = vec![NetworkInfo { ip_addresses: vec![address], ..NetworkInfo::default() }];
        }
    }
}

fn event_of(kind: event::Type) -> Event {
    Event { r#type: Some(kind.into()), ..Event::default() }
}

fn kill_event(id: &TaskId, kill: Kill) -> Event {
    let nanoseconds = kill.grace_ms.map(|ms| i64::try_from(ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX));
    let kill_policy = nanoseconds
        .map(|nanoseconds| api::v1::KillPolicy { grace_period: Some(api::v1::DurationInfo { nanoseconds }) });
    Event { kill: Some(Box::new(event::Kill { task_id: id.clone(), kill_policy })), ..event_of(event::Type::Kill) }
}
