//! Is a resource, as it came, one at all? Looked at before anything is made of it.

use std::fmt::Write;

use api::v1::offer::Operation;
use api::v1::offer::operation::Type;
use api::v1::resource::ReservationInfo;
use api::v1::resource::disk_info::source;
use api::v1::resource::reservation_info::Type as ReservationType;
use api::v1::value::Type as ValueType;
use api::v1::{ExecutorInfo, Labels, Resource, ResourceError, TaskInfo, resources_from_wire};
use api::{Milli, Resources};

use super::role::{is_below, role};
use crate::operation::spell_disk;

/// Is each of them well-formed, whatever it is for?
///
/// # Errors
/// Mesos's text: which is not, and why.
pub fn resources(wire: &[Resource]) -> Result<(), String> {
    wire.iter().try_for_each(one)
}

/// In the form the programs think in, of what [`resources`] found well-formed.
pub(crate) fn read(wire: &[Resource]) -> Result<Resources, String> {
    resources_from_wire(wire).map_err(|error| match error {
        ResourceError::FractionalGpus => format!("Invalid 'gpus' resource: {error}"),
        ResourceError::Invalid { .. } | ResourceError::EmptyName => format!("Invalid resources: {error}"),
    })
}

/// Everything an operation of an ACCEPT names.
pub(crate) fn operation(wire: &Operation) -> Result<(), String> {
    let missing = |article: &str, kind: Type| {
        let name = kind.as_str_name();
        let noun = if kind == Type::GrowVolume { "operation" } else { "offer operation" };
        let stop = if matches!(kind, Type::GrowVolume | Type::ShrinkVolume) { "" } else { "." };
        let field = name.to_lowercase();
        format!("{article} {name} {noun} must have the Offer.Operation.{field} field set{stop}")
    };
    let kind = wire.r#type();
    let missing = |article: &'static str| move || missing(article, kind);
    match kind {
        Type::Reserve => {
            let reserve = wire.reserve.as_ref().ok_or_else(missing("A"))?;
            resources(&reserve.resources)?;
            resources(&reserve.source)?;
            if !reserve.source.is_empty() {
                return Err("Reservation updates are not yet implemented for the scheduler API.".to_owned());
            }
            Ok(())
        }
        Type::Unreserve => resources(&wire.unreserve.as_ref().ok_or_else(missing("An"))?.resources),
        Type::Create => resources(&wire.create.as_ref().ok_or_else(missing("A"))?.volumes),
        Type::Destroy => resources(&wire.destroy.as_ref().ok_or_else(missing("A"))?.volumes),
        Type::GrowVolume => {
            let grow = wire.grow_volume.as_ref().ok_or_else(missing("A"))?;
            alone(&grow.volume)?;
            alone(&grow.addition)
        }
        Type::ShrinkVolume => alone(&wire.shrink_volume.as_ref().ok_or_else(missing("A"))?.volume),
        Type::CreateDisk => alone(&wire.create_disk.as_ref().ok_or_else(missing("A"))?.source),
        Type::DestroyDisk => alone(&wire.destroy_disk.as_ref().ok_or_else(missing("A"))?.source),
        Type::Launch => wire.launch.as_ref().ok_or_else(missing("A"))?.task_infos.iter().try_for_each(of_task),
        Type::LaunchGroup => {
            let group = wire.launch_group.as_ref().ok_or_else(missing("A"))?;
            of_executor(&group.executor)?;
            group.task_group.tasks.iter().try_for_each(of_task)
        }
        Type::Unknown => Ok(()),
    }
}

fn of_task(task: &TaskInfo) -> Result<(), String> {
    resources(&task.resources)?;
    task.executor.as_deref().map_or(Ok(()), of_executor)
}

fn of_executor(executor: &ExecutorInfo) -> Result<(), String> {
    resources(&executor.resources)
}

/// In a list, the resource is named.
fn one(wire: &Resource) -> Result<(), String> {
    alone(wire).map_err(|error| format!("Resource '{}' is invalid: {error}", spell(wire)))
}

