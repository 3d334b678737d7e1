//! Sandboxes and node logs, read through the agents' link and streamed on.
//!
//! A reader slower than the agent costs a bounded buffer: when it is full the agent is told to stop,
//! and once the reader has caught up the file is opened again from where it is.

use std::collections::VecDeque;
use std::time::Duration;

use api::link::SandboxFile;
use api::link::read_file::Source;
use api::{AgentId, FrameworkId, NodeName, TaskId};
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use master_core::View;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::auth::{Approvers, forbidden};
use super::router::Api;
use super::{overloaded, text};
use crate::agents::{CHUNKS_CAPACITY, Chunk, Read, SessionCommand, SessionHandle, next_read};
use crate::driver::{AgentName, Message};

/// Where the body begins in the file, if not where it was asked for: the beginning of a long output is dropped.
const BEGINS_AT: HeaderName = HeaderName::from_static("mesolith-offset");
/// For the first piece, or the reason why there is none.
const FIRST_CHUNK: Duration = Duration::from_secs(10);
/// A file that is followed may be empty: then there is no first piece, and that is no error.
const FIRST_CHUNK_FOLLOWING: Duration = Duration::from_secs(2);

/// `?offset=&follow=`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Range {
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    follow: Option<String>,
}

impl Range {
    fn follows(&self) -> bool {
        self.follow.as_deref().is_some_and(|follow| !matches!(follow, "0" | "false" | "no"))
    }
}

pub(super) async fn task_file(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path((framework, task, path)): Path<(String, String, String)>,
    Query(range): Query<Range>,
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
    let source = SandboxFile { framework_id: framework.into(), task_id: task.into(), path, ..SandboxFile::default() };
    read(&api, AgentName::Id(agent), Source::Sandbox(source), &range, "application/octet-stream").await
}

pub(super) async fn node_log(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path(node): Path<String>,
    Query(range): Query<Range>,
) -> Response {
    if !approvers.can_access_logs() {
        return forbidden();
    }
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let Some(agent) = find_agent(&view, &node) else {
        return text(StatusCode::NOT_FOUND, format!("No node or agent is called '{node}'\n"));
    };
    read(&api, AgentName::Id(agent), Source::NodeLog("console".to_owned()), &range, "text/plain; charset=utf-8").await
}

/// By node name or agent id.
pub(super) fn find_agent(view: &View, name: &str) -> Option<AgentId> {
    let id = AgentId::from(name);
    if view.state.agents.contains_key(&id) {
        return Some(id);
    }
    view.state.nodes.get(&NodeName::from(name)).cloned()
}

/// The users a sandbox is of.
pub(super) struct Owner {
    pub(super) own_user: Option<String>,
    pub(super) framework_user: String,
}

/// Where the newest run of that name is or was, and whose.
pub(super) fn run_of(view: &View, framework: &FrameworkId, task: &TaskId) -> Option<(AgentId, Owner)> {
    let state = &view.state;
    let removed = || state.completed_frameworks.iter().rev().find(|completed| completed.id == *framework);
    let (info, ended) = match state.framework(framework) {
        Some(known) => (&known.info, &known.completed_tasks),
        None => removed().map(|completed| (&completed.info, &completed.completed_tasks))?,
    };
    let running = state.framework(framework).and_then(|framework| framework.tasks.get(task));
    let run = running.or_else(|| ended.iter().rev().find(|ended| ended.id() == task))?;
    let owner = Owner { own_user: run.own_user.as_deref().map(str::to_owned), framework_user: info.user.clone() };
    Some((run.agent.clone(), owner))
}

