//! Mesos's processes beside the master: the machine's load, the logging level, files.

use axum::response::Response;
use hyper::StatusCode;
use master_core::acl::Action;

use super::Asked;
use super::load::Load;
use crate::http::auth::forbidden;
use crate::http::metrics::parse_duration;
use crate::http::render::answer::not_found;
use crate::http::render::json::Json;
use crate::http::text;
use crate::logging;

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

/// The log's level, or a change of it for a while.
pub(super) async fn logging(asked: Asked) -> Response {
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, reason);
    let (level, duration) = (asked.query.get("level"), asked.query.get("duration"));
    let (level, duration) = match (level, duration) {
        (None, None) => return text(StatusCode::OK, format!("{}\n", logging::level())),
        (None, Some(_)) => return bad("Expecting 'level=value' in query.\n".to_owned()),
        (Some(_), None) => return bad("Expecting 'duration=value' in query.\n".to_owned()),
        (Some(level), Some(duration)) => (level, duration),
    };
    let Ok(level) = level.parse::<u32>() else { return bad(format!("Failed to convert '{level}' to number.\n")) };
    match parse_duration(duration) {
        Ok(duration) if asked.approvers.allows(Action::SetLogLevel, None) => {
            logging::set_level(level, duration);
            Response::default()
        }
        Ok(_) => forbidden(),
        Err(error) => bad(format!("{error}.\n")),
    }
}

/// Which files this master serves: none. Its log goes to standard error, to whoever started it.
pub(super) async fn files_debug(asked: Asked) -> Response {
    asked.wish.answer(b"{}".to_vec())
}

/// A file or directory that is not there.
pub(super) async fn files_missing(asked: Asked) -> Response {
    if let Some(missing) = no_path(&asked) {
        return missing;
    }
    if asked.uri.path() == "/files/read" {
        for name in ["offset", "length"] {
            if let Some(given) = asked.query.get(name)
                && given.parse::<i64>().is_err()
            {
                let reason = format!("Failed to parse {name}: Failed to convert '{given}' to number.\n");
                return text(StatusCode::BAD_REQUEST, reason);
            }
        }
    }
    text(StatusCode::NOT_FOUND, "")
}

/// The same for downloads, which say so.
pub(super) async fn download_missing(asked: Asked) -> Response {
    no_path(&asked).unwrap_or_else(not_found)
}

fn no_path(asked: &Asked) -> Option<Response> {
    let named = asked.query.get("path").is_some_and(|path| !path.is_empty());
    (!named).then(|| text(StatusCode::BAD_REQUEST, "Expecting 'path=value' in query.\n"))
}
