//! The endpoints of Mesos's agent that are read with GET.

use std::collections::BTreeMap;
use std::io::Read;

use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::access::{Ask, Realm, Rights};
use super::documents::{self, Wanted, Whole};
use super::files::{self, FileError, LONGEST_READ, Place};
use super::picture::Picture;
use super::{Caller, Door, Page, forbidden, metrics, not_found, text};
use crate::node::supervision::now;

/// Pieces of a download on their way; the thread that reads waits then.
const PIECES: usize = 4;
const PIECE: usize = 64 << 10;

type Answered = Result<Page, Page>;

/// Answers whatever is asked for.
#[allow(clippy::result_large_err)]
pub(super) async fn answer(door: &Door, caller: &Caller, path: &str, request: &Request<Incoming>) -> Answered {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let body =
            format!("405 Method Not Allowed. Expecting one of {{ 'GET' }}, but received '{}'.", request.method());
        return Err(text(StatusCode::METHOD_NOT_ALLOWED, body));
    }
    // Older tools say `.json`.
    let path = path.strip_suffix(".json").unwrap_or(path);
    let query = Query::read(request.uri().query().unwrap_or_default());
    if path == "/version" {
        return Ok(query.json(&json!({"version": api::MESOS_VERSION})));
    }
    let known = [
        "/state",
        "/containers",
        "/monitor/statistics",
        "/metrics/snapshot",
        "/flags",
        "/files/browse",
        "/files/read",
        "/files/download",
        "/files/debug",
        "/system/stats",
    ];
    if !known.contains(&path) {
        return Err(not_found());
    }
    // Who has no business here costs no picture.
    let endpoint = ["/monitor/statistics", "/containers", "/metrics/snapshot", "/files/debug"].contains(&path);
    let ask: Ask = ("get_endpoints", Some(path.to_owned()));
    let rights = door.rights(caller, Realm::ReadOnly, [ask.clone()]).await?;
    if endpoint && !rights.may("get_endpoints", Some(path)) {
        return Err(forbidden());
    }
    let picture = door.picture().await?;
    if let Some(kind) = path.strip_prefix("/files/") {
        return file(door, caller, kind, &query, &picture).await;
    }
    let rights = door.rights(caller, Realm::ReadOnly, documents::asks(&picture)).await?;
    let path = path.to_owned();
    let rendered = tokio::task::spawn_blocking(move || document(&path, &picture, &rights, &query)).await;
    rendered.unwrap_or_else(|_| Err(text(StatusCode::INTERNAL_SERVER_ERROR, "")))
}

#[allow(clippy::result_large_err)]
fn document(path: &str, picture: &Picture, rights: &Rights, query: &Query) -> Answered {
    let wanted = Wanted {
        container: query.get("container_id"),
        framework: query.get("framework_id"),
        executor: query.get("executor_id"),
    };
    let document = match path {
        "/state" => documents::state(picture, rights),
        "/containers" => documents::containers(picture, rights, &wanted, Whole::Yes),
        "/monitor/statistics" => documents::containers(picture, rights, &wanted, Whole::Statistics),
        "/flags" if rights.may("view_flags", None) => json!({ "flags": picture.flags }),
        "/flags" => return Err(forbidden()),
        "/metrics/snapshot" => json!(metrics::all(picture, now().unix_ms)),
        _ => {
            let all = metrics::all(picture, now().unix_ms);
            let of = |name: &str| all.get(&format!("system/{name}")).copied().unwrap_or(0.0);
            json!({"avg_load_1min": of("load_1min"), "avg_load_5min": of("load_5min"),
                "avg_load_15min": of("load_15min"), "cpus_total": of("cpus_total"),
                "mem_total_bytes": of("mem_total_bytes"), "mem_free_bytes": of("mem_free_bytes")})
        }
    };
    Ok(query.json(&document))
}

#[allow(clippy::result_large_err)]
async fn file(door: &Door, caller: &Caller, kind: &str, query: &Query, picture: &Picture) -> Answered {
    if kind == "debug" {
        let asks = picture.all().map(|shown| ("access_sandboxes", Some(shown.user().to_owned())));
        let rights = door.rights(caller, Realm::ReadOnly, asks).await?;
        return Ok(query.json(&files::debug(picture, |shown| rights.may("access_sandboxes", Some(shown.user())))));
    }
    let path = query.get("path").filter(|path| !path.is_empty());
    let path = path.ok_or_else(|| text(StatusCode::BAD_REQUEST, "Expecting 'path=value' in query.\n"))?;
    let range = if kind == "read" { Some(query.range()?) } else { None };
    let missing = || if kind == "download" { not_found() } else { text(StatusCode::NOT_FOUND, "") };
    let place = enter(door, caller, Realm::ReadOnly, picture, &path).await?.ok_or_else(missing)?;
    let failed = |error: FileError| match error {
        FileError::Missing => missing(),
        FileError::Bad(reason) => text(StatusCode::BAD_REQUEST, reason),
    };
    match range {
        None if kind == "browse" => {
            Ok(query.json(&files::browse(&place.list(&path).map_err(failed)?, &picture.passwd)))
        }
        None => download(&place, &path).map_err(failed),
        Some((offset, length)) => {
            let asked = offset.unwrap_or(0);
            let piece = place.read(&path, asked, if offset.is_some() { length } else { 0 }).map_err(failed)?;
            // Pagers begin by asking where the end is.
            let offset = if offset.is_some() { piece.begins } else { piece.size };
            Ok(query.json(&json!({"data": String::from_utf8_lossy(&piece.data), "offset": offset})))
        }
    }
}

