//! Mesos's rules for calls, frameworks and tasks, in Mesos's order and words: the first that is
//! broken is reported.

use std::collections::BTreeSet;

use api::mesos::{Call, Capability, FrameworkInfo, TaskInfo, resources_from_wire};
use api::{AgentId, Resources, TaskState};
use base64::Engine;

/// Is the call well-formed? What Mesos's parser finds missing comes first, then its validation.
pub(crate) fn call(call: &Call) -> Result<(), String> {
    let missing = missing_fields(call);
    if !missing.is_empty() {
        return Err(format!(
            "Failed to convert JSON into Call protobuf: Missing required fields: {}",
            missing.join(", ")
        ));
    }
    check_call(call).map_err(|error| format!("Failed to validate scheduler::Call: {error}"))
}

/// Fields that are `required` in Mesos's protobuf, within the members there are.
fn missing_fields(call: &Call) -> Vec<&'static str> {
    let mut missing = Vec::new();
    let mut require = |there: bool, name| {
        if !there {
            missing.push(name);
        }
    };
    if let Some(kill) = &call.kill {
        require(kill.task_id.is_some(), "kill.task_id");
    }
    if let Some(shutdown) = &call.shutdown {
        require(shutdown.executor_id.is_some(), "shutdown.executor_id");
        require(shutdown.agent_id.is_some(), "shutdown.agent_id");
    }
    if let Some(acknowledge) = &call.acknowledge {
        require(acknowledge.agent_id.is_some(), "acknowledge.agent_id");
        require(acknowledge.task_id.is_some(), "acknowledge.task_id");
        require(acknowledge.uuid.is_some(), "acknowledge.uuid");
    }
    if let Some(message) = &call.message {
        require(message.agent_id.is_some(), "message.agent_id");
        require(message.executor_id.is_some(), "message.executor_id");
        require(message.data.is_some(), "message.data");
    }
    missing
}

fn check_call(call: &Call) -> Result<(), String> {
    let expecting = |name: &str| format!("Expecting '{name}' to be present");
    let kind = call.kind.as_deref().filter(|kind| KINDS.contains(kind)).ok_or_else(|| expecting("type"))?;
    if kind == "SUBSCRIBE" {
        let subscribe = call.subscribe.as_ref().ok_or_else(|| expecting("subscribe"))?;
        let of = |id: &Option<api::mesos::Value<api::FrameworkId>>| {
            id.as_ref().map(|id| id.value.clone()).unwrap_or_default()
        };
        if of(&subscribe.framework_info.id) != of(&call.framework_id) {
            return Err("'framework_id' differs from 'subscribe.framework_info.id'".to_owned());
        }
        return Ok(());
    }
    if call.framework_id.is_none() {
        return Err(expecting("framework_id"));
    }
    let (there, name) = match kind {
        "ACCEPT" => (call.accept.is_some(), "accept"),
        "DECLINE" => (call.decline.is_some(), "decline"),
        "KILL" => (call.kill.is_some(), "kill"),
        "SHUTDOWN" => (call.shutdown.is_some(), "shutdown"),
        "ACKNOWLEDGE" => (call.acknowledge.is_some(), "acknowledge"),
        "RECONCILE" => (call.reconcile.is_some(), "reconcile"),
        "MESSAGE" => (call.message.is_some(), "message"),
        "REQUEST" => (call.request.is_some(), "request"),
        "UPDATE_FRAMEWORK" => (call.update_framework.is_some(), "update_framework"),
        _ => (true, ""),
    };
    if !there {
        return Err(expecting(name));
    }
    if let (true, Some(acknowledge)) = (kind == "ACKNOWLEDGE", &call.acknowledge) {
        let bytes = acknowledge.uuid.as_ref().map(|uuid| base64::engine::general_purpose::STANDARD.decode(uuid));
        if !matches!(bytes, Some(Ok(bytes)) if bytes.len() == 16) {
            return Err("Not a valid UUID".to_owned());
        }
    }
    Ok(())
}

