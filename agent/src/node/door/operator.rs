//! `POST /api/v1`: the v1 operator API of Mesos's agent, in its order of checks and its words.

use std::time::Duration;

use api::ContainerId;
use api::recordio;
use api::v1::agent::response::{self, Type as Kind};
use api::v1::agent::{Call, Response as Answer, call};
use api::v1::{ContentType, FileInfo, TimeInfo};
use http_body_util::{BodyExt, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};

use super::access::{Ask, Realm, Rights};
use super::files::FileError;
use super::wish::Wish;
use super::{Caller, Door, Page, documents, files, forbidden, legacy, messages, metrics, session, text, whole};
use crate::node::supervision::now;

/// No call but an input is longer.
const LONGEST_BODY: usize = 1 << 20;
const BODY_DEADLINE: Duration = Duration::from_secs(30);
const RECORDIO: &str = "application/recordio";
const MESSAGE_CONTENT_TYPE: &str = "message-content-type";
const MESSAGE_ACCEPT: &str = "message-accept";
const ANY: &str = "application/json or application/x-protobuf or application/recordio";
const MESSAGES: &str = "application/json or application/x-protobuf";

/// How the caller speaks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Framing {
    /// One message.
    Message(ContentType),
    /// Records.
    Stream(ContentType),
}

impl Framing {
    pub(super) const fn content_type(self) -> ContentType {
        match self {
            Self::Message(kind) | Self::Stream(kind) => kind,
        }
    }
}

/// A call that is understood, and how it wants its answer.
pub(super) struct Asked<'a> {
    pub(super) door: &'a Door,
    pub(super) caller: &'a Caller,
    pub(super) call: Call,
    pub(super) accept: Framing,
}

type Answered = Result<Page, Page>;

pub(super) fn bad(reason: impl Into<String>) -> Page {
    text(StatusCode::BAD_REQUEST, reason)
}

/// Answers a request.
#[allow(clippy::result_large_err)] // the error is the answer itself, here and below
#[allow(clippy::wildcard_enum_match_arm)] // of a protocol's many calls, those that are not named are one case
pub(super) async fn answer(door: &Door, caller: &Caller, request: Request<Incoming>) -> Answered {
    if request.method() != Method::POST {
        let body =
            format!("405 Method Not Allowed. Expecting one of {{ 'POST' }}, but received '{}'.", request.method());
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, body);
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return Err(refusal);
    }
    if super::is_from_elsewhere(request.headers()) {
        return Err(text(StatusCode::FORBIDDEN, "A page of another site may not ask for this\n"));
    }
    if matches!(caller, Caller::Visitor(_)) {
        // Who has no business here is not read.
        door.rights(caller, Realm::ReadWrite, []).await?;
    }
    let (head, body) = request.into_parts();
    let framing = content_type(&head.headers)?;
    let (call, rest) = match framing {
        Framing::Message(kind) => {
            let body = read_body(body).await?;
            (kind.decode::<Call>(&body).map_err(|error| bad(error.to_string()))?, None)
        }
        Framing::Stream(kind) => {
            let mut records = session::Records::new(body, kind);
            let first = records.next().await?.ok_or_else(|| bad("Received EOF while reading request body"))?;
            (first, Some(records))
        }
    };
    validate(&call)?;
    let name = call.r#type().as_str_name();
    let accept = accept(&head.headers, call.r#type())?;
    match (call.r#type() == call::Type::AttachContainerInput, rest.is_some()) {
        (true, false) => {
            let body = format!("Expecting 'Content-Type' to be {RECORDIO} for ATTACH_CONTAINER_INPUT call");
            return Err(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, body));
        }
        (false, true) => {
            let body = format!("Streaming 'Content-Type' {RECORDIO} is not supported for {name} call");
            return Err(text(StatusCode::UNSUPPORTED_MEDIA_TYPE, body));
        }
        (true, true) | (false, false) => {}
    }
    let asked = Asked { door, caller, call, accept };
    match asked.call.r#type() {
        call::Type::LaunchNestedContainer
        | call::Type::LaunchContainer
        | call::Type::WaitNestedContainer
        | call::Type::WaitContainer
        | call::Type::KillNestedContainer
        | call::Type::KillContainer
        | call::Type::RemoveNestedContainer
        | call::Type::RemoveContainer
        | call::Type::LaunchNestedContainerSession
        | call::Type::AttachContainerOutput => session::answer(asked).await,
        call::Type::AttachContainerInput => session::attach_input(asked, rest).await,
        _ => asked.look().await,
    }
}

