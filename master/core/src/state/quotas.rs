//! Weights and quotas of roles.

use std::collections::BTreeMap;
use std::fmt::Write;

use api::{Milli, ResourceValue};

use super::{Reachability, State};
use crate::event::Event;
use crate::io::operator::{QuotaConfig, Refusal};
use crate::validate;

type Quantities = BTreeMap<String, Milli>;

/// A trillion; of mem and disk an exabyte in MiB.
const MOST: u64 = 1_000_000_000_000;
const MOST_BYTES: u64 = 1 << 40;

/// Is a quota held against what there is and what is used?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Capacity {
    /// It must fit.
    Checked,
    /// `force`.
    Ignored,
}

impl State {
    pub(super) fn update_weights(
        &mut self,
        weights: Vec<(String, f64)>,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        const CANNOT: &str = "Failed to validate update weights request JSON";
        for (role, weight) in &weights {
            let role = role.trim();
            validate::role(role)
                .map_err(|error| Refusal::bad_request(format!("{CANNOT}: Invalid role '{role}': {error}")))?;
            if !(*weight > 0.0 && weight.is_finite()) {
                return Err(Refusal::bad_request(format!(
                    "{CANNOT} for role '{role}': Invalid weight '{weight}': Weights must be positive"
                )));
            }
        }
        let weights = weights.into_iter().map(|(role, weight)| (role.trim().to_owned(), weight));
        let weights: BTreeMap<String, f64> = weights.collect();
        self.weights.extend(weights.clone());
        events.push(Event::WeightsUpdated { roles: weights.into_keys().collect() });
        Ok(())
    }

    pub(super) fn update_quota(
        &mut self,
        capacity: Capacity,
        configs: Vec<QuotaConfig>,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let invalid = |error: String| Refusal::bad_request(format!("Invalid QuotaConfig: {error}"));
        for config in &configs {
            if config.role.contains('/') {
                let role = &config.role;
                return Err(Refusal::bad_request(format!(
                    "Updating quota on nested role '{role}' is not supported yet"
                )));
            }
            check_config(config).map_err(invalid)?;
        }
        for config in configs.iter().filter(|_| capacity == Capacity::Checked) {
            let consumed = self.quota_consumption(&config.role);
            if !within(&consumed, &config.limits) {
                return Err(invalid(format!(
                    "Role '{}' is already consuming '{}'; this is more than the requested limits '{}' (use 'force' flag \
                     to bypass this check)",
                    config.role,
                    spell(&consumed),
                    spell(&config.limits)
                )));
            }
        }
        let mut quotas = self.quotas.clone();
        // One without amounts is kept too, as in Mesos, until REMOVE_QUOTA: it is listed, and does nothing.
        quotas.extend(configs.iter().map(|config| (config.role.clone(), config.clone())));
        check_tree(&quotas).map_err(invalid)?;
        let (guaranteed, whole) = (total_guarantees(&quotas), self.capacity());
        if capacity == Capacity::Checked && !covers(&whole, &guaranteed) {
            return Err(invalid(format!(
                "total quota guarantees '{}' exceed cluster capacity '{}' (use 'force' flag to bypass this check)",
                spell(&guaranteed),
                spell(&whole)
            )));
        }
        self.quotas = quotas;
        events.push(Event::QuotasUpdated { roles: configs.into_iter().map(|config| config.role).collect() });
        Ok(())
    }

    pub(super) fn set_quota(
        &mut self,
        capacity: Capacity,
        role: String,
        guarantee: Quantities,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        const CANNOT: &str = "Failed to validate set quota request";
        if self.quotas.contains_key(&role) {
            return Err(Refusal::bad_request(format!(
                "{CANNOT}: Cannot set quota for role '{role}' which already has quota"
            )));
        }
        let config = QuotaConfig { role: role.clone(), limits: guarantee.clone(), guarantees: guarantee };
        let mut quotas = self.quotas.clone();
        quotas.insert(role.clone(), config);
        check_tree(&quotas).map_err(|error| Refusal::bad_request(format!("{CANNOT}: {error}")))?;
        if role.contains('/') {
            return Err(Refusal::bad_request(format!("Setting quota on nested role '{role}' is not supported yet")));
        }
        let (guaranteed, whole) = (total_guarantees(&quotas), self.capacity());
        if capacity == Capacity::Checked && !covers(&whole, &guaranteed) {
            let text = format!(
                "Quota guarantees overcommit the cluster (use 'force' to bypass this check): Total quota guarantees '{}' \
                 exceed cluster capacity '{}'",
                spell(&guaranteed),
                spell(&whole)
            );
            return Err(Refusal { status: 409, text });
        }
        self.quotas = quotas;
        events.push(Event::QuotasUpdated { roles: vec![role] });
        Ok(())
    }

