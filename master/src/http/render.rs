//! The shapes of Mesos's v0 endpoints: agents, frameworks and tasks as JSON.

use std::collections::{BTreeMap, BTreeSet};

use api::attributes::AttributeValue;
use api::v1::{Capability, FrameworkInfo, Labels, TaskStatus};
use api::{AgentId, Attribute, FrameworkId, Ranges, ResourceValue, Resources, TaskState};
use master_core::state::{Agent, CompletedFramework, Framework, Reachability, Task};
use master_core::{OutstandingOffer, View};
use serde_json::{Map, Value, json};

/// Mesos prints agents as `slave(1)@ip:port`.
const AGENT_PORT: u16 = 5051;

/// Seconds since 1970, as Mesos writes times.
#[allow(clippy::cast_precision_loss)] // milliseconds since 1970 fit in 53 bits for 285,000 years
pub(super) fn seconds(unix_ms: u64) -> f64 {
    unix_ms as f64 / 1000.0
}

/// `{"cpus":…,"gpus":…,"mem":…,"disk":…,"ports":"[…]"}`.
pub(super) fn resources(resources: &Resources) -> Value {
    let mut map = Map::new();
    for name in ["cpus", "gpus", "mem", "disk"] {
        map.insert(name.to_owned(), json!(0.0));
    }
    let mut scalars: BTreeMap<String, f64> = BTreeMap::new();
    let mut ranges: BTreeMap<String, Ranges> = BTreeMap::new();
    let mut sets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for resource in resources.iter() {
        let name = if resource.revocable { format!("{}_revocable", resource.name) } else { resource.name.clone() };
        match &resource.value {
            ResourceValue::Scalar(amount) => *scalars.entry(name).or_default() += amount.units(),
            ResourceValue::Ranges(more) => {
                let all = ranges.entry(name).or_default();
                *all = all.union(more);
            }
            ResourceValue::Set(more) => sets.entry(name).or_default().extend(more.iter().cloned()),
        }
    }
    map.extend(scalars.into_iter().map(|(name, amount)| (name, json!(amount))));
    map.extend(ranges.into_iter().map(|(name, ranges)| (name, json!(ranges_text(&ranges)))));
    let text = |items: BTreeSet<String>| format!("{{{}}}", items.into_iter().collect::<Vec<_>>().join(", "));
    map.extend(sets.into_iter().map(|(name, items)| (name, json!(text(items)))));
    Value::Object(map)
}

fn ranges_text(ranges: &Ranges) -> String {
    let parts: Vec<String> = ranges.iter().map(|(begin, end)| format!("{begin}-{end}")).collect();
    format!("[{}]", parts.join(", "))
}

/// `{"rack":"r1","level":10.0,"keys":"[1-2]"}`.
pub(super) fn attributes(attributes: &[Attribute]) -> Value {
    let map: Map<String, Value> = attributes
        .iter()
        .map(|attribute| {
            let value = match &attribute.value {
                AttributeValue::Text(text) => json!(text),
                AttributeValue::Scalar(amount) => json!(amount.units()),
                AttributeValue::Ranges(ranges) => json!(ranges_text(ranges)),
            };
            (attribute.name.clone(), value)
        })
        .collect();
    Value::Object(map)
}

fn labels(labels: Option<&Labels>) -> Option<Value> {
    labels.filter(|labels| !labels.labels.is_empty()).map(|labels| json!(labels.labels))
}

/// What is used and offered, counted once for a whole answer.
#[derive(Default)]
pub(super) struct Usage {
    pub(super) used_by_agent: BTreeMap<AgentId, Resources>,
    pub(super) offered_by_agent: BTreeMap<AgentId, Resources>,
    pub(super) used_by_framework: BTreeMap<FrameworkId, Resources>,
    pub(super) offered_by_framework: BTreeMap<FrameworkId, Resources>,
    offers: BTreeMap<FrameworkId, Vec<Value>>,
}

impl Usage {
    pub(super) fn of(view: &View) -> Self {
        let mut usage = Self::default();
        for task in view.state.tasks().filter(|task| task.holds_resources()) {
            usage.used_by_agent.entry(task.agent.clone()).or_default().add_all(&task.resources);
            usage.used_by_framework.entry(task.framework.clone()).or_default().add_all(&task.resources);
        }
        for offer in view.offers.values() {
            usage.offered_by_agent.entry(offer.agent.clone()).or_default().add_all(&offer.resources);
            usage.offered_by_framework.entry(offer.framework.clone()).or_default().add_all(&offer.resources);
            usage.offers.entry(offer.framework.clone()).or_default().push(self::offer(offer));
        }
        usage
    }
}

