//! Who is offered what: hierarchical dominant resource fairness, after Mesos's allocator.
//!
//! A pure library: time is an argument, and the order of agents follows from a seed. Callers say what
//! changed; [`Allocator::run`] hands out what the changes made available. An agent's free resources go
//! whole to the first framework in order that may have them, unless quotas or reservations cut them.
//!
//! Cost: a run looks only at agents that changed. Moving one client in the order is logarithmic; only
//! when the cluster's totals change is everything sorted again.

mod filters;
mod ledger;
mod members;
mod quantities;
mod quota;
mod run;
pub(crate) mod shuffle;
mod sorter;
mod vectors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::{AgentId, FrameworkId, Milli, Resources};

use filters::{Expiries, Refusals};
use quantities::{Names, Quantities};
use quota::PlacedQuota;
pub use quota::Quota;
use shuffle::Random;
use sorter::Sorter;
pub use vectors::{VectorError, VectorResult, run_vectors};

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Options {
    /// An offer holds at least one of these (Mesos: `--min_allocatable_resources`).
    pub min_allocatable: Vec<BTreeMap<String, Milli>>,
    /// Names that do not count for fairness.
    pub excluded: BTreeSet<String>,
    /// Agents with gpus are shown only to frameworks that ask for them.
    pub filter_gpus: bool,
    /// A refusal lasts at least this long.
    pub min_refusal: Duration,
    /// Decides the order of agents.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        let one = |name: &str, amount| BTreeMap::from([(name.to_owned(), Milli(amount))]);
        Self {
            min_allocatable: vec![one("cpus", 10), one("mem", 32_000)],
            excluded: BTreeSet::new(),
            filter_gpus: true,
            min_refusal: Duration::from_secs(1),
            seed: 1,
        }
    }
}

/// What a framework can deal with.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Abilities {
    /// GPU_RESOURCES.
    pub gpus: bool,
    /// REVOCABLE_RESOURCES.
    pub revocable: bool,
    /// SHARED_RESOURCES.
    pub shared: bool,
    /// RESERVATION_REFINEMENT.
    pub refinement: bool,
}

/// One framework, as far as allocation goes.
#[derive(Clone, Debug, Default)]
pub struct Subscription {
    /// All its roles.
    pub roles: BTreeSet<String>,
    /// Those it wants no offers for.
    pub suppressed: BTreeSet<String>,
    /// What it can deal with.
    pub abilities: Abilities,
    /// By role: the smallest offers it wants, instead of the operator's minimum.
    pub min_allocatable: BTreeMap<String, Vec<BTreeMap<String, Milli>>>,
}

/// One agent's resources for one role of one framework.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// Whose.
    pub framework: FrameworkId,
    /// For which role.
    pub role: String,
    /// Where.
    pub agent: AgentId,
    /// What.
    pub resources: Resources,
}

/// Does an agent or a framework take part?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Activity {
    /// It does.
    Active,
    /// What it has still counts.
    Inactive,
}

/// When an agent's freed resources are to be considered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consider {
    /// By the next run.
    Now,
    /// By the next run after [`Allocator::consider_deferred`].
    Later,
}

/// See the module.
#[derive(Debug)]
pub struct Allocator {
    names: Names,
    options: Options,
    minimum: Vec<Quantities>,
    random: Random,
    agents: Vec<Option<Agent>>,
    agent_numbers: BTreeMap<AgentId, u32>,
    free_agents: Vec<u32>,
    frameworks: Vec<Option<Framework>>,
    framework_numbers: BTreeMap<FrameworkId, u32>,
    roles: Vec<Role>,
    role_numbers: BTreeMap<String, u32>,
    role_sorter: Sorter,
    totals: Quantities,
    fair_totals: Quantities,
    totals_version: u64,
    /// Free, unreserved and not revocable, over all agents.
    headroom: Quantities,
    /// What roles are still owed of their guarantees, over all roles.
    owed: Quantities,
    guarantees: bool,
    quotas: bool,
    expiries: Expiries,
    considered: BTreeSet<u32>,
    deferred: BTreeSet<u32>,
}

#[derive(Debug)]
struct Agent {
    id: AgentId,
    total: Arc<Resources>,
    allocated: Resources,
    free: Resources,
    /// The unreserved, not revocable scalars of `free`.
    free_plain: Quantities,
    active: bool,
    has_gpus: bool,
    /// Nothing reserved, revocable, shared: it can go whole to anyone.
    plain: bool,
}

#[derive(Debug)]
struct Framework {
    id: FrameworkId,
    active: bool,
    abilities: Abilities,
    clients: BTreeMap<u32, Client>,
}

/// A framework in one of its roles.
#[derive(Debug, Default)]
struct Client {
    subscribed: bool,
    suppressed: bool,
    minimum: Option<Vec<Quantities>>,
    refusals: Refusals,
}

#[derive(Debug)]
struct Role {
    name: String,
    /// The number of its first path component, where quotas are.
    top: u32,
    frameworks: Sorter,
    members: u32,
    quota: PlacedQuota,
    /// Reserved to the role or below it, on all agents.
    reserved: Quantities,
    /// Unreserved and given to the role or below it.
    used: Quantities,
}

