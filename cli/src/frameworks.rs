//! `mesolith frameworks`

use anyhow::Result;
use serde::Serialize;

use crate::cluster::{Amounts, Framework, State, Which};
use crate::master::Master;
use crate::render::{Cell, Output, Row, Tone, age, amount, mebibytes};

#[derive(Debug, Serialize)]
struct FrameworkRow {
    id: String,
    name: String,
    user: String,
    principal: Option<String>,
    roles: String,
    /// `active`, `inactive` (connected, but wants no offers), `disconnected` or `completed`.
    state: &'static str,
    tasks: usize,
    completed_tasks: usize,
    used: Amounts,
    /// Seconds since 1970.
    registered: f64,
}

impl FrameworkRow {
    fn current(framework: &Framework) -> Self {
        let state = match (framework.connected, framework.active) {
            (true, true) => "active",
            (true, false) => "inactive",
            (false, _) => "disconnected",
        };
        Self::new(framework, state)
    }

    fn new(framework: &Framework, state: &'static str) -> Self {
        Self {
            id: framework.id.clone(),
            name: framework.name.clone(),
            user: framework.user.clone(),
            principal: framework.principal.clone(),
            roles: framework.roles_text(),
            state,
            tasks: framework.tasks.len() + framework.unreachable_tasks.len(),
            completed_tasks: framework.completed_tasks.len(),
            used: framework.used_resources,
            registered: framework.registered_time,
        }
    }
}

impl Row for FrameworkRow {
    const HEADINGS: &'static [&'static str] =
        &["ID", "NAME", "STATE", "USER", "ROLES", "TASKS", "CPUS", "MEMORY", "SINCE"];

    fn cells(&self) -> Vec<Cell> {
        let tone = match self.state {
            "active" => Tone::Good,
            "completed" => Tone::Faint,
            "disconnected" => Tone::Bad,
            _ => Tone::Busy,
        };
        vec![
            Cell::text(&self.id),
            Cell::text(&self.name),
            Cell::toned(self.state, tone),
            Cell::text(&self.user),
            Cell::text(&self.roles),
            Cell::number(self.tasks.to_string()),
            Cell::number(amount(self.used.cpus)),
            Cell::number(mebibytes(self.used.mem)),
            Cell::number(age(self.registered)),
        ]
    }
}

/// Lists them in the order they came.
pub(crate) async fn list(master: &Master, output: &Output, which: Which) -> Result<()> {
    let state = State::read(master).await?;
    let mut rows: Vec<FrameworkRow> = state.frameworks.iter().map(FrameworkRow::current).collect();
    if which == Which::All {
        rows.extend(state.completed_frameworks.iter().map(|framework| FrameworkRow::new(framework, "completed")));
    }
    output.rows(&rows, "No framework is subscribed. `mesolith run -- hostname` is one for as long as it runs.")
}
