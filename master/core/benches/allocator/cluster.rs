//! A cluster to measure: agents, frameworks, and rounds of offers.

use std::time::{Duration, Instant};

use api::{AgentId, FrameworkId, Resources};
use master_core::allocator::{Abilities, Activity, AgentFacts, Allocation, Allocator, Consider, Options, Subscription};

/// See the module.
pub(crate) struct Cluster {
    pub(crate) allocator: Allocator,
    pub(crate) now: Duration,
}

/// Ids as long as real ones.
pub(crate) fn agent_id(index: usize) -> AgentId {
    AgentId::from(format!("0c3a4d5e-6f70-4182-93a4-b5c6d7e8f901-S{index}"))
}

/// As [`agent_id`].
pub(crate) fn framework_id(index: usize) -> FrameworkId {
    FrameworkId::from(format!("0c3a4d5e-6f70-4182-93a4-b5c6d7e8f901-{index:04}"))
}

/// The text is ours: it is well-formed.
pub(crate) fn resources(text: &str) -> Resources {
    Resources::parse(text).expect("the text is well-formed")
}

impl Cluster {
    /// Nothing in it.
    pub(crate) fn new() -> Self {
        Self { allocator: Allocator::new(Options::default()), now: Duration::ZERO }
    }

    /// Adds a framework that can deal with revocable resources.
    pub(crate) fn add_framework(&mut self, index: usize, role: &str) {
        let abilities = Abilities { revocable: true, ..Abilities::default() };
        let subscription = Subscription { roles: [role.to_owned()].into(), abilities, ..Subscription::default() };
        self.allocator.set_framework(&framework_id(index), &subscription, Activity::Active);
    }

    /// Adds an agent, `used` of it in use by a framework.
    pub(crate) fn add_agent(&mut self, index: usize, total: &Resources, used: Option<(&Resources, usize, &str)>) {
        let id = agent_id(index);
        let facts = AgentFacts { hostname: format!("node-{index}"), ..AgentFacts::default() };
        self.allocator.add_agent(&id, total, facts, Activity::Active);
        if let Some((used, framework, role)) = used {
            self.allocator.charge(&framework_id(framework), role, &id, used);
        }
    }

    /// One batch allocation over everything, and how long it took.
    pub(crate) fn cycle(&mut self) -> (Vec<Allocation>, Duration) {
        self.now += Duration::from_secs(1);
        let start = Instant::now();
        self.allocator.consider_all();
        let given = self.allocator.run(self.now);
        (given, start.elapsed())
    }

    /// Takes offers back; with a refusal they are refused for that long.
    pub(crate) fn give_back(&mut self, given: &[Allocation], refusal: Duration) {
        for Allocation { framework, role, agent, resources } in given {
            self.allocator.refuse(framework, role, agent, resources, refusal, self.now);
            self.allocator.recover(framework, role, agent, resources, Consider::Later);
        }
    }
}

/// Milliseconds.
pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Ours beside Mesos's.
pub(crate) fn ratio(what: &str, size: &str, ours: Duration, recorded: f64) {
    let ours = millis(ours);
    println!(
        "{what:<30} {size:<14} mesolith {ours:>9.3} ms   Mesos (recorded) {recorded:>9.1} ms   {:>7.1} times faster",
        recorded / ours
    );
}
