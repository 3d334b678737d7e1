//! The replicated log's vocabulary. Times are fields, chosen once by the leader, so that applying
//! the same commands gives the same state everywhere.

use api::v1::scheduler::OfferConstraints;
use api::v1::{FrameworkInfo, TaskInfo, TaskStatus};
use api::{AgentId, Attribute, ContainerId, ExecutorId, Fact, FrameworkId, MasterId, Resources, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use crate::io::operator::OperatorWrite;
use crate::io::{Registration, Return};
use crate::operation::ResourceOperation;

/// One change of the [`State`](crate::State).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// The first leader names the cluster; later ones keep the name.
    FoundCluster {
        /// The prefix of every id handed out.
        id: MasterId,
    },
    /// A framework subscribes, for the first time or again.
    SubscribeFramework(Box<SubscribeFramework>),
    /// UPDATE_FRAMEWORK: new facts, same stream.
    UpdateFramework {
        /// Which.
        framework: FrameworkId,
        /// All of them.
        info: Box<FrameworkInfo>,
        /// All of them.
        suppressed_roles: Vec<String>,
        /// All of them.
        #[serde(default)]
        offer_constraints: Option<Box<OfferConstraints>>,
    },
    /// A framework's stream ended.
    DisconnectFramework {
        /// Which.
        framework: FrameworkId,
        /// Which stream: a newer one is not touched. Empty for whichever a former leader had.
        stream: String,
        /// Milliseconds since 1970.
        at: u64,
        /// When it is removed unless it comes back: milliseconds since 1970.
        remove_at: u64,
    },
    /// Torn down, by itself, by an operator, or for staying away too long.
    RemoveFramework {
        /// Which.
        framework: FrameworkId,
        /// Milliseconds since 1970.
        at: u64,
    },
    /// SUPPRESS and REVIVE: the roles suppressed from now on.
    SetSuppressedRoles {
        /// Which framework.
        framework: FrameworkId,
        /// All of them.
        roles: Vec<String>,
    },
    /// An accepted offer becomes a task.
    LaunchTask(Box<LaunchTask>),
    /// An accepted offer becomes a task group: all of it or nothing.
    LaunchGroup(Vec<LaunchTask>),
    /// An executor is no more.
    EndExecutor {
        /// Whose.
        framework: FrameworkId,
        /// Where.
        agent: AgentId,
        /// Which.
        executor: ExecutorId,
        /// Which run.
        container: ContainerId,
        /// As waitpid gives it.
        status: i32,
    },
    /// A framework wants a task killed; remembered until the task has ended.
    KillTask {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
        /// Where the framework believes it is, if it said so.
        agent: Option<AgentId>,
        /// The call's grace, if it had one.
        grace_ms: Option<u64>,
    },
    /// An agent's status update.
    UpdateTask {
        /// Whose.
        framework: FrameworkId,
        /// From which agent.
        agent: AgentId,
        /// What to tell the framework.
        status: Box<TaskStatus>,
        /// May be ahead of `status`.
        latest: TaskState,
        /// Milliseconds since 1970.
        at: u64,
    },
    /// A framework has seen a task's terminal update.
    AcknowledgeTask {
        /// Whose.
        framework: FrameworkId,
        /// Which.
        task: TaskId,
        /// Which update.
        uuid: [u8; 16],
    },
    /// An agent registers: new, back after a broken connection, or after a reboot.
    RegisterAgent {
        /// The id it has or gets.
        agent: AgentId,
        /// What it said.
        registration: Box<Registration>,
        /// Milliseconds since 1970.
        at: u64,
    },
    /// An agent comes back, and has nothing to tell that the log does not know.
    ReturnAgent {
        /// What it said.
        back: Box<Return>,
        /// Milliseconds since 1970.
        at: u64,
    },
    /// An agent's resources, or what is known of it, changed.
    UpdateCapacity {
        /// Which.
        agent: AgentId,
        /// All of them.
        resources: Resources,
        /// All that were typed.
        attributes: Vec<Attribute>,
        /// All of them.
        #[serde(default)]
        facts: Vec<Fact>,
        /// None: as before.
        #[serde(default)]
        inventory_json: Option<String>,
        /// As of a registration.
        #[serde(default)]
        edition: u64,
    },
    /// An agent has not answered for too long.
    MarkAgentUnreachable {
        /// Which.
        agent: AgentId,
        /// Milliseconds since 1970.
        at: u64,
    },
    /// An accepted offer's resources become others.
    ApplyOperation(Box<ApplyOperation>),
    /// A framework has seen an operation's outcome.
    AcknowledgeOperation {
        /// Whose.
        framework: FrameworkId,
        /// Which operation.
        operation: String,
        /// Which status.
        uuid: [u8; 16],
    },
    /// What an operator writes.
    Operator(Box<OperatorCommand>),
}

