//! Which list of Mesos's speaks of a change, and of what in it.

use api::Resources;
use master_core::acl::Action;
use master_core::io::operator::{MachineId, OperatorWrite};
use master_core::operation::ResourceOperation;

use crate::http::auth::Approvers;

/// May they do it?
pub(crate) fn is_allowed(approvers: &Approvers, write: &OperatorWrite) -> bool {
    let allows = |action, object: Option<&str>| approvers.allows(action, object);
    match write {
        OperatorWrite::UpdateWeights(weights) => {
            weights.iter().all(|(role, _)| allows(Action::UpdateWeight, Some(role)))
        }
        OperatorWrite::UpdateQuota { configs, .. } => {
            configs.iter().all(|config| allows(Action::UpdateQuota, Some(&config.role)))
        }
        OperatorWrite::SetQuota { role, .. } | OperatorWrite::RemoveQuota { role } => {
            allows(Action::UpdateQuota, Some(role))
        }
        // The master's own, which no operator writes.
        OperatorWrite::Keep { .. } => false,
        OperatorWrite::Apply { operation, .. } => {
            let all = |resources: &Resources, action: Action| {
                resources.iter().all(|resource| allows(action, Some(resource.role())))
            };
            // Whose reservations and volumes they are decides who may undo them; what is nobody's is anybody's.
            let unreserves = |resources: &Resources| {
                let reservations = resources.iter().filter_map(|resource| resource.reservations.last());
                let mut dynamic = reservations.filter(|reservation| reservation.dynamic);
                dynamic.all(|one| allows(Action::UnreserveResources, one.principal.as_deref()))
            };
            let destroys = |volumes: &Resources| {
                let disks = volumes.iter().filter_map(|volume| volume.disk.as_ref()?.persistence.as_ref());
                let mut creators = disks.map(|persistence| persistence.principal.as_deref());
                creators.all(|creator| allows(Action::DestroyVolume, creator))
            };
            match operation {
                ResourceOperation::Reserve { source, resources } => {
                    all(resources, Action::ReserveResources) && unreserves(source)
                }
                ResourceOperation::Unreserve { resources } => unreserves(resources),
                ResourceOperation::Create { volumes } => all(volumes, Action::CreateVolume),
                ResourceOperation::Destroy { volumes } => destroys(volumes),
                ResourceOperation::Grow { volume, .. } | ResourceOperation::Shrink { volume, .. } => {
                    allows(Action::ResizeVolume, Some(volume.role()))
                }
            }
        }
        OperatorWrite::UpdateMaintenanceSchedule(windows) => {
            allows_machines(approvers, Action::UpdateMaintenanceSchedule, windows.iter().flat_map(|one| &one.machines))
        }
        OperatorWrite::StartMaintenance(machines) => allows_machines(approvers, Action::StartMaintenance, machines),
        OperatorWrite::StopMaintenance(machines) => allows_machines(approvers, Action::StopMaintenance, machines),
        OperatorWrite::DrainAgent { .. } => allows(Action::DrainAgent, None),
        OperatorWrite::DeactivateAgent(_) => allows(Action::DeactivateAgent, None),
        OperatorWrite::ReactivateAgent(_) => allows(Action::ReactivateAgent, None),
        OperatorWrite::MarkAgentGone(_) => allows(Action::MarkAgentGone, None),
        // Judged by the framework's principal, which the caller looked up.
        OperatorWrite::Teardown(_) => true,
        // Not Mesos's: there is no list for them.
        OperatorWrite::PutRule { .. } | OperatorWrite::RemoveRule(_) => approvers.is_administrator(),
    }
}

fn allows_machines<'a>(
    approvers: &Approvers,
    action: Action,
    machines: impl IntoIterator<Item = &'a MachineId>,
) -> bool {
    machines.into_iter().all(|machine| allows_machine(approvers, action, machine))
}

/// Machines go by their host names in the lists, or by their addresses if they have none.
pub(crate) fn allows_machine(approvers: &Approvers, action: Action, machine: &MachineId) -> bool {
    let name = if machine.hostname.is_empty() { &machine.ip } else { &machine.hostname };
    approvers.allows(action, Some(name))
}
