//! A master with a log that commits at once, fake agents and fake schedulers; what comes out is
//! kept as short lines.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test file is a crate and uses a part

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::v1::TaskStatus;
use api::v1::scheduler::{Call, Event, event};
use api::{AgentId, FrameworkId, Resources, TaskState};
use master_core::{
    AgentMessage, Command, Config, Input, Master, Now, Output, Registration, ReportedTask, RequestId, Response,
    SessionId, State, StreamId, ToAgent,
};

pub struct Rig {
    pub master: Master,
    pub now: Now,
    /// Everything committed, batch by batch, as bytes: what the log holds.
    pub log: Vec<Vec<u8>>,
    /// By stream, since last taken.
    pub events: BTreeMap<String, Vec<String>>,
    /// Whole statuses, by stream.
    pub statuses: BTreeMap<String, Vec<TaskStatus>>,
    /// By session, since last taken.
    pub messages: BTreeMap<u64, Vec<ToAgent>>,
    pub responses: BTreeMap<u64, Response>,
    pub closed_streams: BTreeSet<String>,
    pub closed_sessions: BTreeSet<u64>,
    /// When set, proposals wait for [`Rig::commit`].
    pub hold: bool,
    pub held: Vec<Command>,
    pub next_request: u64,
}

pub fn config() -> Config {
    Config { master_id: "m".into(), ..Config::default() }
}

impl Default for Rig {
    fn default() -> Self {
        let mut rig = Self::follower(State::default(), 1_000_000_000);
        rig.input(Input::Leading(true));
        rig
    }
}

impl Rig {
    pub fn leading(config: Config) -> Self {
        let mut rig =
            Self { master: Master::new(config, State::default()), ..Self::follower(State::default(), 1_000_000_000) };
        rig.input(Input::Leading(true));
        rig
    }

    pub fn follower(state: State, unix_ms: u64) -> Self {
        Self {
            master: Master::new(config(), state),
            now: Now { monotonic: Duration::ZERO, unix_ms },
            log: Vec::new(),
            events: BTreeMap::new(),
            statuses: BTreeMap::new(),
            messages: BTreeMap::new(),
            responses: BTreeMap::new(),
            closed_streams: BTreeSet::new(),
            closed_sessions: BTreeSet::new(),
            hold: false,
            held: Vec::new(),
            next_request: 0,
        }
    }

    /// The master process dies and another one takes over from the log.
    pub fn failover(self) -> Self {
        let snapshot = self.master.state().to_snapshot();
        let mut rig = Self::follower(State::from_snapshot(&snapshot).unwrap(), self.now.unix_ms);
        rig.log = self.log;
        rig.input(Input::Leading(true));
        rig
    }

    pub fn input(&mut self, input: Input) {
        let outputs = self.master.handle(input, self.now);
        for output in outputs {
            match output {
                Output::Propose(commands) if self.hold => self.held.extend(commands),
                Output::Propose(commands) => self.commit_now(&commands),
                Output::Respond { request, response } => {
                    assert!(self.responses.insert(request.0, response).is_none(), "one answer to a request");
                }
                Output::Event { stream, event } => {
                    if let Some(status) = event.update.as_ref().map(|update| &update.status) {
                        self.statuses.entry(stream.0.clone()).or_default().push(status.clone());
                    }
                    self.events.entry(stream.0).or_default().push(describe(&event));
                }
                Output::CloseStream(stream) => {
                    self.closed_streams.insert(stream.0);
                }
                Output::ToAgent { session, message } => self.messages.entry(session.0).or_default().push(message),
                Output::CloseSession(session) => {
                    self.closed_sessions.insert(session.0);
                }
            }
        }
    }

    fn commit_now(&mut self, commands: &[Command]) {
        let bytes = Command::encode_batch(commands);
        let commands = Command::decode_batch(&bytes).unwrap();
        self.log.push(bytes);
        self.input(Input::Committed(commands));
    }

    pub fn commit(&mut self) {
        self.hold = false;
        let commands = std::mem::take(&mut self.held);
        self.commit_now(&commands);
    }

    /// Time passes, tick by tick.
    pub fn wait(&mut self, milliseconds: u64) {
        let end = self.now.monotonic + Duration::from_millis(milliseconds);
        while let Some(due) = self.master.next_deadline().filter(|due| *due <= end) {
            self.pass(due.max(self.now.monotonic));
            self.input(Input::Tick);
        }
        self.pass(end);
    }

