//! Giving and taking back: what every framework, role and agent has.

use std::time::Duration;

use api::{AgentId, FrameworkId, Resources};

use super::bag::{Amount, Bag};
use super::refusals::nanos;
use super::{Agent, Allocator, Consider, Holder, ORPHANS, Quantities};

#[derive(Clone, Copy)]
enum Direction {
    Give,
    Take,
}

impl Allocator {
    /// Charges resources in use: tasks known from before. Logarithmic in A and C, linear in n.
    pub fn charge(&mut self, framework: &FrameworkId, role: &str, agent: &AgentId, resources: &Resources) {
        if resources.is_empty() {
            return;
        }
        let framework = self.framework(framework);
        let role = self.role(role);
        let client = self.client(framework, role);
        let number = self.agent_slot(agent);
        let bag = self.kinds.bag(resources);
        self.charge_sorters(number, client, &bag);
        let before = self.kinds.plain(&self.agent(number).free);
        let agent = self.agent_mut(number);
        let first = agent.hold(client, &bag);
        agent.over |= !agent.take_free(&bag);
        let after = self.kinds.plain(&self.agent(number).free);
        self.headroom.sub(&before);
        self.headroom.add(&after);
        self.clients[client as usize].holds += u32::from(first);
        self.maintenance.due |= self.maintenance.concerns(number);
    }

    /// Counts what a client is given in everyone's share and quota.
    pub(super) fn charge_sorters(&mut self, agent: u32, client: u32, bag: &Bag) {
        let role = self.clients[client as usize].role;
        let all = self.kinds.unshared(bag);
        let owner = &mut self.roles[role as usize];
        owner.frameworks.allocated(client, &all);
        let top = owner.top;
        self.role_sorter.allocated(role, &all);
        if bag.rest.is_empty() {
            self.use_plain(top, |used| used.add(&all));
            return;
        }
        self.share(agent, client, bag, Direction::Give);
        let plain = self.kinds.plain(bag);
        self.use_plain(top, |used| used.add(&plain));
    }

    /// Undoes [`charge_sorters`](Self::charge_sorters).
    pub(super) fn uncharge(&mut self, agent: u32, client: u32, bag: &Bag) {
        let role = self.clients[client as usize].role;
        let all = self.kinds.unshared(bag);
        self.roles[role as usize].frameworks.unallocated(client, &all);
        self.role_sorter.unallocated(role, &all);
        self.share(agent, client, bag, Direction::Take);
        let plain = self.kinds.plain(bag);
        let top = self.roles[role as usize].top;
        self.use_plain(top, |used| used.sub(&plain));
        self.clients[client as usize].holds -= u32::from(self.agent(agent).holder(client).is_err());
    }

    /// The client has `to` instead of `from`, which is no allocation of its own.
    pub(super) fn recharge(&mut self, agent: u32, client: u32, from: &Bag, to: &Bag) {
        let role = self.clients[client as usize].role;
        let (less, more) = (self.kinds.unshared(from), self.kinds.unshared(to));
        if less != more {
            self.roles[role as usize].frameworks.exchanged(client, &less, &more);
            self.role_sorter.exchanged(role, &less, &more);
        }
        self.share(agent, client, from, Direction::Take);
        self.share(agent, client, to, Direction::Give);
        let (less, more) = (self.kinds.plain(from), self.kinds.plain(to));
        let top = self.roles[role as usize].top;
        self.use_plain(top, |used| {
            used.sub(&less);
            used.add(&more);
        });
    }

    /// Counts copies of what several may hold.
    fn share(&mut self, agent: u32, client: u32, bag: &Bag, direction: Direction) {
        let role = self.clients[client as usize].role;
        for piece in bag.shared() {
            let mut amount = Quantities::default();
            if let Amount::Scalar(scalar) = piece.amount {
                amount.add_at(self.kinds.get(piece.kind).place, scalar);
            }
            let (frameworks, copy) = (&mut self.roles[role as usize].frameworks, (agent, piece.kind));
            match direction {
                Direction::Give => {
                    frameworks.allocated_shared(client, copy, &amount);
                    self.role_sorter.allocated_shared(role, copy, &amount);
                }
                Direction::Take => {
                    frameworks.unallocated_shared(client, copy, &amount);
                    self.role_sorter.unallocated_shared(role, copy, &amount);
                }
            }
        }
    }

    fn use_plain(&mut self, top: u32, change: impl FnOnce(&mut Quantities)) {
        if self.guarantees {
            self.change_role(top, |role| change(&mut role.used));
        } else {
            change(&mut self.roles[top as usize].used);
        }
    }

