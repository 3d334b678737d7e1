//! One run: its record, its container's phase, and the statuses that follow from it.

use api::TaskState;
use api::v1::network_info::{IpAddress, PortMapping, Protocol};
use api::v1::{Capability, ContainerId, ContainerStatus, NetworkInfo, Reason, Source, TaskStatus};

use super::effects::{Effect, Now, Report};
use crate::container::{Ending, Exit, Input, Phase, Step};
use crate::ending::{Verdict, verdict};
use crate::handover::{self, ExitStatus};
use crate::launch::{self, Given, LaunchError, Limits, Plan, Seat, Site};
use crate::overrun::{self, Overrun};
use crate::randomness::Randomness;
use crate::record::{Part, Record};

#[derive(Debug)]
pub(super) struct Task {
    pub(super) record: Record,
    /// When the launcher was asked to make it: an exit from before is another process's.
    pub(super) create_asked_ms: u64,
    /// When an ended process without a kept status counts as unseen.
    pub(super) unseen_at_ms: Option<u64>,
    /// Its process waits for those of its group.
    pub(super) held: bool,
    /// What its executor has to hear.
    pub(super) signals: Vec<Signal>,
}

/// What happened to a run, for the executor it belongs to.
#[derive(Debug)]
pub(super) enum Signal {
    /// Its program runs.
    Running,
    /// It is over; with what waitpid would have said.
    Ended(Box<Verdict>, i32),
}

/// Whether a session is open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Sends {
    Yes,
    No,
}

/// One clock tick in milliseconds (USER_HZ is 100 on Linux).
const TICK_MS: u64 = 10;

impl Task {
    pub(super) const fn new(record: Record) -> Self {
        Self { record, create_asked_ms: 0, unseen_at_ms: None, held: false, signals: Vec::new() }
    }

    pub(super) fn saved(&self) -> Box<Record> {
        Box::new(self.record.clone())
    }

    pub(super) fn plan(&self, site: &Site) -> Result<Plan, LaunchError> {
        let record = &self.record;
        let (framework, container) = (&record.framework, &record.container);
        let (info, framework_info) = (&record.info, &record.framework_info);
        let given = Given {
            root: record.image.as_ref(),
            secrets: Some(&record.secrets),
            address: record.network.as_ref(),
            cores: Some(&record.cores),
            gpus: Some(&record.gpus),
            ids: record.ids,
            volume_images: Some(&record.volume_images),
        };
        launch::plan(site, framework, container, info, framework_info, given, Seat::of(site, record))
    }

    pub(super) fn report(&self) -> Report {
        Report {
            framework: self.record.framework.clone(),
            task: self.record.task.clone(),
            container: self.record.container.clone(),
            state: self.record.state,
        }
    }

    pub(super) fn own_grace_ms(&self) -> Option<u64> {
        self.record.info.kill_policy.as_ref()?.grace_period.as_ref()?.millis()
    }

    /// Is this the exit of our process, and not of one that had its number before?
    pub(super) fn owns(&self, exit: &handover::Exit) -> bool {
        self.record.process.is_some_and(|process| {
            process.pid == exit.pid && exit.uptime_ms + TICK_MS >= process.start_ticks.saturating_mul(TICK_MS)
        })
    }

