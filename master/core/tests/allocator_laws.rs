//! What the allocator keeps in every history: it never gives more than there is, gives each thing
//! once, never to whom it may not go, and keeps quotas, limits and refusals.
#![allow(clippy::unwrap_used)] // a test's helper may

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::{AgentId, FrameworkId, Milli, Resource, Resources};
use master_core::allocator::{
    Abilities, Activity, AgentFacts, Allocation, Allocator, Consider, Options, Quota, Subscription,
};
use proptest::prelude::*;

const ROLES: [&str; 6] = ["*", "a", "a/b", "a/b/c", "d", "d/e"];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    AddAgent { agent: u8, cpus: u8, more: u8 },
    RemoveAgent { agent: u8 },
    Deactivate { agent: u8 },
    Activate { agent: u8 },
    SetFramework { framework: u8, roles: u8, abilities: u8 },
    RemoveFramework { framework: u8 },
    Suppress { framework: u8 },
    Revive { framework: u8 },
    Decline { pick: u8, seconds: u8 },
    Use { pick: u8 },
    End { pick: u8 },
    Reserve { pick: u8 },
    Quota { role: bool, guarantee: u8, extra: u8 },
    Weight { role: u8, weight: u8 },
    Wait { seconds: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..5, 1u8..8, 0u8..16).prop_map(|(agent, cpus, more)| Step::AddAgent { agent, cpus, more }),
        1 => (0u8..5).prop_map(|agent| Step::RemoveAgent { agent }),
        1 => (0u8..5).prop_map(|agent| Step::Deactivate { agent }),
        2 => (0u8..5).prop_map(|agent| Step::Activate { agent }),
        4 => (0u8..5, 1u8..64, 0u8..16).prop_map(|(framework, roles, abilities)|
            Step::SetFramework { framework, roles, abilities }),
        1 => (0u8..5).prop_map(|framework| Step::RemoveFramework { framework }),
        1 => (0u8..5).prop_map(|framework| Step::Suppress { framework }),
        2 => (0u8..5).prop_map(|framework| Step::Revive { framework }),
        8 => (any::<u8>(), 0u8..9).prop_map(|(pick, seconds)| Step::Decline { pick, seconds }),
        4 => any::<u8>().prop_map(|pick| Step::Use { pick }),
        4 => any::<u8>().prop_map(|pick| Step::End { pick }),
        2 => any::<u8>().prop_map(|pick| Step::Reserve { pick }),
        1 => (any::<bool>(), 0u8..9, 0u8..9).prop_map(|(role, guarantee, extra)| Step::Quota { role, guarantee, extra }),
        1 => (0u8..6, 1u8..5).prop_map(|(role, weight)| Step::Weight { role, weight }),
        3 => (1u8..9).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

#[derive(Debug)]
struct Refusal {
    framework: FrameworkId,
    role: String,
    agent: AgentId,
    resources: Resources,
    until: Duration,
}

/// Plays a history beside a plain model of it.
struct History {
    allocator: Allocator,
    now: Duration,
    totals: BTreeMap<AgentId, Resources>,
    inactive: BTreeSet<AgentId>,
    frameworks: BTreeMap<FrameworkId, Subscription>,
    offered: Vec<Allocation>,
    used: Vec<Allocation>,
    refusals: Vec<Refusal>,
    limits: BTreeMap<&'static str, u64>,
}

fn one(name: &str, resources: &Resources) -> u64 {
    resources.scalar(name).0
}

impl History {
    fn new(seed: u64) -> Self {
        Self {
            allocator: Allocator::new(Options { seed, ..Options::default() }),
            now: Duration::ZERO,
            totals: BTreeMap::new(),
            inactive: BTreeSet::new(),
            frameworks: BTreeMap::new(),
            offered: Vec::new(),
            used: Vec::new(),
            refusals: Vec::new(),
            limits: BTreeMap::new(),
        }
    }

    fn held(&self) -> impl Iterator<Item = &Allocation> {
        self.offered.iter().chain(&self.used)
    }