const KINDS: [&str; 18] = [
    "UNKNOWN",
    "SUBSCRIBE",
    "TEARDOWN",
    "ACCEPT",
    "DECLINE",
    "ACCEPT_INVERSE_OFFERS",
    "DECLINE_INVERSE_OFFERS",
    "REVIVE",
    "KILL",
    "SHUTDOWN",
    "ACKNOWLEDGE",
    "ACKNOWLEDGE_OPERATION_STATUS",
    "RECONCILE",
    "RECONCILE_OPERATIONS",
    "MESSAGE",
    "REQUEST",
    "SUPPRESS",
    "UPDATE_FRAMEWORK",
];

/// May the framework subscribe like this? The text goes into its ERROR event.
pub(crate) fn framework(info: &FrameworkInfo, suppressed_roles: &[String]) -> Result<(), String> {
    let multi_role = info.has(Capability::MultiRole);
    if multi_role && info.role.is_some() {
        return Err("'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable".to_owned());
    }
    if !multi_role && !info.roles.is_empty() {
        return Err("'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable".to_owned());
    }
    let roles = info.effective_roles();
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&str> = roles.iter().filter(|name| !seen.insert(*name)).map(String::as_str).collect();
    if !twice.is_empty() {
        let twice: Vec<&str> = twice.into_iter().collect();
        return Err(format!("'FrameworkInfo.roles' contains duplicate items: {{ {} }}", twice.join(", ")));
    }
    for name in &roles {
        role(name).map_err(|error| match multi_role {
            true => format!("'FrameworkInfo.roles' contains invalid role: {error}"),
            false => format!("'FrameworkInfo.role' is not a valid role: {error}"),
        })?;
    }
    if let Some(id) = info.id.as_ref().filter(|id| !id.value.as_str().is_empty()) {
        api::id::validate(id.value.as_str()).map_err(|error| format!("Framework ID is invalid: {error}"))?;
    }
    if let Some(timeout) = info.failover_timeout
        && !(0.0..=9_223_372_036.0).contains(&timeout)
    {
        return Err(format!("The framework failover_timeout ({timeout}) is invalid"));
    }
    for (role, filters) in &info.offer_filters {
        if !seen.contains(role) {
            return Err(format!("Offer filters specified for unknown role '{role}'"));
        }
        offer_filter(filters.min_allocatable_resources.as_ref())
            .map_err(|error| format!("Invalid offer filters for role '{role}': {error}"))?;
    }
    if let Some(stranger) = suppressed_roles.iter().find(|role| !seen.contains(role)) {
        return Err(format!("Suppressed role '{stranger}' is not contained in the list of roles"));
    }
    Ok(())
}

fn offer_filter(minimum: Option<&serde_json::Value>) -> Result<(), String> {
    let alternatives = minimum.and_then(|minimum| minimum.get("quantities")).and_then(serde_json::Value::as_array);
    for alternative in alternatives.map(Vec::as_slice).unwrap_or_default() {
        let quantities = alternative.get("quantities").and_then(serde_json::Value::as_object);
        let quantities = quantities.filter(|quantities| !quantities.is_empty());
        let quantities = quantities.ok_or("Resource quantities must contain at least one quantity")?;
        for (name, amount) in quantities {
            let amount = amount.get("value").and_then(serde_json::Value::as_f64);
            if amount.and_then(api::Milli::from_units).is_none() {
                return Err(format!("Invalid quantity of '{name}'"));
            }
        }
    }
    Ok(())
}

/// Role names are paths.
pub(crate) fn role(name: &str) -> Result<(), String> {
    if name == "*" {
        return Ok(());
    }
    if name.is_empty() {
        return Err("Empty role name is invalid".to_owned());
    }
    let cannot = |what: &str| Err(format!("Role '{name}' cannot {what}"));
    if name.starts_with('/') {
        return cannot("start with a slash");
    }
    if name.ends_with('/') {
        return cannot("end with a slash");
    }
    if name.contains("//") {
        return cannot("contain two adjacent slashes");
    }
    for component in name.split('/') {
        let invalid = |why: &str| Err(format!("Role component '{component}' is invalid{why}"));
        if matches!(component, "." | ".." | "*") {
            return invalid("");
        }
        if component.starts_with('-') {
            return invalid(" because it begins with a dash");
        }
        if component.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return invalid(" because it contains backspace or whitespace");
        }
    }
    Ok(())
}

