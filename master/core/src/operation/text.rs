//! Resources as Mesos spells them in messages.

use std::fmt::Write;

use api::{Resource, ResourceValue, Resources};

use super::volume;

/// `cpus(allocated: a)(reservations: [(DYNAMIC,a,principal)]):1; disk[..]:2`; `{}` when empty.
#[must_use]
pub fn spell(resources: &Resources, allocated_to: Option<&str>) -> String {
    if resources.is_empty() {
        return "{}".to_owned();
    }
    resources.iter().map(|resource| spell_one(resource, allocated_to)).collect::<Vec<_>>().join("; ")
}

/// One of them.
pub(crate) fn spell_one(resource: &Resource, allocated_to: Option<&str>) -> String {
    let mut text = resource.name.clone();
    if let Some(role) = allocated_to {
        let _ = write!(text, "(allocated: {role})");
    }
    let levels: Vec<String> = resource.reservations.iter().map(reservation).collect();
    if !levels.is_empty() {
        let _ = write!(text, "(reservations: [{}])", levels.join(", "));
    }
    if let Some(disk) = &resource.disk {
        let _ = write!(text, "[{}]", volume::spell_disk(disk));
    }
    if resource.revocable {
        text.push_str("{REV}");
    }
    if resource.shared {
        text.push_str("<SHARED>");
    }
    let _ = match &resource.value {
        ResourceValue::Scalar(amount) => write!(text, ":{amount}"),
        ResourceValue::Ranges(ranges) => write!(text, ":{ranges}"),
        ResourceValue::Set(items) => {
            write!(text, ":{{{}}}", items.iter().map(String::as_str).collect::<Vec<_>>().join(", "))
        }
    };
    text
}

fn reservation(level: &api::resources::Reservation) -> String {
    let kind = if level.dynamic { "DYNAMIC" } else { "STATIC" };
    let mut text = format!("({kind},{}", level.role);
    if let Some(principal) = &level.principal {
        let _ = write!(text, ",{principal}");
    }
    if !level.labels.is_empty() {
        let labels = level.labels.iter().map(|(key, value)| match value {
            Some(value) => format!("{key}: {value}"),
            None => key.clone(),
        });
        let _ = write!(text, ",{{{}}}", labels.collect::<Vec<_>>().join(", "));
    }
    text.push(')');
    text
}
