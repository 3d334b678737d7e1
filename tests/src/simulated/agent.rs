//! One simulated agent: a task that registers, answers, pretends, and comes back when its connection breaks.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use api::link::{self, from_agent, from_master};
use api::v1;
use rustls::ClientConfig;
use tokio::sync::{Semaphore, mpsc, watch};

use super::runs::Runs;
use super::standby::{self, Standby, Talk};
use super::{Spec, Standing, words};

/// Between two attempts to connect; a real agent that knows several masters waits as long, at first.
const BACK_OFF: Duration = Duration::from_millis(100);
/// For the master that is to lead next, when the one that led is gone.
const PATIENCE: Duration = Duration::from_secs(8);
/// The sessions with it are opened within it, after five seconds.
const SPREAD_MS: u64 = 55_000;
/// What it has told is always the same; after a change of its resources it is never believed to be known.
const EDITION: u64 = 1;

/// What an agent is told by the test.
pub(super) enum Word {
    Disconnect,
    Reconnect,
    Reboot,
    Resources(Vec<v1::Resource>),
}

/// See the module.
pub(super) struct Agent {
    spec: Spec,
    /// The first is tried next.
    masters: VecDeque<Arc<str>>,
    tls: Arc<ClientConfig>,
    runs: Runs,
    boot: u32,
    id: String,
    report: watch::Sender<Standing>,
    /// With the master that is to lead next.
    standby: Option<Standby>,
    /// When it opens that session, as a real one at its own moment.
    spread: Duration,
    /// In which term the master leads that registered it last.
    term: u64,
    /// How many connect at once: more than the master's kernel queues would be dropped, and their kernel waits for
    /// seconds before it tries again.
    doors: Arc<Semaphore>,
}

/// Why a session ended.
enum End {
    /// Another one is to follow.
    Again,
    /// The test said so.
    Away,
    /// The master does not want it, or the test has ended.
    Over,
}

