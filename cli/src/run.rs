//! `mesolith run`: a whole scheduler for one task.
//!
//! [`job::Job`] decides, this file does: it owns the subscription, the signals and the deadlines, and two tasks beside
//! it copy the output. A connection that breaks is taken up again under the same framework id, and the task with it.

mod constraint;
mod demand;
mod ending;
mod job;
mod output;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use api::v1::{
    Capability, CommandInfo, ContainerInfo, DurationInfo, Environment, FrameworkInfo, Image, KillPolicy, TaskInfo,
    container_info, environment::Variable, image,
};
use api::{AgentId, FrameworkId, TaskId};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::advice::{advise, describe};
use crate::cluster::State;
use crate::master::{Master, Refused};
use crate::options::Run;
use crate::render::{Format, Output};
use crate::scheduler::{Caller, Rejected, Scheduler, StreamLost};
use constraint::Constraint;
use demand::Demand;
use ending::Ending;
use job::{Action, Job, KillReason};
use output::Copies;

/// The master keeps the framework so long after a connection broke; so long we try to get back.
const FAILOVER: Duration = Duration::from_secs(60);
/// A task that was killed is given up when nothing was heard so long after its grace.
const KILL_ANSWER: Duration = Duration::from_secs(30);
/// Calls the master may refuse before we believe that it means it.
const MAX_REFUSALS: u32 = 3;

/// Runs the task and gives its exit code.
pub(crate) async fn run(master: &Master, output: &Output, options: &Run) -> Result<u8> {
    let (demand, task) = plan(options)?;
    refuse_the_impossible(master, &demand).await?;
    let mut info = framework(options, &task);
    let scheduler = Scheduler::subscribe(master, &info).await?;
    info.id = Some(scheduler.caller().framework().clone());
    let job = Job::new(demand, task.clone(), options.grace, options.timeout);
    let copies = Copies::new(master, scheduler.caller().framework(), &task.task_id, output.format());
    let driver = Driver {
        master: master.clone(),
        info,
        scheduler,
        job,
        copies,
        quiet: options.quiet,
        deadlines: Deadlines::new(options),
    };
    let framework = driver.info.id.clone();
    let (ending, job) = driver.drive().await?;
    if output.format() == Format::Json {
        let mut summary = job.summary();
        summary["framework_id"] = json!(framework);
        summary["exit_status"] = json!(ending.code);
        output.value(&summary)?;
    }
    if let Some((what, next)) = ending.complaint {
        eprintln!("error: {what}\n  next: {next}");
    }
    Ok(ending.code)
}

struct Driver {
    master: Master,
    info: FrameworkInfo,
    scheduler: Scheduler,
    job: Job,
    copies: Copies,
    quiet: bool,
    deadlines: Deadlines,
}

/// When patience ends; `None` where it has not begun or does not matter any more.
struct Deadlines {
    wait: Duration,
    offer: Instant,
    timeout: Option<Duration>,
    task: Option<Instant>,
    grace: Duration,
    kill: Option<Instant>,
}

impl Deadlines {
    fn new(options: &Run) -> Self {
        Self {
            wait: options.wait,
            offer: Instant::now() + options.wait,
            timeout: options.timeout,
            task: None,
            grace: options.grace,
            kill: None,
        }
    }
}

impl Driver {
    async fn drive(mut self) -> Result<(Ending, Job)> {
        let mut interrupts = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
        let mut terminations = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
        let (mut actions, mut refusals) = (Vec::new(), 0);
        let ending = loop {
            match self.perform(actions).await {
                Ok(Some(ending)) => break ending,
                Ok(None) => actions = self.next_actions(&mut interrupts, &mut terminations).await?,
                Err(error) => {
                    // A call that failed has the same cure as a broken stream: come back and reconcile. One that is
                    // refused again and again has not.
                    refusals += u32::from(error.downcast_ref::<Refused>().is_some());
                    if refusals > MAX_REFUSALS {
                        return Err(error);
                    }
                    self.resubscribe(describe(&error).0).await?;
                    actions = self.job.on_resubscribed();
                }
            }
        };
        self.copies.finish().await;
        // The task is over: failing to say so leaves the framework to its failover timeout.
        let _ = timeout(Duration::from_secs(5), self.scheduler.caller().teardown()).await;
        Ok((ending, self.job))
    }

