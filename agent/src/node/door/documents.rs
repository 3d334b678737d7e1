//! The documents of Mesos's agent that are no messages: `/state`, `/containers`, `/monitor/statistics`.

use std::collections::BTreeMap;

use api::attributes::AttributeValue;
use api::v1::{Format, Labels, Resource as WireResource, TaskInfo, resources_from_wire, resources_to_wire};
use api::{Attribute, Resource, ResourceValue, Resources};
use serde_json::{Map, Value, json};

use super::access::{Ask, Rights};
use super::picture::{Picture, Shown, ShownTask, command_executor_name};
use crate::node::statistics::Running;

/// What is to be asked for whoever wants to see a picture.
pub(crate) fn asks(picture: &Picture) -> Vec<Ask> {
    let mut asks: Vec<Ask> = vec![("view_flags", None)];
    for shown in picture.all() {
        let users = [("view_frameworks", shown.framework_info.user.as_str())];
        let own = ["view_executors", "view_tasks", "view_containers"].map(|list| (list, shown.user()));
        asks.extend(users.into_iter().chain(own).map(|(list, user)| (list, Some(user.to_owned()))));
        asks.extend(shown.tasks.iter().chain(&shown.over).map(|task| ("view_tasks", Some(user_of(shown, &task.info)))));
    }
    asks.extend(picture.resources.iter().map(|resource| ("view_roles", Some(resource.role().to_owned()))));
    asks.sort();
    asks.dedup();
    asks
}

pub(crate) fn user_of(shown: &Shown, task: &TaskInfo) -> String {
    let own = task.command.as_ref().and_then(|command| command.user.as_deref());
    own.unwrap_or_else(|| shown.user()).to_owned()
}

/// `/state`.
pub(crate) fn state(picture: &Picture, rights: &Rights) -> Value {
    let mut document = node(picture);
    let allocated = allocated(picture);
    let visible = |role: &str| role == "*" || rights.may("view_roles", Some(role));
    let mut more = json!({
        "reserved_resources_allocated": by_role(&allocated, visible, &amounts),
        "unreserved_resources_allocated": amounts(&allocated.filter(|resource| resource.role() == "*")),
        "frameworks": frameworks(picture, rights, &picture.executors),
        "completed_frameworks": completed_frameworks(picture, rights),
    });
    if rights.may("view_flags", None) {
        more["flags"] = json!(picture.flags);
    }
    // Roles of others are not everybody's to see.
    for (key, render) in
        [("reserved_resources", &amounts as &dyn Fn(&Resources) -> Value), ("reserved_resources_full", &full)]
    {
        more[key] = by_role(&picture.resources, visible, render);
    }
    merge(&mut document, more);
    document
}

/// What everybody on the node itself may know of it: there is nothing of any framework in it.
pub(crate) fn node(picture: &Picture) -> Value {
    let unreserved = picture.resources.filter(|resource| resource.role() == "*");
    json!({
        "version": api::MESOS_VERSION,
        "start_time": seconds(picture.started_ms),
        "id": picture.agent,
        "pid": format!("slave(1)@{}:{}", picture.address, picture.port),
        "hostname": picture.hostname,
        "capabilities": api::v1::OUR_AGENTS.iter().map(|one| one.as_str_name()).collect::<Vec<_>>(),
        "resources": amounts(&picture.resources),
        "unreserved_resources": amounts(&unreserved),
        "unreserved_resources_full": full(&unreserved),
        "reserved_resources": {},
        "reserved_resources_full": {},
        "reserved_resources_allocated": {},
        "unreserved_resources_allocated": amounts(&Resources::default()),
        "resource_providers": [],
        "attributes": attributes(&picture.attributes),
        "master_hostname": picture.master.rsplit_once(':').map_or("", |(host, _)| host),
        "flags": {},
        "frameworks": [],
        "completed_frameworks": [],
    })
}

fn merge(document: &mut Value, more: Value) {
    if let (Value::Object(document), Value::Object(more)) = (document, more) {
        document.extend(more);
    }
}

