//! Agents: what the cluster has.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::{AgentId, Resources};

use super::bag::Bag;
use super::refusals::Refusals;
use super::{Activity, Agent, AgentFacts, Allocator, Quantities, number_of};

impl Allocator {
    /// Adds an agent, active or not, and considers it. What was given of it before it was
    /// [removed](Self::remove_agent) and is not back yet still counts. Logarithmic in A, linear in n;
    /// the next run sorts everything again.
    pub fn add_agent(&mut self, id: &AgentId, total: &Resources, facts: AgentFacts, activity: Activity) {
        let number = self.agent_slot(id);
        if !self.agent(number).gone {
            return;
        }
        let total = self.kinds.bag(total);
        let agent = self.agent_mut(number);
        agent.gone = false;
        agent.active = activity == Activity::Active;
        agent.facts = Arc::new(facts);
        agent.total = total;
        agent.refresh_free();
        self.count_total(number);
        self.facts_changed(number);
        self.considered.insert(number);
        self.deferred.append(&mut self.withheld);
    }

    /// The agent's number; one that is not in the cluster if it is not known.
    pub(super) fn agent_slot(&mut self, id: &AgentId) -> u32 {
        if let Some(number) = self.agent_numbers.get(id.as_str()) {
            return *number;
        }
        let number = self.free_agents.pop().unwrap_or_else(|| {
            self.agents.push(None);
            number_of(self.agents.len() - 1)
        });
        let id: Arc<str> = id.as_str().into();
        self.agent_numbers.insert(id.clone(), number);
        self.agents[number as usize] = Some(Agent {
            id,
            facts: Arc::default(),
            total: Bag::default(),
            free: Bag::default(),
            holders: Vec::new(),
            refusals: Refusals::default(),
            active: false,
            gone: true,
            listed: true,
            has_gpus: false,
            remote: false,
            simple: true,
            shares: false,
            over: false,
        });
        number
    }

    pub(super) fn agent(&self, number: u32) -> &Agent {
        self.agents[number as usize].as_ref().expect("numbers of agents are looked up")
    }

    pub(super) fn agent_mut(&mut self, number: u32) -> &mut Agent {
        self.agents[number as usize].as_mut().expect("numbers of agents are looked up")
    }

    /// The number of an agent in the cluster.
    pub(super) fn find_agent(&self, id: &AgentId) -> Option<u32> {
        self.agent_numbers.get(id.as_str()).copied().filter(|number| !self.agent(*number).gone)
    }

    /// Counts an agent's total in every sum.
    pub(super) fn count_total(&mut self, number: u32) {
        let kinds = &self.kinds;
        let agent = self.agents[number as usize].as_mut().expect("numbers of agents are looked up");
        agent.has_gpus = kinds.has(&agent.total, "gpus");
        agent.simple = kinds.is_simple(&agent.total);
        agent.shares = agent.total.shared().next().is_some();
        self.totals.add(&kinds.scalars(&agent.total));
        self.headroom.add(&kinds.plain(&agent.free));
        for (role, reserved) in self.reservations(number) {
            self.change_role(role, |role| role.reserved.add(&reserved));
        }
        self.totals_changed();
    }

    /// Undoes [`count_total`](Self::count_total).
    pub(super) fn uncount_total(&mut self, number: u32) {
        let agent = self.agents[number as usize].as_ref().expect("numbers of agents are looked up");
        self.totals.sub(&self.kinds.scalars(&agent.total));
        self.headroom.sub(&self.kinds.plain(&agent.free));
        for (role, reserved) in self.reservations(number) {
            self.change_role(role, |role| role.reserved.sub(&reserved));
        }
        self.totals_changed();
    }

    /// An agent's reservations, each with the role whose quota it counts for.
    fn reservations(&mut self, number: u32) -> Vec<(u32, Quantities)> {
        if self.agent(number).simple {
            return Vec::new();
        }
        let mut all = Vec::new();
        for piece in self.agent(number).total.rest.clone() {
            let kind = self.kinds.get(piece.kind);
            if let super::bag::Amount::Scalar(amount) = piece.amount
                && !kind.resource.reservations.is_empty()
            {
                let mut sum = Quantities::default();
                sum.add_at(kind.place, amount);
                let top = kind.resource.role().split('/').next().unwrap_or_default().to_owned();
                all.push((self.role(&top), sum));
            }
        }
        all
    }

    fn totals_changed(&mut self) {
        let mut fair = self.totals.clone();
        for name in &self.options.excluded {
            if let Some(place) = self.kinds.names.find(name) {
                fair.set(place, 0);
            }
        }
        if fair != *self.fair_totals.amounts {
            self.fair_totals.amounts = Arc::new(fair);
            self.fair_totals.version += 1;
        }
    }

