//! The core and the hands that do what it wants, in its order.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::agent::executors::{ExecutorEffect, Input as ExecutorInput};
use agent_core::agent::{Agent, Effect, Input, Now};
use agent_core::cmdline::Quota;
use agent_core::executor::{ExecutorRecord, Stage};
use agent_core::handover::InitRequest;
use agent_core::launch::{self, Site};
use agent_core::overrun::Overrun;
use agent_core::record::{Part, Record};
use agent_core::recovery::Found;
use api::ContainerId;
use api::link::{FromAgent, StatusUpdate, from_agent};
use api::v1::executor::call;

use super::beside::Isolation;
use super::bridge::{Bridge, Others};
use super::cgroup::{Cgroup, start_ticks};
use super::checkpoint::{Checkpoint, CheckpointError};
use super::cni::Cni;
use super::containers::{Containers, Job, LauncherError, Line};
use super::door::past::Past;
use super::events::{Events, Session};
use super::executors::{self, Answer, Asked, Desk};
use super::fetches::Fetches;
use super::garbage;
use super::images::Images;
use super::init_client::InitClient;
use super::later_volumes;
use super::probes::{self, Look};
use super::projects::{self, Projects};
use super::settings::Settings;
use crate::logging::chain;
use crate::{run_dir, uptime};

/// After this long a checkpoint that could not be written is tried again. Until then nothing that depends on it is
/// done, so nothing is lost; tasks that run go on.
const SAVE_AGAIN_MS: u64 = 1_000;

/// Owns the core.
#[derive(Debug)]
pub(crate) struct Supervision {
    pub(crate) agent: Agent,
    queue: VecDeque<Effect>,
    blocked_until_ms: Option<u64>,
    checkpoint: Checkpoint,
    containers: Containers,
    pub(crate) images: Images,
    pub(crate) desk: Desk,
    fetches: Fetches,
    projects: Option<Projects>,
    cgroup_parent: String,
    unconfined: bool,
    bundles: PathBuf,
    /// For those who speak to the node itself, if anybody may.
    pub(crate) past: Option<Past>,
    events: Events,
}

