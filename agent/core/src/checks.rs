//! Checks and health checks (mesos-api 2.8): when a task is looked at, and what follows from what was seen.
//!
//! A check tells its framework what it sees and means nothing by it; a health check judges, and ends a task that fails
//! too often. Both begin when the task runs and go on until it is killed or ends. What frameworks were told is part of the
//! task's record, so an agent that is started again tells nothing twice; a probe under way is then done again.

mod probe;
mod turn;

pub use probe::{Kind, Probe, Seen, Target};

use api::v1::{CheckInfo, CheckStatusInfo, HealthCheck, TaskInfo, TaskStatus, check_info, check_status_info};
use serde::{Deserialize, Serialize};
use turn::Turn;

/// What is known of one run's checks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Checks {
    /// When the task began to run; none before.
    since_ms: Option<u64>,
    /// What the framework was told.
    healthy: Option<bool>,
    /// It was healthy once: from then on there is no grace.
    succeeded: bool,
    /// In a row.
    failures: u32,
    /// What the framework was told of its check.
    seen: Option<Box<CheckStatusInfo>>,
    #[serde(skip)]
    check: Turn,
    #[serde(skip)]
    health: Turn,
}

/// What a probe has changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum News {
    /// The check sees something else than before.
    CheckChanged,
    /// The task is healthy, for the first time or again.
    Healthy,
    /// The task is not.
    Unhealthy {
        /// So often in a row.
        failures: u32,
        /// It is to end.
        kill: bool,
    },
}

/// Checks follow each other no faster than this, whatever a framework says.
const LEAST_INTERVAL_MS: u64 = 50;

impl Checks {
    /// The task runs from now on.
    pub fn begin(&mut self, task: &TaskInfo, now_ms: u64) {
        if self.since_ms.is_none() {
            self.since_ms = Some(now_ms);
        }
        self.resume(task, now_ms);
    }

    /// Goes on in a new agent.
    pub fn resume(&mut self, task: &TaskInfo, now_ms: u64) {
        let Some(since_ms) = self.since_ms else { return };
        let due = |delay: f64| since_ms.saturating_add(millis(delay)).max(now_ms);
        if let Some(check) = task.check.as_deref().filter(|check| probe::of_check(check).is_some()) {
            self.check.at(due(check.delay_seconds()));
        }
        if let Some(check) = task.health_check.as_deref().filter(|check| probe::of_health_check(check).is_some()) {
            self.health.at(due(check.delay_seconds()));
        }
    }

    /// When [`due`](Self::due) has something.
    #[must_use]
    pub fn deadline_ms(&self) -> Option<u64> {
        [self.check.deadline_ms(), self.health.deadline_ms()].into_iter().flatten().min()
    }

    /// What is to be looked at now; each is answered with [`seen`](Self::seen) before it comes again.
    pub fn due(&mut self, task: &TaskInfo, now_ms: u64) -> Vec<Probe> {
        let mut probes = Vec::new();
        if let Some(check) = task.check.as_deref()
            && let Some(target) = probe::of_check(check)
            && let Some(number) = self.check.take(now_ms)
        {
            probes.push(Probe { kind: Kind::Check, number, target, timeout_ms: timeout(check.timeout_seconds()) });
        }
        if let Some(check) = task.health_check.as_deref()
            && let Some(target) = probe::of_health_check(check)
            && let Some(number) = self.health.take(now_ms)
        {
            probes.push(Probe { kind: Kind::Health, number, target, timeout_ms: timeout(check.timeout_seconds()) });
        }
        probes
    }

    /// Takes what a probe has seen. One that is not waited for changes nothing.
    pub fn seen(&mut self, task: &TaskInfo, kind: Kind, number: u64, seen: &Seen, now_ms: u64) -> Option<News> {
        match kind {
            Kind::Check => {
                let check = task.check.as_deref()?;
                self.check.landed(number, now_ms.saturating_add(interval(check.interval_seconds())))?;
                let status = status_of(check, Some(seen));
                if *self.seen.get_or_insert_with(|| Box::new(status_of(check, None))).as_ref() == status {
                    return None;
                }
                self.seen = Some(Box::new(status));
                Some(News::CheckChanged)
            }
            Kind::Health => {
                let check = task.health_check.as_deref()?;
                self.health.landed(number, now_ms.saturating_add(interval(check.interval_seconds())))?;
                if seen.is_healthy() { self.success() } else { self.failure(check, now_ms) }
            }
        }
    }

    fn success(&mut self) -> Option<News> {
        let news = !self.succeeded || self.failures > 0;
        (self.succeeded, self.failures) = (true, 0);
        self.healthy = Some(true);
        news.then_some(News::Healthy)
    }

    fn failure(&mut self, check: &HealthCheck, now_ms: u64) -> Option<News> {
        let since_ms = self.since_ms.unwrap_or(now_ms);
        let grace_ms = millis(check.grace_period_seconds());
        if !self.succeeded && grace_ms > 0 && now_ms.saturating_sub(since_ms) <= grace_ms {
            return None;
        }
        self.failures = self.failures.saturating_add(1);
        self.healthy = Some(false);
        let kill = self.failures >= check.consecutive_failures();
        if kill {
            self.end();
        }
        Some(News::Unhealthy { failures: self.failures, kill })
    }

    /// The task is being killed: nobody looks at it any more.
    pub const fn end(&mut self) {
        self.check.end();
        self.health.end();
    }

    /// Every status of a task tells what is known of it.
    pub fn tell(&self, task: &TaskInfo, status: &mut TaskStatus) {
        status.healthy = self.healthy;
        if let Some(check) = task.check.as_deref() {
            status.check_status = Some(self.seen.clone().unwrap_or_else(|| Box::new(status_of(check, None))));
        }
    }
}

/// What a check's status says; nothing when the check itself could not be done.
fn status_of(check: &CheckInfo, seen: Option<&Seen>) -> CheckStatusInfo {
    let mut status = CheckStatusInfo { r#type: check.r#type, ..CheckStatusInfo::default() };
    match check.r#type() {
        check_info::Type::Command => {
            let exit_code = if let Some(Seen::Exit(code)) = seen { Some(*code) } else { None };
            status.command = Some(check_status_info::Command { exit_code });
        }
        check_info::Type::Http => {
            let status_code = if let Some(Seen::Status(code)) = seen { Some(u32::from(*code)) } else { None };
            status.http = Some(check_status_info::Http { status_code });
        }
        check_info::Type::Tcp => {
            let succeeded = match seen {
                Some(Seen::Connected) => Some(true),
                Some(Seen::Refused(_)) => Some(false),
                Some(Seen::Exit(_) | Seen::Status(_) | Seen::Failed(_)) | None => None,
            };
            status.tcp = Some(check_status_info::Tcp { succeeded });
        }
        check_info::Type::Unknown => {}
    }
    status
}

fn interval(seconds: f64) -> u64 {
    millis(seconds).max(LEAST_INTERVAL_MS)
}

/// Nothing at all means that there is no limit.
fn timeout(seconds: f64) -> Option<u64> {
    Some(millis(seconds)).filter(|millis| *millis > 0)
}

/// The master has refused what is negative.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to a year
fn millis(seconds: f64) -> u64 {
    const YEAR: f64 = 365.0 * 86_400.0;
    if seconds.is_finite() { (seconds.clamp(0.0, YEAR) * 1000.0).round() as u64 } else { 0 }
}

#[cfg(test)]
mod tests;
