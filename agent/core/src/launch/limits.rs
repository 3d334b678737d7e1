//! A task's resources as cgroup v2 limits.

use api::v1::{TaskInfo, resources_from_wire};
use serde_json::{Value, json};

/// Hard limits of one container.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// What it asked for, in thousandths of a processor.
    pub cpu_milli: u64,
    /// cpu.weight, 1 to 10000.
    pub cpu_weight: u64,
    /// Microseconds of each 100 ms; `None` is no limit.
    pub cpu_quota_us: Option<i64>,
    /// memory.max; `None` is no limit.
    pub memory_bytes: Option<u64>,
    /// memory.low when the limit is above the request.
    pub memory_low_bytes: u64,
    /// pids.max.
    pub pids: u64,
}

const PERIOD_US: i64 = 100_000;
/// The kernel's least quota.
const LEAST_QUOTA_US: i64 = 1_000;
const MIB: u64 = 1 << 20;
/// Mesos's least memory limit.
const LEAST_MEMORY_BYTES: u64 = 32 * MIB;

/// One of `TaskInfo.limits`.
enum Limit {
    Unset,
    Infinite,
    Units(f64),
}

impl Limits {
    /// What the task asked for; `limits` may raise cpus and mem above the request, up to infinity.
    #[must_use]
    pub fn of(task: &TaskInfo, pids: u64) -> Self {
        // The master has checked the resources; what cannot be read counts as nothing.
        let resources = resources_from_wire(&task.resources).unwrap_or_default();
        let cpus = resources.scalar("cpus").0;
        let request_bytes = (resources.scalar("mem").0.saturating_mul(MIB) / 1000).max(LEAST_MEMORY_BYTES);
        let quota =
            |milli: u64| (i64::try_from(milli).unwrap_or(i64::MAX / 100) * (PERIOD_US / 1000)).max(LEAST_QUOTA_US);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // limit() lets only 0..=10^12 through
        let whole = |units: f64| units.round() as u64;
        let cpu_quota_us = match limit(task, "cpus") {
            Limit::Unset => Some(quota(cpus)),
            Limit::Infinite => None,
            Limit::Units(units) => Some(quota(whole(units * 1000.0).max(cpus))),
        };
        let memory_bytes = match limit(task, "mem") {
            Limit::Unset => Some(request_bytes),
            Limit::Infinite => None,
            Limit::Units(units) => Some(whole(units).saturating_mul(MIB).max(request_bytes)),
        };
        Self {
            cpu_milli: cpus,
            cpu_weight: (cpus / 10).clamp(1, 10_000),
            cpu_quota_us,
            memory_bytes,
            memory_low_bytes: request_bytes,
            pids,
        }
    }

    /// cpu.max, to be written once the task's own program runs. Not a part of the specification: making a container
    /// takes a tenth of a second of processor time *inside* its cgroup, so a task with 0.1 cpus would start ten times
    /// slower than one with a whole one. cpu.weight holds from the beginning.
    #[must_use]
    pub fn cpu_max(&self) -> String {
        self.cpu_quota_us.map_or_else(|| format!("max {PERIOD_US}"), |quota| format!("{quota} {PERIOD_US}"))
    }

    pub(super) fn oci(self) -> Value {
        // Through `unified`, because libcgroups turns shares into weights with a curve of its own and
        // never writes a swap limit of zero. Without oom.group one child dies and the task limps on.
        let mut unified = json!({
            "cpu.weight": self.cpu_weight.to_string(),
            "memory.swap.max": "0",
            "memory.oom.group": "1",
        });
        if self.memory_bytes != Some(self.memory_low_bytes) {
            unified["memory.low"] = json!(self.memory_low_bytes.to_string());
        }
        let mut resources = json!({
            "devices": super::confinement::devices(),
            "pids": { "limit": self.pids },
            "unified": unified,
        });
        if let Some(bytes) = self.memory_bytes {
            resources["memory"] = json!({ "limit": bytes });
        }
        resources
    }
}

/// The task's memory limit; `None` when it has none.
#[must_use]
pub fn memory_limit_bytes(task: &TaskInfo) -> Option<u64> {
    Limits::of(task, 0).memory_bytes
}

/// What a task may write in its sandbox; persistent volumes have limits of their own. `None` when it has none.
#[must_use]
pub fn disk_limit_bytes(task: &TaskInfo) -> Option<u64> {
    let resources = resources_from_wire(&task.resources).unwrap_or_default();
    let persists = |resource: &api::Resource| resource.disk.as_ref().is_some_and(|disk| disk.persistence.is_some());
    let disk = resources.filter(|resource| resource.name == "disk" && !persists(resource));
    (!disk.is_empty()).then(|| disk.scalar("disk").0.saturating_mul(MIB) / 1000)
}

fn limit(task: &TaskInfo, name: &str) -> Limit {
    match task.limits.get(name).map(|limit| limit.value) {
        Some(f64::INFINITY) => Limit::Infinite,
        Some(units) => bounded(units),
        None => Limit::Unset,
    }
}

fn bounded(units: f64) -> Limit {
    if (0.0..=1e9).contains(&units) { Limit::Units(units) } else { Limit::Unset }
}

#[cfg(test)]
mod tests {
    use super::super::tests::task;
    use super::*;

    #[test]
    fn resources_become_cgroup_values() {
        for (name, cpus, mem, limits, weight, quota, bytes) in [
            ("half a cpu", 0.5, 64.0, "null", 50, Some(50_000), Some(64 << 20)),
            ("tiny is lifted to the least", 0.001, 1.0, "null", 1, Some(1_000), Some(32 << 20)),
            ("burst", 1.0, 64.0, r#"{"cpus":{"value":2.5},"mem":{"value":128}}"#, 100, Some(250_000), Some(128 << 20)),
            ("no bounds", 1.0, 64.0, r#"{"cpus":{"value":"Infinity"},"mem":{"value":"Infinity"}}"#, 100, None, None),
            ("many", 200.0, 64.0, "null", 10_000, Some(20_000_000), Some(64 << 20)),
        ] {
            let task = task(&format!(
                r#"{{"limits":{limits},"resources":[{{"name":"cpus","type":"SCALAR","scalar":{{"value":{cpus}}}}},
                    {{"name":"mem","type":"SCALAR","scalar":{{"value":{mem}}}}}]}}"#
            ));
            let limits = Limits::of(&task, 9);
            assert_eq!((limits.cpu_weight, limits.cpu_quota_us, limits.memory_bytes), (weight, quota, bytes), "{name}");
            assert_eq!(limits.oci()["unified"]["memory.swap.max"], "0");
            assert_eq!(limits.oci()["pids"]["limit"], 9);
            assert!(limits.oci().get("cpu").is_none() && limits.cpu_max().ends_with(" 100000"));
        }
    }
}
