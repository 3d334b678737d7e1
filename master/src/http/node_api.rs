//! The node API: questions of operators, put to nodes over the sessions they opened, and every one of them written down.

use api::NodeName;
use api::node_api::{Method, NodeRole};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use tokio::sync::{mpsc, oneshot};

use super::auth::Approvers;
use super::files::find_agent;
use super::router::Api;
use super::{overloaded, text};
use crate::agents::{Call, SessionCommand, next_read};
use crate::driver::{AgentName, Message};

/// A node looks through `/proc` in milliseconds; one that hangs must not hold the request.
const ANSWER: std::time::Duration = std::time::Duration::from_secs(15);

/// `GET /mesolith/v1/nodes/NODE/api/METHOD` for what looks, POST for what changes.
pub(super) async fn call(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path((node, method)): Path<(String, String)>,
    http: hyper::Method,
) -> Response {
    let Some(method) = Method::from_name(&method) else {
        let known: Vec<&str> = Method::ALL.iter().map(|method| method.name()).collect();
        return text(StatusCode::NOT_FOUND, format!("No such method; there are {}\n", known.join(", ")));
    };
    let wanted = if method.changes() { hyper::Method::POST } else { hyper::Method::GET };
    if http != wanted {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, format!("{method} is asked for by {wanted}\n"));
        if let Ok(value) = HeaderValue::from_str(wanted.as_str()) {
            response.headers_mut().insert(ALLOW, value);
        }
        return response;
    }
    let role = approvers.node_role();
    let Some(role) = role.filter(|role| role.may(method)) else {
        audit(&approvers, &node, method, "refused: the role does not allow it");
        let has = role.map_or_else(|| "you have none".to_owned(), |role| format!("you are {role}"));
        let text_of = format!("{method} on a node takes the role {}; {has}\n", method.least_role());
        return text(StatusCode::FORBIDDEN, text_of);
    };
    let response = ask(&api, &node, method, role, approvers.principal().unwrap_or_default()).await;
    let outcome = if response.status().is_success() { "done" } else { "failed" };
    audit(&approvers, &node, method, outcome);
    response
}

/// Asks a node, or a machine that waits to be claimed.
pub(super) async fn ask(api: &Api, node: &str, method: Method, role: NodeRole, principal: &str) -> Response {
    let (reply, answer) = oneshot::channel();
    let call = Call { request: next_read(), method, role, principal: principal.to_owned(), reply };
    let commands = match commands_of(api, node).await {
        Ok(commands) => commands,
        Err(response) => return response,
    };
    if commands.try_send(SessionCommand::Call(Box::new(call))).is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("Node '{node}' has too much to do: try again\n"));
    }
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(Ok(json))) => json_bytes(json),
        Ok(Ok(Err(reason))) => text(StatusCode::BAD_GATEWAY, format!("Node '{node}': {reason}\n")),
        Ok(Err(_)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("Node '{node}' went away meanwhile\n")),
        Err(_) => {
            let body = format!("Node '{node}' did not answer within {} s\n", ANSWER.as_secs());
            text(StatusCode::GATEWAY_TIMEOUT, body)
        }
    }
}

/// The way to a node.
async fn commands_of(api: &Api, node: &str) -> Result<mpsc::Sender<SessionCommand>, Response> {
    let view = api.driver.ask(Message::View).await.map_err(overloaded)?;
    let waiting = || api.gate.unclaimed.find(node).map(|waiting| waiting.commands);
    let Some(agent) = find_agent(&view, node) else {
        let none = || text(StatusCode::NOT_FOUND, format!("No node or agent is called '{node}'\n"));
        return waiting().ok_or_else(none);
    };
    match api.driver.ask(|reply| Message::FindAgent { agent: AgentName::Id(agent), reply }).await {
        Ok(Some(session)) => Ok(session.commands),
        Ok(None) => {
            let none = || text(StatusCode::SERVICE_UNAVAILABLE, format!("Node '{node}' is not connected\n"));
            waiting().ok_or_else(none)
        }
        Err(error) => Err(overloaded(error)),
    }
}
fn json_bytes(json: Bytes) -> Response {
    let mut response = Response::new(Body::from(json));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Who asked which node for what, and what came of it. Under a target of its own, so that it can be kept apart.
pub(super) fn audit(approvers: &Approvers, node: &str, method: Method, outcome: &str) {
    let principal = approvers.principal().unwrap_or("-");
    let role = approvers.node_role().map_or("none", NodeRole::name);
    let node = NodeName::from(node.chars().take(256).collect::<String>());
    tracing::info!(target: "audit", ?principal, role, ?node, %method, outcome, "audit: node API");
}
