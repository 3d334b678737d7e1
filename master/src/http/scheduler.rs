//! `POST /api/v1/scheduler`: bytes to a call, in the order in which Mesos checks them.

use std::time::Duration;

use api::v1::ContentType;
use api::v1::scheduler::{Call, call};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Request, State};
use axum::response::Response as HttpResponse;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use master_core::{Response, StreamId, validate};

use super::auth::Principal;
use super::legacy::only_leader;
use super::render::answer::method_not_allowed;
use super::server::Connection;
use super::{overloaded, router::Api, text};
use crate::driver::Message;
use crate::subscribers;

/// An ACCEPT with a thousand tasks fits many times.
const LONGEST_BODY: usize = 32 << 20;
/// For the whole body; slower clients are not ours to wait for.
const BODY_DEADLINE: Duration = Duration::from_secs(30);
const STREAM_ID: &str = "Mesos-Stream-Id";
/// Not Mesos's, which says nothing: why the framework's last stream was closed, if we closed it.
const LAST_STREAM: &str = "Mesolith-Last-Stream";

/// Any method: refusing the wrong one is a step of the pipeline.
pub(super) async fn scheduler(
    State(api): State<Api>,
    Extension(connection): Extension<Connection>,
    Extension(principal): Extension<Principal>,
    request: Request,
) -> HttpResponse {
    match pipeline(&api, connection, &principal, request).await {
        Ok(response) | Err(response) => response,
    }
}

// The error is the answer itself; it is built once per refused request.
#[allow(clippy::result_large_err)]
async fn pipeline(
    api: &Api,
    connection: Connection,
    principal: &Principal,
    request: Request,
) -> Result<HttpResponse, HttpResponse> {
    only_leader(api, request.extensions())?;
    if request.method() != Method::POST {
        return Err(method_not_allowed(&[Method::POST], request.method()));
    }
    let (head, body) = request.into_parts();
    let content_type = content_type(&head.headers)?;
    let body = read_body(body).await?;
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, reason);
    let mut call: Call = content_type.decode(&body).map_err(|error| bad(error.to_string()))?;
    validate::call(&call).map_err(bad)?;
    check_principal(&call, principal)?;
    name_principal(&mut call, principal);
    let stream = header(&head.headers, STREAM_ID).map(|id| StreamId(id.to_owned()));
    let wanted = accepted(&head.headers);
    if wanted.is_none() && matches!(call.r#type(), call::Type::Subscribe | call::Type::ReconcileOperations) {
        let body = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
        return Err(text(StatusCode::NOT_ACCEPTABLE, body));
    }
    if call.r#type() == call::Type::Subscribe {
        let wanted = wanted.unwrap_or_default();
        if stream.is_some() {
            let body = "Subscribe calls should not include the 'Mesos-Stream-Id' header";
            return Err(text(StatusCode::BAD_REQUEST, body));
        }
        return Ok(subscribe(api, connection, call, wanted).await);
    }
    let answer = api
        .driver
        .ask(|reply| Message::Call { stream, principal: principal.0.clone(), call: Box::new(call), reply })
        .await;
    Ok(answer.map_or_else(overloaded, plain))
}

async fn subscribe(api: &Api, connection: Connection, call: Call, wanted: ContentType) -> HttpResponse {
    let stream = StreamId(uuid::Uuid::new_v4().to_string());
    let (sink, body) = subscribers::channel(stream.clone(), api.driver.clone(), connection.kill, wanted);
    let news = sink.news();
    let asked = api.driver.ask(|reply| Message::Subscribe { stream, sink, call: Box::new(call), reply }).await;
    match asked {
        Ok(Response::Stream(id)) => {
            let mut response = HttpResponse::new(Body::new(body));
            let headers = response.headers_mut();
            // The type of the messages, as Mesos has it, not of the framing.
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(wanted.header()));
            if let Ok(id) = HeaderValue::from_str(&id.0) {
                headers.insert(STREAM_ID, id);
            }
            if let Some(Ok(news)) = news.get().map(HeaderValue::from_str) {
                headers.insert(LAST_STREAM, news);
            }
            response
        }
        Ok(refused) => plain(refused),
        Err(error) => overloaded(error),
    }
}

/// An answer that is not a stream.
pub(super) fn plain(response: Response) -> HttpResponse {
    let empty = |status| {
        let mut response = HttpResponse::new(Body::empty());
        *response.status_mut() = status;
        response
    };
    match response {
        Response::Accepted => empty(StatusCode::ACCEPTED),
        Response::Ok => empty(StatusCode::OK),
        Response::Stream(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "a stream where none was asked for"),
        Response::Refused { status, text: body } => {
            text(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), body)
        }
    }
}

