//! Operations on resources: reserving, and making volumes of what is reserved. Pure: a collection
//! goes in, another comes out.

mod rules;
mod text;
pub(crate) mod volume;

use api::{Milli, Resource, ResourceValue, Resources};
use serde::{Deserialize, Serialize};

pub(crate) use rules::{Requester, Where, unique_ids, validate, well_formed};
pub use text::spell;
pub(crate) use volume::spell_disk;

/// What a framework or an operator wants done to an agent's resources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ResourceOperation {
    /// RESERVE: `resources` as they shall be; the topmost reservation of each is the new one.
    Reserve {
        /// As they are, when that is not `resources` without the new reservation. Only operators
        /// give it.
        #[serde(default)]
        source: Resources,
        /// As they shall be.
        resources: Resources,
    },
    /// UNRESERVE: `resources` as they are.
    Unreserve {
        /// As they are.
        resources: Resources,
    },
    /// CREATE: persistent volumes as they shall be.
    Create {
        /// As they shall be.
        volumes: Resources,
    },
    /// DESTROY: persistent volumes as they are.
    Destroy {
        /// As they are.
        volumes: Resources,
    },
    /// GROW_VOLUME.
    Grow {
        /// As it is.
        volume: Box<Resource>,
        /// What it gets.
        addition: Box<Resource>,
    },
    /// SHRINK_VOLUME.
    Shrink {
        /// As it is.
        volume: Box<Resource>,
        /// What it loses.
        subtract: Milli,
    },
}

/// These become those.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversion {
    /// Are there before.
    pub consumed: Resources,
    /// Are there after.
    pub converted: Resources,
}

/// Why an operation cannot be applied, in Mesos's words.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct OperationError(pub String);

impl ResourceOperation {
    /// As the API calls it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reserve { .. } => "RESERVE",
            Self::Unreserve { .. } => "UNRESERVE",
            Self::Create { .. } => "CREATE",
            Self::Destroy { .. } => "DESTROY",
            Self::Grow { .. } => "GROW_VOLUME",
            Self::Shrink { .. } => "SHRINK_VOLUME",
        }
    }

    /// May a later operation of the same ACCEPT use its result?
    #[must_use]
    pub const fn is_speculative(&self) -> bool {
        !matches!(self, Self::Grow { .. } | Self::Shrink { .. })
    }

    /// What becomes what, step by step.
    ///
    /// # Errors
    /// Resources of a resource provider cannot be resized.
    pub fn conversions(&self) -> Result<Vec<Conversion>, OperationError> {
        let one = |resource: &Resource| -> Resources { [resource.clone()].into_iter().collect() };
        let resizable = |volume: &Resource| match volume.provider_id {
            Some(_) => Err(OperationError("Operation not supported for resource provider".to_owned())),
            None => Ok(()),
        };
        Ok(match self {
            Self::Reserve { source, resources } => {
                let popped = || resources.iter().map(popped).collect();
                let consumed = if source.is_empty() { popped() } else { source.clone() };
                vec![Conversion { consumed, converted: resources.clone() }]
            }
            Self::Unreserve { resources } => {
                let each = resources.iter();
                each.map(|have| Conversion { consumed: one(have), converted: one(&popped(have)) }).collect()
            }
            Self::Create { volumes } => {
                let each = volumes.iter();
                each.map(|made| Conversion { consumed: one(&volume::stripped(made)), converted: one(made) }).collect()
            }
            Self::Destroy { volumes } => {
                let each = volumes.iter();
                each.map(|have| Conversion { consumed: one(have), converted: one(&volume::stripped(have)) }).collect()
            }
            Self::Grow { volume, addition } => {
                resizable(volume)?;
                let mut grown = (**volume).clone();
                if let (ResourceValue::Scalar(size), ResourceValue::Scalar(more)) = (&mut grown.value, &addition.value)
                {
                    *size = size.saturating_add(*more);
                }
                let mut consumed = one(volume);
                consumed.add((**addition).clone());
                vec![Conversion { consumed, converted: one(&grown) }]
            }
            Self::Shrink { volume, subtract } => {
                resizable(volume)?;
                let mut freed = volume::stripped(volume);
                freed.value = ResourceValue::Scalar(*subtract);
                let mut shrunk = (**volume).clone();
                if let ResourceValue::Scalar(size) = &mut shrunk.value {
                    *size = size.saturating_sub(*subtract);
                }
                let mut converted = one(&shrunk);
                converted.add(freed);
                vec![Conversion { consumed: one(volume), converted }]
            }
        })
    }

    /// All it takes.
    #[must_use]
    pub fn consumed(&self) -> Resources {
        let mut all = Resources::new();
        for conversion in self.conversions().unwrap_or_default() {
            all.add_all(&conversion.consumed);
        }
        all
    }

    /// All it gives.
    #[must_use]
    pub fn converted(&self) -> Resources {
        let mut all = Resources::new();
        for conversion in self.conversions().unwrap_or_default() {
            all.add_all(&conversion.converted);
        }
        all
    }
}

