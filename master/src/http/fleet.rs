//! The fleet: machines that wait to be claimed, claims and their rules, the end of a node, and what crashes left behind.

use std::collections::BTreeMap;
use std::time::Duration;

use api::NodeName;
use api::condition::Condition;
use api::node_api::Method;
use axum::extract::{Extension, Path, Query, Request, State};
use axum::response::Response;
use hyper::StatusCode;
use master_core::View;
use master_core::claims::{How, Known, MachineId, duplicates, value};
use master_core::io::Response as MasterResponse;
use master_core::io::operator::OperatorWrite;
use master_core::rules::resolve;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{Approvers, forbidden};
use super::files::find_agent;
use super::node_api;
use super::nodes::attribute_values;
use super::router::Api;
use super::scheduler::read_body;
use super::{json as answer, overloaded, text};
use crate::claims::{ClaimError, Waiting};
use crate::clock::unix_ms;
use crate::driver::Message;
use crate::machines::{NODE_NAME_RULE, is_node_name};

/// For a node that is retired to forget its keys: one that hangs is retired all the same.
const WIPE: Duration = Duration::from_secs(5);

/// Every machine that is known, whether it works or waits.
fn known(view: &View, waiting: &[Waiting]) -> Vec<Known> {
    let agents = view.state.agents.values().map(|agent| Known {
        node: agent.node.clone(),
        boot_id: agent.boot_id.clone(),
        machine: MachineId::of(&agent.facts),
    });
    let others = waiting.iter().map(|one| Known {
        node: one.registration.node.clone(),
        boot_id: one.registration.boot_id.clone(),
        machine: one.machine.clone(),
    });
    agents.chain(others).collect()
}

/// `GET /mesolith/v1/unclaimed`: machines that wait here, and those whose firmware says they are others.
pub(super) async fn unclaimed(State(api): State<Api>) -> Response {
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let waiting = api.gate.unclaimed.all();
    let duplicates = duplicates(&known(&view, &waiting));
    let machines: Vec<Value> = waiting
        .iter()
        .map(|one| {
            let said = &one.registration;
            let resolved = resolve(said.node.as_str(), &said.address, &said.facts, &view.state.rules);
            json!({
                "name": said.node,
                "state": "unclaimed",
                "reason": one.reason,
                "since_ms": one.since_ms,
                "hostname": said.hostname,
                "address": said.address,
                "version": said.version,
                "kernel": said.kernel,
                "boot_id": said.boot_id,
                "uuid": one.machine.uuid,
                "serial": one.machine.serial,
                "macs": one.machine.macs,
                "attributes": attribute_values(&resolved.attributes),
            })
        })
        .collect();
    answer(&json!({ "machines": machines, "duplicates": duplicates }))
}

