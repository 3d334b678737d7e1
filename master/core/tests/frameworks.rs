//! Frameworks that come, go, come back and are removed; and masters that take over.

#[path = "rig/rig.rs"]
mod rig;

use api::TaskState;
use master_core::{Input, Response, State, StreamId};
use rig::{Rig, registration};
use serde_json::json;

fn hang_up(rig: &mut Rig, stream: &str) {
    rig.input(Input::StreamClosed(StreamId(stream.to_owned())));
}

#[test]
fn the_newest_subscription_wins() {
    let mut rig = Rig::running("t");
    rig.wait(6000);
    rig.take("f");
    rig.again("g", "m-0000");
    assert_eq!(rig.take("f"), ["ERROR Framework failed over"], "and no RESCIND");
    assert!(rig.closed_streams.contains("f"));
    assert_eq!(rig.take("g"), ["SUBSCRIBED m-0000", "OFFERS m-O2 m-S0 cpus:3; mem:924"]);
    assert!(matches!(rig.simple("f", "m-0000", "REVIVE"), Some(Response::Refused { status: 400, .. })));
    hang_up(&mut rig, "f");
    assert!(
        rig.master.state().framework(&"m-0000".into()).unwrap().disconnected.is_none(),
        "the old stream's end is late"
    );
    assert_eq!(rig.task("m-0000", "t").unwrap().state, TaskState::Running);
}

#[test]
fn a_framework_may_stay_away_for_its_failover_timeout() {
    let mut rig = Rig::running("t");
    hang_up(&mut rig, "f");
    rig.wait(50_000);
    rig.pong(1);
    rig.wait(49_000);
    rig.pong(1);
    rig.again("g", "m-0000");
    assert!(rig.take("g")[0].starts_with("SUBSCRIBED m-0000"));
    hang_up(&mut rig, "g");
    rig.wait(50_000);
    rig.pong(1);
    rig.wait(51_000);
    assert!(rig.master.state().framework(&"m-0000".into()).is_none());
    assert_eq!(rig.sent(1), ["shutdown m-0000"]);
    let completed = &rig.master.state().completed_frameworks[0];
    let status = completed.completed_tasks[0].last_status().unwrap();
    assert_eq!((status.state(), status.given_reason()), (TaskState::Killed, Some(api::v1::Reason::FrameworkRemoved)));
    rig.again("h", "m-0000");
    assert_eq!(rig.take("h"), ["ERROR Framework has been removed"]);
    assert!(rig.closed_streams.contains("h"));
    rig.subscribe("i");
    assert_eq!(rig.take("i"), ["SUBSCRIBED m-0001", "OFFERS m-O2 m-S0 cpus:4; mem:1024"]);
}

#[test]
fn without_a_failover_timeout_a_framework_that_hangs_up_is_removed() {
    let mut rig = Rig::default();
    rig.subscribe_with("f", json!({"user": "root", "name": "f"}));
    hang_up(&mut rig, "f");
    rig.wait(0);
    assert!(rig.master.state().is_completed(&"m-0000".into()));
}

#[test]
fn teardown_removes_everything_of_a_framework() {
    let mut rig = Rig::running("t");
    assert_eq!(rig.simple("f", "m-0000", "TEARDOWN"), Some(Response::Accepted));
    assert!(rig.closed_streams.contains("f"));
    assert_eq!(rig.sent(1), ["shutdown m-0000"]);
    rig.update(1, "m-0000", "t", TaskState::Killed, 5);
    assert_eq!(rig.sent(1), ["ack m-0000 t 5"], "its last updates are acknowledged");
    assert_eq!(rig.simple("f", "m-0000", "REVIVE"), rig::refused(400, "Framework cannot be found"));
    let mut rig = Rig::running("t");
    rig.input(Input::Teardown { request: master_core::RequestId(900), framework: "m-0000".into() });
    assert_eq!(rig.responses[&900], Response::Ok);
    rig.input(Input::Teardown { request: master_core::RequestId(901), framework: "m-0000".into() });
    assert!(matches!(rig.responses[&901], Response::Refused { status: 400, .. }));
}

#[test]
fn impossible_frameworks_get_an_error_event() {
    for (info, error) in [
        (json!({"roles": ["a"]}), "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"),
        (
            json!({"role": "a", "capabilities": [{"type": "MULTI_ROLE"}]}),
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable",
        ),
        (
            json!({"roles": ["a", "a"], "capabilities": [{"type": "MULTI_ROLE"}]}),
            "'FrameworkInfo.roles' contains duplicate items: { a }",
        ),
        (
            json!({"role": "a//b"}),
            "'FrameworkInfo.role' is not a valid role: Role 'a//b' cannot contain two adjacent slashes",
        ),
        (json!({"failover_timeout": -1e10}), "The framework failover_timeout (-1e+10) is invalid"),
    ] {
        let mut rig = Rig::default();
        let mut full = json!({"user": "u", "name": "n"});
        full.as_object_mut().unwrap().extend(info.as_object().unwrap().clone());
        assert_eq!(rig.subscribe_with("f", full), Some(Response::Stream(StreamId("f".to_owned()))));
        assert_eq!(rig.take("f"), [format!("ERROR {error}")]);
        assert!(rig.closed_streams.contains("f") && rig.master.state().frameworks.is_empty());
    }
}