#[allow(clippy::result_large_err)]
pub(super) fn content_type(headers: &HeaderMap) -> Result<ContentType, HttpResponse> {
    let Some(kind) = header(headers, CONTENT_TYPE.as_str()) else {
        return Err(text(StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present"));
    };
    ContentType::from_header(kind).ok_or_else(|| {
        text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Expecting 'Content-Type' of application/json or application/x-protobuf",
        )
    })
}

/// Reads a body within its bounds of size and time.
#[allow(clippy::result_large_err)]
pub(super) async fn read_body(body: Body) -> Result<Bytes, HttpResponse> {
    match tokio::time::timeout(BODY_DEADLINE, Limited::new(body, LONGEST_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(text(StatusCode::PAYLOAD_TOO_LARGE, format!("The body is longer than {LONGEST_BODY} bytes")))
        }
        Ok(Err(error)) => Err(text(StatusCode::BAD_REQUEST, format!("Failed to read the body: {error}"))),
        Err(_) => {
            let body = format!("The body did not arrive within {} s", BODY_DEADLINE.as_secs());
            Err(text(StatusCode::REQUEST_TIMEOUT, body))
        }
    }
}

#[allow(clippy::result_large_err)]
fn check_principal(call: &Call, principal: &Principal) -> Result<(), HttpResponse> {
    let claimed = call.subscribe.as_ref().and_then(|subscribe| subscribe.framework_info.principal.as_ref());
    match (claimed, &principal.0) {
        (Some(claimed), Some(principal)) if claimed != principal => Err(text(
            StatusCode::BAD_REQUEST,
            format!(
                "Failed to validate scheduler::Call: Authenticated principal '{principal}' does not match \
                 principal '{claimed}' set in `FrameworkInfo`"
            ),
        )),
        _ => Ok(()),
    }
}

/// A framework that does not say whose it is, is of whom authenticated; as in Mesos.
fn name_principal(call: &mut Call, principal: &Principal) {
    if let (Some(subscribe), Some(principal)) = (&mut call.subscribe, &principal.0) {
        subscribe.framework_info.principal.get_or_insert_with(|| principal.clone());
    }
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What the stream is to be encoded in: JSON before protobuf, as Mesos tries them; `None` when neither is wanted.
pub(super) fn accepted(headers: &HeaderMap) -> Option<ContentType> {
    [ContentType::Json, ContentType::Protobuf].into_iter().find(|one| accepts(headers, *one))
}

/// Absent means everything; otherwise the range that is nearest must not be weighted 0.
fn accepts(headers: &HeaderMap, content_type: ContentType) -> bool {
    let mut values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if values.peek().is_none() {
        return true;
    }
    let nearest = values.flat_map(|value| value.split(',')).filter_map(|range| {
        let mut parts = range.split(';').map(|part| part.trim().to_ascii_lowercase());
        let nearness = match parts.next().unwrap_or_default().as_str() {
            kind if kind == content_type.header() => 2,
            "application/*" => 1,
            "*/*" => 0,
            _ => return None,
        };
        let weight = parts.find_map(|parameter| parameter.strip_prefix("q=").map(str::parse::<f64>));
        Some((nearness, !matches!(weight, Some(Ok(weight)) if weight <= 0.0)))
    });
    nearest.max_by_key(|(nearness, _)| *nearness).is_some_and(|(_, allowed)| allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_as_mesos_reads_it() {
        let accepts = |value: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(ACCEPT, HeaderValue::from_static(value));
            }
            accepted(&headers)
        };
        for good in [None, Some("application/json"), Some("*/*"), Some("text/html, Application/*;q=0.3")] {
            assert_eq!(accepts(good), Some(ContentType::Json), "{good:?}");
        }
        let both = "application/x-protobuf, application/json";
        assert_eq!(accepts(Some(both)), Some(ContentType::Json), "JSON is tried first");
        for protobuf in ["application/x-protobuf", "application/json;q=0, */*"] {
            assert_eq!(accepts(Some(protobuf)), Some(ContentType::Protobuf), "{protobuf}");
        }
        for bad in [Some("text/html"), Some("application/json;q=0"), Some("")] {
            assert_eq!(accepts(bad), None, "{bad:?}");
        }
    }
}
