//! What applying a command brought about, in the past tense. Followers drop it; the leader acts on it.

use api::v1::TaskStatus;
use api::{AgentId, FrameworkId, NodeName, Resources, TaskId};

use crate::command::LaunchTask;

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
}
