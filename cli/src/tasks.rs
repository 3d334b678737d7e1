//! `mesolith tasks`

use anyhow::Result;
use serde::Serialize;

use crate::cluster::{Amounts, Framework, State, Task, Which};
use crate::master::Master;
use crate::render::{Cell, Output, Row, Tone, age, amount, mebibytes};

#[derive(Debug, Serialize)]
struct TaskRow {
    id: String,
    name: String,
    framework_id: String,
    framework_name: String,
    /// The node's name.
    node: String,
    agent_id: String,
    state: String,
    /// Of the last status, where it has one.
    message: Option<String>,
    resources: Amounts,
    /// Seconds since 1970, of the last status.
    since: f64,
}

impl TaskRow {
    fn new(task: &Task, framework: &Framework, state: &State) -> Self {
        let last = task.statuses.last();
        Self {
            id: task.id.clone(),
            name: task.name.clone(),
            framework_id: framework.id.clone(),
            framework_name: framework.name.clone(),
            node: state.node_name(&task.slave_id).to_owned(),
            agent_id: task.slave_id.clone(),
            state: task.state.clone(),
            message: last.and_then(|status| status.message.clone()),
            resources: task.resources,
            since: last.map_or(0.0, |status| status.timestamp),
        }
    }
}

impl Row for TaskRow {
    const HEADINGS: &'static [&'static str] =
        &["TASK", "NAME", "FRAMEWORK", "NODE", "STATE", "CPUS", "MEMORY", "SINCE"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::text(&self.id),
            Cell::text(&self.name),
            Cell::text(&self.framework_name),
            Cell::text(&self.node),
            Cell::toned(&self.state, Tone::of_task(&self.state)),
            Cell::number(amount(self.resources.cpus)),
            Cell::number(mebibytes(self.resources.mem)),
            Cell::number(age(self.since)),
        ]
    }
}

/// Lists them by framework, the living before the dead.
pub(crate) async fn list(master: &Master, output: &Output, which: Which) -> Result<()> {
    let state = State::read(master).await?;
    let mut rows = Vec::new();
    for framework in state.all_frameworks() {
        let alive = framework.tasks.iter().chain(&framework.unreachable_tasks);
        rows.extend(alive.map(|task| TaskRow::new(task, framework, &state)));
    }
    if which == Which::All {
        for framework in state.all_frameworks() {
            rows.extend(framework.completed_tasks.iter().map(|task| TaskRow::new(task, framework, &state)));
        }
    }
    let nothing = match which {
        Which::Current => "No task runs. Try `mesolith run -- hostname`, or `--all` for past ones.",
        Which::All => "No task has run.",
    };
    output.rows(&rows, nothing)
}
