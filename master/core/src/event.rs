//! What applying a command brought about, in the past tense. Followers drop it; the leader acts on it.

use api::v1::TaskStatus;
use api::{AgentId, ContainerId, ExecutorId, FrameworkId, NodeName, Resources, TaskId};

use crate::command::{ApplyOperation, LaunchTask};
use crate::io::operator::Refusal;

/// One thing that happened to the state.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A framework is subscribed.
    FrameworkSubscribed {
        /// Which.
        framework: FrameworkId,
        /// On which stream.
        stream: String,
    },
    /// The framework had been removed before its SUBSCRIBE committed.
    SubscribeRefused {
        /// On which stream.
        stream: String,
    },
    /// Its roles, capabilities or suppressed roles may be others.
    FrameworkUpdated {
        /// Which.
        framework: FrameworkId,
    },
    /// It may come back until then.
    FrameworkDisconnected {
        /// Which.
        framework: FrameworkId,
        /// Milliseconds since 1970.
        remove_at: u64,
    },
    /// It is no more; its tasks were told apart as [`Event::ResourcesFreed`].
    FrameworkRemoved {
        /// Which.
        framework: FrameworkId,
        /// Where its tasks were.
        agents: Vec<AgentId>,
    },
    /// A task exists, staging.
    TaskLaunched {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
    },
    /// All tasks of a group exist, each told as [`Event::TaskLaunched`] before.
    GroupLaunched {
        /// Whose.
        framework: FrameworkId,
        /// Which, in the framework's order.
        tasks: Vec<TaskId>,
    },
    /// An executor uses its resources: its first task is launched, or its agent is back.
    ExecutorLaunched {
        /// Whose.
        framework: FrameworkId,
        /// Where.
        agent: AgentId,
        /// Which.
        executor: ExecutorId,
    },
    /// An executor does not use its resources any more.
    ExecutorEnded {
        /// Whose.
        framework: FrameworkId,
        /// Where.
        agent: AgentId,
        /// Which.
        executor: ExecutorId,
        /// Whose share.
        role: String,
        /// What.
        resources: Resources,
        /// How, as waitpid gives it, where its agent said so: its framework is told.
        status: Option<i32>,
    },
    /// An agent may forget an executor.
    ExecutorForgotten {
        /// Whose.
        framework: FrameworkId,
        /// Where.
        agent: AgentId,
        /// Which run.
        container: ContainerId,
    },
    /// It does not: the framework was removed, its id was taken, or the agent went away meanwhile.
    LaunchDropped {
        /// What was to be.
        launch: Box<LaunchTask>,
        /// Why.
        why: LaunchDropped,
    },
    /// A kill is wanted.
    KillRequested {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
    },
    /// A kill was wanted for a task that is not there: answered as a reconciliation.
    KillUnknown {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
        /// Where the framework believes it is.
        agent: Option<AgentId>,
    },
    /// A status for the framework.
    TaskUpdated {
        /// Whose.
        framework: FrameworkId,
        /// To forward as it is.
        status: Box<TaskStatus>,
    },
    /// An agent reported on a task nobody waits for: it may forget the update.
    UpdateObsolete {
        /// Whose.
        framework: FrameworkId,
        /// Which agent.
        agent: AgentId,
        /// Which task.
        task: TaskId,
        /// Which update.
        uuid: Option<[u8; 16]>,
    },
    /// A framework acknowledged an update.
    Acknowledged {
        /// Whose.
        framework: FrameworkId,
        /// Where.
        agent: AgentId,
        /// Which task.
        task: TaskId,
        /// Which update.
        uuid: [u8; 16],
    },
    /// A task no longer uses its resources.
    ResourcesFreed {
        /// Whose.
        framework: FrameworkId,
        /// Which task.
        task: TaskId,
        /// Whose share.
        role: String,
        /// Where.
        agent: AgentId,
        /// What.
        resources: Resources,
    },
    /// An agent is registered.
    AgentRegistered {
        /// Which.
        agent: AgentId,
        /// On which node.
        node: NodeName,
        /// Tasks to send (again).
        run: Vec<(FrameworkId, TaskId)>,
        /// Tasks that must not run.
        kill: Vec<(FrameworkId, TaskId)>,
        /// Frameworks that are no more.
        shutdown: Vec<FrameworkId>,
    },
    /// An agent that came back is not what the log knows, by now: it has to register.
    AgentUnknown {
        /// Which.
        agent: AgentId,
        /// On which node.
        node: NodeName,
    },
    /// A rule that says what networks are to be came, went or is another.
    NetworkRulesChanged,
    /// What the operator wants of disks is other than before.
    DiskRulesChanged,
    /// An agent has other resources or attributes.
    CapacityChanged {
        /// Which.
        agent: AgentId,
    },
    /// An agent is given up, for now.
    AgentUnreachable {
        /// Which.
        agent: AgentId,
        /// Frameworks with tasks there.
        frameworks: Vec<FrameworkId>,
    },
    /// An agent may not register.
    AgentRefused {
        /// The id it has, or was to get.
        agent: AgentId,
        /// On which node.
        node: NodeName,
        /// Why, for a person.
        why: String,
        /// Whether trying again can help.
        retry: bool,
        /// Frameworks whose tasks it still runs.
        shutdown: Vec<FrameworkId>,
    },
    /// An operator took an agent's machine down.
    AgentRemoved {
        /// Which.
        agent: AgentId,
        /// Frameworks with tasks there.
        frameworks: Vec<FrameworkId>,
        /// Mesos's words.
        why: String,
    },
    /// An operator declared an agent lost for good.
    AgentGone {
        /// Which.
        agent: AgentId,
        /// Frameworks with tasks there.
        frameworks: Vec<FrameworkId>,
    },
    /// It drains, is deactivated, or is used again.
    AgentActivityChanged {
        /// Which.
        agent: AgentId,
    },
    /// Nothing is left on a draining agent.
    AgentDrained {
        /// Which.
        agent: AgentId,
        /// It is to be marked gone now.
        mark_gone: bool,
    },
    /// The machine came back with less: these do not fit any more.
    ConversionsLost {
        /// Which agent.
        agent: AgentId,
        /// Reservations and volumes.
        lost: Resources,
    },
    /// A framework's operation is done.
    OperationApplied {
        /// Which.
        apply: Box<ApplyOperation>,
    },
    /// It is not: the agent or the framework went away meanwhile, or the agent's resources are others.
    OperationDropped {
        /// Which.
        apply: Box<ApplyOperation>,
        /// Mesos's words.
        why: String,
    },
    /// A framework acknowledged an operation's outcome.
    OperationAcknowledged {
        /// Which operation.
        uuid: [u8; 16],
    },
    /// An operator's operation is done.
    ResourcesConverted {
        /// Where.
        agent: AgentId,
        /// These are no more.
        from: Resources,
        /// These are there instead.
        to: Resources,
    },
    /// An operator's operation is not done.
    ConversionRefused {
        /// Where.
        agent: AgentId,
    },
    /// Weights were set.
    WeightsUpdated {
        /// Of these roles.
        roles: Vec<String>,
    },
    /// Quotas were set or removed.
    QuotasUpdated {
        /// Of these roles.
        roles: Vec<String>,
    },
    /// The maintenance schedule, or which machines are down, is another.
    MaintenanceUpdated,
    /// An operator's write was decided; what it brought about was told before.
    OperatorDone {
        /// Of the command.
        token: [u8; 16],
        /// How.
        outcome: Result<(), Refusal>,
    },
}

/// Why a launch came to nothing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LaunchDropped {
    /// Nobody to tell.
    FrameworkRemoved,
    /// The framework already has a task of that id.
    Duplicate,
    /// The agent is unreachable.
    AgentRemoved,
    /// The agent drains, or was deactivated.
    AgentDraining,
    /// The agent does not have the resources any more.
    ResourcesGone,
    /// The executor it was for ended meanwhile.
    ExecutorGone,
}
