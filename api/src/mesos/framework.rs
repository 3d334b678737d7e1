//! Frameworks and the master, as each describes itself to the other.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::task::Labels;
use super::{Address, Value, lenient};
use crate::{FrameworkId, MasterId};

/// What a framework understands; each changes what it is sent.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // the names are Mesos's
pub enum Capability {
    RevocableResources,
    TaskKillingState,
    GpuResources,
    SharedResources,
    PartitionAware,
    MultiRole,
    ReservationRefinement,
    RegionAware,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct TypedCapability {
    #[serde(rename = "type")]
    kind: Capability,
}

mod capabilities {
    use serde::{Deserializer, Serialize, Serializer};

    use super::{Capability, TypedCapability, lenient};

    pub(super) fn serialize<S: Serializer>(list: &[Capability], serializer: S) -> Result<S::Ok, S::Error> {
        list.iter().map(|kind| TypedCapability { kind: *kind }).collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Capability>, D::Error> {
        let typed: Vec<TypedCapability> = lenient::known(deserializer)?;
        Ok(typed.into_iter().map(|typed| typed.kind).collect())
    }
}

/// The smallest offers a framework wants, by role.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct OfferFilters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_allocatable_resources: Option<serde_json::Value>,
}

/// A framework as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct FrameworkInfo {
    #[serde(default)]
    pub user: String,
    #[serde(default)]
    pub name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Value<FrameworkId>>,
    /// Seconds; unset is 0: a framework that disconnects is removed at once.
    #[serde(default, deserialize_with = "lenient::double")]
    pub failover_timeout: Option<f64>,
    #[serde(default, deserialize_with = "lenient::boolean")]
    pub checkpoint: Option<bool>,
    /// Only without MULTI_ROLE; unset is `*`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Only with MULTI_ROLE.
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webui_url: Option<String>,
    #[serde(default, with = "capabilities", skip_serializing_if = "Vec::is_empty")]
    pub capabilities: Vec<Capability>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offer_filters: BTreeMap<String, OfferFilters>,
}

impl FrameworkInfo {
    /// Does it say it understands `capability`?
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }

    /// The roles it is subscribed to, whichever way it says so.
    #[must_use]
    pub fn effective_roles(&self) -> Vec<String> {
        if self.has(Capability::MultiRole) {
            return self.roles.clone();
        }
        vec![self.role.clone().filter(|role| !role.is_empty()).unwrap_or_else(|| "*".to_owned())]
    }
}

/// A master as it describes itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct MasterInfo {
    pub id: MasterId,
    /// The IPv4 address as the number its bytes make read little-endian.
    pub ip: u32,
    pub port: u32,
    pub pid: String,
    pub hostname: String,
    pub version: String,
    pub address: Address,
    #[serde(default, deserialize_with = "lenient::many")]
    pub capabilities: Vec<serde_json::Value>,
}
