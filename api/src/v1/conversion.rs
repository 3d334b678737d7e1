//! Resources and attributes between the wire and the form the programs think in.

use super::resource::reservation_info::Type as ReservationType;
use super::resource::{AllocationInfo, ReservationInfo, RevocableInfo, SharedInfo};
use super::value::{self, Range, Scalar, Set, Type};
use super::{Labels, Resource as WireResource, ResourceProviderId};
use crate::attributes::{Attribute, AttributeValue};
use crate::resources::{Disk, Reservation, Resource, ResourceValue, Resources};
use crate::{Milli, Ranges};

/// How a framework's capabilities want its resources written.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Format {
    /// `RESERVATION_REFINEMENT`: a `reservations` stack; without it `role` and `reservation`.
    pub refined: bool,
    /// `MULTI_ROLE`: write `allocation_info.role`.
    pub allocation_role: Option<String>,
}

/// Why a resource on the wire is not one.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ResourceError {
    /// A value that is not of the kind it says.
    #[error("Invalid {kind} resource '{name}'")]
    Invalid {
        /// SCALAR, RANGES, SET, or what was written instead.
        kind: String,
        /// The resource's name.
        name: String,
    },
    /// Empty name.
    #[error("Empty resource name")]
    EmptyName,
    /// gpus in fractions.
    #[error("The 'gpus' resource must be an unsigned integer")]
    FractionalGpus,
}

/// Reads wire resources; empty amounts are dropped, as Mesos drops them.
///
/// # Errors
/// The first resource that is malformed.
pub fn resources_from_wire(wire: &[WireResource]) -> Result<Resources, ResourceError> {
    wire.iter().map(resource_from_wire).collect()
}

