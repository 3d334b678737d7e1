//! `/mesolith/v1/secrets`: names are listed, values go in and never come out again.

use axum::extract::{Extension, Path, Request, State};
use axum::response::Response;
use hyper::{Method, StatusCode};
use master_core::acl::Action;
use serde_json::json;

use super::auth::{Approvers, forbidden};
use super::router::Api;
use super::scheduler::read_body;
use super::{json as answer, text};
use crate::clock::unix_ms;
use crate::secrets::{Put, SecretError};

/// `GET /mesolith/v1/secrets`: those the one who asks may manage.
pub(super) async fn list(State(api): State<Api>, Extension(approvers): Extension<Approvers>) -> Response {
    let listed = api.secrets.list();
    let may: Vec<_> = listed.iter().filter(|one| approvers.can_manage_secret(&one.name)).collect();
    answer(&json!({ "secrets": may }))
}

/// `PUT` and `DELETE /mesolith/v1/secrets/NAME`; the value is the body, as it is.
pub(super) async fn change(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(name): Path<String>,
    request: Request,
) -> Response {
    let method = request.method().clone();
    if !matches!(method, Method::PUT | Method::DELETE) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "Expecting PUT or DELETE\n");
    }
    if !approvers.can_manage_secret(&name) {
        audit(&approvers, &name, &method, "refused");
        return forbidden();
    }
    let value = match read_body(request.into_body()).await {
        Ok(value) => value,
        Err(response) => return response,
    };
    let (secrets, by) = (api.secrets.clone(), approvers.principal().map(str::to_owned));
    let (of, puts) = (name.clone(), method == Method::PUT);
    let done = tokio::task::spawn_blocking(move || match puts {
        true => secrets.put(&of, &value, by.as_deref(), unix_ms()).map(Some),
        false => secrets.remove(&of).map(|()| None),
    });
    let (status, said) = match done.await {
        Ok(Ok(Some(Put::Created))) => (StatusCode::CREATED, "created".to_owned()),
        Ok(Ok(Some(Put::Replaced))) => (StatusCode::OK, "replaced".to_owned()),
        Ok(Ok(None)) => (StatusCode::OK, "deleted".to_owned()),
        Ok(Err(error)) => (status(&error), error.to_string()),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "keeping the secret failed".to_owned()),
    };
    audit(&approvers, &name, &method, if status.is_success() { &said } else { "not done" });
    text(status, format!("{said}\n"))
}

const fn status(error: &SecretError) -> StatusCode {
    match error {
        SecretError::Name(_) | SecretError::Size(_) => StatusCode::BAD_REQUEST,
        SecretError::Unknown(_) => StatusCode::NOT_FOUND,
        SecretError::Full => StatusCode::INSUFFICIENT_STORAGE,
        SecretError::Seal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        SecretError::Keep(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// Who did what to which; never to what.
fn audit(approvers: &Approvers, secret: &str, method: &Method, outcome: &str) {
    let principal = approvers.principal().unwrap_or("-");
    tracing::info!(target: "audit", principal, secret = ?secret, %method, outcome, "audit: secret");
}

impl Approvers {
    /// Administrators, and whoever a rule says so of. Nobody else.
    fn can_manage_secret(&self, name: &str) -> bool {
        self.is_administrator() || self.allows_expressly(Action::ManageSecret, Some(name))
    }
}