    /// When something is due. `sends`: a session is open, so updates can be repeated.
    pub(super) fn deadline_ms(&self, sends: Sends) -> Option<u64> {
        let updates = match sends {
            Sends::Yes => self.record.updates.deadline_ms(),
            Sends::No => None,
        };
        let over = self.record.phase.is_over();
        let complete_by_ms = self.record.complete_by_ms.filter(|_| !over);
        [updates, self.record.phase.deadline_ms(), complete_by_ms, self.unseen_at_ms, self.probe_at_ms()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Safe to repeat, so a restarted agent does it again.
    pub(super) fn limit_cpu(&self, site: &Site) -> Option<Effect> {
        let process = self.record.process.filter(|_| !site.unconfined)?;
        let cpu_max = Limits::of(&self.record.info, site.pids_max).cpu_max();
        Some(Effect::LimitCpu { container: self.record.container.clone(), process, cpu_max })
    }

    pub(super) fn send_due(&mut self, now_ms: u64) -> Option<Effect> {
        let status = Box::new(self.record.updates.due(now_ms)?.clone());
        Some(Effect::Send { framework: self.record.framework.clone(), status, latest: self.record.state })
    }

    /// TASK_STARTING, as the command executor sends it.
    pub(super) fn starting(&mut self, site: &Site, randomness: &mut Randomness, now: Now) {
        self.tell(TaskState::Starting, None, site, randomness, now);
    }

    /// It cannot be run here at all.
    pub(super) fn refused(&mut self, error: &LaunchError, site: &Site, randomness: &mut Randomness, now: Now) {
        tracing::info!(task = %self.record.task, framework = %self.record.framework, error = %error, "task refused");
        let ending = Ending::LaunchFailed(error.to_string());
        let verdict = verdict(&ending, &self.record.info);
        self.signal(Signal::Ended(Box::new(verdict.clone()), wait_status(&ending)));
        self.record.phase = Phase::Gone;
        self.tell(verdict.state, Some(verdict), site, randomness, now);
    }

    /// It comes too late to be run.
    pub(super) fn dropped(&mut self, verdict: Verdict, site: &Site, randomness: &mut Randomness, now: Now) {
        self.record.phase = Phase::Gone;
        self.tell(verdict.state, Some(verdict), site, randomness, now);
    }

    /// For its executor, if it has one.
    fn signal(&mut self, signal: Signal) {
        if self.record.part != Part::Alone {
            self.signals.push(signal);
        }
    }

    /// One step of the container, the statuses it gives and the record of both, as effects: what must be
    /// remembered comes before what is done.
    pub(super) fn step(&mut self, input: Input, site: &Site, randomness: &mut Randomness, now: Now) -> Vec<Effect> {
        let before = self.record.phase.clone();
        let (phase, steps) = before.clone().step(input, now.uptime_ms);
        self.record.phase = phase;
        let mut effects = Vec::new();
        for step in steps {
            effects.extend(self.perform(step, site, randomness, now));
        }
        if self.record.phase != before {
            effects.insert(0, Effect::Save(self.saved()));
        }
        effects
    }

    fn perform(&mut self, step: Step, site: &Site, randomness: &mut Randomness, now: Now) -> Option<Effect> {
        let container = self.record.container.clone();
        match step {
            Step::CancelPull => Some(Effect::CancelPull(container)),
            Step::Prepare => None, // planned when the task is received, its image came, or it is recovered
            Step::Create => {
                self.create_asked_ms = now.uptime_ms;
                let sandbox = Seat::of(site, &self.record).sandbox;
                Some(Effect::Create {
                    bundle: format!("{}/{container}", site.bundle_dir),
                    sandbox,
                    container,
                    network: self.record.network.clone(),
                    named_network: self.record.named_network.clone(),
                })
            }
            // All of a pod's group start together.
            Step::Start if matches!(self.record.part, Part::Member { .. }) => {
                self.held = true;
                None
            }
            Step::Start => Some(Effect::Start(container)),
            Step::Terminate { grace_ms } => {
                let process = self.record.process?;
                Some(Effect::Terminate { container, process, grace_ms })
            }
            Step::KillAll => Some(Effect::KillAll(container)),
            Step::ReadUsage => Some(Effect::ReadUsage(container)),
            Step::Delete => Some(Effect::Delete(container)),
            Step::Running => {
                self.signal(Signal::Running);
                let limit_ms = self.record.info.max_completion_time.as_ref().and_then(|limit| limit.millis());
                self.record.complete_by_ms = limit_ms.map(|limit_ms| now.uptime_ms.saturating_add(limit_ms));
                self.record.checks.begin(&self.record.info, now.uptime_ms);
                self.tell(TaskState::Running, None, site, randomness, now);
                self.limit_cpu(site)
            }
            Step::Killing => {
                self.record.checks.end();
                if self.record.framework_info.has(Capability::TaskKillingState) {
                    self.tell(TaskState::Killing, None, site, randomness, now);
                }
                None
            }
            Step::Ended(ending) => {
                let overrun = self.record.overrun.as_ref().filter(|_| overrun::ended_it(&ending));
                let verdict = overrun.map_or_else(|| verdict(&ending, &self.record.info), Overrun::verdict);
                self.signal(Signal::Ended(Box::new(verdict.clone()), wait_status(&ending)));
                tracing::info!(
                    framework = %self.record.framework, task = %self.record.task, %container,
                    state = verdict.state.name(), why = %verdict.message, "task ended"
                );
                self.tell(verdict.state, Some(verdict), site, randomness, now);
                None
            }
        }
    }

    /// Adds an update. A terminal state is the last word: nothing is added after it.
    fn tell(&mut self, state: TaskState, verdict: Option<Verdict>, site: &Site, randomness: &mut Randomness, now: Now) {
        self.tell_because(state, verdict, None, site, randomness, now);
    }

    /// The same, of a task whose state may be the same as before: the reason says what is new.
    pub(super) fn tell_because(
        &mut self,
        state: TaskState,
        verdict: Option<Verdict>,
        why: Option<Reason>,
        site: &Site,
        randomness: &mut Randomness,
        now: Now,
    ) {
        if self.record.state.is_terminal() {
            return;
        }
        let record = &mut self.record;
        record.state = state;
        if matches!(record.part, Part::Executor { .. }) {
            return; // not a task: what becomes of it concerns its tasks
        }
        let mut status = TaskStatus::new(record.task.clone(), state);
        status.source = Some(Source::Executor.into());
        if let Some(verdict) = verdict {
            status.source = Some(verdict.source.into());
            status.reason = verdict.reason.map(Into::into);
            status.message = Some(verdict.message);
            status.limitation = verdict.limitation;
        }
        status.reason = status.reason.or_else(|| why.map(Into::into));
        record.checks.tell(&record.info, &mut status);
        status.agent_id = Some(record.agent.clone());
        let mut container_id = ContainerId { value: record.container.to_string(), ..ContainerId::default() };
        status.executor_id = Some(record.task.as_str().into());
        if let Part::Member { executor, executor_id, .. } = &record.part {
            status.executor_id = Some(executor_id.clone());
            let parent = ContainerId { value: executor.to_string(), ..ContainerId::default() };
            container_id.parent = Some(Box::new(parent));
        }
        #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 fit 2^53 for a long while
        let seconds = now.unix_ms as f64 / 1000.0;
        status.timestamp = Some(seconds);
        status.uuid = Some(randomness.uuid().to_vec());
        status.container_status = Some(Box::new(ContainerStatus {
            container_id: Some(container_id),
            executor_pid: record.process.and_then(|process| u32::try_from(process.pid).ok()),
            network_infos: networks(site, record),
            ..ContainerStatus::default()
        }));
        record.updates.push(status, now.uptime_ms);
    }
}

/// As waitpid would have said it; -1 for what nobody saw.
fn wait_status(ending: &Ending) -> i32 {
    match ending {
        Ending::Exit { exit: Exit::Seen(ExitStatus::Code(code)), .. } => code << 8,
        Ending::Exit { exit: Exit::Seen(ExitStatus::Signal(signal)), .. } => *signal,
        Ending::Exit { exit: Exit::Unseen | Exit::Rebooted, .. }
        | Ending::NeverStarted(_)
        | Ending::LaunchFailed(_) => -1,
    }
}

/// Where a run can be reached.
#[must_use]
pub fn networks(site: &Site, record: &Record) -> Vec<NetworkInfo> {
    let mapping = |one: &crate::bridge::Mapping| PortMapping {
        host_port: one.host.into(),
        container_port: one.container.into(),
        protocol: Some(one.protocol.name().to_owned()),
    };
    if let Some(address) = &record.network {
        let ip = IpAddress { protocol: Some(Protocol::IPv4.into()), ip_address: Some(address.ip.to_string()) };
        return vec![NetworkInfo {
            name: Some("bridge".to_owned()),
            ip_addresses: vec![ip],
            port_mappings: address.mappings.iter().map(mapping).collect(),
            ..NetworkInfo::default()
        }];
    }
    if let Some(network) = &record.named_network {
        let address = |text: &String| {
            let protocol = if text.contains(':') { Protocol::IPv6 } else { Protocol::IPv4 };
            IpAddress { protocol: Some(protocol.into()), ip_address: Some(text.clone()) }
        };
        return vec![NetworkInfo {
            name: Some(network.name.clone()),
            ip_addresses: network.addresses.iter().map(address).collect(),
            port_mappings: network.mappings.iter().map(mapping).collect(),
            ..NetworkInfo::default()
        }];
    }
    let network = site.address.as_ref().map(|address| {
        let protocol = if address.contains(':') { Protocol::IPv6 } else { Protocol::IPv4 };
        let address = IpAddress { protocol: Some(protocol.into()), ip_address: Some(address.clone()) };
        NetworkInfo { ip_addresses: vec![address], ..NetworkInfo::default() }
    });
    network.into_iter().collect()
}

/// Has it interfaces of its own?
#[must_use]
pub fn has_own_network(record: &Record) -> bool {
    launch::has_own_network(&record.info)
}