const fn streams(kind: call::Type) -> bool {
    matches!(kind, call::Type::LaunchNestedContainerSession | call::Type::AttachContainerOutput)
}

impl Asked<'_> {
    #[allow(clippy::result_large_err)]
    pub(super) fn message(&self, answer: &Answer) -> Page {
        let kind = self.accept.content_type();
        let mut page = Response::new(whole(kind.encode(answer)));
        page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind.header()));
        page
    }

    #[allow(clippy::result_large_err)]
    pub(super) async fn may(&self, asks: Vec<Ask>) -> Result<Rights, Page> {
        self.door.rights(self.caller, Realm::ReadWrite, asks).await
    }

    /// What only shows something.
    #[allow(clippy::result_large_err)]
    #[allow(clippy::wildcard_enum_match_arm)] // of a protocol's many calls, those that are not named are one case
    async fn look(&self) -> Answered {
        let answer = match self.call.r#type() {
            call::Type::GetHealth => {
                let health = response::GetHealth { healthy: true };
                Answer { get_health: Some(health), ..messages::answer(Kind::GetHealth) }
            }
            call::Type::GetVersion => messages::version(),
            call::Type::GetLoggingLevel => {
                let level = response::GetLoggingLevel { level: 0 };
                Answer { get_logging_level: Some(level), ..messages::answer(Kind::GetLoggingLevel) }
            }
            call::Type::GetOperations => Answer {
                get_operations: Some(response::GetOperations::default()),
                ..messages::answer(Kind::GetOperations)
            },
            call::Type::GetResourceProviders => Answer {
                get_resource_providers: Some(response::GetResourceProviders::default()),
                ..messages::answer(Kind::GetResourceProviders)
            },
            call::Type::ListFiles => self.list_files().await?,
            call::Type::ReadFile => self.read_file().await?,
            call::Type::PruneImages => return self.prune().await,
            call::Type::GetFlags
            | call::Type::GetMetrics
            | call::Type::GetState
            | call::Type::GetContainers
            | call::Type::GetFrameworks
            | call::Type::GetExecutors
            | call::Type::GetTasks
            | call::Type::GetAgent => self.picture().await?,
            // Mesos has them, and this node has nothing they could change.
            _ => return Err(text(StatusCode::NOT_IMPLEMENTED, "501 Not Implemented.")),
        };
        Ok(self.message(&answer))
    }

    #[allow(clippy::result_large_err)]
    #[allow(clippy::wildcard_enum_match_arm)] // of a protocol's many calls, those that are not named are one case
    async fn picture(&self) -> Result<Answer, Page> {
        let picture = self.door.picture().await?;
        let rights = self.may(documents::asks(&picture)).await?;
        let shows = |of: Option<&call::GetContainers>| of.is_some_and(|of| of.show_nested.unwrap_or(false));
        let nested = if shows(self.call.get_containers.as_deref()) { self.door.nested.running() } else { Vec::new() };
        let seen = nested.into_iter().filter(|one| {
            let of = picture.running.iter().find(|running| running.record.container == one.root);
            let shown = of.and_then(|running| documents::of_running(&picture, running));
            shown.is_some_and(|(shown, _, _)| rights.may("view_containers", Some(shown.user())))
        });
        let nested: Vec<_> = seen.map(|one| one.id.clone()).collect();
        let kind = self.call.r#type();
        let rendered = tokio::task::spawn_blocking(move || match kind {
            call::Type::GetFlags if !rights.may("view_flags", None) => Err(forbidden()),
            call::Type::GetFlags => Ok(messages::flags(&picture)),
            call::Type::GetMetrics => Ok(messages::metrics(metrics::all(&picture, now().unix_ms))),
            call::Type::GetState => Ok(messages::state(&picture, &rights)),
            call::Type::GetContainers => Ok(messages::containers(&picture, &rights, nested)),
            call::Type::GetFrameworks => Ok(messages::frameworks(&picture, &rights)),
            call::Type::GetExecutors => Ok(messages::executors(&picture, &rights)),
            call::Type::GetTasks => Ok(messages::tasks(&picture, &rights)),
            _ => Ok(messages::agent(&picture)),
        });
        rendered.await.unwrap_or_else(|_| Err(text(StatusCode::INTERNAL_SERVER_ERROR, "")))
    }

    #[allow(clippy::result_large_err)]
    async fn list_files(&self) -> Result<Answer, Page> {
        let path = self.call.list_files.as_ref().map(|list| list.path.clone()).unwrap_or_default();
        let picture = self.door.picture().await?;
        let place = legacy::enter(self.door, self.caller, Realm::ReadWrite, &picture, &path).await?;
        let entries = place.ok_or(FileError::Missing).and_then(|place| place.list(&path)).map_err(failed)?;
        let one = |entry: &api::link::FileEntry| FileInfo {
            path: entry.name.clone(),
            nlink: i32::try_from(entry.links).ok(),
            size: Some(entry.size),
            #[allow(clippy::cast_possible_truncation)] // whole seconds
            mtime: Some(TimeInfo { nanoseconds: (entry.modified.floor() as i64).saturating_mul(1_000_000_000) }),
            mode: Some(entry.mode),
            uid: Some(files::owner(&picture.passwd, entry.uid)),
            gid: Some(files::owner(&picture.passwd, entry.gid)),
        };
        let file_infos = entries.iter().map(one).collect();
        let list = response::ListFiles { file_infos };
        Ok(Answer { list_files: Some(list), ..messages::answer(Kind::ListFiles) })
    }

    #[allow(clippy::result_large_err)]
    async fn read_file(&self) -> Result<Answer, Page> {
        let Some(read) = self.call.read_file.clone() else { return Err(bad("")) };
        let picture = self.door.picture().await?;
        let place = legacy::enter(self.door, self.caller, Realm::ReadWrite, &picture, &read.path).await?;
        let length = read.length.unwrap_or(files::LONGEST_READ);
        let piece = place.ok_or(FileError::Missing).and_then(|place| place.read(&read.path, read.offset, length));
        let piece = piece.map_err(failed)?;
        let read = response::ReadFile { size: piece.size, data: piece.data };
        Ok(Answer { read_file: Some(read), ..messages::answer(Kind::ReadFile) })
    }

    #[allow(clippy::result_large_err)]
    async fn prune(&self) -> Answered {
        let rights = self.may(vec![("prune_images", None)]).await?;
        if !rights.may("prune_images", None) {
            return Err(forbidden());
        }
        let excluded = self.call.prune_images.iter().flat_map(|prune| &prune.excluded_images);
        let names = excluded.filter_map(|image| Some(image.docker.as_ref()?.name.clone()));
        let keep: Result<Vec<_>, _> = names.map(|name| name.parse()).collect();
        let keep = keep.map_err(|error: agent_core::image::ReferenceError| bad(error.to_string()))?;
        tracing::info!(target: "audit", principal = ?rights.principal, "audit: prune images");
        match self.door.wish(|reply| Wish::Prune { keep, reply }).await {
            Some(Ok(removed)) => {
                tracing::info!(removed, "images nobody uses were removed");
                Ok(text(StatusCode::OK, ""))
            }
            Some(Err(reason)) => Err(text(StatusCode::INTERNAL_SERVER_ERROR, reason)),
            None => Err(text(StatusCode::SERVICE_UNAVAILABLE, "Agent has not finished recovery")),
        }
    }
}

