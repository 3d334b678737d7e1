//! One run: its record, its container's phase, and the statuses that follow from it.

use api::TaskState;
use api::v1::network_info::{IpAddress, Protocol};
use api::v1::{Capability, ContainerId, ContainerStatus, NetworkInfo, Reason, Source, TaskStatus};

use super::effects::{Effect, Now, Report};
use crate::container::{Ending, Input, Phase, Step};
use crate::ending::{Verdict, verdict};
use crate::handover;
use crate::image::ImageRequest;
use crate::launch::{self, LaunchError, Limits, Plan, Site};
use crate::randomness::Randomness;
use crate::record::Record;

#[derive(Debug)]
pub(super) struct Task {
    pub(super) record: Record,
    /// When the launcher was asked to make it: an exit from before is another process's.
    pub(super) create_asked_ms: u64,
    /// When an ended process without a kept status counts as unseen.
    pub(super) unseen_at_ms: Option<u64>,
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
        Self { record, create_asked_ms: 0, unseen_at_ms: None }
    }

    pub(super) fn saved(&self) -> Box<Record> {
        Box::new(self.record.clone())
    }

    pub(super) fn plan(&self, site: &Site) -> Result<Plan, LaunchError> {
        let record = &self.record;
        let (framework, container) = (&record.framework, &record.container);
        launch::plan(site, framework, container, &record.info, &record.framework_info, record.image.as_ref())
    }

    /// Asks for the image; counted, and written down first.
    pub(super) fn pull(&mut self, request: ImageRequest) -> Vec<Effect> {
        self.record.pulls += 1;
        let container = self.record.container.clone();
        tracing::info!(task = %self.record.task, %container, image = %request.reference, "an image is wanted");
        vec![Effect::Save(self.saved()), Effect::Pull { container, request: Box::new(request) }]
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
        let verdict = verdict(&Ending::LaunchFailed(error.to_string()), &self.record.info);
        self.record.phase = Phase::Gone;
        self.tell(verdict.state, Some(verdict), site, randomness, now);
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
                let sandbox = launch::sandbox(
                    &site.work_dir,
                    &self.record.agent,
                    &self.record.framework,
                    self.record.task.as_str(),
                    &container,
                );
                Some(Effect::Create { bundle: format!("{}/{container}", site.bundle_dir), sandbox, container })
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
                let verdict = verdict(&ending, &self.record.info);
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
        status.executor_id = Some(record.task.as_str().into());
        #[allow(clippy::cast_precision_loss)] // milliseconds since 1970 fit 2^53 for a long while
        let seconds = now.unix_ms as f64 / 1000.0;
        status.timestamp = Some(seconds);
        status.uuid = Some(randomness.uuid().to_vec());
        let networks = site.address.as_ref().map(|address| {
            let protocol = if address.contains(':') { Protocol::IPv6 } else { Protocol::IPv4 };
            let address = IpAddress { protocol: Some(protocol.into()), ip_address: Some(address.clone()) };
            NetworkInfo { ip_addresses: vec![address], ..NetworkInfo::default() }
        });
        status.container_status = Some(Box::new(ContainerStatus {
            container_id: Some(ContainerId { value: record.container.to_string(), ..ContainerId::default() }),
            executor_pid: record.process.and_then(|process| u32::try_from(process.pid).ok()),
            network_infos: networks.into_iter().collect(),
            ..ContainerStatus::default()
        }));
        record.updates.push(status, now.uptime_ms);
    }
}
