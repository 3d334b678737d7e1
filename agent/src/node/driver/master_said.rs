//! What the driver does with the master's words.

use std::time::Duration;

use agent_core::agent::{Input, executors};
use agent_core::executor::{Launch, Token};
use agent_core::{launch, registration};
use api::link::{FileList, FromAgent, FromMaster, Pong, from_agent, from_master};
use api::node_api::Method;
use api::v1::{TaskInfo, resources_from_wire};
use api::{ContainerId, FrameworkId, TaskId};

use super::{Driver, DriverError};
use crate::node::events::Event;
use crate::node::file_reader::{self, Reader, Source};
use crate::node::node_api::{Asked, LAST_WORDS, Owner};
use crate::node::volumes::{self, Unnamed};
use crate::node::{network, residents, task_links, wipe};
use crate::uptime;

/// When the memory that starting took is given back.
const SETTLED: Duration = Duration::from_secs(10);
/// Files the master may read at the same time; one more is refused.
const READERS: usize = 64;

impl Driver {
    pub(super) fn master_said(&mut self, message: FromMaster) -> Result<(), DriverError> {
        let Some(message) = message.message else { return Ok(()) };
        match message {
            from_master::Message::Registered(registered) => {
                let agent: api::AgentId = registered.agent_id.into();
                if self.kept.agent.as_ref() != Some(&agent) {
                    self.kept.agent = Some(agent.clone());
                    self.checkpoint.keep(&self.kept)?;
                }
                self.last_reason.clear();
                let name = self.identity.as_ref().map(|identity| identity.node_name.clone()).unwrap_or_default();
                self.init.say(&format!("READY: {name} is registered as {agent}"));
                tracing::info!(%agent, master = %registered.master_id, "registered");
                if let Some(lines) = self.memory_report.take() {
                    tokio::spawn(async move {
                        tokio::time::sleep(SETTLED).await;
                        // Gone only when the process ends.
                        let _ = lines.send(residents::line()).await;
                    });
                }
                let ping_timeout_ms = registered.ping_timeout_ms.max(1_000);
                self.tell_network(network::Word::Found);
                self.registration(registration::Event::Registered { ping_timeout_ms, term: registered.term });
                self.renew_certificate();
                self.supervision.input(Input::Registered { agent });
            }
            from_master::Message::Unclaimed(unclaimed) => {
                self.last_reason.clone_from(&unclaimed.reason);
                let name = self.identity.as_ref().map(|identity| identity.node_name.clone()).unwrap_or_default();
                self.init.say(&format!("UNCLAIMED: {name} waits: {}", unclaimed.reason));
                tracing::info!(reason = unclaimed.reason, "this machine waits to be claimed");
                let ping_timeout_ms = unclaimed.ping_timeout_ms.max(1_000);
                self.tell_network(network::Word::Found);
                self.registration(registration::Event::Unclaimed { ping_timeout_ms });
                self.report_crashes();
            }
            from_master::Message::CrashTaken(taken) => self.crashes.taken(&taken.id),
            from_master::Message::Authorities(authorities) => self.trust(&authorities),
            from_master::Message::Masters(masters) => {
                if let Some(registration) = &mut self.registration {
                    registration.know(&masters.links);
                }
                self.stand_by_with(&masters.standby);
                if self.kept.masters != masters.links {
                    self.kept.masters = masters.links;
                    self.checkpoint.keep(&self.kept)?;
                }
            }
            from_master::Message::Refused(refused) => {
                self.failed(if refused.retry { "not registered yet" } else { "REFUSED" }, &refused.reason);
                self.registration(registration::Event::Refused { reason: refused.reason, retry: refused.retry });
                if let Some(registration) = self.registration.as_mut().filter(|_| !refused.leader.is_empty()) {
                    registration.follow(&refused.leader, registration::REFUSED_WITHIN_MS, uptime::millis());
                }
                self.next_session();
                self.end_session();
            }
            from_master::Message::RegisterInFull(_) => self.register_in_full(),
            // It is ours already, or no leader we believe.
            from_master::Message::Leading(_) => {}
            // The master sends it again to the process that follows.
            from_master::Message::RunTask(_) | from_master::Message::RunGroup(_) if self.must_wait_for_pool() => {}
            from_master::Message::RunTask(run) if !run.executor_container_id.is_empty() => {
                self.execute(vec![run], Launch::Task);
            }
            from_master::Message::RunTask(run) => self.run_task(run),
            from_master::Message::RunGroup(group) => self.execute(group.tasks, Launch::Group),
            from_master::Message::ExecutorMessage(message) => self.of_executor(executors::Input::Message {
                framework: message.framework_id.into(),
                executor: message.executor_id.into(),
                data: message.data,
            }),
            from_master::Message::ShutdownExecutor(shutdown) => self.of_executor(executors::Input::ShutDown {
                framework: shutdown.framework_id.into(),
                executor: shutdown.executor_id.into(),
            }),
            from_master::Message::ForgetExecutor(forget) => {
                self.of_executor(executors::Input::Forget(forget.container_id.into()));
            }
            from_master::Message::KillTask(kill) => self.supervision.input(Input::KillTask {
                framework: kill.framework_id.into(),
                task: kill.task_id.into(),
                grace_ms: kill.grace_ms,
            }),
            from_master::Message::Acknowledge(acknowledge) => self.supervision.input(Input::Acknowledge {
                framework: acknowledge.framework_id.into(),
                task: acknowledge.task_id.into(),
                uuid: acknowledge.uuid,
            }),
            from_master::Message::ShutdownFramework(shutdown) => {
                self.supervision.input(Input::ShutdownFramework { framework: shutdown.framework_id.into() });
            }
            from_master::Message::Ping(ping) => {
                self.registration(registration::Event::Pinged);
                self.answer(from_agent::Message::Pong(Pong { nonce: ping.nonce }));
            }
            from_master::Message::ReadFile(read) => self.read_file(read),
            from_master::Message::NodeCall(call) => self.node_call(call),
            from_master::Message::Volumes(volumes) => self.volumes(volumes),
            from_master::Message::OpenExec(open) => self.open_exec(open),
            from_master::Message::ExecInput(input) => self.execs.word(input),
            from_master::Message::ListFiles(list) => self.list_files(list),
            from_master::Message::Network(said) => self.network_said(&said),
            from_master::Message::DiskRules(rules) => self.disk_rules(&rules),
            from_master::Message::DiskKey(key) => self.disk_key(key),
            from_master::Message::Verdict(verdict) => self.inquiries.answered(verdict),
            from_master::Message::CancelRead(cancel) => {
                if let Some(reader) = self.readers.remove(&cancel.request) {
                    reader.abort();
                }
            }
        }
        Ok(())
    }