impl Role {
    fn consumed(&self) -> Quantities {
        let mut consumed = self.reserved.clone();
        consumed.add(&self.used);
        consumed
    }

    /// What is missing of its guarantee.
    fn owed(&self) -> Quantities {
        if self.quota.guarantees.is_zero() {
            return Quantities::default();
        }
        self.quota.guarantees.minus(&self.consumed())
    }
}

impl Allocator {
    /// An empty cluster.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut names = Names::default();
        let minimum = place_minimum(&mut names, &options.min_allocatable);
        Self {
            names,
            minimum,
            random: Random::new(options.seed),
            options,
            agents: Vec::new(),
            agent_numbers: BTreeMap::new(),
            free_agents: Vec::new(),
            frameworks: Vec::new(),
            framework_numbers: BTreeMap::new(),
            roles: Vec::new(),
            role_numbers: BTreeMap::new(),
            role_sorter: Sorter::new(),
            totals: Quantities::default(),
            fair_totals: Quantities::default(),
            totals_version: 0,
            headroom: Quantities::default(),
            owed: Quantities::default(),
            guarantees: false,
            quotas: false,
            expiries: Expiries::new(),
            considered: BTreeSet::new(),
            deferred: BTreeSet::new(),
        }
    }

    // ---- agents

    /// Adds an agent, inactive or not, and considers it.
    pub fn add_agent(&mut self, id: &AgentId, total: Arc<Resources>, activity: Activity) {
        if self.agent_numbers.contains_key(id) {
            return;
        }
        let number = self.free_agents.pop().unwrap_or_else(|| {
            self.agents.push(None);
            number_of(self.agents.len() - 1)
        });
        self.agent_numbers.insert(id.clone(), number);
        let (allocated, free) = (Resources::new(), (*total).clone());
        let agent = Agent {
            id: id.clone(),
            total,
            allocated,
            free,
            free_plain: Quantities::default(),
            active: activity == Activity::Active,
            has_gpus: false,
            plain: true,
        };
        self.agents[number as usize] = Some(agent);
        self.count_total(number);
        self.considered.insert(number);
    }

    /// Counts an agent's total in every sum.
    fn count_total(&mut self, number: u32) {
        let Some(agent) = self.agents[number as usize].as_mut() else { return };
        let whole =
            |resource: &api::Resource| resource.reservations.is_empty() && !resource.revocable && !resource.shared;
        agent.has_gpus = agent.total.iter().any(|resource| resource.name == "gpus");
        agent.plain = agent.total.iter().all(whole);
        agent.free_plain = self.names.sum(&agent.free, is_plain);
        self.totals.add(&self.names.sum(&agent.total, |_| true));
        self.headroom.add(&agent.free_plain);
        for (role, reserved) in self.reservations(number) {
            self.change_role(role, |role| role.reserved.add(&reserved));
        }
        self.totals_changed();
    }

    /// Undoes [`count_total`](Self::count_total).
    fn uncount_total(&mut self, number: u32) {
        let Some(agent) = self.agents[number as usize].as_ref() else { return };
        self.totals.sub(&self.names.sum(&agent.total, |_| true));
        self.headroom.sub(&agent.free_plain);
        for (role, reserved) in self.reservations(number) {
            self.change_role(role, |role| role.reserved.sub(&reserved));
        }
        self.totals_changed();
    }

    /// An agent's reservations, each with the role whose quota it counts for.
    fn reservations(&mut self, number: u32) -> Vec<(u32, Quantities)> {
        let Some(agent) = self.agents[number as usize].as_ref().filter(|agent| !agent.plain) else { return Vec::new() };
        let total = agent.total.clone();
        let reserved = total.iter().filter(|resource| !resource.reservations.is_empty());
        let mut all = Vec::new();
        for resource in reserved {
            let role = self.role(resource.role());
            let sum = self.names.sum(&[resource.clone()].into_iter().collect(), |_| true);
            all.push((self.roles[role as usize].top, sum));
        }
        all
    }

    fn totals_changed(&mut self) {
        self.totals_version += 1;
        self.fair_totals = self.totals.clone();
        for name in &self.options.excluded {
            if let Some(place) = self.names.find(name) {
                self.fair_totals.set(place, 0);
            }
        }
    }

    /// Removes an agent. What was given of it stays charged until it is [recovered](Self::recover).
    pub fn remove_agent(&mut self, id: &AgentId) {
        let Some(number) = self.agent_numbers.remove(id) else { return };
        self.uncount_total(number);
        self.agents[number as usize] = None;
        for framework in self.frameworks.iter_mut().flatten() {
            for client in framework.clients.values_mut() {
                client.refusals.forget_agent(number);
            }
        }
        self.considered.remove(&number);
        self.deferred.remove(&number);
        self.free_agents.push(number);
    }

    /// Is there such an agent?
    #[must_use]
    pub fn has_agent(&self, id: &AgentId) -> bool {
        self.agent_numbers.contains_key(id)
    }

    /// The agent may be offered, and is considered.
    pub fn activate_agent(&mut self, id: &AgentId) {
        let Some(number) = self.agent_numbers.get(id).copied() else { return };
        if let Some(agent) = self.agents[number as usize].as_mut() {
            agent.active = true;
            self.considered.insert(number);
        }
    }

    /// The agent is not offered.
    pub fn deactivate_agent(&mut self, id: &AgentId) {
        let Some(number) = self.agent_numbers.get(id).copied() else { return };
        if let Some(agent) = self.agents[number as usize].as_mut() {
            agent.active = false;
        }
    }

    /// The agent has other resources or attributes: refusals of it no longer count.
    pub fn update_agent(&mut self, id: &AgentId, total: Arc<Resources>) {
        let Some(number) = self.agent_numbers.get(id).copied() else { return };
        self.uncount_total(number);
        if let Some(agent) = self.agents[number as usize].as_mut() {
            agent.free = total.saturating_sub(&agent.allocated);
            agent.total = total;
        }
        self.count_total(number);
        for framework in self.frameworks.iter_mut().flatten() {
            for client in framework.clients.values_mut() {
                client.refusals.forget_agent(number);
            }
        }
        self.considered.insert(number);
    }

    // ---- weights and quotas

    /// The share of a role's subtree counts this many times less. Must be positive.
    pub fn set_weight(&mut self, role: &str, weight: f64) {
        if weight > 0.0 && weight.is_finite() {
            self.role_sorter.set_weight(role, weight);
        }
    }

    /// Replaces a role's quota.
    pub fn set_quota(&mut self, role: &str, quota: &Quota) {
        let number = self.role(role);
        let quota = PlacedQuota::new(quota, &mut self.names);
        self.change_role(number, |role| role.quota = quota);
        self.guarantees = self.roles.iter().any(|role| !role.quota.guarantees.is_zero());
        self.quotas = self.guarantees || self.roles.iter().any(|role| !role.quota.limits.is_empty());
    }

    /// Changes what counts for a role's quota; what is owed to all roles follows.
    fn change_role(&mut self, number: u32, change: impl FnOnce(&mut Role)) {
        let role = &mut self.roles[number as usize];
        self.owed.sub(&role.owed());
        change(role);
        self.owed.add(&role.owed());
    }

    // ---- when to run

    /// Everything is looked at by the next run.
    pub fn consider_all(&mut self) {
        self.considered.extend(self.agent_numbers.values());
    }

    /// What was put off is looked at by the next run.
    pub fn consider_deferred(&mut self) {
        self.considered.append(&mut self.deferred);
    }

    /// Is there something for a run?
    #[must_use]
    pub fn is_due(&self) -> bool {
        !self.considered.is_empty()
    }

    /// Was something put off?
    #[must_use]
    pub fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// When the next refusal ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        self.expiries.first().map(|(until, ..)| *until)
    }

    /// Forgets refusals that have ended; their agents are considered.
    pub fn expire(&mut self, now: Duration) {
        while let Some((until, framework, role, agent)) = self.expiries.first().copied() {
            if until > now {
                break;
            }
            self.expiries.pop_first();
            if let Some(framework) = self.frameworks[framework as usize].as_mut()
                && let Some(client) = framework.clients.get_mut(&role)
            {
                client.refusals.expire(agent, now);
            }
            if self.agents[agent as usize].is_some() {
                self.considered.insert(agent);
            }
        }
    }

    /// Does what is given of each agent never exceed what it has? For tests.
    #[must_use]
    pub fn is_consistent(&self) -> bool {
        let mut headroom = Quantities::default();
        let mut totals = Quantities::default();
        let mut names = self.names.clone();
        for agent in self.agents.iter().flatten() {
            let mut sum = agent.allocated.clone();
            sum.add_all(&agent.free);
            if !sum.contains(&agent.total) || (agent.total.contains(&agent.allocated) && !agent.total.contains(&sum)) {
                return false;
            }
            headroom.add(&names.sum(&agent.free, is_plain));
            totals.add(&names.sum(&agent.total, |_| true));
        }
        headroom.covers(&self.headroom)
            && self.headroom.covers(&headroom)
            && totals.covers(&self.totals)
            && self.totals.covers(&totals)
    }

    /// What is free on an agent.
    #[must_use]
    pub fn free(&self, agent: &AgentId) -> Option<&Resources> {
        let number = self.agent_numbers.get(agent)?;
        self.agents[*number as usize].as_ref().map(|agent| &agent.free)
    }
}

fn is_plain(resource: &api::Resource) -> bool {
    resource.reservations.is_empty() && !resource.revocable
}

fn place_minimum(names: &mut Names, alternatives: &[BTreeMap<String, Milli>]) -> Vec<Quantities> {
    alternatives
        .iter()
        .map(|amounts| names.quantities(amounts.iter().map(|(name, amount)| (name.as_str(), *amount))))
        .collect()
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).expect("there are fewer than four billion of anything")
}
