//! Is an operation well-formed, and may who asks for it do so? Mesos's rules, order and words.

use std::collections::BTreeSet;

use api::{FrameworkId, Milli, Resource, ResourceValue, Resources};

use super::text::spell_one;
use super::{ResourceOperation, spell, volume};

/// Who asks.
#[derive(Clone, Debug)]
pub(crate) enum Requester<'a> {
    /// A framework, with what it was offered for a role.
    Framework {
        /// Which.
        id: &'a FrameworkId,
        /// FrameworkInfo.principal.
        principal: Option<&'a str>,
        /// All its roles.
        roles: &'a [String],
        /// The offers' role.
        allocated_to: &'a str,
        /// SHARED_RESOURCES.
        shares: bool,
    },
    /// A framework that launches a task.
    Task {
        /// The offers' role.
        allocated_to: &'a str,
    },
    /// An operator, authenticated as a principal or not.
    Operator {
        /// Who.
        principal: Option<&'a str>,
    },
}

/// On which agent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Where<'a> {
    /// All of the agent.
    pub(crate) total: &'a Resources,
    /// What tasks there use, task by task.
    pub(crate) used: &'a [&'a Resources],
}

impl Requester<'_> {
    const fn principal(&self) -> Option<&str> {
        match self {
            Self::Framework { principal, .. } | Self::Operator { principal } => *principal,
            Self::Task { .. } => None,
        }
    }

    const fn allocated_to(&self) -> Option<&str> {
        match self {
            Self::Framework { allocated_to, .. } | Self::Task { allocated_to } => Some(allocated_to),
            Self::Operator { .. } => None,
        }
    }
}

pub(crate) fn validate(operation: &ResourceOperation, by: &Requester<'_>, at: Where<'_>) -> Result<(), String> {
    match operation {
        ResourceOperation::Reserve { source, resources } => reserve(source, resources, by),
        ResourceOperation::Unreserve { resources } => unreserve(resources, by),
        ResourceOperation::Create { volumes } => create(volumes, by, at),
        ResourceOperation::Destroy { volumes } => destroy(volumes, by, at),
        ResourceOperation::Grow { volume, addition } => grow(volume, addition, by),
        ResourceOperation::Shrink { volume, subtract } => shrink(volume, *subtract, by),
    }
}

fn reserve(source: &Resources, resources: &Resources, by: &Requester<'_>) -> Result<(), String> {
    well_formed(resources, by).map_err(|error| format!("Invalid resources: {error}"))?;
    well_formed(source, by).map_err(|error| format!("Invalid source: {error}"))?;
    if !source.is_empty() {
        same_reservations(source).map_err(|error| format!("Invalid source: {error}"))?;
        same_reservations(resources).map_err(|error| format!("Invalid resources: {error}"))?;
        let (from, to) = (unreserved(source), unreserved(resources));
        if !(from.contains(&to) && to.contains(&from)) {
            return Err(format!(
                "Source and target resources should refer to identical resource quantities: {} vs. {}",
                spell(&from, None),
                spell(&to, None)
            ));
        }
    }
    one_provider(resources).map_err(|error| format!("Invalid resources: {error}"))?;
    for resource in resources {
        let Some(reservation) = resource.reservations.last().filter(|reservation| reservation.dynamic) else {
            return Err(format!("Resource {} is not dynamically reserved", spell_one(resource, by.allocated_to())));
        };
        if let Some(principal) = by.principal() {
            match &reservation.principal {
                None => {
                    return Err(format!(
                        "A reserve operation was attempted by principal '{principal}', but there is a reserved \
                         resource in the request with no principal set"
                    ));
                }
                Some(other) if other != principal => {
                    return Err(format!(
                        "A reserve operation was attempted by authenticated principal '{principal}', which does not \
                         match a reserved resource in the request with principal '{other}'"
                    ));
                }
                Some(_) => {}
            }
        }
        if let Requester::Framework { roles, allocated_to, .. } = by {
            let role = &reservation.role;
            if role != allocated_to {
                return Err(format!(
                    "A reserve operation was attempted for a resource with role '{role}', but the resource was \
                     allocated to role '{allocated_to}'"
                ));
            }
            if !roles.contains(role) {
                return Err(format!(
                    "A reserve operation was attempted for a resource allocated to role '{role}', but the framework \
                     only has roles '{{ {} }}'",
                    roles.join(", ")
                ));
            }
        }
    }
    Ok(())
}