/// See [`Command::ApplyOperation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplyOperation {
    /// Names the operation in the cluster.
    pub uuid: [u8; 16],
    /// Names its outcome.
    pub status_uuid: [u8; 16],
    /// Whose.
    pub framework: FrameworkId,
    /// With an id the framework wants to hear of the outcome.
    pub id: Option<String>,
    /// Where.
    pub agent: AgentId,
    /// The offer's role.
    pub role: String,
    /// What.
    pub operation: ResourceOperation,
    /// Milliseconds since 1970.
    pub at: u64,
}

/// See [`Command::Operator`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OperatorCommand {
    /// By which the leader that proposed it knows it again.
    pub token: [u8; 16],
    /// Milliseconds since 1970.
    pub at: u64,
    /// What.
    pub write: OperatorWrite,
}

/// See [`Command::SubscribeFramework`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubscribeFramework {
    /// Given or just made.
    pub framework: FrameworkId,
    /// What it says of itself.
    pub info: FrameworkInfo,
    /// Roles it wants no offers for.
    pub suppressed_roles: Vec<String>,
    /// Agents it wants offers of.
    #[serde(default)]
    pub offer_constraints: Option<Box<OfferConstraints>>,
    /// The stream it asked on.
    pub stream: String,
    /// Milliseconds since 1970.
    pub at: u64,
}

/// See [`Command::LaunchTask`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchTask {
    /// Whose.
    pub framework: FrameworkId,
    /// Where.
    pub agent: AgentId,
    /// On whose share: the offer's role.
    pub role: String,
    /// Which run.
    pub container: ContainerId,
    /// What.
    pub info: TaskInfo,
    /// `info.resources`, read.
    pub resources: Resources,
    /// Milliseconds since 1970.
    pub at: u64,
    /// The executor it is for; `info.executor` says which.
    #[serde(default)]
    pub executor: Option<LaunchExecutor>,
    /// The first task of its group.
    #[serde(default)]
    pub group: Option<TaskId>,
}

/// See [`LaunchTask::executor`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LaunchExecutor {
    /// Which run of it.
    pub container: ContainerId,
    /// `info.executor.resources`, read.
    pub resources: Resources,
    /// It does not run yet: its resources were taken from the offer too.
    pub is_new: bool,
}

/// Why bytes from the log or a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot decode {what}")]
pub struct DecodeError {
    what: &'static str,
    source: rmp_serde::decode::Error,
}

impl DecodeError {
    pub(crate) const fn new(what: &'static str, source: rmp_serde::decode::Error) -> Self {
        Self { what, source }
    }
}

impl Command {
    /// One log entry: what the driver gathered. Fields go by name, so a later version can add some.
    #[must_use]
    pub fn encode_batch(batch: &[Self]) -> Vec<u8> {
        rmp_serde::to_vec_named(batch).expect("commands hold nothing MessagePack cannot spell")
    }

    /// Reads a log entry.
    ///
    /// # Errors
    /// The bytes are not a batch this version knows.
    pub fn decode_batch(bytes: &[u8]) -> Result<Vec<Self>, DecodeError> {
        rmp_serde::from_slice(bytes).map_err(|source| DecodeError::new("a batch of commands", source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_survives_the_log() {
        let info: FrameworkInfo = serde_json::from_str(
            r#"{"user":"root","name":"f","failover_timeout":100,"capabilities":[{"type":"GPU_RESOURCES"}],
                "labels":{"labels":[{"key":"a","value":"b"}]}}"#,
        )
        .unwrap();
        let task: TaskInfo = serde_json::from_str(
            r#"{"name":"t","task_id":{"value":"1"},"agent_id":{"value":"S0"},"command":{"value":"true"},
                "resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}},
                             {"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":2}]}}],
                "health_check":{"delay_seconds":1.5,"type":"COMMAND"},"kill_policy":{"grace_period":{"nanoseconds":5}}}"#,
        )
        .unwrap();
        let batch = vec![
            Command::FoundCluster { id: "m".into() },
            Command::SubscribeFramework(Box::new(SubscribeFramework {
                framework: "m-0000".into(),
                info,
                suppressed_roles: vec!["*".to_owned()],
                offer_constraints: None,
                stream: "s".to_owned(),
                at: 7,
            })),
            Command::LaunchTask(Box::new(LaunchTask {
                framework: "m-0000".into(),
                agent: "m-S0".into(),
                role: "*".to_owned(),
                container: "c".into(),
                info: task,
                resources: Resources::parse("cpus:0.1;ports:[1-2]").unwrap(),
                at: 8,
                executor: None,
                group: None,
            })),
            Command::AcknowledgeTask { framework: "m-0000".into(), task: "1".into(), uuid: [255; 16] },
        ];
        assert_eq!(Command::decode_batch(&Command::encode_batch(&batch)).unwrap(), batch);
        assert!(Command::decode_batch(b"nonsense").is_err());
    }
}
