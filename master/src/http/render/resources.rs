//! Resources and attributes as Mesos's v0 endpoints show them.

use std::collections::BTreeSet;

use api::attributes::AttributeValue;
use api::resources::Reservation;
use api::v1::Labels;
use api::{Attribute, Ranges, Resource, ResourceValue, Resources};

use super::json::Json;

/// Always shown, in the order in which Mesos does.
const ALWAYS: [&str; 4] = ["disk", "mem", "gpus", "cpus"];

/// A sum of resources in the form the v0 endpoints show: cheap to add to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Amounts {
    /// Of [`ALWAYS`], in thousandths.
    scalars: [u64; 4],
    /// All others, by name as shown.
    others: Vec<(String, ResourceValue)>,
}

impl Amounts {
    /// The sum of those.
    pub(crate) fn of<'a>(resources: impl IntoIterator<Item = &'a Resource>) -> Self {
        let mut amounts = Self::default();
        resources.into_iter().for_each(|resource| amounts.add(resource));
        amounts
    }

    /// Adds one.
    pub(crate) fn add(&mut self, resource: &Resource) {
        if let (ResourceValue::Scalar(amount), false) = (&resource.value, resource.revocable)
            && let Some(at) = ALWAYS.iter().position(|name| *name == resource.name)
        {
            self.scalars[at] = self.scalars[at].saturating_add(amount.0);
            return;
        }
        let suffix = if resource.revocable { "_revocable" } else { "" };
        let known = self.others.iter_mut().find(|(name, value)| {
            name.strip_suffix(suffix) == Some(&resource.name) && same_kind(value, &resource.value)
        });
        match known {
            Some((_, value)) => merge(value, &resource.value),
            None => self.others.push((format!("{}{suffix}", resource.name), resource.value.clone())),
        }
    }

    /// Adds all of them.
    pub(crate) fn add_all(&mut self, resources: &Resources) {
        resources.iter().for_each(|resource| self.add(resource));
    }

    /// Adds another sum.
    pub(crate) fn add_amounts(&mut self, other: &Self) {
        for (sum, more) in self.scalars.iter_mut().zip(other.scalars) {
            *sum = sum.saturating_add(more);
        }
        for (name, value) in &other.others {
            match self.others.iter_mut().find(|(known, sum)| known == name && same_kind(sum, value)) {
                Some((_, sum)) => merge(sum, value),
                None => self.others.push((name.clone(), value.clone())),
            }
        }
    }

    /// `{"disk":…,"mem":…,"gpus":…,"cpus":…,"ports":"[…]"}`.
    pub(crate) fn write(&self, json: &mut Json) {
        json.begin();
        for (name, amount) in ALWAYS.iter().zip(self.scalars) {
            json.key(name).thousandths(amount);
        }
        for (name, value) in &self.others {
            json.key_of(name);
            write_other(json, value);
        }
        json.end();
    }
}

const fn same_kind(a: &ResourceValue, b: &ResourceValue) -> bool {
    matches!(
        (a, b),
        (ResourceValue::Scalar(_), ResourceValue::Scalar(_))
            | (ResourceValue::Ranges(_), ResourceValue::Ranges(_))
            | (ResourceValue::Set(_), ResourceValue::Set(_))
    )
}

fn merge(sum: &mut ResourceValue, more: &ResourceValue) {
    match (sum, more) {
        (ResourceValue::Scalar(sum), ResourceValue::Scalar(more)) => *sum = sum.saturating_add(*more),
        (ResourceValue::Ranges(sum), ResourceValue::Ranges(more)) => *sum = sum.union(more),
        (ResourceValue::Set(sum), ResourceValue::Set(more)) => sum.extend(more.iter().cloned()),
        (ResourceValue::Scalar(_) | ResourceValue::Ranges(_) | ResourceValue::Set(_), _) => {}
    }
}

fn write_other(json: &mut Json, value: &ResourceValue) {
    match value {
        ResourceValue::Scalar(amount) => json.milli(*amount),
        ResourceValue::Ranges(ranges) => json.string(&ranges_text(ranges)),
        ResourceValue::Set(items) => json.string(&set_text(items)),
    }
}

/// `[1-2, 5-7]`.
pub(crate) fn ranges_text(ranges: &Ranges) -> String {
    let parts: Vec<String> = ranges.iter().map(|(begin, end)| format!("{begin}-{end}")).collect();
    format!("[{}]", parts.join(", "))
}

fn set_text(items: &BTreeSet<String>) -> String {
    let parts: Vec<&str> = items.iter().map(String::as_str).collect();
    format!("{{{}}}", parts.join(", "))
}

/// One set of resources: what tasks and offers have. Nothing is copied for the usual ones.
pub(crate) fn write_resources(json: &mut Json, resources: &Resources) {
    let mut scalars = [0_u64; 4];
    let mut others = false;
    for resource in resources.iter() {
        match (&resource.value, ALWAYS.iter().position(|name| *name == resource.name)) {
            (ResourceValue::Scalar(amount), Some(at)) if !resource.revocable => {
                scalars[at] = scalars[at].saturating_add(amount.0);
            }
            _ => others = true,
        }
    }
    if others {
        Amounts::of(resources.iter()).write(json);
        return;
    }
    json.begin();
    for (name, amount) in ALWAYS.iter().zip(scalars) {
        json.key(name).thousandths(amount);
    }
    json.end();
}

