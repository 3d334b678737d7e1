//! One allocation run: first what quotas guarantee, then what fairness gives.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use api::{ResourceValue, Resources};

use super::quantities::Quantities;
use super::quota::{Bounds, Unbounded};
use super::{Agent, Allocation, Allocator, Framework, Role, is_plain};

/// What one framework gets of one agent.
enum Taken {
    /// Everything that is free.
    All,
    /// A part.
    Part(Resources),
}

/// Given so far in a run, by framework, role and agent.
type Given = BTreeMap<(u32, u32, u32), usize>;

impl Allocator {
    /// Hands out what changed since the last run.
    pub fn run(&mut self, now: Duration) -> Vec<Allocation> {
        self.expire(now);
        let considered = std::mem::take(&mut self.considered);
        let mut candidates: Vec<u32> = considered.into_iter().filter(|agent| self.is_candidate(*agent)).collect();
        let mut allocations = Vec::new();
        if candidates.is_empty() {
            return allocations;
        }
        self.role_sorter.set_totals(&self.fair_totals, self.totals_version);
        for role in &mut self.roles {
            role.frameworks.set_totals(&self.fair_totals, self.totals_version);
        }
        let mut given = Given::new();
        if self.guarantees {
            self.random.shuffle(&mut candidates);
            for agent in &candidates {
                self.guarantee(*agent, &mut given, &mut allocations);
            }
        }
        self.random.shuffle(&mut candidates);
        for agent in candidates {
            self.share_out(agent, &mut given, &mut allocations);
        }
        allocations
    }

    fn is_candidate(&self, number: u32) -> bool {
        self.agents[number as usize].as_ref().is_some_and(|agent| agent.active && !agent.free.is_empty())
    }

    fn agent(&self, number: u32) -> &Agent {
        self.agents[number as usize].as_ref().expect("candidates exist")
    }

    /// Stage 1: roles whose guarantee is not yet met.
    fn guarantee(&mut self, agent: u32, given: &mut Given, allocations: &mut Vec<Allocation>) {
        if self.owed.is_zero() {
            return;
        }
        for role in self.role_sorter.order() {
            if self.roles[role as usize].quota.guarantees.is_zero() {
                continue;
            }
            for framework in self.roles[role as usize].frameworks.order() {
                let owner = &self.roles[role as usize];
                let missing = owner.quota.guarantees.minus(&owner.consumed());
                if missing.is_zero() {
                    break;
                }
                if let Some(taken) = self.guaranteed(agent, role, framework, &missing) {
                    self.give(agent, role, framework, Taken::Part(taken), given, allocations);
                }
            }
        }
    }

    /// Stage 2: everyone, by share.
    fn share_out(&mut self, agent: u32, given: &mut Given, allocations: &mut Vec<Allocation>) {
        if !self.is_candidate(agent) {
            return;
        }
        // Usually the first in order takes everything: nobody else is looked at.
        let mut found = None;
        let _ = self.role_sorter.walk(&mut |role| {
            self.roles[role as usize].frameworks.walk(&mut |framework| match self.fair(agent, role, framework) {
                Some(taken) => {
                    found = Some((role, framework, taken));
                    ControlFlow::Break(())
                }
                None => ControlFlow::Continue(()),
            })
        });
        let Some((role, framework, taken)) = found else { return };
        if matches!(taken, Taken::All) {
            self.give(agent, role, framework, taken, given, allocations);
            return;
        }
        // Something is left: the rest of the order, as it is before this one moves.
        let roles = self.role_sorter.after(role);
        let frameworks = self.roles[role as usize].frameworks.after(framework);
        self.give(agent, role, framework, taken, given, allocations);
        self.share_out_to(agent, role, &frameworks, given, allocations);
        for role in roles {
            let frameworks = self.roles[role as usize].frameworks.order();
            self.share_out_to(agent, role, &frameworks, given, allocations);
        }
    }

    fn share_out_to(
        &mut self,
        agent: u32,
        role: u32,
        frameworks: &[u32],
        given: &mut Given,
        allocations: &mut Vec<Allocation>,
    ) {
        for framework in frameworks {
            if !self.is_candidate(agent) {
                return;
            }
            if let Some(taken) = self.fair(agent, role, *framework) {
                self.give(agent, role, *framework, taken, given, allocations);
            }
        }
    }

    /// What the framework may see of the agent at all; `None` if nothing worth an offer.
    fn visible(&self, agent: &Agent, role: &Role, framework: &Framework) -> Option<Resources> {
        let abilities = framework.abilities;
        let visible = agent.free.filter(|resource| {
            resource.is_allocatable_to(&role.name)
                && (abilities.revocable || !resource.revocable)
                && (abilities.shared || !resource.shared)
                && (abilities.refinement || resource.reservations.len() < 2)
        });
        (!visible.is_empty()).then_some(visible)
    }

    fn is_hidden(&self, agent: &Agent, framework: &Framework) -> bool {
        self.options.filter_gpus && agent.has_gpus && !framework.abilities.gpus
    }

    /// Large enough, and not refused?
    fn is_wanted(&self, agent: u32, role: u32, framework: &Framework, offer: &Resources, sums: &Quantities) -> bool {
        let Some(client) = framework.clients.get(&role) else { return false };
        let minimum = client.minimum.as_ref().unwrap_or(&self.minimum);
        let enough = minimum.is_empty() || minimum.iter().any(|minimum| sums.covers(minimum));
        !offer.is_empty() && enough && !client.refusals.refuse(agent, offer, sums)
    }

