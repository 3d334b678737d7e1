//! `mesolith rules`: what the operator knows of nodes that they do not know themselves.

pub(crate) mod disks;

use std::collections::BTreeMap;

use anyhow::Result;
use api::disks::DiskRule;
use hyper::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::advice::advise;
use crate::master::{Ask, Master, segment};
use crate::options::{Rules, WrittenRule};
use crate::render::{Cell, Format, Output, Row};

/// A rule, as the master keeps it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
struct Rule {
    name: String,
    #[serde(default, rename = "match")]
    machines: BTreeMap<String, Value>,
    #[serde(default)]
    set: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reserve: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    network: Option<api::network::Settings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    disks: Option<DiskRule>,
}

#[derive(Debug, Deserialize)]
struct List {
    rules: Vec<Rule>,
}

#[derive(Debug, Serialize)]
struct RuleRow<'a> {
    #[serde(flatten)]
    rule: &'a Rule,
    #[serde(skip)]
    number: usize,
}

impl Row for RuleRow<'_> {
    const HEADINGS: &'static [&'static str] = &["#", "NAME", "MATCHES", "SETS"];

    fn cells(&self) -> Vec<Cell> {
        let machines = self.rule.machines.iter().map(|(field, value)| format!("{field}={}", plain(value)));
        let reserve = self.rule.reserve.iter().map(|role| format!("reserved for {role}"));
        let set = self.rule.set.iter().map(|(name, value)| format!("{name}={value}")).chain(reserve);
        let network = self.rule.network.iter().map(|network| {
            let links: Vec<&str> = network.links.keys().map(String::as_str).collect();
            format!("network {}", links.join(","))
        });
        let set = set.chain(network).chain(self.rule.disks.iter().map(disks::shown));
        vec![
            Cell::number(self.number.to_string()),
            Cell::text(&self.rule.name),
            Cell::text(machines.collect::<Vec<_>>().join(" ")),
            Cell::text(set.collect::<Vec<_>>().join(" ")),
        ]
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(","),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    }
}

/// What a rule would do, node by node.
#[derive(Debug, Deserialize)]
struct Effects {
    nodes: Vec<Effect>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Effect {
    name: String,
    agent_id: String,
    sets: BTreeMap<String, Value>,
    #[serde(default)]
    reserve: Option<String>,
    #[serde(default)]
    disks: Option<DiskRule>,
    changes: Vec<Change>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Change {
    attribute: String,
    from: Option<Value>,
    to: Option<Value>,
}

impl Row for Effect {
    const HEADINGS: &'static [&'static str] = &["NODE", "SETS", "CHANGES"];

    fn cells(&self) -> Vec<Cell> {
        let shown = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), plain);
        let reserve = self.reserve.iter().map(|role| format!("reserved for {role}"));
        let sets = self.sets.iter().map(|(name, value)| format!("{name}={}", plain(value))).chain(reserve);
        let sets = sets.chain(self.disks.iter().map(disks::shown));
        let changes = self
            .changes
            .iter()
            .map(|change| format!("{}: {} -> {}", change.attribute, shown(&change.from), shown(&change.to)));
        vec![
            Cell::text(&self.name),
            Cell::text(sets.collect::<Vec<_>>().join(" ")),
            Cell::text(changes.collect::<Vec<_>>().join(", ")),
        ]
    }
}

/// Does what was asked.
pub(crate) async fn perform(master: &Master, output: &Output, what: &Rules) -> Result<()> {
    match what {
        Rules::List => {
            let List { rules } = master.json("/mesolith/v1/rules").await?;
            let rows: Vec<RuleRow<'_>> =
                rules.iter().enumerate().map(|(at, rule)| RuleRow { rule, number: at + 1 }).collect();
            output.rows(&rows, "There are no rules. `mesolith rules add --help` shows how to write one.")
        }
        Rules::Add { rule, first } => {
            let rule = written(rule)?;
            let query = if *first { "?first" } else { "" };
            let path = format!("/mesolith/v1/rules/{}{query}", segment(&rule.name));
            let body = serde_json::to_vec(&rule)?;
            master.fetch(Ask::with_body(Method::PUT, path, "application/json", body)).await?;
            say(output, &format!("rule {} is kept and applied", rule.name))
        }
        Rules::Remove { name } => {
            let path = format!("/mesolith/v1/rules/{}", segment(name));
            master.fetch(Ask::with_body(Method::DELETE, path, "application/json", Vec::new())).await?;
            say(output, &format!("rule {name} is removed; what it set is as it was found"))
        }
        Rules::Test { rule } => {
            let rule = written(rule)?;
            let ask = Ask::post("/mesolith/v1/rules-test", "application/json", serde_json::to_vec(&rule)?);
            let effects: Effects = serde_json::from_slice(&master.fetch(ask).await?)?;
            output.rows(&effects.nodes, "No node fits this rule, or all it sets is set by rules before it.")
        }
    }
}

fn say(output: &Output, text: &str) -> Result<()> {
    match output.format() {
        Format::Json => output.value(&serde_json::json!({ "done": text })),
        Format::Table => output.print(&format!("{text}\n")),
    }
}

fn written(rule: &WrittenRule) -> Result<Rule> {
    let mut machines: BTreeMap<String, Value> = BTreeMap::new();
    if !rule.mac.is_empty() {
        machines.insert("mac".to_owned(), rule.mac.clone().into());
    }
    for (field, pattern) in [
        ("serial", &rule.serial),
        ("subnet", &rule.subnet),
        ("switch", &rule.switch),
        ("switch_port", &rule.switch_port),
        ("node", &rule.node),
    ] {
        if let Some(pattern) = pattern {
            machines.insert(field.to_owned(), pattern.clone().into());
        }
    }
    let mut set = BTreeMap::new();
    for text in &rule.set {
        let Some((name, value)) = text.split_once('=') else {
            return Err(advise(format!("`{text}` sets nothing"), "write --set NAME=VALUE, for example --set rack=r7"));
        };
        if set.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(advise(format!("`{name}` is set twice"), "a rule sets each name once"));
        }
    }
    let network = rule.network.as_deref().map(crate::network::read).transpose()?;
    let (reserve, disks) = (rule.reserve.clone(), rule.disks.rule());
    Ok(Rule { name: rule.name.clone(), machines, set, reserve, network, disks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_the_rule_the_master_reads() {
        let options = WrittenRule {
            name: "racks".to_owned(),
            mac: vec!["52:54:*".to_owned()],
            serial: None,
            subnet: Some("10.0.0.0/8".to_owned()),
            switch: Some("tor-(?<rack>.*)".to_owned()),
            switch_port: None,
            node: None,
            set: vec!["rack={rack}".to_owned(), "url=http://a=b".to_owned()],
            reserve: Some("web".to_owned()),
            network: None,
            disks: disks::WrittenDisks::default(),
        };
        let rule = serde_json::to_value(written(&options).unwrap()).unwrap();
        let expected = serde_json::json!({"name": "racks",
            "match": {"mac": ["52:54:*"], "subnet": "10.0.0.0/8", "switch": "tor-(?<rack>.*)"},
            "set": {"rack": "{rack}", "url": "http://a=b"}, "reserve": "web"});
        assert_eq!(rule, expected);
        for bad in [vec!["rack".to_owned()], vec!["a=1".to_owned(), "a=2".to_owned()]] {
            assert!(written(&WrittenRule { set: bad, ..options.clone() }).is_err());
        }
    }
}