    /// By the model: reservations of the role's subtree, and what it has unreserved.
    fn consumed(&self, top: &str) -> u64 {
        let below = |role: &str| role.split('/').next() == Some(top);
        let reserved =
            self.totals.values().flat_map(Resources::iter).filter(|r| !r.reservations.is_empty() && below(r.role()));
        let held = self.held().filter(|held| below(&held.role)).flat_map(|held| held.resources.iter());
        let plain = held.filter(|r| r.reservations.is_empty() && !r.revocable);
        one("cpus", &reserved.chain(plain).cloned().collect())
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::AddAgent { agent, cpus, more } => {
                let id = AgentId::from(format!("s{agent}"));
                let mut total =
                    Resources::parse(&format!("cpus:{cpus};mem:{};ports:[1-9]", u32::from(cpus) * 64)).unwrap();
                for (bit, text) in [(1, "cpus(a):1;mem(a):64"), (2, "cpus(a/b):2"), (4, "gpus:1")] {
                    if more & bit != 0 {
                        total.add_all(&Resources::parse(text).unwrap());
                    }
                }
                if more & 8 != 0 {
                    total.add(Resource { revocable: true, ..Resource::scalar("cpus", Milli(3000)) });
                }
                if self.totals.contains_key(&id) {
                    if self.held().all(|held| held.agent != id) {
                        self.allocator.update_total(&id, &total);
                        self.totals.insert(id, total);
                    }
                } else {
                    self.allocator.add_agent(&id, &total, AgentFacts::default(), Activity::Active);
                    self.totals.insert(id, total);
                }
            }
            Step::RemoveAgent { agent } => {
                let id = AgentId::from(format!("s{agent}"));
                self.allocator.remove_agent(&id);
                self.totals.remove(&id);
                self.inactive.remove(&id);
                self.refusals.retain(|refusal| refusal.agent != id);
                let gone = |held: &Allocation| held.agent == id;
                for held in self.offered.iter().chain(&self.used).filter(|held| gone(held)) {
                    self.allocator.recover(&held.framework, &held.role, &held.agent, &held.resources, Consider::Now);
                }
                self.offered.retain(|held| !gone(held));
                self.used.retain(|held| !gone(held));
            }
            Step::Deactivate { agent } => {
                let id = AgentId::from(format!("s{agent}"));
                self.allocator.deactivate_agent(&id);
                if self.totals.contains_key(&id) {
                    self.inactive.insert(id);
                }
            }
            Step::Activate { agent } => {
                let id = AgentId::from(format!("s{agent}"));
                self.allocator.activate_agent(&id);
                self.inactive.remove(&id);
            }
            Step::SetFramework { framework, roles, abilities } => {
                let id = FrameworkId::from(format!("f{framework}"));
                let chosen = ROLES.iter().enumerate().filter(|(bit, _)| roles >> bit & 1 == 1);
                let subscription = Subscription {
                    roles: chosen.map(|(_, role)| (*role).to_owned()).collect(),
                    abilities: Abilities {
                        gpus: abilities & 1 != 0,
                        revocable: abilities & 2 != 0,
                        refinement: abilities & 4 != 0,
                        ..Abilities::default()
                    },
                    ..Subscription::default()
                };
                self.allocator.set_framework(&id, &subscription, Activity::Active);
                // A role it leaves and has nothing in takes its refusals along.
                let stays = |role: &String| subscription.roles.contains(role);
                self.refusals.retain(|refusal| refusal.framework != id || stays(&refusal.role));
                self.frameworks.insert(id, subscription);
            }
            Step::RemoveFramework { framework } => {
                let id = FrameworkId::from(format!("f{framework}"));
                self.allocator.remove_framework(&id);
                self.frameworks.remove(&id);
                self.refusals.retain(|refusal| refusal.framework != id);
                let gone = |held: &Allocation| held.framework == id;
                for held in self.offered.iter().chain(&self.used).filter(|held| gone(held)) {
                    self.allocator.recover(&held.framework, &held.role, &held.agent, &held.resources, Consider::Now);
                }
                self.offered.retain(|held| !gone(held));
                self.used.retain(|held| !gone(held));
            }
            Step::Suppress { framework } => {
                let id = FrameworkId::from(format!("f{framework}"));
                if let Some(subscription) = self.frameworks.get_mut(&id) {
                    subscription.suppressed = subscription.roles.clone();
                    self.allocator.suppress(&id, &subscription.roles);
                }
            }
            Step::Revive { framework } => {
                let id = FrameworkId::from(format!("f{framework}"));
                if let Some(subscription) = self.frameworks.get_mut(&id) {
                    subscription.suppressed.clear();
                    self.allocator.revive(&id, &subscription.roles);
                    self.refusals.retain(|refusal| refusal.framework != id);
                }
            }
            Step::Decline { pick, seconds } => {
                if self.offered.is_empty() {
                    return;
                }
                let Allocation { framework, role, agent, resources } =
                    self.offered.swap_remove(pick as usize % self.offered.len());
                let refusal = Duration::from_secs(seconds.into());
                self.allocator.refuse(&framework, &role, &agent, &resources, refusal, self.now);
                self.allocator.recover(&framework, &role, &agent, &resources, Consider::Later);
                // Of a role it has left, a refusal goes with what it still had there.
                if seconds > 0 && self.frameworks[&framework].roles.contains(&role) {
                    self.refusals.push(Refusal { framework, role, agent, resources, until: self.now + refusal });
                }
            }
            Step::Use { pick } => {
                if !self.offered.is_empty() {
                    let offer = self.offered.swap_remove(pick as usize % self.offered.len());
                    self.used.push(offer);
                }
            }
            Step::End { pick } => {
                if !self.used.is_empty() {
                    let Allocation { framework, role, agent, resources } =
                        self.used.swap_remove(pick as usize % self.used.len());
                    self.allocator.recover(&framework, &role, &agent, &resources, Consider::Now);
                }
            }
            Step::Reserve { pick } => self.reserve(pick),
            Step::Quota { role, guarantee, extra } => {
                let role = if role { "a" } else { "d" };
                let (guarantee, limit) = (u64::from(guarantee) * 1000, u64::from(guarantee + extra) * 1000);
                let named = |amount| BTreeMap::from([("cpus".to_owned(), Milli(amount))]);
                self.allocator.update_quota(role, &Quota { guarantees: named(guarantee), limits: named(limit) });
                self.limits.insert(role, limit);
            }
            Step::Weight { role, weight } => {
                self.allocator.update_weight(ROLES[role as usize], f64::from(weight));
            }
            Step::Wait { seconds } => {
                self.now += Duration::from_secs(seconds.into());
                self.refusals.retain(|refusal| refusal.until > self.now);
                self.allocator.consider_deferred();
            }
        }
        self.run();
    }

    /// A framework reserves a cpu of what it was offered.
    fn reserve(&mut self, pick: u8) {
        if self.offered.is_empty() {
            return;
        }
        let index = pick as usize % self.offered.len();
        let offer = &mut self.offered[index];
        let from = Resources::parse("cpus:1").unwrap();
        if offer.role == "*" || !offer.resources.contains(&from) {
            return;
        }
        let to = Resources::parse(&format!("cpus({}):1", offer.role)).unwrap();
        self.allocator.update_allocation(&offer.framework, &offer.role, &offer.agent, &from, &to).unwrap();
        let total = self.totals.get_mut(&offer.agent).unwrap();
        for resources in [&mut offer.resources, total] {
            *resources = resources.checked_sub(&from).unwrap();
            resources.add_all(&to);
        }
    }

    fn run(&mut self) {
        // What there was before a limit stays; nothing is added to it.
        let room = |(role, limit): (&&'static str, &u64)| (*role, limit.saturating_sub(self.consumed(role)));
        let room: BTreeMap<&str, u64> = self.limits.iter().map(room).collect();
        let given = self.allocator.run(self.now);
        for (role, room) in room {
            let mine = given.iter().filter(|given| given.role.split('/').next() == Some(role));
            let plain = mine.flat_map(|given| given.resources.iter());
            let plain = plain.filter(|r| r.reservations.is_empty() && !r.revocable).cloned().collect();
            assert!(one("cpus", &plain) <= room, "{role} was given {plain} and may have {room}");
        }
        for Allocation { framework, role, agent, resources } in &given {
            let subscription = &self.frameworks[framework];
            assert!(subscription.roles.contains(role) && !subscription.suppressed.contains(role), "{framework} {role}");
            assert!(!self.inactive.contains(agent), "{agent} is not active");
            assert!(!resources.is_empty());
            let total = &self.totals[agent];
            assert!(subscription.abilities.gpus || one("gpus", total) == 0, "{agent} has gpus");
            for resource in resources {
                assert!(resource.is_allocatable_to(role), "{resource:?} for {role}");
                assert!(subscription.abilities.revocable || !resource.revocable);
            }
            for refusal in &self.refusals {
                let same = refusal.framework == *framework && refusal.role == *role && refusal.agent == *agent;
                assert!(
                    !same || !refusal.resources.contains(resources),
                    "{framework} refused {resources}: {refusal:?}"
                );
            }
        }
        self.offered.extend(given);
        self.check();
    }

    fn check(&self) {
        assert!(self.allocator.is_consistent(), "sums add up");
        for (agent, total) in &self.totals {
            let mut sum = self.allocator.free(agent).unwrap();
            for held in self.held().filter(|held| held.agent == *agent) {
                sum.add_all(&held.resources);
            }
            assert!(sum.contains(total) && total.contains(&sum), "{agent} has {total}, not {sum}");
        }
        for role in self.limits.keys() {
            let consumed = self.consumed(role);
            let named = self.allocator.quota_consumption(role).get("cpus").map_or(0, |cpus| cpus.0);
            assert_eq!(named, consumed, "{role}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_laws(steps in prop::collection::vec(step(), 1..100), seed in any::<u64>()) {
        let mut history = History::new(seed);
        for step in steps {
            history.play(step);
        }
        // Everything given back, everything is free again.
        for held in history.offered.drain(..).chain(history.used.drain(..)) {
            history.allocator.recover(&held.framework, &held.role, &held.agent, &held.resources, Consider::Later);
        }
        history.check();
    }

    #[test]
    fn the_same_history_gives_the_same_offers(steps in prop::collection::vec(step(), 1..60), seed in any::<u64>()) {
        let (mut first, mut again) = (History::new(seed), History::new(seed));
        for step in steps {
            first.play(step.clone());
            again.play(step);
            prop_assert_eq!(&first.offered, &again.offered);
        }
    }

    /// Who has the smallest share is served first, so nobody is ahead by more than one agent.
    #[test]
    fn equal_frameworks_are_within_one_agent_of_each_other(agents in 1usize..40, count in 1usize..6, nested in any::<bool>()) {
        let mut allocator = Allocator::new(Options::default());
        for index in 0..count {
            let role = if nested { format!("r/{index}") } else { "*".to_owned() };
            let subscription = Subscription { roles: [role].into(), ..Subscription::default() };
            allocator.set_framework(&format!("f{index}").into(), &subscription, Activity::Active);
        }
        let mut counts: BTreeMap<FrameworkId, usize> = BTreeMap::new();
        for index in 0..agents {
            let total = Resources::parse("cpus:2;mem:512").unwrap();
            allocator.add_agent(&format!("s{index}").into(), &total, AgentFacts::default(), Activity::Active);
            for allocation in allocator.run(Duration::ZERO) {
                *counts.entry(allocation.framework).or_default() += 1;
            }
        }
        let (least, most) = (agents / count, agents.div_ceil(count));
        prop_assert_eq!(counts.values().sum::<usize>(), agents);
        prop_assert!(counts.values().all(|count| (least..=most).contains(count)), "{:?}", counts);
    }

    /// Whatever others ask for, a role with a guarantee can have it as soon as it asks.
    #[test]
    fn a_guarantee_is_never_given_away(
        agents in prop::collection::vec(1u64..6, 1..12),
        guarantee in 1u64..12,
        greedy in 1usize..4,
        reserved in any::<bool>(),
        nested in any::<bool>(),
    ) {
        let mut allocator = Allocator::new(Options::default());
        let named = |amount: u64| BTreeMap::from([("cpus".to_owned(), Milli(amount * 1000))]);
        allocator.update_quota("q", &Quota { guarantees: named(guarantee), limits: BTreeMap::new() });
        for index in 0..greedy {
            let subscription = Subscription { roles: [format!("g{index}")].into(), ..Subscription::default() };
            allocator.set_framework(&format!("f{index}").into(), &subscription, Activity::Active);
        }
        let mut all = 0;
        for (index, cpus) in agents.iter().enumerate() {
            let more = if reserved && index == 0 { ";cpus(q):1" } else { "" };
            let total = Resources::parse(&format!("cpus:{cpus};mem:64{more}")).unwrap();
            all += total.scalar("cpus").0 / 1000;
            allocator.add_agent(&format!("s{index}").into(), &total, AgentFacts::default(), Activity::Active);
            let given = allocator.run(Duration::ZERO);
            let taken: u64 = given.iter().map(|given| given.resources.scalar("cpus").0).sum();
            prop_assert!(taken <= cpus * 1000);
        }
        let role = if nested { "q/r" } else { "q" };
        let subscription = Subscription { roles: [role.to_owned()].into(), ..Subscription::default() };
        allocator.set_framework(&"q".into(), &subscription, Activity::Active);
        let given = allocator.run(Duration::ZERO);
        let mine = given.iter().filter(|given| given.framework.as_str() == "q");
        let mine: u64 = mine.map(|given| given.resources.scalar("cpus").0).sum();
        prop_assert!(mine >= guarantee.min(all) * 1000, "{mine} of {guarantee}, there are {all}");
    }
}
