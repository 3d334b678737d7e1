//! Agents that come, go, reboot, and are two.

#[path = "rig/rig.rs"]
mod rig;

use api::TaskState;
use master_core::state::Reachability;
use master_core::{AgentMessage, Input, SessionId};
use rig::{Rig, registration, task_info};
use serde_json::json;

fn disconnect(rig: &mut Rig, session: u64) {
    rig.input(Input::AgentDisconnected(SessionId(session)));
}

#[test]
fn a_broken_connection_rescinds_offers_and_keeps_tasks() {
    let mut rig = Rig::running("t");
    rig.wait(6000);
    assert_eq!(rig.take("f"), ["OFFERS m-O1 m-S0 cpus:3; mem:924"]);
    disconnect(&mut rig, 1);
    assert_eq!(rig.take("f"), ["RESCIND m-O1"]);
    rig.wait(74_000);
    assert_eq!(rig.task("m-0000", "t").unwrap().state, TaskState::Running);
    let mut back = registration("node-1", "b1", "cpus:4;mem:1024");
    back.tasks = vec![rig.report("m-0000", "t", TaskState::Running)];
    rig.register(2, back);
    assert_eq!(rig.sent(2), ["registered m-S0"]);
    assert_eq!(rig.take("f"), ["OFFERS m-O2 m-S0 cpus:3; mem:924"], "nothing is told of the task: nothing changed");
}

#[test]
fn an_agent_that_stays_away_is_unreachable_and_may_bring_its_tasks_back() {
    for (capability, told) in [("GPU_RESOURCES", "TASK_LOST"), ("PARTITION_AWARE", "TASK_UNREACHABLE")] {
        let mut rig = Rig::running("t");
        let info =
            json!({"user": "root", "name": "f", "id": {"value": "m-0000"}, "capabilities": [{"type": capability}]});
        rig.subscribe_with("f2", info);
        rig.take("f2");
        disconnect(&mut rig, 1);
        rig.wait(75_000);
        let events: Vec<_> = rig
            .take("f2")
            .into_iter()
            .filter(|event| !event.starts_with("OFFERS") && !event.starts_with("RESCIND"))
            .collect();
        assert_eq!(events, [format!("UPDATE t {told} REASON_AGENT_REMOVED"), "FAILURE m-S0".to_owned()]);
        assert!(rig.statuses["f2"].last().unwrap().unreachable_time.is_some());
        assert_eq!(rig.task("m-0000", "t").unwrap().state, TaskState::Unreachable);
        let ask = json!({"framework_id": {"value": "m-0000"}, "type": "RECONCILE", "reconcile": {"tasks": []}});
        rig.call("f2", ask);
        assert!(rig.take("f2").is_empty(), "as Mesos: of all it knows, it tells those it counts on");
        let ask = json!({"framework_id": {"value": "m-0000"}, "type": "RECONCILE",
            "reconcile": {"tasks": [{"task_id": {"value": "t"}}]}});
        rig.call("f2", ask);
        assert_eq!(rig.take("f2"), [format!("UPDATE t {told} REASON_RECONCILIATION")]);
        let mut back = registration("node-1", "b1", "cpus:4;mem:1024");
        back.tasks = vec![rig.report("m-0000", "t", TaskState::Running)];
        rig.register(2, back);
        assert_eq!(
            rig.take("f2"),
            ["UPDATE t TASK_RUNNING REASON_AGENT_REREGISTERED", "OFFERS m-O2 m-S0 cpus:3; mem:924"]
        );
        assert_eq!(rig.sent(2), ["registered m-S0"]);
    }
}

#[test]
fn an_agent_that_does_not_answer_pings_is_unreachable() {
    let mut rig = Rig::running("t");
    rig.wait(60_000);
    rig.pong(1);
    rig.wait(74_999);
    assert!(!rig.closed_sessions.contains(&1), "the pong counts");
    rig.wait(15_000);
    assert!(rig.closed_sessions.contains(&1));
    assert!(matches!(rig.master.state().agents[&"m-S0".into()].reachability, Reachability::Unreachable { .. }));
    rig.update(1, "m-0000", "t", TaskState::Finished, 9);
    assert_eq!(rig.task("m-0000", "t").unwrap().state, TaskState::Unreachable, "a closed session says nothing");
}

#[test]
fn a_reboot_keeps_the_id_and_ends_each_task_once() {
    for (capability, told) in [("GPU_RESOURCES", "TASK_LOST"), ("PARTITION_AWARE", "TASK_GONE")] {
        let mut rig = Rig::running("t");
        let info =
            json!({"user": "root", "name": "f", "id": {"value": "m-0000"}, "capabilities": [{"type": capability}]});
        rig.subscribe_with("f2", info);
        rig.take("f2");
        disconnect(&mut rig, 1);
        rig.register(2, registration("node-1", "b2", "cpus:4;mem:1024"));
        assert_eq!(rig.sent(2), ["registered m-S0"]);
        let events = rig.take("f2");
        let updates: Vec<_> = events.iter().filter(|event| event.starts_with("UPDATE")).collect();
        assert_eq!(updates, [&format!("UPDATE t {told} REASON_AGENT_RESTARTED")]);
        assert!(rig.statuses["f2"].last().unwrap().message.as_ref().unwrap().contains("rebooted"));
        assert!(rig.task("m-0000", "t").is_none());
        assert!(
            events
                .iter()
                .any(|event| event.ends_with("m-S0 cpus:4; mem:1024") || event.ends_with("m-S0 cpus:1; mem:100"))
        );
        disconnect(&mut rig, 2);
        rig.register(3, registration("node-1", "b3", "cpus:4;mem:1024"));
        assert!(rig.take("f2").iter().all(|event| !event.starts_with("UPDATE")), "not again");
        assert_eq!(rig.master.state().agents.len(), 1);
    }
}