#[allow(clippy::cast_precision_loss)] // milliseconds since 1970 fit 2^53 for a long while
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// What runs have taken.
pub(crate) fn allocated(picture: &Picture) -> Resources {
    let mut all = Resources::default();
    for shown in &picture.executors {
        if !shown.tasks.is_empty() || !shown.is_command {
            all.add_all(&resources_from_wire(&shown.resources).unwrap_or_default());
        }
    }
    all
}

fn by_role(resources: &Resources, visible: impl Fn(&str) -> bool, render: &dyn Fn(&Resources) -> Value) -> Value {
    let roles = resources.iter().map(Resource::role).filter(|role| *role != "*" && visible(role));
    let one = |role: &str| (role.to_owned(), render(&resources.filter(|resource| resource.role() == role)));
    let roles: BTreeMap<&str, ()> = roles.map(|role| (role, ())).collect();
    Value::Object(roles.into_keys().map(one).collect())
}

/// `{"cpus":…,"disk":…,"gpus":…,"mem":…,"ports":"[…]"}`.
pub(crate) fn amounts(resources: &Resources) -> Value {
    let mut all: Map<String, Value> =
        ["disk", "mem", "gpus", "cpus"].map(|name| (name.to_owned(), json!(0.0))).into_iter().collect();
    let mut names: Vec<&str> = resources.iter().map(|resource| resource.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        for revocable in [false, true] {
            let same = resources.filter(|resource| resource.name == name && resource.revocable == revocable);
            let Some(first) = same.iter().next() else { continue };
            let value = match &first.value {
                ResourceValue::Scalar(_) => {
                    let each = same.iter().map(|resource| match &resource.value {
                        ResourceValue::Scalar(amount) => *amount,
                        ResourceValue::Ranges(_) | ResourceValue::Set(_) => api::Milli::ZERO,
                    });
                    json!(each.fold(api::Milli::ZERO, api::Milli::saturating_add).units())
                }
                ResourceValue::Ranges(_) => json!(same.ranges(name).to_string()),
                ResourceValue::Set(_) => {
                    let items = same.iter().flat_map(|resource| match &resource.value {
                        ResourceValue::Set(items) => items.iter().map(String::as_str).collect(),
                        ResourceValue::Scalar(_) | ResourceValue::Ranges(_) => Vec::new(),
                    });
                    json!(format!("{{{}}}", items.collect::<Vec<_>>().join(", ")))
                }
            };
            all.insert(if revocable { format!("{name}_revocable") } else { name.to_owned() }, value);
        }
    }
    Value::Object(all)
}

fn wire_amounts(resources: &[WireResource]) -> Value {
    amounts(&resources_from_wire(resources).unwrap_or_default())
}

fn full(resources: &Resources) -> Value {
    json!(resources_to_wire(resources, &Format { refined: false, allocation_role: None }))
}

fn attributes(attributes: &[Attribute]) -> Value {
    let one = |attribute: &Attribute| {
        let value = match &attribute.value {
            AttributeValue::Text(text) => json!(text),
            AttributeValue::Scalar(amount) => json!(amount.units()),
            AttributeValue::Ranges(ranges) => json!(ranges.to_string()),
        };
        (attribute.name.clone(), value)
    };
    Value::Object(attributes.iter().map(one).collect())
}