#[test]
fn an_unknown_well_formed_id_is_accepted() {
    let mut rig = Rig::default();
    rig.again("f", "elsewhere-0042");
    assert_eq!(rig.take("f"), ["SUBSCRIBED elsewhere-0042"]);
    rig.subscribe("g");
    assert_eq!(rig.take("g"), ["SUBSCRIBED m-0000"]);
}

#[test]
fn a_failover_loses_nothing() {
    let mut rig = Rig::running("t").failover();
    assert_eq!(rig.master.view().offers.len(), 0);
    let mut back = registration("node-1", "b1", "cpus:4;mem:1024");
    back.tasks = vec![rig.report("m-0000", "t", TaskState::Running)];
    rig.wait(60_000);
    rig.register(1, back);
    assert_eq!(rig.sent(1), ["registered m-S0"]);
    rig.again("g", "m-0000");
    assert_eq!(
        rig.take("g"),
        ["SUBSCRIBED m-0000", "OFFERS m-O0 m-S0 cpus:3; mem:924"],
        "what the task uses is not offered"
    );
    rig.update(1, "m-0000", "t", TaskState::Finished, 2);
    assert_eq!(rig.take("g"), ["UPDATE t TASK_FINISHED uuid", "OFFERS m-O1 m-S0 cpus:1; mem:100"]);
    rig.acknowledge("g", "m-0000", "m-S0", "t", 2);
    rig.subscribe("h");
    assert_eq!(rig.take("h"), ["SUBSCRIBED m-0001"], "ids go on");
}

#[test]
fn frameworks_have_time_to_find_a_new_leader() {
    let mut rig = Rig::running("t").failover();
    rig.wait(599_000);
    assert!(rig.master.state().framework(&"m-0000".into()).is_some(), "longer than its own 100 s");
    rig.wait(2_000);
    assert!(rig.master.state().framework(&"m-0000".into()).is_none());
}

#[test]
fn the_log_replays_to_the_same_state_and_a_snapshot_is_the_state() {
    let mut rig = Rig::running("t");
    rig.simple("f", "m-0000", "SUPPRESS");
    hang_up(&mut rig, "f");
    let mut replayed = State::default();
    for batch in &rig.log {
        for command in master_core::Command::decode_batch(batch).unwrap() {
            replayed.apply(command);
        }
    }
    assert_eq!(&replayed, rig.master.state());
    assert_eq!(State::from_snapshot(&replayed.to_snapshot()).unwrap(), replayed);
    assert!(State::from_snapshot(b"nonsense").is_err());
}

#[test]
fn who_loses_leadership_lets_everybody_go() {
    let mut rig = Rig::running("t");
    rig.hold = true;
    rig.subscribe("g");
    rig.input(Input::Leading(false));
    assert!(rig.closed_streams.contains("f") && rig.closed_sessions.contains(&1));
    assert!(rig.responses.values().any(|response| matches!(response, Response::Refused { status: 503, .. })));
    assert!(!rig.master.view().leading);
}

#[test]
fn a_scheduler_that_hangs_up_before_its_subscription_commits_is_away() {
    let mut rig = Rig { hold: true, ..Rig::default() };
    rig.subscribe("f");
    hang_up(&mut rig, "f");
    rig.commit();
    assert!(rig.master.state().framework(&"m-0000".into()).unwrap().disconnected.is_some());
    assert!(rig.take("f").is_empty());
}

#[test]
fn update_framework_changes_roles_and_nothing_immutable() {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024");
    rig.subscribe_with(
        "f",
        json!({"user": "root", "name": "f", "roles": ["a"], "capabilities": [{"type": "MULTI_ROLE"}]}),
    );
    assert_eq!(rig.take("f"), ["SUBSCRIBED m-0000", "OFFERS m-O0 m-S0 cpus:4; mem:1024"]);
    assert_eq!(rig.master.view().offers[&"m-O0".into()].role, "a");
    let update = |user: &str| {
        json!({"framework_id": {"value": "m-0000"}, "type": "UPDATE_FRAMEWORK", "update_framework": {"framework_info": {
            "user": user, "name": "f", "id": {"value": "m-0000"}, "roles": ["b"], "capabilities": [{"type": "MULTI_ROLE"}]}}})
    };
    let text = "FrameworkInfo update is not valid: Updating 'FrameworkInfo.user' is unsupported; attempted to update from \
                'root' to 'other'";
    assert_eq!(rig.call("f", update("other")), rig::refused(400, text));
    assert_eq!(rig.call("f", update("root")), Some(Response::Ok));
    rig.decline("f", "m-0000", "m-O0", 0.0);
    rig.wait(1000);
    assert_eq!(rig.master.view().offers[&"m-O1".into()].role, "b");
}
