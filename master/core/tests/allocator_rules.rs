//! Each of Mesos's allocation rules on its own.
#![allow(clippy::unwrap_used)] // a test's helper may

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::resources::Reservation;
use api::{AgentId, Attribute, FrameworkId, Milli, Resource, Resources};
use master_core::allocator::{
    Abilities, Activity, AgentFacts, Allocator, AttributeConstraint, Consider, Domain, InverseAnswer, NotAvailable,
    Options, Pattern, Predicate, Quota, RoleConstraints, Selector, Subscription, Unavailability,
};

fn resources(text: &str) -> Resources {
    Resources::parse(text).unwrap()
}

fn amounts(text: &str) -> BTreeMap<String, Milli> {
    resources(text).scalars().into_iter().map(|(name, amount)| (name.to_owned(), amount)).collect()
}

fn names(roles: &[&str]) -> BTreeSet<String> {
    roles.iter().map(|role| (*role).to_owned()).collect()
}

fn wants(roles: &[&str]) -> Subscription {
    Subscription { roles: names(roles), ..Subscription::default() }
}

/// An allocator that is asked in few words.
struct Asked(Allocator);

impl Asked {
    fn new() -> Self {
        Self(Allocator::new(Options::default()))
    }

    fn framework(&mut self, id: &str, subscription: &Subscription) {
        self.0.set_framework(&id.into(), subscription, Activity::Active);
    }

    fn agent(&mut self, id: &str, total: &str) {
        self.agent_with(id, &resources(total), AgentFacts::default());
    }

    fn agent_with(&mut self, id: &str, total: &Resources, facts: AgentFacts) {
        self.0.add_agent(&id.into(), total, facts, Activity::Active);
    }

    /// What a run gives, as text: `framework role agent resources`, in order.
    fn given(&mut self, seconds: u64) -> Vec<String> {
        let mut given: Vec<String> = self
            .0
            .run(Duration::from_secs(seconds))
            .iter()
            .map(|given| format!("{} {} {} {}", given.framework, given.role, given.agent, given.resources))
            .collect();
        assert!(self.0.is_consistent());
        given.sort();
        given
    }

    /// The same after everything was looked at.
    fn cycle(&mut self, seconds: u64) -> Vec<String> {
        self.0.consider_all();
        self.given(seconds)
    }

    fn decline(&mut self, framework: &str, role: &str, agent: &str, what: &str, seconds: u64, now: u64) {
        let (framework, agent, what) = (FrameworkId::from(framework), AgentId::from(agent), resources(what));
        self.0.refuse(&framework, role, &agent, &what, Duration::from_secs(seconds), Duration::from_secs(now));
        self.0.recover(&framework, role, &agent, &what, Consider::Later);
    }

