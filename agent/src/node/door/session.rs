//! The calls of the agent's API that do something in a container: launch inside of it, wait, kill, remove, and attach.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use agent_core::agent::command_line;
use agent_core::handover::ExitStatus;
use api::ContainerId;
use api::recordio::Decoder;
use api::v1::agent::process_io::{Control, Data, control, data};
use api::v1::agent::response::{self, Type as Kind};
use api::v1::agent::{Call, ProcessIo, call, process_io};
use api::v1::{CommandInfo, ContainerId as WireContainerId, ContainerInfo, ContentType, DurationInfo, environment};
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, interval_at};

use super::nested::{Nested, NotLaunched, Output, Piece, State, output_files};
use super::operator::{Asked, Framing, ancestors, bad, record};
use super::picture::spelled;
use super::wish::{Root, Wish};
use super::{Caller, Page, forbidden, messages, text};
use crate::node::beside::{Program, Streams};
use crate::node::file_reader::open_beneath;

/// Pieces on their way to who looks.
const PIECES: usize = 32;
/// `--http_heartbeat_interval`: nobody's connection is forgotten.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How often somebody's end is looked for, and files are for what was added to them.
const POLL: Duration = Duration::from_millis(250);
/// A record of an input.
const LONGEST_RECORD: usize = 1 << 20;
/// SIGKILL, if nothing else is said.
const KILL: i32 = 9;
const PIECE: usize = 32 << 10;

type Answered = Result<Page, Page>;

/// Records of a body as they come.
pub(super) struct Records {
    body: Incoming,
    decoder: Decoder,
    kind: ContentType,
}

impl Records {
    pub(super) const fn new(body: Incoming, kind: ContentType) -> Self {
        Self { body, decoder: Decoder::new(LONGEST_RECORD), kind }
    }

    /// The next call; `None` at the end.
    #[allow(clippy::result_large_err)] // the error is the answer itself, here and below
    pub(super) async fn next(&mut self) -> Result<Option<Call>, Page> {
        loop {
            if let Some(record) = self.decoder.pop().map_err(|error| bad(format!("Failed to decode: {error}")))? {
                return self.kind.decode(&record).map(Some).map_err(|error| bad(error.to_string()));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.decoder.push(data);
                    }
                }
                Some(Err(error)) => return Err(bad(format!("Failed to read the body: {error}"))),
                None => return Ok(None),
            }
        }
    }
}

/// What is asked for of which container.
struct Wanted<'a> {
    id: &'a WireContainerId,
    /// The name of Mesos's list.
    list: &'static str,
}

/// Answers a call about a container.
#[allow(clippy::result_large_err)]
#[allow(clippy::wildcard_enum_match_arm)] // of a protocol's many calls, those that are not named are one case
#[allow(deprecated)]
pub(super) async fn answer(asked: Asked<'_>) -> Answered {
    asked.forget_gone().await;
    let call = &asked.call;
    macro_rules! id {
        ($field:ident) => {
            match &call.$field {
                Some(one) => &one.container_id,
                None => return Err(bad("")),
            }
        };
    }
    match call.r#type() {
        call::Type::LaunchNestedContainer => {
            let Some(launch) = &call.launch_nested_container else { return Err(bad("")) };
            asked.launch(&launch.container_id, launch.command.as_ref(), launch.container.as_ref()).await
        }
        call::Type::LaunchContainer => {
            let Some(launch) = &call.launch_container else { return Err(bad("")) };
            asked.launch(&launch.container_id, launch.command.as_ref(), launch.container.as_ref()).await
        }
        call::Type::LaunchNestedContainerSession => {
            let Some(launch) = &call.launch_nested_container_session else { return Err(bad("")) };
            asked.launch_session(&launch.container_id, launch.command.as_ref(), launch.container.as_ref()).await
        }
        call::Type::WaitNestedContainer => asked.wait(id!(wait_nested_container), Kind::WaitNestedContainer).await,
        call::Type::WaitContainer => asked.wait(id!(wait_container), Kind::WaitContainer).await,
        call::Type::KillNestedContainer => {
            let signal = call.kill_nested_container.as_ref().and_then(|kill| kill.signal);
            asked.kill(id!(kill_nested_container), signal).await
        }
        call::Type::KillContainer => {
            let signal = call.kill_container.as_ref().and_then(|kill| kill.signal);
            asked.kill(id!(kill_container), signal).await
        }
        call::Type::RemoveNestedContainer => asked.remove(id!(remove_nested_container)).await,
        call::Type::RemoveContainer => asked.remove(id!(remove_container)).await,
        _ => asked.attach_output(id!(attach_container_output)).await,
    }
}

