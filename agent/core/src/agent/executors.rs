//! Executors among the runs: their processes are runs of this agent, their tasks are theirs.

use api::v1::executor::call::{Subscribe, Type};
use api::v1::executor::{Call, Event};
use api::v1::{FrameworkInfo, TaskInfo};
use api::{ContainerId, ExecutorId, FrameworkId, TaskId};

use super::task::{Sends, Signal, Task};
use super::{Agent, Effect, FINISHED, Now, Report};
use crate::container::Cause;
use crate::executor::{Executor, ExecutorRecord, Kill, Launch, Stage, Step, Surroundings, Token};
use crate::launch::{self, Limits};
use crate::record::{Part, Process, Record};

/// What the agent hears of executors.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Idempotent by the tasks' runs.
    Run(Box<Run>),
    /// SHUTDOWN of its framework.
    ShutDown {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
    },
    /// The master knows of its end.
    Forget(ContainerId),
    /// MESSAGE of its framework.
    Message {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
        /// What.
        data: Vec<u8>,
    },
    /// Its process subscribes; see [`Agent::check_call`].
    Subscribed {
        /// Which.
        container: ContainerId,
        /// Named by the shell: greater than all before.
        stream: u64,
        /// What it says.
        subscribe: Box<Subscribe>,
    },
    /// Its process says anything else; see [`Agent::check_call`].
    Said {
        /// Which.
        container: ContainerId,
        /// What.
        call: Box<Call>,
    },
    /// Its process does not listen any more.
    HungUp {
        /// Which.
        container: ContainerId,
        /// On this stream.
        stream: u64,
    },
}

/// Tasks for an executor.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Whose.
    pub framework: FrameworkId,
    /// The run of the executor; it is made if it is not there.
    pub executor: ContainerId,
    /// Each with its run; they say what the executor is.
    pub tasks: Vec<(ContainerId, TaskInfo)>,
    /// How they were launched.
    pub launch: Launch,
    /// Its framework.
    pub framework_info: FrameworkInfo,
    /// Unused, unless the executor is made.
    pub token: Token,
    /// What they name by reference, the executor and the tasks.
    pub secrets: launch::Secrets,
}

/// To be done about executors.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecutorEffect {
    /// Write this record durably before anything after it.
    Save(Box<ExecutorRecord>),
    /// Remove the record.
    Forget(ContainerId),
    /// Send to its process; lost when the stream is closed.
    Send {
        /// Which.
        container: ContainerId,
        /// On this stream.
        stream: u64,
        /// What.
        event: Box<Event>,
    },
    /// Close a stream, after what was sent before.
    Close {
        /// Which.
        container: ContainerId,
        /// The stream.
        stream: u64,
    },
    /// Its cgroup's limits are others.
    Resize {
        /// Which.
        container: ContainerId,
        /// Its first process.
        process: Process,
        /// The new ones.
        limits: Limits,
    },
    /// Its container has other volumes, before it hears of its tasks.
    Volumes {
        /// Which.
        container: ContainerId,
        /// Its first process.
        process: Process,
        /// The first of its user and group ids.
        ids: Option<u32>,
        /// What comes.
        added: Vec<launch::Later>,
        /// The places of what goes.
        removed: Vec<String>,
    },
    /// To its framework; lost when there is no session.
    Message {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
        /// What.
        data: Vec<u8>,
    },
    /// To the master, that it ended; lost when there is no session.
    TellEnd {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
        /// Which run.
        container: ContainerId,
        /// As waitpid gives it.
        status: i32,
    },
}

/// An executor for the `Register` message.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are ExecutorReport's
pub struct ExecutorReport {
    pub framework: FrameworkId,
    pub container: ContainerId,
    pub info: Box<api::v1::ExecutorInfo>,
}

/// Why a call of an executor's process is refused: status and Mesos's text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CallRefused {
    /// 400 or 403.
    pub status: u16,
    /// Plain text.
    pub text: String,
}

impl Agent {
    /// Every executor the master should know of.
    #[must_use]
    pub fn executor_reports(&self) -> Vec<ExecutorReport> {
        let records = self.executors.values().map(|executor| &executor.record);
        let wanted =
            records.filter(|record| !record.silent && !matches!(record.stage, Stage::Ended { told: true, .. }));
        let report = |record: &ExecutorRecord| ExecutorReport {
            framework: record.framework.clone(),
            container: record.container.clone(),
            info: record.info.clone(),
        };
        wanted.map(report).collect()
    }

