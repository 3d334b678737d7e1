//! `mesolith teardown FRAMEWORK`

use anyhow::{Context, Result};
use serde_json::json;

use crate::cluster::State;
use crate::master::{Ask, Master, segment};
use crate::render::{Format, Output};

/// Removes it, which kills its tasks.
pub(crate) async fn teardown(master: &Master, output: &Output, framework: &str) -> Result<()> {
    let state = State::read(master).await?;
    let framework = state.framework(framework)?;
    let form = format!("frameworkId={}", segment(&framework.id));
    master
        .fetch(Ask::post("/teardown", "application/x-www-form-urlencoded", form))
        .await
        .with_context(|| format!("framework {} is not removed", framework.id))?;
    let tasks = framework.tasks.len();
    if output.format() == Format::Json {
        return output
            .value(&json!({"framework_id": framework.id, "framework_name": framework.name, "tasks_killed": tasks}));
    }
    output.print(&format!("Removed framework {} ({}); {tasks} tasks are being killed.\n", framework.id, framework.name))
}
