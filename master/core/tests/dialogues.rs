//! Conversations between schedulers, the master and agents.

#[path = "rig/rig.rs"]
mod rig;

use api::TaskState;
use master_core::{Input, Response, SessionId, StreamId};
use rig::{Rig, refused, registration, task_info};
use serde_json::json;

#[test]
fn a_task_is_offered_accepted_run_finished_and_acknowledged() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024;ports:[31000-32000]");
    assert_eq!(rig.sent(1), ["registered m-S0"]);
    assert_eq!(rig.subscribe("f"), Some(Response::Stream(StreamId("f".to_owned()))));
    assert_eq!(
        rig.events.remove("f").unwrap(),
        ["SUBSCRIBED m-0000", "HEARTBEAT", "OFFERS m-O0 m-S0 cpus:4; mem:1024; ports:[31000-32000]"]
    );
    rig.accept("f", "m-0000", &["m-O0"], &[task_info("t", "m-S0", 1.0, 100.0)]);
    assert_eq!(rig.sent(1), ["run m-0000 t"]);
    rig.update(1, "m-0000", "t", TaskState::Running, 1);
    assert_eq!(rig.take("f"), ["UPDATE t TASK_RUNNING uuid"]);
    let status = rig.statuses["f"].last().unwrap().clone();
    assert_eq!(status.agent_id.unwrap().as_str(), "m-S0");
    assert_eq!(status.uuid, Some(rig::uuid_bytes(1)));
    rig.update(1, "m-0000", "t", TaskState::Running, 1);
    assert_eq!(rig.take("f"), ["UPDATE t TASK_RUNNING uuid"], "a repeated update is forwarded again");
    assert_eq!(rig.task("m-0000", "t").unwrap().statuses.len(), 1, "but not applied again");
    rig.acknowledge("f", "m-0000", "m-S0", "t", 1);
    assert_eq!(rig.sent(1), ["ack m-0000 t 1"]);
    rig.wait(6000);
    assert_eq!(rig.take("f"), ["OFFERS m-O1 m-S0 cpus:3; mem:924; ports:[31000-32000]"]);
    rig.update(1, "m-0000", "t", TaskState::Finished, 2);
    assert_eq!(
        rig.take("f"),
        ["UPDATE t TASK_FINISHED uuid", "OFFERS m-O2 m-S0 cpus:1; mem:100"],
        "freed resources are offered at once"
    );
    assert!(rig.task("m-0000", "t").is_some(), "until acknowledged");
    rig.acknowledge("f", "m-0000", "m-S0", "t", 2);
    assert_eq!(rig.sent(1), ["ack m-0000 t 2"]);
    assert!(rig.task("m-0000", "t").is_none());
    let framework = rig.master.state().framework(&"m-0000".into()).unwrap();
    assert_eq!(framework.completed_tasks[0].state, TaskState::Finished);
    rig.update(1, "m-0000", "t", TaskState::Finished, 2);
    assert_eq!(rig.sent(1), ["ack m-0000 t 2"], "an update nobody waits for is acknowledged");
    assert!(rig.take("f").is_empty());
}

#[test]
fn an_offer_looks_as_mesos_frameworks_expect() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe("f");
    let view = rig.master.view();
    let offer = view.offers.values().next().unwrap();
    assert_eq!((offer.role.as_str(), offer.agent.as_str()), ("*", "m-S0"));
    assert!(view.connected_agents.contains(&"m-S0".into()) && view.connected_frameworks.contains(&"m-0000".into()));
    // The same picture until something happens.
    assert!(std::sync::Arc::ptr_eq(&view, &rig.master.view()));
}

#[test]
fn heartbeats_come_every_fifteen_seconds() {
    let mut rig = Rig::default();
    rig.subscribe("f");
    rig.wait(30_000);
    assert_eq!(rig.events["f"], ["SUBSCRIBED m-0000", "HEARTBEAT", "HEARTBEAT", "HEARTBEAT"]);
}