    fn pass(&mut self, to: Duration) {
        self.now.unix_ms += u64::try_from((to - self.now.monotonic).as_millis()).unwrap();
        self.now.monotonic = to;
    }

    // ---- schedulers

    pub fn call(&mut self, stream: &str, json: serde_json::Value) -> Option<Response> {
        self.next_request += 1;
        let call: Call = serde_json::from_value(json).unwrap();
        let stream = (!stream.is_empty()).then(|| StreamId(stream.to_owned()));
        self.input(Input::Call {
            request: RequestId(self.next_request),
            stream,
            principal: None,
            call: Box::new(call),
        });
        self.responses.get(&self.next_request).cloned()
    }

    pub fn subscribe_with(&mut self, stream: &str, info: serde_json::Value) -> Option<Response> {
        let mut call = serde_json::json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
        if let Some(id) = call.pointer("/subscribe/framework_info/id").cloned() {
            call["framework_id"] = id;
        }
        self.call(stream, call)
    }

    pub fn subscribe(&mut self, stream: &str) -> Option<Response> {
        self.subscribe_with(stream, serde_json::json!({"user": "root", "name": stream, "failover_timeout": 100.0}))
    }

    pub fn again(&mut self, stream: &str, framework: &str) -> Option<Response> {
        let info =
            serde_json::json!({"user": "root", "name": stream, "id": {"value": framework}, "failover_timeout": 100.0});
        self.subscribe_with(stream, info)
    }

    pub fn simple(&mut self, stream: &str, framework: &str, kind: &str) -> Option<Response> {
        self.call(stream, serde_json::json!({"framework_id": {"value": framework}, "type": kind}))
    }

    pub fn decline(&mut self, stream: &str, framework: &str, offer: &str, seconds: f64) {
        let answer = self.call(
            stream,
            serde_json::json!({"framework_id": {"value": framework}, "type": "DECLINE",
                "decline": {"offer_ids": [{"value": offer}], "filters": {"refuse_seconds": seconds}}}),
        );
        assert_eq!(answer, Some(Response::Accepted));
    }

    pub fn accept(&mut self, stream: &str, framework: &str, offers: &[&str], tasks: &[serde_json::Value]) {
        let offers: Vec<_> = offers.iter().map(|offer| serde_json::json!({"value": offer})).collect();
        let answer = self.call(
            stream,
            serde_json::json!({"framework_id": {"value": framework}, "type": "ACCEPT", "accept": {"offer_ids": offers,
                "operations": [{"type": "LAUNCH", "launch": {"task_infos": tasks}}]}}),
        );
        assert_eq!(answer, Some(Response::Accepted));
    }

    pub fn kill(&mut self, stream: &str, framework: &str, task: &str) {
        let answer = self.call(
            stream,
            serde_json::json!({"framework_id": {"value": framework}, "type": "KILL", "kill": {"task_id": {"value": task},
                "kill_policy": {"grace_period": {"nanoseconds": 3_000_000_000_u64}}}}),
        );
        assert_eq!(answer, Some(Response::Accepted));
    }

    pub fn acknowledge(&mut self, stream: &str, framework: &str, agent: &str, task: &str, uuid: u8) {
        let answer = self.call(
            stream,
            serde_json::json!({"framework_id": {"value": framework}, "type": "ACKNOWLEDGE", "acknowledge": {
                "agent_id": {"value": agent}, "task_id": {"value": task}, "uuid": uuid_text(uuid)}}),
        );
        assert_eq!(answer, Some(Response::Accepted));
    }

    /// What a stream got since last asked, without heartbeats.
    pub fn take(&mut self, stream: &str) -> Vec<String> {
        let events = self.events.remove(stream).unwrap_or_default();
        events.into_iter().filter(|event| event != "HEARTBEAT").collect()
    }

    pub fn task(&self, framework: &str, task: &str) -> Option<&master_core::state::Task> {
        self.master.state().task(&framework.into(), &task.into())
    }

    // ---- agents

    pub fn register(&mut self, session: u64, registration: Registration) {
        self.input(Input::AgentRegisters { session: SessionId(session), registration: Box::new(registration) });
    }

    /// A new agent with that node name, of boot `b1`.
    pub fn agent(&mut self, session: u64, node: &str, resources: &str) {
        self.register(session, registration(node, "b1", resources));
    }

