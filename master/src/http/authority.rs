//! The cluster's authority, and how another one takes its place without a moment in which somebody is not trusted.

use std::time::Duration;

use axum::extract::{Extension, RawQuery, State};
use axum::response::Response;
use hyper::StatusCode;
use serde_json::json;

use super::auth::{Approvers, forbidden};
use super::router::Api;
use super::{json as answer, overloaded, text};
use crate::authority::SuccessionError;
use crate::driver::Message;

/// How long the other masters may take to hear of it.
const MASTERS: Duration = Duration::from_secs(20);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// What a change takes to be acted on once it is there.
const SETTLE: Duration = Duration::from_secs(2);

/// Nodes that would be locked out: they have no certificate of the authority that issues now.
fn behind(api: &Api, view: &master_core::View) -> Vec<String> {
    let behind = view.state.agents.values().filter(|agent| !api.authority.has_renewed(agent.node.as_str()));
    let behind = behind.map(|agent| agent.node.to_string());
    // Who waits to be claimed is not told of another authority.
    behind.chain(api.gate.unclaimed.all().iter().map(|waiting| waiting.registration.node.to_string())).collect()
}

/// `GET /mesolith/v1/authority`.
pub(super) async fn show(State(api): State<Api>) -> Response {
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let (trust, succession) = (api.authority.now(), api.successions.current());
    answer(&json!({
        "serving_sha256": trust.serving.fingerprint(),
        "issuing_sha256": trust.issuer.fingerprint(),
        "trusted": trust.pins(),
        "stage": succession.as_ref().map(|succession| succession.stage),
        "begun_ms": succession.as_ref().map(|succession| succession.begun_ms),
        "by": succession.as_ref().map(|succession| succession.by.clone()),
        "ca_pem": trust.issuer.pem(),
        "nodes": view.state.agents.len(),
        "nodes_behind": behind(&api, &view),
    }))
}

/// `POST /mesolith/v1/authority/rotate`: a new one is made, and both are trusted.
pub(super) async fn rotate(State(api): State<Api>, Extension(approvers): Extension<Approvers>) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    let by = approvers.principal().unwrap_or("-").to_owned();
    tracing::warn!(%by, "a new authority begins to take the place of the cluster's");
    let (successions, serving) = (api.successions.clone(), api.authority.now().serving.clone());
    changed(tokio::task::spawn_blocking(move || successions.begin(&serving, &by)).await)
}

/// `POST /mesolith/v1/authority/finish[?force]`: the old one is trusted no more.
pub(super) async fn finish(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    RawQuery(query): RawQuery,
) -> Response {
    if !approvers.is_administrator() {
        return forbidden();
    }
    // Whoever asked may give up before the masters have heard: what is begun is brought to its end.
    let finished = tokio::spawn(async move { finish_now(&api, &approvers, query.as_deref()).await });
    finished.await.unwrap_or_else(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "changing the authority failed\n"))
}

/// Have all masters everything that was written, within the deadline?
async fn all_know(api: &Api) -> bool {
    let deadline = tokio::time::Instant::now() + MASTERS;
    while !api.replica.standing().members.iter().all(|seat| seat.lag == Some(0)) {
        if tokio::time::Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

async fn finish_now(api: &Api, approvers: &Approvers, query: Option<&str>) -> Response {
    let force = query == Some("force");
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let behind = behind(api, &view);
    if !force && !all_know(api).await {
        // It would trust nobody who could tell it.
        let body = "a master is away: it would not know the new authority when it is back; start or remove it first\n";
        return text(StatusCode::CONFLICT, body);
    }
    if !behind.is_empty() && !force {
        let body = format!(
            "these nodes have no certificate of the new authority yet and would have to join again: {}\n",
            behind.join(", ")
        );
        return text(StatusCode::CONFLICT, body);
    }
    tracing::warn!(by = approvers.principal().unwrap_or("-"), ?behind, "the cluster's old authority is given up");
    let (successions, secrets) = (api.successions.clone(), api.secrets.clone());
    let closed = tokio::task::spawn_blocking(move || {
        secrets.seal_anew()?;
        successions.close()
    })
    .await;
    if !matches!(closed, Ok(Ok(()))) {
        return changed(closed);
    }
    // Masters know each other by the old one until all have heard.
    if !all_know(api).await {
        let body = "the new authority serves; a master is away, and the old one is known among masters until finish is \
                    asked for again when it is back\n";
        return text(StatusCode::ACCEPTED, body);
    }
    tokio::time::sleep(SETTLE).await;
    let successions = api.successions.clone();
    changed(tokio::task::spawn_blocking(move || successions.end()).await)
}

fn changed(result: Result<Result<(), SuccessionError>, tokio::task::JoinError>) -> Response {
    match result {
        Ok(Ok(())) => answer(&json!({ "done": true })),
        Ok(Err(error @ (SuccessionError::UnderWay | SuccessionError::None))) => {
            text(StatusCode::CONFLICT, format!("{error}\n"))
        }
        Ok(Err(error)) => text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "changing the authority failed\n"),
    }
}