impl Agent {
    pub(super) fn new(
        spec: Spec,
        master: Arc<str>,
        tls: Arc<ClientConfig>,
        number: u64,
        report: watch::Sender<Standing>,
        doors: Arc<Semaphore>,
    ) -> Self {
        let runs = Runs::new(spec.statuses, number);
        let spread = spec.standby_after.unwrap_or(Duration::from_millis(5_000 + number.wrapping_mul(7919) % SPREAD_MS));
        Self {
            spec,
            masters: VecDeque::from([master]),
            tls,
            runs,
            boot: 1,
            id: String::new(),
            report,
            standby: None,
            spread,
            term: 0,
            doors,
        }
    }

    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Word>) {
        loop {
            let end = match self.session(&mut inbox).await {
                Ok(end) => end,
                Err(_broken) if self.standby.as_ref().is_some_and(Standby::is_open) => {
                    self.await_leader().await;
                    End::Again
                }
                Err(_broken) => {
                    self.standby = None;
                    // Another one may lead; one that said who is first then.
                    self.masters.rotate_left(1);
                    // A real agent backs off, too; a word of the test may wait for so long.
                    tokio::time::sleep(BACK_OFF).await;
                    End::Again
                }
            };
            match end {
                End::Again => {}
                End::Over => return,
                End::Away => {
                    while let Some(word) = inbox.recv().await {
                        let back = matches!(word, Word::Reconnect | Word::Reboot);
                        self.told(word);
                        if back {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// What needs no connection.
    fn told(&mut self, word: Word) {
        match word {
            Word::Disconnect | Word::Reconnect => {}
            Word::Reboot => {
                self.boot += 1;
                // A node that has just booted does not know its id.
                self.id.clear();
                self.runs.clear();
            }
            Word::Resources(resources) => self.spec.resources = resources,
        }
    }

    /// As a real agent it waits a moment for the leader it is prepared for.
    async fn await_leader(&mut self) {
        let Some(standby) = &mut self.standby else { return };
        if tokio::time::timeout(PATIENCE, standby.leads()).await.is_err() {
            self.standby = None;
        }
    }

    async fn session(&mut self, inbox: &mut mpsc::Receiver<Word>) -> Result<End> {
        let (mut door, talk) = match self.standby.take() {
            Some(standby) if standby.is_leading() => {
                let Some(talk) = standby.into_talk() else { bail!("the standby session has ended") };
                talk.outbound.send(word(from_agent::Message::Back(self.back()))).await?;
                (None, talk)
            }
            Some(_) | None => {
                let door = self.doors.clone().acquire_owned().await?;
                let first = from_agent::Message::Register(self.registration());
                (Some(door), Talk::open(&self.masters[0], &self.tls, first).await?)
            }
        };
        let Talk { outbound, mut incoming } = talk;
        let mut out = Vec::new();
        loop {
            let next = self.runs.next();
            let due = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = incoming.message() => {
                    let Some(message) = message?.and_then(|message| message.message) else { bail!("closed") };
                    // Refused or registered.
                    drop(door.take());
                    if let Some(end) = self.heard(message, &mut out)? {
                        return Ok(end);
                    }
                }
                word = inbox.recv() => match word {
                    None => return Ok(End::Over),
                    Some(Word::Disconnect) => return Ok(End::Away),
                    Some(Word::Resources(resources)) => {
                        self.spec.resources = resources;
                        out.push(from_agent::Message::Capacity(self.capacity()));
                    }
                    Some(word @ (Word::Reconnect | Word::Reboot)) => {
                        self.told(word);
                        return Ok(End::Again);
                    }
                },
                () = standby::led(&mut self.standby, self.term) => return Ok(End::Again),
                () = due => self.runs.due(Instant::now(), &mut out),
            }
            for message in out.drain(..) {
                outbound.send(word(message)).await?;
            }
        }
    }

    fn heard(&mut self, message: from_master::Message, out: &mut Vec<from_agent::Message>) -> Result<Option<End>> {
        use from_master::Message;
        let now = Instant::now();
        match message {
            Message::Registered(registered) => {
                self.id = registered.agent_id;
                self.term = registered.term;
                self.report.send_modify(|standing| {
                    standing.id.clone_from(&self.id);
                    standing.registrations += 1;
                    standing.term = registered.term;
                });
                self.runs.repeat_all(now, out);
            }
            Message::Refused(refused) => {
                if refused.retry {
                    let leader: Arc<str> = refused.leader.as_str().into();
                    if !leader.is_empty() {
                        self.masters.retain(|master| *master != leader);
                        self.masters.insert(1.min(self.masters.len()), leader);
                    }
                    bail!("{}", refused.reason);
                }
                self.report.send_modify(|standing| standing.refused = Some(refused.reason));
                return Ok(Some(End::Over));
            }
            Message::RunTask(run) => self.runs.launch(words::launch(run)?, now, out),
            Message::KillTask(kill) => self.runs.kill((kill.framework_id, kill.task_id), now, out),
            Message::Acknowledge(ack) => {
                self.runs.acknowledge(&(ack.framework_id, ack.task_id), &ack.uuid, now, out);
            }
            Message::ShutdownFramework(shutdown) => self.runs.shutdown(&shutdown.framework_id),
            Message::Ping(ping) => out.push(from_agent::Message::Pong(link::Pong { nonce: ping.nonce })),
            Message::ReadFile(read) => out.push(from_agent::Message::FileChunk(link::FileChunk {
                request: read.request,
                data: Vec::new(),
                end: true,
                error: "a simulated agent has no files".to_owned(),
                offset: None,
            })),
            Message::NodeCall(call) => out.push(from_agent::Message::NodeReply(link::NodeReply {
                request: call.request,
                error: "a simulated node has nothing to show".to_owned(),
                ..link::NodeReply::default()
            })),
            Message::RegisterInFull(_) => out.push(from_agent::Message::Register(self.registration())),
            // A simulated agent has no executors.
            Message::RunGroup(_)
            | Message::ExecutorMessage(_)
            | Message::ShutdownExecutor(_)
            | Message::ForgetExecutor(_) => {}
            // It keeps none, and has no network of its own.
            Message::Volumes(_) | Message::Network(_) => {}
            Message::OpenExec(open) => out.push(from_agent::Message::ExecOutput(link::ExecOutput {
                request: open.request,
                word: Some(link::exec_output::Word::Failed("a simulated agent runs nothing".to_owned())),
            })),
            Message::ListFiles(list) => out.push(from_agent::Message::FileList(link::FileList {
                request: list.request,
                error: "a simulated agent has no files".to_owned(),
                ..link::FileList::default()
            })),
            // Nobody has to claim it, it never crashed, and it lives shorter than an authority.
            Message::Unclaimed(_) | Message::CrashTaken(_) | Message::Authorities(_) => {}
            Message::CancelRead(_) | Message::Leading(_) | Message::ExecInput(_) | Message::Verdict(_) => {}
            // Nor has it disks.
            Message::DiskRules(_) | Message::DiskKey(_) => {}
            Message::Masters(masters) => {
                self.stand_by_with(&masters.standby);
                for link in masters.links {
                    if !self.masters.iter().any(|known| **known == *link) {
                        self.masters.push_back(link.into());
                    }
                }
            }
        }
        Ok(None)
    }

    fn stand_by_with(&mut self, master: &str) {
        if self.standby.as_ref().is_some_and(|standby| standby.master() == master) {
            return;
        }
        let (doors, report) = (self.doors.clone(), self.report.clone());
        let wished =
            (!master.is_empty()).then(|| Standby::open(master.into(), self.tls.clone(), doors, report, self.spread));
        self.standby = wished;
    }

    fn back(&self) -> link::Return {
        link::Return {
            protocol: link::PROTOCOL,
            boot_id: format!("{}-{}", self.spec.name, self.boot),
            agent_id: self.id.clone(),
            edition: EDITION,
            tasks: self.runs.digest().to_vec(),
        }
    }

    fn capacity(&self) -> link::Capacity {
        words::capacity(&self.spec.resources, &self.spec.attributes)
    }

    fn registration(&self) -> link::Register {
        self.report.send_modify(|standing| standing.told += 1);
        link::Register {
            protocol: link::PROTOCOL,
            boot_id: format!("{}-{}", self.spec.name, self.boot),
            agent_id: self.id.clone(),
            hostname: self.spec.hostname.clone(),
            address: "127.0.0.1".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: api::v1::OUR_AGENTS.to_wire(),
            kernel: "simulated".to_owned(),
            inventory_json: "{}".to_owned(),
            capacity: Some(self.capacity()),
            tasks: self.runs.reports(),
            edition: EDITION,
            ..link::Register::default()
        }
    }
}

fn word(message: from_agent::Message) -> link::FromAgent {
    link::FromAgent { message: Some(message) }
}
