//! Tasks, commands and executors.

use serde::{Deserialize, Serialize};

use super::{Value, WireResource, lenient};
use crate::{AgentId, ExecutorId, FrameworkId, TaskId};

/// One label.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Label {
    #[serde(default)]
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// `{"labels": […]}`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Labels {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
}

impl Labels {
    /// As key and value.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, Option<String>)> {
        self.labels.iter().map(|label| (label.key.clone(), label.value.clone())).collect()
    }

    /// From key and value.
    #[must_use]
    pub fn from_pairs(pairs: &[(String, Option<String>)]) -> Self {
        let labels = pairs.iter().map(|(key, value)| Label { key: key.clone(), value: value.clone() }).collect();
        Self { labels }
    }
}

/// `{"nanoseconds": N}`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct DurationInfo {
    #[serde(default, deserialize_with = "lenient::signed")]
    pub nanoseconds: Option<i64>,
}

impl DurationInfo {
    /// Whole milliseconds, or `None` when unset or negative.
    #[must_use]
    pub fn millis(self) -> Option<u64> {
        self.nanoseconds.and_then(|nanos| u64::try_from(nanos).ok()).map(|nanos| nanos / 1_000_000)
    }
}

/// How a task wants to be killed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct KillPolicy {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_period: Option<DurationInfo>,
}

/// One environment variable.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Variable {
    #[serde(default)]
    pub name: String,
    /// `VALUE` (also when unset) or `SECRET`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<serde_json::Value>,
}

/// `{"variables": […]}`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Environment {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub variables: Vec<Variable>,
}

/// Something to fetch into the sandbox.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Uri {
    #[serde(default)]
    pub value: String,
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "Option::is_none")]
    pub extract: Option<bool>,
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_file: Option<String>,
}

/// What to run.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct CommandInfo {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<Uri>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment: Option<Environment>,
    /// Unset means true: `/bin/sh -c value`.
    #[serde(default, deserialize_with = "lenient::boolean", skip_serializing_if = "Option::is_none")]
    pub shell: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// With `shell: false`: the whole argv, `arguments[0]` included.
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

impl CommandInfo {
    /// Through the shell?
    #[must_use]
    pub fn is_shell(&self) -> bool {
        self.shell.unwrap_or(true)
    }
}

/// A custom or default executor.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct ExecutorInfo {
    /// `DEFAULT` or `CUSTOM`; unset is custom.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default)]
    pub executor_id: Value<ExecutorId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub framework_id: Option<Value<FrameworkId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<serde_json::Value>,
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<WireResource>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shutdown_grace_period: Option<DurationInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// A task as a framework describes it. Containers, checks and discovery are kept as given.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskInfo {
    #[serde(default)]
    pub name: String,
    #[serde(default)]
    pub task_id: Value<TaskId>,
    #[serde(default)]
    pub agent_id: Value<AgentId>,
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<WireResource>,
    /// By resource name: `cpus` and `mem` above the request, `{"value": "Infinity"}` for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executor: Option<ExecutorInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kill_policy: Option<KillPolicy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub discovery: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_completion_time: Option<DurationInfo>,
}

/// `{"tasks": […]}`: a pod.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct TaskGroup {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskInfo>,
}