    /// The tasks in executors, for the master.
    pub(super) fn reports_of_executors(&self) -> impl Iterator<Item = Report> {
        self.executors.values().flat_map(|executor| {
            let framework = &executor.record.framework;
            executor.record.tasks.values().map(move |task| Report {
                framework: framework.clone(),
                task: task.info.task_id.clone(),
                container: task.run.clone(),
                state: task.state,
            })
        })
    }

    /// Every container there is something of: runs, and what pods' sandboxes are called after.
    pub fn containers(&self) -> impl Iterator<Item = &ContainerId> {
        self.tasks.keys().chain(self.executors.keys())
    }

    /// Where a task of an executor writes, and whether it still may.
    pub(super) fn sandbox_in_executor(&self, framework: &FrameworkId, task: &TaskId) -> Option<(String, bool)> {
        let mut executors = self.executors.values().map(|executor| &executor.record);
        let record = executors.find(|record| {
            let by_id = record.executor.as_str() == task.as_str();
            record.framework == *framework && (by_id || record.tasks.contains_key(task))
        })?;
        let ExecutorRecord { agent, framework, executor, container, .. } = record;
        let path = launch::sandbox(&self.site.work_dir, agent, framework, executor.as_str(), container);
        Some((path, !matches!(record.stage, Stage::Ended { .. })))
    }

