//! What a task can be.

use serde::{Deserialize, Serialize};

/// Mesos's task states, with Mesos's names and numbers.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize, prost::Enumeration)]
#[repr(i32)]
#[allow(missing_docs)] // the names are Mesos's
pub enum TaskState {
    #[serde(rename = "TASK_STAGING")]
    Staging = 6,
    #[serde(rename = "TASK_STARTING")]
    Starting = 0,
    #[serde(rename = "TASK_RUNNING")]
    Running = 1,
    #[serde(rename = "TASK_KILLING")]
    Killing = 8,
    #[serde(rename = "TASK_FINISHED")]
    Finished = 2,
    #[serde(rename = "TASK_FAILED")]
    Failed = 3,
    #[serde(rename = "TASK_KILLED")]
    Killed = 4,
    #[serde(rename = "TASK_ERROR")]
    Error = 7,
    #[serde(rename = "TASK_LOST")]
    Lost = 5,
    #[serde(rename = "TASK_DROPPED")]
    Dropped = 9,
    #[serde(rename = "TASK_UNREACHABLE")]
    Unreachable = 10,
    #[serde(rename = "TASK_GONE")]
    Gone = 11,
    #[serde(rename = "TASK_GONE_BY_OPERATOR")]
    GoneByOperator = 12,
    #[serde(rename = "TASK_UNKNOWN")]
    Unknown = 13,
}

impl TaskState {
    /// Every state, in the order of Mesos's numbers.
    pub const ALL: [Self; 14] = [
        Self::Starting,
        Self::Running,
        Self::Finished,
        Self::Failed,
        Self::Killed,
        Self::Lost,
        Self::Staging,
        Self::Error,
        Self::Killing,
        Self::Dropped,
        Self::Unreachable,
        Self::Gone,
        Self::GoneByOperator,
        Self::Unknown,
    ];

    /// A terminal task has given its resources back and will never change state again.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Finished
            | Self::Failed
            | Self::Killed
            | Self::Error
            | Self::Lost
            | Self::Dropped
            | Self::Gone
            | Self::GoneByOperator => true,
            Self::Staging | Self::Starting | Self::Running | Self::Killing | Self::Unreachable | Self::Unknown => false,
        }
    }

    /// `TASK_RUNNING`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Staging => "TASK_STAGING",
            Self::Starting => "TASK_STARTING",
            Self::Running => "TASK_RUNNING",
            Self::Killing => "TASK_KILLING",
            Self::Finished => "TASK_FINISHED",
            Self::Failed => "TASK_FAILED",
            Self::Killed => "TASK_KILLED",
            Self::Error => "TASK_ERROR",
            Self::Lost => "TASK_LOST",
            Self::Dropped => "TASK_DROPPED",
            Self::Unreachable => "TASK_UNREACHABLE",
            Self::Gone => "TASK_GONE",
            Self::GoneByOperator => "TASK_GONE_BY_OPERATOR",
            Self::Unknown => "TASK_UNKNOWN",
        }
    }

    /// The state of that name, or `None`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl crate::v1::Named for TaskState {
    fn name(&self) -> &'static str {
        (*self).name()
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::from_name(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_once() {
        for state in TaskState::ALL {
            assert_eq!(TaskState::from_name(state.name()), Some(state));
            assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{}\"", state.name()));
        }
        assert_eq!(TaskState::from_name("TASK_BORED"), None);
    }
}
