//! What a directory of a task's sandbox holds, as Mesos's `/files/browse` says it.

use std::time::Duration;

use api::link::{FileEntry, SandboxFile};
use api::{FrameworkId, TaskId};
use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::auth::{Approvers, forbidden};
use super::files::run_of;
use super::router::Api;
use super::{overloaded, text};
use crate::agents::beside::List;
use crate::agents::{SessionCommand, next_read};
use crate::driver::{AgentName, Message};

/// A node looks into a directory in milliseconds.
const ANSWER: Duration = Duration::from_secs(15);

/// `GET /mesolith/v1/tasks/FRAMEWORK/TASK/browse`: the sandbox itself.
pub(super) async fn sandbox(
    api: State<Api>,
    approvers: Extension<Approvers>,
    Path((framework, task)): Path<(String, String)>,
) -> Response {
    directory(api, approvers, Path((framework, task, String::new()))).await
}

/// `GET /mesolith/v1/tasks/FRAMEWORK/TASK/browse/PATH`.
pub(super) async fn directory(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path((framework, task, path)): Path<(String, String, String)>,
) -> Response {
    let (framework, task) = (FrameworkId::from(framework), TaskId::from(task));
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let Some((agent, owner)) = run_of(&view, &framework, &task) else {
        return text(StatusCode::NOT_FOUND, format!("No task '{task}' of framework {framework} is known\n"));
    };
    if !approvers.can_access_sandbox(owner.own_user.as_deref(), &owner.framework_user) {
        return forbidden();
    }
    let session = match api.driver.ask(|reply| Message::FindAgent { agent: AgentName::Id(agent), reply }).await {
        Ok(Some(session)) => session,
        Ok(None) => {
            return text(StatusCode::SERVICE_UNAVAILABLE, "The node is not connected to the master now: try again\n");
        }
        Err(error) => return overloaded(error),
    };
    let (reply, answer) = oneshot::channel();
    let of = SandboxFile { framework_id: framework.into(), task_id: task.into(), path, ..SandboxFile::default() };
    let list = List { request: next_read(), of, reply };
    if session.commands.try_send(SessionCommand::List(Box::new(list))).is_err() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "The node has too much to do: try again\n");
    }
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(Ok((entries, _)))) => Json(entries.iter().map(entry).collect::<Vec<_>>()).into_response(),
        Ok(Ok(Err(reason))) => text(StatusCode::NOT_FOUND, format!("{reason}\n")),
        Ok(Err(_)) => text(StatusCode::SERVICE_UNAVAILABLE, "The node's connection was lost: try again\n"),
        Err(_) => {
            let body = format!("The node did not answer within {} s\n", ANSWER.as_secs());
            text(StatusCode::GATEWAY_TIMEOUT, body)
        }
    }
}

fn entry(entry: &FileEntry) -> Value {
    json!({
        "path": entry.name,
        "nlink": entry.links,
        "size": entry.size,
        "mtime": entry.modified,
        "mode": api::file_mode::text(entry.mode),
        "uid": entry.uid.to_string(),
        "gid": entry.gid.to_string(),
    })
}
