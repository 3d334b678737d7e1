//! Tasks: may this one run there?

use api::v1::agent_info::capability::Type as Capability;
use api::v1::{AgentCapabilities, ExecutorInfo, TaskInfo};
use api::{AgentId, FrameworkId, Resources, TaskState};

use super::asked::{Asked, one_revocability, overlap, scalar, spelled, total};
use super::{check, container, executor};
use crate::operation::{spell, unique_ids};

/// Where a task is to run, and of what.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) framework: &'a FrameworkId,
    pub(crate) agent: &'a AgentId,
    /// The offers'.
    pub(crate) role: &'a str,
    /// What remains of the offers.
    pub(crate) available: &'a Resources,
    /// The agent's.
    pub(crate) capabilities: AgentCapabilities,
}

/// What a task takes from its offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    /// For itself.
    pub(crate) task: Resources,
    /// For its executor, if that is to be launched with it.
    pub(crate) executor: Option<Resources>,
}

/// May the task run on what remains of its offers? Returns what it asks for. `known` is how its executor is described
/// if one of that id is there.
pub(crate) fn task(
    task: &TaskInfo,
    active: Option<TaskState>,
    known: Option<&ExecutorInfo>,
    at: Place<'_>,
) -> Result<Needs, String> {
    let asked = own(task, active, at)?;
    let theirs = with_executor(task, &asked, known, at)?;
    if container::shares_cgroups(task.container.as_deref()) == Some(false) {
        return Err("Only tasks in a task group may have 'share_cgroups' set to 'false'".to_owned());
    }
    Ok(Needs { task: asked.resources, executor: theirs.map(|asked| asked.resources) })
}

/// What the master fills in for tasks that are launched alone.
pub(crate) fn complete(task: &mut TaskInfo, framework: &FrameworkId) {
    if let Some(executor) = task.executor.as_deref_mut() {
        executor.framework_id.get_or_insert_with(|| framework.clone());
    }
    complete_check(task);
}

/// What kind of health check it is, where only its body says so.
pub(crate) fn complete_check(task: &mut TaskInfo) {
    if let Some(health_check) = task.health_check.as_deref_mut()
        && health_check.r#type.is_none()
    {
        health_check.r#type = check::implied(health_check).map(Into::into);
    }
}

/// What concerns the task itself, not its executor.
pub(super) fn own(task: &TaskInfo, active: Option<TaskState>, at: Place<'_>) -> Result<Asked, String> {
    let id = task.task_id.as_str();
    api::id::validate(id).map_err(|error| error.to_string())?;
    match active {
        Some(TaskState::Unreachable) => return Err(format!("Task reuses the ID of an unreachable task: {id}")),
        Some(_) => return Err(format!("Task has duplicate ID: {id}")),
        None => {}
    }
    if task.agent_id != *at.agent {
        return Err(format!("Task uses invalid agent {} while agent {} is expected", task.agent_id, at.agent));
    }
    let negative = |duration: Option<api::v1::DurationInfo>| duration.is_some_and(|duration| duration.nanoseconds < 0);
    if negative(task.kill_policy.and_then(|policy| policy.grace_period)) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if negative(task.max_completion_time) {
        return Err("Task's `max_completion_time` must be non-negative".to_owned());
    }
    check::check(task)?;
    check::health_check(task)?;
    if task.resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    let asked = Asked::read(&task.resources, at.role, "Task")?;
    if let Some(command) = &task.command {
        container::command(command).map_err(|error| format!("Task's `CommandInfo` is invalid: {error}"))?;
    }
    if let Some(container) = task.container.as_deref() {
        container::container(container).map_err(|error| format!("Task's `ContainerInfo` is invalid: {error}"))?;
    }
    limits_of(task, &asked.resources, at.capabilities)?;
    Ok(asked)
}

fn with_executor(
    task: &TaskInfo,
    asked: &Asked,
    known: Option<&ExecutorInfo>,
    at: Place<'_>,
) -> Result<Option<Asked>, String> {
    if task.executor.is_some() == task.command.is_some() {
        return Err("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present".to_owned());
    }
    let mut theirs = None;
    if let Some(given) = task.executor.as_deref() {
        let read = executor::executor(given, known, at.framework, at.role)?;
        executor::of_task(given, &read)?;
        // One that runs has what it needs.
        theirs = known.is_none().then_some(read);
    }
    let all: Vec<&Asked> = [Some(asked), theirs.as_ref()].into_iter().flatten().collect();
    if overlap(&all) {
        let (mine, theirs) = (spelled(&all[..1]), spelled(&all[1..]));
        return Err(format!(
            "There are overlapping resources in the task resources {mine} and executor resources {theirs}"
        ));
    }
    let sum = total(&all);
    unique_ids(sum.iter()).map_err(|error| format!("Task and its executor use duplicate persistence ID: {error}"))?;
    one_revocability(&sum)
        .map_err(|error| format!("Task and its executor mix revocable and non-revocable resources: {error}"))?;
    if all.iter().all(|asked| asked.is_for(at.role)) && at.available.contains(&sum) {
        return Ok(theirs);
    }
    let (want, have) = (spelled(&all), spell(at.available, Some(at.role)));
    Err(format!("Total resources {want} required by task and its executor is more than available {have}"))
}

fn limits_of(task: &TaskInfo, resources: &Resources, agent: AgentCapabilities) -> Result<(), String> {
    if !task.limits.is_empty() && !agent.has(Capability::TaskResourceLimits) {
        return Err("Agent is not capable of handling task resource limits".to_owned());
    }
    if task.limits.keys().any(|name| name != "cpus" && name != "mem") {
        return Err("Only cpus and mem may be included in a task's resource limits".to_owned());
    }
    for (name, noun, word) in [("cpus", "CPU", "cpu"), ("mem", "memory", "memory")] {
        let Some(limit) = task.limits.get(name) else { continue };
        let Some(asked) = scalar(resources, name) else {
            return Err(format!("When a {noun} limit is specified, a {noun} request must also be specified"));
        };
        // What is no number is no limit.
        if limit.value.is_nan() || limit.value < asked.units() {
            return Err(format!("The {word} limit must be greater than or equal to the {word} request"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::v1::OUR_AGENTS;

    use super::*;

    #[test]
    fn limits_are_for_agents_that_know_them() {
        let limits = [("mem".to_owned(), api::v1::value::Scalar { value: 64.0 })].into();
        let task = TaskInfo { limits, ..TaskInfo::default() };
        let resources = Resources::parse("mem:32").unwrap();
        assert_eq!(limits_of(&task, &resources, OUR_AGENTS), Ok(()));
        let refused = limits_of(&task, &resources, AgentCapabilities::default()).unwrap_err();
        assert_eq!(refused, "Agent is not capable of handling task resource limits");
    }
}
