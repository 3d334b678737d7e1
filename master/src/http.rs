//! The Mesos v1 API and what goes with it, over HTTP/1.1.

pub mod auth;
mod authority;
mod body_budget;
mod browse;
mod exec;
mod files;
mod fleet;
mod legacy;
mod masters;
mod metrics;
mod node_api;
mod nodes;
mod operator;
mod patience;
mod render;
pub mod router;
mod rules;
mod scheduler;
mod secrets;
pub mod server;
pub mod tls;
mod tokens;

pub use router::{Api, router};

use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;

/// A plain text answer: what Mesos gives for errors.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    let mut response = Response::new(Body::from(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// A JSON answer.
pub(crate) fn json(value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => {
            let mut response = Response::new(Body::from(bytes));
            response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
            response
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot render the answer: {error}")),
    }
}

/// The driver did not answer.
pub(crate) fn overloaded(error: crate::driver::Overloaded) -> Response {
    text(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}
