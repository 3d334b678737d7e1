//! Executors and task groups: launched, accounted for, spoken to, ended, and brought back.

#[path = "rig/rig.rs"]
mod rig;

use api::TaskState;
use master_core::{AgentMessage, Input, ReportedExecutor, Response, SessionId};
use rig::{Rig, registration, task_info};
use serde_json::{Value, json};

fn executor(id: &str, kind: &str) -> Value {
    let mut executor = json!({"executor_id": {"value": id}, "type": kind, "framework_id": {"value": "m-0000"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
                      {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
                      {"name": "disk", "type": "SCALAR", "scalar": {"value": 1}}]});
    if kind == "CUSTOM" {
        executor["command"] = json!({"value": "./run"});
    }
    executor
}

fn with_executor(task: &str, id: &str) -> Value {
    let mut task = task_info(task, "m-S0", 1.0, 100.0);
    task.as_object_mut().expect("a task is an object").remove("command");
    task["executor"] = executor(id, "CUSTOM");
    task
}

fn rig() -> Rig {
    let mut rig = Rig::default();
    rig.agent(1, "node-1", "cpus:4;mem:1024;disk:100");
    rig.subscribe("f");
    rig.take("f");
    rig.sent(1);
    rig
}

fn group(rig: &mut Rig, offer: &str, executor: Value, tasks: &[Value]) {
    let answer = rig.call(
        "f",
        json!({"framework_id": {"value": "m-0000"}, "type": "ACCEPT", "accept": {"offer_ids": [{"value": offer}],
            "operations": [{"type": "LAUNCH_GROUP", "launch_group":
                {"executor": executor, "task_group": {"tasks": tasks}}}]}}),
    );
    assert_eq!(answer, Some(Response::Accepted));
}

/// The master hears of an executor's end.
fn ended(rig: &mut Rig, session: u64, executor: &str) {
    let known = rig.master.state().executors().find(|known| known.id.as_str() == executor);
    let known = known.expect("the executor runs");
    let (framework, container) = (known.framework.clone(), known.container.clone());
    let message = AgentMessage::ExecutorEnded { framework, executor: executor.into(), container, status: 256 };
    rig.input(Input::FromAgent { session: SessionId(session), message });
}

/// What is offered when all is offered again.
fn free(rig: &mut Rig) -> String {
    rig.wait(6_000);
    let events = rig.take("f");
    sorted(&events.into_iter().rfind(|event| event.starts_with("OFFERS")).unwrap_or_default())
}

/// The resources of an offer, by name.
fn sorted(offer: &str) -> String {
    let mut parts: Vec<&str> = offer.splitn(4, ' ').last().unwrap_or_default().split("; ").collect();
    parts.sort_unstable();
    parts.join("; ")
}

#[test]
fn an_executors_resources_are_counted_once_and_freed_when_it_ends() {
    let mut rig = rig();
    rig.accept("f", "m-0000", &["m-O0"], &[with_executor("t1", "e"), with_executor("t2", "e")]);
    assert_eq!(rig.sent(1), ["execute m-0000 t1", "execute m-0000 t2"]);
    assert_eq!(free(&mut rig), "cpus:1.5; disk:99; mem:760");
    rig.accept("f", "m-0000", &["m-O1"], &[with_executor("t3", "e")]);
    assert_eq!(free(&mut rig), "cpus:0.5; disk:99; mem:660", "it runs already");
    rig.simple("f", "m-0000", "SUPPRESS");
    rig.decline("f", "m-0000", "m-O2", 0.0);
    for (uuid, task) in ["t1", "t2", "t3"].into_iter().enumerate() {
        rig.update(1, "m-0000", task, TaskState::Failed, u8::try_from(uuid).unwrap() + 1);
    }
    rig.sent(1);
    ended(&mut rig, 1, "e");
    let told = rig.take("f");
    assert!(told.iter().any(|event| event.starts_with("FAILURE") && event.contains("m-S0")), "{told:?}");
    assert_eq!(rig.sent(1), ["forget m-0000"]);
    rig.simple("f", "m-0000", "REVIVE");
    assert!(free(&mut rig).contains("cpus:4; disk:100; mem:1024"));
}

#[test]
fn one_executor_id_is_one_executor() {
    let mut rig = rig();
    let mut other = with_executor("t2", "e");
    other["executor"]["command"]["value"] = json!("./another");
    rig.accept("f", "m-0000", &["m-O0"], &[with_executor("t1", "e"), other]);
    let told = rig.take("f");
    assert_eq!(told, ["UPDATE t2 TASK_ERROR REASON_TASK_INVALID"]);
    let message = rig.statuses["f"].last().unwrap().message.clone().unwrap();
    assert!(message.starts_with("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID."));
}

#[test]
fn a_group_is_launched_whole_or_not_at_all() {
    let mut rig = rig();
    let (good, mut bad) = (task_info("a", "m-S0", 1.0, 100.0), task_info("b", "m-S0", 1.0, 100.0));
    bad["agent_id"]["value"] = json!("m-S9");
    group(&mut rig, "m-O0", executor("pod", "DEFAULT"), &[good.clone(), bad.clone()]);
    assert_eq!(
        rig.take("f"),
        ["UPDATE a TASK_ERROR REASON_TASK_GROUP_INVALID", "UPDATE b TASK_ERROR REASON_TASK_GROUP_INVALID"]
    );
    assert!(rig.sent(1).is_empty());
    assert!(free(&mut rig).contains("cpus:4; disk:100; mem:1024"), "nothing was taken");
    group(&mut rig, "m-O1", executor("pod", "DEFAULT"), &[good, task_info("b", "m-S0", 1.0, 100.0)]);
    assert_eq!(rig.sent(1), ["run group m-0000 a b"]);
    assert_eq!(free(&mut rig), "cpus:1.5; disk:99; mem:760");
    group(&mut rig, "m-O2", executor("pod", "DEFAULT"), &[task_info("c", "m-S0", 1.0, 100.0)]);
    assert_eq!(rig.sent(1), ["run group m-0000 c"]);
    assert_eq!(free(&mut rig), "cpus:0.5; disk:99; mem:660", "its executor is there");
}

#[test]
fn messages_go_both_ways_and_a_shutdown_reaches_the_agent() {
    let mut rig = rig();
    rig.accept("f", "m-0000", &["m-O0"], &[with_executor("t1", "e")]);
    rig.sent(1);
    let call = |kind: &str, body: Value| {
        let mut call = json!({"framework_id": {"value": "m-0000"}, "type": kind.to_uppercase()});
        call[kind] = body;
        call
    };
    let to = json!({"agent_id": {"value": "m-S0"}, "executor_id": {"value": "e"}});
    let mut message = to.clone();
    message["data"] = json!("aGk=");
    rig.call("f", call("message", message));
    rig.call("f", call("shutdown", to));
    assert_eq!(rig.sent(1), ["say m-0000 e hi", "shutdown m-0000 e"]);
    let said = AgentMessage::ExecutorMessage { framework: "m-0000".into(), executor: "e".into(), data: b"yo".to_vec() };
    rig.input(Input::FromAgent { session: SessionId(1), message: said });
    let told = rig.take("f");
    assert!(told.iter().any(|event| event.starts_with("MESSAGE")), "{told:?}");
}

#[test]
fn executors_come_back_with_their_agent_after_a_failover_and_after_being_unreachable() {
    let mut rig = rig();
    rig.accept("f", "m-0000", &["m-O0"], &[with_executor("t1", "e")]);
    rig.update(1, "m-0000", "t1", TaskState::Running, 1);
    rig.acknowledge("f", "m-0000", "m-S0", "t1", 1);
    let known = rig.master.state().executors().next().unwrap().clone();
    let report = ReportedExecutor {
        framework: known.framework.clone(),
        container: known.container.clone(),
        info: Box::new(known.info.get()),
    };
    let back = |rig: &Rig, executors: Vec<ReportedExecutor>| {
        let mut back = registration("node-1", "b1", "cpus:4;mem:1024;disk:100");
        back.tasks = vec![rig.report("m-0000", "t1", TaskState::Running)];
        back.executors = executors;
        back
    };
    let mut rig = rig.failover();
    let again = back(&rig, vec![report.clone()]);
    rig.register(2, again);
    rig.again("f", "m-0000");
    assert!(free(&mut rig).ends_with("cpus:2.5; disk:99; mem:860"));

    rig.input(Input::AgentDisconnected(SessionId(2)));
    rig.wait(80_000);
    assert_eq!(rig.master.state().executors().count(), 0);
    let again = back(&rig, vec![report]);
    rig.register(3, again);
    assert!(free(&mut rig).ends_with("cpus:2.5; disk:99; mem:860"));

    let again = back(&rig, vec![]);
    rig.input(Input::AgentDisconnected(SessionId(3)));
    rig.register(4, again);
    assert_eq!(rig.master.state().executors().count(), 0, "the agent does not know it any more");
    assert!(free(&mut rig).ends_with("cpus:3; disk:100; mem:924"));
}

#[test]
fn a_reboot_ends_executors() {
    let mut rig = rig();
    rig.accept("f", "m-0000", &["m-O0"], &[with_executor("t1", "e")]);
    rig.input(Input::AgentDisconnected(SessionId(1)));
    rig.register(2, registration("node-1", "b2", "cpus:4;mem:1024;disk:100"));
    assert_eq!(rig.master.state().executors().count(), 0);
    assert!(free(&mut rig).ends_with("cpus:4; disk:100; mem:1024"));
}

#[test]
fn a_launch_the_agent_never_heard_of_is_sent_again_with_its_executor() {
    let mut rig = rig();
    group(
        &mut rig,
        "m-O0",
        executor("pod", "DEFAULT"),
        &[task_info("a", "m-S0", 1.0, 100.0), task_info("b", "m-S0", 1.0, 100.0)],
    );
    assert_eq!(rig.sent(1), ["run group m-0000 a b"], "{:?}", rig.statuses);
    rig.input(Input::AgentDisconnected(SessionId(1)));
    rig.register(2, registration("node-1", "b1", "cpus:4;mem:1024;disk:100"));
    assert_eq!(rig.sent(2), ["registered m-S0", "run group m-0000 a b"]);
    assert_eq!(rig.master.state().executors().count(), 1);
}

#[test]
fn a_framework_that_is_removed_frees_what_its_executors_had() {
    let mut rig = rig();
    rig.accept("f", "m-0000", &["m-O0"], &[with_executor("t1", "e")]);
    rig.sent(1);
    rig.simple("f", "m-0000", "TEARDOWN");
    assert_eq!(rig.sent(1), ["shutdown m-0000"]);
    rig.subscribe("g");
    rig.wait(6_000);
    let offers = rig.take("g");
    assert!(offers.iter().any(|event| sorted(event) == "cpus:4; disk:100; mem:1024"), "{offers:?}");
}
