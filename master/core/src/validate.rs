//! Mesos's rules for calls, frameworks and tasks, in Mesos's order and words: the first that is
//! broken is reported.

mod constraints;

use std::collections::BTreeSet;

use api::v1::environment::variable;
use api::v1::scheduler::Call;
use api::v1::scheduler::call::Type;
use api::v1::{
    Capability, CheckInfo, ContainerInfo, FrameworkInfo, HealthCheck, TaskInfo, check_info, container_info,
    health_check, resources_from_wire,
};
use api::{AgentId, Resources, TaskState};

use crate::operation::{Requester, spell, unique_ids, well_formed};

pub(crate) use constraints::constraints;

/// Is the call well-formed? Its required fields were there when it was read.
///
/// # Errors
/// Mesos's text for the answer 400.
pub fn call(call: &Call) -> Result<(), String> {
    check_call(call).map_err(|error| format!("Failed to validate scheduler::Call: {error}"))
}

fn check_call(call: &Call) -> Result<(), String> {
    let expecting = |name: &str| format!("Expecting '{name}' to be present");
    let kind = call.r#type.and_then(|kind| Type::try_from(kind).ok()).ok_or_else(|| expecting("type"))?;
    if kind == Type::Subscribe {
        let subscribe = call.subscribe.as_ref().ok_or_else(|| expecting("subscribe"))?;
        let of = |id: &Option<api::FrameworkId>| id.clone().unwrap_or_default();
        if of(&subscribe.framework_info.id) != of(&call.framework_id) {
            return Err("'framework_id' differs from 'subscribe.framework_info.id'".to_owned());
        }
        return Ok(());
    }
    if call.framework_id.is_none() {
        return Err(expecting("framework_id"));
    }
    let (there, name) = match kind {
        Type::Accept => (call.accept.is_some(), "accept"),
        Type::Decline => (call.decline.is_some(), "decline"),
        Type::Kill => (call.kill.is_some(), "kill"),
        Type::Shutdown => (call.shutdown.is_some(), "shutdown"),
        Type::Acknowledge => (call.acknowledge.is_some(), "acknowledge"),
        Type::Reconcile => (call.reconcile.is_some(), "reconcile"),
        Type::Message => (call.message.is_some(), "message"),
        Type::Request => (call.request.is_some(), "request"),
        Type::UpdateFramework => (call.update_framework.is_some(), "update_framework"),
        Type::AcceptInverseOffers => (call.accept_inverse_offers.is_some(), "accept_inverse_offers"),
        Type::DeclineInverseOffers => (call.decline_inverse_offers.is_some(), "decline_inverse_offers"),
        Type::AcknowledgeOperationStatus => {
            (call.acknowledge_operation_status.is_some(), "acknowledge_operation_status")
        }
        Type::ReconcileOperations => (call.reconcile_operations.is_some(), "reconcile_operations"),
        Type::Unknown | Type::Subscribe | Type::Teardown | Type::Revive | Type::Suppress => (true, ""),
    };
    if !there {
        return Err(expecting(name));
    }
    let uuids = [
        call.acknowledge.as_ref().map(|acknowledge| &acknowledge.uuid).filter(|_| kind == Type::Acknowledge),
        (call.acknowledge_operation_status.as_ref().map(|acknowledge| &acknowledge.uuid))
            .filter(|_| kind == Type::AcknowledgeOperationStatus),
    ];
    if uuids.into_iter().flatten().any(|uuid| uuid.len() != 16) {
        return Err("Not a valid UUID".to_owned());
    }
    if kind == Type::AcknowledgeOperationStatus
        && call.acknowledge_operation_status.as_ref().is_some_and(|acknowledge| acknowledge.agent_id.is_none())
    {
        return Err(expecting("acknowledge_operation_status.agent_id"));
    }
    Ok(())
}

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
    if let Some(id) = info.id.as_ref().filter(|id| !id.as_str().is_empty()) {
        api::id::validate(id.as_str()).map_err(|error| format!("Framework ID is invalid: {error}"))?;
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

fn offer_filter(minimum: Option<&api::v1::offer_filters::MinAllocatableResources>) -> Result<(), String> {
    for alternative in minimum.map(|minimum| minimum.quantities.as_slice()).unwrap_or_default() {
        if alternative.quantities.is_empty() {
            return Err("Resource quantities must contain at least one quantity".to_owned());
        }
        for (name, amount) in &alternative.quantities {
            if api::Milli::from_units(amount.value).is_none() {
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
    role: &str,
    active: Option<TaskState>,
    remaining: &Resources,
) -> Result<Resources, String> {
    let id = task.task_id.as_str();
    api::id::validate(id).map_err(|error| error.to_string())?;
    match active {
        Some(TaskState::Unreachable) => return Err(format!("Task reuses the ID of an unreachable task: {id}")),
        Some(_) => return Err(format!("Task has duplicate ID: {id}")),
        None => {}
    }
    if task.agent_id != *agent {
        return Err(format!("Task uses invalid agent {} while agent {agent} is expected", task.agent_id));
    }
    let negative = |duration: Option<api::v1::DurationInfo>| duration.is_some_and(|duration| duration.nanoseconds < 0);
    if negative(task.kill_policy.and_then(|policy| policy.grace_period)) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if negative(task.max_completion_time) {
        return Err("Task's `max_completion_time` must be non-negative".to_owned());
    }
    let checked = task.check.as_deref().map_or(Ok(()), |check| self::check(&check.into(), "check"));
    checked.map_err(|error| format!("Task uses invalid check: {error}"))?;
    let checked = task.health_check.as_deref().map_or(Ok(()), |check| self::check(&check.into(), "health check"));
    checked.map_err(|error| format!("Task uses invalid health check: {error}"))?;
    if task.resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    let resources = resources_from_wire(&task.resources)
        .map_err(|error| format!("Task uses invalid resources: Invalid resources: {error}"))?;
    let by = Requester::Task { allocated_to: role };
    well_formed(&resources, &by).map_err(|error| format!("Task uses invalid resources: {error}"))?;
    unique_ids(resources.iter()).map_err(|error| format!("Task uses duplicate persistence ID: {error}"))?;
    one_role(&task.resources, role).map_err(|error| format!("Invalid task resources: {error}"))?;
    mixed_revocability(&resources)
        .map_err(|error| format!("Task mixes revocable and non-revocable resources: {error}"))?;
    command(task)?;
    container(task.container.as_deref())?;
    limits(task, &resources)?;
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
    let (asked, have) = (spell(&resources, Some(role)), spell(remaining, Some(role)));
    Err(format!("Total resources {asked} required by task and its executor is more than available {have}"))
}

/// What does not say for whom is for the offer's role.
fn one_role(resources: &[api::v1::Resource], role: &str) -> Result<(), String> {
    let mut first: Option<&str> = None;
    for resource in resources {
        let given = resource.allocation_info.as_ref().and_then(|info| info.role.as_deref()).unwrap_or(role);
        if *first.get_or_insert(given) != given {
            return Err(format!(
                "The resources have multiple allocation roles ('{given}' and '{}') but only one allocation role is \
                 allowed",
                first.unwrap_or_default()
            ));
        }
    }
    Ok(())
}

fn mixed_revocability(resources: &Resources) -> Result<(), String> {
    for resource in resources {
        if resources.iter().any(|other| other.name == resource.name && other.revocable != resource.revocable) {
            let name = &resource.name;
            return Err(format!("Cannot use both revocable and non-revocable '{name}' at the same time"));
        }
    }
    Ok(())
}

fn command(task: &TaskInfo) -> Result<(), String> {
    let environment = task.command.as_ref().and_then(|command| command.environment.as_ref());
    for variable in environment.map(|environment| environment.variables.as_slice()).unwrap_or_default() {
        let name = &variable.name;
        let wrong = |why: &str| Err(format!("Task's `CommandInfo` is invalid: Environment variable '{name}' {why}"));
        match variable.r#type() {
            variable::Type::Secret => {
                if variable.secret.is_none() {
                    return wrong("of type 'SECRET' must have a secret set");
                }
                if variable.value.is_some() {
                    return wrong("of type 'SECRET' must not have a value set");
                }
            }
            variable::Type::Value => {
                if variable.value.is_none() {
                    return wrong("of type 'VALUE' must have a value set");
                }
                if variable.secret.is_some() {
                    return wrong("of type 'VALUE' must not have a secret set");
                }
            }
            variable::Type::Unknown => return wrong("of type 'UNKNOWN' is not allowed"),
        }
    }
    Ok(())
}

fn container(container: Option<&ContainerInfo>) -> Result<(), String> {
    let Some(container) = container else { return Ok(()) };
    let wrong = |why: &str| Err(format!("Task's `ContainerInfo` is invalid: {why}"));
    if container.r#type() == container_info::Type::Docker && container.docker.is_none() {
        return wrong("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo");
    }
    let parameters = container.docker.as_ref().map(|docker| docker.parameters.as_slice()).unwrap_or_default();
    if parameters.iter().any(|parameter| parameter.key == "name") {
        return wrong("Parameter in DockerInfo must not be 'name'");
    }
    for volume in &container.volumes {
        let sources = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()];
        if sources.into_iter().filter(|set| *set).count() != 1 {
            return wrong("Only one of them should be set: 'host_path', 'image' or 'source'");
        }
    }
    Ok(())
}

fn limits(task: &TaskInfo, resources: &Resources) -> Result<(), String> {
    for (name, limit) in &task.limits {
        if name != "cpus" && name != "mem" {
            return Err(format!("Resource '{name}' is not allowed in resource limits: only cpus and mem are"));
        }
        if limit.value == f64::INFINITY {
            continue;
        }
        let asked = resources.scalar(name);
        if api::Milli::from_units(limit.value).is_none_or(|number| number < asked) {
            return Err(format!("Task's {name} limit must be a number not less than its request of {asked}"));
        }
    }
    Ok(())
}

/// What checks and health checks have in common, wherever each keeps it.
struct Check<'a> {
    kind: Option<&'static str>,
    /// Set, and with something to run.
    command: Option<bool>,
    http: Option<(Option<&'a str>, Option<&'a str>)>,
    tcp: bool,
    seconds: [(&'static str, Option<f64>); 4],
}

impl<'a> From<&'a CheckInfo> for Check<'a> {
    fn from(check: &'a CheckInfo) -> Self {
        let kind = check.r#type.and_then(|kind| check_info::Type::try_from(kind).ok());
        Self {
            kind: kind.map(|kind| kind.as_str_name()),
            command: check.command.as_ref().map(|command| command.command.value.is_some()),
            http: check.http.as_ref().map(|http| (None, http.path.as_deref())),
            tcp: check.tcp.is_some(),
            seconds: [
                ("delay_seconds", check.delay_seconds),
                ("interval_seconds", check.interval_seconds),
                ("timeout_seconds", check.timeout_seconds),
                ("grace_period_seconds", None),
            ],
        }
    }
}

impl<'a> From<&'a HealthCheck> for Check<'a> {
    fn from(check: &'a HealthCheck) -> Self {
        let kind = check.r#type.and_then(|kind| health_check::Type::try_from(kind).ok());
        Self {
            kind: kind.map(|kind| kind.as_str_name()),
            command: check.command.as_ref().map(|command| command.value.is_some()),
            http: check.http.as_ref().map(|http| (http.scheme.as_deref(), http.path.as_deref())),
            tcp: check.tcp.is_some(),
            seconds: [
                ("delay_seconds", check.delay_seconds),
                ("interval_seconds", check.interval_seconds),
                ("timeout_seconds", check.timeout_seconds),
                ("grace_period_seconds", check.grace_period_seconds),
            ],
        }
    }
}

