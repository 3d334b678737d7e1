//! Values of the Mesos API on the link: the one place that knows how they are spelled there.

use anyhow::{Context, Result};
use api::link::{self, from_agent};
use api::v1::{
    self, Capability, ContainerId, ContainerStatus, Format, Reason, Source, TaskStatus, attributes_to_wire,
    resources_to_wire,
};
use api::{Attribute, Resources, TaskState};

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
    let task = run.task.context("a launch has a task")?;
    let command = task.command.and_then(|command| command.value).unwrap_or_default();
    Ok(Launch {
        framework: run.framework_id,
        task: task.task_id.to_string(),
        container: run.container_id,
        script: Script::of(&command),
        killing: run.framework_info.is_some_and(|framework| framework.has(Capability::TaskKillingState)),
    })
}

pub(super) fn update(
    framework: &str,
    task: &str,
    container: &str,
    update: &Update,
    latest: TaskState,
) -> from_agent::Message {
    // A reason this version has no name for is left out.
    let reason = update.reason.as_deref().and_then(Reason::from_str_name);
    let container_id = Some(ContainerId { value: container.to_owned(), ..ContainerId::default() });
    let status = TaskStatus {
        source: Some(Source::Executor.into()),
        message: update.message.clone(),
        reason: reason.map(Into::into),
        executor_id: Some(task.into()),
        timestamp: Some(now()),
        uuid: Some(update.uuid.to_vec()),
        container_status: Some(Box::new(ContainerStatus { container_id, ..ContainerStatus::default() })),
        ..TaskStatus::new(task.into(), update.state)
    };
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
    link::Capacity { resources: resources.to_vec(), attributes: attributes.to_vec(), ..link::Capacity::default() }
}

/// From the text grammar.
pub(super) fn resources(text: &str) -> Result<Vec<v1::Resource>> {
    let resources = Resources::parse(text).with_context(|| format!("`{text}` are no resources"))?;
    Ok(resources_to_wire(&resources, &Format { refined: true, allocation_role: None }))
}

/// From Mesos's JSON.
pub(super) fn resources_json(json: &serde_json::Value) -> Result<Vec<v1::Resource>> {
    serde_json::from_value(json.clone()).with_context(|| format!("{json} are no resources"))
}

/// From the text grammar.
pub(super) fn attributes(text: &str) -> Result<Vec<v1::Attribute>> {
    let attributes = Attribute::parse_list(text).with_context(|| format!("`{text}` are no attributes"))?;
    Ok(attributes_to_wire(&attributes))
}
