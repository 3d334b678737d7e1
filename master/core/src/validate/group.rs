//! Task groups: all of one, or nothing.

use api::v1::offer::operation::LaunchGroup;
use api::v1::{ExecutorInfo, HealthCheck, TaskInfo, container_info, executor_info, health_check};
use api::{Milli, Resources, TaskId, TaskState};

use super::asked::{Asked, one_revocability, overlap, scalar, spelled, total};
use super::task::{Place, own};
use super::{container, executor};
use crate::operation::{spell, unique_ids};

/// What an executor needs at the least.
const MIN_CPUS: Milli = Milli(10);
/// MiB.
const MIN_MEM: Milli = Milli(32_000);

/// What a group takes from its offers.
#[derive(Clone, Debug, Default)]
pub(crate) struct GroupNeeds {
    /// Each task for itself.
    pub(crate) tasks: Vec<Resources>,
    /// For the executor, if that is to be launched with them.
    pub(crate) executor: Option<Resources>,
}

/// May the group run on what remains of its offers? `active` tells the state of a task with that id, `known` how the
/// executor is described if one of that id is there.
pub(crate) fn group(
    group: &LaunchGroup,
    active: impl Fn(&TaskId) -> Option<TaskState>,
    known: Option<&ExecutorInfo>,
    at: Place<'_>,
) -> Result<GroupNeeds, String> {
    let tasks = &group.task_group.tasks;
    let mut asked = Vec::with_capacity(tasks.len() + 1);
    let mut ids = std::collections::BTreeSet::new();
    for task in tasks {
        if !ids.insert(&task.task_id) {
            return Err(format!("Task '{0}' is invalid: Task has duplicate ID: {0}", task.task_id));
        }
        let one = own(task, active(&task.task_id), at).and_then(|asked| in_group(task).map(|()| asked));
        asked.push(one.map_err(|error| format!("Task '{}' is invalid: {error}", task.task_id))?);
    }
    let executor = the_executor(&group.executor, known, tasks, at)?;
    // One that runs has what it needs.
    asked.push(if known.is_some() { Asked::default() } else { executor });
    together(&asked, at)?;
    executor::own_cgroups(&group.executor)?;
    let shares = |task: &TaskInfo| container::shares_cgroups(task.container.as_deref()).unwrap_or(true);
    if tasks.iter().any(|task| shares(task) != tasks.first().is_some_and(shares)) {
        return Err(
            "If set, the value of 'share_cgroups' must be the same for all tasks in each task group and under \
                    a single executor"
                .to_owned(),
        );
    }
    let executor = asked.pop().map(|asked| asked.resources).filter(|_| known.is_none());
    Ok(GroupNeeds { tasks: asked.into_iter().map(|asked| asked.resources).collect(), executor })
}

/// What holds of a task because it is in a group.
fn in_group(task: &TaskInfo) -> Result<(), String> {
    if let Some(container) = task.container.as_deref() {
        let needs_network =
            |check: &HealthCheck| matches!(check.r#type(), health_check::Type::Http | health_check::Type::Tcp);
        if !container.network_infos.is_empty() && task.health_check.as_deref().is_some_and(needs_network) {
            return Err("HTTP and TCP health checks are not supported for nested containers not joining parent's \
                        network"
                .to_owned());
        }
        if container.r#type() == container_info::Type::Docker {
            return Err("Docker ContainerInfo is not supported on the task".to_owned());
        }
    }
    if !task.limits.is_empty() && container::shares_cgroups(task.container.as_deref()) != Some(false) {
        return Err("Resource limits may only be set for tasks within a task group when the 'share_cgroups' field is \
                    set to 'false'."
            .to_owned());
    }
    Ok(())
}

/// What the group's executor asks for.
fn the_executor(
    executor: &ExecutorInfo,
    known: Option<&ExecutorInfo>,
    tasks: &[TaskInfo],
    at: Place<'_>,
) -> Result<Asked, String> {
    let asked = executor::executor(executor, known, at.framework, at.role)?;
    if executor.r#type.is_none() {
        return Err("'ExecutorInfo.type' must be set".to_owned());
    }
    if executor.r#type() == executor_info::Type::Unknown {
        return Err("Unknown executor type".to_owned());
    }
    if executor.container.as_deref().is_some_and(|container| container.r#type() == container_info::Type::Docker) {
        return Err("Docker ContainerInfo is not supported on the executor".to_owned());
    }
    let name = &executor.executor_id;
    let other = |task: &&TaskInfo| task.executor.as_deref().is_some_and(|own| !executor::is_same(own, executor));
    if let Some(task) = tasks.iter().find(other) {
        return Err(format!("The `ExecutorInfo` of task '{}' is different from executor '{name}'", task.task_id));
    }
    let resources = &asked.resources;
    let cpus = scalar(resources, "cpus");
    if cpus.is_none_or(|cpus| cpus < MIN_CPUS) {
        return uses_less(executor, "CPUs", cpus.map(|cpus| cpus.to_string()), &MIN_CPUS.to_string());
    }
    let mem = scalar(resources, "mem");
    if mem.is_none_or(|mem| mem < MIN_MEM) {
        return uses_less(executor, "memory", mem.map(bytes), &bytes(MIN_MEM));
    }
    if scalar(resources, "disk").is_none() {
        return Err(format!("Executor '{name}' uses no disk"));
    }
    Ok(asked)
}

fn uses_less(executor: &ExecutorInfo, what: &str, given: Option<String>, least: &str) -> Result<Asked, String> {
    let (name, given) = (&executor.executor_id, given.unwrap_or_else(|| "None".to_owned()));
    Err(format!("Executor '{name}' uses less {what} ({given}) than the minimum required ({least})"))
}

/// The tasks, and the executor behind them.
fn together(asked: &[Asked], at: Place<'_>) -> Result<(), String> {
    let all: Vec<&Asked> = asked.iter().collect();
    let sum = total(&all);
    unique_ids(sum.iter()).map_err(|error| format!("Task group and executor use duplicate persistence ID: {error}"))?;
    one_revocability(&sum)
        .map_err(|error| format!("Task group and executor mix revocable and non-revocable resources: {error}"))?;
    if overlap(&all) {
        let (tasks, executor) = all.split_at(all.len() - 1);
        return Err(format!(
            "There are overlapping resources in the task group's task resources {} and/or executor resources {}",
            spelled(tasks),
            spelled(executor)
        ));
    }
    if all.iter().all(|asked| asked.is_for(at.role)) && at.available.contains(&sum) {
        return Ok(());
    }
    let (want, have) = (spelled(&all), spell(at.available, Some(at.role)));
    Err(format!("Total resources {want} required by task group and its executor are more than available {have}"))
}

/// Thousandths of a MiB, in the largest unit of which they are a whole number.
fn bytes(mem: Milli) -> String {
    let mut count = u128::from(mem.0) * (1 << 20) / 1000;
    let mut unit = "B";
    for larger in ["KB", "MB", "GB", "TB"] {
        if count == 0 || !count.is_multiple_of(1024) {
            break;
        }
        (count, unit) = (count / 1024, larger);
    }
    format!("{count}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_have_the_largest_whole_unit() {
        for (milli, text) in [(1000, "1MB"), (32_000, "32MB"), (1_500, "1536KB"), (1_024_000, "1GB"), (0, "0B")] {
            assert_eq!(bytes(Milli(milli)), text);
        }
    }
}
