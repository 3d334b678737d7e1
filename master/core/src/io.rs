//! What goes into the [`Master`](crate::Master) and what comes out: the whole boundary between
//! decisions and effects.

pub mod operator;

use std::sync::Arc;
use std::time::Duration;

use api::disks::NamedRule;
use api::v1::scheduler::{Call, Event};
use api::v1::{AgentCapabilities, ExecutorInfo};
use api::{AgentId, Attribute, ContainerId, ExecutorId, Fact, FrameworkId, NodeName, Resources, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use crate::command::Command;

/// The time, given with every input.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Now {
    /// Since the process started: never steps back. Deadlines are kept in it.
    pub monotonic: Duration,
    /// Milliseconds since 1970: for timestamps people and frameworks read.
    pub unix_ms: u64,
}

/// One HTTP exchange waiting for its answer.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RequestId(pub u64);

/// One subscribed event stream; `Mesos-Stream-Id` is its UUID, made by the shell.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub String);

/// One agent connection.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SessionId(pub u64);

/// What happens to a master.
#[derive(Clone, Debug)]
pub enum Input {
    /// Commands the log has committed, in log order. Arrives on followers too, and at start for
    /// everything since the snapshot.
    Committed(Vec<Command>),
    /// We lead from now on (`true`) or no longer do.
    Leading(bool),
    /// A scheduler call whose body was read. SUBSCRIBE too; then `stream` is the new stream's id,
    /// otherwise it is the `Mesos-Stream-Id` header, if there was one.
    Call {
        /// Answered by [`Output::Respond`].
        request: RequestId,
        /// See above.
        stream: Option<StreamId>,
        /// Who calls, if they had to say. A SUBSCRIBE says it in its `FrameworkInfo`.
        principal: Option<String>,
        /// What was asked.
        call: Box<Call>,
    },
    /// The scheduler closed its stream, or was too slow and was cut off.
    StreamClosed(StreamId),
    /// An agent with a valid certificate registers.
    AgentRegisters {
        /// The new connection.
        session: SessionId,
        /// What it says of itself.
        registration: Box<Registration>,
    },
    /// An agent with a valid certificate comes back to what the log knows of it.
    AgentReturns {
        /// The new connection.
        session: SessionId,
        /// What it says in place of a registration.
        back: Box<Return>,
    },
    /// Anything else an agent says.
    FromAgent {
        /// Which connection.
        session: SessionId,
        /// What.
        message: AgentMessage,
    },
    /// The connection is gone.
    AgentDisconnected(SessionId),
    /// An operator removes a framework (`/teardown`).
    Teardown {
        /// Answered by [`Output::Respond`].
        request: RequestId,
        /// Which.
        framework: FrameworkId,
    },
    /// An operator writes.
    Operator {
        /// Answered by [`Output::Respond`] once committed.
        request: RequestId,
        /// What.
        write: Box<operator::OperatorWrite>,
    },
    /// Time passed: [`Master::next_deadline`](crate::Master::next_deadline) is due.
    Tick,
}

/// A node as its agent describes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registration {
    /// From its certificate: the node's name, stable over reboots.
    pub node: NodeName,
    /// Different after a reboot.
    pub boot_id: String,
    /// The id this boot was given, if any.
    pub agent: Option<AgentId>,
    /// What frameworks reach the node by.
    pub hostname: String,
    /// IP address.
    pub address: String,
    /// Version of the agent.
    pub version: String,
    /// What it can do.
    #[serde(default)]
    pub capabilities: AgentCapabilities,
    /// Kernel release.
    pub kernel: String,
    /// What it offers.
    pub resources: Resources,
    /// What the operator typed for constraints to match on.
    pub attributes: Vec<Attribute>,
    /// What is known of it with where it is from, apart from `attributes`, which were typed.
    #[serde(default)]
    pub facts: Vec<Fact>,
    /// `hwdetect::Inventory` as JSON, kept as text.
    pub inventory_json: String,
    /// Tasks it knows: running, or ended with updates not yet acknowledged.
    pub tasks: Vec<ReportedTask>,
    /// The agent's name for what it has told of the machine with this; 0 for none.
    #[serde(default)]
    pub edition: u64,
    /// Executors it knows: running, or ended without our knowledge.
    #[serde(default)]
    pub executors: Vec<ReportedExecutor>,
}

impl Registration {
    /// Every framework it has tasks or executors of.
    #[must_use]
    pub fn frameworks(&self) -> Vec<FrameworkId> {
        let of_tasks = self.tasks.iter().map(|task| &task.framework);
        let of_executors = self.executors.iter().map(|executor| &executor.framework);
        let all: std::collections::BTreeSet<_> = of_tasks.chain(of_executors).cloned().collect();
        all.into_iter().collect()
    }
}

/// An executor an agent reports when it registers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportedExecutor {
    /// Whose.
    pub framework: FrameworkId,
    /// Which run.
    pub container: ContainerId,
    /// As the framework described it.
    pub info: Box<ExecutorInfo>,
}

/// What an agent says that has registered before, with whichever master: if the log knows the same, that is all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Return {
    /// From its certificate.
    pub node: NodeName,
    /// Of this boot.
    pub boot_id: String,
    /// The id this boot was given.
    pub agent: AgentId,
    /// Of the last registration or change of capacity.
    pub edition: u64,
    /// Of the tasks it knows: [`api::tasks_digest`].
    pub tasks: [u8; 32],
}

