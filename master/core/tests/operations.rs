//! Frameworks' operations: reserving, making volumes, using both, and hearing of the outcome.
#![allow(clippy::unwrap_used)] // a test's helper may

#[path = "rig/rig.rs"]
mod rig;

use api::v1::scheduler::Call;
use api::v1::scheduler::call::{AcknowledgeOperationStatus, Type};
use master_core::io::operator::{MachineId, OperatorWrite, Unavailability, Window};
use master_core::{Input, RequestId, Response, StreamId};
use proptest::prelude::*;
use rig::Rig;
use serde_json::{Value, json};

/// A framework with the role `a` and every capability these tests need, on stream `f`.
fn subscribe(rig: &mut Rig, stream: &str, id: Option<&str>) {
    let capabilities = ["MULTI_ROLE", "RESERVATION_REFINEMENT", "PARTITION_AWARE", "SHARED_RESOURCES"];
    let mut info = json!({"user": "root", "name": "f", "principal": "p", "roles": ["a"], "failover_timeout": 1000.0,
        "capabilities": capabilities.map(|kind| json!({"type": kind}))});
    if let Some(id) = id {
        info["id"] = json!({ "value": id });
    }
    rig.subscribe_with(stream, info);
}

fn reserved(name: &str, amount: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": amount},
        "reservations": [{"type": "DYNAMIC", "role": "a", "principal": "p"}]})
}

fn volume(amount: f64, id: &str) -> Value {
    let mut volume = reserved("disk", amount);
    volume["disk"] =
        json!({"persistence": {"id": id, "principal": "p"}, "volume": {"mode": "RW", "container_path": "data"}});
    volume
}

fn task(id: &str, resources: Value) -> Value {
    json!({"name": id, "task_id": {"value": id}, "agent_id": {"value": "m-S0"}, "command": {"value": "true"}, "resources": resources})
}

/// Accepts all there is.
fn accept_all(rig: &mut Rig, stream: &str, operations: Value) {
    let offers: Vec<String> = rig.master.view().offers.keys().map(ToString::to_string).collect();
    if !offers.is_empty() {
        accept(rig, stream, &offers, operations);
    }
}

fn accept(rig: &mut Rig, stream: &str, offers: &[String], operations: Value) {
    let offers: Vec<Value> = offers.iter().map(|offer| json!({ "value": offer })).collect();
    let call = json!({"framework_id": {"value": "m-0000"}, "type": "ACCEPT",
        "accept": {"offer_ids": offers, "operations": operations, "filters": {"refuse_seconds": 0.0}}});
    assert_eq!(rig.call(stream, call), Some(Response::Accepted));
}

fn total(rig: &Rig) -> String {
    rig.master.state().agents[&"m-S0".into()].resources.to_string()
}

fn started() -> Rig {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024;disk:1000");
    subscribe(&mut rig, "f", None);
    assert_eq!(rig.take("f"), ["SUBSCRIBED m-0000", "OFFERS m-O0 m-S0 cpus:4; mem:1024; disk:1000"]);
    rig
}

#[test]
fn a_task_uses_the_volume_its_own_accept_made() {
    let mut rig = started();
    let operations = json!([
        {"type": "RESERVE", "id": {"value": "r"}, "reserve": {"resources": [reserved("cpus", 1.0), reserved("disk", 500.0)]}},
        {"type": "CREATE", "create": {"volumes": [volume(500.0, "v")]}},
        {"type": "LAUNCH", "launch": {"task_infos": [task("t", json!([reserved("cpus", 1.0), volume(500.0, "v"), {"name": "mem", "type": "SCALAR", "scalar": {"value": 100}}]))]}},
    ]);
    accept(&mut rig, "f", &["m-O0".to_owned()], operations);
    assert!(rig.task("m-0000", "t").is_some(), "{:?}", rig.statuses);
    assert_eq!(total(&rig), "cpus:3; mem:1024; disk:500; cpus(a):1; disk(a):500");
    // The agent makes the volume before it runs what uses it.
    assert_eq!(rig.sent(1), ["registered m-S0", "volumes first=false disk(a):500", "run m-0000 t"]);
    rig.wait(2000);
    assert_eq!(
        rig.take("f"),
        ["UPDATE_OPERATION_STATUS r OPERATION_FINISHED m-S0 uuid", "OFFERS m-O1 m-S0 cpus:3; mem:924; disk:500"]
    );
    let destroy = json!([{"type": "DESTROY", "id": {"value": "d"}, "destroy": {"volumes": [volume(500.0, "v")]}}]);
    accept(&mut rig, "f", &["m-O1".to_owned()], destroy);
    let told = rig.take("f");
    assert_eq!(told[0], "UPDATE_OPERATION_STATUS d OPERATION_ERROR", "it is in use: {told:?}");
}