fn frameworks(picture: &Picture, rights: &Rights, executors: &[Shown]) -> Vec<Value> {
    let mut ids: Vec<&api::FrameworkId> = executors.iter().map(|shown| &shown.framework).collect();
    ids.sort();
    ids.dedup();
    let of = |id: &api::FrameworkId, list: &[Shown]| -> Vec<Value> {
        let mine = list.iter().filter(|shown| shown.framework == *id);
        mine.filter(|shown| rights.may("view_executors", Some(shown.user())))
            .map(|shown| executor(shown, rights))
            .collect()
    };
    ids.into_iter()
        .filter_map(|id| {
            let info = &executors.iter().find(|shown| shown.framework == *id)?.framework_info;
            if !rights.may("view_frameworks", Some(&info.user)) {
                return None;
            }
            let mut document = json!({
                "id": id.as_str(),
                "name": info.name,
                "user": info.user,
                "failover_timeout": info.failover_timeout.unwrap_or(0.0),
                "checkpoint": info.checkpoint.unwrap_or(false),
                "hostname": info.hostname.clone().unwrap_or_default(),
                "executors": of(id, &picture.executors),
                "completed_executors": of(id, &picture.completed),
            });
            if let Some(principal) = &info.principal {
                document["principal"] = json!(principal);
            }
            if info.has(api::v1::Capability::MultiRole) {
                document["roles"] = json!(info.roles);
            } else {
                document["role"] = json!(info.roles.first().map_or("*", String::as_str));
            }
            Some(document)
        })
        .collect()
}

/// Those with nothing that runs.
fn completed_frameworks(picture: &Picture, rights: &Rights) -> Vec<Value> {
    let gone = picture.completed.iter();
    let gone = gone.filter(|shown| !picture.executors.iter().any(|live| live.framework == shown.framework));
    frameworks(picture, rights, &gone.cloned().collect::<Vec<_>>())
}

fn executor(shown: &Shown, rights: &Rights) -> Value {
    let may = |task: &&ShownTask| rights.may("view_tasks", Some(&user_of(shown, &task.info)));
    let tasks = |list: &[ShownTask]| -> Vec<Value> { list.iter().filter(may).map(|one| task(shown, one)).collect() };
    let queued = |info: &TaskInfo| {
        json!({"id": info.task_id.as_str(), "name": info.name, "slave_id": info.agent_id.as_str(),
            "resources": wire_amounts(&info.resources), "role": role(&info.resources), "executor_id": shown.info.executor_id.as_str()})
    };
    let mut document = json!({
        "id": shown.info.executor_id.as_str(),
        "name": shown.info.name.clone().unwrap_or_default(),
        "source": shown.info.source.clone().unwrap_or_default(),
        "container": shown.container.as_str(),
        "directory": shown.directory,
        "resources": wire_amounts(&shown.resources),
        "role": role(&shown.resources),
        "tasks": tasks(&shown.tasks),
        "queued_tasks": shown.queued.iter().map(queued).collect::<Vec<_>>(),
        "completed_tasks": tasks(&shown.over),
    });
    put_labels(&mut document, shown.info.labels.as_ref());
    if shown.info.r#type.is_some() && !shown.is_command {
        document["type"] = json!(shown.info.r#type().as_str_name());
    }
    document
}

fn role(resources: &[WireResource]) -> String {
    let allocated = resources.iter().find_map(|resource| resource.allocation_info.as_ref()?.role.clone());
    allocated.unwrap_or_else(|| "*".to_owned())
}

fn put_labels(document: &mut Value, labels: Option<&Labels>) {
    if let Some(labels) = labels.filter(|labels| !labels.labels.is_empty()) {
        document["labels"] = json!(labels.labels);
    }
}

fn task(shown: &Shown, task: &ShownTask) -> Value {
    let info = &task.info;
    let mut statuses = Vec::new();
    for (at, status) in task.statuses.iter().enumerate() {
        // The last one of each run of equal states.
        if task.statuses.get(at + 1).is_some_and(|next| next.state == status.state) {
            continue;
        }
        let mut document = json!({"state": status.state().name(), "timestamp": status.timestamp.unwrap_or(0.0)});
        put_labels(&mut document, status.labels.as_ref());
        if let Some(container) = &status.container_status {
            document["container_status"] = json!(container);
            if let Value::Object(container) = &mut document["container_status"] {
                container.remove("executor_pid");
            }
        }
        if let Some(healthy) = status.healthy {
            document["healthy"] = json!(healthy);
        }
        statuses.push(document);
    }
    let mut document = json!({
        "id": info.task_id.as_str(),
        "name": info.name,
        "framework_id": shown.framework.as_str(),
        "executor_id": if shown.is_command { "" } else { shown.info.executor_id.as_str() },
        "slave_id": info.agent_id.as_str(),
        "state": task.state.name(),
        "resources": wire_amounts(&info.resources),
        "role": role(&info.resources),
        "statuses": statuses,
    });
    let user = info.command.as_ref().and_then(|command| command.user.clone());
    if let Some(user) = user {
        document["user"] = json!(user);
    }
    put_labels(&mut document, info.labels.as_ref());
    for (key, value) in [
        ("discovery", info.discovery.as_ref().map(|discovery| json!(discovery))),
        ("container", info.container.as_ref().map(|container| json!(container))),
        ("health_check", info.health_check.as_ref().map(|check| json!(check))),
    ] {
        if let Some(value) = value {
            document[key] = value;
        }
    }
    document
}

