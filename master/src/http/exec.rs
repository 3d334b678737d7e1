//! Programs beside a task, for people: HTTP is left for a stream of words, which are passed on to the node and back, never
//! more at a time than whoever is to take them has room for.

use std::collections::VecDeque;
use std::time::Duration;

use api::exec::{Decoder, Ended, Open, PIECE, UPGRADE, WINDOW, Word, cost};
use api::link::{ExecInput, OpenExec, Variable, WindowSize, exec_end, exec_input, exec_output};
use api::{FrameworkId, TaskId};
use axum::body::Body;
use axum::extract::{Extension, Path, Request, State};
use axum::response::Response;
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE as UPGRADE_HEADER};
use hyper_util::rt::TokioIo;
use master_core::acl::Action;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::auth::{Approvers, forbidden};
use super::files::{Owner, run_of};
use super::router::Api;
use super::{overloaded, text};
use crate::agents::beside::{Exec, WORDS_CAPACITY};
use crate::agents::{SessionCommand, SessionHandle, next_read};
use crate::driver::{AgentName, Message};

/// For the upgrade and the first word.
const BEGIN: Duration = Duration::from_secs(15);
/// A client that takes nothing for so long has gone.
const WRITE: Duration = Duration::from_secs(120);

/// `POST /mesolith/v1/tasks/FRAMEWORK/TASK/exec` with `Upgrade: mesolith-exec`.
pub(super) async fn exec(
    State(api): State<Api>,
    Extension(approvers): Extension<Approvers>,
    Path((framework, task)): Path<(String, String)>,
    mut request: Request,
) -> Response {
    let wanted = request.headers().get(UPGRADE_HEADER).and_then(|value| value.to_str().ok());
    if wanted != Some(UPGRADE) {
        return text(StatusCode::UPGRADE_REQUIRED, format!("This takes `Upgrade: {UPGRADE}`\n"));
    }
    let (framework, task) = (FrameworkId::from(framework), TaskId::from(task));
    let view = match api.driver.ask(Message::View).await {
        Ok(view) => view,
        Err(error) => return overloaded(error),
    };
    let Some((agent, owner)) = run_of(&view, &framework, &task) else {
        return text(StatusCode::NOT_FOUND, format!("No task '{task}' of framework {framework} is known\n"));
    };
    if !may(&approvers, &owner, Action::LaunchNestedContainerSession)
        && !may(&approvers, &owner, Action::AttachContainerOutput)
    {
        audit(&approvers, &framework, &task, "-", "refused");
        return forbidden();
    }
    let session = match api.driver.ask(|reply| Message::FindAgent { agent: AgentName::Id(agent), reply }).await {
        Ok(Some(session)) => session,
        Ok(None) => {
            return text(StatusCode::SERVICE_UNAVAILABLE, "The node is not connected to the master now: try again\n");
        }
        Err(error) => return overloaded(error),
    };
    let upgrade = hyper::upgrade::on(&mut request);
    let conversation = Conversation { session, approvers, owner, framework, task };
    tokio::spawn(async move {
        match tokio::time::timeout(BEGIN, upgrade).await {
            Ok(Ok(upgraded)) => conversation.run(TokioIo::new(upgraded)).await,
            Ok(Err(error)) => tracing::debug!(%error, "a client did not go on after its upgrade"),
            Err(_) => {}
        }
    });
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(UPGRADE_HEADER, HeaderValue::from_static(UPGRADE));
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

fn may(approvers: &Approvers, owner: &Owner, action: Action) -> bool {
    approvers.can_enter(action, owner.own_user.as_deref(), &owner.framework_user)
}

/// Who went beside which task with what, and what came of it. Arguments may hold secrets: only the program is named.
fn audit(approvers: &Approvers, framework: &FrameworkId, task: &TaskId, program: &str, outcome: &str) {
    let principal = approvers.principal().unwrap_or("-");
    tracing::info!(target: "audit", ?principal, %framework, ?task, ?program, outcome, "audit: exec");
}

/// A client that has left HTTP.
struct Conversation {
    session: SessionHandle,
    approvers: Approvers,
    owner: Owner,
    framework: FrameworkId,
    task: TaskId,
}

type Stream = TokioIo<hyper::upgrade::Upgraded>;

/// The client has gone, or speaks wrongly.
struct Gone;

impl Conversation {
    async fn run(self, mut stream: Stream) {
        let mut decoder = Decoder::default();
        let opened = tokio::time::timeout(BEGIN, read_word(&mut stream, &mut decoder)).await;
        let Ok(Ok(Word::Open(open))) = opened else { return };
        let program = open.arguments.first().map_or("-", String::as_str).to_owned();
        let program: String = program.chars().take(256).collect();
        let action = match open.arguments.is_empty() {
            true => Action::AttachContainerOutput,
            false => Action::LaunchNestedContainerSession,
        };
        if !may(&self.approvers, &self.owner, action) {
            audit(&self.approvers, &self.framework, &self.task, &program, "refused");
            let reason = "this takes an operator, or a rule in the ACLs".to_owned();
            drop(write(&mut stream, &Word::Failed(reason)).await);
            return;
        }
        audit(&self.approvers, &self.framework, &self.task, &program, "begins");
        let request = next_read();
        let outcome = self.relay(&mut stream, decoder, request, open).await;
        if outcome.is_err() {
            let close = ExecInput { request, word: Some(exec_input::Word::Close(true)) };
            // A node that is gone has ended it.
            drop(self.session.commands.send(SessionCommand::ExecInput(close)).await);
        }
        let outcome = if outcome.is_ok() { "ended" } else { "left" };
        audit(&self.approvers, &self.framework, &self.task, &program, outcome);
        drop(tokio::time::timeout(BEGIN, stream.shutdown()).await);
    }

    async fn relay(&self, stream: &mut Stream, mut decoder: Decoder, request: u64, open: Open) -> Result<(), Gone> {
        let (sender, mut words) = mpsc::channel(WORDS_CAPACITY);
        let window = |(rows, columns): (u16, u16)| WindowSize { rows: rows.into(), columns: columns.into() };
        let open = OpenExec {
            request,
            framework_id: self.framework.to_string(),
            task_id: self.task.to_string(),
            principal: self.approvers.principal().unwrap_or_default().to_owned(),
            arguments: open.arguments,
            environment: open.environment.into_iter().map(|(name, value)| Variable { name, value }).collect(),
            terminal: open.terminal.map(window),
        };
        let command = SessionCommand::OpenExec(Box::new(Exec { open, words: sender }));
        if self.session.commands.send(command).await.is_err() {
            return write(stream, &Word::Failed("the node's connection was lost".to_owned())).await;
        }
        let mut credit = WINDOW;
        let mut waiting: VecDeque<Vec<u8>> = VecDeque::new();
        loop {
            while let Some(piece) = waiting.front().filter(|piece| cost(piece.len()) <= credit) {
                credit -= cost(piece.len());
                let piece = piece.clone();
                waiting.pop_front();
                self.tell(request, exec_input::Word::Data(piece)).await?;
            }
            if waiting.is_empty() {
                while let Some(word) = decoder.pop().map_err(|_| Gone)? {
                    self.client_said(request, word, &mut waiting).await?;
                    if !waiting.is_empty() {
                        break;
                    }
                }
                if !waiting.is_empty() {
                    continue;
                }
            }
            let mut buffer = [0; 16 << 10];
            tokio::select! {
                read = stream.read(&mut buffer), if waiting.is_empty() => match read {
                    Ok(length) if length > 0 => decoder.push(&buffer[..length]),
                    Ok(_) | Err(_) => return Err(Gone),
                },
                word = words.recv() => {
                    let Some(word) = word else {
                        return write(stream, &Word::Failed("the node's connection was lost".to_owned())).await;
                    };
                    let (word, paid) = match word {
                        exec_output::Word::Credit(more) => {
                            credit = credit.saturating_add(more).min(WINDOW);
                            continue;
                        }
                        exec_output::Word::Started(_) => (Word::Started, 0),
                        exec_output::Word::Stdout(data) => { let paid = cost(data.len()); (Word::Stdout(data), paid) }
                        exec_output::Word::Stderr(data) => { let paid = cost(data.len()); (Word::Stderr(data), paid) }
                        exec_output::Word::End(end) => return write(stream, &Word::Ended(read_end(end.how))).await,
                        exec_output::Word::Failed(reason) => return write(stream, &Word::Failed(reason)).await,
                    };
                    write(stream, &word).await?;
                    if paid > 0 {
                        self.tell(request, exec_input::Word::Credit(paid)).await?;
                    }
                }
            }
        }
    }

    async fn client_said(&self, request: u64, word: Word, waiting: &mut VecDeque<Vec<u8>>) -> Result<(), Gone> {
        let word = match word {
            Word::Data(data) => {
                waiting.extend(data.chunks(PIECE).map(<[u8]>::to_vec));
                return Ok(());
            }
            Word::End => exec_input::Word::End(true),
            Word::Size(rows, columns) => {
                exec_input::Word::Size(WindowSize { rows: rows.into(), columns: columns.into() })
            }
            Word::Signal(signal) => exec_input::Word::Signal(signal.into()),
            // Not a client's words.
            Word::Open(_) | Word::Started | Word::Stdout(_) | Word::Stderr(_) | Word::Ended(_) | Word::Failed(_) => {
                return Err(Gone);
            }
        };
        self.tell(request, word).await
    }

    /// To the node. Waits while it has much to do; when it is gone the end of its words says so.
    async fn tell(&self, request: u64, word: exec_input::Word) -> Result<(), Gone> {
        let input = SessionCommand::ExecInput(ExecInput { request, word: Some(word) });
        self.session.commands.send(input).await.map_err(|_| Gone)
    }
}

fn read_end(how: Option<exec_end::How>) -> Ended {
    match how {
        Some(exec_end::How::Code(code)) => Ended::Code(code),
        Some(exec_end::How::Signal(signal)) => Ended::Signal(signal),
        None => Ended::Code(-1),
    }
}

async fn read_word(stream: &mut Stream, decoder: &mut Decoder) -> Result<Word, Gone> {
    let mut buffer = [0; 16 << 10];
    loop {
        if let Some(word) = decoder.pop().map_err(|_| Gone)? {
            return Ok(word);
        }
        let length = stream.read(&mut buffer).await.map_err(|_| Gone)?;
        if length == 0 {
            return Err(Gone);
        }
        decoder.push(&buffer[..length]);
    }
}

async fn write(stream: &mut Stream, word: &Word) -> Result<(), Gone> {
    let writing = async {
        stream.write_all(&word.encode()).await?;
        stream.flush().await
    };
    match tokio::time::timeout(WRITE, writing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Gone),
    }
}
