//! Giving and taking back: what every framework, role and agent has.

use std::time::Duration;

use api::{AgentId, FrameworkId, Resources};

use super::quantities::Quantities;
use super::{Allocator, Consider, is_plain};

impl Allocator {
    /// Charges resources in use: tasks known from before.
    pub fn charge(&mut self, framework: &FrameworkId, role: &str, agent: &AgentId, resources: &Resources) {
        let framework_number = self.framework(framework);
        let role_number = self.role(role);
        self.client(framework_number, role_number);
        let (all, plain) = (self.names.sum(resources, |_| true), self.names.sum(resources, is_plain));
        self.charge_sorters(framework_number, role_number, &all, &plain);
        if let Some(number) = self.agent_numbers.get(agent).copied()
            && let Some(agent) = self.agents[number as usize].as_mut()
        {
            agent.allocated.add_all(resources);
            self.headroom.sub(&agent.free_plain);
            agent.free = agent.total.saturating_sub(&agent.allocated);
            agent.free_plain = self.names.sum(&agent.free, is_plain);
            self.headroom.add(&agent.free_plain);
        }
    }

    pub(super) fn charge_sorters(&mut self, framework: u32, role_number: u32, all: &Quantities, plain: &Quantities) {
        let Some(id) = self.frameworks[framework as usize].as_ref().map(|framework| &framework.id) else { return };
        let role = &mut self.roles[role_number as usize];
        role.frameworks.allocated(id.as_str(), all);
        self.role_sorter.allocated(&role.name, all);
        let top = role.top;
        self.change_role(top, |role| role.used.add(plain));
    }

    /// Takes back what was offered or used, refused or not.
    pub fn recover(
        &mut self,
        framework: &FrameworkId,
        role: &str,
        agent: &AgentId,
        resources: &Resources,
        consider: Consider,
    ) {
        if resources.is_empty() {
            return;
        }
        let (all, plain) = (self.names.sum(resources, |_| true), self.names.sum(resources, is_plain));
        if let (Some(framework), Some(role_number)) =
            (self.framework_numbers.get(framework).copied(), self.role_numbers.get(role).copied())
            && let Some(id) = self.frameworks[framework as usize].as_ref().map(|framework| framework.id.clone())
        {
            let role = &mut self.roles[role_number as usize];
            role.frameworks.unallocated(id.as_str(), &all);
            self.role_sorter.unallocated(&role.name, &all);
            let top = role.top;
            self.change_role(top, |role| role.used.sub(&plain));
            let left = self.frameworks[framework as usize]
                .as_ref()
                .and_then(|framework| framework.clients.get(&role_number))
                .is_some_and(|client| !client.subscribed);
            if left {
                self.settle(framework);
            }
        }
        let Some(number) = self.agent_numbers.get(agent).copied() else { return };
        let Some(agent) = self.agents[number as usize].as_mut() else { return };
        let was_over = !agent.total.contains(&agent.allocated);
        agent.allocated = agent.allocated.saturating_sub(resources);
        self.headroom.sub(&agent.free_plain);
        if was_over {
            agent.free = agent.total.saturating_sub(&agent.allocated);
            agent.free_plain = self.names.sum(&agent.free, is_plain);
        } else {
            agent.free.add_all(resources);
            agent.free_plain.add(&plain);
        }
        self.headroom.add(&agent.free_plain);
        match consider {
            Consider::Now => self.considered.insert(number),
            Consider::Later => self.deferred.insert(number),
        };
    }

    /// The framework does not want these, or less, of the agent for a while.
    pub fn refuse(
        &mut self,
        framework: &FrameworkId,
        role: &str,
        agent: &AgentId,
        resources: &Resources,
        refusal: Duration,
        now: Duration,
    ) {
        if refusal.is_zero() || resources.is_empty() {
            return;
        }
        let (Some(framework), Some(role), Some(agent)) = (
            self.framework_numbers.get(framework).copied(),
            self.role_numbers.get(role).copied(),
            self.agent_numbers.get(agent).copied(),
        ) else {
            return;
        };
        let quantities = self.names.sum(resources, |_| true);
        let until = now + refusal.max(self.options.min_refusal);
        let client =
            self.frameworks[framework as usize].as_mut().and_then(|framework| framework.clients.get_mut(&role));
        if let Some(client) = client {
            client.refusals.add(agent, resources.clone(), quantities, until);
            self.expiries.insert((until, framework, role, agent));
        }
    }
}
