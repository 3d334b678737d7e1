//! Documents of a cluster that is made up.
#![allow(clippy::fn_params_excessive_bools)] // a task runs or has ended

use std::sync::Arc;

use api::TaskState;
use api::v1::{TaskInfo, TaskStatus};
use master_core::command::{LaunchTask, SubscribeFramework};
use master_core::{Command, Config, Master, Registration, State, View};
use serde_json::{Value, json};

use super::*;
use crate::http::router::Facts;

/// Agents, frameworks, and of each framework so many tasks that run and that have ended.
pub(crate) fn cluster(agents: u64, frameworks: u64, running: u64, ended: u64) -> Arc<View> {
    Master::new(Config::default(), made_up(agents, frameworks, running, ended)).view()
}

/// A picture of one, and another after something happened to its first framework.
pub(crate) fn cluster_then(
    agents: u64,
    frameworks: u64,
    running: u64,
    ended: u64,
    happen: impl FnOnce(&mut State, &dyn Fn(&mut State, u64, bool)),
) -> (Arc<View>, Arc<View>) {
    let mut state = made_up(agents, frameworks, running, ended);
    let before = Master::new(Config::default(), state.clone()).view();
    let framework = state.frameworks.keys().next().cloned().unwrap();
    happen(&mut state, &|state, number, runs| launch(state, &framework, number, agents, runs));
    (before, Master::new(Config::default(), state).view())
}

fn made_up(agents: u64, frameworks: u64, running: u64, ended: u64) -> State {
    let mut state = State::default();
    state.apply(Command::FoundCluster { id: "m".to_owned().into() });
    for number in 0..agents {
        let registration = Registration {
            node: format!("node-{number}").into(),
            boot_id: "b".to_owned(),
            agent: None,
            hostname: format!("node-{number}.example"),
            address: "10.0.0.1".to_owned(),
            version: "0.1.0".to_owned(),
            capabilities: api::v1::OUR_AGENTS,
            kernel: "6.12".to_owned(),
            resources: api::Resources::parse("cpus:64;mem:65536;disk:100000;ports:[31000-32000]").unwrap(),
            attributes: Vec::new(),
            facts: Vec::new(),
            inventory_json: String::new(),
            tasks: Vec::new(),
            edition: 0,
            executors: Vec::new(),
        };
        let agent = agent_id(number);
        state.apply(Command::RegisterAgent { agent, registration: Box::new(registration), at: 1000 });
    }
    for framework in 0..frameworks {
        let id: api::FrameworkId = format!("26c9936e-971f-4a25-9cd1-d9f314d1d505-{framework:04}").into();
        let info = serde_json::from_value(json!({"user": "root", "name": "f", "failover_timeout": 1e6})).unwrap();
        state.apply(Command::SubscribeFramework(Box::new(SubscribeFramework {
            framework: id.clone(),
            info,
            suppressed_roles: Vec::new(),
            offer_constraints: None,
            stream: "s".to_owned(),
            at: 1000,
        })));
        for number in 0..running + ended {
            launch(&mut state, &id, number, agents, number < running);
        }
    }
    state
}

fn agent_id(number: u64) -> api::AgentId {
    format!("26c9936e-971f-4a25-9cd1-d9f314d1d505-S{number}").into()
}

fn launch(state: &mut State, framework: &api::FrameworkId, number: u64, agents: u64, runs: bool) {
    let (agent, name) = (agent_id(number % agents), format!("task-{number:08}"));
    let info: TaskInfo = serde_json::from_value(json!({
        "name": name, "task_id": {"value": name}, "agent_id": {"value": agent},
        "command": {"value": "sleep 100"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                      {"name": "mem", "type": "SCALAR", "scalar": {"value": 32.0}}],
    }))
    .unwrap();
    state.apply(Command::LaunchTask(Box::new(LaunchTask {
        framework: framework.clone(),
        agent: agent.clone(),
        role: "*".to_owned(),
        container: "1543c1d4-0b40-4304-8dc8-ab93b437ade2".to_owned().into(),
        info,
        resources: api::Resources::parse("cpus:0.1;mem:32").unwrap(),
        at: 2000 + number,
        executor: None,
        group: None,
    })));
    let states = [TaskState::Starting, TaskState::Running, TaskState::Finished];
    for task_state in &states[..if runs { 2 } else { 3 }] {
        let status: TaskStatus = serde_json::from_value(json!({
            "task_id": {"value": name}, "state": task_state.name(), "timestamp": 3000.25,
            "container_status": {"container_id": {"value": "1543c1d4-0b40-4304-8dc8-ab93b437ade2"},
                "network_infos": [{"ip_addresses": [{"protocol": "IPv4", "ip_address": "10.0.0.1"}]}]},
        }))
        .unwrap();
        let (framework, agent, status) = (framework.clone(), agent.clone(), Box::new(status));
        state.apply(Command::UpdateTask { framework, agent, status, latest: *task_state, at: 3000 });
    }
}

