//! What operators may do and see, by Mesos's lists, asked of the real binary.
// Whatever is not expected fails the test.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

// The other suites use all of it.
#[allow(dead_code)]
#[path = "serving/world.rs"]
mod world;

use std::path::Path;

use api::link;
use api::link::from_agent::Message as FromAgent;
use api::link::from_master::Message as FromMaster;
use base64::Engine;
use master_core::acl::Action;
use rcgen::KeyPair;
use serde_json::{Map, Value, json};
use world::{Agent, MAC, Master, Scheduler, join, join_request, request, wait_until};

const FORBIDDEN: &str = "403 Forbidden.";

/// Alice may do everything, bob nothing, carol see frameworks, dave reserve for `ops` and undo what is his.
fn lists() -> Value {
    let mut lists = Map::new();
    for action in Action::ALL {
        let rules = lists.entry(action.list()).or_insert_with(|| json!([]));
        let rule = json!({"principals": {"values": ["alice"]}, action.objects(): {"type": "ANY"}});
        *rules = json!([rule]);
    }
    let mut add = |list: &str, rule: Value| lists[list].as_array_mut().unwrap().push(rule);
    // Frameworks are not asked who they are.
    add("register_frameworks", json!({"principals": {"type": "ANY"}, "roles": {"type": "ANY"}}));
    add("run_tasks", json!({"principals": {"type": "ANY"}, "users": {"type": "ANY"}}));
    add("view_frameworks", json!({"principals": {"values": ["carol"]}, "users": {"values": ["root"]}}));
    add("reserve_resources", json!({"principals": {"values": ["dave"]}, "roles": {"values": ["ops"]}}));
    let dave = json!({"values": ["dave"]});
    add("unreserve_resources", json!({"principals": dave, "reserver_principals": dave}));
    lists.insert("permissive".to_owned(), json!(false));
    Value::Object(lists)
}

fn start(dir: &Path, run: u32) -> Master {
    let credentials = dir.join("credentials");
    std::fs::write(&credentials, "alice pw\nbob pw\ncarol pw\ndave pw\n").unwrap();
    let lists = lists().to_string();
    let flags = ["--insecure-api", "--authenticate-http-readonly", "--authenticate-http-readwrite", "--acls", &lists];
    Master::start(dir, &[&flags[..], &["--credentials", credentials.to_str().unwrap()]].concat(), run)
}

fn authorization(user: &str) -> String {
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{user}:pw"));
    format!("Authorization: Basic {basic}\r\n")
}