#[test]
fn outcomes_are_told_until_they_are_acknowledged() {
    let mut rig = started();
    let reserve = json!([{"type": "RESERVE", "id": {"value": "r"}, "reserve": {"resources": [reserved("cpus", 1.0)]}}]);
    accept(&mut rig, "f", &["m-O0".to_owned()], reserve);
    let finished = "UPDATE_OPERATION_STATUS r OPERATION_FINISHED m-S0 uuid";
    assert_eq!(rig.take("f")[0], finished);
    let told = |rig: &mut Rig, ms: u64| {
        for _ in 0..ms / 5000 {
            rig.wait(5000);
            rig.pong(1);
        }
        rig.take("f").into_iter().filter(|event| event.starts_with("UPDATE_O")).count()
    };
    assert_eq!(told(&mut rig, 30_000), 2, "after 10 and 30 seconds");
    let mut rig = rig.failover();
    subscribe(&mut rig, "f", Some("m-0000"));
    assert_eq!(told(&mut rig, 15_000), 1, "a new leader goes on");
    let reconcile = |operations: Value| json!({"framework_id": {"value": "m-0000"}, "type": "RECONCILE_OPERATIONS", "reconcile_operations": {"operations": operations}});
    rig.call("f", reconcile(json!([])));
    assert_eq!(rig.take("f"), ["UPDATE_OPERATION_STATUS r OPERATION_FINISHED m-S0"]);
    rig.call(
        "f",
        reconcile(
            json!([{"operation_id": {"value": "x"}, "agent_id": {"value": "m-S0"}}, {"operation_id": {"value": "y"}}]),
        ),
    );
    assert_eq!(
        rig.take("f"),
        ["UPDATE_OPERATION_STATUS x OPERATION_RECOVERING m-S0", "UPDATE_OPERATION_STATUS y OPERATION_UNKNOWN"]
    );
    let uuid = rig.master.state().operations.values().next().unwrap().status_uuid;
    let acknowledge = AcknowledgeOperationStatus {
        agent_id: Some("m-S0".into()),
        uuid: uuid.to_vec(),
        operation_id: "r".into(),
        ..AcknowledgeOperationStatus::default()
    };
    let call = Call {
        framework_id: Some("m-0000".into()),
        r#type: Some(Type::AcknowledgeOperationStatus.into()),
        acknowledge_operation_status: Some(Box::new(acknowledge)),
        ..Call::default()
    };
    let (request, stream) = (RequestId(u64::MAX), Some(StreamId("f".to_owned())));
    rig.input(Input::Call { request, stream, principal: None, call: Box::new(call) });
    assert!(rig.master.state().operations.is_empty());
    assert_eq!(told(&mut rig, 60_000), 0);
}

#[test]
fn a_volume_grows_shrinks_and_is_given_back() {
    let mut rig = started();
    let steps = [
        json!([{"type": "RESERVE", "reserve": {"resources": [reserved("disk", 600.0)]}}, {"type": "CREATE", "create": {"volumes": [volume(400.0, "v")]}}]),
        json!([{"type": "GROW_VOLUME", "grow_volume": {"volume": volume(400.0, "v"), "addition": reserved("disk", 100.0)}}]),
        json!([{"type": "SHRINK_VOLUME", "shrink_volume": {"volume": volume(500.0, "v"), "subtract": {"value": 300.0}}}]),
        json!([{"type": "DESTROY", "destroy": {"volumes": [volume(200.0, "v")]}}, {"type": "UNRESERVE", "unreserve": {"resources": [reserved("disk", 600.0)]}}]),
    ];
    let expected = [
        "cpus:4; mem:1024; disk:400; disk(a):200; disk(a):400",
        "cpus:4; mem:1024; disk:400; disk(a):100; disk(a):500",
        "cpus:4; mem:1024; disk:400; disk(a):400; disk(a):200",
        "cpus:4; mem:1024; disk:1000",
    ];
    for (step, expected) in steps.into_iter().zip(expected) {
        rig.wait(2000);
        accept_all(&mut rig, "f", step);
        assert_eq!(total(&rig), expected);
    }
    rig.wait(2000);
    let view = rig.master.view();
    let mut offered = api::Resources::new();
    view.offers.values().for_each(|offer| offered.add_all(&offer.resources));
    assert_eq!(offered.to_string(), "cpus:4; mem:1024; disk:1000", "all of it is offered again");
}

