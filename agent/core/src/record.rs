//! What is kept of one run of one task: the checkpoint's unit, one file each.

use api::v1::{FrameworkInfo, TaskInfo};
use api::{AgentId, ContainerId, FrameworkId, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use crate::checks::Checks;
use crate::container::Phase;
use crate::launch::ImageRoot;
use crate::status::Updates;

/// The version of [`Record`]'s form. Fields may be added; a changed meaning raises it.
pub const VERSION: u32 = 1;

/// One run of one task, as it is written before anything is done that depends on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`VERSION`].
    pub version: u32,
    /// Of the boot the task was started in.
    pub boot_id: String,
    /// Of the agent it was given to.
    pub agent: AgentId,
    /// Whose task.
    pub framework: FrameworkId,
    /// The framework's name for it.
    pub task: TaskId,
    /// This run.
    pub container: ContainerId,
    /// As given.
    pub info: Box<TaskInfo>,
    /// As given.
    pub framework_info: Box<FrameworkInfo>,
    /// Where its container is.
    pub phase: Phase,
    /// The first process, once made.
    pub process: Option<Process>,
    /// The latest state, whether or not anybody knows it yet.
    pub state: TaskState,
    /// What is still to be told.
    pub updates: Updates,
    /// When it has run for too long.
    pub complete_by_ms: Option<u64>,
    /// The image it runs in, once that is here, and who it is there.
    #[serde(default)]
    pub image: Option<ImageRoot>,
    /// How often its image was asked for: once in the life of an agent.
    #[serde(default)]
    pub pulls: u32,
    /// What its checks have told.
    #[serde(default)]
    pub checks: Checks,
}

/// A process that no reused pid can be taken for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Field 22 of /proc/pid/stat: clock ticks between boot and its start. 0 when it ended before that
    /// could be read.
    pub start_ticks: u64,
}
