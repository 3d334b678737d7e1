//! TASK of the v0 endpoints.

use std::collections::BTreeMap;

use api::TaskState;
use api::v1::{ContainerInfo, ContainerStatus, DiscoveryInfo, HealthCheck, Labels, Packed, value};
use master_core::state::Task;

use super::json::Json;
use super::resources::{write_labels, write_resources};

/// Of a TaskInfo what is shown. /state has hundreds of thousands of tasks, and most of one is resources and commands.
#[derive(Clone, PartialEq, prost::Message)]
struct ShownInfo {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "8")]
    health_check: Option<HealthCheck>,
    #[prost(message, optional, tag = "9")]
    container: Option<ContainerInfo>,
    #[prost(message, optional, tag = "10")]
    labels: Option<Labels>,
    #[prost(message, optional, tag = "11")]
    discovery: Option<DiscoveryInfo>,
    #[prost(btree_map = "string, message", tag = "15")]
    limits: BTreeMap<String, value::Scalar>,
}

/// Of a TaskStatus what is shown.
#[derive(Clone, PartialEq, prost::Message)]
struct ShownStatus {
    #[prost(enumeration = "TaskState", tag = "2")]
    state: i32,
    #[prost(double, optional, tag = "6")]
    timestamp: Option<f64>,
    #[prost(bool, optional, tag = "8")]
    healthy: Option<bool>,
    #[prost(message, optional, tag = "12")]
    labels: Option<Labels>,
    #[prost(message, optional, tag = "13")]
    container_status: Option<ContainerStatus>,
}

/// Writes a task.
pub(crate) fn write_task(json: &mut Json, task: &Task) {
    let info: ShownInfo = task.info.view();
    json.begin();
    json.key("id").string(task.id().as_str());
    json.key("name").string(&info.name);
    json.key("framework_id").string(task.framework.as_str());
    json.key("executor_id");
    json.string(task.executor.as_ref().map_or("", |executor| executor.as_str()));
    json.key("slave_id").string(task.agent.as_str());
    json.key("state").string(task.state.name());
    json.key("resources");
    write_resources(json, &task.resources);
    if !info.limits.is_empty() {
        json.key("limits").object(|json| {
            for (name, limit) in &info.limits {
                json.key_of(name);
                // Mesos knows infinity here; JSON does not.
                if limit.value.is_infinite() { json.string("Infinity") } else { json.double(limit.value) }
            }
        });
    }
    json.key("role").string(&task.role);
    json.key("statuses").begin_array();
    let statuses: Vec<ShownStatus> = task.statuses.iter().map(Packed::view).collect();
    write_statuses(json, &statuses);
    json.end_array();
    if let Some(user) = &task.own_user {
        json.key("user").string(user);
    }
    write_labels(json, info.labels.as_ref());
    if let Some(discovery) = &info.discovery {
        json.key("discovery").serialize(discovery);
    }
    if let Some(container) = &info.container {
        json.key("container").serialize(container);
    }
    if let Some(health_check) = &info.health_check {
        json.key("health_check").serialize(health_check);
    }
    json.end();
}

/// The last one of each run of equal states.
fn write_statuses(json: &mut Json, statuses: &[ShownStatus]) {
    for (at, status) in statuses.iter().enumerate() {
        if statuses.get(at + 1).is_none_or(|next| next.state != status.state) {
            write_status(json, status);
        }
    }
}

fn write_status(json: &mut Json, status: &ShownStatus) {
    json.begin();
    json.key("state").string(status.state().name());
    json.key("timestamp").double(status.timestamp.unwrap_or(0.0));
    write_labels(json, status.labels.as_ref());
    if let Some(container) = &status.container_status {
        json.key("container_status");
        write_container_status(json, container);
    }
    if let Some(healthy) = status.healthy {
        json.key("healthy").bool(healthy);
    }
    json.end();
}

/// Every status of every task has one: the usual ones are written by hand.
fn write_container_status(json: &mut Json, status: &ContainerStatus) {
    let plain = |info: &api::v1::NetworkInfo| info.labels.is_none() && info.port_mappings.is_empty();
    let usual = status.cgroup_info.is_none()
        && status.executor_pid.is_none()
        && status.network_infos.iter().all(plain)
        && status.container_id.as_ref().is_none_or(|id| id.parent.is_none());
    if !usual {
        json.serialize(status);
        return;
    }
    json.begin();
    if let Some(id) = &status.container_id {
        json.key("container_id").object(|json| json.key("value").string(&id.value));
    }
    if !status.network_infos.is_empty() {
        json.key("network_infos").array(&status.network_infos, |json, info| {
            json.begin();
            if !info.ip_addresses.is_empty() {
                json.key("ip_addresses").array(&info.ip_addresses, |json, address| {
                    json.begin();
                    if address.protocol.is_some() {
                        json.key("protocol").string(address.protocol().as_str_name());
                    }
                    if let Some(ip) = &address.ip_address {
                        json.key("ip_address").string(ip);
                    }
                    json.end();
                });
            }
            if let Some(name) = &info.name {
                json.key("name").string(name);
            }
            json.end();
        });
    }
    json.end();
}