    /// May this be said by whoever shows this token? Says whose call it is.
    ///
    /// # Errors
    /// Mesos's status and text.
    pub fn check_call(&self, call: &Call, token: Option<&str>) -> Result<ContainerId, CallRefused> {
        let refused = |status, text: &str| Err(CallRefused { status, text: text.to_owned() });
        let mut of_framework =
            self.executors.values().filter(|executor| executor.record.framework == call.framework_id).peekable();
        if of_framework.peek().is_none() {
            return refused(400, "Framework cannot be found");
        }
        let executor = of_framework.find(|executor| {
            let record = &executor.record;
            record.executor == call.executor_id && !record.is_pod() && !matches!(record.stage, Stage::Ended { .. })
        });
        let Some(executor) = executor else { return refused(400, "Executor cannot be found") };
        if token.is_some_and(|token| !is_same(token, &executor.record.token.0)) {
            return refused(403, "The token is not that of this executor");
        }
        if call.r#type() != Type::Subscribe && executor.stream().is_none() {
            return refused(403, "Executor is not subscribed");
        }
        Ok(executor.record.container.clone())
    }

    pub(super) fn hear_of_executors(&mut self, input: Input, now: Now) -> Vec<Effect> {
        match input {
            Input::Run(run) => self.execute(*run, now),
            Input::ShutDown { framework, executor } => {
                let containers = self.executors_of(&framework, Some(&executor));
                containers.iter().flat_map(|container| self.shut_down_executor(container, now)).collect()
            }
            Input::Forget(container) => {
                let steps = self.executors.get_mut(&container).map(Executor::told);
                self.executor_steps(&container, steps.unwrap_or_default(), now)
            }
            Input::Message { framework, executor, data } => {
                let container = self.executors_of(&framework, Some(&executor)).pop();
                let Some(container) = container else {
                    tracing::warn!(%framework, %executor, "a message to an executor that is not here is lost");
                    return Vec::new();
                };
                let step = self.executors.get(&container).and_then(|executor| executor.message(data));
                self.executor_steps(&container, step.into_iter().collect(), now)
            }
            Input::Subscribed { container, stream, subscribe } => {
                tracing::info!(%container, "an executor subscribed");
                self.with_executor(&container, now, |executor, with| executor.subscribe(stream, *subscribe, with))
            }
            Input::Said { container, call } => match (call.r#type(), call.update, call.message) {
                (Type::Update, Some(update), _) => {
                    self.with_executor(&container, now, |executor, with| executor.update(update.status, with))
                }
                (Type::Message, _, Some(message)) => {
                    self.executor_steps(&container, vec![Step::Message(message.data)], now)
                }
                _ => Vec::new(),
            },
            Input::HungUp { container, stream } => {
                if let Some(executor) = self.executors.get_mut(&container) {
                    executor.hung_up(stream);
                }
                Vec::new()
            }
        }
    }

    /// Those not yet over, of one framework.
    fn executors_of(&self, framework: &FrameworkId, id: Option<&ExecutorId>) -> Vec<ContainerId> {
        let records = self.executors.values().map(|executor| &executor.record);
        let mine = records.filter(|record| record.framework == *framework);
        let wanted = mine.filter(|record| id.is_none_or(|id| record.executor == *id));
        let live = wanted.filter(|record| id.is_none() || !matches!(record.stage, Stage::Ended { .. }));
        live.map(|record| record.container.clone()).collect()
    }

    fn execute(&mut self, run: Run, now: Now) -> Vec<Effect> {
        let Run { framework, executor: container, mut tasks, launch, framework_info, token, secrets } = run;
        // As it was launched: some of it may be here already.
        let Some(group) = tasks.first().map(|(_, task)| (task.task_id.clone(), tasks.len())) else { return Vec::new() };
        tasks.retain(|(run, _)| !self.tasks.contains_key(run) && !self.finished.contains(run));
        let Some(info) = tasks.first().and_then(|(_, task)| task.executor.clone()) else { return Vec::new() };
        tracing::info!(
            %framework, executor = %info.executor_id, %container, tasks = tasks.len(), "tasks for an executor received"
        );
        let is_new = !self.executors.contains_key(&container);
        if is_new {
            let record = ExecutorRecord {
                version: crate::record::VERSION,
                agent: self.site.agent.clone(),
                framework,
                executor: info.executor_id.clone(),
                container: container.clone(),
                info,
                framework_info: Box::new(framework_info),
                token,
                stage: Stage::Registering,
                tasks: std::collections::BTreeMap::new(),
                queue: Vec::new(),
                had_tasks: false,
                silent: false,
                why: None,
                started_groups: Vec::new(),
                secrets: secrets.clone(),
            };
            let executor = Executor::new(record).with_patience(self.site.executor_registration_ms);
            self.executors.insert(container.clone(), executor);
        }
        if self.executors.get(&container).is_some_and(|executor| executor.record.is_pod()) {
            return self.join_pod(&container, group, tasks, &secrets, now);
        }
        let mut effects = self.with_executor(&container, now, |executor, with| executor.launch(tasks, launch, with));
        if is_new {
            effects.extend(self.start_executor(&container, now));
        }
        effects
    }

    /// Makes its process's container.
    fn start_executor(&mut self, container: &ContainerId, now: Now) -> Vec<Effect> {
        let Some(executor) = self.executors.get(container) else { return Vec::new() };
        let record = &executor.record;
        let info = Box::new(launch::as_task(record));
        let (framework, framework_info) = (record.framework.clone(), record.framework_info.clone());
        let part = Part::Executor { token: record.token.clone() };
        let secrets = record.secrets.clone();
        let mut record = self.record(framework, container.clone(), info, framework_info, part);
        record.secrets = secrets;
        self.begin(Task::new(record), now)
    }

    pub(super) fn shut_down_executor(&mut self, container: &ContainerId, now: Now) -> Vec<Effect> {
        let Some(executor) = self.executors.get_mut(container) else { return Vec::new() };
        tracing::info!(executor = %executor.record.executor, %container, "an executor is to be shut down");
        let steps = executor.shut_down(now);
        self.executor_steps(container, steps, now)
    }

    /// Its framework is gone.
    pub(super) fn remove_executors_of(&mut self, framework: &FrameworkId, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for container in self.executors_of(framework, None) {
            let steps = self.executors.get_mut(&container).map(|executor| executor.framework_removed(now));
            effects.extend(self.executor_steps(&container, steps.unwrap_or_default(), now));
        }
        effects
    }

    /// A task in an executor is to be killed; `None` when there is no such task.
    pub(super) fn kill_in_executor(
        &mut self,
        framework: &FrameworkId,
        task: &TaskId,
        grace_ms: Option<u64>,
        now: Now,
    ) -> Option<Vec<Effect>> {
        let container = self.executor_with(framework, task)?;
        let kill = Kill { grace_ms };
        Some(self.with_executor(&container, now, |executor, with| executor.kill(task, kill, with)))
    }

    /// `None` when no executor has such a task.
    pub(super) fn acknowledge_in_executor(
        &mut self,
        framework: &FrameworkId,
        id: &TaskId,
        uuid: &[u8],
        now: Now,
    ) -> Option<Vec<Effect>> {
        let container = self.executor_with(framework, id)?;
        let executor = self.executors.get_mut(&container)?;
        let run = executor.record.tasks.get(id).map(|task| task.run.clone());
        let steps = executor.acknowledge(id, uuid, now);
        if let Some(run) = run.filter(|_| !executor.record.tasks.contains_key(id)) {
            self.remember(run);
        }
        Some(self.executor_steps(&container, steps, now))
    }

    fn executor_with(&self, framework: &FrameworkId, task: &TaskId) -> Option<ContainerId> {
        let records = self.executors.values().map(|executor| &executor.record);
        let mut with = records.filter(|record| record.framework == *framework && record.tasks.contains_key(task));
        with.next().map(|record| record.container.clone())
    }

    /// A repeated word shall not start it again.
    pub(super) fn remember(&mut self, run: ContainerId) {
        self.finished.push_back(run);
        if self.finished.len() > FINISHED {
            self.finished.pop_front();
        }
    }

    /// Picks up the recorded executors, after their runs.
    #[must_use]
    pub fn recover_executors(&mut self, records: Vec<ExecutorRecord>, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for record in records {
            let (container, stage, is_pod) = (record.container.clone(), record.stage, record.is_pod());
            let mut executor = Executor::new(record).with_patience(self.site.executor_registration_ms);
            executor.recovered(now);
            executor.record.had_tasks |= is_pod && self.has_members(&container);
            self.executors.insert(container.clone(), executor);
            let over = self.tasks.get(&container).map(|run| run.record.phase.is_over());
            match (stage, over) {
                // It may have died between the decision and its members' ends.
                (Stage::Terminating, _) if is_pod => effects.extend(self.kill_members(&container, now)),
                _ if is_pod => {}
                (Stage::Ended { .. }, _) | (_, Some(false)) => {}
                // It was received and nothing more.
                (Stage::Registering, None) => effects.extend(self.start_executor(&container, now)),
                (Stage::Registering | Stage::Subscribed | Stage::Terminating, None | Some(true)) => {
                    let verdict = crate::ending::unseen();
                    effects.extend(
                        self.with_executor(&container, now, |executor, with| executor.ended(&verdict, -1, with)),
                    );
                }
            }
        }
        effects.extend(self.look_after_executors(now));
        effects
    }

    pub(super) fn executor_deadlines(&self, sends: Sends) -> impl Iterator<Item = u64> {
        self.executors.values().flat_map(move |executor| {
            let updates = executor.record.tasks.values().filter_map(|task| task.updates.deadline_ms());
            let updates = updates.min().filter(|_| sends == Sends::Yes);
            [executor.deadline_ms(), updates].into_iter().flatten()
        })
    }

    pub(super) fn tick_executors(&mut self, now: Now) -> Vec<Effect> {
        let containers: Vec<ContainerId> = self.executors.keys().cloned().collect();
        let mut effects = Vec::new();
        for container in containers {
            let steps = self.executors.get_mut(&container).map(|executor| executor.tick(now));
            effects.extend(self.executor_steps(&container, steps.unwrap_or_default(), now));
        }
        effects
    }

    /// After every input: what happened to runs is told to the executors they belong to.
    pub(super) fn look_after_executors(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if self.executors.is_empty() {
            return effects;
        }
        loop {
            let signalled: Vec<(Part, ContainerId, Vec<Signal>)> = self
                .tasks
                .values_mut()
                .filter(|task| !task.signals.is_empty())
                .map(|task| {
                    (task.record.part.clone(), task.record.container.clone(), std::mem::take(&mut task.signals))
                })
                .collect();
            if signalled.is_empty() {
                break;
            }
            for (part, container, signals) in signalled {
                for signal in signals {
                    effects.extend(self.run_signals(&part, &container, signal, now));
                }
            }
        }
        effects.extend(self.start_groups(now));
        effects.extend(self.end_pods(now));
        // Those that could not be started have nothing to be deleted, and nothing that waits to be told.
        let gone = self.tasks.values().map(|task| &task.record);
        let gone = gone.filter(|record| {
            matches!(record.part, Part::Executor { .. }) && record.phase == crate::container::Phase::Gone
        });
        let gone: Vec<ContainerId> = gone.map(|record| record.container.clone()).collect();
        effects.extend(gone.iter().filter_map(|container| self.forget_if_told(container)));
        effects
    }

    fn run_signals(&mut self, part: &Part, container: &ContainerId, signal: Signal, now: Now) -> Vec<Effect> {
        match (part, signal) {
            (Part::Executor { .. }, Signal::Running) => {
                if let Some(executor) = self.executors.get_mut(container) {
                    executor.started(now);
                }
                // Tasks may have come while it was made.
                self.follow_volumes(container, now)
            }
            (Part::Executor { .. }, Signal::Ended(verdict, status)) => {
                self.with_executor(container, now, |executor, with| executor.ended(&verdict, status, with))
            }
            (Part::Member { .. }, Signal::Ended(verdict, _)) => self.member_ended(container, part, verdict.state, now),
            (Part::Member { .. }, Signal::Running) | (Part::Alone, _) => Vec::new(),
        }
    }

    /// The updates of tasks in executors that are to be sent now.
    pub(super) fn executor_updates(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for executor in self.executors.values_mut() {
            let framework = executor.record.framework.clone();
            effects.extend(executor.updates_due(now.uptime_ms).map(|(status, latest)| Effect::Send {
                framework: framework.clone(),
                status: Box::new(status),
                latest,
            }));
        }
        effects
    }

    pub(super) fn with_executor(
        &mut self,
        container: &ContainerId,
        now: Now,
        act: impl FnOnce(&mut Executor, &mut Surroundings<'_>) -> Vec<Step>,
    ) -> Vec<Effect> {
        let process = self.tasks.get(container).and_then(|run| run.record.process);
        let pid = process.and_then(|process| u32::try_from(process.pid).ok());
        let Some(executor) = self.executors.get_mut(container) else { return Vec::new() };
        let mut with = Surroundings { site: &self.site, randomness: &mut self.randomness, now, pid };
        let steps = act(executor, &mut with);
        self.executor_steps(container, steps, now)
    }

    pub(super) fn executor_steps(&mut self, container: &ContainerId, steps: Vec<Step>, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        for step in steps {
            let Some(executor) = self.executors.get(container) else { break };
            let (record, container) = (&executor.record, container.clone());
            let (framework, executor) = (record.framework.clone(), record.executor.clone());
            let effect = match step {
                Step::Save => ExecutorEffect::Save(Box::new(record.clone())),
                Step::Send { stream, event } => ExecutorEffect::Send { container, stream, event },
                Step::Close(stream) => ExecutorEffect::Close { container, stream },
                Step::Resize => {
                    let (resources, effect) = (launch::executor_resources(record), self.resized(&container, record));
                    // The run's own record follows: what is looked at, and a container that is made later, is as large.
                    if let Some(run) = self.tasks.get_mut(&container) {
                        run.record.info.resources = resources;
                        effects.push(Effect::Save(run.saved()));
                    }
                    effects.extend(self.follow_volumes(&container, now));
                    match effect {
                        Some(effect) => effect,
                        None => continue,
                    }
                }
                Step::Kill => {
                    effects.extend(if record.is_pod() {
                        self.kill_members(&container, now)
                    } else {
                        self.kill(&container, Cause::Asked, Some(0), now)
                    });
                    continue;
                }
                // Before the master has taken us it hears nothing: a message is lost, an end is told again.
                Step::Message(_) | Step::TellEnd(_) if !self.registered => continue,
                Step::Message(data) => ExecutorEffect::Message { framework, executor, data },
                Step::TellEnd(status) => ExecutorEffect::TellEnd { framework, executor, container, status },
                Step::Forget => {
                    self.executors.remove(&container);
                    self.remember(container.clone());
                    ExecutorEffect::Forget(container)
                }
            };
            effects.push(Effect::Executor(effect));
        }
        effects
    }

    fn resized(&self, container: &ContainerId, record: &ExecutorRecord) -> Option<ExecutorEffect> {
        let process = self.tasks.get(container)?.record.process.filter(|_| !self.site.unconfined)?;
        let limits = Limits::of(&launch::as_task(record), self.site.pids_max);
        Some(ExecutorEffect::Resize { container: container.clone(), process, limits })
    }

    pub(super) fn record(
        &self,
        framework: FrameworkId,
        container: ContainerId,
        info: Box<TaskInfo>,
        framework_info: Box<FrameworkInfo>,
        part: Part,
    ) -> Record {
        Record {
            version: crate::record::VERSION,
            boot_id: self.boot_id.clone(),
            agent: self.site.agent.clone(),
            framework,
            task: info.task_id.clone(),
            container,
            info,
            framework_info,
            phase: crate::container::Phase::Preparing { kill: None },
            process: None,
            state: api::TaskState::Staging,
            updates: crate::status::Updates::default(),
            complete_by_ms: None,
            image: None,
            pulls: 0,
            secrets: crate::launch::Secrets::new(),
            network: None,
            cores: std::collections::BTreeSet::new(),
            gpus: std::collections::BTreeSet::new(),
            overrun: None,
            ids: None,
            mounted: Vec::new(),
            named_network: None,
            volume_images: std::collections::BTreeMap::new(),
            checks: crate::checks::Checks::default(),
            part,
        }
    }
}

/// Takes as long for a wrong one as for the right one.
pub(super) fn is_same(given: &str, token: &str) -> bool {
    let pairs = given.bytes().zip(token.bytes());
    given.len() == token.len() && pairs.fold(0, |other, (a, b)| other | (a ^ b)) == 0
}