async fn read(api: &Api, agent: AgentName, source: Source, range: &Range, kind: &'static str) -> Response {
    let session = match api.driver.ask(|reply| Message::FindAgent { agent: agent.clone(), reply }).await {
        Ok(Some(session)) => session,
        Ok(None) => {
            return text(StatusCode::SERVICE_UNAVAILABLE, "The node is not connected to the master now: try again\n");
        }
        Err(error) => return overloaded(error),
    };
    let (offset, follow) = (range.offset, range.follows());
    let mut reader = Reader { session, source, offset, follow, open: None, began: false, ahead: VecDeque::new() };
    let mut begins = offset;
    let patience = if reader.follow { FIRST_CHUNK_FOLLOWING } else { FIRST_CHUNK };
    match tokio::time::timeout(patience, reader.next()).await {
        Ok(Some(Ok(data))) => {
            begins = reader.offset - data.len() as u64;
            reader.ahead.push_back(data);
        }
        Ok(None) => return typed(Body::empty(), kind),
        Ok(Some(Err(Failure::Agent(reason)))) => return text(StatusCode::NOT_FOUND, format!("{reason}\n")),
        Ok(Some(Err(Failure::Disconnected))) => {
            return text(StatusCode::SERVICE_UNAVAILABLE, "The node's connection was lost: try again\n");
        }
        Err(_) if reader.follow => {}
        Err(_) => {
            let body = format!("The node did not answer within {} s\n", FIRST_CHUNK.as_secs());
            return text(StatusCode::GATEWAY_TIMEOUT, body);
        }
    }
    let chunks = stream::unfold(reader, |mut reader| async {
        let chunk = match reader.ahead.pop_front() {
            Some(data) => Ok(data),
            // An error cuts the connection: the client must not take what it has for the whole.
            None => reader.next().await?,
        };
        Some((chunk, reader))
    });
    let mut response = typed(Body::from_stream(chunks), kind);
    // Whoever goes on later must know where this was.
    if begins != offset {
        response.headers_mut().insert(BEGINS_AT, HeaderValue::from(begins));
    }
    response
}

fn typed(body: Body, kind: &'static str) -> Response {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

/// Why a file ends early.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Agent(String),
    #[error("the node's connection was lost")]
    Disconnected,
}

/// One file being read.
struct Reader {
    session: SessionHandle,
    source: Source,
    offset: u64,
    follow: bool,
    open: Option<Open>,
    /// The agent has answered: from then on empty pieces mean nothing.
    began: bool,
    ahead: VecDeque<Bytes>,
}

/// One request at the agent; dropping it cancels.
struct Open {
    request: u64,
    chunks: mpsc::Receiver<Chunk>,
    commands: mpsc::Sender<SessionCommand>,
}

impl Drop for Open {
    fn drop(&mut self) {
        // A full queue: the session notices a closed channel with the next chunk.
        drop(self.commands.try_send(SessionCommand::CancelRead(self.request)));
    }
}

impl Reader {
    /// The next piece; `None` at the end. The first one may be empty: the file is open.
    async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        loop {
            if self.open.is_none() {
                match self.start().await {
                    Ok(open) => self.open = Some(open),
                    Err(failure) => return Some(Err(failure)),
                }
            }
            let chunk = match &mut self.open {
                Some(open) => open.chunks.recv().await,
                None => None,
            };
            match chunk {
                Some(Chunk::From(offset)) => self.offset = offset,
                Some(Chunk::Data(data)) if data.is_empty() && self.began => {}
                Some(Chunk::Data(data)) => {
                    self.began = true;
                    self.offset += data.len() as u64;
                    return Some(Ok(data));
                }
                Some(Chunk::End) => return None,
                Some(Chunk::Failed(reason)) => return Some(Err(Failure::Agent(reason))),
                // We were too slow, or the connection is gone.
                None if self.session.commands.is_closed() => return Some(Err(Failure::Disconnected)),
                None => self.open = None,
            }
        }
    }

    async fn start(&self) -> Result<Open, Failure> {
        let (sender, chunks) = mpsc::channel(CHUNKS_CAPACITY);
        let request = next_read();
        let command = SessionCommand::Read(Box::new(Read {
            request,
            source: self.source.clone(),
            offset: self.offset,
            follow: self.follow,
            chunks: sender,
        }));
        self.session.commands.send(command).await.map_err(|_| Failure::Disconnected)?;
        Ok(Open { request, chunks, commands: self.session.commands.clone() })
    }
}
