//! Values of the Mesos API on the link: the one place that knows how they are spelled there.

use anyhow::{Context, Result};
use api::link::{self, from_agent};
use api::v1::{
    self, Capability, ContainerId, ContainerStatus, Reason, Source, TaskStatus, attributes_to_wire, resources_to_wire,
};
use api::{Attribute, Resources, TaskState};
use serde::Deserialize;
use serde_json::Value;

use super::script::Script;

/// Which statuses tasks go through before they end.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Told {
    /// STARTING and RUNNING, as a command executor.
    #[default]
    StartingAndRunning,
    /// RUNNING only.
    Running,
}

/// A task to pretend.
pub(super) struct Launch {
    pub(super) framework: String,
    pub(super) task: String,
    pub(super) container: String,
    pub(super) script: Script,
    /// The framework wants to hear TASK_KILLING.
    pub(super) killing: bool,
}

/// A status to tell.
#[derive(Clone, Debug)]
pub(super) struct Update {
    pub(super) state: TaskState,
    pub(super) reason: Option<String>,
    pub(super) message: Option<String>,
    pub(super) uuid: [u8; 16],
}

pub(super) fn launch(run: link::RunTask) -> Result<Launch> {
    let task = run.task.context("there is no task")?;
    let framework = run.framework_info.context("there is no framework info")?;
    let command = task.command.and_then(|command| command.value).unwrap_or_default();
    Ok(Launch {
        framework: run.framework_id,
        task: task.task_id.0,
        container: run.container_id,
        script: Script::of(&command),
        killing: framework.has(Capability::TaskKillingState),
    })
}

pub(super) fn update(
    framework: &str,
    task: &str,
    container: &str,
    update: &Update,
    latest: TaskState,
) -> from_agent::Message {
    let mut status = TaskStatus::new(task.into(), update.state);
    status.source = Some(Source::Executor.into());
    status.message.clone_from(&update.message);
    // A reason this version has no name for is left out.
    let reason = update.reason.as_deref().and_then(Reason::from_str_name);
    status.reason = reason.map(Into::into);
    status.executor_id = Some(task.into());
    status.timestamp = Some(now());
    status.uuid = Some(update.uuid.to_vec());
    let container_id = ContainerId { value: container.to_owned(), ..ContainerId::default() };
    status.container_status =
        Some(Box::new(ContainerStatus { container_id: Some(container_id), ..ContainerStatus::default() }));
    from_agent::Message::Update(link::StatusUpdate {
        framework_id: framework.to_owned(),
        status: Some(status),
        latest_state: latest.name().to_owned(),
    })
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

pub(super) fn capacity(resources: &[v1::Resource], attributes: &[v1::Attribute]) -> link::Capacity {
    link::Capacity { resources: resources.to_vec(), attributes: attributes.to_vec() }
}

/// From the text grammar to what the link carries.
pub(super) fn resources(text: &str) -> Result<Vec<v1::Resource>> {
    let resources = Resources::parse(text).with_context(|| format!("`{text}` are no resources"))?;
    let format = v1::Format { refined: true, allocation_role: None };
    Ok(resources_to_wire(&resources, &format))
}

/// From a JSON array of Mesos's `Resource`.
pub(super) fn json_resources(json: &Value) -> Result<Vec<v1::Resource>> {
    Vec::deserialize(json).with_context(|| format!("`{json}` are no resources"))
}

/// From the text grammar to what the link carries.
pub(super) fn attributes(text: &str) -> Result<Vec<v1::Attribute>> {
    let attributes = Attribute::parse_list(text).with_context(|| format!("`{text}` are no attributes"))?;
    Ok(attributes_to_wire(&attributes))
}