    pub(super) fn remove_quota(&mut self, role: String, events: &mut Vec<Event>) -> Result<(), Refusal> {
        if self.quotas.remove(&role).is_none() {
            return Err(Refusal::bad_request(format!("Failed to remove quota: Role '{role}' has no quota set")));
        }
        events.push(Event::QuotasUpdated { roles: vec![role] });
        Ok(())
    }

    /// What counts for a top-level role's quota: reservations to it and below, and what its tasks use
    /// unreserved.
    #[must_use]
    pub fn quota_consumption(&self, role: &str) -> BTreeMap<String, Milli> {
        let below = |other: &str| other == role || other.strip_prefix(role).is_some_and(|rest| rest.starts_with('/'));
        let mut sums = Quantities::new();
        for agent in self.registered() {
            let reserved = agent.resources.iter().filter(|resource| resource.role() != "*" && below(resource.role()));
            reserved.for_each(|resource| add(&mut sums, resource));
        }
        for held in self.holdings().filter(|held| below(held.role)) {
            let plain = held.resources.iter().filter(|resource| resource.role() == "*" && !resource.revocable);
            plain.for_each(|resource| add(&mut sums, resource));
        }
        sums
    }

    /// All scalars of all registered agents that are not revocable.
    fn capacity(&self) -> Quantities {
        let mut sums = Quantities::new();
        for agent in self.registered() {
            agent.resources.iter().filter(|resource| !resource.revocable).for_each(|resource| add(&mut sums, resource));
        }
        sums
    }

    fn registered(&self) -> impl Iterator<Item = &super::Agent> {
        let agents = self.agents.values().map(AsRef::as_ref);
        agents.filter(|agent: &&super::Agent| agent.reachability == Reachability::Reachable)
    }
}

fn add(sums: &mut Quantities, resource: &api::Resource) {
    if let ResourceValue::Scalar(amount) = resource.value {
        let sum = sums.entry(resource.name.clone()).or_default();
        *sum = sum.saturating_add(amount);
    }
}

fn covers(much: &Quantities, little: &Quantities) -> bool {
    little.iter().all(|(name, amount)| much.get(name).copied().unwrap_or_default() >= *amount)
}

/// What is not named is not limited.
fn within(amounts: &Quantities, limits: &Quantities) -> bool {
    limits.iter().all(|(name, limit)| amounts.get(name).copied().unwrap_or_default() <= *limit)
}

