//! The operator's rules on nodes that run tasks: live, in the log, and never at a task's cost.
#![allow(clippy::unwrap_used)] // a test's helper may

#[path = "rig/rig.rs"]
mod rig;

use api::facts::Source;
use api::{Attribute, Fact, TaskState};
use master_core::io::operator::{OperatorWrite, Place};
use master_core::rules::Rule;
use master_core::{AgentMessage, Input, RequestId, Response, SessionId, State};
use rig::{Rig, refused, registration};

fn write(rig: &mut Rig, write: OperatorWrite) -> Option<Response> {
    rig.next_request += 1;
    let request = rig.next_request;
    rig.input(Input::Operator { request: RequestId(request), write: Box::new(write) });
    rig.responses.get(&request).cloned()
}

fn put(json: &str) -> OperatorWrite {
    let rule: Rule = serde_json::from_str(json).unwrap();
    OperatorWrite::PutRule { rule: Box::new(rule), place: Place::AsBefore }
}

fn attribute(state: &State, agent: &str, name: &str) -> Option<Attribute> {
    state.agents[&agent.into()].attributes.iter().find(|attribute| attribute.name == name).cloned()
}

fn of(rig: &Rig, name: &str) -> Option<Attribute> {
    attribute(rig.master.state(), "m-S0", name)
}

fn heard(switch: &str) -> Vec<Fact> {
    ["switch", "switch.eth0.name"]
        .into_iter()
        .map(|name| (name, switch))
        .chain([("switch.port", "p1"), ("switch.eth0.port", "p1")])
        .map(|(name, value)| Fact {
            attribute: Attribute::text(name, value),
            source: Source::Lldp,
            evidence: String::new(),
        })
        .collect()
}

#[test]
fn a_rule_changes_attributes_at_once_rescinds_offers_and_leaves_tasks_alone() {
    let mut rig = Rig::running("t");
    rig.wait(6000);
    assert_eq!(rig.take("f"), ["OFFERS m-O1 m-S0 cpus:3; mem:924"]);
    let zone = r#"{"name":"z","match":{"subnet":"10.0.0.0/24"},"set":{"zone":"z1"}}"#;
    assert_eq!(write(&mut rig, put(zone)), Some(Response::Ok));
    assert_eq!(of(&rig, "zone"), Some(Attribute::text("zone", "z1")));
    let told = rig.take("f");
    assert_eq!(told[0], "RESCIND m-O1", "the offer shows what is no longer so");
    assert_eq!(rig.task("m-0000", "t").unwrap().state, TaskState::Running);
    assert!(rig.sent(1).is_empty(), "the agent is told nothing");
    rig.wait(6000);
    rig.take("f");
    assert_eq!(write(&mut rig, put(zone)), Some(Response::Ok));
    assert!(rig.take("f").is_empty(), "the same again changes nothing");
    assert_eq!(write(&mut rig, OperatorWrite::RemoveRule("z".to_owned())), Some(Response::Ok));
    assert_eq!(of(&rig, "zone"), None);
}

