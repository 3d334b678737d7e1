//! Is a call well-formed? What concerns the framework is looked at later.

use api::v1::scheduler::Call;
use api::v1::scheduler::call::Type;

/// Is the call well-formed? Its required fields were there when it was read.
///
/// # Errors
/// Mesos's text for the answer 400.
pub fn call(call: &Call) -> Result<(), String> {
    check(call).map_err(|error| format!("Failed to validate scheduler::Call: {error}"))
}

fn check(call: &Call) -> Result<(), String> {
    let expecting = |name: &str| format!("Expecting '{name}' to be present");
    let kind = call.r#type.and_then(|kind| Type::try_from(kind).ok()).ok_or_else(|| expecting("type"))?;
    let of = |id: &Option<api::FrameworkId>| id.clone().unwrap_or_default();
    if kind == Type::Subscribe {
        let subscribe = call.subscribe.as_ref().ok_or_else(|| expecting("subscribe"))?;
        if of(&subscribe.framework_info.id) != of(&call.framework_id) {
            return Err("'framework_id' differs from 'subscribe.framework_info.id'".to_owned());
        }
        return Ok(());
    }
    if call.framework_id.is_none() {
        return Err(expecting("framework_id"));
    }
    let (there, name) = match kind {
        Type::Accept => (call.accept.is_some(), "accept"),
        Type::Decline => (call.decline.is_some(), "decline"),
        Type::Kill => (call.kill.is_some(), "kill"),
        Type::Shutdown => (call.shutdown.is_some(), "shutdown"),
        Type::Acknowledge => (call.acknowledge.is_some(), "acknowledge"),
        Type::Reconcile => (call.reconcile.is_some(), "reconcile"),
        Type::Message => (call.message.is_some(), "message"),
        Type::Request => (call.request.is_some(), "request"),
        Type::UpdateFramework => (call.update_framework.is_some(), "update_framework"),
        Type::AcceptInverseOffers => (call.accept_inverse_offers.is_some(), "accept_inverse_offers"),
        Type::DeclineInverseOffers => (call.decline_inverse_offers.is_some(), "decline_inverse_offers"),
        Type::AcknowledgeOperationStatus => {
            (call.acknowledge_operation_status.is_some(), "acknowledge_operation_status")
        }
        Type::ReconcileOperations => (call.reconcile_operations.is_some(), "reconcile_operations"),
        Type::Unknown | Type::Subscribe | Type::Teardown | Type::Revive | Type::Suppress => (true, ""),
    };
    if !there {
        return Err(expecting(name));
    }
    let uuids = [
        call.acknowledge.as_ref().map(|acknowledge| &acknowledge.uuid).filter(|_| kind == Type::Acknowledge),
        (call.acknowledge_operation_status.as_ref().map(|acknowledge| &acknowledge.uuid))
            .filter(|_| kind == Type::AcknowledgeOperationStatus),
    ];
    if uuids.into_iter().flatten().any(|uuid| !is_uuid(uuid)) {
        return Err("Not a valid UUID".to_owned());
    }
    if kind == Type::AcknowledgeOperationStatus
        && call.acknowledge_operation_status.as_ref().is_some_and(|acknowledge| acknowledge.agent_id.is_none())
    {
        return Err(expecting("acknowledge_operation_status.agent_id"));
    }
    if kind == Type::UpdateFramework
        && call.update_framework.as_ref().is_some_and(|update| of(&update.framework_info.id) != of(&call.framework_id))
    {
        return Err("'framework_id' differs from 'update_framework.framework_info.id'".to_owned());
    }
    Ok(())
}

/// 16 bytes, of which the seventh names one of the five versions there are.
fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 16 && (1..=5).contains(&(bytes[6] >> 4))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_has_sixteen_bytes_and_a_version() {
        let mut bytes = [0xab_u8; 16];
        for version in 0..16_u8 {
            bytes[6] = version << 4;
            assert_eq!(is_uuid(&bytes), (1..=5).contains(&version), "version {version}");
        }
        bytes[6] = 0x40;
        assert!(!is_uuid(&bytes[..15]) && !is_uuid(&[]));
    }
}