    fn recover(&mut self, framework: &str, role: &str, agent: &str, what: &str) {
        self.0.recover(&framework.into(), role, &agent.into(), &resources(what), Consider::Now);
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_decline_filters_the_agent_until_the_refusal_ends() {
    let mut asked = Asked::new();
    asked.framework("f", &wants(&["r"]));
    asked.agent("s", "cpus:2;mem:64");
    assert_eq!(asked.given(0), ["f r s cpus:2; mem:64"]);
    asked.decline("f", "r", "s", "cpus:2;mem:64", 10, 0);
    assert_eq!(asked.cycle(9), NOTHING);
    assert_eq!(asked.0.next_expiry(), Some(Duration::from_secs(10)));
    assert_eq!(asked.given(10), ["f r s cpus:2; mem:64"], "it ended, and that alone is enough");
    // More than was refused is worth an offer; what is refused for less than a second is for one.
    asked.decline("f", "r", "s", "cpus:1;mem:64", 10, 10);
    assert_eq!(asked.cycle(11), NOTHING);
    asked.recover("f", "r", "s", "cpus:1");
    assert_eq!(asked.given(11), ["f r s cpus:2; mem:64"]);
    asked.decline("f", "r", "s", "cpus:2;mem:64", 0, 11);
    assert_eq!(asked.cycle(11), ["f r s cpus:2; mem:64"], "no refusal at all");
}

#[test]
fn a_refusal_is_of_one_role_and_a_revival_forgets_it() {
    let mut asked = Asked::new();
    asked.framework("f", &wants(&["a", "b"]));
    asked.agent("s", "cpus:2");
    assert_eq!(asked.given(0), ["f a s cpus:2"]);
    asked.decline("f", "a", "s", "cpus:2", 1000, 0);
    assert_eq!(asked.cycle(1), ["f b s cpus:2"]);
    asked.decline("f", "b", "s", "cpus:2", 1000, 1);
    assert_eq!(asked.cycle(2), NOTHING);
    asked.0.revive(&"f".into(), &names(&["b"]));
    assert_eq!(asked.given(2), ["f b s cpus:2"]);
    asked.recover("f", "b", "s", "cpus:2");
    asked.0.suppress(&"f".into(), &names(&["b"]));
    assert_eq!(asked.cycle(3), NOTHING, "suppressed in one, refused in the other");
    asked.0.update_facts(&"s".into(), AgentFacts { hostname: "other".to_owned(), ..AgentFacts::default() });
    assert_eq!(asked.given(3), ["f a s cpus:2"], "another agent now: it was not refused");
}

#[test]
fn a_framework_that_fails_over_has_refused_nothing() {
    let mut asked = Asked::new();
    asked.framework("f", &wants(&["r"]));
    asked.agent("s", "cpus:2");
    asked.given(0);
    asked.decline("f", "r", "s", "cpus:2", 1000, 0);
    asked.0.deactivate_framework(&"f".into());
    assert_eq!(asked.cycle(1), NOTHING);
    asked.framework("f", &wants(&["r"]));
    assert_eq!(asked.given(1), ["f r s cpus:2"]);
}

#[test]
fn offers_are_as_large_as_wanted() {
    let mut asked = Asked::new();
    let mut subscription = wants(&["a", "b"]);
    subscription.min_allocatable = [("a".to_owned(), vec![amounts("cpus:4"), amounts("mem:1000")])].into();
    subscription.min_allocatable.insert("b".to_owned(), Vec::new());
    subscription.suppressed = names(&["b"]);
    asked.framework("f", &subscription);
    asked.agent("s1", "cpus:3;mem:900");
    asked.agent("s2", "cpus:4");
    asked.agent("s3", "mem:1000");
    asked.agent("s4", "disk:10");
    assert_eq!(asked.given(0), ["f a s2 cpus:4", "f a s3 mem:1000"]);
    asked.0.revive(&"f".into(), &names(&["b"]));
    assert_eq!(asked.given(0), ["f b s1 cpus:3; mem:900", "f b s4 disk:10"], "anything at all");
}

#[test]
fn abilities_decide_what_is_seen() {
    let mut asked = Asked::new();
    let mut total = resources("cpus:1;gpus:1");
    asked.agent_with("gpu", &total, AgentFacts::default());
    total = resources("cpus:1");
    total.add(Resource { revocable: true, ..Resource::scalar("cpus", Milli(5000)) });
    let level =
        |role: &str, dynamic| Reservation { dynamic, role: role.to_owned(), principal: None, labels: Vec::new() };
    let refined = vec![level("r", false), level("r/x", true)];
    total.add(Resource { reservations: refined, ..Resource::scalar("mem", Milli(64_000)) });
    asked.agent_with("mixed", &total, AgentFacts::default());
    asked.framework("plain", &wants(&["r/x"]));
    assert_eq!(asked.given(0), ["plain r/x mixed cpus:1"]);
    asked.recover("plain", "r/x", "mixed", "cpus:1");
    asked.0.remove_framework(&"plain".into());
    let abilities = Abilities { gpus: true, revocable: true, refinement: true, ..Abilities::default() };
    asked.framework("able", &Subscription { abilities, ..wants(&["r/x"]) });
    assert_eq!(asked.given(0), ["able r/x gpu cpus:1; gpus:1", "able r/x mixed cpus:1; cpus:5; mem(r/x):64"]);
}

#[test]
fn gpus_are_shown_to_all_when_the_operator_says_so() {
    let mut asked = Asked(Allocator::new(Options { filter_gpus: false, ..Options::default() }));
    asked.framework("f", &wants(&["r"]));
    asked.agent("s", "cpus:1;gpus:1");
    assert_eq!(asked.given(0), ["f r s cpus:1; gpus:1"]);
}

#[test]
fn other_regions_and_less_able_agents_are_hidden() {
    let domain = |region: &str| Some(Domain { region: region.to_owned(), zone: "z".to_owned() });
    let mut asked = Asked(Allocator::new(Options { domain: domain("here"), ..Options::default() }));
    let facts = |region: &str| AgentFacts { domain: domain(region), ..AgentFacts::default() };
    asked.agent_with("near", &resources("cpus:1"), facts("here"));
    asked.agent_with("far", &resources("cpus:1"), facts("there"));
    asked.agent_with("old", &resources("cpus:1"), AgentFacts { multi_role: false, ..AgentFacts::default() });
    asked.agent_with("flat", &resources("cpus:1"), AgentFacts { hierarchical_role: false, ..AgentFacts::default() });
    let abilities = Abilities { multi_role: true, ..Abilities::default() };
    asked.framework("f", &Subscription { abilities, ..wants(&["r/x"]) });
    assert_eq!(asked.given(0), ["f r/x near cpus:1"]);
    let abilities = Abilities { region_aware: true, ..Abilities::default() };
    asked.framework("g", &Subscription { abilities, ..wants(&["r"]) });
    assert_eq!(asked.given(0), ["g r far cpus:1", "g r flat cpus:1", "g r old cpus:1"]);
}

#[test]
fn constraints_choose_agents_in_their_role_alone() {
    let mut asked = Asked::new();
    let facts = |rack: &str| AgentFacts {
        attributes: Arc::new(Attribute::parse_list(&format!("rack:{rack}")).unwrap()),
        ..AgentFacts::default()
    };
    let rack = |predicate| RoleConstraints {
        groups: vec![vec![AttributeConstraint { selector: Selector::Attribute("rack".to_owned()), predicate }]],
    };
    for index in 1..=3 {
        asked.agent_with(&format!("s{index}"), &resources("cpus:1"), facts(&format!("r{index}")));
    }
    let mut subscription = wants(&["a"]);
    subscription.constraints = [("a".to_owned(), rack(Predicate::TextMatches(Pattern::new("r[12]").unwrap())))].into();
    asked.framework("f", &subscription);
    assert_eq!(asked.given(0), ["f a s1 cpus:1", "f a s2 cpus:1"]);
    asked.0.update_facts(&"s3".into(), facts("r1"));
    assert_eq!(asked.given(0), ["f a s3 cpus:1"], "it was moved");
    asked.agent_with("s4", &resources("cpus:1"), facts("r9"));
    assert_eq!(asked.given(0), NOTHING);
    asked.framework("f", &wants(&["a"]));
    assert_eq!(asked.given(0), ["f a s4 cpus:1"], "constraints are replaced wholesale");
}

#[test]
fn only_listed_and_active_agents_are_offered() {
    let mut asked = Asked::new();
    let named = |name: &str| AgentFacts { hostname: name.to_owned(), ..AgentFacts::default() };
    asked.0.update_whitelist(Some(names(&["one"])));
    asked.agent_with("s1", &resources("cpus:1"), named("one"));
    asked.agent_with("s2", &resources("cpus:1"), named("two"));
    asked.framework("f", &wants(&["r"]));
    assert_eq!(asked.given(0), ["f r s1 cpus:1"]);
    asked.0.deactivate_agent(&"s2".into());
    asked.0.update_whitelist(None);
    assert_eq!(asked.given(0), NOTHING, "it drains");
    asked.0.activate_agent(&"s2".into());
    assert_eq!(asked.given(0), ["f r s2 cpus:1"]);
}

#[test]
fn a_shared_volume_is_offered_to_several_and_counted_once() {
    let mut asked = Asked::new();
    let mut total = resources("cpus:2");
    let reservations = vec![Reservation { dynamic: true, role: "r".to_owned(), principal: None, labels: Vec::new() }];
    let disk = serde_json::from_value(serde_json::json!({
        "persistence": {"id": "v"}, "volume": {"container_path": "data", "mode": "RW"}}))
    .unwrap();
    let volume = Resource { reservations, disk: Some(disk), shared: true, ..Resource::scalar("disk", Milli(10_000)) };
    total.add(volume.clone());
    asked.agent_with("s", &total, AgentFacts::default());
    let abilities = Abilities { shared: true, ..Abilities::default() };
    asked.framework("a", &Subscription { abilities, ..wants(&["r"]) });
    asked.framework("b", &Subscription { abilities, ..wants(&["r"]) });
    assert_eq!(asked.given(0), ["a r s cpus:2; disk(r):10"], "to one framework in one run");
    // It is in use, and another cpu comes free.
    asked.recover("a", "r", "s", "cpus:1");
    assert_eq!(asked.given(0), ["b r s cpus:1; disk(r):10"], "in use, and offered again");
    assert!((asked.0.dominant_share("r") - 1.0).abs() < 1e-9, "two copies are one disk");
    let all: Resources = [volume].into_iter().collect();
    asked.0.recover(&"a".into(), "r", &"s".into(), &all, Consider::Now);
    assert!(asked.0.held(&"a".into(), "r", &"s".into()).iter().all(|held| held.name == "cpus"));
    asked.framework("c", &wants(&["r"]));
    asked.recover("a", "r", "s", "cpus:1");
    asked.0.suppress(&"a".into(), &names(&["r"]));
    asked.0.suppress(&"b".into(), &names(&["r"]));
    assert_eq!(asked.given(0), ["c r s cpus:1"], "not to whom cannot share");
}

#[test]
fn operations_change_what_is_held_and_what_quotas_count() {
    let mut asked = Asked::new();
    asked.framework("f", &wants(&["r/x"]));
    asked.agent("s", "cpus:4;mem:100");
    asked.given(0);
    let (f, s) = (FrameworkId::from("f"), AgentId::from("s"));
    let (from, to) = (resources("cpus:1"), resources("cpus(r/x):1"));
    asked.0.update_allocation(&f, "r/x", &s, &from, &to).unwrap();
    assert_eq!(asked.0.quota_consumption("r"), amounts("cpus:4;mem:100"), "offered, reserved or not");
    assert_eq!(asked.0.update_allocation(&f, "r/x", &s, &resources("cpus:4"), &to), Err(NotAvailable::NotHeld));
    assert_eq!(asked.0.update_allocation(&f, "r", &s, &from, &to), Err(NotAvailable::NotHeld));
    asked.recover("f", "r/x", "s", "cpus:3;mem:100;cpus(r/x):1");
    assert_eq!(asked.0.quota_consumption("r"), amounts("cpus:1"), "a reservation counts though nobody uses it");
    asked.0.suppress(&f, &names(&["r/x"]));
    asked.framework("g", &wants(&["r/y"]));
    assert_eq!(asked.given(0), ["g r/y s cpus:3; mem:100"], "not what is reserved to another");
    asked.recover("g", "r/y", "s", "cpus:1");
    // The operator gives it back.
    assert_eq!(asked.0.update_available(&s, &resources("cpus(r/x):2"), &from), Err(NotAvailable::NotFree));
    asked.0.update_available(&s, &to, &from).unwrap();
    assert_eq!(asked.given(0), ["g r/y s cpus:2"]);
    assert_eq!(asked.0.update_available(&"none".into(), &to, &from), Err(NotAvailable::NoAgent));
}

#[test]
fn what_limits_kept_back_is_offered_when_the_role_gives_something_back() {
    let mut asked = Asked::new();
    asked.0.update_quota("r", &Quota { guarantees: BTreeMap::new(), limits: amounts("cpus:1") });
    asked.framework("f", &wants(&["r"]));
    asked.agent("s1", "cpus:1");
    assert_eq!(asked.given(0), ["f r s1 cpus:1"]);
    asked.agent("s2", "cpus:1");
    assert_eq!(asked.given(0), NOTHING);
    asked.0.deactivate_agent(&"s1".into());
    asked.recover("f", "r", "s1", "cpus:1");
    assert_eq!(asked.given(0), NOTHING);
    assert!(asked.0.has_deferred());
    asked.0.consider_deferred();
    assert_eq!(asked.given(1), ["f r s2 cpus:1"]);
    asked.agent("s3", "cpus:1");
    assert_eq!(asked.given(1), NOTHING);
    asked.0.update_quota("r", &Quota::default());
    asked.0.consider_deferred();
    assert_eq!(asked.given(2), ["f r s3 cpus:1"], "no quota, no limit");
}

#[test]
fn a_subtree_is_not_kept_from_what_its_own_role_is_owed() {
    let mut asked = Asked::new();
    asked.0.update_quota("q", &Quota { guarantees: amounts("cpus:2"), limits: amounts("cpus:2") });
    asked.framework("other", &wants(&["o"]));
    asked.agent("s", "cpus:2");
    assert_eq!(asked.given(0), NOTHING);
    asked.framework("mine", &wants(&["q/x"]));
    assert_eq!(asked.given(0), ["mine q/x s cpus:2"]);
}

#[test]
fn whoever_has_something_of_an_agent_that_goes_away_is_asked_once() {
    let mut asked = Asked::new();
    for id in ["f", "g", "idle"] {
        asked.framework(id, &wants(&["r"]));
    }
    asked.agent("s1", "cpus:2");
    asked.agent("s2", "cpus:2");
    asked.0.suppress(&"idle".into(), &names(&["r"]));
    assert_eq!(asked.given(0).len(), 2);
    let who = |asked: &mut Asked, seconds| -> Vec<String> {
        let offers = asked.0.inverse_offers(Duration::from_secs(seconds));
        offers.iter().map(|offer| format!("{} {}", offer.framework, offer.agent)).collect()
    };
    assert_eq!(who(&mut asked, 0), NOTHING);
    let window = Unavailability { start: 7, duration: Some(5) };
    for agent in ["s1", "s2"] {
        asked.0.update_unavailability(&agent.into(), Some(window));
    }
    let mut first = who(&mut asked, 0);
    first.sort();
    assert_eq!(first.len(), 2, "one framework on each agent: {first:?}");
    assert_eq!(who(&mut asked, 0), NOTHING, "asked, and not answered yet");
    let (framework, agent) = first[0].split_once(' ').unwrap();
    let (framework, agent) = (FrameworkId::from(framework), AgentId::from(agent));
    let (ten, now) = (Duration::from_secs(10), Duration::from_secs(1));
    asked.0.answer_inverse_offer(&framework, &agent, Some(InverseAnswer::Decline), ten, now);
    assert_eq!(who(&mut asked, 5), NOTHING);
    assert_eq!(asked.0.next_expiry(), Some(Duration::from_secs(11)));
    assert_eq!(who(&mut asked, 11), [first[0].clone()], "asked again when its refusal ends");
    assert_eq!(asked.0.inverse_statuses()[&agent][&framework].answer, InverseAnswer::Decline);
    assert_eq!(asked.0.unavailability(&agent), Some(window));
    asked.0.update_unavailability(&agent, None);
    assert!(!asked.0.inverse_statuses().contains_key(&agent));
    asked.0.answer_inverse_offer(&framework, &agent, None, Duration::ZERO, now);
    assert_eq!(who(&mut asked, 99), NOTHING);
}

#[test]
fn what_removed_agents_and_frameworks_still_have_is_counted_until_it_is_back() {
    let mut asked = Asked::new();
    asked.framework("f", &wants(&["r"]));
    asked.agent("s", "cpus:2;mem:64");
    asked.given(0);
    asked.0.remove_agent(&"s".into());
    assert!(!asked.0.has_agent(&"s".into()));
    asked.agent("s", "cpus:2;mem:64");
    assert_eq!(asked.given(0), NOTHING, "it is back, and still in use");
    asked.0.remove_framework(&"f".into());
    asked.framework("g", &wants(&["r"]));
    assert_eq!(asked.given(0), NOTHING, "nobody's, and not free either");
    asked.recover("f", "r", "s", "cpus:1");
    assert_eq!(asked.given(0), ["g r s cpus:1"]);
    asked.recover("f", "r", "s", "cpus:5;mem:64");
    assert_eq!(asked.given(0), ["g r s cpus:1; mem:64"], "no more comes back than was given");
    asked.0.remove_agent(&"s".into());
    asked.recover("g", "r", "s", "cpus:2;mem:64");
    assert_eq!(asked.0.sizes(), (0, 1));
}