/// ATTACH_CONTAINER_INPUT: the first record names the container, the others are its input.
#[allow(clippy::result_large_err)]
pub(super) async fn attach_input(asked: Asked<'_>, rest: Option<Records>) -> Answered {
    let Some(mut records) = rest else { return Err(bad("")) };
    let invalid = |reason: &str| bad(format!("Failed to validate agent::Call: {reason}"));
    let attach = asked.call.attach_container_input.as_ref();
    let id = attach.and_then(|attach| attach.container_id.clone());
    let Some(id) = id else {
        return Err(invalid("Expecting 'attach_container_input.container_id' to be present"));
    };
    let Some(nested) = asked.door.nested.get(&id) else {
        let known = asked.root(&ContainerId::from(id.value.as_str())).await;
        let Some(root) = known else { return Err(not_found(&id)) };
        asked.allowed(&root, &ContainerId::from(id.value.as_str()), "attach_containers_input").await?;
        return Err(text(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("Container {} has no input one could attach to", spelled(&id)),
        ));
    };
    let Some(root) = asked.root(&nested.root).await else { return Err(not_found(&id)) };
    asked.allowed(&root, &nested.root, "attach_containers_input").await?;
    let Some(input) = nested.take_input() else {
        return Err(text(StatusCode::INTERNAL_SERVER_ERROR, "Multiple input connections are not allowed"));
    };
    let feeding = async {
        while let Some(call) = records.next().await? {
            let io = call.attach_container_input.and_then(|attach| attach.process_io);
            let Some(io) = io else {
                return Err(invalid("Expecting 'attach_container_input.process_io' to be present"));
            };
            let goes_on = match (io.r#type(), io.data, io.control) {
                (process_io::Type::Data, Some(data), _) => {
                    let bytes = data.data.unwrap_or_default();
                    if bytes.is_empty() {
                        input.end().await
                    } else {
                        let mut goes_on = true;
                        for piece in bytes.chunks(PIECE) {
                            goes_on = goes_on && input.write(piece.to_vec()).await;
                        }
                        goes_on
                    }
                }
                (process_io::Type::Control, _, Some(control)) if control.r#type() == control::Type::TtyInfo => {
                    match control.tty_info.and_then(|tty| tty.window_size) {
                        Some(size) => input.resize(size.rows, size.columns).await,
                        None => true,
                    }
                }
                // A heartbeat says nothing.
                _ => true,
            };
            if !goes_on {
                return Ok(());
            }
        }
        Ok(())
    };
    tokio::select! {
        fed = feeding => fed?,
        _ = nested.ended() => {}
    }
    Ok(text(StatusCode::OK, ""))
}

fn not_found(id: &WireContainerId) -> Page {
    text(StatusCode::NOT_FOUND, format!("Container {} cannot be found", spelled(id)))
}