/// What is left of `resources` and what they become. `allocated_to` is only for the text of the
/// error: the role of the offer they are from.
///
/// # Errors
/// What the operation takes is not there.
pub fn apply_operation(
    resources: &Resources,
    operation: &ResourceOperation,
    allocated_to: Option<&str>,
) -> Result<Resources, OperationError> {
    let mut result = resources.clone();
    for Conversion { consumed, converted } in operation.conversions()? {
        let Some(mut rest) = result.checked_sub(&consumed) else {
            let (have, want) = (spell(&result, allocated_to), spell(&consumed, allocated_to));
            return Err(OperationError(format!("{have} does not contain {want}")));
        };
        rest.add_all(&converted);
        if let ResourceOperation::Destroy { .. } = operation
            && rest.contains(&consumed)
        {
            let volume = spell(&consumed, allocated_to);
            return Err(OperationError(format!(
                "Persistent volume {volume} cannot be removed due to additional shared copies"
            )));
        }
        result = rest;
    }
    Ok(result)
}

/// Without its topmost reservation.
fn popped(resource: &Resource) -> Resource {
    let mut popped = resource.clone();
    popped.reservations.pop();
    popped
}

/// What was made of the machine's own resources: by RESERVE, CREATE and the like.
#[must_use]
pub fn is_conversion(resource: &Resource) -> bool {
    volume::is_persistent(resource) || resource.reservations.iter().any(|reservation| reservation.dynamic)
}

/// What a conversion was made of: the machine's own.
#[must_use]
pub fn origin(resource: &Resource) -> Resource {
    let mut origin = volume::stripped(resource);
    origin.reservations.retain(|reservation| !reservation.dynamic);
    origin
}

/// The machine has `bare`; what of the conversions in `before` still fits it is made of it again.
/// Returns all there is now, and the conversions that do not fit. Volumes hold data, so they come
/// before reservations.
#[must_use]
pub fn convert_again(bare: &Resources, before: &Resources) -> (Resources, Resources) {
    let mut now = bare.clone();
    let mut lost = Resources::new();
    let (volumes, others): (Vec<&Resource>, Vec<&Resource>) =
        before.iter().filter(|resource| is_conversion(resource)).partition(|resource| volume::is_persistent(resource));
    for conversion in volumes.into_iter().chain(others) {
        let origin = [origin(conversion)].into_iter().collect();
        match now.checked_sub(&origin) {
            Some(mut rest) => {
                rest.add(conversion.clone());
                now = rest;
            }
            None => lost.add(conversion.clone()),
        }
    }
    (now, lost)
}

#[cfg(test)]
mod tests {
    use api::resources::Reservation;
    use proptest::prelude::*;

    use super::*;

    fn reserved(text: &str, roles: &[&str]) -> Resources {
        let add = |resource: &Resource| {
            let mut resource = resource.clone();
            resource.reservations.extend(roles.iter().map(|role| Reservation {
                dynamic: true,
                role: (*role).to_owned(),
                principal: None,
                labels: Vec::new(),
            }));
            resource
        };
        Resources::parse(text).unwrap().iter().map(add).collect()
    }

    fn made(size: u64, id: &str) -> Resource {
        let disk = reserved(&format!("disk:{size}"), &["a"]).iter().next().unwrap().clone();
        volume::persistent(disk, id, "data")
    }

