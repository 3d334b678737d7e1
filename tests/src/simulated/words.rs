//! Values of the Mesos API on the link: the one place that knows how they are spelled there.

use anyhow::{Context, Result};
use api::link::{self, from_agent};
use api::mesos::{Reason, Source, TaskStatus, WireAttribute, attributes_to_wire, resources_to_wire};
use api::{Attribute, Resources, TaskState};
use base64::Engine;
use serde::Deserialize;

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

#[derive(Deserialize)]
struct Id {
    value: String,
}

#[derive(Default, Deserialize)]
struct Command {
    #[serde(default)]
    value: String,
}

#[derive(Deserialize)]
struct Task {
    task_id: Id,
    #[serde(default)]
    command: Command,
}

#[derive(Deserialize)]
struct Capability {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Framework {
    #[serde(default)]
    capabilities: Vec<Capability>,
}

pub(super) fn launch(run: link::RunTask) -> Result<Launch> {
    let task: Task = serde_json::from_str(&run.task_json).context("the task is malformed")?;
    let framework: Framework =
        serde_json::from_str(&run.framework_info_json).context("the framework info is malformed")?;
    Ok(Launch {
        framework: run.framework_id,
        task: task.task_id.value,
        container: run.container_id,
        script: Script::of(&task.command.value),
        killing: framework.capabilities.iter().any(|capability| capability.kind == "TASK_KILLING_STATE"),
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
    status.source = Some(Source::Executor);
    status.message.clone_from(&update.message);
    // A reason this version has no name for is left out.
    status.reason =
        update.reason.as_ref().and_then(|reason| serde_json::from_value::<Reason>(reason.as_str().into()).ok());
    status.executor_id = Some(api::ExecutorId::from(task).into());
    status.timestamp = Some(now());
    status.uuid = Some(base64::engine::general_purpose::STANDARD.encode(update.uuid));
    status.container_status = Some(serde_json::json!({"container_id": {"value": container}}));
    from_agent::Message::Update(link::StatusUpdate {
        framework_id: framework.to_owned(),
        status_json: serde_json::to_string(&status).expect("a status can be spelled in JSON"),
        latest_state: latest.name().to_owned(),
    })
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

pub(super) fn capacity(resources: &str, attributes: &str) -> link::Capacity {
    link::Capacity { resources_json: resources.to_owned(), attributes_json: attributes.to_owned() }
}

/// From the text grammar to what the link carries.
pub(super) fn resources(text: &str) -> Result<String> {
    let resources = Resources::parse(text).with_context(|| format!("`{text}` are no resources"))?;
    let format = api::mesos::Format { refined: true, allocation_role: None };
    Ok(serde_json::to_string(&resources_to_wire(&resources, &format))?)
}

/// From the text grammar to what the link carries.
pub(super) fn attributes(text: &str) -> Result<String> {
    let attributes = Attribute::parse_list(text).with_context(|| format!("`{text}` are no attributes"))?;
    let wire: Vec<WireAttribute> = attributes_to_wire(&attributes);
    Ok(serde_json::to_string(&wire)?)
}