/// `{"rack":"r1","level":10.0,"keys":"[1-2]"}`.
pub(crate) fn write_attributes(json: &mut Json, attributes: &[Attribute]) {
    json.object(|json| {
        for attribute in attributes {
            json.key_of(&attribute.name);
            match &attribute.value {
                AttributeValue::Text(text) => json.string(text),
                AttributeValue::Scalar(amount) => json.milli(*amount),
                AttributeValue::Ranges(ranges) => json.string(&ranges_text(ranges)),
            }
        }
    });
}

/// `"labels":[{"key":…,"value":…}]`, if there are any.
pub(crate) fn write_labels(json: &mut Json, labels: Option<&Labels>) {
    if let Some(labels) = labels.filter(|labels| !labels.labels.is_empty()) {
        json.key("labels").array(&labels.labels, |json, label| {
            json.object(|json| {
                json.key("key").string(&label.key);
                if let Some(value) = &label.value {
                    json.key("value").string(value);
                }
            });
        });
    }
}

/// A resource in full, with every spelling of its reservation: the old ones for the tools that know
/// only them.
pub(crate) fn write_full(json: &mut Json, resource: &Resource, allocated_to: Option<&str>) {
    json.object(|json| {
        if let Some(provider) = &resource.provider_id {
            json.key("provider_id").object(|json| json.key("value").string(provider));
        }
        json.key("name").string(&resource.name);
        match &resource.value {
            ResourceValue::Scalar(amount) => {
                json.key("type").string("SCALAR");
                json.key("scalar").object(|json| json.key("value").milli(*amount));
            }
            ResourceValue::Ranges(ranges) => {
                json.key("type").string("RANGES");
                json.key("ranges").object(|json| {
                    json.key("range").array(ranges.iter(), |json, (begin, end)| {
                        json.object(|json| {
                            json.key("begin").integer(begin);
                            json.key("end").integer(end);
                        });
                    });
                });
            }
            ResourceValue::Set(items) => {
                json.key("type").string("SET");
                json.key("set").object(|json| {
                    json.key("item").array(items, |json, item| json.string(item));
                });
            }
        }
        json.key("role").string(resource.role());
        if let Some(last) = resource.reservations.last().filter(|last| last.dynamic) {
            json.key("reservation").object(|json| write_reservation_info(json, last));
        }
        if !resource.reservations.is_empty() {
            json.key("reservations").array(&resource.reservations, |json, reservation| {
                json.object(|json| {
                    json.key("type").string(if reservation.dynamic { "DYNAMIC" } else { "STATIC" });
                    json.key("role").string(&reservation.role);
                    write_reservation_info(json, reservation);
                });
            });
        }
        if let Some(disk) = &resource.disk {
            json.key("disk").serialize(&api::v1::resource::DiskInfo::from(disk.as_ref()));
        }
        if resource.revocable {
            json.key("revocable").object(|_| ());
        }
        if resource.shared {
            json.key("shared").object(|_| ());
        }
        if let Some(role) = allocated_to {
            json.key("allocation_info").object(|json| json.key("role").string(role));
        }
    });
}

fn write_reservation_info(json: &mut Json, reservation: &Reservation) {
    if let Some(principal) = &reservation.principal {
        json.key("principal").string(principal);
    }
    if !reservation.labels.is_empty() {
        json.key("labels").object(|json| {
            json.key("labels").array(&reservation.labels, |json, (key, value)| {
                json.object(|json| {
                    json.key("key").string(key);
                    if let Some(value) = value {
                        json.key("value").string(value);
                    }
                });
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::json::written;
    use super::*;

    #[test]
    fn resources_always_show_the_four_scalars_and_ports_as_text() {
        let resources =
            Resources::parse("cpus:1.5;ports:[1-2, 5-7];bugs:{a,b};cpus(dev):0.5;ports(dev):[9-9]").unwrap();
        let expected = r#"{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":2.0,"ports":"[1-2, 5-7, 9-9]","bugs":"{a, b}"}"#;
        assert_eq!(written(|json| write_resources(json, &resources)), expected);
        let mut twice = Amounts::of(resources.iter());
        twice.add_amounts(&Amounts::of(resources.iter()));
        assert_eq!(written(|json| twice.write(json)), expected.replace("2.0", "4.0"));
    }

    #[test]
    fn revocable_resources_are_shown_apart() {
        let mut resource = Resource::scalar("cpus", api::Milli(1500));
        resource.revocable = true;
        let amounts = Amounts::of([&resource, &resource]);
        let shown = written(|json| amounts.write(json));
        assert_eq!(shown, r#"{"disk":0.0,"mem":0.0,"gpus":0.0,"cpus":0.0,"cpus_revocable":3.0}"#);
    }

    #[test]
    fn a_full_resource_is_spelled_in_all_ways() {
        let mut resource = Resource::scalar("disk", api::Milli(64_000));
        let principal = Some("p".to_owned());
        resource.reservations = vec![Reservation { dynamic: true, role: "ops".to_owned(), principal, labels: vec![] }];
        assert_eq!(
            written(|json| write_full(json, &resource, Some("ops"))),
            concat!(
                r#"{"name":"disk","type":"SCALAR","scalar":{"value":64.0},"role":"ops","reservation":{"principal":"p"},"#,
                r#""reservations":[{"type":"DYNAMIC","role":"ops","principal":"p"}],"allocation_info":{"role":"ops"}}"#
            )
        );
    }
}