    fn fair(&self, agent_number: u32, role_number: u32, framework: u32) -> Option<Taken> {
        let (agent, role) = (self.agent(agent_number), &self.roles[role_number as usize]);
        let framework = self.frameworks[framework as usize].as_ref()?;
        if self.is_hidden(agent, framework) {
            return None;
        }
        if agent.plain && !self.quotas {
            let wanted = self.is_wanted(agent_number, role_number, framework, &agent.free, &agent.free_plain);
            return wanted.then_some(Taken::All);
        }
        let visible = self.visible(agent, role, framework)?;
        if !self.quotas {
            let sums = self.names.sum_known(&visible);
            let wanted = self.is_wanted(agent_number, role_number, framework, &visible, &sums);
            return wanted.then_some(Taken::Part(visible));
        }
        let top = &self.roles[role.top as usize];
        let mut bounds = Bounds::default();
        self.bound_by_limits(top, &top.consumed(), &mut bounds);
        self.bound_by_headroom(&Quantities::default(), &mut bounds);
        let mut offer = visible.filter(|resource| !is_plain_scalar(resource));
        offer.add_all(&bounds.cut(&visible.filter(is_plain_scalar), &self.names, Unbounded::Taken));
        let sums = self.names.sum_known(&offer);
        self.is_wanted(agent_number, role_number, framework, &offer, &sums).then_some(Taken::Part(offer))
    }

    /// What stage 1 gives: the missing part of the guarantee, and what comes with it.
    fn guaranteed(
        &self,
        agent_number: u32,
        role_number: u32,
        framework: u32,
        missing: &Quantities,
    ) -> Option<Resources> {
        let (agent, role) = (self.agent(agent_number), &self.roles[role_number as usize]);
        let framework = self.frameworks[framework as usize].as_ref()?;
        if agent.free.is_empty() || self.is_hidden(agent, framework) {
            return None;
        }
        let visible = self.visible(agent, role, framework)?;
        let minimum = framework.clients.get(&role_number)?.minimum.as_ref().unwrap_or(&self.minimum);
        let sums = self.names.sum_known(&visible);
        if !minimum.is_empty() && !minimum.iter().any(|minimum| sums.covers(minimum)) {
            return None;
        }
        let scalars = visible.filter(is_plain_scalar);
        let owed = Bounds::exactly(missing).cut(&scalars, &self.names, Unbounded::Left);
        if owed.is_empty() {
            return None;
        }
        let owed_sums = self.names.sum_known(&owed);
        let mut consumed = role.consumed();
        consumed.add(&owed_sums);
        let mut bounds = Bounds::default();
        self.bound_by_limits(role, &consumed, &mut bounds);
        self.bound_by_headroom(&owed_sums, &mut bounds);
        let additional = bounds.cut(&scalars.saturating_sub(&owed), &self.names, Unbounded::Taken);
        let mut offer = owed;
        offer.add_all(&additional);
        offer.add_all(&visible.filter(|resource| {
            !is_plain_scalar(resource) && (resource.reservations.is_empty() || resource.role() == role.name)
        }));
        let sums = self.names.sum_known(&offer);
        self.is_wanted(agent_number, role_number, framework, &offer, &sums).then_some(offer)
    }

    fn bound_by_limits(&self, role: &Role, consumed: &Quantities, bounds: &mut Bounds) {
        for (place, limit) in &role.quota.limits {
            bounds.bound(*place, limit.saturating_sub(consumed.get(*place)));
        }
    }

    /// What other roles are still owed is not given away. `owed` is being given to one of them.
    fn bound_by_headroom(&self, owed: &Quantities, bounds: &mut Bounds) {
        if !self.guarantees {
            return;
        }
        // Giving `owed` lowers what is required and what is there alike.
        let required = self.owed.minus(owed);
        let surplus = self.headroom.minus(owed).minus(&required);
        for (place, needed) in required.iter().enumerate() {
            if needed > 0 {
                bounds.bound(place, surplus.get(place));
            }
        }
    }

    fn give(
        &mut self,
        agent_number: u32,
        role: u32,
        framework: u32,
        taken: Taken,
        given: &mut Given,
        allocations: &mut Vec<Allocation>,
    ) {
        let agent = self.agents[agent_number as usize].as_mut().expect("candidates exist");
        let resources = match taken {
            Taken::All => std::mem::take(&mut agent.free),
            Taken::Part(part) => {
                agent.free = agent.free.saturating_sub(&part);
                part
            }
        };
        let all = self.names.sum_known(&resources);
        let plain = if agent.plain { all.clone() } else { self.names.sum_known(&resources.filter(is_plain)) };
        agent.free_plain.sub(&plain);
        self.headroom.sub(&plain);
        if agent.allocated.is_empty() {
            agent.allocated = resources.clone();
        } else {
            agent.allocated.add_all(&resources);
        }
        let id = agent.id.clone();
        self.charge_sorters(framework, role, &all, &plain);
        let key = (framework, role, agent_number);
        if self.guarantees
            && let Some(index) = given.get(&key)
        {
            allocations[*index].resources.add_all(&resources);
            return;
        }
        if self.guarantees {
            given.insert(key, allocations.len());
        }
        let framework = self.frameworks[framework as usize].as_ref().expect("offered to a framework that exists");
        let (framework, role) = (framework.id.clone(), self.roles[role as usize].name.clone());
        allocations.push(Allocation { framework, role, agent: id, resources });
    }
}

fn is_plain_scalar(resource: &api::Resource) -> bool {
    is_plain(resource) && matches!(resource.value, ResourceValue::Scalar(_))
}
