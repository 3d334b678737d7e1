//! The operator's rules, and what they make of the nodes there are.

use std::sync::Arc;

use api::AgentId;

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
        if old.is_none() && rules.len() >= MAX_RULES {
            let text = format!("There are {MAX_RULES} rules already");
            return Err(Refusal { status: 409, text });
        }
        if let Some(at) = old {
            rules.remove(at);
        }
        let at = match place {
            Place::First => 0,
            Place::AsBefore => old.unwrap_or(rules.len()),
        };
        rules.insert(at, rule);
        self.rules = Arc::new(rules);
        self.apply_rules(events);
        Ok(())
    }

    pub(super) fn remove_rule(&mut self, name: &str, events: &mut Vec<Event>) -> Result<(), Refusal> {
        if !self.rules.iter().any(|rule| rule.name == name) {
            return Err(Refusal { status: 404, text: format!("No rule is called '{name}'") });
        }
        let mut rules = Vec::clone(&self.rules);
        rules.retain(|rule| rule.name != name);
        self.rules = Arc::new(rules);
        self.apply_rules(events);
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
            let attributes = resolve(agent.node.as_str(), &agent.address, &agent.facts, &self.rules).attributes;
            if *agent.attributes != attributes {
                let agent = Arc::make_mut(agent);
                agent.attributes = Arc::new(attributes);
                changed.push(agent.id.clone());
            }
        }
        events.extend(changed.into_iter().map(|agent| Event::CapacityChanged { agent }));
    }
}
