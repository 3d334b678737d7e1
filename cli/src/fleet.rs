//! `mesolith claim`, `claims`, `retire`, `reprovision`, `crashes`: which machines are ours, and what became of them.

use std::collections::BTreeMap;

use anyhow::Result;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::advice::advise;
use crate::master::{Ask, Master, Refused, segment};
use crate::options::{AuthorityChange, Claim};
use crate::render::{Cell, Format, Output, Row, age};

/// A machine that waits to be claimed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Machine {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) reason: String,
    pub(crate) since_ms: f64,
    pub(crate) address: String,
    pub(crate) version: String,
    pub(crate) serial: String,
    pub(crate) attributes: BTreeMap<String, Value>,
}

/// All that wait, and those whose firmware says they are others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Waiting {
    pub(crate) machines: Vec<Machine>,
    pub(crate) duplicates: BTreeMap<String, Vec<String>>,
}

/// Asks the master. A Mesos master knows of none.
pub(crate) async fn waiting(master: &Master) -> Result<Waiting> {
    match master.json("/mesolith/v1/unclaimed").await {
        Ok(waiting) => Ok(waiting),
        Err(error) if error.downcast_ref::<Refused>().is_some_and(|refused| refused.status == 404) => {
            Ok(Waiting::default())
        }
        Err(error) => Err(error),
    }
}

/// Is it one that waits?
pub(crate) async fn is_unclaimed(master: &Master, node: &str) -> bool {
    waiting(master).await.is_ok_and(|waiting| waiting.machines.iter().any(|machine| machine.name == node))
}

/// Claims what is meant.
pub(crate) async fn claim(master: &Master, output: &Output, what: &Claim) -> Result<()> {
    if let (Some(name), Some(condition)) = (&what.rule, &what.condition) {
        let body = serde_json::to_vec(&json!({ "where": condition }))?;
        let path = format!("/mesolith/v1/claim-rules/{}", segment(name));
        master.fetch(Ask::with_body(Method::PUT, path, "application/json", body)).await?;
        return say(output, &format!("rule {name} is kept: machines for which it holds are claimed as they come"));
    }
    let body = match &what.condition {
        Some(condition) => json!({ "where": condition }),
        None => json!({ "nodes": what.nodes }),
    };
    let ask = Ask::post("/mesolith/v1/claims", "application/json", serde_json::to_vec(&body)?);
    let answer: Value = serde_json::from_slice(&master.fetch(ask).await?)?;
    let claimed: Vec<&str> = answer["claimed"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if claimed.is_empty() {
        return Err(advise("no machine is such", "`mesolith nodes` shows those that wait as unclaimed"));
    }
    say(output, &format!("claimed {}", claimed.join(", ")))
}

#[derive(Debug, Deserialize)]
struct Claims {
    admission: String,
    nodes: BTreeMap<String, Value>,
    rules: BTreeMap<String, Value>,
}

#[derive(Debug, Serialize)]
struct ClaimRow {
    name: String,
    kind: &'static str,
    by: String,
    since_ms: f64,
    what: String,
}

impl Row for ClaimRow {
    const HEADINGS: &'static [&'static str] = &["NAME", "KIND", "BY", "SINCE", "WHAT"];

    fn cells(&self) -> Vec<Cell> {
        vec![
            Cell::text(&self.name),
            Cell::text(self.kind),
            Cell::text(&self.by),
            Cell::number(age(self.since_ms / 1000.0)),
            Cell::text(&self.what),
        ]
    }
}

/// Lists the claims and their rules, or forgets a rule.
pub(crate) async fn claims(master: &Master, output: &Output, remove_rule: Option<&str>) -> Result<()> {
    if let Some(name) = remove_rule {
        let path = format!("/mesolith/v1/claim-rules/{}", segment(name));
        master.fetch(Ask::with_body(Method::DELETE, path, "application/json", Vec::new())).await?;
        return say(output, &format!("rule {name} claims nothing more; what it claimed stays claimed"));
    }
    let claims: Claims = master.json("/mesolith/v1/claims").await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rules = claims.rules.iter().map(|(name, rule)| ClaimRow {
        name: name.clone(),
        kind: "rule",
        by: text(&rule["by"]),
        since_ms: rule["made_ms"].as_f64().unwrap_or_default(),
        what: text(&rule["condition"]),
    });
    let nodes = claims.nodes.iter().map(|(name, claim)| ClaimRow {
        name: name.clone(),
        kind: "node",
        by: text(&claim["by"]),
        since_ms: claim["claimed_ms"].as_f64().unwrap_or_default(),
        what: match claim["how"]["rule"].as_str() {
            Some(rule) => format!("by rule {rule}"),
            None => format!("by {}", text(&claim["how"])),
        },
    });
    let rows: Vec<ClaimRow> = rules.chain(nodes).collect();
    let none = if claims.admission == "open" {
        "Nothing is claimed, and need not be: this cluster takes every machine that boots from it (--admission open)."
    } else {
        "Nothing is claimed. `mesolith nodes` shows the machines that wait."
    };
    output.rows(&rows, none)
}