fn offer(offer: &OutstandingOffer) -> Value {
    json!({
        "id": offer.id,
        "framework_id": offer.framework,
        "allocation_info": {"role": offer.role},
        "slave_id": offer.agent,
        "resources": resources(&offer.resources),
    })
}

/// SLAVE of /state and /slaves.
pub(super) fn agent(view: &View, usage: &Usage, agent: &Agent) -> Map<String, Value> {
    let none = Resources::default();
    let of = |map: &BTreeMap<AgentId, Resources>| resources(map.get(&agent.id).unwrap_or(&none));
    let roles: BTreeSet<&str> =
        agent.resources.iter().map(|resource| resource.role()).filter(|role| *role != "*").collect();
    let reserved: Map<String, Value> = roles
        .into_iter()
        .map(|role| (role.to_owned(), resources(&agent.resources.filter(|resource| resource.role() == role))))
        .collect();
    let value = json!({
        "id": agent.id,
        "hostname": agent.hostname,
        "port": AGENT_PORT,
        "attributes": attributes(&agent.attributes),
        "pid": format!("slave(1)@{}:{AGENT_PORT}", agent.address),
        "registered_time": seconds(agent.registered_at),
        "resources": resources(&agent.resources),
        "used_resources": of(&usage.used_by_agent),
        "offered_resources": of(&usage.offered_by_agent),
        "reserved_resources": reserved,
        "unreserved_resources": resources(&agent.resources.filter(|resource| resource.role() == "*")),
        "active": view.connected_agents.contains(&agent.id),
        "deactivated": false,
        "version": agent.version,
        "capabilities": ["MULTI_ROLE", "HIERARCHICAL_ROLE"],
    });
    let mut map = object(value);
    if let Some(at) = agent.reregistered_at {
        map.insert("reregistered_time".to_owned(), json!(seconds(at)));
    }
    map
}

/// FRAMEWORK of /state and /frameworks.
pub(super) fn framework(view: &View, usage: &Usage, framework: &Framework) -> Value {
    let none = Resources::default();
    let used = usage.used_by_framework.get(&framework.id).unwrap_or(&none);
    let offered = usage.offered_by_framework.get(&framework.id).unwrap_or(&none);
    let mut both = used.clone();
    both.add_all(offered);
    let connected = view.connected_frameworks.contains(&framework.id);
    let of_state = |unreachable: bool| -> Vec<Value> {
        framework
            .tasks
            .values()
            .filter(|task| (task.state == TaskState::Unreachable) == unreachable)
            .map(|task| self::task(task))
            .collect()
    };
    let mut map = framework_info(&framework.info);
    map.extend(object(json!({
        "id": framework.id,
        "used_resources": resources(used),
        "offered_resources": resources(offered),
        "resources": resources(&both),
        "active": connected,
        "connected": connected,
        "recovered": !connected && framework.disconnected.is_none(),
        "registered_time": seconds(framework.registered_at),
        "unregistered_time": 0.0,
        "tasks": of_state(false),
        "unreachable_tasks": of_state(true),
        "completed_tasks": framework.completed_tasks.iter().map(|task| self::task(task)).collect::<Vec<_>>(),
        "offers": usage.offers.get(&framework.id).cloned().unwrap_or_default(),
        "executors": [],
    })));
    if let Some(at) = framework.reregistered_at {
        map.insert("reregistered_time".to_owned(), json!(seconds(at)));
    }
    Value::Object(map)
}

/// A removed FRAMEWORK.
pub(super) fn completed_framework(framework: &CompletedFramework) -> Value {
    let none = Resources::default();
    let mut map = framework_info(&framework.info);
    map.extend(object(json!({
        "id": framework.id,
        "used_resources": resources(&none),
        "offered_resources": resources(&none),
        "resources": resources(&none),
        "active": false,
        "connected": false,
        "recovered": false,
        "registered_time": seconds(framework.registered_at),
        "unregistered_time": seconds(framework.removed_at),
        "tasks": [],
        "unreachable_tasks": [],
        "completed_tasks": framework.completed_tasks.iter().map(|task| self::task(task)).collect::<Vec<_>>(),
        "offers": [],
        "executors": [],
    })));
    if let Some(at) = framework.reregistered_at {
        map.insert("reregistered_time".to_owned(), json!(seconds(at)));
    }
    Value::Object(map)
}

