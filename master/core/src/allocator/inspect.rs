//! Looking without changing: for endpoints, metrics and tests.

use std::collections::BTreeMap;

use api::{AgentId, FrameworkId, Milli, Resources};

use super::bag::Bag;
use super::{Allocator, ORPHANS, Quantities};

impl Allocator {
    /// What is free on an agent. Linear in what it is.
    #[must_use]
    pub fn free(&self, agent: &AgentId) -> Option<Resources> {
        self.find_agent(agent).map(|number| self.kinds.resources(&self.agent(number).free))
    }

    /// What a framework has of an agent in a role, offered or in use.
    #[must_use]
    pub fn held(&self, framework: &FrameworkId, role: &str, agent: &AgentId) -> Resources {
        let held = || {
            let number = self.agent_numbers.get(agent.as_str())?;
            let agent = self.agent(*number);
            let position = agent.holder(self.find_client(framework, role)?).ok()?;
            Some(self.kinds.resources(&agent.holders[position].bag))
        };
        held().unwrap_or_default()
    }

    /// A role's weight: 1 where none was set.
    #[must_use]
    pub fn weight(&self, role: &str) -> f64 {
        self.role_sorter.weight(role)
    }

    /// The weighted dominant share of a role's subtree. Linear in the length of its path.
    #[must_use]
    pub fn dominant_share(&self, role: &str) -> f64 {
        self.role_sorter.share(role)
    }

    /// What counts for the quota of a top-level role: all reservations to its subtree, and what is
    /// offered to or used by it unreserved. Logarithmic.
    #[must_use]
    pub fn quota_consumption(&self, role: &str) -> BTreeMap<String, Milli> {
        let role = self.role_numbers.get(role).map(|number| &self.roles[*number as usize]);
        role.map(|role| self.kinds.names.named(&role.consumed())).unwrap_or_default()
    }

    /// All scalars of all agents, by name.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, Milli> {
        self.kinds.names.named(&self.totals)
    }

    /// How many agents and frameworks it knows.
    #[must_use]
    pub fn sizes(&self) -> (usize, usize) {
        (self.agent_numbers.len(), self.framework_numbers.len())
    }

    /// Do all sums kept along the way equal what they sum up, computed anew? For tests: linear in
    /// everything.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let mut totals = Quantities::default();
        let mut headroom = Quantities::default();
        let mut reserved: BTreeMap<u32, Quantities> = BTreeMap::new();
        let mut used: BTreeMap<u32, Quantities> = BTreeMap::new();
        let mut given: BTreeMap<u32, Quantities> = BTreeMap::new();
        let mut holds: BTreeMap<u32, u32> = BTreeMap::new();
        for agent in self.agents.iter().flatten() {
            totals.add(&self.kinds.scalars(&agent.total));
            headroom.add(&self.kinds.plain(&agent.free));
            for piece in
                agent.total.rest.iter().filter(|piece| !self.kinds.get(piece.kind).resource.reservations.is_empty())
            {
                let mut one = Bag::default();
                one.add(piece.kind, piece.amount.clone());
                let top = self.kinds.get(piece.kind).resource.role().split('/').next().unwrap_or_default();
                let Some(role) = self.role_numbers.get(top) else { return false };
                reserved.entry(*role).or_default().add(&self.kinds.scalars(&one));
            }
            let mut sum = agent.free.without_shared();
            for holder in &agent.holders {
                sum.add_all(&holder.bag.without_shared());
                if holder.bag.is_empty() {
                    return false;
                }
                if holder.client == ORPHANS {
                    continue;
                }
                let client = &self.clients[holder.client as usize];
                let top = self.roles[client.role as usize].top;
                used.entry(top).or_default().add(&self.kinds.plain(&holder.bag));
                given.entry(holder.client).or_default().add(&self.kinds.unshared(&holder.bag));
                *holds.entry(holder.client).or_default() += 1;
                if agent.total.shared().next().is_some() {
                    given.remove(&holder.client); // shares count copies once: not checked here
                }
            }
            if !agent.over && !agent.gone && sum != agent.total.without_shared() {
                return false;
            }
        }
        let clients_agree =
            self.clients.iter().enumerate().filter(|(_, client)| client.exists).all(|(number, client)| {
                let number = super::number_of(number);
                let counted = self.roles[client.role as usize].frameworks.allocation(number);
                holds.get(&number).copied().unwrap_or(0) == client.holds
                    && given.get(&number).is_none_or(|given| counted.covers(given))
            });
        let mut owed = Quantities::default();
        let roles_agree = self.role_numbers.values().all(|number| {
            let role = &self.roles[*number as usize];
            owed.add(&role.owed());
            role.top != *number
                || (role.reserved == reserved.get(number).cloned().unwrap_or_default()
                    && role.used == used.get(number).cloned().unwrap_or_default())
        });
        clients_agree && roles_agree && owed == self.owed && totals == self.totals && headroom == self.headroom
    }
}