#[test]
fn what_is_wrong_with_an_operation_is_told_in_mesos_words() {
    let mut rig = started();
    let mut other = reserved("cpus", 1.0);
    other["reservations"][0]["role"] = json!("b");
    accept(
        &mut rig,
        "f",
        &["m-O0".to_owned()],
        json!([{"type": "RESERVE", "id": {"value": "r"}, "reserve": {"resources": [other]}}]),
    );
    assert_eq!(rig.take("f")[0], "UPDATE_OPERATION_STATUS r OPERATION_ERROR");
    accept(
        &mut rig,
        "f",
        &["m-O0".to_owned()],
        json!([{"type": "UNRESERVE", "id": {"value": "u"}, "unreserve": {"resources": [reserved("cpus", 1.0)]}}]),
    );
    assert_eq!(rig.take("f"), ["UPDATE_OPERATION_STATUS u OPERATION_ERROR"], "the offer is no longer valid");
}

#[test]
fn frameworks_are_asked_to_leave_agents_in_maintenance() {
    let mut rig = Rig::running("t");
    let unavailability = Unavailability { start: 5_000, duration: None };
    let schedule = vec![Window { machines: vec![MachineId::new("node-1.example", "")], unavailability }];
    rig.next_request += 1;
    let write = Box::new(OperatorWrite::UpdateMaintenanceSchedule(schedule));
    rig.input(Input::Operator { request: RequestId(rig.next_request), write });
    let told = rig.take("f");
    assert!(told.iter().any(|event| event.starts_with("INVERSE_OFFERS") && event.ends_with("m-S0")), "{told:?}");
    let id = told
        .iter()
        .find_map(|event| event.strip_prefix("INVERSE_OFFERS "))
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    let call = json!({"framework_id": {"value": "m-0000"}, "type": "DECLINE_INVERSE_OFFERS", "decline_inverse_offers":
        {"inverse_offer_ids": [{"value": id}], "filters": {"refuse_seconds": 20.0}}});
    assert_eq!(rig.call("f", call), Some(Response::Accepted));
    rig.wait(10_000);
    rig.pong(1);
    assert!(!rig.take("f").iter().any(|event| event.starts_with("INVERSE")), "not before the refusal ends");
    rig.wait(12_000);
    assert!(rig.take("f").iter().any(|event| event.starts_with("INVERSE")), "asked again");
}

/// One thing that happens in a random history.
#[derive(Clone, Debug)]
enum Step {
    Reserve(u8),
    Create(u8),
    Launch(u8),
    Unreserve(u8),
    Destroy(u8),
    End,
    Operator(u8),
    Reboot(u8),
    Drain(bool),
    Failover,
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u8..5).prop_map(Step::Reserve),
        3 => (1u8..5).prop_map(Step::Create),
        3 => (1u8..5).prop_map(Step::Launch),
        2 => (1u8..5).prop_map(Step::Unreserve),
        2 => (1u8..5).prop_map(Step::Destroy),
        2 => Just(Step::End),
        3 => (1u8..5).prop_map(Step::Operator),
        1 => (1u8..5).prop_map(Step::Reboot),
        1 => any::<bool>().prop_map(Step::Drain),
        1 => Just(Step::Failover),
        4 => Just(Step::Wait),
    ]
}

struct History {
    rig: Rig,
    session: u64,
    boot: u64,
    stream: u64,
    tasks: u64,
}

impl History {
    fn accept(&mut self, operations: Value) {
        accept_all(&mut self.rig, &format!("f{}", self.stream), operations);
    }

    fn register(&mut self, boot: u64) {
        self.rig.input(Input::AgentDisconnected(master_core::SessionId(self.session)));
        self.session += 1;
        let mut registration = rig::registration("node-1", &format!("b{boot}"), "cpus:8;mem:1024;disk:100");
        if boot == self.boot {
            let state = self.rig.master.state();
            let tasks: Vec<_> = state.tasks().map(|task| (task.id().to_string(), task.state)).collect();
            registration.tasks = tasks.iter().map(|(task, state)| self.rig.report("m-0000", task, *state)).collect();
        }
        self.boot = boot;
        self.rig.register(self.session, registration);
    }

