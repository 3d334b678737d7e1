//! `/mesolith/v1/masters`: who they are, and how that changes.

use axum::extract::{Extension, Path, Request, State};
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use serde_json::json;

use super::auth::{Approvers, forbidden};
use super::legacy::only_leader;
use super::router::Api;
use super::{json as answer, overloaded, text};
use crate::clock::unix_ms;
use crate::cluster::token_text;
use crate::driver::Message;
use crate::raft::ChangeError;
use crate::tokens::{Binding, LIFETIME_MS};

/// From the leader, who alone knows how far the others are; while there is none, what this master knows.
pub(super) async fn list(State(api): State<Api>, request: Request) -> Response {
    let standing = api.replica.standing();
    if standing.leader.is_some()
        && let Err(elsewhere) = only_leader(&api, request.extensions())
    {
        return elsewhere;
    }
    answer(&standing)
}

/// A token with which one more master joins. For administrators: a master has everything.
pub(super) async fn token(State(api): State<Api>, Extension(approvers): Extension<Approvers>) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    let tokens = api.tokens.clone();
    let made = tokio::task::spawn_blocking(move || tokens.make(Binding::Master, "", unix_ms()));
    match made.await {
        Ok(Ok(secret)) => {
            tracing::info!("made a join token for a master");
            let standing = api.replica.standing();
            answer(&json!({
                "token": token_text(&secret, &api.authority.now().serving.fingerprint()),
                "join": standing.leader_member().map(|leader| leader.addr.clone()),
                "expires_in_seconds": LIFETIME_MS / 1000,
            }))
        }
        Ok(Err(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("no token was made: {error}\n")),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "making the token failed\n"),
    }
}

/// The whole state, for a copy elsewhere. For administrators: secrets of tasks are in it.
pub(super) async fn snapshot(State(api): State<Api>, Extension(approvers): Extension<Approvers>) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let state = tokio::task::spawn_blocking(move || STANDARD.encode(view.state.to_snapshot()));
    match state.await {
        Ok(state) => answer(&json!({ "state": state })),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "writing the state failed\n"),
    }
}

/// Gives a learner its vote.
pub(super) async fn promote(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(id): Path<u64>,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    changed(api.replica.promote(id).await)
}

/// Takes a member out.
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(id): Path<u64>,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    changed(api.replica.remove(id).await)
}

fn changed(result: Result<(), ChangeError>) -> Response {
    match result {
        Ok(()) => Response::default(),
        Err(error) => {
            let status = match error {
                ChangeError::Unknown(_) => StatusCode::NOT_FOUND,
                ChangeError::NotLeading | ChangeError::Refused(_) => StatusCode::SERVICE_UNAVAILABLE,
                ChangeError::Behind(..) | ChangeError::TooMany | ChangeError::Last(_) => StatusCode::CONFLICT,
            };
            text(status, format!("{error}\n"))
        }
    }
}