fn check(check: &Check<'_>, what: &str) -> Result<(), String> {
    let implied = check.command.map(|_| "COMMAND").or_else(|| check.http.map(|_| "HTTP"));
    match check.kind.or(implied).ok_or_else(|| format!("{what} must specify 'type'"))? {
        "COMMAND" => {
            if check.command != Some(true) {
                return Err(format!("Command {what} must contain 'shell command'"));
            }
        }
        "HTTP" => {
            let (scheme, path) = check.http.ok_or_else(|| format!("Expecting 'http' to be set for HTTP {what}"))?;
            if let Some(scheme) = scheme.filter(|scheme| *scheme != "http" && *scheme != "https") {
                return Err(format!("Unsupported HTTP {what} scheme: '{scheme}'"));
            }
            if let Some(path) = path.filter(|path| !path.starts_with('/')) {
                return Err(format!("The path '{path}' of HTTP {what} must start with '/'"));
            }
        }
        "TCP" => {
            if !check.tcp {
                return Err(format!("Expecting 'tcp' to be set for TCP {what}"));
            }
        }
        other => return Err(format!("'{other}' is not a valid {what} type")),
    }
    match check.seconds.iter().find(|(_, seconds)| seconds.is_some_and(|seconds| seconds < 0.0)) {
        Some((field, _)) => Err(format!("Expecting '{field}' to be non-negative")),
        None => Ok(()),
    }
}
