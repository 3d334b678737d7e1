//! Mesos's processes beside the master: the machine's load, the logging level, files.

use axum::response::Response;
use hyper::StatusCode;

use super::Asked;
use super::load::Load;
use crate::http::render::json::Json;
use crate::http::text;

pub(super) async fn stats(asked: Asked) -> Response {
    let load = Load::read();
    let mut json = Json::default();
    json.object(|json| {
        json.key("avg_load_15min").double(load.averages[2]);
        json.key("avg_load_1min").double(load.averages[0]);
        json.key("avg_load_5min").double(load.averages[1]);
        json.key("cpus_total").integer(load.cpus);
        json.key("mem_free_bytes").integer(load.memory_free_bytes);
        json.key("mem_total_bytes").integer(load.memory_total_bytes);
    });
    asked.wish.answer(json.into_bytes())
}

/// Which files this master serves: none. Its log goes to standard error, to whoever started it.
pub(super) async fn files_debug(asked: Asked) -> Response {
    asked.wish.answer(b"{}".to_vec())
}

/// A file that is not there.
pub(super) async fn files_missing(asked: Asked) -> Response {
    if asked.query.get("path").is_none_or(str::is_empty) {
        return text(StatusCode::BAD_REQUEST, "Expecting 'path=value' in query.\n");
    }
    Response::builder().status(StatusCode::NOT_FOUND).body(axum::body::Body::empty()).unwrap_or_default()
}
