//! One request as it goes out, and its answer as recordings keep it.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::binding::Binding;
use super::dialogue::{Answer, Request, View};
use super::normalise::{normalise, without_strangers};
use super::protobuf;
use super::shape::shape;
use super::stream::{EventStream, Head};
use crate::http;

/// Requests are answered at once; the metrics of a busy master are the slowest.
const ANSWER: Duration = Duration::from_secs(20);

/// Headers that mean something to a client.
const HEADERS: [&str; 9] = [
    "content-type",
    "allow",
    "location",
    "www-authenticate",
    "mesos-stream-id",
    "content-encoding",
    "content-disposition",
    "transfer-encoding",
    "retry-after",
];

/// Sends `request` and reads the answer to its end.
pub fn ask(url: &str, request: &Request, view: View, part: Option<&str>, binding: &mut Binding) -> Result<Answer> {
    let headers = headers(request, binding);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let target = format!("{url}{}", binding.filled(&request.path));
    let body = body(request, binding)?;
    let answer = http::request(&request.method, &target, &headers, body.as_deref(), ANSWER)?;
    answer_of(request, answer.status, &answer.headers, &answer.body, view, part, binding)
}

/// Sends `request`; the answer may be a stream.
pub fn open(url: &str, request: &Request, binding: &mut Binding) -> Result<(Answer, Option<EventStream>)> {
    let address = url.strip_prefix("http://").context("the URL begins with http://")?;
    let body = body(request, binding)?.unwrap_or_default();
    let mut text = format!("{} {} HTTP/1.1\r\nHost: {address}\r\n", request.method, binding.filled(&request.path));
    for (name, value) in headers(request, binding) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&body);
    let (Head { status, headers, body }, stream) = EventStream::open(address, &bytes, ANSWER)?;
    Ok((answer_of(request, status, &headers, &body, View::Exact, None, binding)?, stream))
}

/// One record of a stream as JSON, before normalisation.
pub fn record(bytes: &[u8], message: Option<&str>) -> Result<Value> {
    match message {
        Some(message) => protobuf::decode(message, bytes),
        None => serde_json::from_slice(bytes)
            .with_context(|| format!("a record that is no JSON: {}", String::from_utf8_lossy(bytes))),
    }
}

/// `value` with what is bound in the place of names.
fn filled(value: &Value, binding: &Binding) -> Value {
    match value {
        Value::String(text) => binding.filled(text).into(),
        Value::Array(items) => Value::Array(items.iter().map(|item| filled(item, binding)).collect()),
        Value::Object(fields) => fields.iter().map(|(key, item)| (key.clone(), filled(item, binding))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn headers(request: &Request, binding: &Binding) -> Vec<(String, String)> {
    request.headers.iter().map(|(name, value)| (name.clone(), binding.filled(value))).collect()
}

fn body(request: &Request, binding: &Binding) -> Result<Option<Vec<u8>>> {
    Ok(match (&request.json, &request.message, &request.text) {
        (Some(json), Some(message), _) => Some(protobuf::encode(message, &filled(json, binding))?),
        (Some(json), None, _) => Some(filled(json, binding).to_string().into_bytes()),
        (None, _, Some(text)) => Some(binding.filled(text).into_bytes()),
        (None, _, None) => None,
    })
}

fn answer_of(
    request: &Request,
    status: u16,
    headers: &[(String, String)],
    body: &[u8],
    view: View,
    part: Option<&str>,
    binding: &mut Binding,
) -> Result<Answer> {
    let mut kept = BTreeMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| HEADERS.contains(&name.as_str())) {
        kept.insert(name.clone(), header(name, value, binding));
    }
    let find = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut plain = Vec::new();
    let body = if find("content-encoding") == Some("gzip") {
        flate2::read::MultiGzDecoder::new(body).read_to_end(&mut plain).context("the body is no gzip")?;
        plain.as_slice()
    } else {
        body
    };
    if view == View::Head || body.is_empty() {
        return Ok(Answer { status, headers: kept, body: Value::Null });
    }
    let kind = find("content-type").unwrap_or_default();
    let value = match &request.answer {
        Some(message) if kind == "application/x-protobuf" => protobuf::decode(message, body)?,
        Some(_) | None if kind == "application/json" => {
            serde_json::from_slice(body).with_context(|| format!("no JSON: {}", String::from_utf8_lossy(body)))?
        }
        Some(_) | None => padded(&String::from_utf8_lossy(body)),
    };
    let value = without_strangers(&value, binding);
    let value = match part {
        Some(pointer) => value.pointer(pointer).cloned().unwrap_or(Value::Null),
        None => value,
    };
    let body = normalise(&value, binding);
    Ok(Answer { status, headers: kept, body: if view == View::Shape { shape(&value) } else { body } })
}

/// JSON wrapped for a script tag is taken apart; other text is itself.
fn padded(text: &str) -> Value {
    let inner = text.split_once('(').and_then(|(before, rest)| Some((before, rest.rsplit_once(')')?)));
    if let Some((before, (json, after))) = inner
        && let Ok(value) = serde_json::from_str::<Value>(json)
    {
        let around = format!("{before}(){after}");
        return Value::Object(Map::from_iter([("around".to_owned(), around.into()), ("json".to_owned(), value)]));
    }
    text.into()
}

fn header(name: &str, value: &str, binding: &mut Binding) -> String {
    if name == "location"
        && let Some(rest) = value.strip_prefix("//")
    {
        let path = rest.find('/').map_or("", |at| &rest[at..]);
        return format!("//${{address}}{path}");
    }
    let class = if name == "mesos-stream-id" { "stream" } else { "uuid" };
    binding.abstracted(value, class)
}