impl Asked<'_> {
    async fn root(&self, container: &ContainerId) -> Option<Root> {
        let container = container.clone();
        self.door.wish(|reply| Wish::Container { container, reply }).await.flatten()
    }

    /// The container of this node's agent that one is in.
    async fn parent(&self, id: &WireContainerId) -> Option<(ContainerId, Root)> {
        for container in ancestors(id) {
            if let Some(root) = self.root(&container).await {
                return Some((container, root));
            }
        }
        None
    }

    /// Those whose container is gone are gone with it.
    async fn forget_gone(&self) {
        let running: Vec<_> = self.door.nested.running().into_iter().map(|one| one.root.clone()).collect();
        let Some(live) = self.door.wish(Wish::Running).await else { return };
        let lives = |root: &ContainerId| running.contains(root) || live.contains(root);
        self.door.nested.retain(lives);
    }

    /// An executor may do everything in its own container, anybody else what the lists say.
    #[allow(clippy::result_large_err)]
    async fn allowed(&self, root: &Root, container: &ContainerId, list: &'static str) -> Result<String, Page> {
        match self.caller {
            Caller::Executor(own) if own == container => Ok("executor".to_owned()),
            Caller::Executor(_) => Err(forbidden()),
            Caller::Visitor(_) => {
                let rights = self.may(vec![(list, Some(root.user.clone()))]).await?;
                if rights.may(list, Some(&root.user)) { Ok(rights.principal) } else { Err(forbidden()) }
            }
        }
    }

    /// What is to run, and where.
    #[allow(clippy::result_large_err)]
    async fn prepare(
        &self,
        wanted: &Wanted<'_>,
        command: Option<&CommandInfo>,
        container: Option<&ContainerInfo>,
    ) -> Result<(ContainerId, Root, Program), Page> {
        let id = wanted.id;
        let Some(parent) = &id.parent else {
            return Err(bad("this version cannot run standalone containers"));
        };
        let gone = || bad(format!("Parent container {} does not exist", spelled(parent)));
        let (container_id, root) = self.parent(id).await.ok_or_else(gone)?;
        let principal = self.allowed(&root, &container_id, wanted.list).await?;
        let process = root.process.ok_or_else(gone)?;
        let refused = |what: &str| bad(format!("this version cannot run nested containers with {what}"));
        let command = command.ok_or_else(|| refused("the command of an image"))?;
        if !command.uris.is_empty() {
            return Err(refused("URIs"));
        }
        if command.user.as_ref().is_some_and(|user| *user != root.user) {
            return Err(refused("another user than their parent's"));
        }
        let mut terminal = None;
        if let Some(container) = container {
            if container.mesos.as_ref().is_some_and(|mesos| mesos.image.is_some()) || container.docker.is_some() {
                return Err(refused("an image"));
            }
            if !container.volumes.is_empty() {
                return Err(refused("volumes"));
            }
            terminal = container.tty_info.as_ref().map(|tty| tty.window_size.unwrap_or_default());
        }
        let arguments = command_line(command).map_err(bad)?;
        let variables = command.environment.iter().flat_map(|environment| &environment.variables);
        let environment = variables
            .filter(|one| one.r#type() == environment::variable::Type::Value && !one.name.contains(['\0', '=']))
            .map(|one| (one.name.clone(), one.value.clone().unwrap_or_default()));
        let program = arguments.first().map_or("-", String::as_str);
        tracing::info!(
            target: "audit", ?principal, container = %container_id, ?program, call = self.call.r#type().as_str_name(),
            "audit: nested container"
        );
        let small = |number: u32, usual: u16| match u16::try_from(number) {
            Ok(0) => usual,
            Ok(number) => number,
            Err(_) => u16::MAX,
        };
        let program = Program {
            beside: process,
            config: root.config.clone(),
            isolation: root.isolation,
            environment: environment.collect(),
            streams: terminal
                .map_or(Streams::Pipes, |size| Streams::Terminal(small(size.rows, 24), small(size.columns, 80))),
            arguments,
        };
        Ok((container_id, root, program))
    }

    #[allow(clippy::result_large_err)]
    async fn launch(
        &self,
        id: &WireContainerId,
        command: Option<&CommandInfo>,
        container: Option<&ContainerInfo>,
    ) -> Answered {
        let wanted = Wanted { id, list: "launch_nested_containers" };
        let (root_id, root, program) = self.prepare(&wanted, command, container).await?;
        if self.door.nested.get(id).is_some() {
            return Ok(text(StatusCode::ACCEPTED, ""));
        }
        let files = output_files(&root.sandbox, &id.value);
        let files = files.map_err(|error| bad(format!("the sandbox of the container cannot be made: {error}")))?;
        let launched = self.door.nested.launch(id.clone(), root_id, program, Output::Files(Box::new(files)));
        match launched {
            Err(NotLaunched::Already) => Ok(text(StatusCode::ACCEPTED, "")),
            Err(NotLaunched::TooMany) => Err(too_many()),
            Ok(nested) => match nested.started().await {
                State::Failed(reason) => {
                    self.door.nested.remove(id);
                    Err(bad(reason))
                }
                State::Starting | State::Running | State::Ended(_) => Ok(text(StatusCode::OK, "")),
            },
        }
    }

    #[allow(clippy::result_large_err)]
    async fn launch_session(
        &self,
        id: &WireContainerId,
        command: Option<&CommandInfo>,
        container: Option<&ContainerInfo>,
    ) -> Answered {
        let wanted = Wanted { id, list: "launch_nested_container_sessions" };
        let (root_id, _, program) = self.prepare(&wanted, command, container).await?;
        let (sender, pieces) = mpsc::channel(PIECES);
        let launched = self.door.nested.launch(id.clone(), root_id, program, Output::Stream(sender));
        match launched {
            Err(NotLaunched::Already) => {
                Err(text(StatusCode::CONFLICT, format!("Container {} is already running", spelled(id))))
            }
            Err(NotLaunched::TooMany) => Err(too_many()),
            Ok(nested) => match nested.started().await {
                State::Failed(reason) => {
                    self.door.nested.remove(id);
                    Err(bad(reason))
                }
                State::Starting | State::Running | State::Ended(_) => Ok(self.stream(pieces)),
            },
        }
    }

    #[allow(clippy::result_large_err)]
    async fn wait(&self, id: &WireContainerId, kind: Kind) -> Answered {
        let own = ContainerId::from(id.value.as_str());
        let exit = if let Some(nested) = self.door.nested.get(id) {
            let root = self.root(&nested.root).await.ok_or_else(|| not_found(id))?;
            self.allowed(&root, &nested.root, "wait_nested_containers").await?;
            match nested.ended().await {
                State::Ended(ExitStatus::Code(code)) => Some(code << 8),
                State::Ended(ExitStatus::Signal(signal)) => Some(signal),
                State::Failed(_) | State::Starting | State::Running => None,
            }
        } else {
            // A task's own: of those whose end was acknowledged the door keeps the status a while.
            let mut root = self.root(&own).await.ok_or_else(|| not_found(id))?;
            self.allowed(&root, &own, "wait_nested_containers").await?;
            while !root.over {
                tokio::time::sleep(POLL).await;
                root = self.root(&own).await.ok_or_else(|| not_found(id))?;
            }
            root.exit
        };
        let mut answer = messages::answer(kind);
        if kind == Kind::WaitContainer {
            let wait = response::WaitContainer { exit_status: exit, ..response::WaitContainer::default() };
            answer.wait_container = Some(wait);
        } else {
            let wait = response::WaitNestedContainer { exit_status: exit, ..response::WaitNestedContainer::default() };
            answer.wait_nested_container = Some(wait);
        }
        Ok(self.message(&answer))
    }

    #[allow(clippy::result_large_err)]
    async fn kill(&self, id: &WireContainerId, signal: Option<i32>) -> Answered {
        let gone = || {
            let body = format!("Container '{}' cannot be found (or is already killed)", spelled(id));
            text(StatusCode::NOT_FOUND, body)
        };
        let Some(nested) = self.door.nested.get(id) else {
            let own = ContainerId::from(id.value.as_str());
            let root = self.root(&own).await.filter(|root| !root.over).ok_or_else(gone)?;
            self.allowed(&root, &own, "kill_nested_containers").await?;
            return Err(bad("the container of a task ends by its framework's KILL"));
        };
        let root = self.root(&nested.root).await.ok_or_else(gone)?;
        self.allowed(&root, &nested.root, "kill_nested_containers").await?;
        if nested.state().is_over() || !nested.signal(signal.unwrap_or(KILL)).await {
            return Err(gone());
        }
        Ok(text(StatusCode::OK, ""))
    }

    #[allow(clippy::result_large_err)]
    async fn remove(&self, id: &WireContainerId) -> Answered {
        let unknown = || text(StatusCode::INTERNAL_SERVER_ERROR, "Unknown root container");
        let (container, root) = self.parent(id).await.ok_or_else(unknown)?;
        self.allowed(&root, &container, "remove_nested_containers").await?;
        if !self.door.nested.remove(id) {
            return Err(text(StatusCode::INTERNAL_SERVER_ERROR, "Nested container has not terminated yet"));
        }
        Ok(text(StatusCode::OK, ""))
    }

    #[allow(clippy::result_large_err)]
    async fn attach_output(&self, id: &WireContainerId) -> Answered {
        let nested: Option<std::sync::Arc<Nested>> = self.door.nested.get(id);
        let own = ContainerId::from(id.value.as_str());
        let container = nested.as_ref().map_or(&own, |nested| &nested.root);
        let root = self.root(container).await.ok_or_else(|| not_found(id))?;
        self.allowed(&root, container, "attach_containers_output").await?;
        if let Some(nested) = nested {
            return Ok(self.stream(nested.attach()));
        }
        let (sender, pieces) = mpsc::channel(PIECES);
        let door = self.door.clone();
        let sandbox = root.sandbox.clone();
        tokio::spawn(async move {
            let over = || async {
                let container = own.clone();
                let root = door.wish(|reply| Wish::Container { container, reply }).await.flatten();
                root.is_none_or(|root| root.over)
            };
            follow(sandbox, sender, over).await;
        });
        Ok(self.stream(pieces))
    }

    /// Pieces as records, with heartbeats.
    fn stream(&self, pieces: mpsc::Receiver<Piece>) -> Page {
        let kind = self.accept.content_type();
        let heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        let frames = stream::unfold((pieces, heartbeat), move |(mut pieces, mut heartbeat)| async move {
            let io = next(&mut pieces, &mut heartbeat).await?;
            let frame: Result<Frame<Bytes>, std::convert::Infallible> = Ok(Frame::data(record(kind, &io)));
            Some((frame, (pieces, heartbeat)))
        });
        let mut page = Response::new(StreamBody::new(frames).boxed_unsync());
        let own = match self.accept {
            Framing::Stream(_) => "application/recordio",
            Framing::Message(kind) => kind.header(),
        };
        page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(own));
        if matches!(self.accept, Framing::Stream(_)) {
            let name = HeaderName::from_static("message-content-type");
            page.headers_mut().insert(name, HeaderValue::from_static(kind.header()));
        }
        page
    }
}