/// Finds a place that the caller may see; `None` when nothing is there.
#[allow(clippy::result_large_err)]
pub(super) async fn enter(
    door: &Door,
    caller: &Caller,
    realm: Realm,
    picture: &Picture,
    path: &str,
) -> Result<Option<Place>, Page> {
    let Ok(place) = Place::find(picture, path) else { return Ok(None) };
    let ask: Ask = match &place {
        Place::Sandbox { user, .. } => ("access_sandboxes", user.clone()),
        Place::Log => ("access_mesos_logs", None),
    };
    let rights = door.rights(caller, realm, [ask.clone()]).await?;
    if rights.may(ask.0, ask.1.as_deref()) { Ok(Some(place)) } else { Err(forbidden()) }
}

fn download(place: &Place, path: &str) -> Result<Page, FileError> {
    let (mut file, size) = place.download(path)?;
    let (sender, pieces) = mpsc::channel::<Bytes>(PIECES);
    tokio::task::spawn_blocking(move || {
        let mut left = size;
        let mut buffer = vec![0; PIECE];
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            // Shorter than it was: whoever downloads sees the connection break.
            let Ok(length @ 1..) = file.read(&mut buffer[..room]) else { return };
            left -= length as u64;
            if sender.blocking_send(Bytes::copy_from_slice(&buffer[..length])).is_err() {
                return;
            }
        }
    });
    let frames = stream::unfold(pieces, |mut pieces| async {
        let piece = pieces.recv().await?;
        Some((Ok(Frame::data(piece)), pieces))
    });
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, HeaderValue::from(size));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename={name}")) {
        headers.insert(CONTENT_DISPOSITION, value);
    }
    Ok(response)
}

/// What follows `?`.
#[derive(Clone, Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    fn read(text: &str) -> Self {
        let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
        Self(pairs.map(|(name, value)| (decode(name), decode(value))).collect())
    }

    fn get(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn json(&self, value: &Value) -> Page {
        let callback = self.0.get("jsonp").filter(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '$'))
        });
        super::json(value, callback.map(String::as_str))
    }

    /// Where to read, `None` for where the end is, and how much.
    #[allow(clippy::result_large_err)]
    fn range(&self) -> Result<(Option<u64>, u64), Page> {
        let number = |name: &str| -> Result<Option<i64>, Page> {
            let Some(given) = self.0.get(name) else { return Ok(None) };
            let parsed = given.parse::<i64>().map(Some);
            parsed.map_err(|_| {
                let reason = format!("Failed to parse {name}: Failed to convert '{given}' to number.\n");
                text(StatusCode::BAD_REQUEST, reason)
            })
        };
        let offset = match number("offset")? {
            None | Some(-1) => None,
            Some(offset) => Some(
                u64::try_from(offset)
                    .map_err(|_| text(StatusCode::BAD_REQUEST, format!("Negative offset provided: {offset}.\n")))?,
            ),
        };
        // -1 is all there is, up to the most.
        let length = number("length")?.and_then(|length| u64::try_from(length).ok()).unwrap_or(LONGEST_READ);
        Ok((offset, length))
    }
}

/// `%20` and `+`.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after.get(..2).and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        match (first, pair) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = after;
            }
            (other, _) => {
                bytes.push(*other);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_as_tools_write_them() {
        let query = Query::read("path=%2Fa+b%2fc&offset=-1&length=-1&x&jsonp=angular.callbacks._0");
        assert_eq!(query.get("path").unwrap(), "/a b/c");
        assert!(matches!(query.range(), Ok((None, LONGEST_READ))));
        assert!(matches!(Query::read("offset=7&length=3").range(), Ok((Some(7), 3))));
        for bad in ["offset=x", "offset=-2", "length=x"] {
            assert_eq!(Query::read(bad).range().unwrap_err().status(), StatusCode::BAD_REQUEST, "{bad}");
        }
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}
