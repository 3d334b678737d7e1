//! Where a run's files are and what it is told of its executor: what differs between a task alone, an executor's own
//! process, and a task of a pod.

use api::v1::{ExecutorInfo, Resource, TaskInfo};
use api::{ContainerId, FrameworkId, TaskId};

use super::Site;
use crate::executor::{ExecutorRecord, Token};
use crate::record::{Part, Record};

/// See the module.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Seat {
    /// The sandbox.
    pub sandbox: String,
    /// What stands in the environment in place of what a task alone would find; empty is nothing.
    pub variables: Vec<(String, String)>,
    /// The sandbox of its pod.
    pub parent: Option<String>,
}

impl Seat {
    /// Of a recorded run.
    #[must_use]
    pub fn of(site: &Site, record: &Record) -> Self {
        let Record { framework, task, container, agent, .. } = record;
        match &record.part {
            Part::Alone => {
                let sandbox = super::sandbox(&site.work_dir, agent, framework, task.as_str(), container);
                Self { sandbox, ..Self::default() }
            }
            Part::Executor { token } => {
                let sandbox = super::sandbox(&site.work_dir, agent, framework, task.as_str(), container);
                Self { sandbox, variables: executor_variables(site, record, token), parent: None }
            }
            Part::Member { executor, executor_id, .. } => {
                let pod = super::sandbox(&site.work_dir, agent, framework, executor_id.as_str(), executor);
                let mut variables = vec![("MESOS_EXECUTOR_ID".to_owned(), executor_id.to_string())];
                variables.push(("MESOS_CONTAINER_IP".to_owned(), site.address.clone().unwrap_or_default()));
                Self { sandbox: format!("{pod}/containers/{container}"), variables, parent: Some(pod) }
            }
        }
    }

    /// Of a task alone.
    #[must_use]
    pub fn alone(site: &Site, framework: &FrameworkId, task: &TaskId, container: &ContainerId) -> Self {
        let sandbox = super::sandbox(&site.work_dir, &site.agent, framework, task.as_str(), container);
        Self { sandbox, ..Self::default() }
    }
}

/// mesos-api 2.4.
fn executor_variables(site: &Site, record: &Record, token: &Token) -> Vec<(String, String)> {
    let checkpoint = record.framework_info.checkpoint.unwrap_or_default();
    let grace = record.info.kill_policy.as_ref().and_then(|policy| policy.grace_period.as_ref());
    let grace = grace.map_or_else(|| "5secs".to_owned(), |grace| duration(grace.nanoseconds));
    let endpoint = site.endpoint();
    let mut variables = vec![
        ("MESOS_TASK_ID", String::new()),
        ("MESOS_ALLOCATION_ROLE", String::new()),
        ("MESOS_AGENT_ENDPOINT", endpoint.to_owned()),
        ("MESOS_SLAVE_PID", format!("slave(1)@{endpoint}")),
        ("MESOS_CHECKPOINT", if checkpoint { "1" } else { "0" }.to_owned()),
        ("MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", grace),
        ("MESOS_EXECUTOR_AUTHENTICATION_TOKEN", token.0.clone()),
        ("LIBPROCESS_IP", "127.0.0.1".to_owned()),
        ("LIBPROCESS_PORT", "0".to_owned()),
    ];
    if checkpoint {
        variables.push(("MESOS_RECOVERY_TIMEOUT", "15mins".to_owned()));
        variables.push(("MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs".to_owned()));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The same, from milliseconds.
#[must_use]
pub fn spell_ms(ms: u64) -> String {
    duration(i64::try_from(ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX))
}

/// As Mesos prints durations: in the largest unit of which it is a whole number.
fn duration(nanoseconds: i64) -> String {
    const UNITS: [(i64, &str); 8] = [
        (604_800_000_000_000, "weeks"),
        (86_400_000_000_000, "days"),
        (3_600_000_000_000, "hrs"),
        (60_000_000_000, "mins"),
        (1_000_000_000, "secs"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    if nanoseconds == 0 {
        return "0ns".to_owned();
    }
    let fits = UNITS.iter().find(|(unit, _)| nanoseconds % unit == 0);
    fits.map_or_else(String::new, |(unit, name)| format!("{}{name}", nanoseconds / unit))
}

/// An executor's own process as a task: what runs in its container.
#[must_use]
pub fn as_task(record: &ExecutorRecord) -> TaskInfo {
    let info: &ExecutorInfo = &record.info;
    let grace_period = info.shutdown_grace_period;
    TaskInfo {
        name: info.name.clone().unwrap_or_default(),
        task_id: TaskId::from(record.executor.as_str()),
        agent_id: record.agent.clone(),
        resources: resources(record),
        command: info.command.as_deref().cloned(),
        container: info.container.clone(),
        labels: info.labels.clone(),
        kill_policy: grace_period.map(|grace| api::v1::KillPolicy { grace_period: Some(grace) }),
        ..TaskInfo::default()
    }
}

/// What an executor's container may use: its own and its tasks'.
#[must_use]
pub fn resources(record: &ExecutorRecord) -> Vec<Resource> {
    let live = record.tasks.values().filter(|task| !task.state.is_terminal());
    record.info.resources.iter().chain(live.flat_map(|task| &task.info.resources)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_spelled_as_mesos_does() {
        for (seconds, text) in
            [(5, "5secs"), (60, "1mins"), (90, "90secs"), (900, "15mins"), (86_400, "1days"), (0, "0ns")]
        {
            assert_eq!(duration(seconds * 1_000_000_000), text);
        }
        assert_eq!(duration(250_000_000), "250ms");
    }
}
