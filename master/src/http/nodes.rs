//! Nodes as operators see them: names, state, hardware.

use api::attributes::AttributeValue;
use api::{Attribute, Fact};
use axum::extract::{Path, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use master_core::View;
use master_core::rules::resolve;
use master_core::state::{Agent, Reachability};
use serde_json::{Value, json};

use super::files::find_agent;
use super::render::json::Json;
use super::render::resources::{write_attributes, write_resources};
use super::router::Api;
use super::{json as answer, overloaded, text};
use crate::driver::Message;

pub(super) async fn nodes(State(api): State<Api>) -> Response {
    match api.driver.ask(Message::View).await {
        Ok(view) => {
            let nodes: Vec<Value> = view.state.agents.values().map(|agent| node(&view, agent)).collect();
            answer(&json!({ "nodes": nodes }))
        }
        Err(error) => overloaded(error),
    }
}

fn node(view: &View, agent: &Agent) -> Value {
    let connected = view.connected_agents.contains(&agent.id);
    let (state, since) = match agent.reachability {
        Reachability::Reachable if connected => ("connected", None),
        Reachability::Reachable => ("disconnected", None),
        Reachability::Unreachable { since } => ("unreachable", Some(since)),
        Reachability::Removed { .. } => ("removed", None),
    };
    json!({
        "name": agent.node,
        "agent_id": agent.id,
        "state": state,
        "unreachable_since_ms": since,
        "hostname": agent.hostname,
        "address": agent.address,
        "version": agent.version,
        "kernel": agent.kernel,
        "boot_id": agent.boot_id,
        "registered_ms": agent.registered_at,
        "reregistered_ms": agent.reregistered_at,
        "resources": value(|json| write_resources(json, &agent.resources)),
        "attributes": attribute_values(&agent.attributes),
        "tasks": view.state.tasks_on(&agent.id).filter(|task| !task.state.is_terminal()).count(),
    })
}

fn value(write: impl FnOnce(&mut Json)) -> Value {
    let mut json = Json::default();
    write(&mut json);
    serde_json::from_slice(&json.into_bytes()).unwrap_or_default()
}

/// Attributes by name, as Mesos writes them.
pub(super) fn attribute_values(attributes: &[Attribute]) -> Value {
    value(|json| write_attributes(json, attributes))
}

/// Every attribute with where it is from, and what else was said of it.
pub(super) async fn attributes(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let found = find_agent(&view, &name).and_then(|id| view.state.agents.get(&id));
    let Some(agent) = found else {
        return text(StatusCode::NOT_FOUND, format!("No node or agent is called '{name}'\n"));
    };
    answer(&json!({ "node": agent.node, "agent_id": agent.id, "attributes": provenance(&view, agent) }))
}

fn provenance(view: &View, agent: &Agent) -> Vec<Value> {
    let resolved = resolve(agent.node.as_str(), &agent.address, &agent.facts, &view.state.rules);
    let one = |attribute: &Attribute| {
        attribute_values(std::slice::from_ref(attribute)).get(&attribute.name).cloned().unwrap_or_default()
    };
    let candidate =
        |fact: &Fact| json!({ "value": one(&fact.attribute), "source": fact.source.name(), "evidence": fact.evidence });
    let attributes = resolved.attributes.iter().map(|attribute| {
        let mut said: Vec<&Fact> = resolved.facts.iter().filter(|fact| fact.attribute.name == attribute.name).collect();
        said.sort_by_key(|fact| (fact.source, fact.attribute != *attribute));
        let winner = said.iter().position(|fact| fact.attribute == *attribute).map(|at| said.remove(at));
        json!({
            "name": attribute.name,
            "value": one(attribute),
            "type": kind(&attribute.value),
            // What the master concludes by itself (`rack.source`) nobody said.
            "source": winner.map_or("master", |fact| fact.source.name()),
            "evidence": winner.map_or("", |fact| fact.evidence.as_str()),
            "others": said.into_iter().map(candidate).collect::<Vec<_>>(),
        })
    });
    attributes.collect()
}

const fn kind(value: &AttributeValue) -> &'static str {
    match value {
        AttributeValue::Scalar(_) => "scalar",
        AttributeValue::Ranges(_) => "ranges",
        AttributeValue::Text(_) => "text",
    }
}

pub(super) async fn inventory(State(api): State<Api>, Path(name): Path<String>) -> Response {
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let found = find_agent(&view, &name).and_then(|id| view.state.agents.get(&id));
    let Some(agent) = found else {
        return text(StatusCode::NOT_FOUND, format!("No node or agent is called '{name}'\n"));
    };
    if agent.inventory_json.is_empty() {
        return text(StatusCode::NOT_FOUND, format!("Node '{name}' reported no inventory\n"));
    }
    let mut response = Response::new(axum::body::Body::from(agent.inventory_json.to_string()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