#[test]
fn a_decline_filters_the_agent_until_the_refusal_ends() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe("f");
    rig.take("f");
    rig.decline("f", "m-0000", "m-O0", 5.0);
    rig.wait(4999);
    assert!(rig.take("f").is_empty());
    rig.wait(1);
    assert_eq!(rig.take("f"), ["OFFERS m-O1 m-S0 cpus:4; mem:1024"]);
    rig.decline("f", "m-0000", "m-O1", 0.0);
    rig.wait(999);
    assert!(rig.take("f").is_empty(), "no refusal still waits for the next batch");
    rig.wait(1);
    assert_eq!(rig.take("f"), ["OFFERS m-O2 m-S0 cpus:4; mem:1024"]);
    rig.decline("f", "m-0000", "m-O2", 1000.0);
    rig.simple("f", "m-0000", "SUPPRESS");
    rig.wait(2000);
    rig.simple("f", "m-0000", "REVIVE");
    assert_eq!(rig.take("f"), ["OFFERS m-O3 m-S0 cpus:4; mem:1024"], "REVIVE forgets refusals");
    rig.decline("f", "m-0000", "m-O3", 1000.0);
    rig.decline("f", "m-0000", "m-O3", 1000.0);
    rig.subscribe("g");
    rig.wait(1000);
    assert_eq!(rig.take("g"), ["SUBSCRIBED m-0001", "OFFERS m-O4 m-S0 cpus:4; mem:1024"], "others may have it");
}

#[test]
fn suppressed_frameworks_get_no_offers() {
    let mut rig = Rig::default();
    rig.subscribe("f");
    rig.simple("f", "m-0000", "SUPPRESS");
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.wait(10_000);
    assert_eq!(rig.take("f"), ["SUBSCRIBED m-0000"]);
    assert!(rig.master.state().framework(&"m-0000".into()).unwrap().suppressed_roles.contains("*"));
    rig.simple("f", "m-0000", "REVIVE");
    assert_eq!(rig.take("f"), ["OFFERS m-O0 m-S0 cpus:4; mem:1024"]);
}

#[test]
fn what_is_wrong_with_a_task_is_told() {
    let long = "x".repeat(256);
    let mut no_command = task_info("t", "m-S0", 1.0, 1.0);
    no_command.as_object_mut().unwrap().remove("command");
    let mut executor = no_command.clone();
    executor["executor"] = json!({"executor_id": {"value": "e"}, "type": "CUSTOM"});
    let mut nothing = task_info("t", "m-S0", 1.0, 1.0);
    nothing["resources"] = json!([]);
    let mut negative = task_info("t", "m-S0", 1.0, 1.0);
    negative["kill_policy"] = json!({"grace_period": {"nanoseconds": -1}});
    let mut limited = task_info("t", "m-S0", 1.0, 1.0);
    limited["limits"] = json!({"mem": {"value": 0.5}});
    for (task, message) in [
        (task_info(&long, "m-S0", 1.0, 1.0), "ID must not be greater than 255 characters"),
        (task_info("a/b", "m-S0", 1.0, 1.0), "'a/b' contains invalid characters"),
        (task_info("t", "m-S9", 1.0, 1.0), "Task uses invalid agent m-S9 while agent m-S0 is expected"),
        (negative, "Task's 'kill_policy.grace_period' must be non-negative"),
        (nothing, "Task uses no resources"),
        (no_command, "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"),
        (executor, "'ExecutorInfo.command' must be set for 'CUSTOM' executor"),
        (limited, "The memory limit must be greater than or equal to the memory request"),
        (
            task_info("t", "m-S0", 5.0, 1.0),
            "Total resources cpus(allocated: *):5; mem(allocated: *):1 required by task and its executor is more than \
             available cpus(allocated: *):4; mem(allocated: *):1024",
        ),
    ] {
        let mut rig = Rig::default();
        rig.agent(1, "node-1", "cpus:4;mem:1024");
        rig.subscribe("f");
        rig.take("f");
        let good = task_info("good", "m-S0", 1.0, 1.0);
        rig.accept("f", "m-0000", &["m-O0"], &[task, good]);
        let status = rig.statuses["f"][0].clone();
        assert_eq!(status.message.as_deref(), Some(message));
        assert_eq!((status.state(), &status.uuid), (TaskState::Error, &None));
        assert_eq!(status.given_reason(), Some(api::v1::Reason::TaskInvalid));
        assert!(rig.task("m-0000", "good").is_some(), "the others are launched");
    }
}