    pub(super) fn find_client(&self, framework: &FrameworkId, role: &str) -> Option<u32> {
        let framework = self.framework_numbers.get(framework)?;
        let role = self.role_numbers.get(role)?;
        self.frameworks[*framework as usize].as_ref()?.clients.get(role).copied()
    }

    /// Takes back what was offered or used, refused or not. What the framework does not have of the
    /// agent is not taken. Logarithmic in A and C, linear in n.
    pub fn recover(
        &mut self,
        framework: &FrameworkId,
        role: &str,
        agent: &AgentId,
        resources: &Resources,
        consider: Consider,
    ) {
        let Some(number) = self.agent_numbers.get(agent.as_str()).copied() else { return };
        let client = self.find_client(framework, role).unwrap_or(ORPHANS);
        let bag = self.kinds.bag(resources);
        let Some(back) = self.agent_mut(number).release(client, bag) else { return };
        self.agent_mut(number).drop_empty_holders();
        if client != ORPHANS {
            self.uncharge(number, client, &back);
        }
        let before = self.agent(number).over.then(|| self.kinds.plain(&self.agent(number).free));
        let agent = self.agent_mut(number);
        if agent.over {
            agent.refresh_free();
        } else if agent.free.is_empty() && !agent.shares {
            agent.free.clone_from(&back);
        } else {
            agent.free.add_all(&back.without_shared());
        }
        match before {
            Some(before) => {
                let after = self.kinds.plain(&self.agent(number).free);
                self.headroom.sub(&before);
                self.headroom.add(&after);
            }
            None => self.headroom.add(&self.kinds.plain(&back)),
        }
        if let Some(left) = self.clients.get(client as usize).filter(|client| !client.subscribed) {
            self.settle(left.framework);
        }
        self.look_again(number, consider);
    }

    fn look_again(&mut self, number: u32, consider: Consider) {
        self.deferred.append(&mut self.withheld);
        if self.agent(number).gone {
            self.forget_agent(number);
            return;
        }
        match consider {
            Consider::Now => self.considered.insert(number),
            Consider::Later => self.deferred.insert(number),
        }
    }

    /// The framework does not want these, or less, of the agent for a while. Logarithmic in A, linear
    /// in the refusals of the agent.
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
        let (Some(client), Some(number)) = (self.find_client(framework, role), self.find_agent(agent)) else { return };
        let bag = self.kinds.bag(resources);
        let until = nanos(now.saturating_add(refusal.max(self.options.min_refusal)));
        let epoch = self.clients[client as usize].epoch;
        self.agent_mut(number).refusals.add(client, epoch, bag, until);
        self.expiries.push(until, number);
    }
}

impl Agent {
    pub(super) fn holder(&self, client: u32) -> Result<usize, usize> {
        self.holders.binary_search_by_key(&client, |holder| holder.client)
    }

    /// Notes that the client has this too. Is it the first it has here?
    pub(super) fn hold(&mut self, client: u32, bag: &Bag) -> bool {
        match self.holder(client) {
            Ok(position) => {
                self.holders[position].bag.add_all(bag);
                false
            }
            Err(position) => {
                if self.holders.capacity() == 0 {
                    self.holders.reserve_exact(1);
                }
                self.holders.insert(position, Holder { client, bag: bag.clone() });
                true
            }
        }
    }

    /// What of `bag` the client had; it has it no more.
    fn release(&mut self, client: u32, bag: Bag) -> Option<Bag> {
        let position = self.holder(client).ok()?;
        let held = &mut self.holders[position].bag;
        if *held == bag {
            return Some(self.holders.remove(position).bag);
        }
        if held.contains(&bag) {
            held.sub_all(&bag);
            return Some(bag);
        }
        let mut back = held.clone();
        held.sub_all(&bag);
        back.sub_all(held);
        if held.is_empty() {
            self.holders.remove(position);
        }
        (!back.is_empty()).then_some(back)
    }

    /// An idle agent keeps no room for holders.
    fn drop_empty_holders(&mut self) {
        if self.holders.is_empty() {
            self.holders = Vec::new();
        }
    }

    pub(super) fn take_holder(&mut self, client: u32) -> Option<Bag> {
        let position = self.holder(client).ok()?;
        Some(self.holders.remove(position).bag)
    }

    /// Takes from what is free. Was it all there?
    pub(super) fn take_free(&mut self, bag: &Bag) -> bool {
        if !self.shares {
            return self.free.sub_all(bag);
        }
        self.free.sub_all(&bag.without_shared())
    }
}
