//! `POST /mesolith/v1/tokens`: join tokens that an operator carries to a hosted agent.

use axum::extract::{Extension, Request, State};
use axum::response::Response;
use hyper::StatusCode;
use serde::Deserialize;

use super::auth::{Approvers, forbidden};
use super::router::Api;
use super::scheduler::read_body;
use super::{json, text};
use crate::clock::unix_ms;
use crate::machines::{NODE_NAME_RULE, is_node_name};
use crate::tokens::{Binding, LIFETIME_MS};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    name: String,
}

/// For administrators: who joins a node gets tasks and what is in them.
pub(super) async fn make(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    request: Request,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    let body = match read_body(request.into_body()).await {
        Ok(body) => body,
        Err(response) => return response,
    };
    let wanted: Wanted = match serde_json::from_slice(&body) {
        Ok(wanted) => wanted,
        Err(error) => return text(StatusCode::BAD_REQUEST, format!("Expecting {{\"name\": \"<node>\"}}: {error}")),
    };
    if !is_node_name(&wanted.name) {
        return text(StatusCode::BAD_REQUEST, format!("'{}' is not a node name: {NODE_NAME_RULE}", wanted.name));
    }
    let tokens = api.tokens.clone();
    let name = wanted.name.clone();
    let made = tokio::task::spawn_blocking(move || tokens.make(Binding::Name, &name, unix_ms())).await;
    match made {
        Ok(Ok(token)) => {
            tracing::info!(node = %wanted.name, "made a join token");
            json(&serde_json::json!({
                "token": token,
                "ca_sha256": api.authority.now().serving.fingerprint(),
                "name": wanted.name,
                "expires_in_seconds": LIFETIME_MS / 1000,
            }))
        }
        Ok(Err(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("no token was made: {error}\n")),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "making the token failed"),
    }
}