/// Which of the containers are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) container: Option<String>,
    pub(crate) framework: Option<String>,
    pub(crate) executor: Option<String>,
}

impl Wanted {
    fn takes(&self, one: &Running, executor: &str) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        is(&self.container, one.record.container.as_str())
            && is(&self.framework, one.record.framework.as_str())
            && is(&self.executor, executor)
    }
}

/// A container that runs, whom it belongs to, and what its executor is called.
pub(crate) fn of_running<'a>(picture: &'a Picture, one: &'a Running) -> Option<(&'a Shown, &'a str, String)> {
    let container = one.executor_container();
    let shown = picture.executors.iter().find(|shown| shown.container == *container)?;
    let name = match shown.is_command {
        true => command_executor_name(&one.record.info),
        false => shown.info.name.clone().unwrap_or_default(),
    };
    Some((shown, shown.info.executor_id.as_str(), name))
}

/// `/containers`, or with less of each `/monitor/statistics`.
pub(crate) fn containers(picture: &Picture, rights: &Rights, wanted: &Wanted, whole: Whole) -> Value {
    let one = |running: &Running| {
        let (shown, executor, name) = of_running(picture, running)?;
        if !wanted.takes(running, executor) || !rights.may("view_containers", Some(shown.user())) {
            return None;
        }
        let mut document = json!({
            "executor_id": executor,
            "executor_name": name,
            "framework_id": running.record.framework.as_str(),
            "source": shown.info.source.clone().unwrap_or_default(),
            "statistics": running.statistics(),
        });
        if whole == Whole::Yes {
            document["container_id"] = json!(running.record.container.as_str());
            document["status"] = json!(running.status());
        }
        // Not Mesos's: how long its processes waited, in the kernel's words.
        document["statistics"]["pressure"] = running.pressure();
        Some(document)
    };
    Value::Array(picture.running.iter().filter_map(one).collect())
}

/// How much of a container is shown.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Whole {
    Yes,
    Statistics,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_added_up_and_shown_as_mesos_does() {
        let resources = Resources::parse("cpus:1.5;ports:[1-2];cpus(dev):0.5;ports(dev):[9-9];bugs:{a,b}").unwrap();
        let expected =
            json!({"cpus": 2.0, "mem": 0.0, "disk": 0.0, "gpus": 0.0, "ports": "[1-2, 9-9]", "bugs": "{a, b}"});
        assert_eq!(amounts(&resources), expected);
        let reserved = by_role(&resources, |role| role == "dev", &amounts);
        assert_eq!(reserved["dev"]["ports"], "[9-9]");
        assert_eq!(by_role(&resources, |_| false, &amounts), json!({}));
    }

    #[test]
    fn what_one_may_not_see_is_left_out() {
        let mut picture =
            Picture { agent: "m-S0".to_owned(), address: "10.0.0.2".to_owned(), port: 5051, ..Picture::default() };
        picture.flags.insert("port".to_owned(), "5051".to_owned());
        let document = state(&picture, &Rights::default());
        assert_eq!((&document["pid"], &document["flags"]), (&json!("slave(1)@10.0.0.2:5051"), &json!({})));
        assert_eq!(document["frameworks"], json!([]));
    }
}
