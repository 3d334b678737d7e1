//! `POST /api/v1`: the operator API, in JSON and protobuf, in the order in which Mesos checks calls.

mod answers;
mod messages;
mod operations;
mod state;
pub(super) mod stream;
mod writes;

use std::sync::Arc;
use std::time::Duration;

use api::v1::ContentType;
use api::v1::master::{Call, Response as Answer, call, response};
use axum::extract::{Extension, Request, State};
use axum::response::Response;
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use master_core::View;
use master_core::acl::Action;
use master_core::io::operator::OperatorWrite;

use super::auth::{Approvers, forbidden};
use super::legacy::changes::{Invalid, is_allowed};
use super::legacy::fields::not_a_call;
use super::legacy::{body_of, only_leader};
use super::metrics;
use super::render::answer::{Wish, method_not_allowed};
use super::render::reads::{Key, Reads};
use super::router::Api;
use super::scheduler::{accepted, content_type, plain};
use super::server::Connection;
use super::{overloaded, text};
use crate::driver::Message;
use crate::logging;
use state::{Part, Shown};
use stream::Watchers;

/// One call and how to answer it.
struct Asked {
    wanted: ContentType,
    wish: Wish,
    approvers: Approvers,
}

/// Any method: refusing the wrong one is a step of the pipeline.
pub(super) async fn operator(
    State(api): State<Api>,
    Extension(reads): Extension<Arc<Reads>>,
    Extension(watchers): Extension<Arc<Watchers>>,
    Extension(connection): Extension<Connection>,
    Extension(approvers): Extension<Approvers>,
    request: Request,
) -> Response {
    let (method, headers) = (request.method().clone(), request.headers().clone());
    let read = async {
        only_leader(&api, request.extensions())?;
        if method != Method::POST {
            return Err(method_not_allowed(&[Method::POST], &method));
        }
        let (call, wanted) = read_call(&headers, request).await?;
        let wish = Wish::new(&method, &headers, None);
        Ok((call, Asked { wanted, wish, approvers }))
    };
    match read.await {
        Ok((call, asked)) if call.r#type() == call::Type::Subscribe => {
            stream::subscribe(&api, &watchers, connection, asked.wanted, asked.approvers).await
        }
        Ok((call, asked)) => answer(&api, &reads, &watchers, call, &asked).await,
        Err(response) => response,
    }
}

async fn read_call(headers: &HeaderMap, request: Request) -> Result<(Call, ContentType), Response> {
    let bad = |reason: String| text(StatusCode::BAD_REQUEST, reason);
    let kind = content_type(headers)?;
    let body = body_of(request).await?;
    let call: Call = kind.decode(&body).map_err(|error| bad(not_a_call(&body, &error)))?;
    if call.r#type.is_none() {
        return Err(bad("Failed to validate master::Call: Expecting 'type' to be present".to_owned()));
    }
    writes::validate(&call).map_err(bad)?;
    let Some(wanted) = accepted(headers) else {
        let body = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
        return Err(text(StatusCode::NOT_ACCEPTABLE, body));
    };
    Ok((call, wanted))
}

#[allow(clippy::wildcard_enum_match_arm)] // all other calls change something, and say so themselves
async fn answer(api: &Api, reads: &Reads, watchers: &Watchers, call: Call, asked: &Asked) -> Response {
    let kind = call.r#type();
    let part = match kind {
        call::Type::GetTasks => Some(Part::Tasks),
        call::Type::GetExecutors => Some(Part::Executors),
        call::Type::GetFrameworks => Some(Part::Frameworks),
        call::Type::GetAgents => Some(Part::Agents),
        call::Type::GetState => Some(Part::State),
        _ => None,
    };
    if let Some(part) = part {
        return large(api, reads, part, asked).await;
    }
    match kind {
        call::Type::GetHealth
        | call::Type::GetVersion
        | call::Type::GetOperations
        | call::Type::GetRoles
        | call::Type::GetWeights
        | call::Type::GetMaster
        | call::Type::GetMaintenanceStatus
        | call::Type::GetMaintenanceSchedule
        | call::Type::GetQuota => small(api, kind, asked).await,
        call::Type::GetFlags if !asked.approvers.can_view_flags() => forbidden(),
        call::Type::GetFlags => small(api, kind, asked).await,
        // Stricter than Mesos, which forgets this way to them.
        call::Type::GetMetrics if !asked.approvers.allows(Action::GetEndpoint, Some("/metrics/snapshot")) => {
            forbidden()
        }
        call::Type::GetMetrics => match metrics::all(api, reads, watchers).await {
            Ok(all) => encoded(asked, &answers::metrics(all)),
            Err(response) => response,
        },
        // There is no file that a path of Mesos's names: the log is the service manager's.
        call::Type::ListFiles | call::Type::ReadFile => text(StatusCode::NOT_FOUND, ""),
        call::Type::GetLoggingLevel => encoded(asked, &answers::logging_level(logging::level())),
        call::Type::SetLoggingLevel if !asked.approvers.allows(Action::SetLogLevel, None) => forbidden(),
        call::Type::SetLoggingLevel => {
            if let Some(set) = call.set_logging_level {
                let nanos = u64::try_from(set.duration.nanoseconds).unwrap_or(0);
                logging::set_level(set.level, Duration::from_nanos(nanos));
            }
            Response::default()
        }
        call::Type::Unknown => text(StatusCode::NOT_IMPLEMENTED, "501 Not Implemented."),
        _ => change(api, call, asked).await,
    }
}

