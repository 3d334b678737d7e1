//! What operators write: the operator API, with our types. Each is committed as one command, checked
//! where it is applied, and answered with Mesos's status and text.

use std::collections::BTreeMap;

use api::{AgentId, FrameworkId, Milli};
use serde::{Deserialize, Serialize};

use crate::operation::ResourceOperation;
use crate::rules::Rule;
use crate::state::{Change, Table};

/// One write. All but [`Apply`](Self::Apply) are answered [`Response::Ok`](crate::Response::Ok) when
/// they are committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum OperatorWrite {
    /// UPDATE_WEIGHTS, PUT /weights.
    UpdateWeights(Vec<(String, f64)>),
    /// UPDATE_QUOTA; with neither guarantees nor limits a role has no quota any more. All or none.
    UpdateQuota {
        /// Do not check against the cluster's capacity and what the roles already use.
        force: bool,
        /// By role, wholesale.
        configs: Vec<QuotaConfig>,
    },
    /// SET_QUOTA, POST /quota: for a role that has none; the guarantee is the limit as well. The shell
    /// checks the guarantee's resources.
    SetQuota {
        /// Do not check against the cluster's capacity.
        force: bool,
        /// For whom.
        role: String,
        /// How much, by scalar name.
        guarantee: BTreeMap<String, Milli>,
    },
    /// REMOVE_QUOTA, DELETE /quota/ROLE.
    RemoveQuota {
        /// For whom.
        role: String,
    },
    /// RESERVE_RESOURCES, UNRESERVE_RESOURCES, CREATE_VOLUMES, DESTROY_VOLUMES, GROW_VOLUME,
    /// SHRINK_VOLUME: answered [`Response::Accepted`](crate::Response::Accepted). Offers of the agent are
    /// rescinded as far as needed.
    Apply {
        /// Where.
        agent: AgentId,
        /// What.
        operation: ResourceOperation,
        /// As whom the operator is authenticated.
        principal: Option<String>,
    },
    /// UPDATE_MAINTENANCE_SCHEDULE: the whole schedule.
    UpdateMaintenanceSchedule(Vec<Window>),
    /// START_MAINTENANCE, POST /machine/down.
    StartMaintenance(Vec<MachineId>),
    /// STOP_MAINTENANCE, POST /machine/up.
    StopMaintenance(Vec<MachineId>),
    /// DRAIN_AGENT.
    DrainAgent {
        /// Which.
        agent: AgentId,
        /// No task gets more time than this to end.
        max_grace_ms: Option<u64>,
        /// Once drained it is gone.
        mark_gone: bool,
    },
    /// DEACTIVATE_AGENT.
    DeactivateAgent(AgentId),
    /// REACTIVATE_AGENT.
    ReactivateAgent(AgentId),
    /// MARK_AGENT_GONE.
    MarkAgentGone(AgentId),
    /// TEARDOWN, POST /teardown.
    Teardown(FrameworkId),
    /// No operator's, but the master's own: see [`Kept`](crate::state::Kept).
    Keep {
        /// Where.
        table: Table,
        /// All or none.
        changes: Vec<Change>,
    },
    /// PUT /mesolith/v1/rules/NAME.
    PutRule {
        /// Added, or put in the place of the one of its name.
        rule: Box<Rule>,
        /// Where in the order.
        place: Place,
    },
    /// DELETE /mesolith/v1/rules/NAME.
    RemoveRule(String),
}

/// Where a rule goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub enum Place {
    /// Where the one of its name was; a new one last.
    #[default]
    AsBefore,
    /// Before all others.
    First,
}

/// A role's quota.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct QuotaConfig {
    /// Whose; top-level.
    pub role: String,
    /// At least this much, by scalar name.
    #[serde(default)]
    pub guarantees: BTreeMap<String, Milli>,
    /// At most this much; any amount where unnamed.
    #[serde(default)]
    pub limits: BTreeMap<String, Milli>,
}

/// Machines that will be away at the same time.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Window {
    /// Which.
    pub machines: Vec<MachineId>,
    /// When.
    pub unavailability: Unavailability,
}

/// When a machine is away.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Unavailability {
    /// Nanoseconds since 1970.
    pub start: i64,
    /// Nanoseconds; for good where there is none.
    #[serde(default)]
    pub duration: Option<i64>,
}

/// A machine as operators name it: by hostname, address, or both. Empty means unset.
#[derive(Clone, Debug, Default, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct MachineId {
    /// In lower case.
    #[serde(default)]
    pub hostname: String,
    /// IPv4 address.
    #[serde(default)]
    pub ip: String,
}

impl MachineId {
    /// Hostnames are compared without regard to case.
    #[must_use]
    pub fn new(hostname: &str, ip: &str) -> Self {
        Self { hostname: hostname.to_ascii_lowercase(), ip: ip.to_owned() }
    }

    /// Is it the machine with this hostname and address? What is unset matches any.
    #[must_use]
    pub fn is(&self, hostname: &str, ip: &str) -> bool {
        (self.hostname.is_empty() || self.hostname.eq_ignore_ascii_case(hostname))
            && (self.ip.is_empty() || self.ip == ip)
    }

    /// As Mesos's messages have it.
    #[must_use]
    pub fn json(&self) -> String {
        let fields = [("hostname", &self.hostname), ("ip", &self.ip)];
        let fields: serde_json::Map<String, serde_json::Value> = fields
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(name, value)| (name.to_owned(), value.as_str().into()))
            .collect();
        serde_json::Value::Object(fields).to_string()
    }
}

impl std::fmt::Display for MachineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.hostname.is_empty(), self.ip.is_empty()) {
            (false, false) => write!(f, "{} ({})", self.hostname, self.ip),
            (false, true) => f.write_str(&self.hostname),
            (true, _) => f.write_str(&self.ip),
        }
    }
}

/// Why a write was refused: an HTTP status with Mesos's text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refusal {
    /// 400, 404, 409, 507.
    pub status: u16,
    /// Plain text.
    pub text: String,
}

impl Refusal {
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self { status: 400, text: text.into() }
    }
}
