//! `mesolith stats [NODE]`: what every container uses at this moment, asked of the nodes themselves.

use anyhow::Result;
use api::node_api::Method;
use serde_json::Value;

use crate::cluster::State;
use crate::master::{Ask, Master, segment};
use crate::node::containers;
use crate::render::{Format, Output};

/// Asks one node, or all that are there. A node that does not answer is told apart and does not hide the others.
pub(crate) async fn show(master: &Master, output: &Output, node: Option<&str>) -> Result<()> {
    let state = State::read(master).await?;
    let nodes = match node {
        Some(node) => vec![state.node(node)?],
        None => state.slaves.iter().filter(|node| matches!(node.state(), "connected" | "active")).collect(),
    };
    let mut all = Vec::new();
    for node in nodes {
        let path = format!("/mesolith/v1/nodes/{}/api/{}", segment(node.name()), Method::Containers);
        let answer: Value = match master.fetch(Ask::get(path)).await {
            Ok(body) => serde_json::from_slice(&body)?,
            Err(error) if state.slaves.len() > 1 => {
                eprintln!("mesolith: {}: {error:#}", node.name());
                continue;
            }
            Err(error) => return Err(error),
        };
        for mut container in answer["containers"].as_array().cloned().unwrap_or_default() {
            container["node"] = node.name().into();
            all.push(container);
        }
    }
    match output.format() {
        Format::Json => output.value(&all),
        Format::Table => containers(output, &Value::Array(all)),
    }
}
