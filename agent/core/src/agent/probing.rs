//! Checks and health checks as part of a run: when they are made, and what their outcome does to the task.

use api::v1::Reason;
use api::{ContainerId, FrameworkId, TaskId, TaskState};

use super::effects::{Effect, Now};
use super::task::Task;
use super::{Agent, GRACE_MS};
use crate::checks::{Kind, News, Seen};
use crate::container::{self, Cause, Kill, Phase};
use crate::launch;
use crate::record::Process;

impl Task {
    /// Only what runs, and is not being killed, is looked at.
    fn is_probed(&self) -> bool {
        self.record.phase == Phase::Running
    }

    /// Goes on after a restart.
    pub(super) fn resume_checks(&mut self, now: Now) {
        if self.is_probed() {
            self.record.checks.resume(&self.record.info, now.uptime_ms);
        }
    }

    /// When the next look is due.
    pub(super) fn probe_at_ms(&self) -> Option<u64> {
        self.record.checks.deadline_ms().filter(|_| self.is_probed())
    }

    /// The looks that are due.
    pub(super) fn probe(&mut self, now: Now) -> Vec<Effect> {
        let Some(process) = self.record.process.filter(|_| self.is_probed()) else { return Vec::new() };
        let container = &self.record.container;
        let probes = self.record.checks.due(&self.record.info, now.uptime_ms).into_iter();
        probes.map(|probe| Effect::Probe { container: container.clone(), process, probe: Box::new(probe) }).collect()
    }
}

impl Agent {
    /// The sandboxes of what runs.
    pub fn live_sandboxes(&self) -> impl Iterator<Item = (String, Option<&api::v1::CommandInfo>)> {
        let live = self.tasks.values().map(|task| &task.record).filter(|record| !record.phase.is_over());
        live.map(|record| (self.sandbox_of(record), record.info.command.as_ref()))
    }

    /// Where a run writes.
    #[must_use]
    pub fn sandbox_of(&self, record: &crate::record::Record) -> String {
        launch::Seat::of(&self.site, record).sandbox
    }

    /// The first process of the newest run of a task, while there is one others can stand beside.
    #[must_use]
    pub fn first_process(&self, framework: &FrameworkId, task: &TaskId) -> Option<(ContainerId, Process)> {
        let of_task =
            |run: &&Task| run.record.framework == *framework && run.record.task == *task && !run.record.phase.is_over();
        let record = &self.tasks.values().rfind(of_task)?.record;
        let runs = matches!(record.phase, Phase::Running | Phase::Killing { .. });
        Some((record.container.clone(), record.process.filter(|_| runs)?))
    }

    /// What a look has seen. A task that fails its health check too often is killed, as if its framework had asked.
    pub(super) fn probed(
        &mut self,
        container: &ContainerId,
        kind: Kind,
        number: u64,
        seen: &Seen,
        now: Now,
    ) -> Vec<Effect> {
        let Some(task) = self.tasks.get_mut(container).filter(|task| task.is_probed()) else { return Vec::new() };
        let Some(news) = task.record.checks.seen(&task.record.info, kind, number, seen, now.uptime_ms) else {
            if !seen.is_healthy() {
                tracing::debug!(task = %task.record.task, %container, ?kind, ?seen, "a check saw nothing new");
            }
            return Vec::new();
        };
        let reason = match news {
            News::CheckChanged => Reason::TaskCheckStatusUpdated,
            News::Healthy | News::Unhealthy { .. } => Reason::TaskHealthCheckStatusUpdated,
        };
        tracing::info!(task = %task.record.task, %container, ?news, ?seen, "a check has news");
        task.tell_because(TaskState::Running, None, Some(reason), &self.site, &mut self.randomness, now);
        let mut effects = vec![Effect::Save(task.saved())];
        if let News::Unhealthy { kill: true, .. } = news {
            let grace_ms = task.own_grace_ms().unwrap_or(GRACE_MS);
            let kill = container::Input::Kill(Kill { cause: Cause::Asked, grace_ms });
            effects.extend(self.step(container, kill, now));
        }
        effects
    }
}
