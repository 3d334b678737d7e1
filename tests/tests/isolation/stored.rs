//! Secrets the masters keep: given by an operator, named by tasks, shown nowhere.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tests::http;

use super::{Case, SOON, World};

pub(super) const CASES: &[Case] = &[("secrets the masters keep", kept), ("secrets and volumes of pods", of_pods)];

fn cli(world: &World, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(&world.rack.options().programs.cli);
    command.args(["--master", world.rack.api_address()]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn reference(name: &str) -> Value {
    json!({"type": "REFERENCE", "reference": {"name": name}})
}

/// A variable and a file.
fn uses(name: &str) -> (Value, Value) {
    let command = json!({"value": "echo $TOKEN; cat secret/file; ls -l secret/file | cut -c1-10", "user": "nobody",
        "environment": {"variables": [{"name": "TOKEN", "type": "SECRET", "secret": reference(name)}]}});
    let container = json!({"type": "MESOS", "volumes": [{"mode": "RO", "container_path": "secret/file",
        "source": {"type": "SECRET", "secret": reference(name)}}]});
    (command, container)
}

fn kept(world: &mut World) {
    let put = cli(world, &["secrets", "put", "team/db"], "sealed word\n");
    assert!(put.status.success(), "{put:?}");
    let listed = cli(world, &["secrets", "list", "--json"], "");
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(listed.contains("team/db") && listed.contains("11") && !listed.contains("sealed"), "{listed}");
    let (command, container) = uses("team/db");
    world.launch("by-reference", command, json!({ "container": container }));
    let end = world.tasks.wait_first_end("by-reference", SOON).unwrap();
    assert_eq!(end["state"], "TASK_FINISHED", "{end}");
    assert_eq!(world.stdout("by-reference"), "sealed word\nsealed word-r--------\n");
    // Nowhere else: neither in what the master shows and keeps, nor in its log.
    for path in ["/state", "/tasks", "/mesolith/v1/secrets", "/mesolith/v1/snapshot"] {
        let answer = http::get(&format!("{}{path}", world.rack.api_url()), SOON).unwrap();
        assert_eq!(answer.status, 200, "{path}");
        let shown = answer.body.windows(11).any(|part| part == b"sealed word");
        assert!(!shown, "{path} shows it");
    }
    let log = std::fs::read_to_string(world.rack.dir().join("master.log")).unwrap_or_default();
    assert!(!log.contains("sealed word"), "the master's log shows it");
    assert!(log.contains("audit: secret"), "{log}");
    // By a rule of the master's list nobody names these.
    let put = cli(world, &["secrets", "put", "closed/key"], "x");
    assert!(put.status.success(), "{put:?}");
    let (command, container) = uses("closed/key");
    world.launch("closed-secret", command, json!({ "container": container }));
    let end = world.tasks.wait_first_end("closed-secret", SOON).unwrap();
    assert_eq!((&end["state"], &end["reason"]), (&json!("TASK_ERROR"), &json!("REASON_TASK_UNAUTHORIZED")), "{end}");
    assert!(cli(world, &["secrets", "delete", "team/db"], "").status.success());
    assert!(!cli(world, &["secrets", "delete", "team/db"], "").status.success());
    let (command, container) = uses("team/db");
    world.launch("deleted", command, json!({ "container": container }));
    let end = world.tasks.wait_first_end("deleted", SOON).unwrap();
    assert!(end["message"].as_str().unwrap().contains("no secret 'team/db'"), "{end}");
}

/// A task group's tasks have theirs, and share what is in the group's sandbox.
fn of_pods(world: &mut World) {
    assert!(cli(world, &["secrets", "put", "pod"], "of the pod").status.success());
    let framework = json!({"value": world.tasks.framework.id});
    let operations = |offer: &Value| {
        let task = |id: &str, command: &str| {
            super::task(
                offer,
                id,
                json!({"value": command, "environment": {"variables": [{"name": "TOKEN", "type": "SECRET", "secret": reference("pod")}]}}),
                &json!({"container": {"type": "MESOS", "volumes": [{"mode": "RW", "container_path": "both", "source":
                    {"type": "SANDBOX_PATH", "sandbox_path": {"type": "PARENT", "path": "shared"}}}]}}),
            )
        };
        let executor = json!({"type": "DEFAULT", "executor_id": {"value": "keeper"}, "framework_id": framework,
            "resources": super::of_offer(offer, &json!([super::scalar("cpus", 0.1), super::scalar("mem", 32.0), super::scalar("disk", 16.0)]))});
        let group = json!({"tasks": [task("pod-one", "echo from one > both/word; echo one $TOKEN"),
            task("pod-two", "while ! [ -s both/word ]; do sleep 1; done; cat both/word; echo two $TOKEN")]});
        let enough = offer["resources"].as_array().unwrap().iter().any(|one| one["name"] == "mem");
        enough.then(|| json!([{"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": group}}]))
    };
    world.tasks.accept_first(operations, SOON).unwrap();
    for (id, said) in [("pod-one", "one of the pod\n"), ("pod-two", "from one\ntwo of the pod\n")] {
        let end = world.tasks.wait_first_end(id, SOON).unwrap();
        assert_eq!((end["state"].as_str(), world.stdout(id).as_str()), (Some("TASK_FINISHED"), said), "{end}");
    }
}