    async fn next_actions(&mut self, interrupts: &mut Signal, terminations: &mut Signal) -> Result<Vec<Action>> {
        let far = Instant::now() + Duration::from_secs(86_400);
        let offer = if self.job.is_seeking() { self.deadlines.offer } else { far };
        let event = tokio::select! {
            event = self.scheduler.next() => event,
            _ = interrupts.recv() => return Ok(self.kill(KillReason::Signal(2))),
            _ = terminations.recv() => return Ok(self.kill(KillReason::Signal(15))),
            () = sleep_until(offer) => return Ok(self.job.on_no_offer(self.deadlines.wait)),
            () = sleep_until(self.deadlines.task.unwrap_or(far)) => {
                self.deadlines.task = None;
                return Ok(self.kill(KillReason::Timeout));
            }
            () = sleep_until(self.deadlines.kill.unwrap_or(far)) => {
                self.deadlines.kill = None;
                self.say("the task's end was not confirmed in time");
                return Ok(self.job.on_kill(KillReason::Signal(9)));
            }
        };
        match event {
            Ok(event) => {
                if self.job.wants_names(&event) {
                    self.learn_names().await;
                }
                Ok(self.job.on_event(event))
            }
            Err(StreamLost(reason)) => {
                self.resubscribe(reason).await?;
                Ok(self.job.on_resubscribed())
            }
        }
    }

    fn kill(&mut self, reason: KillReason) -> Vec<Action> {
        self.deadlines.kill = Some(Instant::now() + self.deadlines.grace + KILL_ANSWER);
        self.job.on_kill(reason)
    }

    /// Does what was decided. An error means the connection, not the task: after it no more calls are made, but the
    /// task's end counts all the same.
    async fn perform(&mut self, actions: Vec<Action>) -> Result<Option<Ending>> {
        let mut broken = None;
        for action in actions {
            match action {
                Action::Started => self.copies.start(),
                Action::Say(text) => self.say(&text),
                Action::End(ending) => return Ok(Some(ending)),
                call @ (Action::Accept { .. }
                | Action::Decline { .. }
                | Action::Acknowledge(_)
                | Action::Suppress
                | Action::Revive
                | Action::Kill { .. }
                | Action::Reconcile { .. }) => {
                    if broken.is_none() {
                        broken = self.call(call).await.err();
                    }
                }
            }
        }
        broken.map_or(Ok(None), Err)
    }

    async fn call(&mut self, action: Action) -> Result<()> {
        let caller: &Caller = self.scheduler.caller();
        match action {
            Action::Accept { offers, task, refuse_seconds } => {
                self.deadlines.task = self.deadlines.timeout.map(|timeout| Instant::now() + timeout);
                caller.accept(offers, vec![*task], refuse_seconds).await
            }
            Action::Decline { offers, refuse_seconds } => caller.decline(offers, refuse_seconds).await,
            Action::Acknowledge(status) => caller.acknowledge(&status).await,
            Action::Suppress => caller.suppress().await,
            Action::Revive => {
                self.deadlines.offer = Instant::now() + self.deadlines.wait;
                caller.revive().await
            }
            Action::Kill { task, agent, policy } => caller.kill(task, agent, Some(policy)).await,
            Action::Reconcile { task, agent } => caller.reconcile(task, agent).await,
            Action::Started | Action::Say(_) | Action::End(_) => Ok(()),
        }
    }

    /// Comes back under the same id until the master would have forgotten us.
    async fn resubscribe(&mut self, reason: String) -> Result<()> {
        self.say(&format!("the connection to the master broke ({reason}); coming back"));
        let give_up = Instant::now() + FAILOVER;
        let mut pause = Duration::from_millis(250);
        loop {
            match Scheduler::subscribe(&self.master, &self.info).await {
                Ok(scheduler) => {
                    self.scheduler = scheduler;
                    return Ok(());
                }
                Err(error) if error.downcast_ref::<Rejected>().is_some() => return Err(error),
                Err(error) if Instant::now() + pause >= give_up => {
                    return Err(error.context("the master has not come back; the task may still run"));
                }
                Err(_) => sleep(pause).await,
            }
            pause = (pause * 2).min(Duration::from_secs(4));
        }
    }

    async fn learn_names(&mut self) {
        // Without names the agents' ids do.
        if let Ok(state) = State::read(&self.master).await {
            self.job
                .learn_names(state.slaves.iter().map(|node| (AgentId::from(node.id.as_str()), node.name().to_owned())));
        }
    }

    fn say(&self, text: &str) {
        if !self.quiet {
            eprintln!("mesolith: {text}");
        }
    }
}

