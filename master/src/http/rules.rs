//! The operator's rules: read, written, and tried before they are written.

use std::collections::BTreeMap;

use api::Attribute;
use axum::extract::{Extension, Path, RawQuery, Request, State};
use axum::response::Response;
use hyper::StatusCode;
use master_core::View;
use master_core::io::operator::{OperatorWrite, Place};
use master_core::rules::{Rule, resolve};
use master_core::state::Agent;
use serde_json::{Value, json};

use super::auth::{Approvers, forbidden};
use super::nodes::attribute_values;
use super::router::Api;
use super::scheduler::{plain, read_body};
use super::{json as answer, overloaded, text};
use crate::driver::Message;

/// `GET /mesolith/v1/rules`, in their order.
pub(super) async fn list(State(api): State<Api>) -> Response {
    match api.driver.ask(Message::View).await {
        Ok(view) => answer(&json!({ "rules": *view.state.rules })),
        Err(error) => overloaded(error),
    }
}

/// `PUT /mesolith/v1/rules/NAME[?first]`.
pub(super) async fn put(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    let place = match query.as_deref() {
        None | Some("") => Place::AsBefore,
        Some("first" | "first=true") => Place::First,
        Some(_) => return text(StatusCode::BAD_REQUEST, "The only query is 'first'\n"),
    };
    let rule = match rule_of(request, Some(name)).await {
        Ok(rule) => rule,
        Err(response) => return response,
    };
    tracing::info!(rule = %rule.name, by = approvers.principal().unwrap_or("-"), "a rule is written");
    write(&api, OperatorWrite::PutRule { rule: Box::new(rule), place }).await
}

/// `DELETE /mesolith/v1/rules/NAME`.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(name): Path<String>,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    tracing::info!(rule = %name, by = approvers.principal().unwrap_or("-"), "a rule is removed");
    write(&api, OperatorWrite::RemoveRule(name)).await
}

/// `POST /mesolith/v1/rules-test`: what would become of which node if the rule were put where it would go.
pub(super) async fn test(State(api): State<Api>, request: Request) -> Response {
    let rule = match rule_of(request, None).await {
        Ok(rule) => rule,
        Err(response) => return response,
    };
    match api.driver.ask(Message::View).await {
        Ok(view) => answer(&json!({ "nodes": effects(&view, &rule) })),
        Err(error) => overloaded(error),
    }
}

async fn write(api: &Api, write: OperatorWrite) -> Response {
    if !*api.leading.borrow() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected");
    }
    match api.driver.ask(|reply| Message::Operator { write: Box::new(write), reply }).await {
        Ok(response) => plain(response),
        Err(error) => overloaded(error),
    }
}

/// The body; its name may be left to the path.
// The error is the answer itself.
#[allow(clippy::result_large_err)]
async fn rule_of(request: Request, name: Option<String>) -> Result<Rule, Response> {
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, format!("{reason}\n"));
    let body = read_body(request.into_body()).await?;
    let mut value: Value = serde_json::from_slice(&body).map_err(|error| bad(format!("not JSON: {error}")))?;
    let Some(fields) = value.as_object_mut() else { return Err(bad("a rule is a JSON object".to_owned())) };
    if let Some(name) = name {
        let said = fields.get("name").and_then(Value::as_str);
        if said.is_some_and(|said| said != name) {
            return Err(bad(format!("the path names the rule '{name}', its body another")));
        }
        fields.insert("name".to_owned(), name.into());
    }
    let rule: Rule = serde_json::from_value(value).map_err(|error| bad(format!("not a rule: {error}")))?;
    rule.validate().map_err(|error| bad(error.to_string()))?;
    Ok(rule)
}

/// The nodes the rule is for, with what it would set and what would be other than now.
fn effects(view: &View, rule: &Rule) -> Vec<Value> {
    let mut rules = Vec::clone(&view.state.rules);
    match rules.iter().position(|known| known.name == rule.name) {
        Some(at) => rules[at] = rule.clone(),
        None => rules.push(rule.clone()),
    }
    let evidence = format!("rule {}", rule.name);
    let nodes = view.state.agents.values().filter_map(|agent| {
        let resolved = resolve(agent.node.as_str(), &agent.address, &agent.facts, &rules);
        let sets: Vec<Attribute> = resolved
            .facts
            .iter()
            .filter(|fact| fact.source == api::facts::Source::Rule && fact.evidence == evidence)
            .map(|fact| fact.attribute.clone())
            .collect();
        let reserve = rule.reserve.as_ref().filter(|_| resolved.reserve == rule.reserve && fits(rule, agent));
        let disks = rule.disks.as_ref().filter(|_| resolved.disks.iter().any(|one| one.name == rule.name));
        if sets.is_empty() && reserve.is_none() && disks.is_none() {
            return None;
        }
        let (before, after) = (values(&agent.attributes), values(&resolved.attributes));
        let names: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changes: Vec<Value> = names
            .into_iter()
            .filter(|name| before.get(*name) != after.get(*name))
            .map(|name| json!({ "attribute": name, "from": before.get(name), "to": after.get(name) }))
            .collect();
        Some(json!({
            "name": agent.node,
            "agent_id": agent.id,
            "sets": attribute_values(&sets),
            "reserve": reserve,
            "disks": disks,
            "changes": changes,
        }))
    });
    nodes.collect()
}

/// Is the node one the rule alone would reserve?
fn fits(rule: &Rule, agent: &Agent) -> bool {
    resolve(agent.node.as_str(), &agent.address, &agent.facts, std::slice::from_ref(rule)).reserve.is_some()
}

fn values(attributes: &[Attribute]) -> BTreeMap<String, Value> {
    let Value::Object(fields) = attribute_values(attributes) else { return BTreeMap::new() };
    fields.into_iter().collect()
}