#[allow(clippy::wildcard_enum_match_arm)] // the caller sends those of the list only
async fn small(api: &Api, kind: call::Type, asked: &Asked) -> Response {
    let make: fn(&View, &Api, &Approvers) -> Answer = match kind {
        call::Type::GetFlags => |_, api, _| answers::flags(&api.facts),
        call::Type::GetVersion => |_, api, _| answers::version(&api.facts),
        call::Type::GetOperations => |view, _, approvers| operations::operations(view, approvers),
        call::Type::GetRoles => |view, _, approvers| answers::roles(view, approvers),
        call::Type::GetWeights => |view, _, approvers| answers::weights(view, approvers),
        call::Type::GetMaster => |view, api, _| answers::master(view, &api.facts),
        call::Type::GetMaintenanceStatus => |view, _, approvers| answers::maintenance_status(view, approvers),
        call::Type::GetMaintenanceSchedule => |view, _, approvers| answers::maintenance_schedule(view, approvers),
        call::Type::GetQuota => |view, _, approvers| answers::quota(view, approvers),
        _ => |_, _, _| answers::health(),
    };
    match api.driver.ask(Message::View).await {
        Ok(view) => encoded(asked, &make(&view, api, &asked.approvers)),
        Err(error) => overloaded(error),
    }
}

fn encoded(asked: &Asked, answer: &Answer) -> Response {
    asked.wish.answer_as(asked.wanted.header(), asked.wanted.encode(answer))
}

async fn large(api: &Api, reads: &Reads, part: Part, asked: &Asked) -> Response {
    let approvers = asked.approvers.clone();
    let principal = (!approvers.sees_all()).then(|| approvers.principal().unwrap_or_default().to_owned());
    let key = Key { name: part.name(), query: asked.wanted.header().to_owned(), principal };
    let wanted = asked.wanted;
    let plan = move |view: Arc<View>| state::plan(part, wanted, &Shown { view, approvers });
    match reads.read(&api.driver, key, plan).await {
        Ok(rendering) => asked.wish.answer_rendering(wanted.header(), rendering).await,
        Err(error) => text(error.status(), error.to_string()),
    }
}

async fn change(api: &Api, call: Call, asked: &Asked) -> Response {
    let mut write = match writes::write(call) {
        Some(Ok(write)) => write,
        Some(Err(Invalid(reason))) => return text(StatusCode::BAD_REQUEST, reason),
        None => return text(StatusCode::NOT_IMPLEMENTED, "501 Not Implemented."),
    };
    if !is_allowed(&asked.approvers, &write) {
        return forbidden();
    }
    if let OperatorWrite::Apply { principal, .. } = &mut write {
        *principal = asked.approvers.principal().map(str::to_owned);
    }
    if let OperatorWrite::Teardown(framework) = &write
        && let Err(response) = may_tear_down(api, &asked.approvers, framework).await
    {
        return response;
    }
    let answer = api.driver.ask(|reply| Message::Operator { write: Box::new(write), reply }).await;
    answer.map_or_else(overloaded, plain)
}

/// Whether somebody may do it depends on the framework's principal.
pub(super) async fn may_tear_down(
    api: &Api,
    approvers: &Approvers,
    framework: &api::FrameworkId,
) -> Result<(), Response> {
    let view = api.driver.ask(Message::View).await.map_err(overloaded)?;
    let owner = view.state.framework(framework).and_then(|framework| framework.info.principal.as_deref());
    if approvers.allows(Action::TeardownFramework, owner) { Ok(()) } else { Err(forbidden()) }
}

/// A response of a type, to be filled.
fn typed(kind: response::Type) -> Answer {
    Answer { r#type: Some(kind.into()), ..Answer::default() }
}
