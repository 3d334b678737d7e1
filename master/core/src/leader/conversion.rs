//! Operations on resources, from the wire to our types.

use api::v1::offer::Operation;
use api::v1::offer::operation::{CreateDisk, Type};
use api::v1::resource::disk_info::source;
use api::v1::{Resource as WireResource, resources_from_wire};
use api::{Milli, Resource, Resources};

use crate::operation::{ResourceOperation, spell};
use crate::validate;

/// With our types. The texts are those of what Mesos would find missing or unsupported.
pub(super) fn resource_operation(wire: Operation) -> Result<ResourceOperation, String> {
    let kind = wire.r#type();
    let missing = || format!("Expecting '{}' to be present", kind.as_str_name().to_lowercase());
    Ok(match kind {
        Type::Reserve => {
            let reserve = wire.reserve.ok_or_else(missing)?;
            let source = read(&reserve.source).map_err(|error| format!("Invalid source: {error}"))?;
            ResourceOperation::Reserve { source, resources: all(&reserve.resources)? }
        }
        Type::Unreserve => {
            ResourceOperation::Unreserve { resources: all(&wire.unreserve.ok_or_else(missing)?.resources)? }
        }
        Type::Create => ResourceOperation::Create { volumes: all(&wire.create.ok_or_else(missing)?.volumes)? },
        Type::Destroy => ResourceOperation::Destroy { volumes: all(&wire.destroy.ok_or_else(missing)?.volumes)? },
        Type::GrowVolume => {
            let grow = *wire.grow_volume.ok_or_else(missing)?;
            let volume = one(grow.volume, "GrowVolume.volume")?;
            let mut addition = grow.addition;
            // Nothing of it is told apart from a resource that is malformed.
            if addition.scalar.as_ref().is_some_and(|scalar| scalar.value <= 0.0) {
                return Err("The size of 'GrowVolume.addition' field must be greater than zero".to_owned());
            }
            addition.allocation_info = None;
            ResourceOperation::Grow { volume, addition: one(addition, "GrowVolume.addition")? }
        }
        Type::ShrinkVolume => {
            let shrink = *wire.shrink_volume.ok_or_else(missing)?;
            let volume = one(shrink.volume, "ShrinkVolume.volume")?;
            let subtract = Milli::from_units(shrink.subtract.value).unwrap_or_default();
            ResourceOperation::Shrink { volume, subtract }
        }
        Type::CreateDisk => {
            let create = wire.create_disk.ok_or_else(missing)?;
            return Err(create_disk(&create));
        }
        Type::DestroyDisk => return Err(destroy_disk(&wire.destroy_disk.ok_or_else(missing)?.source)),
        Type::Unknown | Type::Launch | Type::LaunchGroup => return Err("Unknown operation".to_owned()),
    })
}

fn read(wire: &[WireResource]) -> Result<Resources, String> {
    validate::read(wire)
}

fn all(wire: &[WireResource]) -> Result<Resources, String> {
    read(wire).map_err(|error| format!("Invalid resources: {error}"))
}

fn one(wire: WireResource, field: &str) -> Result<Box<Resource>, String> {
    let invalid = |error: String| format!("Invalid resource in the '{field}' field: {error}");
    let read = read(&[wire]).map_err(invalid)?;
    let first = read.iter().next().cloned().map(Box::new);
    first.ok_or_else(|| invalid("it is empty".to_owned()))
}

/// Why a disk is not made: agents here have no resource providers, whose it would be.
fn create_disk(wire: &CreateDisk) -> String {
    let disk = match of_provider(&wire.source) {
        Ok(disk) => disk,
        Err(why) => return why,
    };
    let target = source::Type::try_from(wire.target_type).unwrap_or_default();
    if disk.r#type() != source::Type::Raw {
        return "'source' is not a RAW disk resource".to_owned();
    }
    if !matches!(target, source::Type::Mount | source::Type::Block) {
        return "'target_type' is neither MOUNT or BLOCK".to_owned();
    }
    match (disk.profile.is_some(), wire.target_profile.is_some()) {
        (true, true) => "'target_profile' must not be set when 'source' has a profile".to_owned(),
        (false, false) => "'target_profile' must be set when 'source' has no profile".to_owned(),
        (true, false) | (false, true) => unknown_provider(&wire.source),
    }
}

fn destroy_disk(wire: &WireResource) -> String {
    let disk = match of_provider(wire) {
        Ok(disk) => disk,
        Err(why) => return why,
    };
    if !matches!(disk.r#type(), source::Type::Mount | source::Type::Block | source::Type::Raw) {
        return "'source' is neither a MOUNT, BLOCK or RAW disk resource".to_owned();
    }
    if disk.id.is_none() {
        return "'source' is not backed by a CSI volume".to_owned();
    }
    unknown_provider(wire)
}

fn of_provider(wire: &WireResource) -> Result<api::v1::resource::disk_info::Source, String> {
    read(std::slice::from_ref(wire)).map_err(|error| format!("Invalid resource: {error}"))?;
    if wire.provider_id.is_none() {
        return Err("'source' is not managed by a resource provider".to_owned());
    }
    Ok(wire.disk.as_ref().and_then(|disk| disk.source.clone()).unwrap_or_default())
}

fn unknown_provider(wire: &WireResource) -> String {
    let text = resources_from_wire(std::slice::from_ref(wire)).map(|resources| spell(&resources, None));
    format!("No resource provider here manages {}", text.unwrap_or_default())
}
