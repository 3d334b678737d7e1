//! A simulated agent: keeps its session with the leader, and pretends to run tasks.
//!
//! It does what the real one does as the master sees it: a task is known by its container, a start that is repeated does
//! nothing, an update is repeated until it is acknowledged, and the next one waits.

use std::collections::{BTreeMap, VecDeque};

use api::v1::{Reason, Source, TaskStatus};
use api::{AgentId, Resources, TaskState};
use master::driver::Opening;
use master_core::{AgentMessage, Registration, ReportedTask, Return, ToAgent};

use crate::chance::Chance;
use crate::invariants::updates::Uuid;
use crate::invariants::{Invariant, Watch};
use crate::trace::{MS, Micros, SECOND};

/// From connecting to being registered.
const REGISTER: Micros = 3 * SECOND;
/// A master that does not ping for so long is gone.
const SILENCE: Micros = 2500 * MS;
/// An update that is not acknowledged is told again.
const REPEAT: Micros = 700 * MS;

/// What an agent wants done.
pub(crate) enum Wish {
    /// A connection to some master, and these first words on it.
    Connect(usize, Opening),
    /// The log knows another agent: say all of it.
    Register(Box<Registration>),
    /// Say this.
    Say(AgentMessage),
    /// The connection is of no use.
    Close,
}

struct Run {
    framework: String,
    task: String,
    state: TaskState,
    /// The first one was told, or will be.
    updates: VecDeque<(Uuid, TaskState)>,
    told_at: Micros,
    /// What is to come, and when.
    plan: VecDeque<(Micros, TaskState)>,
}

/// See the module.
pub(crate) struct Agent {
    pub(crate) name: String,
    pub(crate) resources: Resources,
    chance: Chance,
    boot: u64,
    pub(crate) id: Option<AgentId>,
    pub(crate) line: Option<u64>,
    pub(crate) registered: bool,
    heard_at: Micros,
    connect_at: Micros,
    runs: BTreeMap<String, Run>,
    updates: u64,
    /// Tasks end soon.
    pub(crate) hurry: bool,
}

impl Agent {
    pub(crate) fn new(number: usize, mut chance: Chance) -> Self {
        let cpus = 2 + chance.below(3);
        let resources = Resources::parse(&format!("cpus:{cpus};mem:{};ports:[31000-31009]", cpus * 512));
        Self {
            name: format!("node-{number}"),
            resources: resources.expect("resources are written in the grammar"),
            boot: chance.next(),
            chance,
            id: None,
            line: None,
            registered: false,
            heard_at: 0,
            connect_at: 0,
            runs: BTreeMap::new(),
            updates: 0,
            hurry: false,
        }
    }

    /// Does it wait for nobody's acknowledgement?
    pub(crate) fn is_settled(&self) -> bool {
        self.registered && self.runs.values().all(|run| run.updates.is_empty())
    }

    /// Looks at the clock.
    pub(crate) fn look(&mut self, now: Micros, masters: usize, watch: &mut Watch) -> Vec<Wish> {
        self.progress(now, watch);
        let mut wishes = Vec::new();
        if self.line.is_none() {
            if now >= self.connect_at {
                (self.registered, self.heard_at) = (false, now);
                let master = self.chance.index(masters);
                wishes.push(Wish::Connect(master, self.opening()));
            }
            return wishes;
        }
        let patience = if self.registered { SILENCE } else { REGISTER };
        if now > self.heard_at + patience {
            wishes.push(Wish::Close);
            return wishes;
        }
        if self.registered {
            for run in self.runs.values_mut().filter(|run| now >= run.told_at + REPEAT) {
                let Some((uuid, state)) = run.updates.front() else { continue };
                run.told_at = now;
                wishes.push(Wish::Say(update(&self.name, run, *uuid, *state)));
            }
        }
        wishes
    }

    /// What has happened to the tasks meanwhile.
    fn progress(&mut self, now: Micros, watch: &mut Watch) {
        for (container, run) in &mut self.runs {
            while run.plan.front().is_some_and(|(at, state)| now >= *at || (self.hurry && state.is_terminal())) {
                let Some((_, state)) = run.plan.pop_front() else { break };
                self.updates += 1;
                let mut uuid = (u128::from(self.boot) << 64 | u128::from(self.updates)).to_be_bytes();
                uuid[6] = 0x40; // as a random one has it
                watch.updates.made(container, uuid);
                if run.updates.is_empty() {
                    run.told_at = 0;
                }
                run.updates.push_back((uuid, state));
                run.state = state;
                if state.is_terminal() {
                    run.plan.clear();
                    watch.launched.ended(&run.framework, &run.task, container);
                }
            }
        }
    }

    /// Who was registered since the machine started returns.
    fn opening(&self) -> Opening {
        let Some(agent) = self.id.clone() else { return Opening::Registers(Box::new(self.registration())) };
        let mut tasks = self.reports();
        tasks.sort_by(|a, b| (&a.framework, &a.task).cmp(&(&b.framework, &b.task)));
        Opening::Returns(Box::new(Return {
            node: self.name.as_str().into(),
            boot_id: format!("{:x}", self.boot),
            agent,
            edition: self.boot | 1,
            tasks: api::tasks_digest(tasks.iter().map(|run| (&run.framework, &run.task, &run.container, run.state))),
        }))
    }