    /// The master says which persistent volumes there are. In the order of its words: a task that uses one comes after.
    fn volumes(&mut self, volumes: api::link::Volumes) {
        let Ok(persistent) = resources_from_wire(&volumes.persistent) else {
            tracing::error!("the master sent volumes that cannot be read");
            return;
        };
        self.settings.disks.volumes(&persistent);
        self.look_at_disks_now();
        let unnamed = if volumes.first { Unnamed::SetAside } else { Unnamed::Remove };
        let work_dir = self.settings.work_dir.clone();
        match volumes::keep(&work_dir, &persistent, unnamed) {
            Ok(0) => {}
            Ok(_) => {
                // What fails here the next collection of garbage tries again.
                tokio::task::spawn_blocking(move || volumes::collect(&work_dir, std::time::SystemTime::now()));
            }
            Err(error) => tracing::error!(%error, "persistent volumes cannot be brought up to date"),
        }
    }

    /// Somebody asks what this node sees, or for its end.
    fn node_call(&mut self, call: api::link::NodeCall) {
        let Some(session) = &self.session else { return };
        let out = session.bulk.clone();
        let message = |reply| FromAgent { message: Some(from_agent::Message::NodeReply(reply)) };
        let asked = match Asked::read(call) {
            Ok(asked) => asked,
            Err(refusal) => {
                tracing::warn!(reason = %refusal.error, "the node API refuses a call");
                tokio::spawn(async move { out.send(message(refusal)).await });
                return;
            }
        };
        tracing::info!(method = %asked.method, principal = ?asked.principal, "the node API is asked");
        let running = if asked.method == Method::Containers { self.running() } else { Vec::new() };
        let owner = if self.settings.hosted { Owner::Host } else { Owner::We };
        let (boot_id, events) = (self.settings.boot_id.clone(), self.events.clone());
        let (state, disks) = (self.settings.state.clone(), self.settings.disks.clone());
        tokio::spawn(async move {
            let power = asked.power().filter(|_| owner == Owner::We);
            let wipes = (asked.method == Method::Wipe && owner == Owner::We).then_some(state);
            let board = disks.clone();
            let reply = tokio::task::spawn_blocking(move || asked.answer(&boot_id, owner, &running, &board)).await;
            // Whoever asked sees that there is no answer.
            let Ok(reply) = reply else { return };
            let _ = out.send(message(reply)).await;
            if let Some(state) = wipes {
                let wiped = tokio::task::spawn_blocking(move || {
                    let emptied = crate::node::disks::wipe(&disks);
                    (wipe::wipe(&state), emptied)
                });
                // A thread that ends so has said why.
                let Ok((keys, emptied)) = wiped.await else { return };
                match keys {
                    Ok(files) => tracing::warn!(files, disks = emptied, "this node's keys are wiped"),
                    Err(error) => tracing::error!(%error, "not everything was wiped"),
                }
            }
            if let Some(action) = power {
                tokio::time::sleep(LAST_WORDS).await;
                let _ = events.send(Event::Power(action)).await;
            }
        });
    }

