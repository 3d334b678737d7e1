//! Scheduler calls.

use serde::{Deserialize, Serialize};

use super::framework::FrameworkInfo;
use super::task::{ExecutorInfo, KillPolicy, TaskGroup, TaskInfo};
use super::{Filters, Value, lenient};
use crate::{AgentId, ExecutorId, FrameworkId, OfferId, TaskId};

/// `mesos.v1.scheduler.Call`: the type's name and the members there are. Which member a type needs
/// is checked where calls are validated, so that the error is Mesos's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Call {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework_id: Option<Value<FrameworkId>>,
    /// `SUBSCRIBE`, `ACCEPT`, …; an unknown name stays as written.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscribe: Option<Subscribe>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accept: Option<Accept>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decline: Option<Decline>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revive: Option<RolesCall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppress: Option<RolesCall>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill: Option<Kill>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown: Option<Shutdown>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledge: Option<Acknowledge>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reconcile: Option<Reconcile>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Message>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update_framework: Option<serde_json::Value>,
}

/// SUBSCRIBE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Subscribe {
    #[serde(default)]
    pub framework_info: FrameworkInfo,
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub suppressed_roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer_constraints: Option<serde_json::Value>,
}

/// ACCEPT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Accept {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub offer_ids: Vec<Value<OfferId>>,
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<Operation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

/// One operation of an ACCEPT. Kinds that are not spelled out keep their payload unread.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Operation {
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch: Option<Launch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launch_group: Option<LaunchGroup>,
    #[serde(flatten)]
    pub rest: serde_json::Map<String, serde_json::Value>,
}

/// LAUNCH.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Launch {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub task_infos: Vec<TaskInfo>,
}

/// LAUNCH_GROUP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LaunchGroup {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorInfo>,
    #[serde(default)]
    pub task_group: TaskGroup,
}

/// DECLINE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Decline {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub offer_ids: Vec<Value<OfferId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Filters>,
}

/// REVIVE and SUPPRESS: the roles, none for all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RolesCall {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

/// KILL.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Kill {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Value<TaskId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Value<AgentId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
}

/// SHUTDOWN of an executor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Shutdown {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<Value<ExecutorId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Value<AgentId>>,
}

/// ACKNOWLEDGE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Acknowledge {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Value<AgentId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task_id: Option<Value<TaskId>>,
    /// 16 bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
}

/// RECONCILE: these tasks, or all when none are named.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Reconcile {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<ReconcileTask>,
}

/// One task of a RECONCILE.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ReconcileTask {
    #[serde(default)]
    pub task_id: Value<TaskId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Value<AgentId>>,
}

/// MESSAGE to an executor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Message {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_id: Option<Value<AgentId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor_id: Option<Value<ExecutorId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
}