fn unreserve(resources: &Resources, by: &Requester<'_>) -> Result<(), String> {
    well_formed(resources, by).map_err(|error| format!("Invalid resources: {error}"))?;
    one_provider(resources).map_err(|error| format!("Invalid resources: {error}"))?;
    for resource in resources {
        let text = || spell_one(resource, by.allocated_to());
        if !resource.reservations.last().is_some_and(|reservation| reservation.dynamic) {
            return Err(format!("Resource {} is not dynamically reserved", text()));
        }
        if volume::is_persistent(resource) {
            return Err(format!(
                "A dynamically reserved persistent volume {} cannot be unreserved directly. Please destroy the \
                 persistent volume first then unreserve the resource",
                text()
            ));
        }
    }
    Ok(())
}

fn create(volumes: &Resources, by: &Requester<'_>, at: Where<'_>) -> Result<(), String> {
    well_formed(volumes, by).map_err(|error| format!("Invalid resources: {error}"))?;
    one_provider(volumes).map_err(|error| format!("Invalid resources: {error}"))?;
    for made in volumes {
        volume_form(made, by).map_err(|error| format!("Not a persistent volume: {error}"))?;
    }
    unique_ids(at.total.iter().chain(volumes))?;
    for made in volumes {
        if let Requester::Framework { id, shares: false, .. } = by
            && made.shared
        {
            return Err(format!(
                "Create volume operation for '{}' has been attempted by framework '{id}' with no SHARED_RESOURCES \
                 capability",
                spell_one(made, by.allocated_to())
            ));
        }
        let Some(principal) = by.principal() else { continue };
        match volume::principal(made) {
            None => {
                return Err(format!(
                    "Create volume operation attempted by principal '{principal}', but there is a volume in the \
                     operation with no principal set in 'disk.persistence'"
                ));
            }
            Some(other) if other != principal => {
                return Err(format!(
                    "Create volume operation attempted by authenticated principal '{principal}', which does not match \
                     a volume in the operation with principal '{other}' set in 'disk.persistence'"
                ));
            }
            Some(_) => {}
        }
    }
    Ok(())
}

fn destroy(volumes: &Resources, by: &Requester<'_>, at: Where<'_>) -> Result<(), String> {
    well_formed(volumes, by).map_err(|error| format!("Invalid resources: {error}"))?;
    one_provider(volumes).map_err(|error| format!("Invalid resources: {error}"))?;
    for volume in volumes {
        volume_form(volume, by).map_err(|error| format!("Not a persistent volume: {error}"))?;
    }
    let one = |volume: &Resource| -> Resources { [volume.clone()].into_iter().collect() };
    if volumes.iter().any(|volume| !at.total.contains(&one(volume))) {
        return Err("Persistent volumes not found".to_owned());
    }
    if volumes.iter().any(|volume| at.used.iter().any(|used| used.contains(&one(volume)))) {
        return Err("Persistent volumes in use".to_owned());
    }
    Ok(())
}

fn grow(volume: &Resource, addition: &Resource, by: &Requester<'_>) -> Result<(), String> {
    if !matches!(addition.value, ResourceValue::Scalar(amount) if amount > Milli::ZERO) {
        return Err("The size of 'GrowVolume.addition' field must be greater than zero".to_owned());
    }
    if volume.provider_id.is_some() {
        return Err("Growing a volume from a resource provider is not supported".to_owned());
    }
    volume_form(volume, by)
        .map_err(|error| format!("Invalid persistent volume in the 'GrowVolume.volume' field: {error}"))?;
    if volume.shared {
        return Err("Growing a shared persistent volume is not supported".to_owned());
    }
    let mut both: Resources = [volume::stripped(volume)].into_iter().collect();
    both.add(addition.clone());
    if both.iter().count() != 1 {
        return Err("Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields".to_owned());
    }
    Ok(())
}

