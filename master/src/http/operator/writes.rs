//! Calls that change something: messages to [`OperatorWrite`]s, with Mesos's texts for what is none.

use std::collections::BTreeMap;

use api::v1::master::{Call, call};
use api::v1::{self, resources_from_wire, value};
use api::{Milli, Resource, Resources};
use master_core::io::operator::{MachineId, OperatorWrite, QuotaConfig, Unavailability, Window};
use master_core::operation::ResourceOperation;

use crate::http::legacy::changes::{
    Guarantee, Invalid, lower, validate_guarantees, validate_machine_list, validate_weights, validate_windows,
};

/// What the call lacks, or has too much of: `Expecting 'kill' to be present`.
pub(crate) fn validate(call: &Call) -> Result<(), String> {
    let name = call.r#type().as_str_name();
    let present = match call.r#type() {
        call::Type::GetMetrics => call.get_metrics.is_some(),
        call::Type::SetLoggingLevel => call.set_logging_level.is_some(),
        call::Type::ListFiles => call.list_files.is_some(),
        call::Type::ReadFile => call.read_file.is_some(),
        call::Type::UpdateWeights => call.update_weights.is_some(),
        call::Type::ReserveResources => call.reserve_resources.is_some(),
        call::Type::UnreserveResources => call.unreserve_resources.is_some(),
        call::Type::CreateVolumes => call.create_volumes.is_some(),
        call::Type::DestroyVolumes => call.destroy_volumes.is_some(),
        call::Type::GrowVolume => call.grow_volume.is_some(),
        call::Type::ShrinkVolume => call.shrink_volume.is_some(),
        call::Type::UpdateMaintenanceSchedule => call.update_maintenance_schedule.is_some(),
        call::Type::StartMaintenance => call.start_maintenance.is_some(),
        call::Type::StopMaintenance => call.stop_maintenance.is_some(),
        call::Type::DrainAgent => call.drain_agent.is_some(),
        call::Type::DeactivateAgent => call.deactivate_agent.is_some(),
        call::Type::ReactivateAgent => call.reactivate_agent.is_some(),
        call::Type::UpdateQuota => call.update_quota.is_some(),
        call::Type::SetQuota => call.set_quota.is_some(),
        call::Type::RemoveQuota => call.remove_quota.is_some(),
        call::Type::Teardown => call.teardown.is_some(),
        call::Type::MarkAgentGone => call.mark_agent_gone.is_some(),
        call::Type::Unknown
        | call::Type::GetHealth
        | call::Type::GetFlags
        | call::Type::GetVersion
        | call::Type::GetLoggingLevel
        | call::Type::GetState
        | call::Type::GetAgents
        | call::Type::GetFrameworks
        | call::Type::GetExecutors
        | call::Type::GetOperations
        | call::Type::GetTasks
        | call::Type::GetRoles
        | call::Type::GetWeights
        | call::Type::GetMaster
        | call::Type::Subscribe
        | call::Type::GetMaintenanceStatus
        | call::Type::GetMaintenanceSchedule
        | call::Type::GetQuota => true,
    };
    if !present {
        return Err(format!(
            "Failed to validate master::Call: Expecting '{}' to be present",
            name.to_ascii_lowercase()
        ));
    }
    let grows = call.grow_volume.as_ref().filter(|_| call.r#type() == call::Type::GrowVolume);
    let shrinks = call.shrink_volume.as_ref().filter(|_| call.r#type() == call::Type::ShrinkVolume);
    if grows.is_some_and(|grow| grow.agent_id.is_none()) || shrinks.is_some_and(|shrink| shrink.agent_id.is_none()) {
        return Err(
            "Failed to validate master::Call: Expecting 'agent_id' to be present; only agent default resources \
                    are supported right now"
                .to_owned(),
        );
    }
    Ok(())
}

/// The write a validated call asks for; `None` when it asks for none.
pub(crate) fn write(call: Call) -> Option<Result<OperatorWrite, Invalid>> {
    let apply = |agent, operation: Result<ResourceOperation, Invalid>| {
        operation.map(|operation| OperatorWrite::Apply { agent, operation, principal: None })
    };
    if let Some(call) = call.update_weights {
        let weights = call.weight_infos.into_iter().map(|info| (info.role.unwrap_or_default(), info.weight)).collect();
        return Some(validate_weights(weights).map(OperatorWrite::UpdateWeights));
    }
    if let Some(call) = call.reserve_resources {
        let operation = resources(&call.source)
            .and_then(|source| Ok(ResourceOperation::Reserve { source, resources: resources(&call.resources)? }));
        return Some(apply(call.agent_id, operation));
    }
    if let Some(call) = call.unreserve_resources {
        let operation = resources(&call.resources).map(|resources| ResourceOperation::Unreserve { resources });
        return Some(apply(call.agent_id, operation));
    }
    if let Some(call) = call.create_volumes {
        let operation = resources(&call.volumes).map(|volumes| ResourceOperation::Create { volumes });
        return Some(apply(call.agent_id, operation));
    }
    if let Some(call) = call.destroy_volumes {
        let operation = resources(&call.volumes).map(|volumes| ResourceOperation::Destroy { volumes });
        return Some(apply(call.agent_id, operation));
    }
    if let Some(call) = call.grow_volume {
        let operation = one(&call.volume).and_then(|volume| {
            Ok(ResourceOperation::Grow { volume: Box::new(volume), addition: Box::new(one(&call.addition)?) })
        });
        return Some(apply(call.agent_id.unwrap_or_default(), operation));
    }
    if let Some(call) = call.shrink_volume {
        let operation = one(&call.volume).and_then(|volume| {
            let subtract = amount(&call.subtract, "ShrinkVolume.subtract")?;
            Ok(ResourceOperation::Shrink { volume: Box::new(volume), subtract })
        });
        return Some(apply(call.agent_id.unwrap_or_default(), operation));
    }
    if let Some(call) = call.update_maintenance_schedule {
        let windows = windows(call.schedule);
        let valid = validate_windows(&windows).map(|()| OperatorWrite::UpdateMaintenanceSchedule(lower(windows)));
        return Some(valid);
    }
    if let Some(call) = call.start_maintenance {
        return Some(machines(call.machines).map(OperatorWrite::StartMaintenance));
    }
    if let Some(call) = call.stop_maintenance {
        return Some(machines(call.machines).map(OperatorWrite::StopMaintenance));
    }
    write_on_agent_or_role(call)
}

fn write_on_agent_or_role(call: Call) -> Option<Result<OperatorWrite, Invalid>> {
    if let Some(call) = call.drain_agent {
        let max_grace_ms = call.max_grace_period.map(|grace| {
            let seconds = u64::try_from(grace.seconds.unwrap_or(0)).unwrap_or(0);
            let nanos = u64::try_from(grace.nanos.unwrap_or(0)).unwrap_or(0);
            seconds.saturating_mul(1000).saturating_add(nanos / 1_000_000)
        });
        let (agent, mark_gone) = (call.agent_id, call.mark_gone.unwrap_or(false));
        return Some(Ok(OperatorWrite::DrainAgent { agent, max_grace_ms, mark_gone }));
    }
    if let Some(call) = call.deactivate_agent {
        return Some(Ok(OperatorWrite::DeactivateAgent(call.agent_id)));
    }
    if let Some(call) = call.reactivate_agent {
        return Some(Ok(OperatorWrite::ReactivateAgent(call.agent_id)));
    }
    if let Some(call) = call.mark_agent_gone {
        return Some(Ok(OperatorWrite::MarkAgentGone(call.agent_id)));
    }
    if let Some(call) = call.teardown {
        return Some(Ok(OperatorWrite::Teardown(call.framework_id)));
    }
    if let Some(call) = call.update_quota {
        let configs: Result<Vec<QuotaConfig>, Invalid> = call.quota_configs.into_iter().map(quota_config).collect();
        let force = call.force.unwrap_or(false);
        return Some(configs.map(|configs| OperatorWrite::UpdateQuota { force, configs }));
    }
    if let Some(call) = call.set_quota {
        let request = call.quota_request;
        let role = request.role.unwrap_or_default();
        let guarantees = request.guarantee.iter().map(guarantee).collect();
        let checked = validate_guarantees(&role, guarantees)
            .map_err(|error| Invalid(format!("Failed to validate set quota request: {error}")));
        let force = request.force.unwrap_or(false);
        return Some(checked.map(|guarantee| OperatorWrite::SetQuota { force, role, guarantee }));
    }
    call.remove_quota.map(|call| Ok(OperatorWrite::RemoveQuota { role: call.role }))
}

fn resources(wire: &[v1::Resource]) -> Result<Resources, Invalid> {
    resources_from_wire(wire).map_err(|error| Invalid(error.to_string()))
}

fn one(wire: &v1::Resource) -> Result<Resource, Invalid> {
    let read = resources(std::slice::from_ref(wire))?;
    read.iter().next().cloned().ok_or_else(|| Invalid(format!("Resource '{}' is empty", wire.name)))
}

fn amount(scalar: &value::Scalar, what: &str) -> Result<Milli, Invalid> {
    Milli::from_units(scalar.value).ok_or_else(|| Invalid(format!("Value of '{what}' must be greater than zero")))
}

fn quota_config(config: v1::quota::QuotaConfig) -> Result<QuotaConfig, Invalid> {
    let read = |kind: &str, amounts: BTreeMap<String, value::Scalar>| -> Result<BTreeMap<String, Milli>, Invalid> {
        let each = amounts.into_iter().map(|(name, scalar)| {
            let value = scalar.value;
            let amount = Milli::from_units(value).ok_or_else(|| {
                let reason = if value < 0.0 { "Negative values not supported" } else { "Value too large" };
                Invalid(format!("Invalid QuotaConfig: Invalid {kind} configuration {{'{name}': {value}}}: {reason}"))
            });
            amount.map(|amount| (name, amount))
        });
        each.collect()
    };
    let (guarantees, limits) = (read("guarantee", config.guarantees)?, read("limit", config.limits)?);
    Ok(QuotaConfig { role: config.role, guarantees, limits })
}

fn guarantee(wire: &v1::Resource) -> Guarantee {
    let extras = [
        ("reservation", wire.reservation.is_some()),
        ("reservations", !wire.reservations.is_empty()),
        ("disk", wire.disk.is_some()),
        ("revocable", wire.revocable.is_some()),
    ];
    Guarantee {
        name: wire.name.clone(),
        kind: wire.r#type().as_str_name().to_owned(),
        value: wire.scalar.as_ref().map_or(0.0, |scalar| scalar.value),
        role: wire.role.clone().filter(|role| role != "*"),
        extras: extras.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect(),
    }
}

/// As written: [`lower`] is for what is kept.
fn machine(wire: v1::MachineId) -> MachineId {
    MachineId { hostname: wire.hostname.unwrap_or_default(), ip: wire.ip.unwrap_or_default() }
}

fn windows(schedule: v1::maintenance::Schedule) -> Vec<Window> {
    let each = schedule.windows.into_iter().map(|window| Window {
        machines: window.machine_ids.into_iter().map(machine).collect(),
        unavailability: Unavailability {
            start: window.unavailability.start.nanoseconds,
            duration: window.unavailability.duration.map(|duration| duration.nanoseconds),
        },
    });
    each.collect()
}

fn machines(wire: Vec<v1::MachineId>) -> Result<Vec<MachineId>, Invalid> {
    let machines: Vec<MachineId> = wire.into_iter().map(machine).collect();
    validate_machine_list(&machines)?;
    Ok(machines.iter().map(|machine| MachineId::new(&machine.hostname, &machine.ip)).collect())
}