    fn reports(&self) -> Vec<ReportedTask> {
        let runs = self.runs.iter().map(|(container, run)| ReportedTask {
            framework: run.framework.as_str().into(),
            task: run.task.as_str().into(),
            container: container.as_str().into(),
            state: run.state,
        });
        runs.collect()
    }

    fn registration(&self) -> Registration {
        Registration {
            node: self.name.as_str().into(),
            boot_id: format!("{:x}", self.boot),
            agent: self.id.clone(),
            hostname: self.name.clone(),
            address: "10.0.0.1".to_owned(),
            version: "1".to_owned(),
            capabilities: api::v1::OUR_AGENTS,
            kernel: "6".to_owned(),
            resources: self.resources.clone(),
            attributes: Vec::new(),
            facts: Vec::new(),
            inventory_json: String::new(),
            tasks: self.reports(),
            edition: self.boot | 1,
            executors: Vec::new(),
        }
    }

    /// The connection is no more.
    pub(crate) fn disconnected(&mut self, now: Micros) {
        (self.line, self.registered) = (None, false);
        self.connect_at = now + self.chance.within(20 * MS..400 * MS);
    }

    /// The machine starts anew: whatever ran is gone.
    pub(crate) fn reboot(&mut self, now: Micros, watch: &mut Watch) {
        for (container, run) in std::mem::take(&mut self.runs) {
            watch.launched.ended(&run.framework, &run.task, &container);
        }
        self.boot = self.chance.next();
        self.id = None;
        self.disconnected(now);
        self.connect_at += SECOND;
    }

    /// The master says something.
    pub(crate) fn hear(&mut self, word: ToAgent, now: Micros, watch: &mut Watch) -> Vec<Wish> {
        self.heard_at = now;
        match word {
            ToAgent::Registered { agent } => {
                self.id = Some(agent);
                self.registered = true;
                self.runs.values_mut().for_each(|run| run.told_at = 0);
            }
            ToAgent::RegisterInFull => return vec![Wish::Register(Box::new(self.registration()))],
            ToAgent::Refused { .. } => return vec![Wish::Close],
            ToAgent::RunTask { framework, container, task, .. } => {
                let task = task.task_id.to_string();
                self.run(framework.to_string(), task, container.to_string(), now, watch);
            }
            ToAgent::KillTask { framework, task, .. } => {
                let runs = self.runs.values_mut().filter(|run| !run.state.is_terminal());
                for run in runs.filter(|run| run.framework == framework.as_str() && run.task == task.as_str()) {
                    run.plan = [(now + 20 * MS, TaskState::Killed)].into();
                }
            }
            ToAgent::Acknowledge { framework, task, uuid } => {
                let allowed = watch.updates.forgets(framework.as_str(), task.as_str(), uuid);
                watch.check(Invariant::UpdatesInOrder, now, allowed);
                self.acknowledged(uuid);
            }
            ToAgent::ShutdownFramework { framework } => {
                let gone = self.runs.extract_if(.., |_, run| run.framework == framework.as_str());
                for (container, run) in gone {
                    watch.launched.ended(&run.framework, &run.task, &container);
                }
            }
            // No framework of the simulation has executors.
            ToAgent::RunGroup { .. }
            | ToAgent::ExecutorMessage { .. }
            | ToAgent::ShutdownExecutor { .. }
            | ToAgent::ForgetExecutor { .. } => {}
            // Of what is written on a node nothing is known here.
            ToAgent::Volumes { .. } | ToAgent::Network { .. } | ToAgent::DiskRules { .. } => {}
            ToAgent::Ping { nonce } => return vec![Wish::Say(AgentMessage::Pong { nonce })],
        }
        Vec::new()
    }

    fn run(&mut self, framework: String, task: String, container: String, now: Micros, watch: &mut Watch) {
        if self.runs.contains_key(&container) {
            return; // a repeated word
        }
        let started = watch.launched.started(&framework, &task, &container);
        watch.check(Invariant::LaunchedOnce, now, started);
        let starts = now + self.chance.within(MS..50 * MS);
        let runs = starts + self.chance.within(MS..200 * MS);
        let ends = runs + if self.chance.percent(70) { self.chance.within(0..3 * SECOND) } else { 3600 * SECOND };
        let end = if self.chance.percent(85) { TaskState::Finished } else { TaskState::Failed };
        let plan = [(starts, TaskState::Starting), (runs, TaskState::Running), (ends, end)].into();
        let run = Run { framework, task, state: TaskState::Staging, updates: VecDeque::new(), told_at: 0, plan };
        self.runs.insert(container, run);
    }

    fn acknowledged(&mut self, uuid: Uuid) {
        for run in self.runs.values_mut() {
            if run.updates.front().is_some_and(|(first, _)| *first == uuid) {
                run.updates.pop_front();
                run.told_at = 0;
            }
        }
        self.runs.retain(|_, run| !(run.state.is_terminal() && run.updates.is_empty()));
    }
}

fn update(node: &str, run: &Run, uuid: Uuid, state: TaskState) -> AgentMessage {
    let mut status = TaskStatus::new(run.task.as_str().into(), state);
    status.uuid = Some(uuid.to_vec());
    status.source = Some(Source::Executor.into());
    status.message = Some(format!("on {node}"));
    if state == TaskState::Failed {
        status.reason = Some(Reason::CommandExecutorFailed.into());
    }
    AgentMessage::Update { framework: run.framework.as_str().into(), status: Box::new(status), latest: run.state }
}