fn shrink(volume: &Resource, subtract: Milli, by: &Requester<'_>) -> Result<(), String> {
    if subtract == Milli::ZERO {
        return Err("Value of 'ShrinkVolume.subtract' must be greater than zero".to_owned());
    }
    if !matches!(volume.value, ResourceValue::Scalar(size) if size > subtract) {
        return Err(
            "Value of 'ShrinkVolume.subtract' must be smaller than the size of 'ShrinkVolume.volume'".to_owned()
        );
    }
    if volume.provider_id.is_some() {
        return Err("Shrinking a volume from a resource provider is not supported".to_owned());
    }
    if volume::is_mount(volume) {
        return Err("Shrinking a volume on a MOUNT disk is not supported".to_owned());
    }
    volume_form(volume, by)
        .map_err(|error| format!("Invalid persistent volume in the 'ShrinkVolume.volume' field: {error}"))?;
    if volume.shared {
        return Err("Shrinking a shared persistent volume is not supported".to_owned());
    }
    Ok(())
}

/// What holds of resources in whatever call they are.
pub(crate) fn well_formed(resources: &Resources, by: &Requester<'_>) -> Result<(), String> {
    for resource in resources {
        if resource.name == "gpus"
            && let ResourceValue::Scalar(amount) = resource.value
            && amount.0 % 1000 != 0
        {
            return Err("Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer".to_owned());
        }
    }
    for resource in resources.iter().filter(|resource| resource.disk.is_some()) {
        disk_form(resource).map_err(|error| format!("Invalid DiskInfo: {error}"))?;
    }
    for resource in resources {
        if resource.revocable && resource.reservations.last().is_some_and(|reservation| reservation.dynamic) {
            return Err(format!(
                "Invalid ReservationInfo: Dynamically reserved resource {} cannot be created from revocable resources",
                spell_one(resource, by.allocated_to())
            ));
        }
    }
    Ok(())
}

fn disk_form(resource: &Resource) -> Result<(), String> {
    let Some(id) = volume::persistence_id(resource) else {
        if volume::has_mount_point(resource) {
            return Err("Non-persistent volume not supported".to_owned());
        }
        return if volume::has_source(resource) { Ok(()) } else { Err("DiskInfo is set but empty".to_owned()) };
    };
    if resource.revocable {
        return Err("Persistent volumes cannot be created from revocable resources".to_owned());
    }
    if resource.reservations.is_empty() {
        return Err("Persistent volumes cannot be created from unreserved resources".to_owned());
    }
    if !volume::has_mount_point(resource) {
        return Err("Expecting 'volume' to be set for persistent volume".to_owned());
    }
    if volume::has_host_path(resource) {
        return Err("Expecting 'host_path' to be unset for persistent volume".to_owned());
    }
    api::id::validate(id).map_err(|error| format!("Invalid persistence ID for persistent volume: {error}"))
}

fn volume_form(resource: &Resource, by: &Requester<'_>) -> Result<(), String> {
    if resource.disk.is_none() {
        return Err(format!("Resource {} does not have DiskInfo", spell_one(resource, by.allocated_to())));
    }
    if !volume::is_persistent(resource) {
        return Err("'persistence' is not set in DiskInfo".to_owned());
    }
    if !volume::has_mount_point(resource) {
        return Err("Expecting 'volume' to be set for persistent volume".to_owned());
    }
    if volume::is_read_only(resource) {
        return Err("Read-only persistent volume not supported".to_owned());
    }
    Ok(())
}