fn alone(wire: &Resource) -> Result<(), String> {
    if wire.name.is_empty() {
        return Err("Empty resource name".to_owned());
    }
    value(wire)?;
    disk(wire)?;
    if wire.reservations.is_empty() {
        old_reservation(wire)?;
    } else {
        reservations(wire)?;
    }
    if wire.shared.is_some() {
        if wire.name != "disk" {
            return Err(format!("Resource {} cannot be shared", wire.name));
        }
        if wire.disk.as_ref().is_none_or(|disk| disk.persistence.is_none()) {
            return Err("Only persistent volumes can be shared".to_owned());
        }
    }
    Ok(())
}

fn value(wire: &Resource) -> Result<(), String> {
    let there = (wire.scalar.is_some(), wire.ranges.is_some(), wire.set.is_some());
    let invalid = |what: &str| Err(format!("Invalid {what}"));
    match ValueType::try_from(wire.r#type) {
        Ok(ValueType::Scalar) => {
            let (Some(scalar), (_, false, false)) = (&wire.scalar, there) else { return invalid("scalar resource") };
            // What is smaller than can be counted is none, and what is larger wraps around.
            if scalar.value != 0.0 && Milli::from_units(scalar.value).is_none_or(|amount| amount == Milli::ZERO) {
                return invalid("scalar resource: value <= 0");
            }
        }
        Ok(ValueType::Ranges) => {
            let (Some(ranges), (false, _, false)) = (&wire.ranges, there) else { return invalid("ranges resource") };
            if ranges.range.iter().any(|range| range.begin > range.end) {
                return invalid("ranges resource: begin > end");
            }
            let mut sorted: Vec<(u64, u64)> = ranges.range.iter().map(|range| (range.begin, range.end)).collect();
            sorted.sort_unstable();
            if sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
                return invalid("ranges resource: overlapping ranges");
            }
        }
        Ok(ValueType::Set) => {
            let (Some(set), (false, false, _)) = (&wire.set, there) else { return invalid("set resource") };
            let mut sorted: Vec<&String> = set.item.iter().collect();
            sorted.sort_unstable();
            if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
                return invalid("set resource: duplicated elements");
            }
        }
        Ok(ValueType::Text) => return Err("Unsupported resource type".to_owned()),
        Err(_) => return Err("Invalid resource type".to_owned()),
    }
    Ok(())
}

fn disk(wire: &Resource) -> Result<(), String> {
    let Some(disk) = &wire.disk else { return Ok(()) };
    if wire.name != "disk" {
        return Err(format!("DiskInfo should not be set for {} resource", wire.name));
    }
    let Some(source) = &disk.source else { return Ok(()) };
    match source.r#type() {
        source::Type::Path | source::Type::Mount => Ok(()),
        kind @ (source::Type::Block | source::Type::Raw) => {
            let set = [("Mount", source.mount.is_some()), ("Path", source.path.is_some())];
            match set.into_iter().find(|(_, set)| *set) {
                Some((field, _)) => Err(format!("{field} should not be set for {} disk source", kind.as_str_name())),
                None => Ok(()),
            }
        }
        source::Type::Unknown => Err("Unsupported 'DiskInfo.Source.Type' in 'UNKNOWN'".to_owned()),
    }
}

/// `role` and `reservation`, without a stack.
fn old_reservation(wire: &Resource) -> Result<(), String> {
    let own = wire.role.as_deref().unwrap_or("*");
    role(own)?;
    let Some(reservation) = &wire.reservation else { return Ok(()) };
    let unset = |field: &str| {
        let what = format!("'Resource.ReservationInfo.{field}' must not be set");
        Err(format!("{what} for the 'Resource.reservation' field"))
    };
    if reservation.r#type.is_some() {
        return unset("type");
    }
    if reservation.role.is_some() {
        return unset("role");
    }
    if own == "*" {
        return Err("Invalid reservation: role \"*\" cannot be dynamically reserved".to_owned());
    }
    Ok(())
}