fn failed(error: FileError) -> Page {
    match error {
        FileError::Missing => text(StatusCode::NOT_FOUND, ""),
        FileError::Bad(reason) => bad(reason),
    }
}

#[allow(clippy::result_large_err)]
fn content_type(headers: &HeaderMap) -> Result<Framing, Page> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let Some(kind) = header(CONTENT_TYPE.as_str()) else {
        return Err(bad("Expecting 'Content-Type' to be present"));
    };
    if let Some(kind) = ContentType::from_header(kind) {
        return Ok(Framing::Message(kind));
    }
    let unsupported = |body: String| text(StatusCode::UNSUPPORTED_MEDIA_TYPE, body);
    if kind != RECORDIO {
        return Err(unsupported(format!("Expecting 'Content-Type' of {ANY}")));
    }
    let Some(message) = header(MESSAGE_CONTENT_TYPE) else {
        return Err(bad("Expecting 'Message-Content-Type' to be set for streaming requests"));
    };
    let kind = ContentType::from_header(message);
    kind.map(Framing::Stream).ok_or_else(|| unsupported(format!("Expecting 'Message-Content-Type' of {MESSAGES}")))
}

/// JSON before protobuf before records, as Mesos tries them.
#[allow(clippy::result_large_err)]
fn accept(headers: &HeaderMap, call: call::Type) -> Result<Framing, Page> {
    let refused = |body: String| text(StatusCode::NOT_ACCEPTABLE, body);
    let kinds = [ContentType::Json, ContentType::Protobuf];
    let wants = |header: &str, kind: &str| {
        let mut ranges = headers
            .get_all(header)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
        headers.get(header).is_none() || ranges.any(|range| [kind, "application/*", "*/*"].contains(&range.as_str()))
    };
    if let Some(kind) = kinds.into_iter().find(|kind| wants(ACCEPT.as_str(), kind.header())) {
        return Ok(Framing::Message(kind));
    }
    if !wants(ACCEPT.as_str(), RECORDIO) {
        return Err(refused(format!("Expecting 'Accept' to allow {ANY}")));
    }
    if !streams(call) {
        return Err(refused(format!("Streaming response is not supported for {} call", call.as_str_name())));
    }
    let kind = kinds.into_iter().find(|kind| wants(MESSAGE_ACCEPT, kind.header()));
    kind.map(Framing::Stream).ok_or_else(|| refused(format!("Expecting 'Message-Accept' to allow {MESSAGES}")))
}

