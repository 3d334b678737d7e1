//! Offers and the filters that answer them.

use serde::{Deserialize, Serialize};

use super::{AllocationInfo, Value, WireAttribute, WireResource, lenient};
use crate::{AgentId, ExecutorId, FrameworkId, OfferId};

/// Where something answers.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Address {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    #[serde(default)]
    pub port: u32,
}

/// Where the agent answers.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct OfferUrl {
    #[serde(default)]
    pub scheme: String,
    #[serde(default)]
    pub address: Address,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// Resources of one agent, for one role of one framework.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Offer {
    pub id: Value<OfferId>,
    pub framework_id: Value<FrameworkId>,
    pub agent_id: Value<AgentId>,
    #[serde(default)]
    pub hostname: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<OfferUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_info: Option<AllocationInfo>,
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<WireResource>,
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<WireAttribute>,
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub executor_ids: Vec<Value<ExecutorId>>,
}

/// How long not to offer the same again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Filters {
    #[serde(default, deserialize_with = "lenient::double", skip_serializing_if = "Option::is_none")]
    pub refuse_seconds: Option<f64>,
}

impl Filters {
    /// Seconds to refuse for: 5 unless said, never negative or NaN, at most 365 days.
    #[must_use]
    pub fn effective_refuse_seconds(self) -> f64 {
        match self.refuse_seconds {
            Some(seconds) if seconds >= 0.0 => seconds.min(365.0 * 86_400.0),
            Some(_) | None => 5.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_last_five_seconds_unless_said() {
        for (given, effective) in
            [(None, 5.0), (Some(0.0), 0.0), (Some(-1.0), 5.0), (Some(f64::NAN), 5.0), (Some(1e12), 31_536_000.0)]
        {
            let filters = Filters { refuse_seconds: given };
            assert!((filters.effective_refuse_seconds() - effective).abs() < 1e-9, "{given:?}");
        }
    }
}