/// A task an agent reports when it registers.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct ReportedTask {
    /// Whose.
    pub framework: FrameworkId,
    /// Which.
    pub task: TaskId,
    /// Which run of it.
    pub container: ContainerId,
    /// As the agent last knew it.
    pub state: TaskState,
}

/// What a registered agent says.
#[derive(Clone, Debug, PartialEq)]
pub enum AgentMessage {
    /// A status, repeated until acknowledged.
    Update {
        /// Whose task.
        framework: FrameworkId,
        /// With uuid.
        status: Box<api::v1::TaskStatus>,
        /// May be ahead of `status`.
        latest: TaskState,
    },
    /// Its resources, or what is known of it, changed.
    Capacity {
        /// All of them.
        resources: Resources,
        /// All that were typed.
        attributes: Vec<Attribute>,
        /// All of them.
        facts: Vec<Fact>,
        /// None: as before.
        inventory_json: Option<String>,
        /// As of a registration.
        edition: u64,
    },
    /// An executor says something to its framework.
    ExecutorMessage {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
        /// What.
        data: Vec<u8>,
    },
    /// An executor is no more; repeated until it is forgotten.
    ExecutorEnded {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
        /// Which run.
        container: ContainerId,
        /// As waitpid gives it.
        status: i32,
    },
    /// The answer to a ping.
    Pong {
        /// The ping's.
        nonce: u64,
    },
}

/// What the shell has to do.
#[derive(Clone, Debug)]
pub enum Output {
    /// Append to the log. The driver joins what has gathered into one entry.
    Propose(Vec<Command>),
    /// Answer an HTTP exchange.
    Respond {
        /// Which.
        request: RequestId,
        /// How.
        response: Response,
    },
    /// Send to a scheduler. A stream whose buffer is full is closed by the shell.
    Event {
        /// Which.
        stream: StreamId,
        /// What.
        event: Arc<Event>,
    },
    /// End a scheduler's stream, after what was sent before.
    CloseStream(StreamId),
    /// Send to an agent.
    ToAgent {
        /// Which connection.
        session: SessionId,
        /// What.
        message: ToAgent,
    },
    /// End an agent's connection, after what was sent before.
    CloseSession(SessionId),
}

/// An HTTP answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Response {
    /// 202 with an empty body.
    Accepted,
    /// 200 with an empty body.
    Ok,
    /// 200 and the event stream of that id: SUBSCRIBE was understood. Refusals that Mesos sends as
    /// an ERROR event come on the stream.
    Stream(StreamId),
    /// Any other status with Mesos's text.
    Refused {
        /// 400, 403, 404, 501, 503.
        status: u16,
        /// Plain text.
        text: String,
    },
}

/// What the master tells an agent.
#[derive(Clone, Debug, PartialEq)]
pub enum ToAgent {
    /// Its id; sent once the registration is committed.
    Registered {
        /// The same as before for a known node.
        agent: AgentId,
    },
    /// The log knows another agent than returns: a registration is to follow on the same connection.
    RegisterInFull,
    /// The connection ends.
    Refused {
        /// Why, for a person.
        reason: String,
        /// Whether trying again can help.
        retry: bool,
    },
    /// Run it. Idempotent by container.
    RunTask {
        /// Whose.
        framework: FrameworkId,
        /// Which run.
        container: ContainerId,
        /// What.
        task: Box<api::v1::TaskInfo>,
        /// The framework.
        framework_info: Arc<api::v1::FrameworkInfo>,
        /// The run of the executor it is for.
        executor: Option<ContainerId>,
    },
    /// Run all of a task group, or nothing. Idempotent by the tasks' containers.
    RunGroup {
        /// Whose.
        framework: FrameworkId,
        /// Each with its run.
        tasks: Vec<(ContainerId, api::v1::TaskInfo)>,
        /// The framework.
        framework_info: Arc<api::v1::FrameworkInfo>,
        /// The run of the executor they are for.
        executor: ContainerId,
    },
    /// A framework says something to its executor.
    ExecutorMessage {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
        /// What.
        data: Vec<u8>,
    },
    /// End an executor and its tasks.
    ShutdownExecutor {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        executor: ExecutorId,
    },
    /// Its end is known.
    ForgetExecutor {
        /// Whose.
        framework: FrameworkId,
        /// Which run.
        container: ContainerId,
    },
    /// Kill it.
    KillTask {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
        /// The KILL call's grace, if it had one.
        grace_ms: Option<u64>,
    },
    /// The framework has acknowledged an update.
    Acknowledge {
        /// Whose.
        framework: FrameworkId,
        /// Which task.
        task: TaskId,
        /// Which update.
        uuid: [u8; 16],
    },
    /// Kill everything of a framework and forget its updates.
    ShutdownFramework {
        /// Which.
        framework: FrameworkId,
    },
    /// What the rules say of its network; sent again whenever that may be another.
    Network {
        /// `api::network::Settings`; empty: no rule says anything.
        json: String,
        /// Which rule.
        rule: String,
    },
    /// Its persistent volumes, all of them: the others were destroyed.
    Volumes {
        /// Each with its size, role and id.
        persistent: Resources,
        /// What came before is not known to have been heard.
        first: bool,
    },
    /// What the operator wants of its disks.
    DiskRules {
        /// In the order in which they count.
        rules: Vec<NamedRule>,
    },
    /// Answer with the same nonce.
    Ping {
        /// Any number.
        nonce: u64,
    },
}