#[test]
fn a_node_that_lost_power_is_replaced_after_its_old_connection_was_asked() {
    let mut rig = Rig::running("t");
    rig.register(2, registration("node-1", "b2", "cpus:4;mem:1024"));
    assert!(rig.sent(2).is_empty());
    assert_eq!(rig.pings(1).len(), 1, "the old connection is asked");
    rig.wait(1999);
    assert!(rig.task("m-0000", "t").is_some());
    rig.wait(1);
    assert_eq!(rig.sent(2), ["registered m-S0"]);
    assert!(rig.closed_sessions.contains(&1));
    assert!(rig.take("f").contains(&"UPDATE t TASK_LOST REASON_AGENT_RESTARTED".to_owned()));
}

#[test]
fn a_second_agent_with_the_same_identity_is_refused_while_the_first_answers() {
    let mut rig = Rig::running("t");
    rig.register(2, registration("node-1", "b2", "cpus:4;mem:1024"));
    rig.pong(1);
    let sent = rig.sent(2);
    assert!(sent[0].starts_with("refused retry=false node node-1 is registered already"), "{sent:?}");
    assert!(rig.closed_sessions.contains(&2) && !rig.closed_sessions.contains(&1));
    rig.wait(5000);
    assert_eq!(rig.task("m-0000", "t").unwrap().state, TaskState::Running);
    // An old connection that ends meanwhile settles it at once.
    rig.register(3, registration("node-1", "b3", "cpus:4;mem:1024"));
    disconnect(&mut rig, 1);
    assert_eq!(rig.sent(3), ["registered m-S0"]);
}

#[test]
fn tasks_are_compared_when_the_same_boot_is_back() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe("f");
    let tasks = ["lost", "staging", "stays", "killed"].map(|id| task_info(id, "m-S0", 0.5, 10.0));
    rig.accept("f", "m-0000", &["m-O0"], &tasks);
    rig.update(1, "m-0000", "lost", TaskState::Running, 1);
    rig.update(1, "m-0000", "stays", TaskState::Running, 2);
    disconnect(&mut rig, 1);
    rig.kill("f", "m-0000", "killed");
    rig.take("f");
    let mut back = registration("node-1", "b1", "cpus:4;mem:1024");
    let stranger = |framework: &str, task: &str| master_core::ReportedTask {
        framework: framework.into(),
        task: task.into(),
        container: "c".into(),
        state: TaskState::Running,
    };
    back.tasks = vec![
        rig.report("m-0000", "stays", TaskState::Running),
        stranger("m-0000", "forgotten"),
        stranger("m-0099", "whose"),
    ];
    rig.register(2, back);
    assert_eq!(
        rig.sent(2),
        [
            "registered m-S0",
            "run m-0000 killed",
            "run m-0000 staging",
            "kill m-0000 killed Some(3000)",
            "kill m-0000 forgotten None",
            "shutdown m-0099"
        ]
    );
    let updates: Vec<_> = rig.take("f").into_iter().filter(|event| event.starts_with("UPDATE")).collect();
    assert_eq!(updates, ["UPDATE lost TASK_LOST REASON_RECONCILIATION"]);
}

#[test]
fn an_end_known_early_frees_resources_before_it_is_told() {
    let mut rig = Rig::running("t");
    rig.wait(6000);
    rig.take("f");
    let mut status = api::v1::TaskStatus::new("t".into(), TaskState::Running);
    status.uuid = Some(vec![7; 16]);
    let (framework, latest) = ("m-0000".into(), TaskState::Finished);
    let message = AgentMessage::Update { framework, status: Box::new(status), latest };
    rig.input(Input::FromAgent { session: SessionId(1), message });
    assert_eq!(rig.take("f"), ["UPDATE t TASK_RUNNING uuid", "OFFERS m-O2 m-S0 cpus:1; mem:100"]);
    assert_eq!(rig.task("m-0000", "t").unwrap().state, TaskState::Finished);
    rig.acknowledge("f", "m-0000", "m-S0", "t", 7);
    assert!(rig.task("m-0000", "t").is_some(), "its end is not yet told");
    rig.update(1, "m-0000", "t", TaskState::Finished, 8);
    rig.acknowledge("f", "m-0000", "m-S0", "t", 8);
    assert!(rig.task("m-0000", "t").is_none());
}

#[test]
fn new_capacity_is_offered() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe("f");
    rig.take("f");
    let resources = api::Resources::parse("cpus:8;mem:1024").unwrap();
    let message = AgentMessage::Capacity {
        resources,
        attributes: Vec::new(),
        facts: Vec::new(),
        inventory_json: None,
        edition: 0,
    };
    rig.input(Input::FromAgent { session: SessionId(1), message: message.clone() });
    assert_eq!(rig.take("f"), ["RESCIND m-O0", "OFFERS m-O1 m-S0 cpus:8; mem:1024"]);
    rig.input(Input::FromAgent { session: SessionId(1), message });
    assert!(rig.take("f").is_empty(), "the same again changes nothing");
}

#[test]
fn gpu_nodes_are_shown_to_those_who_ask() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024;gpus:2");
    rig.subscribe("f");
    rig.subscribe_with("g", json!({"user": "u", "name": "g", "capabilities": [{"type": "GPU_RESOURCES"}]}));
    assert_eq!(rig.take("f"), ["SUBSCRIBED m-0000"]);
    assert_eq!(rig.take("g"), ["SUBSCRIBED m-0001", "OFFERS m-O0 m-S0 cpus:4; mem:1024; gpus:2"]);
}