fn total_guarantees(quotas: &BTreeMap<String, QuotaConfig>) -> Quantities {
    let mut sums = Quantities::new();
    for config in quotas.values().filter(|config| !config.role.contains('/')) {
        for (name, amount) in &config.guarantees {
            let sum = sums.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }
    sums
}

fn check_config(config: &QuotaConfig) -> Result<(), String> {
    if config.role.is_empty() {
        return Err("'QuotaConfig.role' must be set".to_owned());
    }
    validate::role(&config.role).map_err(|error| format!("Invalid 'QuotaConfig.role': {error}"))?;
    for (field, amounts) in [("guarantees", &config.guarantees), ("limits", &config.limits)] {
        for (name, amount) in amounts {
            let bytes = matches!(name.as_str(), "mem" | "disk");
            let (most, unit) = if bytes { (MOST_BYTES, "exabyte") } else { (MOST, "trillion") };
            if amount.0 > most.saturating_mul(1000) {
                return Err(format!(
                    "Invalid 'QuotaConfig.{field}': {{'{name}': {amount}}} is invalid: values greater than 1 {unit} \
                     ({most}) are not supported"
                ));
            }
        }
    }
    if !within(&config.guarantees, &config.limits) {
        return Err(format!(
            "'QuotaConfig.guarantees' {} is not contained within the 'QuotaConfig.limits' {}",
            map(&config.guarantees),
            map(&config.limits)
        ));
    }
    Ok(())
}

/// No parent is promised less than its children together.
fn check_tree(quotas: &BTreeMap<String, QuotaConfig>) -> Result<(), String> {
    let mut children: BTreeMap<&str, Quantities> = BTreeMap::new();
    for config in quotas.values() {
        let Some((parent, _)) = config.role.rsplit_once('/') else { continue };
        let sums = children.entry(parent).or_default();
        for (name, amount) in &config.guarantees {
            let sum = sums.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }
    for (parent, sums) in children {
        let nothing = Quantities::new();
        let own = quotas.get(parent).map_or(&nothing, |config| &config.guarantees);
        if !covers(own, &sums) {
            let name = parent.rsplit('/').next().unwrap_or_default();
            return Err(format!(
                "Invalid quota configuration. Parent role '{name}' with guarantees ({}) does not contain the sum of its \
                 children's guarantees ({})",
                spell(own),
                spell(&sums)
            ));
        }
    }
    Ok(())
}

/// `cpus:1; mem:512`; `{}` when empty.
fn spell(amounts: &Quantities) -> String {
    if amounts.is_empty() {
        return "{}".to_owned();
    }
    let mut text = String::new();
    for (name, amount) in amounts {
        let separator = if text.is_empty() { "" } else { "; " };
        let _ = write!(text, "{separator}{name}:{amount}");
    }
    text
}

/// As Mesos prints a protobuf map.
fn map(amounts: &Quantities) -> String {
    let entries = amounts.iter().map(|(name, amount)| format!("{name}: {amount}"));
    format!("{{ {} }}", entries.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amounts(text: &str) -> Quantities {
        let resources = api::Resources::parse(text).unwrap();
        resources.scalars().into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect()
    }

    fn config(role: &str, guarantees: &str, limits: &str) -> QuotaConfig {
        QuotaConfig { role: role.to_owned(), guarantees: amounts(guarantees), limits: amounts(limits) }
    }

    #[test]
    fn a_parent_holds_what_its_children_are_promised() {
        let tree = |configs: &[(&str, &str)]| {
            let configs = configs.iter().map(|(role, text)| ((*role).to_owned(), config(role, text, "")));
            check_tree(&configs.collect())
        };
        assert_eq!(tree(&[("a", "cpus:3"), ("a/b", "cpus:1"), ("a/c", "cpus:2")]), Ok(()));
        let refused = tree(&[("a", "cpus:2"), ("a/b", "cpus:1"), ("a/c", "cpus:2")]).unwrap_err();
        assert!(refused.contains("Parent role 'a' with guarantees (cpus:2)") && refused.ends_with("(cpus:3)"));
        assert!(tree(&[("a/b", "cpus:1")]).is_err(), "a parent without a quota promises nothing");
    }

    #[test]
    fn guarantees_are_within_limits_and_the_cluster() {
        let mut state = State::default();
        let mut events = Vec::new();
        let mut update =
            |capacity, configs| state.update_quota(capacity, configs, &mut events).map_err(|refusal| refusal.text);
        let refused = update(Capacity::Checked, vec![config("a", "cpus:2", "cpus:1")]).unwrap_err();
        assert!(refused.contains("is not contained within the 'QuotaConfig.limits'"), "{refused}");
        let refused = update(Capacity::Checked, vec![config("a", "cpus:1", "cpus:2")]).unwrap_err();
        assert!(refused.contains("exceed cluster capacity '{}'"), "{refused}");
        assert_eq!(update(Capacity::Ignored, vec![config("a", "cpus:1", "cpus:2")]), Ok(()));
        assert_eq!(update(Capacity::Ignored, vec![config("a", "", "")]), Ok(()));
        let refused = update(Capacity::Ignored, vec![config("a/b", "cpus:1", "")]).unwrap_err();
        assert_eq!(refused, "Updating quota on nested role 'a/b' is not supported yet");
        assert!(state.quotas["a"].guarantees.is_empty() && state.quotas["a"].limits.is_empty());
        assert_eq!(state.remove_quota("a".to_owned(), &mut Vec::new()).map_err(|refusal| refusal.text), Ok(()));
        assert!(state.quotas.is_empty());
    }
}