/// The two ends of a node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// For good.
    Retire,
    /// It begins anew.
    Reprovision,
}

/// Ends a node.
pub(crate) async fn end(master: &Master, output: &Output, node: &str, end: End) -> Result<()> {
    let verb = if end == End::Retire { "retire" } else { "reprovision" };
    let ask = Ask::post(format!("/mesolith/v1/nodes/{}/{verb}", segment(node)), "application/json", Vec::new());
    let answer: Value = serde_json::from_slice(&master.fetch(ask).await?)?;
    if output.format() == Format::Json {
        return output.value(&answer);
    }
    match (end, answer["note"].as_str()) {
        (End::Reprovision, _) => output.print(&format!("{node} forgets its keys, boots and joins anew\n")),
        (End::Retire, None) => output.print(&format!("{node} is retired: its keys are wiped and open nothing\n")),
        (End::Retire, Some(note)) => output.print(&format!("{node} is retired; {note}\n")),
    }
}

/// Shows the cluster's authority, or changes it.
pub(crate) async fn authority(master: &Master, output: &Output, change: Option<&AuthorityChange>) -> Result<()> {
    let ask = |path: &str| Ask::post(path, "application/json", Vec::new());
    match change {
        None => output.value(&master.json::<Value>("/mesolith/v1/authority").await?),
        Some(AuthorityChange::Rotate) => {
            master.fetch(ask("/mesolith/v1/authority/rotate")).await?;
            say(output, "both authorities are trusted; `mesolith authority` shows which nodes are behind, then finish")
        }
        Some(AuthorityChange::Finish { force }) => {
            let query = if *force { "?force" } else { "" };
            master.fetch(ask(&format!("/mesolith/v1/authority/finish{query}"))).await?;
            say(output, "the new authority is the only one; clients need its certificate (ca.pem in the masters' data)")
        }
    }
}

#[derive(Debug, Deserialize, Serialize)]
struct Crash {
    node: String,
    id: String,
    kind: String,
    found_ms: f64,
    boot_id: String,
    text: String,
}

impl Row for Crash {
    const HEADINGS: &'static [&'static str] = &["NODE", "KIND", "FOUND", "ID", "WHY"];

    fn cells(&self) -> Vec<Cell> {
        let why = self
            .text
            .lines()
            .rev()
            .find(|line| ["Kernel panic", "BUG:", "Oops:", "mesolith:"].iter().any(|sign| line.contains(sign)));
        let last = || self.text.lines().rev().find(|line| !line.trim().is_empty());
        let why: String = why.or_else(last).unwrap_or_default().chars().filter(|c| !c.is_control()).take(100).collect();
        vec![
            Cell::text(&self.node),
            Cell::text(&self.kind),
            Cell::number(age(self.found_ms / 1000.0)),
            Cell::text(&self.id),
            Cell::text(why),
        ]
    }
}

#[derive(Debug, Deserialize)]
struct Crashes {
    crashes: Vec<Crash>,
}

/// Lists reports, or shows one.
pub(crate) async fn crashes(master: &Master, output: &Output, node: Option<&str>, id: Option<&str>) -> Result<()> {
    let query = node.map(|node| format!("?node={}", segment(node))).unwrap_or_default();
    let Crashes { crashes } = master.json(&format!("/mesolith/v1/crashes{query}")).await?;
    let Some(id) = id else {
        return output.rows(&crashes, "No node has reported a boot that ended badly.");
    };
    let Some(crash) = crashes.iter().find(|crash| crash.id == id) else {
        return Err(advise(format!("no report has the id `{id}`"), "`mesolith crashes` lists them"));
    };
    let text: String = crash.text.chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    output.print(&format!("{}\n", text.trim_end()))
}

fn say(output: &Output, text: &str) -> Result<()> {
    match output.format() {
        Format::Json => output.value(&json!({ "done": text })),
        Format::Table => output.print(&format!("{text}\n")),
    }
}