fn resource_from_wire(wire: &WireResource) -> Result<Resource, ResourceError> {
    if wire.name.is_empty() {
        return Err(ResourceError::EmptyName);
    }
    let kind = Type::try_from(wire.r#type);
    let invalid = || ResourceError::Invalid {
        kind: kind.map_or_else(|_| wire.r#type.to_string(), |kind| kind.as_str_name().to_owned()),
        name: wire.name.clone(),
    };
    let value = match kind {
        Ok(Type::Scalar) => {
            let units = wire.scalar.as_ref().ok_or_else(invalid)?.value;
            let amount = Milli::from_units(units).ok_or_else(invalid)?;
            if wire.name == "gpus" && !amount.0.is_multiple_of(1000) {
                return Err(ResourceError::FractionalGpus);
            }
            ResourceValue::Scalar(amount)
        }
        Ok(Type::Ranges) => {
            let ranges = wire.ranges.as_ref().ok_or_else(invalid)?;
            if ranges.range.iter().any(|range| range.begin > range.end) {
                return Err(invalid());
            }
            ResourceValue::Ranges(Ranges::new(ranges.range.iter().map(|range| (range.begin, range.end))))
        }
        Ok(Type::Set) => ResourceValue::Set(wire.set.as_ref().ok_or_else(invalid)?.item.iter().cloned().collect()),
        Ok(Type::Text) | Err(_) => return Err(invalid()),
    };
    Ok(Resource {
        name: wire.name.clone(),
        value,
        reservations: reservations_from_wire(wire),
        revocable: wire.revocable.is_some(),
        disk: wire.disk.as_deref().map(|disk| Box::new(Disk::from(disk))),
        provider_id: wire.provider_id.as_ref().map(|id| id.value.clone()),
        shared: wire.shared.is_some(),
    })
}

fn reservations_from_wire(wire: &WireResource) -> Vec<Reservation> {
    if !wire.reservations.is_empty() {
        return wire
            .reservations
            .iter()
            .map(|entry| Reservation {
                dynamic: entry.r#type == Some(ReservationType::Dynamic.into()),
                role: entry.role.clone().unwrap_or_default(),
                principal: entry.principal.clone(),
                labels: entry.labels.as_ref().map(Labels::pairs).unwrap_or_default(),
            })
            .collect();
    }
    match wire.role.as_deref() {
        None | Some("*" | "") => Vec::new(),
        Some(role) => vec![Reservation {
            dynamic: wire.reservation.is_some(),
            role: role.to_owned(),
            principal: wire.reservation.as_ref().and_then(|entry| entry.principal.clone()),
            labels: wire
                .reservation
                .as_ref()
                .and_then(|entry| entry.labels.as_ref())
                .map(Labels::pairs)
                .unwrap_or_default(),
        }],
    }
}

/// Writes resources as a framework with those capabilities expects them.
#[must_use]
pub fn resources_to_wire(resources: &Resources, format: &Format) -> Vec<WireResource> {
    resources.iter().map(|resource| resource_to_wire(resource, format)).collect()
}

fn resource_to_wire(resource: &Resource, format: &Format) -> WireResource {
    let mut wire = WireResource {
        name: resource.name.clone(),
        provider_id: resource.provider_id.clone().map(|value| ResourceProviderId { value }),
        allocation_info: format.allocation_role.clone().map(|role| AllocationInfo { role: Some(role) }),
        disk: resource.disk.as_deref().map(|disk| Box::new(disk.into())),
        revocable: resource.revocable.then_some(RevocableInfo {}),
        shared: resource.shared.then_some(SharedInfo {}),
        ..WireResource::default()
    };
    match &resource.value {
        ResourceValue::Scalar(amount) => {
            wire.r#type = Type::Scalar.into();
            wire.scalar = Some(Scalar { value: amount.units() });
        }
        ResourceValue::Ranges(ranges) => {
            wire.r#type = Type::Ranges.into();
            wire.ranges =
                Some(value::Ranges { range: ranges.iter().map(|(begin, end)| Range { begin, end }).collect() });
        }
        ResourceValue::Set(items) => {
            wire.r#type = Type::Set.into();
            wire.set = Some(Set { item: items.iter().cloned().collect() });
        }
    }
    let labels = |pairs: &[(String, Option<String>)]| (!pairs.is_empty()).then(|| Labels::from_pairs(pairs));
    if format.refined {
        wire.reservations = resource
            .reservations
            .iter()
            .map(|entry| ReservationInfo {
                r#type: Some(if entry.dynamic { ReservationType::Dynamic } else { ReservationType::Static }.into()),
                role: Some(entry.role.clone()),
                principal: entry.principal.clone(),
                labels: labels(&entry.labels),
            })
            .collect();
    } else {
        wire.role = Some(resource.role().to_owned());
        wire.reservation = resource
            .reservations
            .last()
            .filter(|entry| entry.dynamic)
            .map(|entry| ReservationInfo {
                principal: entry.principal.clone(),
                labels: labels(&entry.labels),
                ..ReservationInfo::default()
            })
            .map(Box::new);
    }
    wire
}

/// Writes attributes.
#[must_use]
pub fn attributes_to_wire(attributes: &[Attribute]) -> Vec<super::Attribute> {
    attributes
        .iter()
        .map(|attribute| {
            let mut wire = super::Attribute { name: attribute.name.clone(), ..super::Attribute::default() };
            match &attribute.value {
                AttributeValue::Scalar(amount) => {
                    wire.r#type = Type::Scalar.into();
                    wire.scalar = Some(Scalar { value: amount.units() });
                }
                AttributeValue::Ranges(ranges) => {
                    wire.r#type = Type::Ranges.into();
                    let range = ranges.iter().map(|(begin, end)| Range { begin, end }).collect();
                    wire.ranges = Some(value::Ranges { range });
                }
                AttributeValue::Text(text) => {
                    wire.r#type = Type::Text.into();
                    wire.text = Some(value::Text { value: text.clone() });
                }
            }
            wire
        })
        .collect()
}

/// Reads attributes; one without a usable value is dropped.
#[must_use]
pub fn attributes_from_wire(wire: &[super::Attribute]) -> Vec<Attribute> {
    wire.iter()
        .filter_map(|attribute| {
            let value = match Type::try_from(attribute.r#type).ok()? {
                Type::Scalar => AttributeValue::Scalar(Milli::from_units(attribute.scalar.as_ref()?.value)?),
                Type::Ranges => AttributeValue::Ranges(Ranges::new(
                    attribute.ranges.as_ref()?.range.iter().map(|range| (range.begin, range.end)),
                )),
                Type::Set | Type::Text => AttributeValue::Text(attribute.text.as_ref()?.value.clone()),
            };
            Some(Attribute { name: attribute.name.clone(), value })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_reservation_formats_say_the_same() {
        let resources = Resources::parse("cpus:2;mem(dev):512;ports:[1-3]").unwrap();
        for format in [
            Format { refined: false, allocation_role: None },
            Format { refined: true, allocation_role: Some("dev".to_owned()) },
        ] {
            let wire = resources_to_wire(&resources, &format);
            assert_eq!(resources_from_wire(&wire).unwrap(), resources);
            let json = serde_json::to_string(&wire).unwrap();
            assert_eq!(json.contains("\"role\":\"*\""), !format.refined);
            assert_eq!(json.contains("allocation_info"), format.allocation_role.is_some());
        }
    }

    #[test]
    fn lenient_spellings_are_read_and_nonsense_is_not() {
        let read = |text: &str| {
            let wire: WireResource = serde_json::from_str(text).unwrap();
            resources_from_wire(&[wire]).map(|resources| resources.to_string())
        };
        assert_eq!(read(r#"{"name":"cpus","type":"SCALAR","scalar":{"value":"0.5"},"x":1}"#).unwrap(), "cpus:0.5");
        assert_eq!(read(r#"{"name":"gpus","type":"SCALAR","scalar":{"value":0}}"#).unwrap(), "{}");
        assert_eq!(
            read(r#"{"name":"ports","type":"RANGES","ranges":{"range":{"begin":"7","end":8.0}}}"#).unwrap(),
            "ports:[7-8]"
        );
        assert_eq!(
            read(r#"{"name":"gpus","type":"SCALAR","scalar":{"value":0.5}}"#),
            Err(ResourceError::FractionalGpus)
        );
        assert!(read(r#"{"name":"cpus","type":"SCALAR"}"#).is_err());
        assert!(read(r#"{"name":"cpus","type":"SCALAR","scalar":{"value":-1}}"#).is_err());
        assert!(read(r#"{"type":"SCALAR","scalar":{"value":1}}"#).is_err());
    }

    #[test]
    fn attributes_round_trip() {
        let list = Attribute::parse_list("rack:r1;level:3;keys:[1-5]").unwrap();
        assert_eq!(attributes_from_wire(&attributes_to_wire(&list)), list);
    }
}
