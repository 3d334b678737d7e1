//! Executors: what is wrong with one is said first, as by Mesos.

use api::FrameworkId;
use api::v1::{ExecutorInfo, container_info, executor_info};

use super::asked::{Asked, spelled};
use super::container;

/// What holds of every executor. Returns what it asks for. `known` is how one of that id is described that is there.
pub(super) fn executor(
    executor: &ExecutorInfo,
    known: Option<&ExecutorInfo>,
    framework: &FrameworkId,
    role: &str,
) -> Result<Asked, String> {
    kind(executor)?;
    api::id::validate(executor.executor_id.as_str()).map_err(|error| error.to_string())?;
    if executor.shutdown_grace_period.is_some_and(|period| period.nanoseconds < 0) {
        return Err("ExecutorInfo's 'shutdown_grace_period' must be non-negative".to_owned());
    }
    if let Some(command) = executor.command.as_deref() {
        container::command(command).map_err(|error| format!("Executor's `CommandInfo` is invalid: {error}"))?;
    }
    if let Some(container) = executor.container.as_deref() {
        container::container(container).map_err(|error| format!("Executor's `ContainerInfo` is invalid: {error}"))?;
    }
    let Some(actual) = &executor.framework_id else {
        return Err("'ExecutorInfo.framework_id' must be set".to_owned());
    };
    if actual != framework {
        return Err(format!("ExecutorInfo has an invalid FrameworkID (Actual: {actual} vs Expected: {framework})"));
    }
    if let Some(known) = known.filter(|known| !is_same(known, executor)) {
        return Err(incompatible(known, executor));
    }
    Asked::read(&executor.resources, role, "Executor")
}

fn incompatible(known: &ExecutorInfo, given: &ExecutorInfo) -> String {
    const LINE: &str = "------------------------------------------------------------";
    // Mesos shows protobuf's own text here; this is the same in JSON.
    let text = |executor: &ExecutorInfo| serde_json::to_string(executor).unwrap_or_default();
    format!(
        "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n{LINE}\nExisting \
         ExecutorInfo:\n{}\n{LINE}\nExecutorInfo:\n{}\n{LINE}\n",
        text(known),
        text(given)
    )
}

/// The same executor, wherever its resources are said to be allocated to.
pub(super) fn is_same(one: &ExecutorInfo, other: &ExecutorInfo) -> bool {
    let bare = |executor: &ExecutorInfo| {
        let mut executor = executor.clone();
        executor.resources.iter_mut().for_each(|resource: &mut api::v1::Resource| resource.allocation_info = None);
        executor
    };
    bare(one) == bare(other)
}

fn kind(executor: &ExecutorInfo) -> Result<(), String> {
    match executor.r#type() {
        executor_info::Type::Default => {
            if executor.command.is_some() {
                return Err("'ExecutorInfo.command' must not be set for 'DEFAULT' executor".to_owned());
            }
            let Some(container) = executor.container.as_deref() else { return Ok(()) };
            if container.r#type() != container_info::Type::Mesos {
                return Err("'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor".to_owned());
            }
            if !container.network_infos.is_empty() || !container.volumes.is_empty() {
                // Ours: a pod's tasks say it each for itself, and what is not done must not be taken in silence.
                return Err("'ExecutorInfo.container' of a 'DEFAULT' executor must have neither 'network_infos' nor \
                            'volumes' here: give them to the tasks"
                    .to_owned());
            }
            if container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) {
                return Err("'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor".to_owned());
            }
            Ok(())
        }
        executor_info::Type::Custom if executor.command.is_none() => {
            Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".to_owned())
        }
        executor_info::Type::Custom | executor_info::Type::Unknown => Ok(()),
    }
}

/// What holds of the executor of a task that is launched alone.
pub(super) fn of_task(executor: &ExecutorInfo, asked: &Asked) -> Result<(), String> {
    if executor.r#type.is_some() && executor.r#type() != executor_info::Type::Custom {
        return Err("'ExecutorInfo.type' must be 'CUSTOM'".to_owned());
    }
    if executor.command.is_none() {
        return Err("'ExecutorInfo.command' must be set".to_owned());
    }
    if asked.resources.iter().any(|resource| resource.shared) {
        let text = spelled(&[asked]);
        return Err(format!("Executor resources {text} should not contain any shared resources"));
    }
    own_cgroups(executor)
}

/// Only tasks share theirs.
pub(super) fn own_cgroups(executor: &ExecutorInfo) -> Result<(), String> {
    if container::shares_cgroups(executor.container.as_deref()) == Some(true) {
        return Err("The 'share_cgroups' field cannot be set to 'true' on executor containers".to_owned());
    }
    Ok(())
}