/// `TASK_*` counts of /state-summary, in Mesos's order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StateCounts([u64; SHOWN.len()]);

const SHOWN: [TaskState; 10] = [
    TaskState::Staging,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Killing,
    TaskState::Finished,
    TaskState::Killed,
    TaskState::Failed,
    TaskState::Lost,
    TaskState::Error,
    TaskState::Unreachable,
];

impl StateCounts {
    /// Counts one. States that Mesos does not show are among the lost: TASK_GONE and the like are new
    /// words for it.
    pub(crate) fn count(&mut self, state: TaskState) {
        let shown = match state {
            TaskState::Dropped | TaskState::Gone | TaskState::GoneByOperator | TaskState::Unknown => TaskState::Lost,
            known @ (TaskState::Staging
            | TaskState::Starting
            | TaskState::Running
            | TaskState::Killing
            | TaskState::Finished
            | TaskState::Killed
            | TaskState::Failed
            | TaskState::Lost
            | TaskState::Error
            | TaskState::Unreachable) => known,
        };
        if let Some(at) = SHOWN.iter().position(|candidate| *candidate == shown) {
            self.0[at] += 1;
        }
    }

    /// `"TASK_STAGING":0,…`.
    pub(crate) fn write(&self, json: &mut Json) {
        for (state, count) in SHOWN.iter().zip(self.0) {
            json.key(state.name()).integer(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use api::v1::{Label, TaskInfo, TaskStatus};

    use super::*;

    #[test]
    fn what_is_shown_is_read_from_the_whole_message() {
        let labels = Labels { labels: vec![Label { key: "k".to_owned(), value: Some("v".to_owned()) }] };
        let mut info = TaskInfo { name: "n".to_owned(), labels: Some(labels.clone()), ..TaskInfo::default() };
        let health = HealthCheck { grace_period_seconds: Some(3.0), ..HealthCheck::default() };
        let container = ContainerInfo { hostname: Some("h".to_owned()), ..ContainerInfo::default() };
        let discovery = DiscoveryInfo { name: Some("d".to_owned()), ..DiscoveryInfo::default() };
        info.health_check = Some(Box::new(health.clone()));
        info.container = Some(Box::new(container.clone()));
        info.discovery = Some(Box::new(discovery.clone()));
        info.limits.insert("mem".to_owned(), value::Scalar { value: 64.0 });
        let shown: ShownInfo = Packed::new(&info).view();
        assert_eq!((shown.name, shown.labels, shown.limits), (info.name, info.labels, info.limits));
        assert_eq!(
            (shown.health_check, shown.container, shown.discovery),
            (Some(health), Some(container), Some(discovery))
        );

        let mut status = TaskStatus { timestamp: Some(1.5), ..TaskStatus::new("t".into(), TaskState::Killed) };
        (status.healthy, status.labels) = (Some(true), Some(labels));
        let container = ContainerStatus { executor_pid: Some(7), ..ContainerStatus::default() };
        status.container_status = Some(Box::new(container.clone()));
        let shown: ShownStatus = Packed::new(&status).view();
        assert_eq!((shown.state(), shown.timestamp), (status.state(), status.timestamp));
        assert_eq!((shown.healthy, shown.labels), (status.healthy, status.labels));
        assert_eq!(shown.container_status, Some(container));
    }

    #[test]
    fn only_the_last_status_of_a_run_of_equal_states_is_shown() {
        let status =
            |state: TaskState, at| ShownStatus { state: state.into(), timestamp: Some(at), ..ShownStatus::default() };
        let text = super::super::json::written(|json| {
            json.begin_array();
            write_statuses(
                json,
                &[status(TaskState::Running, 1.0), status(TaskState::Running, 2.0), status(TaskState::Finished, 3.0)],
            );
            json.end_array();
        });
        assert_eq!(text, r#"[{"state":"TASK_RUNNING","timestamp":2.0},{"state":"TASK_FINISHED","timestamp":3.0}]"#);
    }
}