/// `GET /mesolith/v1/claims`.
pub(super) async fn claims(State(api): State<Api>) -> Response {
    let (nodes, rules) = api.gate.claims.list();
    let admission = format!("{:?}", api.gate.claims.admission()).to_lowercase();
    answer(&json!({ "admission": admission, "nodes": nodes, "rules": rules }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    nodes: Vec<String>,
    #[serde(rename = "where")]
    condition: Option<String>,
}

/// `POST /mesolith/v1/claims {"nodes": [..]} | {"where": CONDITION}`: these machines are ours from now on.
pub(super) async fn claim(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    request: Request,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    let wanted: Wanted = match body(request).await {
        Ok(wanted) => wanted,
        Err(response) => return response,
    };
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let chosen = match choose(&view, &api.gate.unclaimed.all(), &wanted) {
        Ok(chosen) => chosen,
        Err(response) => return response,
    };
    let names: Vec<String> = chosen.iter().map(|(node, _)| node.to_string()).collect();
    let by = approvers.principal().unwrap_or("-").to_owned();
    tracing::info!(?names, %by, "machines are claimed");
    changed(move || api.gate.claims.claim(&chosen, &How::Hand, &by).map(|()| json!({ "claimed": names }))).await
}

/// The machines that are meant. One that is named need not be there yet.
// The error is the answer itself.
#[allow(clippy::result_large_err)]
fn choose(view: &View, waiting: &[Waiting], wanted: &Wanted) -> Result<Vec<(NodeName, MachineId)>, Response> {
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, format!("{reason}\n"));
    if let Some(condition) = &wanted.condition {
        if !wanted.nodes.is_empty() {
            return Err(bad("name machines, or say where: not both".to_owned()));
        }
        let condition = Condition::parse(condition).map_err(|error| bad(error.to_string()))?;
        let waits = waiting.iter().filter(|one| {
            let said = &one.registration;
            let resolved = resolve(said.node.as_str(), &said.address, &said.facts, &view.state.rules);
            condition.holds(&|field| value(&said.node, &resolved.attributes, field))
        });
        let works = view
            .state
            .agents
            .values()
            .filter(|agent| condition.holds(&|field| value(&agent.node, &agent.attributes, field)));
        let waits = waits.map(|one| (one.registration.node.clone(), one.machine.clone()));
        return Ok(waits.chain(works.map(|agent| (agent.node.clone(), MachineId::of(&agent.facts)))).collect());
    }
    if wanted.nodes.is_empty() {
        return Err(bad("Expecting {\"nodes\": [..]} or {\"where\": \"..\"}".to_owned()));
    }
    let find = |name: &String| {
        if !is_node_name(name) {
            return Err(bad(format!("'{name}' is not a node name: {NODE_NAME_RULE}")));
        }
        let here: Vec<&Waiting> = waiting.iter().filter(|one| one.registration.node.as_str() == name).collect();
        if here.len() > 1 {
            let serials: Vec<&str> = here.iter().map(|one| one.machine.serial.as_str()).collect();
            return Err(bad(format!("{} machines call themselves '{name}' (serials {serials:?})", here.len())));
        }
        let agent = find_agent(view, name).and_then(|id| view.state.agents.get(&id));
        let machine = match (here.first(), agent) {
            (Some(one), _) => one.machine.clone(),
            (None, Some(agent)) => MachineId::of(&agent.facts),
            (None, None) => MachineId::default(),
        };
        Ok((NodeName::from(name.as_str()), machine))
    };
    wanted.nodes.iter().map(find).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    #[serde(rename = "where")]
    condition: String,
}

/// `PUT /mesolith/v1/claim-rules/NAME {"where": CONDITION}`.
pub(super) async fn put_rule(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    let rule: WrittenRule = match body(request).await {
        Ok(rule) => rule,
        Err(response) => return response,
    };
    if !is_node_name(&name) {
        return text(StatusCode::BAD_REQUEST, format!("'{name}' is no name of a rule: {NODE_NAME_RULE}\n"));
    }
    if let Err(error) = Condition::parse(&rule.condition) {
        return text(StatusCode::BAD_REQUEST, format!("{error}\n"));
    }
    let by = approvers.principal().unwrap_or("-").to_owned();
    tracing::info!(rule = %name, condition = %rule.condition, %by, "a claim rule is written");
    changed(move || api.gate.claims.put_rule(&name, &rule.condition, &by).map(|()| json!({ "rule": name }))).await
}

/// `DELETE /mesolith/v1/claim-rules/NAME`.
pub(super) async fn remove_rule(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(name): Path<String>,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    tracing::info!(rule = %name, by = approvers.principal().unwrap_or("-"), "a claim rule is removed");
    changed(move || api.gate.claims.remove_rule(&name).map(|()| json!({ "removed": name }))).await
}

/// `POST /mesolith/v1/nodes/NODE/retire`: it is ours no more. Its tasks end, its keys are wiped and open nothing.
pub(super) async fn retire(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(node): Path<String>,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    // Whoever asked may give up before a node that hangs does: what is begun is brought to its end.
    let retired = tokio::spawn(async move { retire_now(&api, &approvers, node).await });
    retired.await.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "retiring failed\n"))
}