    #[test]
    fn a_volume_goes_through_its_whole_life() {
        let start = Resources::parse("cpus:4;disk:1000").unwrap();
        let reserve = ResourceOperation::Reserve { source: Resources::new(), resources: reserved("disk:600", &["a"]) };
        let one = apply_operation(&start, &reserve, None).unwrap();
        assert!(one.contains(&reserved("disk:600", &["a"])));
        let volumes: Resources = [made(500, "v")].into_iter().collect();
        let two = apply_operation(&one, &ResourceOperation::Create { volumes: volumes.clone() }, None).unwrap();
        assert!(two.contains(&volumes) && two.contains(&reserved("disk:100", &["a"])));
        let addition = Box::new(reserved("disk:100", &["a"]).iter().next().unwrap().clone());
        let grow = ResourceOperation::Grow { volume: Box::new(made(500, "v")), addition };
        let three = apply_operation(&two, &grow, None).unwrap();
        let shrink = ResourceOperation::Shrink { volume: Box::new(made(600, "v")), subtract: Milli(200_000) };
        let four = apply_operation(&three, &shrink, None).unwrap();
        let destroy = ResourceOperation::Destroy { volumes: [made(400, "v")].into_iter().collect() };
        let five = apply_operation(&four, &destroy, None).unwrap();
        let unreserve = ResourceOperation::Unreserve { resources: reserved("disk:600", &["a"]) };
        let end = apply_operation(&five, &unreserve, None).unwrap();
        assert!(end.contains(&start) && start.contains(&end));
    }

    #[test]
    fn what_is_not_there_is_named_as_mesos_names_it() {
        let have = Resources::parse("cpus:1").unwrap();
        let unreserve = ResourceOperation::Unreserve { resources: reserved("cpus:1", &["a"]) };
        assert_eq!(
            apply_operation(&have, &unreserve, Some("a")).unwrap_err().to_string(),
            "cpus(allocated: a):1 does not contain cpus(allocated: a)(reservations: [(DYNAMIC,a)]):1"
        );
    }

    #[test]
    fn refinements_are_undone_one_by_one() {
        let have = reserved("cpus:1", &["a", "a/b"]);
        let once = apply_operation(&have, &ResourceOperation::Unreserve { resources: have.clone() }, None).unwrap();
        assert_eq!(once, reserved("cpus:1", &["a"]));
    }

    #[test]
    fn a_smaller_machine_keeps_volumes_first() {
        let mut before: Resources = reserved("disk:300;cpus:1", &["a"]);
        before.add(made(500, "v"));
        let bare = Resources::parse("cpus:4;disk:600").unwrap();
        let (now, lost) = convert_again(&bare, &before);
        assert!(now.iter().any(volume::is_persistent));
        assert_eq!(lost, reserved("disk:300", &["a"]));
        assert_eq!(now.scalar("disk"), bare.scalar("disk"));
        assert_eq!(now.scalar("cpus"), bare.scalar("cpus"));
    }

    proptest! {
        #[test]
        fn converting_again_on_the_same_machine_loses_nothing(cpus in 1u64..50, part in 1u64..50, disk in 1u64..900, size in 1u64..900) {
            let bare: Resources = Resources::parse(&format!("cpus:{cpus};disk:{disk};mem(s):5")).unwrap();
            let mut have = bare.clone();
            let operations = [
                ResourceOperation::Reserve { source: Resources::new(), resources: reserved(&format!("cpus:{part}"), &["a"]) },
                ResourceOperation::Reserve { source: Resources::new(), resources: reserved(&format!("disk:{size}"), &["a"]) },
                ResourceOperation::Create { volumes: [made(size, "v")].into_iter().collect() },
            ];
            for operation in operations {
                if let Ok(after) = apply_operation(&have, &operation, None) {
                    prop_assert_eq!(after.scalars(), have.scalars());
                    have = after;
                }
            }
            let (again, lost) = convert_again(&bare, &have);
            prop_assert!(lost.is_empty());
            prop_assert!(again.contains(&have) && have.contains(&again));
        }
    }
}