/// No two volumes of one role have the same id.
pub(crate) fn unique_ids<'a>(resources: impl Iterator<Item = &'a Resource>) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for resource in resources {
        if let Some(id) = volume::persistence_id(resource)
            && !seen.insert((resource.role(), id))
        {
            return Err(format!("Persistence ID '{id}' is not unique"));
        }
    }
    Ok(())
}

fn one_provider(resources: &Resources) -> Result<(), String> {
    let providers: BTreeSet<Option<&String>> = resources.iter().map(|resource| resource.provider_id.as_ref()).collect();
    if providers.len() == 1 {
        return Ok(());
    }
    if providers.contains(&None) {
        return Err("Some resources have a resource provider and some do not".to_owned());
    }
    let all: Vec<&str> = providers.into_iter().flatten().map(String::as_str).collect();
    Err(format!("The resources have multiple resource providers: {}", all.join(", ")))
}

fn same_reservations(resources: &Resources) -> Result<(), String> {
    let Some(first) = resources.iter().next() else { return Err("Resource cannot be empty".to_owned()) };
    if resources.iter().any(|resource| resource.reservations != first.reservations) {
        return Err(format!("Mixed reservations are not supported{}", spell(resources, None)));
    }
    Ok(())
}

fn unreserved(resources: &Resources) -> Resources {
    resources.iter().map(|resource| Resource { reservations: Vec::new(), ..resource.clone() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved(role: &str, principal: Option<&str>) -> Resources {
        let mut cpus = Resource::scalar("cpus", Milli(1000));
        cpus.reservations.push(api::resources::Reservation {
            dynamic: true,
            role: role.to_owned(),
            principal: principal.map(str::to_owned),
            labels: Vec::new(),
        });
        [cpus].into_iter().collect()
    }

    #[test]
    fn frameworks_reserve_for_the_offers_role_and_in_their_own_name() {
        let (id, roles) = (FrameworkId::from("f".to_owned()), ["a".to_owned()]);
        let by =
            Requester::Framework { id: &id, principal: Some("p"), roles: &roles, allocated_to: "a", shares: false };
        let total = Resources::new();
        let at = Where { total: &total, used: &[] };
        let reserve = |resources| ResourceOperation::Reserve { source: Resources::new(), resources };
        for (resources, expected) in [
            (reserved("a", Some("p")), Ok(())),
            (
                reserved("a", None),
                Err("A reserve operation was attempted by principal 'p', but there is a reserved resource in the \
                     request with no principal set"),
            ),
            (
                reserved("b", Some("p")),
                Err(
                    "A reserve operation was attempted for a resource with role 'b', but the resource was allocated to \
                     role 'a'",
                ),
            ),
            (Resources::parse("cpus:1").unwrap(), Err("Resource cpus(allocated: a):1 is not dynamically reserved")),
        ] {
            assert_eq!(validate(&reserve(resources), &by, at), expected.map_err(str::to_owned));
        }
    }

    #[test]
    fn volumes_are_created_once_and_destroyed_when_idle() {
        let disk = Resource { name: "disk".to_owned(), ..reserved("a", None).iter().next().unwrap().clone() };
        let made = volume::persistent(disk, "v", "data");
        let volumes: Resources = [made].into_iter().collect();
        let by = Requester::Operator { principal: None };
        let create = ResourceOperation::Create { volumes: volumes.clone() };
        let destroy = ResourceOperation::Destroy { volumes: volumes.clone() };
        let nothing = Resources::new();
        let (empty, made) = (Where { total: &nothing, used: &[] }, Where { total: &volumes, used: &[] });
        assert_eq!(validate(&create, &by, empty), Ok(()));
        assert_eq!(validate(&create, &by, made), Err("Persistence ID 'v' is not unique".to_owned()));
        assert_eq!(validate(&destroy, &by, made), Ok(()));
        assert_eq!(validate(&destroy, &by, empty), Err("Persistent volumes not found".to_owned()));
        let used = Where { total: &volumes, used: &[&volumes] };
        assert_eq!(validate(&destroy, &by, used), Err("Persistent volumes in use".to_owned()));
    }
}
