//! Who is offered what: hierarchical dominant resource fairness, after Mesos's allocator.
//!
//! A pure library: time is an argument, and the order of agents follows from a seed. Callers say what
//! changed; [`Allocator::run`] hands out what the changes made available. An agent's free resources go
//! whole to the first framework in order that may have them, unless quotas or reservations cut them.
//!
//! Cost: a run looks only at agents that changed. Moving one client in the order is logarithmic; only
//! when the cluster's totals change is everything sorted again. Below, A is the number of agents, C
//! that of clients (a framework in one of its roles), and n the resources named in a call.

mod agent_set;
mod agents;
mod bag;
mod constraints;
mod inspect;
mod kinds;
mod ledger;
mod maintenance;
mod members;
mod operations;
mod quantities;
mod quota;
mod refusals;
mod run;
pub(crate) mod shuffle;
mod sorter;
mod vectors;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::{AgentId, Attribute, FrameworkId, Milli, Resources};

use agent_set::AgentSet;
use bag::Bag;
use constraints::Verdicts;
pub use constraints::{AttributeConstraint, Pattern, PatternError, Predicate, RoleConstraints, Selector};
use kinds::Kinds;
use maintenance::Maintenance;
pub use maintenance::{InverseAnswer, InverseOffer, InverseStatus, Unavailability};
pub use operations::NotAvailable;
use quantities::{Names, Quantities};
use quota::PlacedQuota;
pub use quota::Quota;
use refusals::{Expiries, Refusals};
use shuffle::Random;
use sorter::{Sorter, Totals};
pub use vectors::{VectorError, VectorResult, run_vectors};

/// What the operator decided.
#[derive(Clone, Debug)]
pub struct Options {
    /// An offer holds at least one of these (Mesos: `--min_allocatable_resources`).
    pub min_allocatable: Vec<BTreeMap<String, Milli>>,
    /// Names that do not count for fairness (`--fair_sharing_excluded_resource_names`).
    pub excluded: BTreeSet<String>,
    /// Agents with gpus are shown only to frameworks that ask for them (`--filter_gpu_resources`).
    pub filter_gpus: bool,
    /// A refusal lasts at least this long.
    pub min_refusal: Duration,
    /// Where the master is: agents of other regions are shown only to frameworks that ask for them.
    pub domain: Option<Domain>,
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
            domain: None,
            seed: 1,
        }
    }
}

/// A fault domain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Domain {
    /// Far from every other region.
    pub region: String,
    /// Within the region.
    pub zone: String,
}

/// What offers of an agent depend on, besides its resources.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentFacts {
    /// As frameworks see it; whitelists name it.
    pub hostname: String,
    /// What constraints match on.
    pub attributes: Arc<Vec<Attribute>>,
    /// Where it is.
    pub domain: Option<Domain>,
    /// MULTI_ROLE: without it, frameworks that have this capability do not see the agent.
    pub multi_role: bool,
    /// HIERARCHICAL_ROLE: without it, roles with a `/` do not see the agent.
    pub hierarchical_role: bool,
}