/// May the task run on what remains of its offers? Returns what it asks for.
pub(crate) fn task(
    task: &TaskInfo,
    agent: &AgentId,
    active: Option<TaskState>,
    remaining: &Resources,
) -> Result<Resources, String> {
    let id = task.task_id.value.as_str();
    api::id::validate(id).map_err(|error| error.to_string())?;
    match active {
        Some(TaskState::Unreachable) => return Err(format!("Task reuses the ID of an unreachable task: {id}")),
        Some(_) => return Err(format!("Task has duplicate ID: {id}")),
        None => {}
    }
    if task.agent_id.value != *agent {
        return Err(format!("Task uses invalid agent {} while agent {agent} is expected", task.agent_id.value));
    }
    let negative = |duration: Option<api::mesos::DurationInfo>| {
        duration.and_then(|duration| duration.nanoseconds).is_some_and(|nanoseconds| nanoseconds < 0)
    };
    if negative(task.kill_policy.and_then(|policy| policy.grace_period)) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if negative(task.max_completion_time) {
        return Err("Task's 'max_completion_time' must be non-negative".to_owned());
    }
    check(task.check.as_ref(), "check").map_err(|error| format!("Task uses invalid check: {error}"))?;
    check(task.health_check.as_ref(), "health check")
        .map_err(|error| format!("Task uses invalid health check: {error}"))?;
    let resources =
        resources_from_wire(&task.resources).map_err(|error| format!("Task uses invalid resources: {error}"))?;
    if resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    mixed_revocability(&resources)?;
    command(task)?;
    container(task.container.as_ref())?;
    limits(task.limits.as_ref(), &resources)?;
    match (&task.command, &task.executor) {
        (Some(_), None) => {}
        (None, None) | (Some(_), Some(_)) => {
            return Err(
                "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present".to_owned()
            );
        }
        (None, Some(_)) => {
            return Err("Custom executors are not supported by this master: give the task a command".to_owned());
        }
    }
    if remaining.contains(&resources) {
        return Ok(resources);
    }
    Err(format!("Total resources {resources} required by task and its executor is more than available {remaining}"))
}

fn mixed_revocability(resources: &Resources) -> Result<(), String> {
    for resource in resources {
        if resources.iter().any(|other| other.name == resource.name && other.revocable != resource.revocable) {
            return Err("Task mixes revocable and non-revocable resources".to_owned());
        }
    }
    Ok(())
}

fn command(task: &TaskInfo) -> Result<(), String> {
    let environment = task.command.as_ref().and_then(|command| command.environment.as_ref());
    for variable in environment.map(|environment| environment.variables.as_slice()).unwrap_or_default() {
        let name = &variable.name;
        let wrong = |why: &str| Err(format!("Task's `CommandInfo` is invalid: Environment variable '{name}' {why}"));
        match variable.kind.as_deref() {
            Some("SECRET") => {
                if variable.secret.is_none() {
                    return wrong("of type 'SECRET' must have a secret set");
                }
                if variable.value.is_some() {
                    return wrong("of type 'SECRET' must not have a value set");
                }
            }
            None | Some("VALUE") => {
                if variable.value.is_none() {
                    return wrong("of type 'VALUE' must have a value set");
                }
                if variable.secret.is_some() {
                    return wrong("of type 'VALUE' must not have a secret set");
                }
            }
            Some(_) => return wrong("of type 'UNKNOWN' is not allowed"),
        }
    }
    Ok(())
}

