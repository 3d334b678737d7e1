//! `mesolith node NODE METHOD`: what a node says of itself at this moment, and its power.

use std::marker::PhantomData;

use anyhow::Result;
use api::node_api::Method;
use hyper::Method as Verb;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::State;
use crate::fleet;
use crate::master::{Ask, Master, segment};
use crate::render::{Cell, Format, Output, Row, mebibytes};

/// The name of a node, also of one that waits to be claimed.
pub(crate) async fn name_of(master: &Master, node: &str) -> Result<String> {
    let state = State::read(master).await?;
    Ok(match state.find_node(node) {
        Some(node) => node.name().to_owned(),
        // One that waits to be claimed is in no list of Mesos's.
        None if fleet::is_unclaimed(master, node).await => node.to_owned(),
        None => state.node(node)?.name().to_owned(),
    })
}

/// Asks a node through the master.
pub(crate) async fn call(master: &Master, output: &Output, node: &str, method: Method) -> Result<()> {
    let name = name_of(master, node).await?;
    let path = format!("/mesolith/v1/nodes/{}/api/{method}", segment(&name));
    let verb = if method.changes() { Verb::POST } else { Verb::GET };
    let body = master.fetch(Ask::with_body(verb, path, "application/json", Vec::new())).await?;
    let answer: Value = serde_json::from_slice(&body)?;
    if output.format() == Format::Json {
        return output.value(&answer);
    }
    match method {
        Method::Processes => rows::<Process>(output, &answer["processes"]),
        Method::Containers => containers(output, &answer["containers"]),
        Method::Mounts => rows::<Mount>(output, &answer["mounts"]),
        Method::Links => rows::<Link>(output, &answer["links"]),
        Method::Routes => rows::<Route>(output, &answer["routes"]),
        Method::Dmesg => {
            let messages = answer["messages"].as_array().into_iter().flatten();
            let lines = messages.map(|one| {
                let text: String = plain(&one["text"]).chars().map(|c| if c.is_control() { '?' } else { c }).collect();
                format!("[{:>12.6}] {text}\n", one["seconds"].as_f64().unwrap_or_default())
            });
            output.print(&lines.collect::<String>())
        }
        Method::Inventory => {
            let inventory: hwdetect::Inventory = serde_json::from_value(answer)?;
            output.print(&hwdetect::render(&inventory, hwdetect::Style::Plain))
        }
        Method::Version | Method::Stats | Method::Time | Method::Network => output.value(&answer),
        Method::Disks => rows::<Disk>(output, &answer["disks"]),
        Method::Wipe => output.print(&format!("{name} forgets its keys and starts again\n")),
        Method::Reboot => output.print(&format!("{name} ends and starts again\n")),
        Method::PowerOff => output.print(&format!("{name} ends; it has to be switched on by hand\n")),
    }
}

/// A table of containers.
pub(crate) fn containers(output: &Output, list: &Value) -> Result<()> {
    rows::<Container>(output, list)
}

fn rows<K: Kind>(output: &Output, list: &Value) -> Result<()> {
    let row = |value: &Value| Listed::<K> { value: value.clone(), kind: PhantomData };
    let rows: Vec<Listed<K>> = list.as_array().into_iter().flatten().map(row).collect();
    output.rows(&rows, "There are none.")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(" "),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => other.to_string(),
    }
}

/// Sizes as other tables show them.
fn size(value: &Value) -> Cell {
    #[allow(clippy::cast_precision_loss)] // bytes of a machine, in MiB
    let mib = value.as_u64().map(|bytes| bytes as f64 / 1_048_576.0);
    Cell::number(mib.map(mebibytes).unwrap_or_default())
}

/// A row of the node's answer as the node gave it; the kind says what of it a table shows.
#[derive(Debug)]
struct Listed<K> {
    value: Value,
    kind: PhantomData<K>,
}

impl<K> Serialize for Listed<K> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

/// What there are lists of.
trait Kind {
    const HEADINGS: &'static [&'static str];
    fn cells(one: &Value) -> Vec<Cell>;
}

impl<K: Kind> Row for Listed<K> {
    const HEADINGS: &'static [&'static str] = K::HEADINGS;

    fn cells(&self) -> Vec<Cell> {
        K::cells(&self.value)
    }
}

#[derive(Debug)]
struct Process;

impl Kind for Process {
    const HEADINGS: &'static [&'static str] = &["PID", "PARENT", "STATE", "MEMORY", "CPU S", "COMMAND"];

    fn cells(one: &Value) -> Vec<Cell> {
        vec![
            Cell::number(plain(&one["pid"])),
            Cell::number(plain(&one["parent"])),
            Cell::text(plain(&one["state"])),
            size(&one["resident_bytes"]),
            Cell::number(plain(&one["cpu_seconds"])),
            Cell::text(plain(&one["command"])),
        ]
    }
}