    fn facts_changed(&mut self, number: u32) {
        let agent = self.agents[number as usize].as_mut().expect("numbers of agents are looked up");
        let (mine, theirs) = (&self.options.domain, &agent.facts.domain);
        agent.remote = matches!((mine, theirs), (Some(mine), Some(theirs)) if mine.region != theirs.region);
        agent.listed = self.whitelist.as_ref().is_none_or(|list| list.contains(&agent.facts.hostname));
        for client in &self.constrained {
            if let Some(verdicts) = &mut self.clients[*client as usize].verdicts {
                verdicts.grow(self.agents.len());
                verdicts.forget(number);
            }
        }
    }

    /// Removes an agent. What was given of it stays charged until it is [recovered](Self::recover).
    /// As [`add_agent`](Self::add_agent).
    pub fn remove_agent(&mut self, id: &AgentId) {
        let Some(number) = self.find_agent(id) else { return };
        self.uncount_total(number);
        let agent = self.agent_mut(number);
        agent.gone = true;
        agent.active = false;
        agent.total = Bag::default();
        agent.refresh_free();
        agent.refusals.clear();
        self.maintenance.forget_agent(number);
        for set in [&mut self.considered, &mut self.deferred, &mut self.withheld] {
            set.remove(number);
        }
        self.forget_agent(number);
    }

    /// Forgets an agent that is not in the cluster and of which nothing is held.
    pub(super) fn forget_agent(&mut self, number: u32) {
        let Some(agent) = self.agents[number as usize].as_ref() else { return };
        if agent.gone && agent.holders.is_empty() {
            self.agent_numbers.remove(&agent.id);
            self.agents[number as usize] = None;
            self.free_agents.push(number);
        }
    }

    /// Is there such an agent? Logarithmic.
    #[must_use]
    pub fn has_agent(&self, id: &AgentId) -> bool {
        self.find_agent(id).is_some()
    }

    /// The agent may be offered, and is considered. Logarithmic.
    pub fn activate_agent(&mut self, id: &AgentId) {
        if let Some(number) = self.find_agent(id) {
            self.agent_mut(number).active = true;
            self.considered.insert(number);
        }
    }

    /// The agent is not offered: it is away, drains or was deactivated. Logarithmic.
    pub fn deactivate_agent(&mut self, id: &AgentId) {
        if let Some(number) = self.find_agent(id) {
            self.agent_mut(number).active = false;
        }
    }

    /// The agent has other resources, and is considered. As [`add_agent`](Self::add_agent).
    pub fn update_total(&mut self, id: &AgentId, total: &Resources) {
        let Some(number) = self.find_agent(id) else { return };
        let total = self.kinds.bag(total);
        self.considered.insert(number);
        if self.agent(number).total != total {
            self.replace_total(number, total);
            self.deferred.append(&mut self.withheld);
        }
    }

    pub(super) fn replace_total(&mut self, number: u32, total: Bag) {
        self.uncount_total(number);
        let agent = self.agent_mut(number);
        agent.total = total;
        agent.refresh_free();
        self.count_total(number);
    }

    /// The agent has another name, place or other attributes: refusals of it no longer count, and it
    /// is considered. Linear in the number of clients with constraints.
    pub fn update_facts(&mut self, id: &AgentId, facts: AgentFacts) {
        let Some(number) = self.find_agent(id) else { return };
        let agent = self.agent_mut(number);
        if *agent.facts == facts {
            return;
        }
        agent.facts = Arc::new(facts);
        agent.refusals.clear();
        self.facts_changed(number);
        self.considered.insert(number);
    }

    /// Only agents with one of these hostnames are offered; all when there is no list. Linear in A.
    pub fn update_whitelist(&mut self, whitelist: Option<BTreeSet<String>>) {
        self.whitelist = whitelist;
        for number in 0..self.agents.len() {
            let Some(agent) = self.agents[number].as_mut() else { continue };
            let listed = self.whitelist.as_ref().is_none_or(|list| list.contains(&agent.facts.hostname));
            if listed && !agent.listed && !agent.gone {
                self.considered.insert(number_of(number));
            }
            agent.listed = listed;
        }
    }
}

impl Agent {
    /// `free` from scratch.
    pub(super) fn refresh_free(&mut self) {
        let mut free = self.total.clone();
        self.over = false;
        for holder in &self.holders {
            let all = if holder.bag.shared().next().is_some() {
                free.sub_all(&holder.bag.without_shared())
            } else {
                free.sub_all(&holder.bag)
            };
            self.over |= !all;
        }
        self.free = free;
    }
}