fn reservations(wire: &Resource) -> Result<(), String> {
    for level in &wire.reservations {
        let unset =
            |field: &str| Err(format!("Invalid reservation: 'Resource.ReservationInfo.{field}' field must be set."));
        if level.r#type.is_none() {
            return unset("type");
        }
        let Some(own) = &level.role else { return unset("role") };
        role(own)?;
        if own == "*" {
            return Err("Invalid reservation: role \"*\" cannot be reserved".to_owned());
        }
    }
    for pair in wire.reservations.windows(2) {
        let (above, below) = (pair[0].role(), pair[1].role());
        let refined = |why: String| Err(format!("Invalid refined reservation: {why}"));
        if pair[1].r#type() == ReservationType::Static {
            return refined("A refined reservation cannot be STATIC".to_owned());
        }
        if !is_below(below, above) {
            return refined(format!("role '{below}' is not a refinement of '{above}'"));
        }
    }
    let format = |why: String| Err(format!("Invalid resource format: {why}"));
    let [only] = wire.reservations.as_slice() else {
        let set = [("role", wire.role.is_some()), ("reservation", wire.reservation.is_some())];
        return match set.into_iter().find(|(_, set)| *set) {
            Some((field, _)) => format(format!(
                "'Resource.{field}' must not be set if there is more than one reservation in 'Resource.reservations'"
            )),
            None => Ok(()),
        };
    };
    if let Some(own) = wire.role.as_deref().filter(|own| *own != only.role()) {
        return format(format!(
            "'Resource.role' field with '{own}' does not match the role '{}' in 'Resource.reservations'",
            only.role()
        ));
    }
    both_formats(wire, only).or_else(format)
}

/// The old fields beside the new one must say the same.
fn both_formats(wire: &Resource, only: &ReservationInfo) -> Result<(), String> {
    let single = "if the single reservation in 'Resource.reservations' is";
    match only.r#type() {
        ReservationType::Static if wire.reservation.is_some() => {
            Err(format!("'Resource.reservation' must not be set {single} STATIC"))
        }
        ReservationType::Static => Ok(()),
        ReservationType::Dynamic => {
            let Some(old) = &wire.reservation else {
                return if wire.role.is_none() { Ok(()) } else { both_or_none(single) };
            };
            if wire.role.is_none() {
                return both_or_none(single);
            }
            if old.principal() != only.principal() {
                return Err(format!(
                    "'Resource.reservation.principal' field with '{}' does not match the principal '{}' in \
                     'Resource.reservations'",
                    old.principal(),
                    only.principal()
                ));
            }
            let labels = |of: &ReservationInfo| spell_labels(of.labels.as_ref());
            if old.labels.as_ref().map(Labels::pairs) != only.labels.as_ref().map(Labels::pairs) {
                return Err(format!(
                    "'Resource.reservation.labels' field with '{}' does not match the labels '{}' in \
                     'Resource.reservations'",
                    labels(old),
                    labels(only)
                ));
            }
            Ok(())
        }
        ReservationType::Unknown => Err("Unsupported 'Resource.ReservationInfo.Type'".to_owned()),
    }
}

fn both_or_none(single: &str) -> Result<(), String> {
    Err(format!("'Resource.role' and 'Resource.reservation' must either be both set or both not set {single} DYNAMIC"))
}

// ---- as it came, in words

fn spell(wire: &Resource) -> String {
    let mut text = wire.name.clone();
    if let Some(allocation) = &wire.allocation_info {
        let _ = write!(text, "(allocated: {})", allocation.role());
    }
    if !wire.reservations.is_empty() {
        let levels: Vec<String> = wire.reservations.iter().map(|level| format!("({})", spell_level(level))).collect();
        let _ = write!(text, "(reservations: [{}])", levels.join(", "));
    }
    if let Some(disk) = &wire.disk {
        let _ = write!(text, "[{}]", spell_disk(&(&**disk).into()));
    }
    if wire.revocable.is_some() {
        text.push_str("{REV}");
    }
    if wire.shared.is_some() {
        text.push_str("<SHARED>");
    }
    let _ = write!(text, ":{}", spell_value(wire));
    text
}

