//! What is true of the master itself: version, flags, health, and where the leader is.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;

use super::{Asked, elsewhere, redirect_to};
use crate::driver::Message;
use crate::http::overloaded;
use crate::http::render::json::Json;
use crate::http::router::{Api, Facts};

/// When this was built is not known to it: two builds of one source are the same bytes.
const BUILD_DATE: &str = "1970-01-01 00:00:00";

/// 200 when decisions are being made.
pub(crate) async fn health(State(api): State<Api>) -> Response {
    // Healthy means that the driver answers, not that this task does.
    match api.driver.ask(Message::View).await {
        Ok(_) => Response::new(Body::empty()),
        Err(error) => overloaded(error),
    }
}

pub(crate) async fn version(State(api): State<Api>, asked: Asked) -> Response {
    let mut json = Json::default();
    json.object(|json| {
        json.key("build_date").string(BUILD_DATE);
        json.key("build_time").double(0.0);
        json.key("build_user").string("mesolith");
        json.key("mesolith_version").string(env!("CARGO_PKG_VERSION"));
        json.key("version").string(api.facts.mesos_version);
    });
    asked.wish.answer(json.into_bytes())
}

/// The same at the head of /state, in its order.
pub(super) fn write_version(json: &mut Json, facts: &Facts) {
    json.key("version").string(facts.mesos_version);
    json.key("mesolith_version").string(env!("CARGO_PKG_VERSION"));
    json.key("build_date").string(BUILD_DATE);
    json.key("build_time").double(0.0);
    json.key("build_user").string("mesolith");
}

pub(crate) async fn flags(State(api): State<Api>, asked: Asked) -> Response {
    let mut json = Json::default();
    json.object(|json| write_flags(json, &api.facts));
    asked.wish.answer(json.into_bytes())
}

pub(super) fn write_flags(json: &mut Json, facts: &Facts) {
    json.key("flags").object(|json| {
        for (name, value) in &facts.flags {
            json.key_of(name).string(value);
        }
    });
}

/// 307 to the leader.
pub(crate) async fn redirect(State(api): State<Api>) -> Response {
    if *api.leading.borrow() { redirect_to(&format!("//{}", api.facts.http)) } else { elsewhere(&api, "") }
}