fn too_many() -> Page {
    text(StatusCode::SERVICE_UNAVAILABLE, "This node has too many nested containers already: remove some\n")
}

async fn next(pieces: &mut mpsc::Receiver<Piece>, heartbeat: &mut Interval) -> Option<ProcessIo> {
    let data = |kind: data::Type, bytes: Vec<u8>| ProcessIo {
        r#type: Some(process_io::Type::Data.into()),
        data: Some(Data { r#type: Some(kind.into()), data: Some(bytes) }),
        ..ProcessIo::default()
    };
    tokio::select! {
        piece = pieces.recv() => Some(match piece? {
            Piece::Stdout(bytes) => data(data::Type::Stdout, bytes),
            Piece::Stderr(bytes) => data(data::Type::Stderr, bytes),
        }),
        _ = heartbeat.tick() => {
            let nanoseconds = i64::try_from(HEARTBEAT.as_nanos()).unwrap_or(i64::MAX);
            let interval = Some(DurationInfo { nanoseconds });
            let control = Control {
                r#type: Some(control::Type::Heartbeat.into()),
                heartbeat: Some(control::Heartbeat { interval }),
                ..Control::default()
            };
            Some(ProcessIo {
                r#type: Some(process_io::Type::Control.into()),
                control: Some(control),
                ..ProcessIo::default()
            })
        }
    }
}

/// What a task writes from now on, until it has ended or nobody looks.
async fn follow<F: Future<Output = bool>>(sandbox: PathBuf, out: mpsc::Sender<Piece>, over: impl Fn() -> F) {
    let open = |name: &str| -> Option<(File, u64)> {
        let file = open_beneath(&sandbox, name).ok()?;
        let about = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((file, about.len()))
    };
    let mut files = [open("stdout"), open("stderr")];
    let mut buffer = vec![0; PIECE];
    // Asked before the last look, so that nothing written before the end is missed.
    let mut last = false;
    loop {
        let mut told = false;
        for (number, growing) in files.iter_mut().enumerate() {
            let Some((file, offset)) = growing else { continue };
            let length = file.read_at(&mut buffer, *offset).unwrap_or(0);
            if length == 0 {
                continue;
            }
            *offset += length as u64;
            let bytes = buffer[..length].to_vec();
            let piece = if number == 0 { Piece::Stdout(bytes) } else { Piece::Stderr(bytes) };
            if out.send(piece).await.is_err() {
                return;
            }
            told = true;
        }
        if told {
            continue;
        }
        if last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            () = out.closed() => return,
        }
        last = over().await;
    }
}