fn get(master: &Master, user: &str, path: &str) -> (u16, String) {
    let headers = authorization(user);
    request(&master.ready.http, &format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n{headers}\r\n"))
}

fn read(master: &Master, user: &str, path: &str) -> Value {
    let (status, body) = get(master, user, path);
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

/// An operator's call.
fn call(master: &Master, user: &str, body: &Value) -> (u16, String) {
    let headers = format!("{}Content-Type: application/json\r\n", authorization(user));
    master.post("/api/v1", &headers, &body.to_string())
}

fn answer(master: &Master, user: &str, kind: &str) -> Value {
    let (status, body) = call(master, user, &json!({ "type": kind }));
    assert_eq!(status, 200, "{kind}: {body}");
    serde_json::from_str::<Value>(&body).unwrap()[kind.to_ascii_lowercase()].take()
}

fn form(master: &Master, user: &str, path: &str, body: &str) -> (u16, String) {
    let headers = format!("{}Content-Type: application/x-www-form-urlencoded\r\n", authorization(user));
    master.post(path, &headers, body)
}

/// Both may come as far as this; only one may go on.
fn only_alice(what: &str, ask: impl Fn(&str) -> (u16, String)) {
    assert_eq!(ask("bob"), (403, FORBIDDEN.to_owned()), "{what} by bob");
    let (status, body) = ask("alice");
    assert!(![401, 403, 405, 415].contains(&status), "{what} by alice: {status} {body}");
}

fn reserved(role: &str, by: &str) -> Value {
    json!([{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1},
            "reservations": [{"type": "DYNAMIC", "role": role, "principal": by}]}])
}

async fn agent(master: &Master) -> Agent {
    let key = KeyPair::generate().unwrap();
    let joined = join(master, join_request(&master.boot_token(), &key, MAC)).await.unwrap();
    Agent::register(master, (&joined.certificate_pem, &key), "", vec![]).await
}

fn member(kind: &str, body: Value) -> Value {
    json!({"type": kind, kind.to_ascii_lowercase(): body})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn each_change_is_for_whom_its_list_allows_it() {
    let dir = tempfile::tempdir().unwrap();
    let master = start(dir.path(), 1);
    let agent = agent(&master).await;
    let id = || json!({"value": agent.id});
    let disk = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 64},
        "reservations": [{"type": "DYNAMIC", "role": "ops", "principal": "alice"}],
        "disk": {"persistence": {"id": "v", "principal": "alice"}, "volume": {"mode": "RW", "container_path": "d"}}});
    let plain = json!({"name": "disk", "type": "SCALAR", "scalar": {"value": 64}});
    let machines = json!([{"hostname": "spare.example", "ip": "10.9.0.1"}]);
    let window =
        json!({"machine_ids": machines, "unavailability": {"start": {"nanoseconds": 2_000_000_000_000_000_000_u64}}});
    let limits = json!([{"role": "ops", "limits": {"cpus": {"value": 2}}}]);
    let guarantee = json!({"role": "ops", "guarantee": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}]});
    let resources = || json!({"agent_id": id(), "resources": reserved("ops", "alice")});
    let on_agent = || json!({ "agent_id": id() });
    let level = json!({"level": 0, "duration": {"nanoseconds": 1}});
    for (kind, body) in [
        ("RESERVE_RESOURCES", resources()),
        ("UNRESERVE_RESOURCES", resources()),
        ("CREATE_VOLUMES", json!({"agent_id": id(), "volumes": [disk]})),
        ("GROW_VOLUME", json!({"agent_id": id(), "volume": disk, "addition": plain})),
        ("SHRINK_VOLUME", json!({"agent_id": id(), "volume": disk, "subtract": {"value": 32}})),
        ("DESTROY_VOLUMES", json!({"agent_id": id(), "volumes": [disk]})),
        ("UPDATE_QUOTA", json!({"quota_configs": limits})),
        ("REMOVE_QUOTA", json!({"role": "ops"})),
        ("SET_QUOTA", json!({"quota_request": guarantee})),
        ("UPDATE_WEIGHTS", json!({"weight_infos": [{"role": "ops", "weight": 2}]})),
        ("UPDATE_MAINTENANCE_SCHEDULE", json!({"schedule": {"windows": [window]}})),
        ("START_MAINTENANCE", json!({"machines": machines})),
        ("STOP_MAINTENANCE", json!({"machines": machines})),
        ("SET_LOGGING_LEVEL", level),
        ("DEACTIVATE_AGENT", on_agent()),
        ("REACTIVATE_AGENT", on_agent()),
        ("DRAIN_AGENT", on_agent()),
        ("MARK_AGENT_GONE", json!({"agent_id": {"value": "nobody"}})),
    ] {
        let body = member(kind, body);
        only_alice(kind, |user| call(&master, user, &body));
    }
    for kind in ["GET_FLAGS", "GET_METRICS"] {
        let mut body = json!({ "type": kind });
        if kind == "GET_METRICS" {
            body["get_metrics"] = json!({});
        }
        only_alice(kind, |user| call(&master, user, &body));
    }
    let resources = format!("slaveId={}&resources={}", agent.id, reserved("ops", "alice"));
    let volumes = format!("slaveId={}&volumes={}", agent.id, json!([disk]));
    for (path, body) in [
        ("/reserve", resources.as_str()),
        ("/unreserve", resources.as_str()),
        ("/create-volumes", volumes.as_str()),
        ("/destroy-volumes", volumes.as_str()),
        ("/master/machine/down", machines.to_string().as_str()),
        ("/machine/up", machines.to_string().as_str()),
        ("/maintenance/schedule", json!({"windows": [window]}).to_string().as_str()),
        ("/quota", guarantee.to_string().as_str()),
    ] {
        only_alice(path, |user| form(&master, user, path, body));
    }
    let put = |user: &str| {
        let (head, body) = (authorization(user), r#"[{"role":"ops","weight":3}]"#);
        let length = body.len();
        let raw = format!(
            "PUT /weights HTTP/1.1\r\nHost: m\r\nConnection: close\r\nContent-Length: {length}\r\n{head}\r\n{body}"
        );
        request(&master.ready.http, &raw)
    };
    only_alice("PUT /weights", put);

    let scheduler = Scheduler::subscribe(&master, None);
    let teardown = member("TEARDOWN", json!({"framework_id": {"value": scheduler.id}}));
    assert_eq!(form(&master, "bob", "/teardown", &format!("frameworkId={}", scheduler.id)).0, 403);
    only_alice("TEARDOWN", |user| call(&master, user, &teardown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_rule_may_speak_of_one_role_and_of_whose_reservations_may_be_undone() {
    let dir = tempfile::tempdir().unwrap();
    let master = start(dir.path(), 1);
    let agent = agent(&master).await;
    let reserve = |user: &str, role: &str, kind: &str, by: &str| {
        let body = json!({"agent_id": {"value": agent.id}, "resources": reserved(role, by)});
        call(&master, user, &member(kind, body)).0
    };
    assert_eq!(reserve("dave", "dev", "RESERVE_RESOURCES", "dave"), 403);
    assert_eq!(reserve("dave", "ops", "RESERVE_RESOURCES", "dave"), 202);
    assert_eq!(reserve("alice", "ops", "RESERVE_RESOURCES", "alice"), 202);
    let reservations = || read(&master, "alice", "/slaves")["slaves"][0]["reserved_resources"]["ops"]["cpus"].clone();
    wait_until("reservations", || (reservations() == json!(2.0)).then_some(()));
    assert_eq!(reserve("dave", "ops", "UNRESERVE_RESOURCES", "alice"), 403);
    assert_eq!(reserve("dave", "ops", "UNRESERVE_RESOURCES", "dave"), 202);
    wait_until("release", || (reservations() == json!(1.0)).then_some(()));
    // Who may not see a role does not see what is reserved for it, in whatever way they ask.
    assert_eq!(read(&master, "bob", "/slaves")["slaves"][0]["reserved_resources"], json!({}));
    for (user, count) in [("alice", 1), ("bob", 0)] {
        let agents = answer(&master, user, "GET_AGENTS");
        let total = agents["agents"][0]["total_resources"].as_array().unwrap();
        assert_eq!(total.iter().filter(|one| one["role"] == "ops").count(), count, "{user}: {agents}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reads_show_what_may_be_seen() {
    let dir = tempfile::tempdir().unwrap();
    let master = start(dir.path(), 1);
    let mut agent = agent(&master).await;
    let mut scheduler = Scheduler::subscribe(&master, None);
    let offers = tokio::task::block_in_place(|| scheduler.expect("OFFERS"));
    let task = json!({"name": "t", "task_id": {"value": "t"}, "agent_id": {"value": agent.id}, "command": {"value": "true"},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}}]});
    let accept = json!({"offer_ids": [offers["offers"]["offers"][0]["id"]],
        "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]});
    assert_eq!(scheduler.call("ACCEPT", "accept", &accept).0, 202);
    assert!(matches!(agent.next().await, FromMaster::RunTask(_)));
    let alice = |body: Value| assert_eq!(call(&master, "alice", &body).0, 200, "{body}");
    alice(member("UPDATE_WEIGHTS", json!({"weight_infos": [{"role": "ops", "weight": 2}]})));
    alice(member("UPDATE_QUOTA", json!({"quota_configs": [{"role": "ops", "limits": {"cpus": {"value": 2}}}]})));
    let spare =
        json!({"machine_ids": [{"hostname": "spare.example"}], "unavailability": {"start": {"nanoseconds": 1}}});
    alice(member("UPDATE_MAINTENANCE_SCHEDULE", json!({"schedule": {"windows": [spare]}})));

    // How many frameworks, and how many tasks in them, each of them sees.
    for (user, frameworks, tasks) in [("alice", 1, 1), ("carol", 1, 0), ("bob", 0, 0)] {
        let count = |value: &Value| value.as_array().map_or(0, Vec::len);
        for path in ["/state", "/master/frameworks"] {
            let seen = read(&master, user, path);
            assert_eq!(count(&seen["frameworks"]), frameworks, "{path} {user}");
            assert_eq!(count(&seen["frameworks"][0]["tasks"]), tasks, "{path} {user}");
        }
        assert_eq!(count(&read(&master, user, "/tasks")["tasks"]), tasks, "{user}");
        let summary = read(&master, user, "/state-summary");
        assert_eq!(count(&summary["frameworks"]), frameworks, "{user}");
        assert_eq!(count(&summary["slaves"][0]["framework_ids"]), tasks, "{user}");
        let state = answer(&master, user, "GET_STATE");
        assert_eq!(count(&state["get_frameworks"]["frameworks"]), frameworks, "{user}");
        assert_eq!(count(&state["get_tasks"]["tasks"]), tasks, "{user}");
        assert_eq!(count(&answer(&master, user, "GET_TASKS")["tasks"]), tasks, "{user}");
    }
    for (user, known) in [("alice", true), ("bob", false)] {
        let roles = read(&master, user, "/roles")["roles"].to_string();
        assert_eq!(roles.contains("\"ops\""), known, "{user}: {roles}");
        for path in ["/weights", "/quota", "/maintenance/schedule", "/maintenance/status"] {
            let seen = read(&master, user, path).to_string();
            assert_eq!(seen.contains("\"ops\"") || seen.contains("spare.example"), known, "{path} {user}: {seen}");
        }
        for kind in ["GET_ROLES", "GET_WEIGHTS", "GET_QUOTA", "GET_MAINTENANCE_SCHEDULE", "GET_MAINTENANCE_STATUS"] {
            let seen = answer(&master, user, kind).to_string();
            assert_eq!(seen.contains("\"ops\"") || seen.contains("spare.example"), known, "{kind} {user}: {seen}");
        }
        assert_eq!(read(&master, user, "/state")["flags"].is_object(), known, "{user}");
    }
    for path in [
        "/flags",
        "/metrics/snapshot",
        "/metrics",
        "/logging/toggle",
        "/logging/toggle?level=0&duration=1ms",
        "/files/debug",
        "/mesolith/v1/nodes",
        "/mesolith/v1/nodes/node-770001/inventory",
    ] {
        only_alice(path, |user| get(&master, user, path));
    }

    let sandbox = format!("/mesolith/v1/tasks/{}/t/files/stdout", scheduler.id);
    for path in [sandbox.as_str(), "/mesolith/v1/nodes/node-770001/log"] {
        assert_eq!(get(&master, "bob", path), (403, FORBIDDEN.to_owned()), "{path}");
        assert_eq!(get(&master, "carol", path).0, 403, "{path}");
        let (http, head, path) = (master.ready.http.clone(), authorization("alice"), path.to_owned());
        let reading = tokio::task::spawn_blocking(move || {
            request(&http, &format!("GET {path} HTTP/1.1\r\nHost: m\r\nConnection: close\r\n{head}\r\n"))
        });
        let FromMaster::ReadFile(wanted) = agent.next().await else { panic!("expected ReadFile") };
        let chunk = link::FileChunk {
            request: wanted.request,
            data: b"seen".to_vec(),
            end: true,
            error: String::new(),
            offset: None,
        };
        agent.say(FromAgent::FileChunk(chunk)).await;
        assert_eq!(reading.await.unwrap(), (200, "seen".to_owned()));
    }
}