    pub fn update(&mut self, session: u64, framework: &str, task: &str, state: TaskState, uuid: u8) {
        let mut status = TaskStatus::new(task.into(), state);
        status.uuid = Some(uuid_bytes(uuid));
        let message = AgentMessage::Update { framework: framework.into(), status: Box::new(status), latest: state };
        self.input(Input::FromAgent { session: SessionId(session), message });
    }

    /// What a session was sent since last asked, without pings, as short lines.
    pub fn sent(&mut self, session: u64) -> Vec<String> {
        let messages = self.messages.remove(&session).unwrap_or_default();
        // Only with a session's beginning is it no news that there are no rules.
        let begins = messages.iter().any(|message| matches!(message, ToAgent::Registered { .. }));
        let nothing = |message: &&ToAgent| {
            matches!(message, ToAgent::Ping { .. })
                || matches!(message, ToAgent::Volumes { persistent, .. } if persistent.is_empty())
                || matches!(message, ToAgent::Network { json, .. } if json.is_empty())
                || (begins && matches!(message, ToAgent::DiskRules { rules } if rules.is_empty()))
        };
        messages.iter().filter(|message| !nothing(message)).map(describe_message).collect()
    }

    pub fn pings(&self, session: u64) -> Vec<u64> {
        let messages = self.messages.get(&session).map(Vec::as_slice).unwrap_or_default();
        messages
            .iter()
            .filter_map(|message| if let ToAgent::Ping { nonce } = message { Some(*nonce) } else { None })
            .collect()
    }

    pub fn pong(&mut self, session: u64) {
        let nonce = self.pings(session).last().copied().unwrap_or_default();
        self.input(Input::FromAgent { session: SessionId(session), message: AgentMessage::Pong { nonce } });
    }

    /// An agent, a framework `f` (id m-0000), and `task` running on agent m-S0.
    pub fn running(task: &str) -> Self {
        let mut rig = Self::default();
        rig.agent(1, "node-1", "cpus:4;mem:1024");
        rig.subscribe("f");
        rig.accept("f", "m-0000", &["m-O0"], &[task_info(task, "m-S0", 1.0, 100.0)]);
        rig.update(1, "m-0000", task, TaskState::Running, 1);
        rig.acknowledge("f", "m-0000", "m-S0", task, 1);
        rig.take("f");
        rig.sent(1);
        rig
    }

    /// As the agent that runs what the state says would report it.
    pub fn report(&self, framework: &str, task: &str, state: TaskState) -> ReportedTask {
        let container = self.task(framework, task).map(|task| task.container.clone()).unwrap_or_default();
        ReportedTask { framework: framework.into(), task: task.into(), container, state }
    }
}

pub fn registration(node: &str, boot: &str, resources: &str) -> Registration {
    Registration {
        node: node.into(),
        boot_id: boot.to_owned(),
        agent: None,
        hostname: format!("{node}.example"),
        address: "10.0.0.1".to_owned(),
        version: "0.1.0".to_owned(),
        capabilities: api::v1::OUR_AGENTS,
        kernel: "6.1".to_owned(),
        resources: Resources::parse(resources).unwrap(),
        attributes: api::Attribute::parse_list("rack:r1").unwrap(),
        facts: Vec::new(),
        inventory_json: "{}".to_owned(),
        tasks: Vec::new(),
        edition: 7,
        executors: Vec::new(),
    }
}

pub fn task_info(id: &str, agent: &str, cpus: f64, mem: f64) -> serde_json::Value {
    serde_json::json!({"name": id, "task_id": {"value": id}, "agent_id": {"value": agent}, "command": {"value": "true"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
                      {"name": "mem", "type": "SCALAR", "scalar": {"value": mem}}]})
}

/// Base64 of 16 times the byte.
/// A version 4 UUID of one byte, wherever the version leaves room for it.
pub fn uuid_bytes(byte: u8) -> Vec<u8> {
    let mut bytes = vec![byte; 16];
    bytes[6] = 0x40;
    bytes
}

pub fn uuid_text(byte: u8) -> String {
    let status = TaskStatus { uuid: Some(uuid_bytes(byte)), ..TaskStatus::default() };
    serde_json::to_value(status).unwrap()["uuid"].as_str().unwrap().to_owned()
}

