//! Task statuses: state, source and reason.

use serde::{Deserialize, Serialize};

use super::task::Labels;
use super::{Value, lenient};
use crate::{AgentId, ExecutorId, TaskId, TaskState};

/// Who says so.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are Mesos's
pub enum Source {
    #[serde(rename = "SOURCE_MASTER")]
    Master,
    #[serde(rename = "SOURCE_AGENT")]
    Agent,
    #[serde(rename = "SOURCE_EXECUTOR")]
    Executor,
}

macro_rules! reasons {
    ($($variant:ident = $name:literal),* $(,)?) => {
        /// Why a task is in its state: Mesos's reasons, as far as something here gives them.
        #[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
        #[allow(missing_docs)] // the names are Mesos's
        pub enum Reason { $(#[serde(rename = $name)] $variant),* }
    };
}

reasons! {
    CommandExecutorFailed = "REASON_COMMAND_EXECUTOR_FAILED",
    ExecutorTerminated = "REASON_EXECUTOR_TERMINATED",
    FrameworkRemoved = "REASON_FRAMEWORK_REMOVED",
    GcError = "REASON_GC_ERROR",
    InvalidFrameworkId = "REASON_INVALID_FRAMEWORKID",
    InvalidOffers = "REASON_INVALID_OFFERS",
    MasterDisconnected = "REASON_MASTER_DISCONNECTED",
    ContainerLimitationMemory = "REASON_CONTAINER_LIMITATION_MEMORY",
    Reconciliation = "REASON_RECONCILIATION",
    AgentDisconnected = "REASON_AGENT_DISCONNECTED",
    AgentRemoved = "REASON_AGENT_REMOVED",
    AgentRestarted = "REASON_AGENT_RESTARTED",
    AgentUnknown = "REASON_AGENT_UNKNOWN",
    TaskInvalid = "REASON_TASK_INVALID",
    TaskUnauthorized = "REASON_TASK_UNAUTHORIZED",
    TaskUnknown = "REASON_TASK_UNKNOWN",
    ContainerPreempted = "REASON_CONTAINER_PREEMPTED",
    ResourcesUnknown = "REASON_RESOURCES_UNKNOWN",
    ContainerLimitation = "REASON_CONTAINER_LIMITATION",
    ContainerLimitationDisk = "REASON_CONTAINER_LIMITATION_DISK",
    ContainerLaunchFailed = "REASON_CONTAINER_LAUNCH_FAILED",
    ContainerUpdateFailed = "REASON_CONTAINER_UPDATE_FAILED",
    ExecutorRegistrationTimeout = "REASON_EXECUTOR_REGISTRATION_TIMEOUT",
    ExecutorReregistrationTimeout = "REASON_EXECUTOR_REREGISTRATION_TIMEOUT",
    TaskGroupInvalid = "REASON_TASK_GROUP_INVALID",
    TaskGroupUnauthorized = "REASON_TASK_GROUP_UNAUTHORIZED",
    IoSwitchboardExited = "REASON_IO_SWITCHBOARD_EXITED",
    TaskCheckStatusUpdated = "REASON_TASK_CHECK_STATUS_UPDATED",
    TaskHealthCheckStatusUpdated = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED",
    TaskKilledDuringLaunch = "REASON_TASK_KILLED_DURING_LAUNCH",
    AgentRemovedByOperator = "REASON_AGENT_REMOVED_BY_OPERATOR",
    AgentReregistered = "REASON_AGENT_REREGISTERED",
    MaxCompletionTimeReached = "REASON_MAX_COMPLETION_TIME_REACHED",
    AgentDraining = "REASON_AGENT_DRAINING",
}

/// A task's state at a moment. With `uuid` it is repeated until acknowledged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskStatus {
    pub task_id: Value<TaskId>,
    pub state: TaskState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    #[serde(default, deserialize_with = "lenient::enumeration", skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    #[serde(default, deserialize_with = "lenient::enumeration", skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Value<AgentId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<Value<ExecutorId>>,
    /// Seconds since 1970.
    #[serde(default, deserialize_with = "lenient::double", skip_serializing_if = "Option::is_none")]
    pub timestamp: Option<f64>,
    /// 16 bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "Option::is_none")]
    pub healthy: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check_status: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_status: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limitation: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreachable_time: Option<serde_json::Value>,
}

impl TaskStatus {
    /// A status with nothing but the task and its state.
    #[must_use]
    pub fn new(task: TaskId, state: TaskState) -> Self {
        Self {
            task_id: Value::new(task),
            state,
            message: None,
            source: None,
            reason: None,
            data: None,
            agent_id: None,
            executor_id: None,
            timestamp: None,
            uuid: None,
            healthy: None,
            check_status: None,
            labels: None,
            container_status: None,
            limitation: None,
            unreachable_time: None,
        }
    }

    /// The uuid's 16 bytes, or `None` when unset or not that.
    #[must_use]
    pub fn uuid_bytes(&self) -> Option<[u8; 16]> {
        use base64::Engine;
        let bytes = base64::engine::general_purpose::STANDARD.decode(self.uuid.as_ref()?).ok()?;
        bytes.try_into().ok()
    }
}
