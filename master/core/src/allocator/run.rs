//! One allocation run: first what quotas guarantee, then what fairness gives.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::time::Duration;

use api::AgentId;

use super::bag::{Bag, SHARED};
use super::quantities::Quantities;
use super::quota::Bounds;
use super::{Agent, Allocation, Allocator, Client, Framework, Role, is_enough};

/// What one client gets of one agent.
enum Taken {
    /// Everything that is free.
    All,
    /// A part.
    Part(Bag),
}

/// What a run has done so far.
#[derive(Default)]
struct Progress {
    made: Vec<(u32, u32, Bag)>,
    /// By client and agent, where it is in `made`; kept only while there are guarantees.
    places: BTreeMap<(u32, u32), usize>,
    /// What several may hold is offered once a run: (agent, kind).
    shared: BTreeSet<(u32, u32)>,
    /// Roles whose limits, or what others are owed, leave nothing worth an offer of an agent
    /// without reservations. Within a run that does not change.
    spent: Vec<bool>,
    /// That is so of every role.
    all_spent: bool,
}

/// One agent, as all its offers see it.
struct Seen<'a> {
    number: u32,
    agent: &'a Agent,
    /// All free scalars.
    sums: Quantities,
}

impl Allocator {
    /// Hands out what changed since the last run. For each agent that changed: logarithmic in C for
    /// each offer made, constant for each client that is passed over; O(C log C) once if the
    /// cluster's totals changed.
    pub fn run(&mut self, now: Duration) -> Vec<Allocation> {
        self.expire(now);
        if self.kinds.is_crowded() {
            self.sweep_kinds();
        }
        let mut candidates = self.considered.drain();
        candidates.retain(|agent| self.is_candidate(*agent));
        if candidates.is_empty() {
            return Vec::new();
        }
        self.refresh_sorters();
        let mut progress = Progress { spent: vec![false; self.roles.len()], ..Progress::default() };
        progress.made.reserve(candidates.len());
        if self.guarantees {
            self.random.shuffle(&mut candidates);
            for agent in &candidates {
                self.guarantee(*agent, &mut progress);
            }
        }
        self.random.shuffle(&mut candidates);
        for agent in candidates {
            self.share_out(agent, &mut progress);
        }
        let made = std::mem::take(&mut progress.made);
        made.into_iter().filter_map(|(client, agent, bag)| self.allocation(client, agent, &bag)).collect()
    }

    fn allocation(&self, client: u32, agent: u32, bag: &Bag) -> Option<Allocation> {
        let client = &self.clients[client as usize];
        Some(Allocation {
            framework: self.frameworks[client.framework as usize].as_ref()?.id.clone(),
            role: self.roles[client.role as usize].name.to_string(),
            agent: AgentId::from(self.agent(agent).id.to_string()),
            resources: self.kinds.resources(bag),
        })
    }

    fn refresh_sorters(&mut self) {
        self.role_sorter.refresh(&self.fair_totals);
        if self.sorted_version != self.fair_totals.version {
            self.sorted_version = self.fair_totals.version;
            for role in &mut self.roles {
                role.frameworks.refresh(&self.fair_totals);
            }
        }
    }

    fn is_candidate(&self, number: u32) -> bool {
        let agent = self.agents[number as usize].as_ref();
        agent.is_some_and(|agent| agent.active && agent.listed && !agent.free.is_empty())
    }

    /// Could what is left be worth an offer to anybody?
    fn is_worth_a_look(&self, agent: u32) -> bool {
        let free = &self.agent(agent).free;
        !free.is_empty() && (self.own_minimums > 0 || is_enough(&self.minimum, &self.kinds.scalars(free)))
    }