/// The agent cannot look after tasks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SupervisionError {
    #[error("cannot read the checkpoint")]
    Checkpoint(#[from] CheckpointError),
    #[error("cannot learn which containers there are")]
    Launcher(#[from] LauncherError),
    #[error("cannot start the thread that talks to the launcher")]
    Thread(#[source] std::io::Error),
}

/// Both clocks, now.
pub(crate) fn now() -> Now {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Now { uptime_ms: uptime::millis(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
}

impl Supervision {
    /// Reads the checkpoint, compares it with what is there, and goes on. Blocks while the launcher starts.
    pub(crate) fn recover(
        settings: &Settings,
        site: Site,
        seed: [u8; 16],
        events: &Events,
    ) -> Result<Self, SupervisionError> {
        let checkpoint = Checkpoint::new(&settings.state);
        let records = checkpoint.load_records()?;
        let mut lines: Vec<Line> =
            (0..run_dir::launchers()).map(|number| Line::new(settings.run.launcher_socket(number))).collect();
        let line = lines.first_mut().expect("there is a launcher");
        let containers = line.list()?;
        let pids = containers.iter().filter_map(|state| state.pid);
        let found = Found {
            boot_id: settings.boot_id.clone(),
            start_ticks: pids.filter_map(|pid| Some((pid, start_ticks(pid)?))).collect(),
            alive: records
                .iter()
                .filter_map(|record| record.process)
                .filter(|process| start_ticks(process.pid) == Some(process.start_ticks))
                .collect(),
            containers,
        };
        if !records.is_empty() {
            tracing::info!(
                runs = records.len(),
                alive = found.alive.len(),
                "going on with the tasks of an earlier agent"
            );
        }
        let mut site = site;
        let images = Images::open(settings, &mut site, events.clone());
        let cgroup_parent = site.cgroup_parent.clone();
        let unconfined = site.unconfined;
        let cni = cni(settings);
        let quota = settings.config.disk_quota.unwrap_or(Quota::Enforce);
        let projects = Projects::open(&settings.work_dir, quota).unwrap_or_else(|error| {
            tracing::warn!(%error, "the work directory's quotas are not used");
            None
        });
        site.projects = projects.is_some();
        site.networks = cni.as_ref().map(Cni::names).unwrap_or_default();
        let (mut agent, mut effects) = Agent::new(site, seed, records, &found, now());
        effects.extend(agent.recover_executors(checkpoint.load_executors()?, now()));
        // Before anything can be collected.
        let known = agent.containers().map(ToString::to_string).collect();
        images.recover(agent.layers_in_use(), &known);
        let store = images.store().cloned();
        let connected = agent.connected().map(|(id, address)| (id.to_string(), address.clone())).collect();
        let others = if settings.hosted { Others::Leave } else { Others::Drop };
        let bridge = Bridge::new(settings.config.bridge, others, connected);
        if let Some(cni) = cni.clone() {
            let known: std::collections::BTreeSet<String> = agent.containers().map(ToString::to_string).collect();
            // Before the first container is made: one of the same id waits until this has been let go.
            let recovery = cni.recover(&known);
            std::thread::spawn(move || cni.go_on(recovery));
        }
        let bundles = settings.state.join("bundles");
        let containers = Containers::start(lines, bundles, store, bridge, cni, projects.clone(), events.clone())
            .map_err(SupervisionError::Thread)?;
        Ok(Self {
            agent,
            queue: effects.into(),
            blocked_until_ms: None,
            checkpoint,
            containers,
            images,
            desk: Desk::default(),
            fetches: Fetches::open(settings, projects.clone(), events.clone()),
            projects,
            cgroup_parent,
            unconfined,
            bundles: settings.state.join("bundles"),
            past: settings.config.agent_api.map(|_| Past::default()),
            events: events.clone(),
        })
    }

    /// A container's specification.
    pub(crate) fn config(&self, container: &ContainerId) -> PathBuf {
        self.bundles.join(container.as_str()).join("config.json")
    }

    /// Whether tasks are kept apart here.
    pub(crate) const fn isolation(&self) -> Isolation {
        if self.unconfined { Isolation::None } else { Isolation::Containers }
    }

    /// Tells the core.
    pub(crate) fn input(&mut self, input: Input) {
        let effects = self.agent.handle(input, now());
        self.queue.extend(effects);
    }

    /// When [`input`](Self::input) with a tick or [`perform`](Self::perform) is due.
    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        [self.agent.next_deadline_ms(), self.blocked_until_ms].into_iter().flatten().min()
    }

    /// Performs what waits.
    pub(crate) fn perform(&mut self, init: &mut InitClient, session: Option<&Session>) {
        if self.blocked_until_ms.is_some_and(|until| until > uptime::millis()) {
            return;
        }
        self.blocked_until_ms = None;
        while let Some(effect) = self.queue.pop_front() {
            if let Some(past) = &mut self.past {
                past.hear(&effect);
            }
            let saved = if let Effect::Save(record) = &effect {
                self.checkpoint.save(record)
            } else if let Effect::Executor(ExecutorEffect::Save(record)) = &effect {
                self.checkpoint.save_executor(record)
            } else {
                Ok(())
            };
            if let Err(error) = saved {
                tracing::error!(error = %chain(&error), "a checkpoint cannot be written: waiting until it can");
                init.say(&format!("cannot write a checkpoint: {}", chain(&error)));
                self.queue.push_front(effect);
                self.blocked_until_ms = Some(uptime::millis() + SAVE_AGAIN_MS);
                return;
            }
            // The core forgets it only after what follows has been done, and only then may it be collected.
            if let Some(sandbox) = self.ended(&effect) {
                tokio::task::spawn_blocking(move || {
                    projects::release(&sandbox);
                    garbage::begin_to_age(&sandbox);
                });
            }
            self.perform_one(effect, init, session);
        }
    }

    /// The sandbox of what has ended, if that is what is written down.
    fn ended(&self, effect: &Effect) -> Option<PathBuf> {
        let work_dir = &self.agent.site().work_dir;
        if let Effect::Save(record) = effect {
            let Record { agent, framework, task, container, .. } = &**record;
            return match &record.part {
                Part::Alone | Part::Executor { .. } if record.phase.is_over() => {
                    Some(launch::sandbox(work_dir, agent, framework, task.as_str(), container).into())
                }
                // A pod's sandbox is removed as a whole.
                Part::Alone | Part::Executor { .. } | Part::Member { .. } => None,
            };
        }
        let Effect::Executor(ExecutorEffect::Save(record)) = effect else { return None };
        let ExecutorRecord { agent, framework, executor, container, .. } = &**record;
        match record.stage {
            Stage::Ended { .. } => {
                Some(launch::sandbox(work_dir, agent, framework, executor.as_str(), container).into())
            }
            Stage::Registering | Stage::Subscribed | Stage::Terminating => None,
        }
    }

    fn perform_one(&mut self, effect: Effect, init: &mut InitClient, session: Option<&Session>) {
        match effect {
            Effect::Save(_) => {} // done by the caller
            Effect::Forget(container) => {
                if let Err(error) = self.checkpoint.forget(&container) {
                    tracing::warn!(%container, error = %chain(&error), "a checkpoint could not be removed");
                }
            }
            Effect::Pull { container, request } => self.images.pull(container, *request),
            Effect::Fetch { container, plan, uris } => self.fetches.start(container, &plan, &uris),
            Effect::CancelPull(container) => {
                self.images.cancel(&container);
                self.fetches.cancel(&container);
            }
            Effect::Prepare { container, plan } => self.containers.tell(Job::Prepare { container, plan }),
            Effect::Create { container, bundle, sandbox, network, named_network } => {
                self.containers.tell(Job::Create { container, bundle, sandbox, network, named_network });
            }
            Effect::Start(container) => self.containers.tell(Job::Start(container)),
            Effect::LimitCpu { container, process, cpu_max } => {
                let cgroup = Cgroup::of(&self.cgroup_parent, container.as_str());
                tokio::spawn(async move {
                    if let Err(error) = cgroup.limit_cpu(process, &cpu_max).await {
                        tracing::warn!(%container, %error, "a task's processor time is not limited");
                    }
                });
            }
            Effect::ShareCores { container, cpus } => {
                let cgroup = Cgroup::of(&self.cgroup_parent, container.as_str());
                if let Err(error) = cgroup.share_cores(&cpus) {
                    tracing::warn!(%container, %error, "a task runs on processors another has to itself");
                }
            }
            Effect::Terminate { container, process, grace_ms } if !self.unconfined => {
                let cgroup = Cgroup::of(&self.cgroup_parent, container.as_str());
                let containers = self.containers.clone();
                tokio::spawn(async move {
                    if cgroup.terminate(process, Duration::from_millis(grace_ms)).await {
                        containers.tell(Job::KillAll(container));
                    }
                });
            }
            Effect::Terminate { container, .. } => self.containers.tell(Job::Signal { container, signal: 15 }),
            Effect::KillAll(container) => self.containers.tell(Job::KillAll(container)),
            Effect::ReadUsage(container) => {
                let usage = Cgroup::of(&self.cgroup_parent, container.as_str()).usage();
                self.input(Input::Used { container, usage });
            }
            Effect::Probe { container, process, probe } => {
                let (config, isolation) = (self.config(&container), self.isolation());
                probes::start(Look { container, process, config, isolation, probe: *probe }, self.events.clone());
            }
            Effect::Delete(container) => self.containers.tell(Job::Delete(container)),
            Effect::Claim { pid } => init.call(InitRequest::Claim { pid }),
            Effect::AcknowledgeExit { sequence } => init.call(InitRequest::AcknowledgeExit { sequence }),
            Effect::Send { framework, status, latest } => {
                let Some(session) = session else { return };
                let update = StatusUpdate {
                    framework_id: framework.into(),
                    status: Some(*status),
                    latest_state: latest.name().to_owned(),
                };
                // Full or closed: the core repeats it.
                let _ = session.urgent.try_send(FromAgent { message: Some(from_agent::Message::Update(update)) });
            }
            Effect::Executor(effect) => self.about_executor(effect, session),
        }
    }

    fn about_executor(&mut self, effect: ExecutorEffect, session: Option<&Session>) {
        match effect {
            ExecutorEffect::Save(_) => {} // done before
            ExecutorEffect::Forget(container) => {
                if let Err(error) = self.checkpoint.forget_executor(&container) {
                    tracing::warn!(%container, error = %chain(&error), "a checkpoint could not be removed");
                }
            }
            ExecutorEffect::Send { container, stream, event } => {
                if !self.desk.send(&container, stream, &event) {
                    self.input(Input::Executor(ExecutorInput::HungUp { container, stream }));
                }
            }
            ExecutorEffect::Close { container, stream } => self.desk.close(&container, stream),
            ExecutorEffect::Resize { container, process, limits } => {
                let cgroup = Cgroup::of(&self.cgroup_parent, container.as_str());
                executors::resize(cgroup, container, process, limits);
            }
            ExecutorEffect::Volumes { container, process, ids, added, removed } => {
                // Waited for: what comes after may tell it of a task that looks for them.
                for (place, error) in later_volumes::change(process, ids, added, removed, self.projects.as_ref()) {
                    // Its tasks would write elsewhere than they believe, or to what is another's.
                    tracing::error!(%container, place, %error, "an executor's volume is not as it should be; it is ended");
                    let overrun = Overrun::Volume { place, why: error.to_string() };
                    self.input(Input::Overran { container: container.clone(), overrun });
                }
            }
            effect @ (ExecutorEffect::Message { .. } | ExecutorEffect::TellEnd { .. }) => {
                if let Some(word) = executors::word(effect) {
                    executors::tell_master(session, word);
                }
            }
        }
    }

    /// An executor's process calls.
    pub(crate) fn executor_calls(&mut self, asked: Asked) {
        let Asked { call, token, wanted, reply } = asked;
        let container = match self.agent.check_call(&call, token.as_deref()) {
            Ok(container) => container,
            Err(refused) => {
                tracing::info!(
                    framework = %call.framework_id, executor = %call.executor_id, reason = refused.text,
                    "refused a call of an executor"
                );
                // Whoever asked has gone.
                let _ = reply.send(Err(refused));
                return;
            }
        };
        let Some(subscribe) = call.subscribe.clone().filter(|_| call.r#type() == call::Type::Subscribe) else {
            let _ = reply.send(Ok(Answer::Accepted));
            return self.input(Input::Executor(ExecutorInput::Said { container, call }));
        };
        let (stream, answer) = self.desk.open(container.clone(), wanted);
        if reply.send(Ok(answer)).is_ok() {
            self.input(Input::Executor(ExecutorInput::Subscribed { container, stream, subscribe }));
        } else {
            self.desk.close(&container, stream);
        }
    }
}

/// What an appliance's operator brings along, in an initial file system of their own.
const CNI_CONFIG: &str = "/etc/mesolith/cni";
const CNI_PLUGINS: &str = "/opt/cni/bin";

/// Networks of the operator's, if there are any.
fn cni(settings: &Settings) -> Option<Cni> {
    let told = settings.config.cni_config.clone();
    let lists = PathBuf::from(told.clone().unwrap_or_else(|| CNI_CONFIG.to_owned()));
    // What a host has there is not meant for us.
    if told.is_none() && (settings.hosted || !lists.is_dir()) {
        return None;
    }
    let plugins = PathBuf::from(settings.config.cni_plugins.as_deref().unwrap_or(CNI_PLUGINS));
    Cni::open(&lists, &plugins, &settings.state)
        .inspect_err(|error| tracing::error!(%error, "networks of the operator's are not used"))
        .ok()
}