impl Default for AgentFacts {
    fn default() -> Self {
        Self {
            hostname: String::new(),
            attributes: Arc::default(),
            domain: None,
            multi_role: true,
            hierarchical_role: true,
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
    /// REGION_AWARE.
    pub region_aware: bool,
    /// MULTI_ROLE.
    pub multi_role: bool,
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
    /// By role: the smallest offers it wants, instead of the operator's minimum; any when empty.
    pub min_allocatable: BTreeMap<String, Vec<BTreeMap<String, Milli>>>,
    /// By role: the agents it wants to hear of; all where a role is not named.
    pub constraints: BTreeMap<String, RoleConstraints>,
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
    kinds: Kinds,
    options: Options,
    minimum: Vec<Quantities>,
    random: Random,
    agents: Vec<Option<Agent>>,
    agent_numbers: BTreeMap<Arc<str>, u32>,
    free_agents: Vec<u32>,
    /// Hostnames of agents that may be offered; all when there is no such list.
    whitelist: Option<BTreeSet<String>>,
    frameworks: Vec<Option<Framework>>,
    framework_numbers: BTreeMap<FrameworkId, u32>,
    free_frameworks: Vec<u32>,
    clients: Vec<Client>,
    free_clients: Vec<u32>,
    next_epoch: u32,
    /// Clients with a minimum of their own; those with constraints.
    own_minimums: u32,
    constrained: BTreeSet<u32>,
    roles: Vec<Role>,
    role_numbers: BTreeMap<Arc<str>, u32>,
    free_roles: Vec<u32>,
    role_sorter: Sorter,
    totals: Quantities,
    /// `totals` without what does not count for fairness.
    fair_totals: Totals,
    sorted_version: u64,
    /// Free, unreserved and not revocable, over all agents.
    headroom: Quantities,
    /// What roles are still owed of their guarantees, over all roles.
    owed: Quantities,
    guarantees: bool,
    quotas: bool,
    maintenance: Maintenance,
    expiries: Expiries,
    considered: AgentSet,
    deferred: AgentSet,
    /// Quotas kept something of them back: looked at again when some role gives something back.
    withheld: AgentSet,
}

#[derive(Debug)]
struct Agent {
    id: Arc<str>,
    facts: Arc<AgentFacts>,
    total: Bag,
    /// `total` without what is held; what is shared is always in it.
    free: Bag,
    /// In the order of clients.
    holders: Vec<Holder>,
    refusals: Refusals,
    active: bool,
    /// Not in the cluster: only what was given of it is still counted.
    gone: bool,
    listed: bool,
    has_gpus: bool,
    remote: bool,
    /// Nothing reserved, revocable or shared: it can go whole to anyone.
    simple: bool,
    shares: bool,
    /// More is held than there is.
    over: bool,
}

/// What a client has of an agent, offered or in use.
#[derive(Debug)]
struct Holder {
    client: u32,
    bag: Bag,
}

/// Holds what removed frameworks have not given back.
const ORPHANS: u32 = u32::MAX;

#[derive(Debug)]
struct Framework {
    id: FrameworkId,
    active: bool,
    abilities: Abilities,
    /// By role.
    clients: BTreeMap<u32, u32>,
}

/// A framework in one of its roles.
#[derive(Debug)]
struct Client {
    framework: u32,
    role: u32,
    /// Refusals of another epoch do not count.
    epoch: u32,
    /// On how many agents it has something.
    holds: u32,
    exists: bool,
    subscribed: bool,
    suppressed: bool,
    minimum: Option<Vec<Quantities>>,
    verdicts: Option<Box<Verdicts>>,
}

#[derive(Debug)]
struct Role {
    name: Arc<str>,
    /// The number of its first path component, where quotas are.
    top: u32,
    /// How many other roles have it on top.
    below: u32,
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
        let mut kinds = Kinds::default();
        let minimum = place_minimum(&mut kinds.names, &options.min_allocatable);
        Self {
            kinds,
            minimum,
            random: Random::new(options.seed),
            options,
            agents: Vec::new(),
            agent_numbers: BTreeMap::new(),
            free_agents: Vec::new(),
            whitelist: None,
            frameworks: Vec::new(),
            framework_numbers: BTreeMap::new(),
            free_frameworks: Vec::new(),
            clients: Vec::new(),
            free_clients: Vec::new(),
            next_epoch: 0,
            own_minimums: 0,
            constrained: BTreeSet::new(),
            roles: Vec::new(),
            role_numbers: BTreeMap::new(),
            free_roles: Vec::new(),
            role_sorter: Sorter::new(Totals::default()),
            totals: Quantities::default(),
            fair_totals: Totals::default(),
            sorted_version: 0,
            headroom: Quantities::default(),
            owed: Quantities::default(),
            guarantees: false,
            quotas: false,
            maintenance: Maintenance::default(),
            expiries: Expiries::default(),
            considered: AgentSet::default(),
            deferred: AgentSet::default(),
            withheld: AgentSet::default(),
        }
    }

    // ---- weights and quotas

    /// The share of a role's subtree counts this many times less; 1 where none was set. Must be
    /// positive. Offers follow it from the next run. Logarithmic.
    pub fn update_weight(&mut self, role: &str, weight: f64) {
        if weight > 0.0 && weight.is_finite() {
            self.role_sorter.set_weight(role, weight);
        }
    }

    /// Replaces the quota of a top-level role: its whole subtree consumes it. An empty one takes it
    /// away. What limits kept back is looked at after [`consider_deferred`](Self::consider_deferred).
    /// Linear in the number of roles.
    pub fn update_quota(&mut self, role: &str, quota: &Quota) {
        let number = self.role(role);
        let quota = PlacedQuota::new(quota, &mut self.kinds.names);
        self.change_role(number, |role| role.quota = quota);
        self.guarantees = self.roles.iter().any(|role| !role.quota.guarantees.is_zero());
        self.quotas = self.roles.iter().any(|role| !role.quota.is_default());
        self.deferred.append(&mut self.withheld);
        self.forget_role(number);
    }

    /// Changes what counts for a role's quota; what is owed to all roles follows.
    fn change_role(&mut self, number: u32, change: impl FnOnce(&mut Role)) {
        let role = &mut self.roles[number as usize];
        let before = role.owed();
        change(role);
        let after = role.owed();
        let name = role.name.clone();
        self.owed.sub(&before);
        self.owed.add(&after);
        match (before.is_zero(), after.is_zero()) {
            (true, false) => self.role_sorter.mark(&name),
            (false, true) => self.role_sorter.unmark(&name),
            (true, true) | (false, false) => {}
        }
    }

    // ---- when to run

    /// Everything is looked at by the next run. Linear in A.
    pub fn consider_all(&mut self) {
        for (number, agent) in self.agents.iter().enumerate() {
            if agent.as_ref().is_some_and(|agent| !agent.gone) {
                self.considered.insert(number_of(number));
            }
        }
    }

    /// What was put off is looked at by the next run. A word for 64 agents.
    pub fn consider_deferred(&mut self) {
        self.considered.append(&mut self.deferred);
    }

    /// Is there something for a run?
    #[must_use]
    pub const fn is_due(&self) -> bool {
        !self.considered.is_empty()
    }

    /// Was something put off?
    #[must_use]
    pub const fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// When the next refusal, of an offer or an inverse offer, ends.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Duration> {
        let next = [self.expiries.next(), self.maintenance.next_expiry()].into_iter().flatten().min();
        next.map(Duration::from_nanos)
    }

