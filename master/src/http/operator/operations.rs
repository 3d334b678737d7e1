//! GET_OPERATIONS: those whose outcome their framework has not acknowledged.

use api::v1::master::{Response, response};
use api::v1::offer::operation::{Create, Destroy, GrowVolume, Reserve, ShrinkVolume, Type, Unreserve};
use api::v1::{self, Format, OperationStatus, Resource as WireResource, Uuid, resources_to_wire, value};
use api::{OperationId, Resource, Resources};
use master_core::View;
use master_core::operation::ResourceOperation;
use master_core::state::{Operation, OperationState};

use super::typed;
use crate::http::auth::Approvers;

/// Those the one who asks may see.
pub(super) fn operations(view: &View, approvers: &Approvers) -> Response {
    let visible = |framework: &api::FrameworkId| {
        let framework = view.state.framework(framework);
        framework.is_none_or(|framework| approvers.can_view_framework(&framework.info.user))
    };
    let known = view.state.operations.values().filter(|operation| visible(&operation.framework));
    let operations = known.map(|operation| one(operation)).collect();
    Response { get_operations: Some(response::GetOperations { operations }), ..typed(response::Type::GetOperations) }
}

fn one(operation: &Operation) -> v1::Operation {
    // Mesos keeps operations as it has upgraded them: with reservations of many levels, and to whom they were allocated.
    let format = Format { refined: true, allocation_role: Some(operation.role.clone()) };
    let status = OperationStatus {
        operation_id: Some(OperationId::from(operation.id.clone())),
        state: state_of(operation.state).into(),
        converted_resources: if operation.state == OperationState::Finished {
            resources_to_wire(&operation.converted, &format)
        } else {
            Vec::new()
        },
        uuid: Some(Uuid { value: operation.status_uuid.to_vec() }),
        agent_id: Some(operation.agent.clone()),
        ..OperationStatus::default()
    };
    v1::Operation {
        framework_id: Some(operation.framework.clone()),
        agent_id: Some(operation.agent.clone()),
        info: v1::offer::Operation {
            id: Some(OperationId::from(operation.id.clone())),
            ..info(&operation.operation, &format)
        },
        latest_status: status.clone(),
        statuses: vec![status],
        uuid: Uuid { value: operation.uuid.to_vec() },
    }
}

/// What was asked for.
fn info(operation: &ResourceOperation, format: &Format) -> v1::offer::Operation {
    let all = |resources: &Resources| resources_to_wire(resources, format);
    let mut info = v1::offer::Operation {
        r#type: Type::from_str_name(operation.name()).map(Into::into),
        ..v1::offer::Operation::default()
    };
    match operation {
        ResourceOperation::Reserve { source, resources } => {
            info.reserve = Some(Reserve { source: all(source), resources: all(resources) }.into());
        }
        ResourceOperation::Unreserve { resources } => {
            info.unreserve = Some(Unreserve { resources: all(resources) }.into())
        }
        ResourceOperation::Create { volumes } => info.create = Some(Create { volumes: all(volumes) }.into()),
        ResourceOperation::Destroy { volumes } => info.destroy = Some(Destroy { volumes: all(volumes) }.into()),
        ResourceOperation::Grow { volume, addition } => {
            let (volume, addition) = (wire(volume, format), wire(addition, format));
            info.grow_volume = Some(GrowVolume { volume, addition }.into());
        }
        ResourceOperation::Shrink { volume, subtract } => {
            let subtract = value::Scalar { value: subtract.units() };
            info.shrink_volume = Some(ShrinkVolume { volume: wire(volume, format), subtract }.into());
        }
    }
    info
}

fn wire(resource: &Resource, format: &Format) -> WireResource {
    let mut one = Resources::new();
    one.add(resource.clone());
    resources_to_wire(&one, format).pop().unwrap_or_default()
}

const fn state_of(state: OperationState) -> v1::OperationState {
    match state {
        OperationState::Pending => v1::OperationState::OperationPending,
        OperationState::Finished => v1::OperationState::OperationFinished,
        OperationState::Failed => v1::OperationState::OperationFailed,
        OperationState::Error => v1::OperationState::OperationError,
        OperationState::Dropped => v1::OperationState::OperationDropped,
        OperationState::Unreachable => v1::OperationState::OperationUnreachable,
        OperationState::GoneByOperator => v1::OperationState::OperationGoneByOperator,
        OperationState::Recovering => v1::OperationState::OperationRecovering,
        OperationState::Unknown => v1::OperationState::OperationUnknown,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_operation_shows_what_was_asked_for_and_what_came_of_it() {
        let reserved = json!([{
            "name": "cpus", "type": "SCALAR", "scalar": {"value": 1},
            "reservations": [{"type": "DYNAMIC", "role": "web", "principal": "p"}],
        }]);
        let wire: Vec<WireResource> = serde_json::from_value(reserved).unwrap();
        let resources = v1::resources_from_wire(&wire).unwrap();
        let operation = Operation {
            uuid: [1; 16],
            status_uuid: [2; 16],
            framework: "f".into(),
            id: "mine".to_owned(),
            agent: "a".into(),
            role: "web".to_owned(),
            operation: ResourceOperation::Reserve { source: Resources::new(), resources: resources.clone() },
            converted: resources,
            state: OperationState::Finished,
            at: 0,
        };
        let shown = one(&operation);
        let asked = shown.info.reserve.unwrap().resources;
        assert_eq!(asked[0].reservations[0].role.as_deref(), Some("web"));
        assert_eq!(asked[0].allocation_info.as_ref().unwrap().role.as_deref(), Some("web"));
        assert_eq!(shown.latest_status.converted_resources, asked);
        let pending = one(&Operation { state: OperationState::Pending, ..operation });
        assert!(pending.latest_status.converted_resources.is_empty() && pending.info.reserve.is_some());
    }
}