fn framework_info(info: &FrameworkInfo) -> Map<String, Value> {
    let mut map = object(json!({
        "name": info.name,
        "user": info.user,
        "hostname": info.hostname.clone().unwrap_or_default(),
        "webui_url": info.webui_url.clone().unwrap_or_default(),
        "failover_timeout": info.failover_timeout(),
        "checkpoint": info.checkpoint(),
        "capabilities": info.capabilities.iter().map(|one| one.r#type().as_str_name()).collect::<Vec<_>>(),
    }));
    if info.has(Capability::MultiRole) {
        map.insert("roles".to_owned(), json!(info.roles));
    } else {
        map.insert("role".to_owned(), json!(info.effective_roles().first()));
    }
    if let Some(principal) = &info.principal {
        map.insert("principal".to_owned(), json!(principal));
    }
    if let Some(labels) = labels(info.labels.as_ref()) {
        map.insert("labels".to_owned(), labels);
    }
    map
}

/// TASK.
pub(super) fn task(task: &Task) -> Value {
    let info = &task.info;
    let mut map = object(json!({
        "id": task.id(),
        "name": info.name,
        "framework_id": task.framework,
        "executor_id": info.executor.as_ref().map(|executor| executor.executor_id.0.clone()).unwrap_or_default(),
        "slave_id": task.agent,
        "state": task.state,
        "resources": resources(&task.resources),
        "role": task.role,
        "statuses": statuses(&task.statuses),
    }));
    let optional = [
        ("limits", (!info.limits.is_empty()).then(|| json!(info.limits))),
        ("user", info.command.as_ref().and_then(|command| command.user.as_ref()).map(|user| json!(user))),
        ("labels", labels(info.labels.as_ref())),
        ("discovery", info.discovery.as_ref().map(|discovery| json!(discovery))),
        ("container", info.container.as_ref().map(|container| json!(container))),
        ("health_check", info.health_check.as_ref().map(|check| json!(check))),
    ];
    map.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Value::Object(map)
}

/// The last one of each run of equal states.
fn statuses(statuses: &[TaskStatus]) -> Vec<Value> {
    let is_last_of_run = |at: &usize| statuses.get(at + 1).is_none_or(|next| next.state != statuses[*at].state);
    (0..statuses.len()).filter(is_last_of_run).map(|at| status(&statuses[at])).collect()
}

fn status(status: &TaskStatus) -> Value {
    let mut map = object(json!({ "state": status.state(), "timestamp": status.timestamp.unwrap_or(0.0) }));
    let optional = [
        ("labels", labels(status.labels.as_ref())),
        ("container_status", status.container_status.as_ref().map(|known| json!(known))),
        ("healthy", status.healthy.map(|healthy| json!(healthy))),
    ];
    map.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
    Value::Object(map)
}

/// `TASK_*` counts of /state-summary: tasks that have not ended, and those that have.
pub(super) fn count_states<'a>(tasks: impl Iterator<Item = &'a Task>) -> Map<String, Value> {
    let mut counts: BTreeMap<&str, u64> = TaskState::ALL.iter().map(|state| (state.name(), 0)).collect();
    for task in tasks {
        *counts.entry(task.state.name()).or_default() += 1;
    }
    counts.into_iter().map(|(name, count)| (name.to_owned(), json!(count))).collect()
}

/// Has it been given up for now?
pub(super) fn is_unreachable(agent: &Agent) -> bool {
    agent.reachability != Reachability::Reachable
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_always_show_the_four_scalars_and_ports_as_text() {
        let shown = resources(&Resources::parse("cpus:1.5;ports:[1-2, 5-7];bugs:{a,b}").unwrap());
        assert_eq!(
            shown,
            json!({"bugs": "{a, b}", "cpus": 1.5, "disk": 0.0, "gpus": 0.0, "mem": 0.0, "ports": "[1-2, 5-7]"})
        );
    }

    #[test]
    fn only_the_last_status_of_a_run_of_equal_states_is_shown() {
        let status = |state, at| TaskStatus { timestamp: Some(at), ..TaskStatus::new("t".into(), state) };
        let shown = statuses(&[
            status(TaskState::Running, 1.0),
            status(TaskState::Running, 2.0),
            status(TaskState::Finished, 3.0),
        ]);
        assert_eq!(shown.len(), 2);
        assert_eq!(shown[0], json!({"state": "TASK_RUNNING", "timestamp": 2.0}));
    }
}
