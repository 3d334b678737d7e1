//! `mesolith nodes`

use anyhow::Result;
use api::condition::Condition;
use serde::Serialize;

use crate::advice::advise;
use crate::cluster::{Amounts, Node, State};
use crate::fleet::{self, Machine, Waiting};
use crate::master::Master;
use crate::render::{Cell, Output, Row, Tone, age, amount, mebibytes, share};

#[derive(Debug, Serialize)]
struct NodeRow {
    name: String,
    agent_id: String,
    hostname: String,
    /// `connected`, `disconnected` or `unreachable`.
    state: String,
    resources: Amounts,
    used: Amounts,
    offered: Amounts,
    tasks: usize,
    attributes: serde_json::Value,
    version: String,
    /// Seconds since 1970.
    registered: f64,
    /// Other machines whose firmware gives them the same UUID.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    duplicates: Vec<String>,
    #[serde(skip)]
    attributes_text: String,
}

impl NodeRow {
    /// A machine that nobody has claimed: it has nothing to offer.
    fn waiting(machine: &Machine, waiting: &Waiting) -> Self {
        let mut row = Self {
            name: machine.name.clone(),
            agent_id: String::new(),
            hostname: machine.address.clone(),
            state: machine.state.clone(),
            resources: Amounts::default(),
            used: Amounts::default(),
            offered: Amounts::default(),
            tasks: 0,
            attributes: serde_json::json!(machine.attributes),
            version: machine.version.clone(),
            registered: machine.since_ms / 1000.0,
            duplicates: Vec::new(),
            attributes_text: format!("{} {}", machine.serial, machine.reason),
        };
        row.note_duplicates(waiting);
        row
    }

    fn note_duplicates(&mut self, waiting: &Waiting) {
        if let Some(others) = waiting.duplicates.get(&self.name) {
            self.duplicates.clone_from(others);
            self.attributes_text = format!("DUPLICATE UUID of {}; {}", others.join(", "), self.attributes_text);
        }
    }

    fn new(node: &Node, state: &State) -> Self {
        let tasks = state.frameworks.iter().flat_map(|framework| &framework.tasks);
        Self {
            name: node.name().to_owned(),
            agent_id: node.id.clone(),
            hostname: node.hostname.clone(),
            state: node.state().to_owned(),
            resources: node.resources,
            used: node.used_resources,
            offered: node.offered_resources,
            tasks: tasks.filter(|task| task.slave_id == node.id).count(),
            attributes: serde_json::json!(node.attributes),
            version: node.version.clone(),
            registered: node.reregistered_time.unwrap_or(node.registered_time),
            duplicates: Vec::new(),
            attributes_text: node.attributes_text(),
        }
    }
}

impl Row for NodeRow {
    const HEADINGS: &'static [&'static str] =
        &["NAME", "STATE", "ADDRESS", "CPUS", "MEMORY", "DISK", "GPUS", "TASKS", "UP", "ATTRIBUTES"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::text(&self.name),
            Cell::toned(
                &self.state,
                if ["connected", "active"].contains(&self.state.as_str()) { Tone::Good } else { Tone::Bad },
            ),
            Cell::text(&self.hostname),
            Cell::number(share(self.used.cpus, self.resources.cpus, amount)),
            Cell::number(share(self.used.mem, self.resources.mem, mebibytes)),
            Cell::number(share(self.used.disk, self.resources.disk, mebibytes)),
            Cell::number(if self.resources.gpus > 0.0 {
                share(self.used.gpus, self.resources.gpus, amount)
            } else {
                String::new()
            }),
            Cell::number(self.tasks.to_string()),
            Cell::number(age(self.registered)),
            Cell::text(&self.attributes_text),
        ]
    }
}

impl NodeRow {
    /// What a condition may ask: attributes first, then what the table shows.
    fn field(&self, name: &str) -> Option<serde_json::Value> {
        if let Some(value) = self.attributes.get(name) {
            return Some(value.clone());
        }
        Some(match name {
            "name" => self.name.as_str().into(),
            "state" => self.state.as_str().into(),
            "hostname" => self.hostname.as_str().into(),
            "version" => self.version.as_str().into(),
            "cpus" => self.resources.cpus.into(),
            "mem" => self.resources.mem.into(),
            "disk" => self.resources.disk.into(),
            "gpus" => self.resources.gpus.into(),
            "tasks" => self.tasks.into(),
            _ => return None,
        })
    }
}

/// Lists them by name, those for which the condition holds.
pub(crate) async fn list(master: &Master, output: &Output, condition: Option<&str>) -> Result<()> {
    let condition = condition.map(Condition::parse).transpose().map_err(|error| {
        advise(
            error.to_string(),
            "for example: --where 'disks.nvme >= 2 && rack == \'r7\''; `mesolith hw NODE` shows the names",
        )
    })?;
    let state = State::read(master).await?;
    let mut rows: Vec<NodeRow> = state.slaves.iter().map(|node| NodeRow::new(node, &state)).collect();
    let waiting = fleet::waiting(master).await?;
    for row in &mut rows {
        row.note_duplicates(&waiting);
    }
    rows.extend(waiting.machines.iter().map(|machine| NodeRow::waiting(machine, &waiting)));
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(condition) = condition {
        rows.retain(|row| condition.holds(&|name| row.field(name)));
        return output.rows(&rows, "No node is such.");
    }
    output.rows(&rows, "No node has joined. Boot one from the network, or look at the master's log for refusals.")
}