    /// Forgets refusals that have ended; their agents are considered. Logarithmic for each.
    pub fn expire(&mut self, now: Duration) {
        let now = refusals::nanos(now);
        self.maintenance.expire(now);
        while let Some(number) = self.expiries.pop(now) {
            let Some(agent) = self.agents[number as usize].as_mut() else { continue };
            let clients = &self.clients;
            agent.refusals.expire(now, |client| epoch_of(clients, client));
            self.considered.insert(number);
        }
        if self.expiries.is_crowded() {
            self.rebuild_expiries(now);
        }
    }

    /// Drops what was forgotten before it ended: otherwise revivals would leave it here for a year.
    fn rebuild_expiries(&mut self, now: u64) {
        let mut all = Vec::new();
        for (number, agent) in self.agents.iter_mut().enumerate() {
            let Some(agent) = agent.as_mut().filter(|agent| !agent.refusals.is_empty()) else { continue };
            let clients = &self.clients;
            agent.refusals.expire(now, |client| epoch_of(clients, client));
            all.extend(agent.refusals.iter().map(|(until, ..)| (until, number_of(number))));
        }
        self.expiries.rebuild(all);
    }

    /// Forgets kinds of resources that no agent has and nobody refused.
    fn sweep_kinds(&mut self) {
        let mut used = vec![false; self.kinds.count()];
        for agent in self.agents.iter().flatten() {
            let held = agent.holders.iter().map(|holder| &holder.bag);
            for bag in [&agent.total, &agent.free].into_iter().chain(held).chain(agent.refusals.bags()) {
                for piece in &bag.rest {
                    used[bag::index(piece.kind)] = true;
                }
            }
        }
        self.kinds.keep(&used);
    }
}

fn epoch_of(clients: &[Client], client: u32) -> Option<u32> {
    clients.get(client as usize).filter(|client| client.exists).map(|client| client.epoch)
}

fn place_minimum(names: &mut Names, alternatives: &[BTreeMap<String, Milli>]) -> Vec<Quantities> {
    alternatives
        .iter()
        .map(|amounts| names.quantities(amounts.iter().map(|(name, amount)| (name.as_str(), *amount))))
        .collect()
}

/// Is it as much as one of the alternatives?
fn is_enough(minimum: &[Quantities], sums: &Quantities) -> bool {
    minimum.is_empty() || minimum.iter().any(|minimum| sums.covers(minimum))
}

fn number_of(index: usize) -> u32 {
    u32::try_from(index).expect("there are fewer than four billion of anything")
}
