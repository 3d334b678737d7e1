//! The agent: inputs in, effects out. The shell performs the effects in order and nothing else.

mod allotting;
mod effects;
pub mod executors;
mod fetching;
mod later;
mod pods;
mod probing;
mod pulling;
mod shown;
mod task;

pub use effects::{Effect, Input, Now, Pulled, Report};
pub use shown::command_line;
pub use task::{has_own_network, networks};

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use api::{AgentId, ContainerId, FrameworkId, TaskId};

use crate::bridge::{self, Address, Wish};
use crate::container::{self, Cause, Exit, Kill, Phase};
use crate::cores;
use crate::executor::Executor;
use crate::gpus;
use crate::handover;
use crate::launch::{self, LaunchError, Site};
use crate::randomness::Randomness;
use crate::record::{Part, Process, Record};
use crate::recovery::{self, Again, Found, Resume};
use task::{Sends, Task};

/// Owns every task of this node.
#[derive(Debug)]
pub struct Agent {
    site: Site,
    boot_id: String,
    randomness: Randomness,
    registered: bool,
    tasks: BTreeMap<ContainerId, Task>,
    executors: BTreeMap<ContainerId, Executor>,
    /// Runs that are over and acknowledged: a repeated `RunTask` must not start them again.
    finished: VecDeque<ContainerId>,
    /// Exits of processes nobody has told us of yet: a container may end before its pid arrives.
    early: Vec<(handover::Exit, u64)>,
}

/// How many finished runs are remembered. The master repeats a `RunTask` only while it has heard nothing.
const FINISHED: usize = 1024;
/// How many early exits are kept; beyond it the oldest goes (init keeps them for itself a minute).
const EARLY: usize = 1024;
/// How long an early exit is kept.
const EARLY_MS: u64 = 60_000;
/// After this long without a kept status from `init`, an ended process counts as unseen.
const UNSEEN_MS: u64 = 10_000;
/// How many lives of the agent one image is given.
const MAX_PULLS: u32 = 5;
/// Between SIGTERM and SIGKILL when nobody says otherwise (Mesos's command executor).
const GRACE_MS: u64 = 3_000;

impl Agent {
    /// Picks up every recorded run; the effects go on with each where it stopped.
    #[must_use]
    pub fn new(site: Site, seed: [u8; 16], records: Vec<Record>, found: &Found, now: Now) -> (Self, Vec<Effect>) {
        let mut effects: Vec<Effect> = recovery::orphans(&records, found).into_iter().map(Effect::Delete).collect();
        let mut agent = Self {
            site,
            boot_id: found.boot_id.clone(),
            randomness: Randomness::new(seed),
            registered: false,
            tasks: BTreeMap::new(),
            executors: BTreeMap::new(),
            finished: VecDeque::new(),
            early: Vec::new(),
        };
        for mut record in records {
            let resume = recovery::resume(&mut record, found);
            let container = record.container.clone();
            if let Some(process) = record.process.filter(|_| !record.phase.is_over()) {
                effects.push(Effect::Claim { pid: process.pid });
            }
            let mut task = Task::new(record);
            if matches!(task.record.phase, Phase::Running | Phase::Killing { .. }) {
                effects.extend(task.limit_cpu(&agent.site));
            }
            task.resume_checks(now);
            agent.tasks.insert(container.clone(), task);
            match resume {
                Resume::Wait => effects.extend(agent.forget_if_told(&container)),
                Resume::Again(again) => effects.extend(agent.again(&container, again, now)),
                Resume::Input(input) => effects.extend(agent.step(&container, input, now)),
                Resume::ExpectExit => {
                    agent.with(&container, |task| task.unseen_at_ms = Some(now.uptime_ms + UNSEEN_MS))
                }
            }
        }
        effects.extend(agent.share_cores());
        (agent, effects)
    }

    /// The site tasks are planned for; the agent id and address become known when registering.
    pub const fn site_mut(&mut self) -> &mut Site {
        &mut self.site
    }

    /// What tasks are planned for.
    #[must_use]
    pub const fn site(&self) -> &Site {
        &self.site
    }

