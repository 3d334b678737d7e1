//! Access control of schedulers' calls: what the lists forbid does not happen, and is told in Mesos's words.
#![allow(clippy::unwrap_used)] // a test's helper may

#[path = "rig/rig.rs"]
mod rig;

use std::sync::Arc;

use api::TaskState;
use api::v1::Reason;
use master_core::acl::Acls;
use master_core::{Config, Response};
use rig::{Rig, config};
use serde_json::{Value, json};

fn forbidding(lists: Value) -> Rig {
    let acls = Arc::new(Acls::parse(&lists.to_string()).unwrap());
    let mut rig = Rig::leading(Config { acls, ..config() });
    rig.agent(1, "node-1", "cpus:4;mem:1024;disk:1000");
    rig
}

fn info(roles: &[&str]) -> Value {
    let capabilities = ["MULTI_ROLE", "RESERVATION_REFINEMENT"].map(|kind| json!({ "type": kind }));
    json!({"user": "root", "name": "f", "principal": "p", "roles": roles, "capabilities": capabilities})
}

fn reserved(name: &str, amount: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": amount},
        "reservations": [{"type": "DYNAMIC", "role": "a", "principal": "p"}]})
}

fn volume(amount: f64) -> Value {
    let mut volume = reserved("disk", amount);
    volume["disk"] =
        json!({"persistence": {"id": "v", "principal": "p"}, "volume": {"mode": "RW", "container_path": "data"}});
    volume
}

fn accept(rig: &mut Rig, operations: Value) {
    let offers: Vec<Value> = rig.master.view().offers.keys().map(|id| json!({ "value": id })).collect();
    let call = json!({"framework_id": {"value": "m-0000"}, "type": "ACCEPT",
        "accept": {"offer_ids": offers, "operations": operations, "filters": {"refuse_seconds": 0.0}}});
    assert_eq!(rig.call("f", call), Some(Response::Accepted));
}

fn task(id: &str, user: &str) -> Value {
    json!({"name": id, "task_id": {"value": id}, "agent_id": {"value": "m-S0"},
        "command": {"value": "true", "user": user},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}]})
}

#[test]
fn a_framework_registers_in_roles_it_may_have() {
    let mut rig = forbidding(json!({"permissive": false,
        "register_frameworks": [{"principals": {"values": ["p"]}, "roles": {"values": ["a", "b/%"]}}]}));
    rig.subscribe_with("no", info(&["a", "c"]));
    assert_eq!(rig.take("no"), ["ERROR Not authorized to register framework  with roles { a, c }"]);
    assert!(rig.closed_streams.contains("no"));
    rig.subscribe_with("f", info(&["a", "b/c"]));
    assert_eq!(rig.take("f")[0], "SUBSCRIBED m-0000");

    let mut new = info(&["a", "d"]);
    new["id"] = json!({"value": "m-0000"});
    let update = json!({"framework_id": {"value": "m-0000"}, "type": "UPDATE_FRAMEWORK",
        "update_framework": {"framework_info": new}});
    let text = "Not authorized to register framework m-0000 with roles { a, d }".to_owned();
    assert_eq!(rig.call("f", update), Some(Response::Refused { status: 403, text }));
}

#[test]
fn tasks_run_as_users_the_principal_may_be() {
    let mut rig = forbidding(json!({
        "run_tasks": [{"principals": {"type": "ANY"}, "users": {"values": ["www"]}},
            {"principals": {"type": "ANY"}, "users": {"type": "NONE"}}]}));
    rig.subscribe_with("f", info(&["a"]));
    let launch = json!([{"type": "LAUNCH", "launch": {"task_infos": [task("bad", "root"), task("good", "www")]}}]);
    accept(&mut rig, launch);
    assert!(rig.task("m-0000", "bad").is_none() && rig.task("m-0000", "good").is_some());
    let told = &rig.statuses["f"][0];
    assert_eq!((told.state(), told.reason()), (TaskState::Error, Reason::TaskUnauthorized));
    let text = "Principal 'p' no authorized to launch task bad of framework m-0000 under user 'root'";
    assert_eq!(told.message.as_deref(), Some(text));
}

#[test]
fn a_group_is_refused_as_a_whole() {
    let mut rig = forbidding(json!({"run_tasks": [{"principals": {"type": "ANY"}, "users": {"values": ["www"]}},
            {"principals": {"type": "ANY"}, "users": {"type": "NONE"}}]}));
    rig.subscribe_with("f", info(&["a"]));
    let executor = json!({"executor_id": {"value": "e"}, "type": "DEFAULT"});
    let group = json!({"tasks": [task("good", "www"), task("bad", "root")]});
    accept(&mut rig, json!([{"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": group}}]));
    let told = &rig.statuses["f"];
    assert_eq!(told.len(), 2);
    for status in told {
        assert_eq!((status.state(), status.reason()), (TaskState::Error, Reason::TaskGroupUnauthorized));
        let text = "Task 'bad' is not authorized tolaunch task bad of framework m-0000 under user 'root'";
        assert_eq!(status.message.as_deref(), Some(text), "as Mesos says it, without the blank");
    }
}

#[test]
fn operations_need_their_own_permissions() {
    let nobody = |objects: &str| json!([{"principals": {"type": "ANY"}, objects: {"type": "NONE"}}]);
    let reserve = json!({"type": "RESERVE", "reserve": {"resources": [reserved("disk", 100.0)]}});
    let create = json!({"type": "CREATE", "create": {"volumes": [volume(50.0)]}});
    let destroy = json!({"type": "DESTROY", "destroy": {"volumes": [volume(50.0)]}});
    let unreserve = json!({"type": "UNRESERVE", "unreserve": {"resources": [reserved("disk", 50.0)]}});
    let grow =
        json!({"type": "GROW_VOLUME", "grow_volume": {"volume": volume(50.0), "addition": reserved("disk", 50.0)}});
    let shrink = json!({"type": "SHRINK_VOLUME", "shrink_volume": {"volume": volume(50.0), "subtract": {"value": 10}}});
    let steps = [
        ("reserve_resources", "roles", vec![&reserve]),
        ("create_volumes", "roles", vec![&reserve, &create]),
        ("destroy_volumes", "creator_principals", vec![&reserve, &create, &destroy]),
        ("unreserve_resources", "reserver_principals", vec![&reserve, &unreserve]),
        ("resize_volumes", "roles", vec![&reserve, &create, &grow]),
        ("resize_volumes", "roles", vec![&reserve, &create, &shrink]),
    ];
    for (list, objects, operations) in steps {
        for (lists, allowed) in [(json!({ list: nobody(objects) }), false), (json!({}), true)] {
            let mut rig = forbidding(lists);
            rig.subscribe_with("f", info(&["a"]));
            let mut operations: Vec<Value> = operations.iter().map(|operation| (*operation).clone()).collect();
            operations.last_mut().unwrap()["id"] = json!({"value": "last"});
            accept(&mut rig, json!(operations));
            let told = rig.take("f").into_iter().find(|event| event.starts_with("UPDATE_OPERATION_STATUS last"));
            let state = if allowed { "OPERATION_FINISHED" } else { "OPERATION_ERROR" };
            assert!(told.as_ref().is_some_and(|told| told.contains(state)), "{list} {allowed}: {told:?}");
        }
    }
}
