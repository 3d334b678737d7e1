//! What is kept of one executor: the checkpoint's unit, one file each.

use std::collections::{BTreeMap, VecDeque};

use api::v1::{ExecutorInfo, FrameworkInfo, Reason, TaskInfo, executor_info};
use api::{AgentId, ContainerId, ExecutorId, FrameworkId, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use crate::status::Updates;

/// One run of one executor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutorRecord {
    /// [`crate::record::VERSION`].
    pub version: u32,
    /// Of the agent it was given to.
    pub agent: AgentId,
    /// Whose.
    pub framework: FrameworkId,
    /// The framework's name for it.
    pub executor: ExecutorId,
    /// This run.
    pub container: ContainerId,
    /// As given.
    pub info: Box<ExecutorInfo>,
    /// As given.
    pub framework_info: Box<FrameworkInfo>,
    /// What its process shows to be taken for it.
    pub token: Token,
    /// How far it is.
    pub stage: Stage,
    /// Its tasks that have not ended, or whose updates are not all acknowledged. Those of a pod have records of their
    /// own.
    pub tasks: BTreeMap<TaskId, ExecutorTask>,
    /// What it was not yet told to run, in order; each one task or one group.
    pub queue: Vec<Vec<TaskId>>,
    /// It was told to run something once.
    pub had_tasks: bool,
    /// Its framework is gone: nobody wants to hear of it.
    pub silent: bool,
    /// Why we end it, if its tasks' framework is to be told something else than that it ended.
    pub why: Option<Termination>,
    /// The groups of a pod whose processes were let go, by their first tasks.
    #[serde(default)]
    pub started_groups: Vec<TaskId>,
    /// What it names by reference.
    #[serde(default)]
    pub secrets: crate::launch::Secrets,
}

/// A secret; not shown by `Debug`.
#[derive(Clone, Default, Eq, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(..)")
    }
}

/// How far an executor is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Stage {
    /// Its process has not subscribed yet.
    Registering,
    /// It has.
    Subscribed,
    /// It was asked to end.
    Terminating,
    /// It has ended.
    Ended {
        /// As waitpid gives it.
        status: i32,
        /// The master knows.
        told: bool,
    },
}

/// See [`ExecutorRecord::why`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Termination {
    /// What becomes of its tasks.
    pub state: TaskState,
    /// Why, for programs.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
}

/// A task in an executor's process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecutorTask {
    /// As given.
    pub info: Box<TaskInfo>,
    /// This run of the task.
    pub run: ContainerId,
    /// The latest state, whether or not anybody knows it yet.
    pub state: TaskState,
    /// It was launched with its group.
    pub in_group: bool,
    /// The executor was told to run it.
    pub delivered: bool,
    /// It is to be killed, and the executor may not know.
    pub kill: Option<Kill>,
    /// What is still to be told.
    pub updates: Updates,
    /// Updates the executor sent, newest last: it repeats what it saw no answer to.
    pub seen: VecDeque<[u8; 16]>,
}

/// A kill of a task in an executor.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Kill {
    /// The call's grace, if it had one.
    pub grace_ms: Option<u64>,
}

impl ExecutorRecord {
    /// Tasks have containers of their own, and there is no process but theirs.
    #[must_use]
    pub fn is_pod(&self) -> bool {
        self.info.r#type() == executor_info::Type::Default
    }

    /// Nothing can be launched in it any more.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Terminating | Stage::Ended { .. })
    }
}