    fn seen(&self, number: u32) -> Seen<'_> {
        let agent = self.agent(number);
        Seen { number, agent, sums: self.kinds.scalars(&agent.free) }
    }

    // ---- stage 1: roles whose guarantee is not yet met

    fn guarantee(&mut self, agent: u32, progress: &mut Progress) {
        let mut last = None;
        let mut served = Vec::new();
        while !self.owed.is_zero() && self.is_worth_a_look(agent) {
            let Some((key, role)) = self.role_sorter.next_marked(last) else { return };
            last = Some(key);
            if served.contains(&role) {
                continue; // it moved behind the others when it was given something
            }
            if self.guarantee_role(agent, role, progress) {
                served.push(role);
            }
        }
    }

    /// Was it given anything?
    fn guarantee_role(&mut self, agent: u32, role: u32, progress: &mut Progress) -> bool {
        let missing = self.roles[role as usize].owed();
        let mut found = None;
        let seen = self.seen(agent);
        let _ = self.roles[role as usize].frameworks.walk(&mut |client| {
            found = self.guaranteed(&seen, role, client, &missing, progress).map(|taken| (client, taken));
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let Some((client, taken)) = found else { return false };
        let rest = self.roles[role as usize].frameworks.after(client);
        self.give(agent, client, Taken::Part(taken), progress);
        for client in rest {
            let missing = self.roles[role as usize].owed();
            if missing.is_zero() || !self.is_worth_a_look(agent) {
                break;
            }
            let taken = self.guaranteed(&self.seen(agent), role, client, &missing, progress);
            if let Some(taken) = taken {
                self.give(agent, client, Taken::Part(taken), progress);
            }
        }
        true
    }

    /// What stage 1 gives: the missing part of the guarantee, and what comes with it.
    fn guaranteed(
        &self,
        seen: &Seen<'_>,
        role: u32,
        client: u32,
        missing: &Quantities,
        progress: &Progress,
    ) -> Option<Bag> {
        let (role, client_number) = (&self.roles[role as usize], client);
        let (client, framework) = self.client_of(client)?;
        if self.is_hidden(seen, role, client, framework)
            || seen.agent.refusals.refuse(client_number, client.epoch, &seen.agent.free)
        {
            return None;
        }
        let visible = self.visible(seen, role, framework, progress);
        if !is_enough(self.minimum_of(client), &self.kinds.scalars(&visible)) {
            return None;
        }
        let mut offer = Bounds::exactly(missing).cut(&visible, &self.kinds);
        if offer.is_empty() {
            return None;
        }
        let owed = self.kinds.plain(&offer);
        let mut consumed = role.consumed();
        consumed.add(&owed);
        // Giving it lowers what is required and what is there alike.
        let mut bounds = Bounds::none();
        bound_by_limits(role, &consumed, &mut bounds);
        self.bound_by_headroom(&self.owed.minus(&owed), &owed, &mut bounds);
        let mut scalars = visible.clone();
        scalars.sub_all(&offer);
        offer.add_all(&bounds.cut(&scalars, &self.kinds));
        for piece in visible.rest.iter().filter(|piece| !self.kinds.is_plain_scalar(piece)) {
            let resource = &self.kinds.get(piece.kind).resource;
            if resource.reservations.is_empty() || resource.role() == &*role.name {
                offer.add(piece.kind, piece.amount.clone());
            }
        }
        self.wanted(seen.agent, client_number, client, offer)
    }

    // ---- stage 2: everyone, by share

    fn share_out(&mut self, agent: u32, progress: &mut Progress) {
        if !self.is_worth_a_look(agent) || progress.all_spent && self.agent(agent).simple {
            if self.quotas && self.is_candidate(agent) {
                self.withheld.insert(agent);
            }
            return;
        }
        // Usually the first in order takes everything: nobody else is looked at.
        let mut found = None;
        let mut asked = false;
        let seen = self.seen(agent);
        let _ = self.role_sorter.walk(&mut |role| {
            let Some(bounds) = self.room(&seen, role, progress) else { return ControlFlow::Continue(()) };
            asked = true;
            self.roles[role as usize].frameworks.walk(&mut |client| match self
                .fair(&seen, role, client, &bounds, progress)
            {
                Some(taken) => {
                    found = Some((role, client, taken));
                    ControlFlow::Break(())
                }
                None => ControlFlow::Continue(()),
            })
        });
        let simple = seen.agent.simple;
        match found {
            Some((role, client, taken)) => self.share_rest(agent, role, client, taken, progress),
            None => progress.all_spent |= simple && !asked,
        }
        if self.quotas && self.is_candidate(agent) {
            self.withheld.insert(agent);
        }
    }

    /// Gives, and goes on with what is left in the order as it was before.
    fn share_rest(&mut self, agent: u32, role: u32, client: u32, taken: Taken, progress: &mut Progress) {
        let Taken::Part(part) = &taken else {
            self.give(agent, client, taken, progress);
            return;
        };
        let mut left = self.agent(agent).free.clone();
        left.sub_all(part);
        if left.is_empty() || self.own_minimums == 0 && !is_enough(&self.minimum, &self.kinds.scalars(&left)) {
            self.give(agent, client, taken, progress);
            return;
        }
        let roles = self.role_sorter.after(role);
        let clients = self.roles[role as usize].frameworks.after(client);
        self.give(agent, client, taken, progress);
        self.share_out_to(agent, role, &clients, progress);
        for role in roles {
            if !self.is_worth_a_look(agent) {
                return;
            }
            if !progress.spent[role as usize] || !self.agent(agent).simple {
                let clients = self.roles[role as usize].frameworks.order();
                self.share_out_to(agent, role, &clients, progress);
            }
        }
    }

    fn share_out_to(&mut self, agent: u32, role: u32, clients: &[u32], progress: &mut Progress) {
        for client in clients {
            if !self.is_worth_a_look(agent) {
                return;
            }
            let taken = {
                let seen = self.seen(agent);
                let Some(bounds) = self.room(&seen, role, progress) else { return };
                self.fair(&seen, role, *client, &bounds, progress)
            };
            if let Some(taken) = taken {
                self.give(agent, *client, taken, progress);
            }
        }
    }

    /// How much quotas leave a role of an agent; `None` if nothing worth an offer.
    fn room(&self, seen: &Seen<'_>, role: u32, progress: &mut Progress) -> Option<Bounds> {
        let mut bounds = Bounds::none();
        if !self.quotas {
            return Some(bounds);
        }
        if seen.agent.simple && progress.spent[role as usize] {
            return None;
        }
        let top = &self.roles[self.roles[role as usize].top as usize];
        bound_by_limits(top, &top.consumed(), &mut bounds);
        // What it is owed itself need not be kept from it.
        self.bound_by_headroom(&self.owed.minus(&top.owed()), &Quantities::default(), &mut bounds);
        let some = self.own_minimums > 0
            || self.minimum.is_empty()
            || self.minimum.iter().any(|minimum| bounds.allow(minimum));
        if !some {
            progress.spent[role as usize] = true;
            return (!seen.agent.simple).then_some(bounds);
        }
        Some(bounds)
    }

    fn fair(&self, seen: &Seen<'_>, role: u32, client: u32, bounds: &Bounds, progress: &Progress) -> Option<Taken> {
        let (role, client_number) = (&self.roles[role as usize], client);
        let (client, framework) = self.client_of(client)?;
        let agent = seen.agent;
        if self.is_hidden(seen, role, client, framework) {
            return None;
        }
        if agent.refusals.refuse(client_number, client.epoch, &agent.free) {
            return None; // and so any part of it
        }
        if agent.simple && bounds.allow(&seen.sums) {
            return is_enough(self.minimum_of(client), &seen.sums).then_some(Taken::All);
        }
        let visible = self.visible(seen, role, framework, progress);
        let mut offer = bounds.clone().cut(&visible, &self.kinds);
        for piece in visible.rest {
            if !self.kinds.is_plain_scalar(&piece) {
                offer.add(piece.kind, piece.amount);
            }
        }
        self.wanted(agent, client_number, client, offer).map(Taken::Part)
    }

    // ---- what both stages ask

    fn client_of(&self, client: u32) -> Option<(&Client, &Framework)> {
        let client = &self.clients[client as usize];
        Some((client, self.frameworks[client.framework as usize].as_ref()?))
    }

    fn minimum_of<'a>(&'a self, client: &'a Client) -> &'a [Quantities] {
        client.minimum.as_ref().unwrap_or(&self.minimum)
    }

    /// May the framework not even know of the agent?
    fn is_hidden(&self, seen: &Seen<'_>, role: &Role, client: &Client, framework: &Framework) -> bool {
        let (agent, abilities) = (seen.agent, framework.abilities);
        (self.options.filter_gpus && agent.has_gpus && !abilities.gpus)
            || (agent.remote && !abilities.region_aware)
            || (abilities.multi_role && !agent.facts.multi_role)
            || (!agent.facts.hierarchical_role && role.name.contains('/'))
            || client.verdicts.as_ref().is_some_and(|verdicts| !verdicts.allow(seen.number, &agent.facts))
    }

    /// What is free without what the role or the framework may not have.
    fn visible(&self, seen: &Seen<'_>, role: &Role, framework: &Framework, progress: &Progress) -> Bag {
        if seen.agent.simple {
            return seen.agent.free.clone();
        }
        let abilities = framework.abilities;
        let rest = seen.agent.free.rest.iter().filter(|piece| {
            let resource = &self.kinds.get(piece.kind).resource;
            resource.is_allocatable_to(&role.name)
                && (abilities.revocable || !resource.revocable)
                && (abilities.shared || !resource.shared)
                && (abilities.refinement || resource.reservations.len() < 2)
                && (piece.kind & SHARED == 0 || !progress.shared.contains(&(seen.number, piece.kind)))
        });
        Bag { plain: seen.agent.free.plain.clone(), rest: rest.cloned().collect() }
    }

    /// The offer, if it is large enough and not refused.
    fn wanted(&self, agent: &Agent, number: u32, client: &Client, offer: Bag) -> Option<Bag> {
        let enough = !offer.is_empty() && is_enough(self.minimum_of(client), &self.kinds.scalars(&offer));
        (enough && !agent.refusals.refuse(number, client.epoch, &offer)).then_some(offer)
    }

    /// What others are owed is not given away: of what is there without `given`, `required` stays.
    fn bound_by_headroom(&self, required: &Quantities, given: &Quantities, bounds: &mut Bounds) {
        if self.owed.is_zero() {
            return;
        }
        let surplus = self.headroom.minus(given).minus(required);
        for (place, needed) in required.iter().enumerate() {
            if needed > 0 {
                bounds.bound(place, surplus.get(place));
            }
        }
    }

    fn give(&mut self, number: u32, client: u32, taken: Taken, progress: &mut Progress) {
        let agent = self.agents[number as usize].as_mut().expect("candidates exist");
        let bag = match taken {
            Taken::All => std::mem::take(&mut agent.free),
            Taken::Part(part) => {
                agent.take_free(&part);
                part
            }
        };
        let first = agent.hold(client, &bag);
        self.clients[client as usize].holds += u32::from(first);
        self.headroom.sub(&self.kinds.plain(&bag));
        self.charge_sorters(number, client, &bag);
        progress.shared.extend(bag.shared().map(|piece| (number, piece.kind)));
        self.maintenance.due |= self.maintenance.concerns(number);
        if !self.guarantees {
            progress.made.push((client, number, bag));
        } else if let Some(place) = progress.places.get(&(client, number)) {
            progress.made[*place].2.add_all(&bag);
        } else {
            progress.places.insert((client, number), progress.made.len());
            progress.made.push((client, number, bag));
        }
    }
}

/// What is left of a role's limits.
fn bound_by_limits(role: &Role, consumed: &Quantities, bounds: &mut Bounds) {
    for (place, limit) in &role.quota.limits {
        bounds.bound(*place, limit.saturating_sub(consumed.get(*place)));
    }
}