#[test]
fn a_task_id_in_use_is_refused_also_before_the_first_is_committed() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.agent(2, "node-2", "cpus:4;mem:1024");
    rig.subscribe("f");
    rig.hold = true;
    let offers: Vec<_> = rig.master.view().offers.values().cloned().collect();
    for offer in &offers {
        rig.accept("f", "m-0000", &[offer.id.as_str()], &[task_info("t", offer.agent.as_str(), 1.0, 1.0)]);
    }
    assert_eq!(rig.statuses["f"].last().unwrap().message.as_deref(), Some("Task has duplicate ID: t"));
    rig.commit();
    assert_eq!(rig.master.state().tasks().count(), 1);
}

#[test]
fn launches_with_invalid_offers_are_dropped_or_lost_and_the_valid_offers_come_back() {
    for (capability, state) in [("GPU_RESOURCES", TaskState::Lost), ("PARTITION_AWARE", TaskState::Dropped)] {
        let mut rig = Rig::default();
        rig.agent(1, "node-1", "cpus:4;mem:1024");
        rig.subscribe_with("f", json!({"user": "u", "name": "n", "capabilities": [{"type": capability}]}));
        rig.take("f");
        rig.accept("f", "m-0000", &["m-O0", "m-O7"], &[task_info("t", "m-S0", 1.0, 1.0)]);
        let status = rig.statuses["f"][0].clone();
        assert_eq!((status.state(), status.given_reason()), (state, Some(api::v1::Reason::InvalidOffers)));
        assert_eq!(status.message.unwrap(), "Task launched with invalid offers: Offer m-O7 is no longer valid");
        rig.take("f");
        rig.wait(1000);
        assert_eq!(rig.take("f"), ["OFFERS m-O1 m-S0 cpus:4; mem:1024"], "without a filter");
        rig.accept("f", "m-0000", &[], &[task_info("t", "m-S0", 1.0, 1.0)]);
        assert!(rig.statuses["f"][1].message.as_ref().unwrap().ends_with("No offers specified"));
    }
}

#[test]
fn task_groups_are_answered() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe("f");
    rig.take("f");
    let group = json!({"executor": {"type": "DEFAULT", "executor_id": {"value": "e"}},
        "task_group": {"tasks": [task_info("a", "m-S0", 1.0, 1.0), task_info("b", "m-S0", 1.0, 1.0)]}});
    rig.call("f", json!({"framework_id": {"value": "m-0000"}, "type": "ACCEPT", "accept": {"offer_ids": [{"value": "m-O0"}],
        "operations": [{"type": "LAUNCH_GROUP", "launch_group": group}, {"type": "RESERVE", "reserve": {"resources": []}}]}}));
    let expected = ["a", "b"].map(|task| format!("UPDATE {task} TASK_ERROR REASON_TASK_GROUP_INVALID"));
    assert_eq!(rig.take("f"), expected);
}

#[test]
fn a_kill_reaches_the_agent_also_when_it_was_away() {
    let mut rig = Rig::running("t");
    rig.kill("f", "m-0000", "t");
    assert_eq!(rig.sent(1), ["kill m-0000 t Some(3000)"]);
    rig.input(Input::AgentDisconnected(SessionId(1)));
    let mut back = registration("node-1", "b1", "cpus:4;mem:1024");
    back.tasks = vec![rig.report("m-0000", "t", TaskState::Running)];
    rig.register(2, back);
    assert_eq!(rig.sent(2), ["registered m-S0", "kill m-0000 t Some(3000)"]);
    rig.update(2, "m-0000", "t", TaskState::Killed, 2);
    assert!(rig.take("f").contains(&"UPDATE t TASK_KILLED uuid".to_owned()));
    rig.kill("f", "m-0000", "nobody");
    assert_eq!(rig.take("f"), ["UPDATE nobody TASK_LOST REASON_RECONCILIATION"]);
}

#[test]
fn a_kill_overtakes_no_launch() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe("f");
    rig.sent(1);
    rig.hold = true;
    rig.accept("f", "m-0000", &["m-O0"], &[task_info("t", "m-S0", 1.0, 1.0)]);
    rig.kill("f", "m-0000", "t");
    assert!(rig.sent(1).is_empty(), "nothing is told before it is committed");
    rig.commit();
    assert_eq!(rig.sent(1), ["run m-0000 t", "kill m-0000 t Some(3000)"]);
}

