//! The port of Mesos's agent, as Mesos's tools see it: behind the master's credentials, on a hosted node.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::path::Path;
use std::time::{Duration, Instant};

use api::recordio::Decoder;
use api::v1::ContentType;
use api::v1::agent::{Call, Response, call};
use base64::Engine;
use serde_json::{Value, json};
use tests::bare_master::BareMaster;
use tests::hosted_agent::HostedAgent;
use tests::http;
use tests::tasks::Tasks;

const SOON: Duration = Duration::from_secs(60);

/// A node whose door is open, and a master that asks everybody but frameworks who they are.
struct Stage {
    agent: HostedAgent,
    master: BareMaster,
    door: String,
    authorization: String,
}

impl Stage {
    fn start(dir: &Path) -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let master = BareMaster::start(dir, &[]).unwrap();
        let (http, link) = (master.url.trim_start_matches("http://").to_owned(), master.link.clone());
        let agent =
            HostedAgent::start_told(dir, &master, "cpus:1;mem:256;disk:256", &["--agent-api", &port.to_string()]);
        drop(master);
        let guarded = ["--authenticate-http-readonly", "true", "--authenticate-http-readwrite", "true"];
        let master = BareMaster::start_at(dir, &http, &link, &guarded).unwrap();
        let file = std::fs::read(master.data().join("api-credentials.json")).unwrap();
        let known: Value = serde_json::from_slice(&file).unwrap();
        let text = |key: &str| known[key].as_str().unwrap();
        let pair = format!("{}:{}", text("principal"), text("secret"));
        let authorization = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair));
        Self { agent, master, door: format!("http://127.0.0.1:{port}"), authorization }
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> http::Response {
        http::request(method, &format!("{}{path}", self.door), headers, body, SOON).unwrap()
    }

    fn get(&self, path: &str) -> http::Response {
        self.request("GET", path, &[("Authorization", &self.authorization)], None)
    }

    fn json(&self, path: &str) -> Value {
        let answer = self.get(path);
        assert_eq!(answer.status, 200, "{path}: {}\n{}", answer.text(), self.agent.said());
        answer.json().unwrap()
    }

    fn call(&self, call: &Value) -> http::Response {
        let headers = [
            ("Authorization", self.authorization.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json"),
        ];
        self.request("POST", "/api/v1", &headers, Some(call.to_string().as_bytes()))
    }

    fn stream(&self, call: &Value) -> (u16, Vec<Value>) {
        let headers = [
            ("Authorization", self.authorization.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/recordio"),
            ("Message-Accept", "application/json"),
        ];
        let answer = self.request("POST", "/api/v1", &headers, Some(call.to_string().as_bytes()));
        let mut decoder = Decoder::new(1 << 20);
        decoder.push(&answer.body);
        let mut records = Vec::new();
        while answer.status == 200
            && let Some(record) = decoder.pop().unwrap()
        {
            records.push(serde_json::from_slice(&record).unwrap());
        }
        (answer.status, records)
    }

    /// Until the node has its master again.
    fn wait_for_master(&self) {
        let deadline = Instant::now() + SOON;
        while self.get("/flags").status == 503 {
            assert!(Instant::now() < deadline, "{}\n{}", self.agent.said(), self.master.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn mesoss_tools_find_an_agent_behind_the_masters_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let stage = Stage::start(dir.path());
    stage.wait_for_master();
    let mut tasks = Tasks::subscribe(&stage.master.url, "doors").unwrap();
    tasks.launch("t1", "echo hello; sleep 600", 0.1, 32.0, SOON).unwrap();
    tasks.wait_state("t1", "TASK_RUNNING", SOON).unwrap();
    tasks.launch("t2", "echo bye; exit 3", 0.1, 32.0, SOON).unwrap();
    tasks.wait_end("t2", SOON).unwrap();

    nobody_comes_in_without_credentials(&stage);
    let directory = the_state_is_mesoss(&stage);
    files_have_the_paths_tools_know(&stage, &directory);
    the_operator_api_speaks_both_languages(&stage, &directory);
    containers_are_launched_inside_of_others(&stage, &directory);
}

fn nobody_comes_in_without_credentials(stage: &Stage) {
    for path in ["/health", "/slave(1)/health"] {
        assert_eq!(stage.request("GET", path, &[], None).status, 200, "{path}");
    }
    for path in [
        "/containers",
        "/flags",
        "/metrics/snapshot",
        "/files/debug",
        "/monitor/statistics.json",
        "/slave(1)/containers",
    ] {
        let wrong = [("Authorization", "Basic eDp5")];
        for headers in [&[][..], &wrong[..]] {
            let answer = stage.request("GET", path, headers, None);
            assert_eq!(answer.status, 401, "{path} {}", answer.text());
            assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"mesos-agent-readonly\""));
        }
    }
    let headers = [("Content-Type", "application/json")];
    let answer = stage.request("POST", "/api/v1", &headers, Some(br#"{"type":"GET_HEALTH"}"#));
    assert_eq!((answer.status, answer.text().as_str()), (401, "401 Unauthorized."));
    // On the node itself everybody may know which it is, and nothing of what runs there.
    let own = stage.request("GET", "/state", &[], None).json().unwrap();
    assert_eq!((&own["frameworks"], &own["version"]), (&json!([]), &json!("1.11.0")));
    assert_eq!(stage.get("/nothing").status, 404);
}

fn the_state_is_mesoss(stage: &Stage) -> String {
    let state = stage.json("/slave(1)/state");
    assert_eq!(state["resources"]["mem"], 256.0);
    assert_eq!(state["attributes"]["rack"], "r1");
    assert_eq!(state["unreserved_resources_allocated"]["mem"], 32.0);
    let framework = &state["frameworks"][0];
    assert_eq!(framework["name"], "doors");
    let executor = &framework["executors"][0];
    assert_eq!((&executor["id"], &executor["source"]), (&json!("t1"), &json!("t1")));
    assert_eq!(executor["name"], "Command Executor (Task: t1) (Command: sh -c 'echo hello; ...')");
    let task = &executor["tasks"][0];
    assert_eq!((&task["id"], &task["state"], &task["executor_id"]), (&json!("t1"), &json!("TASK_RUNNING"), &json!("")));
    let states: Vec<&Value> = task["statuses"].as_array().unwrap().iter().map(|status| &status["state"]).collect();
    assert_eq!(states, ["TASK_STARTING", "TASK_RUNNING"]);
    let completed = &framework["completed_executors"][0];
    assert_eq!((&completed["id"], &completed["tasks"]), (&json!("t2"), &json!([])));
    assert_eq!(completed["completed_tasks"][0]["state"], "TASK_FAILED");

    let containers = stage.json("/containers");
    assert_eq!(containers.as_array().unwrap().len(), 1);
    let one = &containers[0];
    assert_eq!((&one["executor_id"], &one["container_id"]), (&json!("t1"), &executor["container"]));
    assert_eq!(one["status"]["container_id"]["value"], executor["container"]);
    assert!(one["statistics"]["timestamp"].is_f64() && one["statistics"]["mem_limit_bytes"] == 32 << 20, "{one}");
    let statistics = stage.json("/monitor/statistics.json");
    assert!(statistics[0]["statistics"].is_object() && statistics[0].get("status").is_none(), "{statistics}");
    assert_eq!(stage.json("/containers?container_id=other"), json!([]));

    let metrics = stage.json("/metrics/snapshot");
    for (name, value) in
        [("slave/tasks_running", 1.0), ("slave/tasks_failed", 1.0), ("slave/registered", 1.0), ("slave/mem_used", 32.0)]
    {
        assert_eq!(metrics[name], value, "{name}");
    }
    assert_eq!(stage.json("/flags")["flags"]["gc_delay"], "1weeks");
    executor["directory"].as_str().unwrap().to_owned()
}

fn files_have_the_paths_tools_know(stage: &Stage, directory: &str) {
    let listed = stage.json(&format!("/files/browse?path={directory}"));
    let names: Vec<&str> = listed.as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap()).collect();
    assert!(names.contains(&format!("{directory}/stdout").as_str()), "{names:?}");
    let runs = directory.rsplit_once('/').unwrap().0;
    for path in [format!("{directory}/stdout"), format!("{runs}/latest/stdout")] {
        for name in ["read", "read.json"] {
            let read = stage.json(&format!("/files/{name}?path={path}&offset=1&length=3"));
            assert_eq!(read, json!({"data": "ell", "offset": 1}), "{path}");
        }
        assert_eq!(stage.json(&format!("/files/read?path={path}&offset=-1")), json!({"data": "", "offset": 6}));
        let download = stage.get(&format!("/files/download?path={path}"));
        assert_eq!((download.status, download.text().as_str()), (200, "hello\n"));
        assert_eq!(download.header("content-disposition"), Some("attachment; filename=stdout"));
        assert_eq!(download.header("content-type"), Some("application/octet-stream"));
    }
    let debug = stage.json("/files/debug");
    assert_eq!(debug[directory], directory);
    assert_eq!(debug.as_object().unwrap().len(), 6, "three names each: {debug}");
    for (query, status, said) in [
        ("browse".to_owned(), 400, "Expecting 'path=value' in query.\n".to_owned()),
        ("browse?path=/etc".to_owned(), 404, String::new()),
        ("read?path=/etc/passwd".to_owned(), 404, String::new()),
        ("download?path=/etc/passwd".to_owned(), 404, "404 Not Found.".to_owned()),
        (format!("read?path={directory}"), 400, "Cannot read a directory.\n".to_owned()),
        (format!("download?path={directory}"), 400, "Cannot download a directory.\n".to_owned()),
        (format!("browse?path={directory}/.."), 400, format!("'{directory}/..' is inaccessible.\n")),
        (format!("read?path={directory}/stdout&offset=-2"), 400, "Negative offset provided: -2.\n".to_owned()),
        (
            format!("read?path={directory}/stdout&offset=x"),
            400,
            "Failed to parse offset: Failed to convert 'x' to number.\n".to_owned(),
        ),
    ] {
        let answer = stage.get(&format!("/files/{query}"));
        assert_eq!((answer.status, answer.text()), (status, said), "{query}");
    }
}

fn the_operator_api_speaks_both_languages(stage: &Stage, directory: &str) {
    for (kind, member) in [
        ("GET_HEALTH", "get_health"),
        ("GET_FLAGS", "get_flags"),
        ("GET_VERSION", "get_version"),
        ("GET_CONTAINERS", "get_containers"),
        ("GET_FRAMEWORKS", "get_frameworks"),
        ("GET_EXECUTORS", "get_executors"),
        ("GET_TASKS", "get_tasks"),
        ("GET_AGENT", "get_agent"),
        ("GET_STATE", "get_state"),
        ("GET_OPERATIONS", "get_operations"),
    ] {
        let answer = stage.call(&json!({ "type": kind }));
        assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
        let answer = answer.json().unwrap();
        assert!(answer["type"] == kind && answer[member].is_object(), "{kind}: {answer}");
    }
    let tasks = stage.call(&json!({"type": "GET_TASKS"})).json().unwrap();
    assert_eq!(tasks["get_tasks"]["launched_tasks"][0]["task_id"]["value"], "t1");
    assert_eq!(tasks["get_tasks"]["completed_tasks"][0]["state"], "TASK_FAILED");
    let metrics = stage.call(&json!({"type": "GET_METRICS", "get_metrics": {}})).json().unwrap();
    let metrics = metrics["get_metrics"]["metrics"].as_array().unwrap();
    assert!(metrics.iter().any(|one| one["name"] == "slave/tasks_running" && one["value"] == 1.0));
    let path = format!("{directory}/stdout");
    let read = stage.call(&json!({"type": "READ_FILE", "read_file": {"path": path, "offset": 1, "length": 3}}));
    assert_eq!(read.json().unwrap()["read_file"], json!({"size": 6, "data": "ZWxs"}));
    let list = stage.call(&json!({"type": "LIST_FILES", "list_files": {"path": directory}})).json().unwrap();
    assert!(list["list_files"]["file_infos"].as_array().unwrap().iter().any(|file| file["path"] == path), "{list}");

    // The same in protobuf.
    let call = Call { r#type: Some(call::Type::GetTasks.into()), ..Call::default() };
    let body = ContentType::Protobuf.encode(&call);
    let headers = [
        ("Authorization", stage.authorization.as_str()),
        ("Content-Type", "application/x-protobuf"),
        ("Accept", "application/x-protobuf"),
    ];
    let answer = stage.request("POST", "/slave(1)/api/v1", &headers, Some(&body));
    assert_eq!(answer.header("content-type"), Some("application/x-protobuf"));
    let answer: Response = ContentType::Protobuf.decode(&answer.body).unwrap();
    assert_eq!(answer.get_tasks.unwrap().launched_tasks[0].task_id.as_str(), "t1");

    // What is wrong is said as Mesos says it.
    let own = stage.authorization.as_str();
    let json_type = ("Content-Type", "application/json");
    for (headers, body, status, said) in [
        (vec![], "{}", 400, "Expecting 'Content-Type' to be present"),
        (
            vec![("Content-Type", "text/plain")],
            "{}",
            415,
            "Expecting 'Content-Type' of application/json or application/x-protobuf or application/recordio",
        ),
        (
            vec![("Content-Type", "application/recordio")],
            "{}",
            400,
            "Expecting 'Message-Content-Type' to be set for streaming requests",
        ),
        (vec![json_type], "{}", 400, "Failed to validate agent::Call: Expecting 'type' to be present"),
        (
            vec![json_type],
            r#"{"type":"READ_FILE"}"#,
            400,
            "Failed to validate agent::Call: Expecting 'read_file' to be present",
        ),
        (
            vec![json_type, ("Accept", "text/html")],
            r#"{"type":"GET_HEALTH"}"#,
            406,
            "Expecting 'Accept' to allow application/json or application/x-protobuf or application/recordio",
        ),
        (
            vec![json_type, ("Accept", "application/recordio")],
            r#"{"type":"GET_HEALTH"}"#,
            406,
            "Streaming response is not supported for GET_HEALTH call",
        ),
        (vec![json_type], r#"{"type":"UNKNOWN"}"#, 501, "501 Not Implemented."),
        (
            vec![json_type],
            r#"{"type":"ATTACH_CONTAINER_INPUT","attach_container_input":{}}"#,
            415,
            "Expecting 'Content-Type' to be application/recordio for ATTACH_CONTAINER_INPUT call",
        ),
    ] {
        let headers: Vec<(&str, &str)> = headers.into_iter().chain([("Authorization", own)]).collect();
        let answer = stage.request("POST", "/api/v1", &headers, Some(body.as_bytes()));
        assert_eq!((answer.status, answer.text().as_str()), (status, said), "{body}");
    }
    let answer = stage.get("/api/v1");
    assert_eq!(answer.status, 405);
    assert_eq!(answer.text(), "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.");
}

fn containers_are_launched_inside_of_others(stage: &Stage, directory: &str) {
    let parent = directory.rsplit('/').next().unwrap();
    let id = |name: &str| json!({"value": name, "parent": {"value": parent}});
    let about = |verb: &str, name: &str| {
        let member = format!("{}_nested_container", verb.to_lowercase());
        stage.call(&json!({"type": format!("{verb}_NESTED_CONTAINER"), member: {"container_id": id(name)}}))
    };
    let launch = |name: &str, command: &str| {
        stage.call(&json!({"type": "LAUNCH_NESTED_CONTAINER",
            "launch_nested_container": {"container_id": id(name), "command": {"value": command}}}))
    };
    assert_eq!(launch("n1", "echo nested; sleep 1; exit 4").status, 200);
    assert_eq!(launch("n1", "echo nested; sleep 1; exit 4").status, 202);
    let shown = stage.call(&json!({"type": "GET_CONTAINERS", "get_containers": {"show_nested": true}})).json().unwrap();
    assert_eq!(shown["get_containers"]["containers"][1]["container_id"], id("n1"), "{shown}");
    let waited = about("WAIT", "n1").json().unwrap();
    assert_eq!(waited, json!({"type": "WAIT_NESTED_CONTAINER", "wait_nested_container": {"exit_status": 1024}}));
    let output = stage.get(&format!("/files/download?path={directory}/containers/n1/stdout"));
    assert_eq!(output.text(), "nested\n");
    let killed = about("KILL", "n1");
    let gone = format!("Container '{parent}.n1' cannot be found (or is already killed)");
    assert_eq!((killed.status, killed.text()), (404, gone));
    assert_eq!(about("REMOVE", "n1").status, 200);
    let waited = about("WAIT", "n1");
    assert_eq!((waited.status, waited.text()), (404, format!("Container {parent}.n1 cannot be found")));

    assert_eq!(launch("n2", "sleep 600").status, 200);
    assert_eq!(about("KILL", "n2").status, 200);
    assert_eq!(about("WAIT", "n2").json().unwrap()["wait_nested_container"]["exit_status"], 9);

    // A session: what it writes comes back as it writes it.
    let session = |name: &str, command: Value| {
        json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION",
            "launch_nested_container_session": {"container_id": id(name), "command": command}})
    };
    let (status, records) = stage.stream(&session("s1", json!({"value": "echo out; echo err >&2; exit 2"})));
    let of = |records: &[Value], kind: &str| -> String {
        let data = records.iter().filter(|record| record["data"]["type"] == kind);
        let bytes = data.flat_map(|record| {
            base64::engine::general_purpose::STANDARD.decode(record["data"]["data"].as_str().unwrap()).unwrap()
        });
        String::from_utf8(bytes.collect()).unwrap()
    };
    assert_eq!((status, of(&records, "STDOUT").as_str(), of(&records, "STDERR").as_str()), (200, "out\n", "err\n"));
    let waited = stage.call(&json!({"type": "WAIT_CONTAINER", "wait_container": {"container_id": id("s1")}}));
    assert_eq!(waited.json().unwrap()["wait_container"]["exit_status"], 512);

    // Its input comes on a connection of its own.
    let echoed = std::thread::scope(|scope| {
        let listening =
            scope.spawn(|| stage.stream(&session("s2", json!({"shell": false, "value": "cat", "arguments": ["cat"]}))));
        let data = |bytes: &str| {
            let data = base64::engine::general_purpose::STANDARD.encode(bytes);
            json!({"type": "ATTACH_CONTAINER_INPUT", "attach_container_input": {"type": "PROCESS_IO",
                "process_io": {"type": "DATA", "data": {"type": "STDIN", "data": data}}}})
        };
        let first = json!({"type": "ATTACH_CONTAINER_INPUT",
            "attach_container_input": {"type": "CONTAINER_ID", "container_id": id("s2")}});
        let body: Vec<u8> = [first, data("typed\n"), data("more\n"), data("")]
            .iter()
            .flat_map(|record| api::recordio::encode(record.to_string().as_bytes()))
            .collect();
        let headers = [
            ("Authorization", stage.authorization.as_str()),
            ("Content-Type", "application/recordio"),
            ("Message-Content-Type", "application/json"),
            ("Accept", "application/json"),
        ];
        let deadline = Instant::now() + SOON;
        loop {
            let answer = stage.request("POST", "/api/v1", &headers, Some(&body));
            if answer.status == 200 {
                break;
            }
            assert!(answer.status == 404 && Instant::now() < deadline, "{} {}", answer.status, answer.text());
            std::thread::sleep(Duration::from_millis(50));
        }
        listening.join().unwrap()
    });
    assert_eq!((echoed.0, of(&echoed.1, "STDOUT").as_str()), (200, "typed\nmore\n"));

    let (status, _) = stage
        .stream(&json!({"type": "LAUNCH_NESTED_CONTAINER_SESSION", "launch_nested_container_session":
        {"container_id": {"value": "s3", "parent": {"value": "nope"}}, "command": {"value": "true"}}}));
    assert_eq!(status, 400);
    let orphan = stage.call(&json!({"type": "LAUNCH_NESTED_CONTAINER",
        "launch_nested_container": {"container_id": {"value": "x"}, "command": {"value": "true"}}}));
    let said = "Failed to validate agent::Call: Expecting 'launch_nested_container.container_id.parent' to be present";
    assert_eq!((orphan.status, orphan.text().as_str()), (400, said));
    assert_eq!(stage.call(&json!({"type": "PRUNE_IMAGES"})).status, 200);
}