    fn run_task(&mut self, run: api::link::RunTask) {
        match (run.task, run.framework_info) {
            (Some(task), Some(framework_info)) => self.supervision.input(Input::RunTask {
                framework: run.framework_id.into(),
                container: run.container_id.into(),
                task: Box::new(task),
                framework_info: Box::new(framework_info),
                secrets: run.secrets.into_iter().map(|secret| (secret.name, secret.value)).collect(),
            }),
            (None, _) | (_, None) => {
                // The master has read it before: versions that differ too much.
                let container = run.container_id;
                tracing::error!(%container, "the master sent a task that cannot be read");
            }
        }
    }

    fn of_executor(&mut self, input: executors::Input) {
        self.supervision.input(Input::Executor(input));
    }

    /// Tasks for an executor, all of one framework.
    fn execute(&mut self, mut runs: Vec<api::link::RunTask>, launch: Launch) {
        let Some(first) = runs.first() else { return };
        let Some(framework_info) = first.framework_info.clone() else {
            tracing::error!(container = first.container_id, "the master sent a task that cannot be read");
            return;
        };
        let (framework, executor): (FrameworkId, _) =
            (first.framework_id.as_str().into(), first.executor_container_id.as_str().into());
        let secrets = runs.iter_mut().flat_map(|run| std::mem::take(&mut run.secrets));
        let secrets = secrets.map(|secret| (secret.name, secret.value)).collect();
        let tasks: Vec<(ContainerId, TaskInfo)> =
            runs.into_iter().filter_map(|run| Some((run.container_id.into(), run.task?))).collect();
        // 244 bits from the kernel.
        let token = format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
        let token = Token(token);
        let runs: Vec<(ContainerId, TaskId)> =
            tasks.iter().map(|(run, task)| (run.clone(), task.task_id.clone())).collect();
        let run =
            executors::Run { framework: framework.clone(), executor, tasks, launch, framework_info, token, secrets };
        self.of_executor(executors::Input::Run(Box::new(run)));
        for (run, task) in runs {
            self.link_sandbox(&framework, &task, &run);
        }
    }

    fn link_sandbox(&self, framework: &FrameworkId, task: &TaskId, run: &ContainerId) {
        let Some((sandbox, _)) = self.supervision.agent.sandbox(framework, task) else { return };
        let (work_dir, agent) = (self.settings.work_dir.display().to_string(), self.kept.agent.clone());
        let own = launch::sandbox(&work_dir, &agent.unwrap_or_default(), framework, task.as_str(), run);
        if let Err(error) = task_links::link(&own, &sandbox) {
            tracing::warn!(%task, %error, "a task's files cannot be found by its name");
        }
    }

    fn read_file(&mut self, read: api::link::ReadFile) {
        let Some(session) = &self.session else { return };
        let (request, out) = (read.request, session.bulk.clone());
        self.readers.retain(|_, reader| !reader.is_finished());
        let source = Source::of(read.source).filter(|_| self.readers.len() < READERS);
        let reader = match source {
            None => tokio::spawn(file_reader::refuse(request, out)),
            Some(source) => tokio::spawn(
                Reader {
                    request,
                    source,
                    offset: read.offset,
                    length: read.length.unwrap_or(u64::MAX),
                    follow: read.follow,
                    work_dir: self.settings.work_dir.clone(),
                    logs: self.settings.run.logs(),
                    agent: self.kept.agent.clone().unwrap_or_default(),
                    out,
                    events: self.events.clone(),
                }
                .run(),
            ),
        };
        self.readers.insert(request, reader.abort_handle());
    }

    fn open_exec(&mut self, open: api::link::OpenExec) {
        let Some(session) = &self.session else { return };
        self.execs.open(open, &self.supervision, session.bulk.clone(), &self.events);
    }

    fn list_files(&self, list: api::link::ListFiles) {
        let Some(session) = &self.session else { return };
        let (out, work_dir) = (session.bulk.clone(), self.settings.work_dir.clone());
        let agent = self.kept.agent.clone().unwrap_or_default();
        tokio::spawn(async move {
            let request = list.request;
            let listed = tokio::task::spawn_blocking(move || file_reader::list(&work_dir, &agent, list.sandbox)).await;
            let list = match listed {
                Ok(Ok((entries, more))) => FileList { request, entries, more, error: String::new() },
                Ok(Err(error)) => FileList { request, error: error.to_string(), ..FileList::default() },
                // Whoever asked sees that there is no answer.
                Err(_) => return,
            };
            let _ = out.send(FromAgent { message: Some(from_agent::Message::FileList(list)) }).await;
        });
    }

    pub(super) fn answer(&self, message: from_agent::Message) {
        if let Some(session) = &self.session {
            // Full: the master pings again.
            let _ = session.urgent.try_send(FromAgent { message: Some(message) });
        }
    }
}