#[test]
fn what_was_typed_on_a_node_is_not_overruled() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    write(&mut rig, put(r#"{"name":"r","match":{"node":"node-1"},"set":{"rack":"r9","row":"1"}}"#));
    assert_eq!(of(&rig, "rack"), Some(Attribute::text("rack", "r1")), "the rig's agents are told their rack");
    assert_eq!(of(&rig, "row"), Some(Attribute::scalar("row", 1.0).unwrap()));
    assert_eq!(of(&rig, "rack.conflict"), Some(Attribute::text("rack.conflict", "true")));
}

#[test]
fn a_moved_cable_moves_the_node_to_another_rack_and_its_task_goes_on() {
    let mut rig = Rig::running("t");
    write(&mut rig, put(r#"{"name":"r","match":{"switch":"tor-(?<zone>z[0-9]+)"},"set":{"zone":"{zone}"}}"#));
    assert_eq!(of(&rig, "zone"), None);
    for (switch, zone) in [("tor-z1", Some("z1")), ("tor-z2", Some("z2")), ("spine", None)] {
        let message = AgentMessage::Capacity {
            resources: api::Resources::parse("cpus:4;mem:1024").unwrap(),
            attributes: Vec::new(),
            facts: heard(switch),
            inventory_json: Some(format!(r#"{{"heard":"{switch}"}}"#)),
            edition: 0,
        };
        rig.input(Input::FromAgent { session: SessionId(1), message });
        assert_eq!(of(&rig, "zone"), zone.map(|zone| Attribute::text("zone", zone)), "{switch}");
        let agent = rig.master.state().agents[&"m-S0".into()].clone();
        assert!(agent.inventory_json.contains(switch), "the inventory follows");
    }
    assert_eq!(rig.task("m-0000", "t").unwrap().state, TaskState::Running);
}

#[test]
fn rules_outlive_masters_and_meet_nodes_that_come_later() {
    let mut rig = Rig::default();
    write(&mut rig, put(r#"{"name":"two","match":{"node":".*"},"set":{"tier":"b"}}"#));
    let rule: Rule = serde_json::from_str(r#"{"name":"one","match":{"node":"node-.*"},"set":{"tier":"a"}}"#).unwrap();
    let first = OperatorWrite::PutRule { rule: Box::new(rule), place: Place::First };
    assert_eq!(write(&mut rig, first), Some(Response::Ok));
    let state = State::from_snapshot(&rig.master.state().to_snapshot()).unwrap();
    assert_eq!(state.rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    let mut rig = rig.failover();
    rig.register(1, registration("node-1", "b1", "cpus:4;mem:1024"));
    assert_eq!(of(&rig, "tier"), Some(Attribute::text("tier", "a")));
}

#[test]
fn what_is_no_rule_is_refused_and_changes_nothing() {
    let mut rig = Rig::default();
    let answer = write(&mut rig, put(r#"{"name":"r","match":{"switch":"("},"set":{"a":"b"}}"#));
    assert!(matches!(answer, Some(Response::Refused { status: 400, .. })), "{answer:?}");
    let answer = write(&mut rig, OperatorWrite::RemoveRule("r".to_owned()));
    assert_eq!(answer, refused(404, "No rule is called 'r'"));
    for number in 0..master_core::rules::MAX_RULES {
        let json = format!(r#"{{"name":"r{number}","match":{{"node":"x"}},"set":{{"a":"b"}}}}"#);
        assert_eq!(write(&mut rig, put(&json)), Some(Response::Ok));
    }
    let answer = write(&mut rig, put(r#"{"name":"more","match":{"node":"x"},"set":{"a":"b"}}"#));
    assert!(matches!(answer, Some(Response::Refused { status: 409, .. })), "{answer:?}");
}

fn total(rig: &Rig) -> String {
    rig.master.state().agents[&"m-S0".into()].resources.to_string()
}

#[test]
fn a_rule_reserves_what_is_free_and_the_rest_when_it_becomes_free() {
    let mut rig = Rig::running("t");
    rig.wait(6000);
    rig.take("f");
    let web = r#"{"name":"web","match":{"node":"node-1"},"reserve":"web"}"#;
    assert_eq!(write(&mut rig, put(web)), Some(Response::Ok));
    assert_eq!(total(&rig), "cpus:1; mem:100; cpus(web):3; mem(web):924");
    assert_eq!(rig.take("f"), ["RESCIND m-O1"], "nothing is left for others");
    assert_eq!(rig.task("m-0000", "t").unwrap().state, TaskState::Running);
    rig.update(1, "m-0000", "t", TaskState::Finished, 9);
    assert_eq!(total(&rig), "cpus(web):4; mem(web):1024");
    rig.wait(6000);
    assert!(rig.take("f").iter().all(|event| !event.starts_with("OFFERS")), "all is another role's");
    // It is offered to that role, and comes back with the node.
    rig.subscribe_with(
        "w",
        serde_json::json!({"user": "u", "name": "w", "roles": ["web"],
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}]}),
    );
    rig.wait(6000);
    assert!(rig.take("w").iter().any(|event| event.contains("cpus(web):4")), "{:?}", rig.take("w"));
    let mut rig = rig.failover();
    rig.register(2, registration("node-1", "b2", "cpus:4;mem:1024"));
    assert_eq!(total(&rig), "cpus(web):4; mem(web):1024");
    let other = r#"{"name":"web","match":{"node":"node-1"},"reserve":"db"}"#;
    write(&mut rig, put(other));
    assert_eq!(total(&rig), "cpus(db):4; mem(db):1024");
    write(&mut rig, OperatorWrite::RemoveRule("web".to_owned()));
    assert_eq!(total(&rig), "cpus:4; mem:1024");
}

#[test]
fn a_node_is_told_what_its_disks_are_for_and_when_that_changes() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.sent(1);
    let pool = r#"{"name":"pool","match":{"node":"node-1"},"disks":{"use":"path","pick":{"class":["nvme"]}}}"#;
    assert_eq!(write(&mut rig, put(pool)), Some(Response::Ok));
    assert_eq!(rig.sent(1), [r#"disks ["pool"]"#]);
    write(&mut rig, put(r#"{"name":"other","match":{"node":"node-2"},"disks":{"use":"mount","pick":{"count":1}}}"#));
    write(&mut rig, put(r#"{"name":"zone","match":{"node":"node-1"},"set":{"zone":"z"}}"#));
    assert!(rig.sent(1).is_empty(), "it is another's, or not about disks");
    rig.agent(3, "node-2", "cpus:4;mem:1024");
    assert!(rig.sent(3).contains(&r#"disks ["other"]"#.to_owned()));
    assert_eq!(write(&mut rig, OperatorWrite::RemoveRule("pool".to_owned())), Some(Response::Ok));
    assert_eq!(rig.sent(1), ["disks []"]);
    let everything = r#"{"name":"x","match":{"node":"node-1"},"disks":{"use":"path"}}"#;
    let Some(Response::Refused { status: 400, text }) = write(&mut rig, put(everything)) else {
        panic!("it is refused")
    };
    assert!(text.contains("says not which disks"), "{text}");
}
