//! What administrators do over the API: tokens for programs, and nodes that are to be let in no more.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Path, Request, State};
use axum::response::Response;
use axum::routing::{delete, get, post};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::api_tokens::{DEFAULT_LIFE_SECS, LONGEST_LIFE_SECS, TokenError};
use super::{Approvers, Guard, forbidden};
use crate::agents::SessionCommand;
use crate::clock::unix_ms;
use crate::driver::{AgentName, Handle, Message};
use crate::http::router::Api;
use crate::http::scheduler::read_body;
use crate::http::{json as answer, text};
use crate::machines::{NODE_NAME_RULE, is_node_name};
use crate::revocations::RevokeError;

/// A note or a reason is a line, not a document.
const LONGEST_NOTE: usize = 500;

/// `/mesolith/v1/api-tokens` and `/mesolith/v1/revocations`.
pub fn routes() -> Router<Api> {
    Router::new()
        .route("/mesolith/v1/api-tokens", get(list_tokens).post(issue))
        .route("/mesolith/v1/api-tokens/{id}", delete(revoke_token))
        .route("/mesolith/v1/revocations", get(list_revocations))
        .route("/mesolith/v1/revocations/nodes/{node}", post(revoke_node).delete(readmit_node))
        .route("/mesolith/v1/revocations/certificates/{serial}", post(revoke_certificate))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    principal: Option<String>,
    note: String,
    expires_in_seconds: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Why {
    reason: String,
}

// The error is the answer itself.
#[allow(clippy::result_large_err)]
async fn body<T: Default + serde::de::DeserializeOwned>(request: Request) -> Result<T, Response> {
    let bytes = read_body(request.into_body()).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| text(StatusCode::BAD_REQUEST, format!("{error}\n")))
}

async fn issue(
    Extension(guard): Extension<Arc<Guard>>,
    Extension(approvers): Extension<Approvers>,
    request: Request,
) -> Response {
    let wanted: Wanted = match body(request).await {
        Ok(wanted) => wanted,
        Err(response) => return response,
    };
    let Some(principal) = wanted.principal.or_else(|| approvers.principal().map(str::to_owned)) else {
        return text(StatusCode::BAD_REQUEST, "Expecting {\"principal\": \"<name>\"}\n");
    };
    if approvers.principal() != Some(&principal) && !approvers.is_administrator() {
        return forbidden();
    }
    let strange = |text: &str| text.len() > LONGEST_NOTE || text.chars().any(char::is_control);
    if principal.is_empty() || principal.contains(':') || strange(&principal) || strange(&wanted.note) {
        return text(StatusCode::BAD_REQUEST, "'principal' and 'note' must be short lines, a principal without ':'\n");
    }
    let life = wanted.expires_in_seconds.unwrap_or(DEFAULT_LIFE_SECS);
    if life == 0 || life > LONGEST_LIFE_SECS {
        let body = format!("'expires_in_seconds' must be between 1 and {LONGEST_LIFE_SECS}\n");
        return text(StatusCode::BAD_REQUEST, body);
    }
    let by = approvers.principal().unwrap_or("-").to_owned();
    let (of, note) = (principal.clone(), wanted.note);
    match tokio::task::spawn_blocking(move || guard.tokens.issue(&of, &note, life, unix_ms())).await {
        Ok(Ok((id, token))) => {
            tracing::info!(%id, %principal, %by, seconds = life, "issued an API token");
            answer(&json!({ "id": id, "token": token, "principal": principal, "expires_in_seconds": life }))
        }
        Ok(Err(error)) => unavailable(&error),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "issuing the token failed"),
    }
}

fn unavailable(error: &TokenError) -> Response {
    tracing::error!(%error, "an API token was not issued or revoked");
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
}

/// One's own, or everybody's for an administrator.
async fn list_tokens(Extension(guard): Extension<Arc<Guard>>, Extension(approvers): Extension<Approvers>) -> Response {
    let now = unix_ms();
    let tokens: Vec<Value> = guard
        .tokens
        .list()
        .iter()
        .filter(|(_, token)| now < token.expires_ms)
        .filter(|(_, token)| approvers.is_administrator() || approvers.principal() == Some(&token.principal))
        .map(|(id, token)| {
            json!({"id": id, "principal": token.principal, "note": token.note,
                   "created_ms": token.created_ms, "expires_ms": token.expires_ms})
        })
        .collect();
    answer(&json!({ "tokens": tokens }))
}