#[test]
fn reconciliation_answers_for_every_task() {
    let mut rig = Rig::running("t");
    let reconcile = |rig: &mut Rig, tasks: serde_json::Value| {
        rig.call("f", json!({"framework_id": {"value": "m-0000"}, "type": "RECONCILE", "reconcile": {"tasks": tasks}}));
        rig.take("f")
    };
    assert_eq!(reconcile(&mut rig, json!([])), ["UPDATE t TASK_RUNNING REASON_RECONCILIATION"]);
    let asked = json!([{"task_id": {"value": "t"}}, {"task_id": {"value": "x"}, "agent_id": {"value": "m-S0"}},
                       {"task_id": {"value": "y"}, "agent_id": {"value": "m-S7"}}]);
    assert_eq!(
        reconcile(&mut rig, asked.clone()),
        [
            "UPDATE t TASK_RUNNING REASON_RECONCILIATION",
            "UPDATE x TASK_LOST REASON_RECONCILIATION",
            "UPDATE y TASK_LOST REASON_RECONCILIATION"
        ]
    );
    let info =
        json!({"user": "root", "name": "f", "id": {"value": "m-0000"}, "capabilities": [{"type": "PARTITION_AWARE"}]});
    rig.subscribe_with("f", info);
    rig.take("f");
    assert_eq!(
        reconcile(&mut rig, asked),
        [
            "UPDATE t TASK_RUNNING REASON_RECONCILIATION",
            "UPDATE x TASK_GONE REASON_RECONCILIATION",
            "UPDATE y TASK_UNKNOWN REASON_RECONCILIATION"
        ]
    );
}

#[test]
fn calls_are_refused_in_mesos_words() {
    let mut rig = Rig::default();
    rig.subscribe("f");
    let id = json!({"value": "m-0000"});
    for (stream, call, status, text) in [
        ("f", json!({}), 400, "Failed to validate scheduler::Call: Expecting 'type' to be present"),
        ("f", json!({"type": "DANCE"}), 400, "Failed to validate scheduler::Call: Expecting 'type' to be present"),
        (
            "n",
            json!({"type": "SUBSCRIBE"}),
            400,
            "Failed to validate scheduler::Call: Expecting 'subscribe' to be present",
        ),
        (
            "n",
            json!({"type": "SUBSCRIBE", "framework_id": id, "subscribe": {"framework_info": {"user": "u", "name": "n"}}}),
            400,
            "Failed to validate scheduler::Call: 'framework_id' differs from 'subscribe.framework_info.id'",
        ),
        (
            "f",
            json!({"type": "REVIVE"}),
            400,
            "Failed to validate scheduler::Call: Expecting 'framework_id' to be present",
        ),
        (
            "f",
            json!({"type": "ACCEPT", "framework_id": id}),
            400,
            "Failed to validate scheduler::Call: Expecting 'accept' to be present",
        ),
        (
            "f",
            json!({"type": "ACKNOWLEDGE", "framework_id": id, "acknowledge": {"agent_id": {"value": "s"},
                "task_id": {"value": "t"}, "uuid": "YQ=="}}),
            400,
            "Failed to validate scheduler::Call: Not a valid UUID",
        ),
        ("f", json!({"type": "REVIVE", "framework_id": {"value": "x"}}), 400, "Framework cannot be found"),
        (
            "",
            json!({"type": "REVIVE", "framework_id": id}),
            400,
            "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
        ),
        (
            "g",
            json!({"type": "REVIVE", "framework_id": id}),
            400,
            "The stream ID 'g' included in this request didn't match the stream ID currently associated with framework ID m-0000",
        ),
        ("f", json!({"type": "UNKNOWN", "framework_id": id}), 501, ""),
    ] {
        assert_eq!(rig.call(stream, call), refused(status, text));
    }
    assert_eq!(rig.simple("f", "m-0000", "REVIVE"), Some(Response::Accepted));
    rig.input(Input::StreamClosed(StreamId("f".to_owned())));
    assert_eq!(rig.simple("f", "m-0000", "REVIVE"), refused(403, "Framework is not subscribed"));
}

#[test]
fn a_follower_decides_nothing() {
    let mut rig = Rig::follower(master_core::State::default(), 5);
    assert_eq!(rig.simple("f", "m-0000", "REVIVE"), refused(503, "No leader elected"));
    rig.agent(1, "node-1", "cpus:4");
    assert!(rig.sent(1)[0].starts_with("refused retry=true"));
    assert!(rig.log.is_empty() && rig.master.next_deadline().is_none());
}