/// What is asked for, and the task but for where it runs.
fn plan(options: &Run) -> Result<(Demand, TaskInfo)> {
    let mut constraints = Vec::new();
    for text in &options.constraints {
        let constraint = Constraint::parse(text).map_err(|reason| {
            advise(format!("--constraint {text} cannot be used: {reason}"), "for example --constraint 'rack:LIKE:r1.*'")
        })?;
        constraints.push(constraint);
    }
    let amounts =
        [("cpus", options.cpus), ("mem", options.mem), ("disk", options.disk), ("gpus", f64::from(options.gpus))];
    let demand = Demand::new(amounts, constraints).map_err(|reason| advise(reason, "see `mesolith run --help`"))?;
    let mut variables = Vec::new();
    for text in &options.env {
        let Some((name, value)) = text.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(advise(format!("--env {text} is not KEY=VALUE"), "for example --env GREETING=hello"));
        };
        variables.push(Variable { name: name.to_owned(), value: Some(value.to_owned()), ..Variable::default() });
    }
    // Of an image, what stands after the last slash and before the tag.
    let image = options.image.as_deref().map(|image| image.rsplit('/').next().unwrap_or(image));
    let image = image.and_then(|image| image.split([':', '@']).next());
    let program = options.command.first().and_then(|line| line.split_whitespace().next()).or(image).unwrap_or("task");
    let program = program.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or("task");
    let name = options.name.clone().unwrap_or_else(|| program.to_owned());
    let shell = options.command.len() == 1;
    let command = CommandInfo {
        environment: (!variables.is_empty()).then_some(Environment { variables }),
        shell: Some(shell),
        value: options.command.first().cloned(),
        arguments: if shell { Vec::new() } else { options.command.clone() },
        ..CommandInfo::default()
    };
    let grace = DurationInfo { nanoseconds: i64::try_from(options.grace.as_nanos()).unwrap_or(i64::MAX) };
    let task = TaskInfo {
        task_id: task_id(&name),
        name,
        command: Some(command),
        container: options.image.as_deref().map(|image| Box::new(in_image(image))),
        kill_policy: Some(KillPolicy { grace_period: Some(grace) }),
        ..TaskInfo::default()
    };
    Ok((demand, task))
}

fn in_image(name: &str) -> ContainerInfo {
    let docker = image::Docker { name: name.to_owned(), ..image::Docker::default() };
    let image = Image { r#type: image::Type::Docker.into(), docker: Some(docker), ..Image::default() };
    let mesos = container_info::MesosInfo { image: Some(image) };
    ContainerInfo { r#type: container_info::Type::Mesos.into(), mesos: Some(mesos), ..ContainerInfo::default() }
}

/// The name, as far as an id may hold it, and something that differs every time.
fn task_id(name: &str) -> TaskId {
    let safe: String =
        name.chars().take(100).map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' }).collect();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    TaskId::from(format!("{safe}.{now:x}-{:x}", std::process::id()))
}

fn framework(options: &Run, task: &TaskInfo) -> FrameworkInfo {
    let mut capabilities = vec![
        Capability::PartitionAware,
        Capability::TaskKillingState,
        Capability::MultiRole,
        Capability::ReservationRefinement,
    ];
    if options.gpus > 0 {
        capabilities.push(Capability::GpuResources);
    }
    FrameworkInfo {
        user: std::env::var("USER").ok().filter(|user| !user.is_empty()).unwrap_or_else(|| "root".to_owned()),
        name: format!("mesolith run {}", task.name),
        failover_timeout: Some(FAILOVER.as_secs_f64()),
        checkpoint: Some(true),
        roles: vec![options.role.clone()],
        capabilities: capabilities.into_iter().map(Into::into).collect(),
        ..FrameworkInfo::default()
    }
}

/// Nodes there are, but none that could ever hold the task: no use in waiting for an offer.
async fn refuse_the_impossible(master: &Master, demand: &Demand) -> Result<()> {
    let state = State::read(master).await?;
    let milli = |units: f64| api::Milli::from_units(units).unwrap_or_default();
    let ratio = |node: &crate::cluster::Node| {
        demand.ratio(|name| match name {
            "cpus" => milli(node.resources.cpus),
            "mem" => milli(node.resources.mem),
            "disk" => milli(node.resources.disk),
            _ => milli(node.resources.gpus),
        })
    };
    let Some(largest) = state.slaves.iter().max_by(|a, b| ratio(a).total_cmp(&ratio(b))) else { return Ok(()) };
    if ratio(largest) >= 1.0 {
        return Ok(());
    }
    let has = largest.resources;
    let what = format!(
        "no node is large enough for {}: the nearest, {}, has cpus:{}; mem:{}; disk:{}; gpus:{} in all",
        demand.text(),
        largest.name(),
        milli(has.cpus),
        milli(has.mem),
        milli(has.disk),
        milli(has.gpus)
    );
    Err(advise(what, "ask for less; `mesolith nodes` shows every node"))
}