    fn write(&mut self, write: OperatorWrite) {
        self.rig.next_request += 1;
        self.rig.input(Input::Operator { request: RequestId(self.rig.next_request), write: Box::new(write) });
        assert!(self.rig.responses.contains_key(&self.rig.next_request), "every write is answered");
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Reserve(n) => {
                let resources = json!([reserved("cpus", f64::from(n)), reserved("disk", f64::from(n) * 10.0)]);
                self.accept(
                    json!([{"type": "RESERVE", "id": {"value": format!("o{n}")}, "reserve": {"resources": resources}}]),
                );
            }
            Step::Create(n) => {
                let volumes = json!([volume(f64::from(n) * 10.0, &format!("v{n}"))]);
                self.accept(json!([{"type": "CREATE", "create": {"volumes": volumes}}]));
            }
            Step::Launch(n) => {
                self.tasks += 1;
                let id = format!("t{}", self.tasks);
                let operations = json!([
                    {"type": "RESERVE", "reserve": {"resources": [reserved("cpus", f64::from(n))]}},
                    {"type": "LAUNCH", "launch": {"task_infos": [task(&id, json!([reserved("cpus", f64::from(n))]))]}},
                ]);
                self.accept(operations);
            }
            Step::Unreserve(n) => {
                let resources = json!([reserved("cpus", f64::from(n))]);
                self.accept(json!([{"type": "UNRESERVE", "unreserve": {"resources": resources}}]));
            }
            Step::Destroy(n) => {
                let volumes = json!([volume(f64::from(n) * 10.0, &format!("v{n}"))]);
                self.accept(json!([{"type": "DESTROY", "destroy": {"volumes": volumes}}]));
            }
            Step::End => {
                let first = self.rig.master.state().tasks().next().map(|task| task.id().to_string());
                if let Some(task) = first {
                    self.rig.update(self.session, "m-0000", &task, api::TaskState::Finished, 7);
                    self.rig.acknowledge(&format!("f{}", self.stream), "m-0000", "m-S0", &task, 7);
                }
            }
            Step::Operator(n) => {
                let resources =
                    api::v1::resources_from_wire(&[serde_json::from_value(reserved("cpus", f64::from(n))).unwrap()])
                        .unwrap();
                let operation = if n % 2 == 0 {
                    master_core::operation::ResourceOperation::Reserve { source: api::Resources::new(), resources }
                } else {
                    master_core::operation::ResourceOperation::Unreserve { resources }
                };
                self.write(OperatorWrite::Apply { agent: "m-S0".into(), operation, principal: None });
            }
            Step::Reboot(n) => {
                let boot = if n == 1 { self.boot } else { self.boot + 1 };
                self.register(boot);
            }
            Step::Drain(true) => {
                self.write(OperatorWrite::DrainAgent { agent: "m-S0".into(), max_grace_ms: None, mark_gone: false });
            }
            Step::Drain(false) => self.write(OperatorWrite::ReactivateAgent("m-S0".into())),
            Step::Failover => {
                self.rig = std::mem::take(&mut self.rig).failover();
                self.stream += 1;
                subscribe(&mut self.rig, &format!("f{}", self.stream), Some("m-0000"));
                self.register(self.boot);
            }
            Step::Wait => {
                self.rig.wait(3000);
                self.rig.pong(self.session);
            }
        }
    }

    /// Nothing is made or lost by converting it, and nothing is given twice.
    fn check(&mut self) {
        master_core::invariant::check(self.rig.master.state());
        let view = self.rig.master.view();
        let agent = &view.state.agents[&"m-S0".into()];
        for (name, amount) in [("cpus", 8000), ("mem", 1_024_000), ("disk", 100_000)] {
            assert_eq!(agent.resources.scalar(name).0, amount, "{name} of {}", agent.resources);
        }
        let mut given = api::Resources::new();
        view.state.tasks().filter(|task| task.holds_resources()).for_each(|task| given.add_all(&task.resources));
        view.offers.values().for_each(|offer| given.add_all(&offer.resources));
        assert!(agent.resources.contains(&given), "{} has {}, gave {given}", agent.id, agent.resources);
        assert!(!agent.deactivated || view.offers.is_empty(), "an agent out of use is not offered");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn conversions_keep_the_laws(steps in prop::collection::vec(step(), 1..60)) {
        let mut rig = Rig::default();
        rig.register(1, rig::registration("node-1", "b1", "cpus:8;mem:1024;disk:100"));
        subscribe(&mut rig, "f0", None);
        let mut history = History { rig, session: 1, boot: 1, stream: 0, tasks: 0 };
        for step in steps {
            history.play(step);
            history.check();
        }
        let mut replayed = master_core::State::default();
        for batch in &history.rig.log {
            for command in master_core::Command::decode_batch(batch).unwrap() {
                replayed.apply(command);
            }
        }
        prop_assert_eq!(&replayed, history.rig.master.state(), "replaying the log gives the same state");
        // Once everybody has rested, everything that is not used is offered.
        for _ in 0..5 {
            history.play(Step::Wait);
        }
        let view = history.rig.master.view();
        if !view.state.agents[&"m-S0".into()].deactivated {
            let agent = &view.state.agents[&"m-S0".into()];
            let mut given = api::Resources::new();
            view.state.tasks().filter(|task| task.holds_resources()).for_each(|task| given.add_all(&task.resources));
            view.offers.values().for_each(|offer| given.add_all(&offer.resources));
            let left = agent.resources.saturating_sub(&given);
            prop_assert!(left.scalar("cpus").0 < 10 && left.scalar("mem").0 < 32_000, "{} keeps {left}", agent.resources);
        }
    }
}
