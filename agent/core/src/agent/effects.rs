//! The agent's vocabulary: what it hears and what it wants done.

use api::v1::command_info::Uri;
use api::v1::{FrameworkInfo, TaskInfo, TaskStatus};
use api::{AgentId, ContainerId, FrameworkId, TaskId, TaskState};

use crate::bridge::{Address, NamedNetwork};
use crate::checks::{Kind, Probe, Seen};
use crate::container::Usage;
use crate::handover::Exit;
use crate::image::{Accounts, Image, ImageRequest};
use crate::launch::{Plan, Secrets};
use crate::overrun::Overrun;
use crate::record::{Process, Record};

/// Both clocks, read once per input.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Now {
    /// Milliseconds since boot: for waiting, the same over a restart of the process.
    pub uptime_ms: u64,
    /// Milliseconds since 1970: for showing.
    pub unix_ms: u64,
}

/// What the agent hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The master has taken us.
    Registered {
        /// Our id.
        agent: AgentId,
    },
    /// The session is over.
    Disconnected,
    /// Idempotent by container.
    RunTask {
        /// Whose.
        framework: FrameworkId,
        /// This run.
        container: ContainerId,
        /// As the framework wrote it.
        task: Box<TaskInfo>,
        /// Its framework.
        framework_info: Box<FrameworkInfo>,
        /// What it names by reference.
        secrets: Secrets,
    },
    /// End a task.
    KillTask {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
        /// The KILL call's grace, if it had one.
        grace_ms: Option<u64>,
    },
    /// End every task of a framework.
    ShutdownFramework {
        /// Which.
        framework: FrameworkId,
    },
    /// The framework has seen an update.
    Acknowledge {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
        /// The update's.
        uuid: Vec<u8>,
    },
    /// To [`Effect::Pull`].
    Pulled {
        /// Which.
        container: ContainerId,
        /// What is here now, or why it is not.
        result: Result<Box<Pulled>, String>,
    },
    /// To [`Effect::Fetch`].
    Fetched {
        /// Which.
        container: ContainerId,
        /// Why not.
        result: Result<(), String>,
    },
    /// To [`Effect::Prepare`].
    Prepared {
        /// Which.
        container: ContainerId,
        /// Why not.
        result: Result<(), String>,
    },
    /// To [`Effect::Create`] with a network of the operator's, before its other answer.
    Joined {
        /// Which.
        container: ContainerId,
        /// Its addresses there.
        addresses: Vec<String>,
    },
    /// To [`Effect::Create`].
    Created {
        /// Which.
        container: ContainerId,
        /// Its first process, or why there is none.
        result: Result<Process, String>,
    },
    /// To [`Effect::Start`].
    Started {
        /// Which.
        container: ContainerId,
        /// Why not.
        result: Result<(), String>,
    },
    /// To [`Effect::ReadUsage`].
    Used {
        /// Which.
        container: ContainerId,
        /// Zeros where there was nothing to read.
        usage: Usage,
    },
    /// To [`Effect::Delete`].
    Deleted {
        /// Which.
        container: ContainerId,
    },
    /// It takes more than it may.
    Overran {
        /// Which.
        container: ContainerId,
        /// Of what.
        overrun: Overrun,
    },
    /// `init` reaped a child.
    Exited(Exit),
    /// Of executors.
    Executor(super::executors::Input),
    /// To [`Effect::Probe`].
    Probed {
        /// Which.
        container: ContainerId,
        /// For which of its checks.
        kind: Kind,
        /// From [`Probe::number`].
        number: u64,
        /// What it saw.
        seen: Seen,
    },
    /// A deadline has come.
    Tick,
}

/// What the agent wants done. Effects are performed in order; one that cannot be done now holds up
/// those after it only if it is a [`Effect::Save`].
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Write this record durably before anything after it.
    Save(Box<Record>),
    /// Remove the record.
    Forget(ContainerId),
    /// Bring an image here and keep it until [`Effect::Delete`]; answered by [`Input::Pulled`].
    Pull {
        /// For which container.
        container: ContainerId,
        /// What.
        request: Box<ImageRequest>,
    },
    /// Make the sandbox and bring what these name into it; answered by [`Input::Fetched`].
    Fetch {
        /// For which container.
        container: ContainerId,
        /// Whose sandbox.
        plan: Box<Plan>,
        /// What.
        uris: Vec<Uri>,
    },
    /// Nobody waits for this container's image or files any more.
    CancelPull(ContainerId),
    /// Make the sandbox and the bundle; answered by [`Input::Prepared`].
    Prepare {
        /// Which.
        container: ContainerId,
        /// What.
        plan: Box<Plan>,
    },
    /// Make the container; answered by [`Input::Created`].
    Create {
        /// Which.
        container: ContainerId,
        /// Directory of `config.json`.
        bundle: String,
        /// Directory of stdout and stderr.
        sandbox: String,
        /// What it gets on the bridge, before it runs.
        network: Option<Address>,
        /// The network of the operator's it is connected with; told by [`Input::Joined`].
        named_network: Option<NamedNetwork>,
    },
    /// Let it run; answered by [`Input::Started`].
    Start(ContainerId),
    /// Write cpu.max as soon as the first process has become the task's program.
    LimitCpu {
        /// Which.
        container: ContainerId,
        /// Its first process.
        process: Process,
        /// What to write.
        cpu_max: String,
    },
    /// Write cpuset.cpus: some of what everybody shared is a single task's now, or is so no longer.
    ShareCores {
        /// Which.
        container: ContainerId,
        /// What to write.
        cpus: String,
    },
    /// SIGTERM, as if to the whole process tree.
    Terminate {
        /// Which.
        container: ContainerId,
        /// Its first process.
        process: Process,
        /// How long until the agent forces it.
        grace_ms: u64,
    },
    /// SIGKILL to the whole cgroup.
    KillAll(ContainerId),
    /// Read the cgroup; answered by [`Input::Used`].
    ReadUsage(ContainerId),
    /// Remove the container; answered by [`Input::Deleted`].
    Delete(ContainerId),
    /// Look at a task; answered by [`Input::Probed`].
    Probe {
        /// Which.
        container: ContainerId,
        /// Its first process: whose namespaces count.
        process: Process,
        /// What to look at.
        probe: Box<Probe>,
    },
    /// Tell `init` that this child's status matters.
    Claim {
        /// The child.
        pid: i32,
    },
    /// Tell `init` that this status is written down.
    AcknowledgeExit {
        /// Its number.
        sequence: u64,
    },
    /// Send an update to the master; lost when there is no session.
    Send {
        /// Whose.
        framework: FrameworkId,
        /// What.
        status: Box<TaskStatus>,
        /// The task's state now, maybe later than `status`.
        latest: TaskState,
    },
    /// About executors.
    Executor(super::executors::ExecutorEffect),
}

/// An image that is here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pulled {
    /// Its layers and its configuration.
    pub image: Image,
    /// The accounts in it.
    pub accounts: Accounts,
}

/// One run for the `Register` message.
#[derive(Clone, Debug, Eq, PartialEq)]
#[allow(missing_docs)] // the fields are TaskReport's
pub struct Report {
    pub framework: FrameworkId,
    pub task: TaskId,
    pub container: ContainerId,
    pub state: TaskState,
}