#[derive(Debug)]
struct Container;

impl Kind for Container {
    const HEADINGS: &'static [&'static str] =
        &["NODE", "TASK", "FRAMEWORK", "CPU s", "CPUS", "MEMORY", "LIMIT", "DISK", "THREADS"];

    fn cells(one: &Value) -> Vec<Cell> {
        let statistics = &one["statistics"];
        let number = |name: &str| statistics[name].as_f64();
        let used = number("cpus_user_time_secs").zip(number("cpus_system_time_secs"));
        vec![
            Cell::text(plain(&one["node"])),
            Cell::text(plain(&one["executor_id"])),
            Cell::text(plain(&one["framework_id"])),
            Cell::number(used.map(|(user, system)| format!("{:.1}", user + system)).unwrap_or_default()),
            Cell::number(plain(&statistics["cpus_limit"])),
            size(&statistics["mem_total_bytes"]),
            size(&statistics["mem_limit_bytes"]),
            size(&statistics["disk_used_bytes"]),
            Cell::number(plain(&statistics["threads"])),
        ]
    }
}

#[derive(Debug)]
struct Disk;

impl Kind for Disk {
    const HEADINGS: &'static [&'static str] =
        &["DISK", "CLASS", "SIZE", "MODEL", "SERIAL", "HEALTH", "CONTENT", "STATE", "RULE", "WHY"];

    fn cells(one: &Value) -> Vec<Cell> {
        vec![
            Cell::text(plain(&one["name"])),
            Cell::text(plain(&one["class"])),
            size(&one["size_bytes"]),
            Cell::text(plain(&one["model"])),
            Cell::text(plain(&one["serial"])),
            Cell::text(plain(&one["health"]["verdict"])),
            Cell::text(plain(&one["content"])),
            Cell::text(plain(&one["state"])),
            Cell::text(plain(&one["rule"])),
            Cell::text(plain(&one["reason"])),
        ]
    }
}

#[derive(Debug)]
struct Mount;

impl Kind for Mount {
    const HEADINGS: &'static [&'static str] = &["TARGET", "TYPE", "SOURCE", "SIZE", "FREE", "OPTIONS"];

    fn cells(one: &Value) -> Vec<Cell> {
        vec![
            Cell::text(plain(&one["target"])),
            Cell::text(plain(&one["type"])),
            Cell::text(plain(&one["source"])),
            size(&one["size_bytes"]),
            size(&one["free_bytes"]),
            Cell::text(plain(&one["options"])),
        ]
    }
}

#[derive(Debug)]
struct Link;

impl Kind for Link {
    const HEADINGS: &'static [&'static str] =
        &["LINK", "KIND", "STATE", "MBIT/S", "MAC", "MTU", "ADDRESSES", "BY", "RECEIVED", "SENT", "ERRORS"];

    fn cells(one: &Value) -> Vec<Cell> {
        vec![
            Cell::text(plain(&one["name"])),
            Cell::text(kind(one)),
            Cell::text(plain(&one["state"])),
            Cell::number(plain(&one["speed_mbps"])),
            Cell::text(plain(&one["mac"])),
            Cell::number(plain(&one["mtu"])),
            Cell::text(plain(&one["addresses"])),
            Cell::text(plain(&one["source"])),
            size(&one["received_bytes"]),
            size(&one["sent_bytes"]),
            Cell::number(plain(&one["receive_errors"])),
        ]
    }
}

/// `802.3ad of eth0 eth1`, `VLAN 100 of bond0`, `port of bond0`.
fn kind(link: &Value) -> String {
    let text = |key: &str| plain(&link[key]);
    if link["bond"].is_string() {
        return format!("port of {}", text("bond"));
    }
    match link["kind"].as_str() {
        Some("bond") => format!("{} of {}", text("mode"), text("ports")),
        Some("vlan") => format!("VLAN {} of {}", text("id"), text("of")),
        Some(other) => other.to_owned(),
        None => String::new(),
    }
}

#[derive(Debug)]
struct Route;

impl Kind for Route {
    const HEADINGS: &'static [&'static str] = &["NETWORK", "GATEWAY", "LINK", "METRIC", "BY"];

    fn cells(one: &Value) -> Vec<Cell> {
        vec![
            Cell::text(plain(&one["network"])),
            Cell::text(plain(&one["gateway"])),
            Cell::text(plain(&one["link"])),
            Cell::number(plain(&one["metric"])),
            Cell::text(plain(&one["source"])),
        ]
    }
}