pub(super) fn facts() -> Arc<Facts> {
    Arc::new(Facts {
        mesos_version: "1.11.0",
        hostname: "localhost".to_owned(),
        http: "localhost:5050".to_owned(),
        ip: "127.0.0.1".to_owned(),
        port: 5050,
        cluster: None,
        started_ms: 1,
        flags: [("port".to_owned(), "5050".to_owned())].into(),
        event_streams: 10,
        ca_sha256: String::new(),
    })
}

fn written(pieces: Vec<Piece>) -> Vec<u8> {
    pieces.into_iter().flat_map(|piece| piece()).collect()
}

fn read(pieces: Vec<Piece>) -> Value {
    serde_json::from_slice(&written(pieces)).unwrap()
}

#[test]
fn state_holds_every_task_once_and_has_mesoss_shape() {
    let view = cluster(7, 3, 700, 300);
    let state = read(state::plan(&view, &facts(), &Approvers::default()));
    assert_eq!(state["slaves"].as_array().unwrap().len(), 7);
    assert_eq!(state["frameworks"].as_array().unwrap().len(), 3);
    for framework in state["frameworks"].as_array().unwrap() {
        let tasks = |key: &str| framework[key].as_array().unwrap().len();
        assert_eq!((tasks("tasks"), tasks("unreachable_tasks"), tasks("completed_tasks")), (700, 0, 300));
        assert_eq!(framework["used_resources"]["cpus"], json!(70.0));
    }
    let used: f64 =
        state["slaves"].as_array().unwrap().iter().map(|one| one["used_resources"]["mem"].as_f64().unwrap()).sum();
    assert!((used - 3.0 * 700.0 * 32.0).abs() < 1e-6);
    let mut keys: Vec<&str> = state.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let mut mesos = vec![
        "activated_slaves",
        "build_date",
        "build_time",
        "build_user",
        "capabilities",
        "completed_frameworks",
        "deactivated_slaves",
        "flags",
        "frameworks",
        "hostname",
        "id",
        "leader",
        "leader_info",
        "mesolith_version",
        "orphan_tasks",
        "pid",
        "recovered_slaves",
        "slaves",
        "start_time",
        "unreachable_slaves",
        "unregistered_frameworks",
        "version",
    ];
    mesos.sort_unstable();
    assert_eq!(keys, mesos);
    let task = &state["frameworks"][0]["completed_tasks"][0];
    assert_eq!(task["statuses"].as_array().unwrap().len(), 3);
    assert_eq!(task["statuses"][2]["state"], "TASK_FINISHED");
    assert_eq!(task["resources"], json!({"disk": 0.0, "mem": 32.0, "gpus": 0.0, "cpus": 0.1}));
}

#[test]
fn the_summary_counts_tasks_by_agent_and_framework() {
    let view = cluster(2, 2, 10, 4);
    let summary = read(summary::plan(&view, &facts(), &Approvers::default()));
    let framework = &summary["frameworks"][1];
    assert_eq!((&framework["TASK_RUNNING"], &framework["TASK_FINISHED"]), (&json!(10), &json!(4)));
    assert_eq!(framework["slave_ids"].as_array().unwrap().len(), 2);
    assert_eq!(summary["slaves"][0]["TASK_RUNNING"], json!(10));
    assert_eq!(summary["slaves"][0]["framework_ids"].as_array().unwrap().len(), 2);
}

#[test]
fn what_may_not_be_seen_is_left_out() {
    let acls = r#"{"permissive":true,"view_frameworks":[{"principals":{"type":"ANY"},"users":{"type":"NONE"}}],
        "view_roles":[{"principals":{"type":"ANY"},"roles":{"type":"NONE"}}],
        "view_flags":[{"principals":{"type":"ANY"},"flags":{"type":"NONE"}}]}"#;
    let approvers = Approvers::new(
        Arc::new(master_core::acl::Acls::parse(acls).unwrap()),
        Some("dev"),
        crate::http::auth::Rank::Ordinary,
    );
    let view = cluster(2, 2, 3, 1);
    let state = read(state::plan(&view, &facts(), &approvers));
    assert_eq!((&state["frameworks"], &state["flags"]), (&json!([]), &Value::Null));
    assert_eq!(state["slaves"].as_array().unwrap().len(), 2);
    assert_eq!(read(frameworks::plan(&view, None, &approvers))["frameworks"], json!([]));
    assert_eq!(read(roles::plan(&view, &approvers)), json!({"roles": []}));
    let all = read(roles::plan(&view, &Approvers::default()));
    assert_eq!(all["roles"][0]["allocated"], json!({"cpus": 0.6, "mem": 192.0}));
}

#[test]
fn slaves_are_filtered_and_shown_in_full() {
    let view = cluster(3, 1, 3, 0);
    let wanted = agent_id(1);
    let slaves = read(slaves::plan(&view, Some(wanted.as_str()), &Approvers::default()));
    let slaves = slaves["slaves"].as_array().unwrap();
    assert_eq!(slaves.len(), 1);
    assert_eq!(slaves[0]["used_resources_full"][0]["allocation_info"], json!({"role": "*"}));
    assert_eq!(slaves[0]["unreserved_resources_full"][0]["role"], "*");
}
