//! Answers that fit a message each.

use std::collections::BTreeMap;

use api::Milli;
use api::v1::maintenance::{ClusterStatus, Schedule, Window, cluster_status};
use api::v1::master::{Response, response};
use api::v1::quota::{QuotaConfig, QuotaInfo, QuotaStatus};
use api::v1::{
    DurationInfo, Flag, MachineId, Metric, Resource, Role, TimeInfo, Unavailability, VersionInfo, WeightInfo, value,
};
use master_core::View;
use master_core::io::operator::MachineId as Machine;

use super::{messages, typed};
use crate::http::auth::Approvers;
use crate::http::legacy::maintenance::{down_machines, draining, said_of, windows as planned};
use crate::http::legacy::quantities::Quantities;
use crate::http::legacy::roles::known_roles;
use crate::http::router::Facts;

/// GET_HEALTH.
pub(super) fn health() -> Response {
    Response { get_health: Some(response::GetHealth { healthy: true }), ..typed(response::Type::GetHealth) }
}

/// GET_FLAGS.
pub(super) fn flags(facts: &Facts) -> Response {
    let flags = facts.flags.iter().map(|(name, value)| Flag { name: name.clone(), value: Some(value.clone()) });
    Response { get_flags: Some(response::GetFlags { flags: flags.collect() }), ..typed(response::Type::GetFlags) }
}

/// GET_VERSION.
pub(super) fn version(facts: &Facts) -> Response {
    let version_info = VersionInfo {
        version: facts.mesos_version.to_owned(),
        build_date: Some("1970-01-01 00:00:00".to_owned()),
        build_time: Some(0.0),
        build_user: Some("mesolith".to_owned()),
        ..VersionInfo::default()
    };
    Response { get_version: Some(response::GetVersion { version_info }), ..typed(response::Type::GetVersion) }
}

/// GET_METRICS.
pub(super) fn metrics(all: BTreeMap<String, f64>) -> Response {
    let metrics = all.into_iter().map(|(name, value)| Metric { name, value: Some(value) }).collect();
    Response { get_metrics: Some(response::GetMetrics { metrics }), ..typed(response::Type::GetMetrics) }
}

/// GET_LOGGING_LEVEL.
pub(super) fn logging_level(level: u32) -> Response {
    let answer = response::GetLoggingLevel { level };
    Response { get_logging_level: Some(answer), ..typed(response::Type::GetLoggingLevel) }
}

fn scalar(name: &str, amount: Milli) -> Resource {
    Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(value::Scalar { value: amount.units() }),
        ..Resource::default()
    }
}

/// GET_ROLES.
pub(super) fn roles(view: &View, approvers: &Approvers) -> Response {
    let known = known_roles(view).into_iter().filter(|(name, _)| approvers.can_view_role(name));
    let roles = known
        .map(|(name, role)| {
            let mut both: Quantities = role.allocated;
            both.merge(&role.offered);
            Role {
                weight: view.state.weights.get(&name).copied().unwrap_or(1.0),
                // As in Mesos, only what is measured.
                resources: ["cpus", "disk", "gpus", "mem"]
                    .into_iter()
                    .filter(|name| both.get(name) != Milli::ZERO)
                    .map(|name| scalar(name, both.get(name)))
                    .collect(),
                frameworks: role.frameworks.into_iter().collect(),
                name,
            }
        })
        .collect();
    Response { get_roles: Some(response::GetRoles { roles }), ..typed(response::Type::GetRoles) }
}

/// GET_WEIGHTS.
pub(super) fn weights(view: &View, approvers: &Approvers) -> Response {
    let set = view.state.weights.iter().filter(|(role, _)| approvers.can_view_role(role));
    let weight_infos: Vec<WeightInfo> =
        set.map(|(role, weight)| WeightInfo { weight: *weight, role: Some(role.clone()) }).collect();
    // Without any, Mesos leaves the member out.
    let get_weights = (!weight_infos.is_empty()).then_some(response::GetWeights { weight_infos });
    Response { get_weights, ..typed(response::Type::GetWeights) }
}

/// GET_MASTER.
#[allow(clippy::cast_precision_loss)] // milliseconds since 1970 fit in 53 bits for 285,000 years
pub(super) fn master(view: &View, facts: &Facts) -> Response {
    let answer = response::GetMaster {
        master_info: Some(messages::master(view, facts)),
        start_time: Some(facts.started_ms as f64 / 1000.0),
        elected_time: view.elected_at.map(|at| at as f64 / 1000.0),
    };
    Response { get_master: Some(answer), ..typed(response::Type::GetMaster) }
}

fn machine(machine: &Machine) -> MachineId {
    let filled = |text: &String| (!text.is_empty()).then(|| text.clone());
    MachineId { hostname: filled(&machine.hostname), ip: filled(&machine.ip) }
}

/// GET_MAINTENANCE_STATUS.
pub(super) fn maintenance_status(view: &View, approvers: &Approvers) -> Response {
    let draining_machines = draining(view, approvers)
        .into_iter()
        .map(|draining| cluster_status::DrainingMachine {
            id: machine(draining),
            statuses: said_of(view, draining, approvers),
        })
        .collect();
    let down_machines = down_machines(view, approvers).into_iter().map(machine).collect();
    let status = ClusterStatus { draining_machines, down_machines };
    Response {
        get_maintenance_status: Some(response::GetMaintenanceStatus { status }),
        ..typed(response::Type::GetMaintenanceStatus)
    }
}

/// GET_MAINTENANCE_SCHEDULE.
pub(super) fn maintenance_schedule(view: &View, approvers: &Approvers) -> Response {
    let windows = planned(view, approvers).into_iter().map(|window| Window {
        machine_ids: window.machines.iter().map(machine).collect(),
        unavailability: Unavailability {
            start: TimeInfo { nanoseconds: window.unavailability.start },
            duration: window.unavailability.duration.map(|nanoseconds| DurationInfo { nanoseconds }),
        },
    });
    let schedule = Schedule { windows: windows.collect() };
    Response {
        get_maintenance_schedule: Some(response::GetMaintenanceSchedule { schedule }),
        ..typed(response::Type::GetMaintenanceSchedule)
    }
}

/// GET_QUOTA.
pub(super) fn quota(view: &View, approvers: &Approvers) -> Response {
    let shown = || view.state.quotas.values().filter(|quota| approvers.can_get_quota(&quota.role));
    let amounts = |amounts: &BTreeMap<String, Milli>| {
        amounts.iter().map(|(name, amount)| (name.clone(), value::Scalar { value: amount.units() })).collect()
    };
    let infos = shown().map(|quota| QuotaInfo {
        role: Some(quota.role.clone()),
        guarantee: quota.guarantees.iter().map(|(name, amount)| scalar(name, *amount)).collect(),
        ..QuotaInfo::default()
    });
    let configs = shown().map(|quota| QuotaConfig {
        role: quota.role.clone(),
        guarantees: amounts(&quota.guarantees),
        limits: amounts(&quota.limits),
    });
    let status = QuotaStatus { infos: infos.collect(), configs: configs.collect() };
    Response { get_quota: Some(response::GetQuota { status }), ..typed(response::Type::GetQuota) }
}
