//! What is kept of one run of one task: the checkpoint's unit, one file each.

use std::collections::{BTreeMap, BTreeSet};

use api::v1::{FrameworkInfo, TaskInfo};
use api::{AgentId, ContainerId, ExecutorId, FrameworkId, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use crate::bridge::{Address, NamedNetwork};
use crate::checks::Checks;
use crate::container::Phase;
use crate::executor::Token;
use crate::image::Image;
use crate::launch::{ImageRoot, Secrets};
use crate::overrun::Overrun;
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
    /// What it is to its executor.
    #[serde(default)]
    pub part: Part,
    /// What it names by reference.
    #[serde(default)]
    pub secrets: Secrets,
    /// What it has on the bridge.
    #[serde(default)]
    pub network: Option<Address>,
    /// The network of the operator's it is on.
    #[serde(default)]
    pub named_network: Option<NamedNetwork>,
    /// Processors it has to itself.
    #[serde(default)]
    pub cores: BTreeSet<u32>,
    /// Graphics processors it has to itself.
    #[serde(default)]
    pub gpus: BTreeSet<String>,
    /// What it overran.
    #[serde(default)]
    pub overrun: Option<Overrun>,
    /// The persistent volumes it has, if it is an executor.
    #[serde(default)]
    pub mounted: Vec<crate::launch::Later>,
    /// The first of its user and group ids, if it has a user namespace of its own.
    #[serde(default)]
    pub ids: Option<u32>,
    /// Images that are mounted as volumes, by their names, once they are here.
    #[serde(default)]
    pub volume_images: BTreeMap<String, Image>,
}

/// What a run is to an executor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub enum Part {
    /// A task with a command: it is its own executor.
    #[default]
    Alone,
    /// The executor's own process; `task` is the executor's id.
    Executor {
        /// What it shows to be taken for it.
        token: Token,
    },
    /// A task of a pod.
    Member {
        /// The run of the pod's executor.
        executor: ContainerId,
        /// Its id.
        executor_id: ExecutorId,
        /// The first task of the group it was launched with.
        group: TaskId,
        /// How many tasks the group has.
        size: usize,
    },
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