fn container(container: Option<&serde_json::Value>) -> Result<(), String> {
    let Some(container) = container.filter(|container| !container.is_null()) else { return Ok(()) };
    let wrong = |why: &str| Err(format!("Task's `ContainerInfo` is invalid: {why}"));
    if container.get("type").and_then(serde_json::Value::as_str) == Some("DOCKER") && container.get("docker").is_none()
    {
        return wrong("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo");
    }
    let parameters = container.pointer("/docker/parameters").and_then(serde_json::Value::as_array);
    for parameter in parameters.map(Vec::as_slice).unwrap_or_default() {
        if parameter.get("key").and_then(serde_json::Value::as_str) == Some("name") {
            return wrong("Parameter in DockerInfo must not be 'name'");
        }
    }
    let volumes = container.get("volumes").and_then(serde_json::Value::as_array);
    for volume in volumes.map(Vec::as_slice).unwrap_or_default() {
        let sources = ["host_path", "image", "source"].iter().filter(|name| volume.get(name).is_some()).count();
        if sources != 1 {
            return wrong("Only one of them should be set: 'host_path', 'image' or 'source'");
        }
    }
    Ok(())
}

fn limits(limits: Option<&serde_json::Value>, resources: &Resources) -> Result<(), String> {
    let limits = limits.and_then(serde_json::Value::as_object);
    for (name, limit) in limits.into_iter().flatten() {
        if name != "cpus" && name != "mem" {
            return Err(format!("Resource '{name}' is not allowed in resource limits: only cpus and mem are"));
        }
        let limit = limit.get("value").unwrap_or(limit);
        if limit.as_str().is_some_and(|text| text.trim_start_matches('+').eq_ignore_ascii_case("infinity")) {
            continue;
        }
        let number = limit.as_f64().or_else(|| limit.as_str().and_then(|text| text.parse().ok()));
        let asked = resources.scalar(name);
        if number.and_then(api::Milli::from_units).is_none_or(|number| number < asked) {
            return Err(format!("Task's {name} limit must be a number not less than its request of {asked}"));
        }
    }
    Ok(())
}

/// Checks and health checks differ only in where their parts are.
fn check(check: Option<&serde_json::Value>, what: &str) -> Result<(), String> {
    let Some(check) = check.filter(|check| !check.is_null()) else { return Ok(()) };
    let kind = check.get("type").and_then(serde_json::Value::as_str);
    let kind = kind.or_else(|| check.get("command").map(|_| "COMMAND")).or_else(|| check.get("http").map(|_| "HTTP"));
    let kind = kind.ok_or_else(|| format!("{what} must specify 'type'"))?;
    match kind {
        "COMMAND" => {
            let command = check.get("command");
            let value = command.and_then(|command| command.get("value").or_else(|| command.pointer("/command/value")));
            if value.is_none() {
                return Err(format!("Command {what} must contain 'shell command'"));
            }
        }
        "HTTP" => {
            let http = check.get("http").ok_or_else(|| format!("Expecting 'http' to be set for HTTP {what}"))?;
            let scheme = http.get("scheme").and_then(serde_json::Value::as_str);
            if let Some(scheme) = scheme.filter(|scheme| *scheme != "http" && *scheme != "https") {
                return Err(format!("Unsupported HTTP {what} scheme: '{scheme}'"));
            }
            let path = http.get("path").and_then(serde_json::Value::as_str);
            if let Some(path) = path.filter(|path| !path.starts_with('/')) {
                return Err(format!("The path '{path}' of HTTP {what} must start with '/'"));
            }
        }
        "TCP" => {
            if check.get("tcp").is_none() {
                return Err(format!("Expecting 'tcp' to be set for TCP {what}"));
            }
        }
        other => return Err(format!("'{other}' is not a valid {what} type")),
    }
    for field in ["delay_seconds", "interval_seconds", "timeout_seconds", "grace_period_seconds"] {
        if check.get(field).and_then(serde_json::Value::as_f64).is_some_and(|seconds| seconds < 0.0) {
            return Err(format!("Expecting '{field}' to be non-negative"));
        }
    }
    Ok(())
}
