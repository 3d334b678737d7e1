//! Resources, attributes and values as Mesos writes them.

use serde::{Deserialize, Serialize};

use super::lenient;
use crate::attributes::{Attribute, AttributeValue};
use crate::resources::{Reservation, Resource, ResourceValue, Resources};
use crate::{Milli, Ranges};

use super::task::Labels;

/// `{"value": 1.5}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScalarValue {
    /// In units, not thousandths.
    #[serde(deserialize_with = "lenient::required_double")]
    pub value: f64,
}

/// `{"begin": 1, "end": 2}`, inclusive.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RangeValue {
    #[serde(deserialize_with = "lenient::required_unsigned")]
    pub begin: u64,
    #[serde(deserialize_with = "lenient::required_unsigned")]
    pub end: u64,
}

/// `{"range": […]}`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct RangesValue {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub range: Vec<RangeValue>,
}

/// `{"item": […]}`.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct SetValue {
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub item: Vec<String>,
}

/// Which role an offered resource is for.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct AllocationInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

/// The pre-refinement `reservation` field of a dynamic reservation.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct LegacyReservation {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// One entry of the post-refinement `reservations` stack.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct WireReservation {
    /// `STATIC` or `DYNAMIC`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Labels>,
}

/// `Resource` on the wire, in either reservation format.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct WireResource {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider_id: Option<super::Value<String>>,
    #[serde(default)]
    pub name: String,
    /// `SCALAR`, `RANGES` or `SET`.
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<ScalarValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<RangesValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<SetValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allocation_info: Option<AllocationInfo>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reservation: Option<LegacyReservation>,
    #[serde(default, deserialize_with = "lenient::many", skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<WireReservation>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revocable: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shared: Option<serde_json::Value>,
}

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
    /// The kind, and what goes with it.
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
    let invalid = || ResourceError::Invalid { kind: wire.kind.clone(), name: wire.name.clone() };
    let value = match wire.kind.as_str() {
        "SCALAR" => {
            let units = wire.scalar.ok_or_else(invalid)?.value;
            let amount = Milli::from_units(units).ok_or_else(invalid)?;
            if wire.name == "gpus" && !amount.0.is_multiple_of(1000) {
                return Err(ResourceError::FractionalGpus);
            }
            ResourceValue::Scalar(amount)
        }
        "RANGES" => {
            let ranges = wire.ranges.as_ref().ok_or_else(invalid)?;
            if ranges.range.iter().any(|range| range.begin > range.end) {
                return Err(invalid());
            }
            ResourceValue::Ranges(Ranges::new(ranges.range.iter().map(|range| (range.begin, range.end))))
        }
        "SET" => ResourceValue::Set(wire.set.as_ref().ok_or_else(invalid)?.item.iter().cloned().collect()),
        _ => return Err(invalid()),
    };
    Ok(Resource {
        name: wire.name.clone(),
        value,
        reservations: reservations_from_wire(wire),
        revocable: wire.revocable.is_some(),
        disk: wire.disk.clone(),
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
                dynamic: entry.kind.as_deref() == Some("DYNAMIC"),
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
        provider_id: resource.provider_id.clone().map(super::Value::new),
        allocation_info: format.allocation_role.clone().map(|role| AllocationInfo { role: Some(role) }),
        disk: resource.disk.clone(),
        revocable: resource.revocable.then(|| serde_json::json!({})),
        shared: resource.shared.then(|| serde_json::json!({})),
        ..WireResource::default()
    };
    match &resource.value {
        ResourceValue::Scalar(amount) => {
            wire.kind = "SCALAR".to_owned();
            wire.scalar = Some(ScalarValue { value: amount.units() });
        }
        ResourceValue::Ranges(ranges) => {
            wire.kind = "RANGES".to_owned();
            wire.ranges =
                Some(RangesValue { range: ranges.iter().map(|(begin, end)| RangeValue { begin, end }).collect() });
        }
        ResourceValue::Set(items) => {
            wire.kind = "SET".to_owned();
            wire.set = Some(SetValue { item: items.iter().cloned().collect() });
        }
    }
    let labels = |pairs: &[(String, Option<String>)]| (!pairs.is_empty()).then(|| Labels::from_pairs(pairs));
    if format.refined {
        wire.reservations = resource
            .reservations
            .iter()
            .map(|entry| WireReservation {
                kind: Some(if entry.dynamic { "DYNAMIC" } else { "STATIC" }.to_owned()),
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
            .map(|entry| LegacyReservation { principal: entry.principal.clone(), labels: labels(&entry.labels) });
    }
    wire
}

/// `Attribute` on the wire.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct WireAttribute {
    #[serde(default)]
    pub name: String,
    /// `SCALAR`, `RANGES` or `TEXT`.
    #[serde(default, rename = "type")]
    pub kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalar: Option<ScalarValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranges: Option<RangesValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<super::Value<String>>,
}

/// Writes attributes.
#[must_use]
pub fn attributes_to_wire(attributes: &[Attribute]) -> Vec<WireAttribute> {
    attributes
        .iter()
        .map(|attribute| {
            let mut wire = WireAttribute { name: attribute.name.clone(), ..WireAttribute::default() };
            match &attribute.value {
                AttributeValue::Scalar(amount) => {
                    wire.kind = "SCALAR".to_owned();
                    wire.scalar = Some(ScalarValue { value: amount.units() });
                }
                AttributeValue::Ranges(ranges) => {
                    wire.kind = "RANGES".to_owned();
                    let range = ranges.iter().map(|(begin, end)| RangeValue { begin, end }).collect();
                    wire.ranges = Some(RangesValue { range });
                }
                AttributeValue::Text(text) => {
                    wire.kind = "TEXT".to_owned();
                    wire.text = Some(super::Value::new(text.clone()));
                }
            }
            wire
        })
        .collect()
}

/// Reads attributes; one without a usable value is dropped.
#[must_use]
pub fn attributes_from_wire(wire: &[WireAttribute]) -> Vec<Attribute> {
    wire.iter()
        .filter_map(|attribute| {
            let value = match attribute.kind.as_str() {
                "SCALAR" => AttributeValue::Scalar(Milli::from_units(attribute.scalar?.value)?),
                "RANGES" => AttributeValue::Ranges(Ranges::new(
                    attribute.ranges.as_ref()?.range.iter().map(|range| (range.begin, range.end)),
                )),
                _ => AttributeValue::Text(attribute.text.as_ref()?.value.clone()),
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