async fn revoke_token(
    Extension(guard): Extension<Arc<Guard>>,
    Extension(approvers): Extension<Approvers>,
    Path(id): Path<String>,
) -> Response {
    let known = guard.tokens.get(&id);
    let own = known.as_ref().is_some_and(|token| approvers.principal() == Some(&token.principal));
    if known.is_none() || !(own || approvers.is_administrator()) {
        return text(StatusCode::NOT_FOUND, "No such token\n");
    }
    let which = id.clone();
    match tokio::task::spawn_blocking(move || guard.tokens.revoke(&which)).await {
        Ok(Ok(_)) => {
            tracing::info!(%id, by = approvers.principal().unwrap_or("-"), "revoked an API token");
            answer(&json!({ "revoked": id }))
        }
        Ok(Err(error)) => unavailable(&error),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "revoking the token failed"),
    }
}

async fn list_revocations(
    Extension(guard): Extension<Arc<Guard>>,
    Extension(approvers): Extension<Approvers>,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    answer(&guard.revocations.list())
}

async fn revoke_node(
    State(api): State<Api>,
    Extension(guard): Extension<Arc<Guard>>,
    Extension(approvers): Extension<Approvers>,
    Path(node): Path<String>,
    request: Request,
) -> Response {
    if !is_node_name(&node) {
        return text(StatusCode::BAD_REQUEST, format!("'{node}' is not a node name: {NODE_NAME_RULE}\n"));
    }
    let (which, driver) = (node.clone(), api.driver.clone());
    let made = revoked(guard, &approvers, request, move |guard, reason| {
        guard.revocations.revoke_node(&which, reason, unix_ms())
    });
    let response = made.await;
    if response.status().is_success() {
        tracing::warn!(%node, by = approvers.principal().unwrap_or("-"), "a node is revoked: its certificates open nothing any more");
        tokio::spawn(close_sessions(driver, node));
    }
    response
}

async fn revoke_certificate(
    Extension(guard): Extension<Arc<Guard>>,
    Extension(approvers): Extension<Approvers>,
    Path(serial): Path<String>,
    request: Request,
) -> Response {
    let serial = serial.replace(':', "").to_ascii_lowercase();
    if serial.is_empty() || serial.len() > 40 || !serial.chars().all(|c| c.is_ascii_hexdigit()) {
        return text(StatusCode::BAD_REQUEST, "A serial number is hexadecimal, as openssl x509 -serial shows it\n");
    }
    let which = serial.clone();
    let made = revoked(guard, &approvers, request, move |guard, reason| {
        guard.revocations.revoke_certificate(&which, reason, unix_ms())
    });
    let response = made.await;
    if response.status().is_success() {
        tracing::warn!(%serial, by = approvers.principal().unwrap_or("-"), "a certificate is revoked");
    }
    response
}

async fn revoked(
    guard: Arc<Guard>,
    approvers: &Approvers,
    request: Request,
    revoke: impl FnOnce(&Guard, &str) -> Result<(), RevokeError> + Send + 'static,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    let why: Why = match body(request).await {
        Ok(why) => why,
        Err(response) => return response,
    };
    if why.reason.len() > LONGEST_NOTE || why.reason.chars().any(char::is_control) {
        return text(StatusCode::BAD_REQUEST, "'reason' must be a short line\n");
    }
    stored(tokio::task::spawn_blocking(move || revoke(&guard, &why.reason)).await)
}

async fn readmit_node(
    Extension(guard): Extension<Arc<Guard>>,
    Extension(approvers): Extension<Approvers>,
    Path(node): Path<String>,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    let which = node.clone();
    match tokio::task::spawn_blocking(move || guard.revocations.readmit_node(&which, unix_ms())).await {
        Ok(Ok(false)) => text(StatusCode::NOT_FOUND, format!("'{node}' is not revoked\n")),
        Ok(Ok(true)) => {
            tracing::info!(%node, by = approvers.principal().unwrap_or("-"), "a node may join again, with a new token");
            stored(Ok(Ok(())))
        }
        Ok(Err(error)) => stored(Ok(Err(error))),
        Err(error) => stored(Err(error)),
    }
}

fn stored(result: Result<Result<(), RevokeError>, tokio::task::JoinError>) -> Response {
    match result {
        Ok(Ok(())) => answer(&json!({})),
        Ok(Err(error)) => {
            tracing::error!(%error, "the list of revocations was not changed");
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n"))
        }
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "changing the list of revocations failed"),
    }
}

/// Ends the node's session, and one that was being opened when the node was revoked: a session has
/// ten seconds to register.
async fn close_sessions(driver: Handle, node: String) {
    const LOOKS: u32 = 24;
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(500);
    for _ in 0..LOOKS {
        let name = AgentName::Node(node.as_str().into());
        if let Ok(Some(session)) = driver.ask(|reply| Message::FindAgent { agent: name, reply }).await {
            // A full queue: the next look tries again.
            drop(session.commands.try_send(SessionCommand::Close));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
