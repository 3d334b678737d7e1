//! `POST /api/v1/executor` on the node's loopback: bytes to a call, in the order in which Mesos checks them
//! (mesos-api 2.1). Only processes of this node can reach it.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use agent_core::executor::validate;
use api::v1::ContentType;
use api::v1::executor::{Call, Event as ExecutorEvent, call, event};
use api::{ContainerId, recordio};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ACCEPT, ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{mpsc, oneshot};

use super::door::Page as Reply;
use super::events::{Event, Events};
use super::executors::{Answer, Asked};

/// An update with a long output fits; the master takes no longer ones than 8 MiB with all that the agent adds.
const LONGEST_BODY: usize = 2 << 20;
const BODY_DEADLINE: Duration = Duration::from_secs(30);
/// The driver is busy for longer only when something is wrong.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
/// Mesos's: only so that firewalls and the like do not forget the connection.
const HEARTBEAT: Duration = Duration::from_secs(30 * 60);

/// Answers a call, in whatever way.
pub(super) async fn answer(events: &Events, request: Request<Incoming>) -> Reply {
    executor(events, request).await.unwrap_or_else(|refusal| refusal)
}

// The error is the answer itself; it is built once per refused request.
#[allow(clippy::result_large_err)]
async fn executor(events: &Events, request: Request<Incoming>) -> Result<Reply, Reply> {
    if request.method() != Method::POST {
        let body = format!("Expecting one of {{ 'POST' }}, but received '{}'.", request.method());
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, body);
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Err(refusal);
    }
    let (head, body) = request.into_parts();
    let content_type = content_type(&head.headers)?;
    let body = read_body(body).await?;
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, reason);
    let call: Call = content_type.decode(&body).map_err(|error| bad(error.to_string()))?;
    validate::call(&call).map_err(bad)?;
    let (kind, wanted) = (call.r#type(), accepted(&head.headers));
    if kind == call::Type::Subscribe && wanted.is_none() {
        let body = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
        return Err(text(StatusCode::NOT_ACCEPTABLE, body.to_owned()));
    }
    if kind == call::Type::Heartbeat {
        return Ok(text(StatusCode::ACCEPTED, String::new()));
    }
    if kind == call::Type::Unknown {
        return Err(text(StatusCode::NOT_IMPLEMENTED, String::new()));
    }
    let wanted = wanted.unwrap_or_default();
    let (reply, answer) = oneshot::channel();
    let asked = Asked { call: Box::new(call), token: token(&head.headers)?, wanted, reply };
    let unavailable = || text(StatusCode::SERVICE_UNAVAILABLE, "Agent has not finished recovery".to_owned());
    events.send(Event::ExecutorCall(Box::new(asked))).await.map_err(|_| unavailable())?;
    let answer = tokio::time::timeout(ANSWER_DEADLINE, answer).await;
    match answer.ok().and_then(Result::ok).ok_or_else(unavailable)? {
        Ok(Answer::Accepted) => Ok(text(StatusCode::ACCEPTED, String::new())),
        Ok(Answer::Stream { container, stream, records }) => {
            let records = Records::new(container, stream, records, wanted, events.clone());
            let mut response = Response::new(records.boxed_unsync());
            // The type of the messages, as Mesos has it, not of the framing.
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(wanted.header()));
            Ok(response)
        }
        Err(refused) => {
            Err(text(StatusCode::from_u16(refused.status).unwrap_or(StatusCode::BAD_REQUEST), refused.text))
        }
    }
}

fn text(status: StatusCode, body: String) -> Reply {
    let empty = body.is_empty();
    let mut response = Response::new(Full::new(Bytes::from(body)).boxed_unsync());
    *response.status_mut() = status;
    if !empty {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

#[allow(clippy::result_large_err)]
fn content_type(headers: &HeaderMap) -> Result<ContentType, Reply> {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return Err(text(StatusCode::BAD_REQUEST, "Expecting 'Content-Type' to be present".to_owned()));
    };
    ContentType::from_header(kind).ok_or_else(|| {
        let body = "Expecting 'Content-Type' of application/json or application/x-protobuf";
        text(StatusCode::UNSUPPORTED_MEDIA_TYPE, body.to_owned())
    })
}

/// JSON before protobuf, as Mesos tries them; `None` when neither is wanted.
fn accepted(headers: &HeaderMap) -> Option<ContentType> {
    let ranges: Vec<String> = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .collect();
    let accepts = |kind: &ContentType| {
        headers.get(ACCEPT).is_none()
            || ranges.iter().any(|range| [kind.header(), "application/*", "*/*"].contains(&range.as_str()))
    };
    [ContentType::Json, ContentType::Protobuf].into_iter().find(accepts)
}

/// What the executor shows of itself. Older clients show nothing.
#[allow(clippy::result_large_err)]
fn token(headers: &HeaderMap) -> Result<Option<String>, Reply> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let shown = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    let shown = shown.ok_or_else(|| text(StatusCode::UNAUTHORIZED, "Expecting a Bearer token".to_owned()))?;
    Ok(Some(shown.trim().to_owned()))
}

#[allow(clippy::result_large_err)]
async fn read_body(body: Incoming) -> Result<Bytes, Reply> {
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

/// An executor's stream as a body: one frame, so one chunk, a record.
#[derive(Debug)]
pub(crate) struct Records {
    container: ContainerId,
    stream: u64,
    records: mpsc::Receiver<Vec<u8>>,
    heartbeat: tokio::time::Interval,
    wanted: ContentType,
    events: Events,
}

impl Records {
    fn new(
        container: ContainerId,
        stream: u64,
        records: mpsc::Receiver<Vec<u8>>,
        wanted: ContentType,
        events: Events,
    ) -> Self {
        let heartbeat = tokio::time::interval_at(tokio::time::Instant::now() + HEARTBEAT, HEARTBEAT);
        Self { container, stream, records, heartbeat, wanted, events }
    }
}

impl Body for Records {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Poll::Ready(record) = self.records.poll_recv(cx) {
            return Poll::Ready(record.map(|record| Ok(Frame::data(Bytes::from(record)))));
        }
        std::task::ready!(self.heartbeat.poll_tick(cx));
        let event = ExecutorEvent { r#type: Some(event::Type::Heartbeat.into()), ..ExecutorEvent::default() };
        let record = recordio::encode(&self.wanted.encode(&event));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(record)))))
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        let (container, stream, events) = (self.container.clone(), self.stream, self.events.clone());
        // Connections end in tasks of the runtime.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = events.send(Event::ExecutorHungUp { container, stream }).await;
            });
        }
    }
}