    /// Every run the master should know of.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        let runs = self.tasks.values().filter(|task| !matches!(task.record.part, Part::Executor { .. }));
        runs.map(Task::report).chain(self.reports_of_executors()).collect()
    }

    /// How many runs are not over.
    #[must_use]
    pub fn running(&self) -> usize {
        self.tasks.values().filter(|task| !task.record.phase.is_over()).count()
    }

    /// What is known of every run that has a process.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        self.tasks
            .values()
            .map(|task| &task.record)
            .filter(|record| !record.phase.is_over() && record.process.is_some())
    }

    /// What runs have on the bridge, until they are gone.
    pub fn connected(&self) -> impl Iterator<Item = (&ContainerId, &Address)> {
        let records = self.tasks.values().map(|task| &task.record).filter(|record| record.phase != Phase::Gone);
        records.filter_map(|record| Some((&record.container, record.network.as_ref()?)))
    }

    /// The layers that runs stand on, until they are gone.
    pub fn layers_in_use(&self) -> impl Iterator<Item = (&ContainerId, &[String])> {
        let records = self.tasks.values().map(|task| &task.record).filter(|record| record.phase != Phase::Gone);
        records.flat_map(|record| {
            let own = record.image.iter().map(|root| &root.image);
            let images = own.chain(record.volume_images.values());
            images.map(|image| (&record.container, image.layers.as_slice()))
        })
    }

    /// The sandbox of the newest run of a task.
    #[must_use]
    pub fn sandbox(&self, framework: &FrameworkId, task: &TaskId) -> Option<(String, bool)> {
        let run = self.tasks.values().rfind(|run| run.record.framework == *framework && run.record.task == *task);
        let Some(record) = run.map(|run| &run.record) else { return self.sandbox_in_executor(framework, task) };
        Some((launch::Seat::of(&self.site, record).sandbox, !record.phase.is_over()))
    }

    /// When [`Input::Tick`] has something to do.
    #[must_use]
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let sends = if self.registered { Sends::Yes } else { Sends::No };
        let tasks = self.tasks.values().filter_map(|task| task.deadline_ms(sends));
        tasks.chain(self.executor_deadlines(sends)).min()
    }

    /// Takes one input; gives what to do about it, in this order.
    #[must_use]
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Effect> {
        let mut effects = match input {
            Input::Registered { agent } => self.registered(agent, now),
            Input::Disconnected => {
                self.registered = false;
                Vec::new()
            }
            Input::RunTask { framework, container, task, framework_info, secrets } => {
                self.run_task(framework, container, task, framework_info, secrets, now)
            }
            Input::KillTask { framework, task, grace_ms } => self.kill_task(&framework, &task, grace_ms, now),
            Input::ShutdownFramework { framework } => self.shutdown_framework(&framework, now),
            Input::Acknowledge { framework, task, uuid } => self.acknowledge(&framework, &task, &uuid, now),
            Input::Pulled { container, result } => self.pulled(&container, result, now),
            Input::Fetched { container, result } => self.fetched(&container, result, now),
            Input::Prepared { container, result } => self.step(&container, container::Input::Prepared(result), now),
            Input::Joined { container, addresses } => {
                self.joined(&container, addresses);
                Vec::new()
            }
            Input::Created { container, result } => self.created(&container, result, now),
            Input::Started { container, result } => self.step(&container, container::Input::Started(result), now),
            Input::Used { container, usage } => self.step(&container, container::Input::Used(usage), now),
            Input::Deleted { container } => {
                let mut effects = self.step(&container, container::Input::Deleted, now);
                effects.extend(self.forget_if_told(&container));
                effects
            }
            Input::Overran { container, overrun } => self.overran(&container, overrun, now),
            Input::Exited(exit) => self.exited(exit, now),
            Input::Executor(input) => self.hear_of_executors(input, now),
            Input::Probed { container, kind, number, seen } => self.probed(&container, kind, number, &seen, now),
            Input::Tick => self.tick(now),
        };
        effects.extend(self.look_after_executors(now));
        effects.extend(self.share_cores());
        if self.registered {
            effects.extend(self.executor_updates(now));
            effects.extend(self.tasks.values_mut().filter_map(|task| task.send_due(now.uptime_ms)));
        }
        effects
    }

    fn registered(&mut self, agent: AgentId, now: Now) -> Vec<Effect> {
        self.site.agent = agent;
        self.registered = true;
        for task in self.tasks.values_mut() {
            task.record.updates.send_now(now.uptime_ms);
        }
        self.executors.values_mut().for_each(|executor| executor.tell_again(now.uptime_ms));
        Vec::new()
    }

    fn run_task(
        &mut self,
        framework: FrameworkId,
        container: ContainerId,
        info: Box<api::v1::TaskInfo>,
        framework_info: Box<api::v1::FrameworkInfo>,
        secrets: launch::Secrets,
        now: Now,
    ) -> Vec<Effect> {
        if self.tasks.contains_key(&container) || self.finished.contains(&container) {
            tracing::debug!(%container, "a repeated RunTask is ignored");
            return Vec::new();
        }
        tracing::info!(%framework, task = %info.task_id, %container, "task received");
        let mut record = self.record(framework, container, info, framework_info, Part::Alone);
        record.secrets = secrets;
        let task = Task::new(record);
        self.begin(task, now)
    }

    /// The first step of a run.
    fn begin(&mut self, mut task: Task, now: Now) -> Vec<Effect> {
        let container = task.record.container.clone();
        let image = self.next_pull(&task.record);
        if let Ok(Some(request)) = image {
            // It stays in TASK_STAGING until the image is here.
            task.record.phase = Phase::Pulling;
            let effects = task.pull(request);
            self.tasks.insert(container, task);
            return effects;
        }
        let planned = image.and_then(|_| self.allot(&mut task)).and_then(|()| task.plan(&self.site));
        let effects = match planned {
            // It stays in TASK_STAGING until they are here.
            Ok(plan) if !task.uris().is_empty() => task.fetch(plan),
            Ok(plan) => {
                task.starting(&self.site, &mut self.randomness, now);
                task.made_with(&plan);
                vec![Effect::Save(task.saved()), Effect::Prepare { container: container.clone(), plan: Box::new(plan) }]
            }
            Err(error) => {
                task.refused(&error, &self.site, &mut self.randomness, now);
                vec![Effect::Save(task.saved())]
            }
        };
        self.tasks.insert(container, task);
        effects
    }

    /// Gives a run what nobody else has: processors and an address, if it wants them.
    fn allot(&self, task: &mut Task) -> Result<(), LaunchError> {
        if !is_task(&task.record) && has_own_network(&task.record) {
            // The agent is on the node's loopback, which it would not see.
            return Err(LaunchError::Unsupported("executors with a network of their own".to_owned()));
        }
        if let Some(count) = cores::wanted(&task.record.info).map_err(LaunchError::Volume)? {
            let chosen = self.site.processors.choose(count, &self.taken());
            task.record.cores = chosen.ok_or_else(|| {
                LaunchError::Volume(format!(
                    "this node has no {count} processors left for one task, and one for the others"
                ))
            })?;
        }
        let others = self.tasks.values().map(|task| &task.record).filter(|record| record.phase != Phase::Gone);
        let taken: BTreeSet<String> = others.flat_map(|record| record.gpus.iter().cloned()).collect();
        // Planned again after a restart it keeps what it was given.
        if !self.site.unconfined && task.record.gpus.is_empty() {
            let chosen = gpus::choose(&self.site.gpus, gpus::wanted(&task.record.info), &taken);
            task.record.gpus = chosen.map_err(LaunchError::Volume)?;
        }
        self.name_ids(task)?;
        self.connect(task)
    }

    /// Processors that single runs have to themselves.
    fn taken(&self) -> BTreeSet<u32> {
        let records = self.tasks.values().map(|task| &task.record).filter(|record| record.phase != Phase::Gone);
        records.flat_map(|record| record.cores.iter().copied()).collect()
    }

    /// When those have changed, everybody else moves.
    fn share_cores(&mut self) -> Vec<Effect> {
        let taken = self.taken();
        if taken == self.site.taken {
            return Vec::new();
        }
        self.site.taken = taken;
        let live = self.tasks.values().filter(|task| task.record.process.is_some() && !task.record.phase.is_over());
        live.filter_map(|task| self.share(&task.record)).collect()
    }

    fn share(&self, record: &Record) -> Option<Effect> {
        if !record.cores.is_empty() || self.site.unconfined {
            return None;
        }
        let cpus = cores::list(&self.site.processors.rest(&self.site.taken));
        Some(Effect::ShareCores { container: record.container.clone(), cpus })
    }

    /// Gives a run that wants one an address nobody else has.
    fn connect(&self, task: &mut Task) -> Result<(), LaunchError> {
        let wish = bridge::wish(&task.record.info).map_err(LaunchError::Volume)?;
        let mappings = match wish {
            Wish::Bridge(mappings) => mappings,
            Wish::Named(network) => return self.join(task, network),
            Wish::Host | Wish::Nothing => return Ok(()),
        };
        if self.site.unconfined {
            let what = "containers with a network of their own on a node that runs tasks without isolation";
            return Err(LaunchError::Unsupported(what.to_owned()));
        }
        let taken = |other: &Task| other.record.network.as_ref().map(|address| (address.ip, address.mappings.clone()));
        let others = self.tasks.values().filter(|other| other.record.phase != Phase::Gone).filter_map(taken);
        let others: BTreeMap<_, _> = others.collect();
        let mut mapped = others.values().flatten();
        if let Some(twice) =
            mapped.find(|other| mappings.iter().any(|own| (own.protocol, own.host) == (other.protocol, other.host)))
        {
            return Err(LaunchError::Volume(format!("port {} is mapped to another container", twice.host)));
        }
        let ip = self.site.subnet.free(&others.into_keys().collect());
        let ip = ip.ok_or_else(|| LaunchError::Volume("every address of the node's bridge is in use".to_owned()))?;
        task.record.network = Some(Address { ip, mappings });
        Ok(())
    }

    fn kill_task(&mut self, framework: &FrameworkId, task: &TaskId, grace_ms: Option<u64>, now: Now) -> Vec<Effect> {
        if let Some(effects) = self.kill_in_executor(framework, task, grace_ms, now) {
            return effects;
        }
        // An executor may be called as a task was.
        let found = self.live(|record| record.framework == *framework && record.task == *task && is_task(record));
        if found.is_empty() {
            tracing::warn!(%framework, %task, "kill of an unknown task: the master learns our tasks when we register");
        }
        found.iter().flat_map(|container| self.kill(container, Cause::Asked, grace_ms, now)).collect()
    }

    fn shutdown_framework(&mut self, framework: &FrameworkId, now: Now) -> Vec<Effect> {
        let found = self.live(|record| record.framework == *framework && is_task(record));
        tracing::info!(%framework, tasks = found.len(), "framework is shut down");
        let mut effects = self.remove_executors_of(framework, now);
        effects.extend(found.iter().flat_map(|id| self.kill(id, Cause::FrameworkRemoved, None, now)));
        effects
    }

    fn live(&self, wanted: impl Fn(&Record) -> bool) -> Vec<ContainerId> {
        let runs = self.tasks.values().filter(|task| !task.record.phase.is_over() && wanted(&task.record));
        runs.map(|task| task.record.container.clone()).collect()
    }

    fn kill(&mut self, container: &ContainerId, cause: Cause, grace_ms: Option<u64>, now: Now) -> Vec<Effect> {
        let Some(task) = self.tasks.get(container) else { return Vec::new() };
        let grace_ms = grace_ms.or_else(|| task.own_grace_ms()).unwrap_or(GRACE_MS);
        self.step(container, container::Input::Kill(Kill { cause, grace_ms }), now)
    }

    /// Mesos gives no grace here.
    fn overran(&mut self, container: &ContainerId, overrun: crate::overrun::Overrun, now: Now) -> Vec<Effect> {
        let Some(task) = self.tasks.get_mut(container) else { return Vec::new() };
        if task.record.phase != Phase::Running {
            return Vec::new();
        }
        tracing::info!(%container, task = %task.record.task, why = %overrun.message(), "a task takes more than it may");
        task.record.overrun = Some(overrun);
        self.kill(container, Cause::Overrun, Some(0), now)
    }

    fn acknowledge(&mut self, framework: &FrameworkId, task: &TaskId, uuid: &[u8], now: Now) -> Vec<Effect> {
        let mut runs =
            self.tasks.values_mut().filter(|run| run.record.framework == *framework && run.record.task == *task);
        let Some(run) = runs.find_map(|run| run.record.updates.acknowledge(uuid, now.uptime_ms).map(|_| run)) else {
            let in_executor = self.acknowledge_in_executor(framework, task, uuid, now);
            return in_executor.unwrap_or_else(|| {
                tracing::debug!(%framework, %task, "an acknowledgement of nothing that is waiting");
                Vec::new()
            });
        };
        let container = run.record.container.clone();
        let mut effects = vec![Effect::Save(run.saved())];
        effects.extend(self.forget_if_told(&container));
        effects
    }

    /// A run that is gone and told is forgotten.
    fn forget_if_told(&mut self, container: &ContainerId) -> Option<Effect> {
        let task = self.tasks.get(container)?;
        if task.record.phase != Phase::Gone || !task.record.updates.is_empty() {
            return None;
        }
        self.tasks.remove(container);
        self.remember(container.clone());
        Some(Effect::Forget(container.clone()))
    }

    fn created(&mut self, container: &ContainerId, result: Result<Process, String>, now: Now) -> Vec<Effect> {
        let process = match result {
            Ok(process) => process,
            Err(reason) => return self.step(container, container::Input::Created(Err(reason)), now),
        };
        let Some(task) = self.tasks.get_mut(container) else {
            // Forgotten while it was made: nobody else will remove it.
            return vec![Effect::Delete(container.clone())];
        };
        task.record.process = Some(process);
        let mut effects = vec![Effect::Claim { pid: process.pid }];
        // They may have changed while it was made.
        if !self.site.taken.is_empty() {
            effects.extend(self.tasks.get(container).and_then(|task| self.share(&task.record)));
        }
        effects.extend(self.step(container, container::Input::Created(Ok(())), now));
        let asked_ms = self.tasks.get(container).map_or(0, |task| task.create_asked_ms);
        let early = self.early.iter().position(|(exit, _)| exit.pid == process.pid && exit.uptime_ms >= asked_ms);
        if let Some(at) = early {
            let (exit, _) = self.early.remove(at);
            effects.extend(self.exited(exit, now));
        }
        effects
    }

    fn exited(&mut self, exit: handover::Exit, now: Now) -> Vec<Effect> {
        let mut owners = self.tasks.values().filter(|task| task.owns(&exit));
        // With a pid used twice, the exit belongs to the run that still waits for one.
        let owner = owners.clone().find(|task| !task.record.phase.is_over()).or_else(|| owners.next());
        let Some(container) = owner.map(|task| task.record.container.clone()) else {
            self.early.retain(|(_, at_ms)| at_ms + EARLY_MS > now.uptime_ms);
            if self.early.len() >= EARLY {
                self.early.remove(0);
            }
            self.early.push((exit, now.uptime_ms));
            return Vec::new();
        };
        let mut effects = self.step(&container, container::Input::Exited(Exit::Seen(exit.status)), now);
        // After the Save among the effects: init may forget only what is written elsewhere.
        effects.push(Effect::AcknowledgeExit { sequence: exit.sequence });
        effects
    }

    fn tick(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = self.tick_executors(now);
        let containers: Vec<ContainerId> = self.tasks.keys().cloned().collect();
        for container in containers {
            let Some(task) = self.tasks.get_mut(&container) else { continue };
            let unseen = task.unseen_at_ms.take_if(|at_ms| *at_ms <= now.uptime_ms).is_some();
            effects.extend(task.probe(now));
            let late = task.record.complete_by_ms.take_if(|at_ms| *at_ms <= now.uptime_ms).is_some();
            if unseen && !task.record.phase.is_over() {
                effects.extend(self.step(&container, container::Input::Exited(Exit::Unseen), now));
            } else if late {
                // Mesos gives no grace here.
                effects.extend(self.kill(&container, Cause::MaxCompletionTime, Some(0), now));
            } else if task.record.phase.deadline_ms().is_some_and(|at_ms| at_ms <= now.uptime_ms) {
                effects.extend(self.step(&container, container::Input::Tick, now));
            }
        }
        effects
    }

    fn again(&mut self, container: &ContainerId, again: Again, now: Now) -> Vec<Effect> {
        let id = container.clone();
        match again {
            Again::Pull => self.pull_again(container, now),
            Again::PrepareAfterDelete => {
                let Some(task) = self.tasks.get_mut(container) else { return Vec::new() };
                let kill = match task.record.phase {
                    Phase::Creating { kill } | Phase::Preparing { kill } => kill,
                    Phase::Pulling
                    | Phase::Starting { .. }
                    | Phase::Running
                    | Phase::Killing { .. }
                    | Phase::Exited { .. }
                    | Phase::Deleting
                    | Phase::Gone => None,
                };
                task.record.phase = Phase::Preparing { kill };
                let mut site = self.site.clone();
                site.agent = task.record.agent.clone();
                match task.plan(&site) {
                    Ok(plan) => {
                        task.made_with(&plan);
                        vec![Effect::Delete(id.clone()), Effect::Prepare { container: id, plan: Box::new(plan) }]
                    }
                    Err(error) => self.step(container, container::Input::Prepared(Err(error.to_string())), now),
                }
            }
            Again::Start if self.holds(container) => Vec::new(),
            Again::Start => vec![Effect::Start(id)],
            Again::ReadUsage => vec![Effect::ReadUsage(id)],
            Again::Delete => vec![Effect::Delete(id)],
        }
    }

    fn step(&mut self, container: &ContainerId, input: container::Input, now: Now) -> Vec<Effect> {
        let Some(task) = self.tasks.get_mut(container) else { return Vec::new() };
        task.step(input, &self.site, &mut self.randomness, now)
    }

    /// Is it to wait for its group?
    fn holds(&mut self, container: &ContainerId) -> bool {
        let task = self.tasks.get_mut(container);
        task.is_some_and(|task| {
            task.held = matches!(task.record.part, Part::Member { .. });
            task.held
        })
    }

    fn with(&mut self, container: &ContainerId, change: impl FnOnce(&mut Task)) {
        if let Some(task) = self.tasks.get_mut(container) {
            change(task);
        }
    }
}

/// Not an executor's own process.
fn is_task(record: &Record) -> bool {
    !matches!(record.part, Part::Executor { .. })
}

#[cfg(test)]
mod tests;
