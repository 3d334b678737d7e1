//! Mesos's v0 endpoints: what dashboards, service discovery and scripts read and post to.
//!
//! Each is a file; here is what they share. Reads are answered whatever the method is, as Mesos does.

mod cluster;
pub(super) mod fields;
mod frameworks;
pub(super) mod load;
pub(super) mod maintenance;
mod policy;
pub(super) mod quantities;
pub(super) mod roles;
mod slaves;
mod state;
mod summary;
mod system;
mod tasks;

pub(super) mod changes;
pub(super) mod query;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, FromRequestParts, OriginalUri, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::any;
use axum::{Router, http};
use hyper::header::{HeaderValue, LOCATION};
use hyper::http::Extensions;
use hyper::{Method, StatusCode, Uri};
use master_core::View;

use super::auth::Approvers;
use super::render::answer::{Wish, method_not_allowed};
use super::render::json::Json;
use super::render::pool::Piece;
use super::render::reads::{Key, Reads};
use super::router::Api;
use super::{overloaded, text};
use crate::driver::Message;
use query::Query;

pub(super) use cluster::{flags, health, redirect, version};

/// Everything here, at the root and, as Mesos routes, with anything after it.
pub(super) fn routes() -> Router<Api> {
    let reads = [
        ("/state", any(state::state)),
        ("/state-summary", any(summary::summary)),
        ("/slaves", any(slaves::slaves)),
        ("/tasks", any(tasks::tasks)),
        ("/frameworks", any(frameworks::frameworks)),
        ("/roles", any(roles::roles)),
        ("/flags", any(flags)),
        ("/weights", any(policy::weights)),
        ("/quota", any(policy::quota)),
        ("/maintenance/schedule", any(maintenance::schedule)),
        ("/maintenance/status", any(maintenance::status)),
        ("/machine/down", any(maintenance::down)),
        ("/machine/up", any(maintenance::up)),
        ("/reserve", any(changes::reserve)),
        ("/unreserve", any(changes::unreserve)),
        ("/create-volumes", any(changes::create_volumes)),
        ("/destroy-volumes", any(changes::destroy_volumes)),
        ("/teardown", any(changes::teardown)),
    ];
    reads.into_iter().fold(Router::new(), |router, (path, handler)| {
        router.route(path, handler.clone()).route(&format!("{path}/{{*rest}}"), handler)
    })
}

/// The processes beside the master's, which have no prefix.
pub(super) fn siblings() -> Router<Api> {
    Router::new()
        .route("/system/stats.json", any(system::stats))
        .route("/logging/toggle", any(system::logging))
        .route("/files/debug", any(system::files_debug))
        .route("/files/browse", any(system::files_missing))
        .route("/files/read", any(system::files_missing))
        .route("/files/download", any(system::download_missing))
}

/// What a handler needs to know of a request; refused with 400 when the query is none.
#[derive(Debug)]
pub(super) struct Asked {
    /// The method.
    pub(super) method: Method,
    /// Path and query, without the prefix `/master`.
    pub(super) uri: Uri,
    /// What is known of the request besides.
    pub(super) extensions: Extensions,
    /// The query.
    pub(super) query: Query,
    /// How the answer is wanted.
    pub(super) wish: Wish,
    /// What may be seen and done.
    pub(super) approvers: Approvers,
}

impl FromRequestParts<Api> for Asked {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut http::request::Parts, api: &Api) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default();
        let query = Query::parse(query)
            .map_err(|error| text(StatusCode::BAD_REQUEST, format!("Unable to decode query string: {error}")))?;
        let Extension(approvers) = Extension::<Approvers>::from_request_parts(parts, api)
            .await
            .map_err(|_| text(StatusCode::INTERNAL_SERVER_ERROR, "it is not known who asks"))?;
        let wish = Wish::new(&parts.method, &parts.headers, query.get("jsonp"));
        let (method, uri, extensions) = (parts.method.clone(), parts.uri.clone(), parts.extensions.clone());
        Ok(Self { method, uri, extensions, query, wish, approvers })
    }
}

impl Asked {
    /// Refuses other methods than these, as Mesos does.
    // The error is the answer itself.
    #[allow(clippy::result_large_err)]
    pub(super) fn only(&self, allowed: &[Method]) -> Result<(), Response> {
        if allowed.contains(&self.method) { Ok(()) } else { Err(method_not_allowed(allowed, &self.method)) }
    }

    /// The key of a document that depends on who asks only where something is hidden from somebody.
    pub(super) fn key(&self, name: &'static str, query: String) -> Key {
        let principal = (!self.approvers.sees_all()).then(|| self.approvers.principal().unwrap_or_default().to_owned());
        Key { name, query, principal }
    }
}

/// Sends the ones who ask a follower to the leader.
// The error is the answer itself.
#[allow(clippy::result_large_err)]
pub(super) fn only_leader(api: &Api, extensions: &Extensions) -> Result<(), Response> {
    if *api.leading.borrow() {
        Ok(())
    } else {
        // As it came, with the prefix `/master` if it had one.
        let path = extensions.get().and_then(|OriginalUri(uri)| uri.path_and_query());
        Err(elsewhere(api, path.map_or("/", |path| path.as_str())))
    }
}

/// 307 to the same path of the leader, with the scheme that was used; 503 while there is none, or we are about to be it.
pub(super) fn elsewhere(api: &Api, path: &str) -> Response {
    let standing = api.replica.standing();
    match standing.leader_member().filter(|leader| standing.leader != Some(standing.id) && !leader.http.is_empty()) {
        Some(leader) => redirect_to(&format!("//{}{path}", leader.http)),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "No leader elected"),
    }
}

/// For paths of which only the leader knows something.
pub(super) async fn to_leader(State(api): State<Api>, request: Request, next: Next) -> Response {
    match only_leader(&api, request.extensions()) {
        Ok(()) => next.run(request).await,
        Err(response) => response,
    }
}

/// Answers with a document written from a picture of the state.
async fn document(
    api: &Api,
    reads: &Reads,
    asked: &Asked,
    key: Key,
    plan: impl FnOnce(Arc<View>) -> Vec<Piece> + Send + 'static,
) -> Response {
    if let Err(response) = only_leader(api, &asked.extensions) {
        return response;
    }
    match reads.read(&api.driver, key, plan).await {
        Ok(rendering) => asked.wish.answer_rendering("application/json", rendering).await,
        Err(error) => text(error.status(), error.to_string()),
    }
}

/// Answers with a small document, written at once.
pub(super) async fn small(api: &Api, asked: &Asked, write: impl FnOnce(&View, &mut Json)) -> Response {
    if let Err(response) = only_leader(api, &asked.extensions) {
        return response;
    }
    match api.driver.ask(Message::View).await {
        Ok(view) => {
            let mut json = Json::default();
            write(&view, &mut json);
            asked.wish.answer(json.into_bytes())
        }
        Err(error) => overloaded(error),
    }
}

/// 307 to a place.
fn redirect_to(location: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    if let Ok(location) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, location);
    }
    response
}

/// The body of a request that was taken apart.
pub(super) async fn body_of(request: Request) -> Result<axum::body::Bytes, Response> {
    super::scheduler::read_body(request.into_body()).await
}

#[cfg(test)]
pub(super) mod tests;
