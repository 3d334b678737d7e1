//! The operator's rules, and what they make of the nodes there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::resources::Reservation;
use api::{AgentId, Resource, Resources};

use super::State;
use crate::event::Event;
use crate::io::operator::{Place, Refusal};
use crate::rules::{MAX_RULES, Rule, resolve};

impl State {
    /// Adds a rule, or puts it in the place of the one of that name.
    pub(super) fn put_rule(&mut self, rule: Rule, place: Place, events: &mut Vec<Event>) -> Result<(), Refusal> {
        rule.validate().map_err(|error| Refusal::bad_request(error.to_string()))?;
        let mut rules = Vec::clone(&self.rules);
        let old = rules.iter().position(|known| known.name == rule.name);
        let of_network = |rule: &Rule| rule.network.is_some();
        if of_network(&rule) || old.and_then(|at| rules.get(at)).is_some_and(of_network) {
            events.push(Event::NetworkRulesChanged);
        }
        if old.is_none() && rules.len() >= MAX_RULES {
            let text = format!("There are {MAX_RULES} rules already");
            return Err(Refusal { status: 409, text });
        }
        let mut about_disks = rule.disks.is_some();
        if let Some(at) = old {
            about_disks |= rules.remove(at).disks.is_some();
        }
        let at = match place {
            Place::First => 0,
            Place::AsBefore => old.unwrap_or(rules.len()),
        };
        rules.insert(at, rule);
        self.rules = Arc::new(rules);
        self.apply_rules(events);
        if about_disks {
            events.push(Event::DiskRulesChanged);
        }
        Ok(())
    }

    pub(super) fn remove_rule(&mut self, name: &str, events: &mut Vec<Event>) -> Result<(), Refusal> {
        if !self.rules.iter().any(|rule| rule.name == name) {
            return Err(Refusal { status: 404, text: format!("No rule is called '{name}'") });
        }
        if self.rules.iter().any(|rule| rule.name == name && rule.network.is_some()) {
            events.push(Event::NetworkRulesChanged);
        }
        let mut rules = Vec::clone(&self.rules);
        let about_disks = rules.extract_if(.., |rule| rule.name == name).any(|rule| rule.disks.is_some());
        self.rules = Arc::new(rules);
        self.apply_rules(events);
        if about_disks {
            events.push(Event::DiskRulesChanged);
        }
        Ok(())
    }

    /// Nodes whose attributes become others are told of; their tasks go on.
    fn apply_rules(&mut self, events: &mut Vec<Event>) {
        let mut changed: Vec<AgentId> = Vec::new();
        for agent in self.agents.values_mut() {
            if agent.facts.is_empty() && !agent.attributes.is_empty() {
                // From before there were facts: what it has was typed.
                let typed = agent.attributes.iter().cloned().map(api::Fact::typed).collect();
                Arc::make_mut(agent).facts = Arc::new(typed);
            }
            let resolved = resolve(agent.node.as_str(), &agent.address, &agent.facts, &self.rules);
            if *agent.attributes != resolved.attributes || agent.reserve != resolved.reserve {
                let agent = Arc::make_mut(agent);
                agent.attributes = Arc::new(resolved.attributes);
                agent.reserve = resolved.reserve;
                changed.push(agent.id.clone());
            }
        }
        events.extend(changed.into_iter().map(|agent| Event::CapacityChanged { agent }));
    }

    /// What became free, or another rule's, is reserved as the rules say. Offers that show it are rescinded by the event.
    pub(super) fn settle_reservations(&mut self, events: &mut Vec<Event>) {
        let mut touched: BTreeSet<AgentId> = BTreeSet::new();
        let mut told: BTreeSet<AgentId> = BTreeSet::new();
        for event in events.iter() {
            if let Event::CapacityChanged { agent } = event {
                told.insert(agent.clone());
                touched.insert(agent.clone());
            } else if let Event::AgentRegistered { agent, .. } | Event::ResourcesFreed { agent, .. } = event {
                touched.insert(agent.clone());
            }
        }
        for id in touched {
            if self.settle_reservation(&id) && !told.contains(&id) {
                events.push(Event::CapacityChanged { agent: id });
            }
        }
    }

    fn settle_reservation(&mut self, id: &AgentId) -> bool {
        let Some(agent) = self.agents.get(id) else { return false };
        if agent.reserve.is_none() && !agent.resources.iter().any(is_by_rule) {
            return false;
        }
        let mut resources = Resources::clone(&agent.resources);
        let mut changed = false;
        for resource in self.unused(id).iter() {
            let Some(other) = settled(resource, agent.reserve.as_deref()) else { continue };
            let one: Resources = [resource.clone()].into_iter().collect();
            resources = resources.saturating_sub(&one);
            resources.add(other);
            changed = true;
        }
        if changed && let Some(agent) = self.agents.get_mut(id) {
            Arc::make_mut(agent).resources = Arc::new(resources);
        }
        changed
    }
}

/// Reservations of this principal are the rules' own, to be made and undone by them.
const RULES_PRINCIPAL: &str = "mesolith-rules";

fn is_by_rule(resource: &Resource) -> bool {
    let by =
        |reservation: &Reservation| reservation.dynamic && reservation.principal.as_deref() == Some(RULES_PRINCIPAL);
    matches!(&resource.reservations[..], [only] if by(only))
}

/// What a resource nobody uses is to be instead; `None` where it stays. Volumes stay: somebody's data is on them.
fn settled(resource: &Resource, role: Option<&str>) -> Option<Resource> {
    let is_volume = resource.disk.as_ref().is_some_and(|disk| disk.persistence.is_some());
    let own = is_by_rule(resource);
    let plain = resource.reservations.is_empty();
    if is_volume || resource.revocable || resource.shared || !(own || plain) {
        return None;
    }
    if own && resource.reservations.first().map(|reservation| reservation.role.as_str()) == role {
        return None;
    }
    let reservations = role.map(|role| Reservation {
        dynamic: true,
        role: role.to_owned(),
        principal: Some(RULES_PRINCIPAL.to_owned()),
        labels: Vec::new(),
    });
    let other = Resource { reservations: reservations.into_iter().collect(), ..resource.clone() };
    (other != *resource).then_some(other)
}