async fn retire_now(api: &Api, approvers: &Approvers, node: String) -> Response {
    let wiped = match tokio::time::timeout(WIPE, wipe(api, approvers, &node)).await {
        Ok(wiped) => wiped,
        Err(_) => Err(format!("it did not answer within {} s", WIPE.as_secs())),
    };
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let agent = find_agent(&view, &node);
    let name = agent.as_ref().and_then(|id| view.state.agents.get(id)).map_or(node.clone(), |one| one.node.to_string());
    let (gate, revocations, revoked) = (api.gate.clone(), api.revocations.clone(), name.clone());
    let secrets = api.secrets.clone();
    let kept = tokio::task::spawn_blocking(move || {
        let released = gate.claims.release(&revoked).map_err(|error| error.to_string())?;
        revocations.revoke_node(&revoked, "retired", unix_ms()).map_err(|error| error.to_string())?;
        // The machine may come again, as one nobody knows; its old certificates stay refused.
        revocations.readmit_node(&revoked, unix_ms()).map_err(|error| error.to_string())?;
        // What is on its encrypted disks is gone with them, whether it heard of it or not.
        secrets.forget_disk_keys(&revoked).map_err(|error| error.to_string())?;
        Ok::<bool, String>(released)
    });
    let released = match kept.await {
        Ok(Ok(released)) => released,
        Ok(Err(reason)) => return text(StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
        Err(_) => return text(StatusCode::INTERNAL_SERVER_ERROR, "retiring failed\n"),
    };
    if agent.is_none() && !released && wiped.is_err() {
        return text(StatusCode::NOT_FOUND, format!("No node or agent is called '{node}'\n"));
    }
    if let Some(agent) = agent {
        let write = Box::new(OperatorWrite::MarkAgentGone(agent));
        match api.driver.ask(|reply| Message::Operator { write, reply }).await {
            // It is gone already.
            Ok(MasterResponse::Refused { status: 404, .. }) => {}
            Ok(MasterResponse::Refused { status, text: reason }) => {
                let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
                return text(status, format!("{reason}\n"));
            }
            Ok(_) => {}
            Err(error) => return overloaded(error),
        }
    }
    tracing::warn!(node = %name, by = approvers.principal().unwrap_or("-"), "a node is retired");
    let note = wiped.err().map(|reason| format!("its keys are still on it, but open nothing any more: {reason}"));
    answer(&json!({ "retired": name, "wiped": note.is_none(), "note": note }))
}

/// `POST /mesolith/v1/nodes/NODE/reprovision`: it forgets all it keeps, boots, and joins anew. It stays claimed.
pub(super) async fn reprovision(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(node): Path<String>,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    match wipe(&api, &approvers, &node).await {
        Ok(()) => {
            // Its disks are emptied: their keys open nothing any more.
            let (secrets, name) = (api.secrets.clone(), node.clone());
            let forgotten = tokio::task::spawn_blocking(move || secrets.forget_disk_keys(&name)).await;
            if !matches!(forgotten, Ok(Ok(_))) {
                tracing::warn!(%node, "the keys of its disks are kept, although the disks are emptied");
            }
            answer(&json!({ "reprovisioned": node }))
        }
        Err(reason) => text(StatusCode::BAD_GATEWAY, format!("{reason}\n")),
    }
}

async fn wipe(api: &Api, approvers: &Approvers, node: &str) -> Result<(), String> {
    let Some(role) = approvers.node_role().filter(|role| role.may(Method::Wipe)) else {
        return Err("your role on nodes does not allow to wipe one".to_owned());
    };
    let response = node_api::ask(api, node, Method::Wipe, role, approvers.principal().unwrap_or_default()).await;
    let done = response.status().is_success();
    node_api::audit(approvers, node, Method::Wipe, if done { "done" } else { "failed" });
    if done {
        return Ok(());
    }
    let body = axum::body::to_bytes(response.into_body(), 4096).await.unwrap_or_default();
    Err(String::from_utf8_lossy(&body).trim().to_owned())
}

/// `GET /mesolith/v1/crashes[?node=NODE]`, the newest first.
pub(super) async fn crashes(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    // What is in a kernel's last words tells what people run.
    if !approvers.node_role().is_some_and(|role| role.may(Method::Dmesg)) {
        return forbidden();
    }
    answer(&json!({ "crashes": api.crashes.list(query.get("node").map(String::as_str)) }))
}

#[allow(clippy::result_large_err)]
async fn body<T: serde::de::DeserializeOwned>(request: Request) -> Result<T, Response> {
    let bytes = read_body(request.into_body()).await?;
    serde_json::from_slice(&bytes).map_err(|error| text(StatusCode::BAD_REQUEST, format!("{error}\n")))
}

/// Waits for a change of the table on a thread that may block.
async fn changed(change: impl FnOnce() -> Result<Value, ClaimError> + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(change).await {
        Ok(Ok(value)) => answer(&value),
        Ok(Err(error @ ClaimError::Unknown(_))) => text(StatusCode::NOT_FOUND, format!("{error}\n")),
        Ok(Err(error @ (ClaimError::Full | ClaimError::Keep(_)))) => {
            tracing::error!(%error, "the claims were not changed");
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "changing the claims failed\n"),
    }
}