#[allow(clippy::result_large_err)]
async fn read_body(body: Incoming) -> Result<Bytes, Page> {
    match tokio::time::timeout(BODY_DEADLINE, Limited::new(body, LONGEST_BODY).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(text(StatusCode::PAYLOAD_TOO_LARGE, format!("The body is longer than {LONGEST_BODY} bytes")))
        }
        Ok(Err(error)) => Err(bad(format!("Failed to read the body: {error}"))),
        Err(_) => Err(text(StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time")),
    }
}

/// What is missing, in Mesos's words.
#[allow(clippy::result_large_err)]
fn validate(call: &Call) -> Result<(), Page> {
    let invalid = |reason: String| Err(bad(format!("Failed to validate agent::Call: {reason}")));
    if call.r#type.is_none() {
        return invalid("Expecting 'type' to be present".to_owned());
    }
    let (member, present, nested) = member(call);
    if member.is_empty() {
        return Ok(());
    }
    if !present {
        return invalid(format!("Expecting '{member}' to be present"));
    }
    let Some((id, demands_parent)) = nested else { return Ok(()) };
    if demands_parent && id.parent.is_none() {
        return invalid(format!("Expecting '{member}.container_id.parent' to be present"));
    }
    let mut part = Some(id);
    while let Some(id) = part {
        if let Err(error) = api::id::validate(&id.value) {
            return invalid(format!("'{member}.container_id' is invalid: {error}"));
        }
        part = id.parent.as_deref();
    }
    Ok(())
}

type Id<'a> = Option<(&'a api::v1::ContainerId, bool)>;

/// What a call has to bring: its name, whether it is there, and the container it names.
#[allow(clippy::wildcard_enum_match_arm)] // of a protocol's many calls, those that are not named are one case
#[allow(deprecated)]
fn member(call: &Call) -> (&'static str, bool, Id<'_>) {
    macro_rules! with_id {
        ($field:ident, $parent:expr) => {
            (stringify!($field), call.$field.is_some(), call.$field.as_ref().map(|one| (&one.container_id, $parent)))
        };
    }
    match call.r#type() {
        call::Type::GetMetrics => ("get_metrics", call.get_metrics.is_some(), None),
        call::Type::SetLoggingLevel => ("set_logging_level", call.set_logging_level.is_some(), None),
        call::Type::ListFiles => ("list_files", call.list_files.is_some(), None),
        call::Type::ReadFile => ("read_file", call.read_file.is_some(), None),
        call::Type::LaunchNestedContainer => with_id!(launch_nested_container, true),
        call::Type::WaitNestedContainer => with_id!(wait_nested_container, true),
        call::Type::KillNestedContainer => with_id!(kill_nested_container, true),
        call::Type::RemoveNestedContainer => with_id!(remove_nested_container, true),
        call::Type::LaunchNestedContainerSession => with_id!(launch_nested_container_session, true),
        call::Type::AttachContainerOutput => with_id!(attach_container_output, false),
        call::Type::LaunchContainer => with_id!(launch_container, false),
        call::Type::WaitContainer => with_id!(wait_container, false),
        call::Type::KillContainer => with_id!(kill_container, false),
        call::Type::RemoveContainer => with_id!(remove_container, false),
        call::Type::AttachContainerInput => ("attach_container_input", call.attach_container_input.is_some(), None),
        _ => ("", true, None),
    }
}

/// A record as it goes out.
pub(super) fn record(kind: ContentType, message: &impl api::v1::ApiMessage) -> Bytes {
    Bytes::from(recordio::encode(&kind.encode(message)))
}

/// The nearest container above one that this node's agent made itself: what Mesos calls the root of those inside.
pub(super) fn ancestors(id: &api::v1::ContainerId) -> Vec<ContainerId> {
    let mut all = Vec::new();
    let mut part = id.parent.as_deref();
    while let Some(id) = part {
        all.push(ContainerId::from(id.value.as_str()));
        part = id.parent.as_deref();
    }
    all
}