fn spell_level(level: &ReservationInfo) -> String {
    let mut text = format!("{},{}", level.r#type().as_str_name(), level.role());
    if let Some(principal) = &level.principal {
        let _ = write!(text, ",{principal}");
    }
    if level.labels.is_some() {
        let _ = write!(text, ",{}", spell_labels(level.labels.as_ref()));
    }
    text
}

fn spell_labels(labels: Option<&Labels>) -> String {
    let pairs = labels.map(Labels::pairs).unwrap_or_default();
    let each = pairs.iter().map(|(key, value)| match value {
        Some(value) => format!("{key}: {value}"),
        None => key.clone(),
    });
    format!("{{{}}}", each.collect::<Vec<_>>().join(", "))
}

fn spell_value(wire: &Resource) -> String {
    match ValueType::try_from(wire.r#type) {
        Ok(ValueType::Ranges) => {
            let ranges = wire.ranges.iter().flat_map(|ranges| &ranges.range);
            let each: Vec<String> = ranges.map(|range| format!("{}-{}", range.begin, range.end)).collect();
            format!("[{}]", each.join(", "))
        }
        Ok(ValueType::Set) => {
            let items = wire.set.as_ref().map(|set| set.item.join(", ")).unwrap_or_default();
            format!("{{{items}}}")
        }
        Ok(ValueType::Scalar | ValueType::Text) | Err(_) => {
            let value = wire.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
            let sign = if value < 0.0 { "-" } else { "" };
            Milli::from_units(value.abs()).map_or_else(|| value.to_string(), |amount| format!("{sign}{amount}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(json: &str) -> String {
        let wire: Resource = serde_json::from_str(json).unwrap();
        resources(&[wire]).err().unwrap_or_default()
    }

    #[test]
    fn values_are_of_their_type() {
        for (json, text) in [
            (r#"{"name":"a","type":"SCALAR","scalar":{"value":1}}"#, ""),
            (r#"{"name":"a","type":"SCALAR","scalar":{"value":0}}"#, ""),
            (
                r#"{"name":"a","type":"SCALAR","scalar":{"value":0.0001}}"#,
                "Resource 'a:0' is invalid: Invalid scalar resource: value <= 0",
            ),
            (r#"{"name":"a","type":"SCALAR"}"#, "Resource 'a:0' is invalid: Invalid scalar resource"),
            (
                r#"{"name":"a","type":"SCALAR","scalar":{"value":1},"set":{}}"#,
                "Resource 'a:1' is invalid: Invalid scalar resource",
            ),
            (
                r#"{"name":"a","type":"RANGES","ranges":{"range":[{"begin":2,"end":1}]}}"#,
                "Resource 'a:[2-1]' is invalid: Invalid ranges resource: begin > end",
            ),
            (
                r#"{"name":"a","type":"SET","set":{"item":["x","y","x"]}}"#,
                "Resource 'a:{x, y, x}' is invalid: Invalid set resource: duplicated elements",
            ),
            (r#"{"name":"","type":"SCALAR"}"#, "Resource ':0' is invalid: Empty resource name"),
        ] {
            assert_eq!(says(json), text, "{json}");
        }
    }

    #[test]
    fn reservations_are_refined_step_by_step() {
        let with = |stack: &str, rest: &str| {
            says(&format!(r#"{{"name":"a","type":"SCALAR","scalar":{{"value":1}},"reservations":[{stack}]{rest}}}"#))
        };
        let level = |kind: &str, role: &str| format!(r#"{{"type":"{kind}","role":"{role}"}}"#);
        let stack = |one: &str, two: &str| format!("{},{}", level("DYNAMIC", one), level("DYNAMIC", two));
        assert_eq!(with(&stack("a", "a/b"), ""), "");
        assert!(with(&stack("a", "b"), "").ends_with("role 'b' is not a refinement of 'a'"));
        let fixed = format!("{},{}", level("STATIC", "a"), level("STATIC", "a/b"));
        assert!(with(&fixed, "").ends_with("A refined reservation cannot be STATIC"));
        assert!(
            with(&stack("a", "a/b"), r#","role":"a""#).contains("'Resource.role' must not be set if there is more")
        );
        assert!(with(&level("DYNAMIC", "a"), r#","role":"a""#).contains("must either be both set or both not set"));
        assert_eq!(with(&level("DYNAMIC", "a"), r#","role":"a","reservation":{}"#), "");
        assert!(with(&level("STATIC", "*"), "").ends_with("role \"*\" cannot be reserved"));
    }

    #[test]
    fn only_persistent_volumes_are_shared() {
        let shared = r#"{"name":"cpus","type":"SCALAR","scalar":{"value":1},"shared":{}}"#;
        assert_eq!(says(shared), "Resource 'cpus<SHARED>:1' is invalid: Resource cpus cannot be shared");
        let disk = shared.replace("cpus", "disk");
        assert_eq!(says(&disk), "Resource 'disk<SHARED>:1' is invalid: Only persistent volumes can be shared");
    }
}