pub fn describe(event: &Event) -> String {
    match event.r#type() {
        event::Type::Subscribed => format!("SUBSCRIBED {}", event.subscribed.as_ref().unwrap().framework_id),
        event::Type::Offers => {
            let offers = event.offers.as_ref().unwrap().offers.iter().map(|offer| {
                let resources = api::v1::resources_from_wire(&offer.resources).unwrap();
                format!("{} {} {resources}", offer.id, offer.agent_id)
            });
            format!("OFFERS {}", offers.collect::<Vec<_>>().join(" | "))
        }
        event::Type::Rescind => format!("RESCIND {}", event.rescind.as_ref().unwrap().offer_id),
        event::Type::Update => {
            let status = &event.update.as_ref().unwrap().status;
            let reason = status.given_reason().map(|reason| format!(" {}", reason.as_str_name())).unwrap_or_default();
            let uuid = if status.uuid.is_some() { " uuid" } else { "" };
            format!("UPDATE {} {}{reason}{uuid}", status.task_id, status.state().name())
        }
        event::Type::UpdateOperationStatus => {
            let status = &event.update_operation_status.as_ref().unwrap().status;
            let id = status.operation_id.as_ref().unwrap();
            let agent = status.agent_id.as_ref().map(|agent| format!(" {agent}")).unwrap_or_default();
            let uuid = if status.uuid.is_some() { " uuid" } else { "" };
            format!("UPDATE_OPERATION_STATUS {id} {}{agent}{uuid}", status.state().as_str_name())
        }
        event::Type::InverseOffers => {
            let offers = event.inverse_offers.as_ref().unwrap().inverse_offers.iter();
            let offers = offers.map(|offer| format!("{} {}", offer.id, offer.agent_id.as_ref().unwrap()));
            format!("INVERSE_OFFERS {}", offers.collect::<Vec<_>>().join(" | "))
        }
        event::Type::Failure => format!("FAILURE {}", event.failure.as_ref().unwrap().agent_id.as_ref().unwrap()),
        event::Type::Error => format!("ERROR {}", event.error.as_ref().unwrap().message),
        other @ (event::Type::Unknown
        | event::Type::RescindInverseOffer
        | event::Type::Message
        | event::Type::Heartbeat) => other.as_str_name().to_owned(),
    }
}

pub fn describe_message(message: &ToAgent) -> String {
    match message {
        ToAgent::Registered { agent } => format!("registered {agent}"),
        ToAgent::RegisterInFull => "register in full".to_owned(),
        ToAgent::Refused { reason, retry } => format!("refused retry={retry} {reason}"),
        ToAgent::RunTask { framework, task, executor: None, .. } => format!("run {framework} {}", task.task_id),
        ToAgent::RunTask { framework, task, executor: Some(_), .. } => format!("execute {framework} {}", task.task_id),
        ToAgent::RunGroup { framework, tasks, .. } => {
            let ids: Vec<&str> = tasks.iter().map(|(_, task)| task.task_id.as_str()).collect();
            format!("run group {framework} {}", ids.join(" "))
        }
        ToAgent::ExecutorMessage { framework, executor, data } => {
            format!("say {framework} {executor} {}", String::from_utf8_lossy(data))
        }
        ToAgent::ShutdownExecutor { framework, executor } => format!("shutdown {framework} {executor}"),
        ToAgent::ForgetExecutor { framework, .. } => format!("forget {framework}"),
        ToAgent::KillTask { framework, task, grace_ms } => format!("kill {framework} {task} {grace_ms:?}"),
        ToAgent::Acknowledge { framework, task, uuid } => format!("ack {framework} {task} {}", uuid[0]),
        ToAgent::ShutdownFramework { framework } => format!("shutdown {framework}"),
        ToAgent::Network { json, rule } => format!("network {rule} {json}"),
        ToAgent::Volumes { persistent, first } => format!("volumes first={first} {persistent}"),
        ToAgent::DiskRules { rules } => {
            format!("disks {:?}", rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>())
        }
        ToAgent::Ping { nonce } => format!("ping {nonce}"),
    }
}

pub fn refused(status: u16, text: &str) -> Option<Response> {
    Some(Response::Refused { status, text: text.to_owned() })
}

pub fn ids(framework: &str, agent: &str) -> (FrameworkId, AgentId) {
    (framework.into(), agent.into())
}
