//! The whole program against a master of a hundred lines: every verb, and `run` from offer to exit status.

#![allow(clippy::unwrap_used)] // the fake belongs to the test, and a panic in it is a failed test

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// What the fake does with the task once it is accepted, in order.
type Script = Vec<Step>;

#[derive(Clone)]
enum Step {
    Update(&'static str, &'static str, Option<&'static str>),
    /// Closes the event stream, as a master that is killed does.
    Break,
    /// Goes on when a KILL has come.
    AwaitKill,
}

struct Fake {
    port: u16,
    calls: Arc<Mutex<Vec<Value>>>,
}

struct Shared {
    calls: Arc<Mutex<Vec<Value>>>,
    script: Mutex<VecDeque<Step>>,
    task: Mutex<Option<String>>,
    called: Mutex<Option<mpsc::Sender<()>>>,
}

impl Fake {
    fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::new(Shared {
            calls: Arc::clone(&calls),
            script: Mutex::new(script.into()),
            task: Mutex::new(None),
            called: Mutex::new(None),
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || answer(&shared, stream.unwrap()));
            }
        });
        Self { port, calls }
    }

    fn mesolith(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mesolith"));
        command.arg("--master").arg(format!("127.0.0.1:{}", self.port)).args(arguments).stdin(Stdio::null());
        for variable in ["MESOLITH_MASTER", "MESOLITH_CA", "MESOLITH_CREDENTIALS"] {
            command.env_remove(variable);
        }
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.mesolith(arguments).output().unwrap()
    }

    fn kinds(&self) -> Vec<String> {
        self.calls.lock().unwrap().iter().map(|call| call["type"].as_str().unwrap_or("?").to_owned()).collect()
    }
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn state(task: Option<&str>) -> Value {
    let tasks: Vec<Value> = task
        .iter()
        .map(|id| json!({"id": id, "name": "sleep", "framework_id": "F-1", "slave_id": "M-S0", "state": "TASK_RUNNING",
                         "resources": {"cpus": 0.5, "mem": 64.0}, "statuses": [{"state": "TASK_RUNNING", "timestamp": 1.0}]}))
        .collect();
    json!({"slaves": [{"id": "M-S0", "hostname": "10.77.0.11", "active": true, "version": "0.1.0",
                       "attributes": {"rack": "r1-a"}, "resources": {"cpus": 2.0, "mem": 900.0, "disk": 0.0, "gpus": 0.0}}],
           "frameworks": [{"id": "F-1", "name": "web", "user": "root", "active": true, "connected": true, "tasks": tasks,
                           "offers": [{"id": "O-1", "slave_id": "M-S0", "resources": {"cpus": 1.0, "mem": 100.0}}],
                           "completed_tasks": [{"id": "old", "name": "true", "framework_id": "F-1", "state": "TASK_FINISHED"}]}],
           "completed_frameworks": []})
}

fn chunk(stream: &mut TcpStream, event: &Value) -> std::io::Result<()> {
    let text = event.to_string();
    let record = format!("{}\n{text}", text.len());
    write!(stream, "{:x}\r\n{record}\r\n", record.len())?;
    stream.flush()
}

fn answer(shared: &Shared, mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line).unwrap();
    let mut header = String::new();
    while reader.read_line(&mut header).unwrap() > 2 {
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        header.clear();
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let reply = |stream: &mut TcpStream, status: &str, body: &str| {
        let _ =
            write!(stream, "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    };
    match path.split('?').next().unwrap_or_default() {
        "/state" => {
            reply(&mut stream, "200 OK", &state(shared.task.lock().unwrap().as_deref().or(Some("t1"))).to_string())
        }
        "/mesolith/v1/nodes" => {
            reply(&mut stream, "200 OK", r#"{"nodes":[{"name":"node-1","agent_id":"M-S0","state":"connected"}]}"#);
        }
        "/version" => reply(&mut stream, "200 OK", r#"{"version":"1.11.0"}"#),
        "/teardown" => {
            let form = String::from_utf8(body).unwrap();
            shared.calls.lock().unwrap().push(json!({"type": form}));
            reply(&mut stream, "200 OK", "");
        }
        "/api/v1/scheduler" => scheduler(shared, &mut stream, &serde_json::from_slice(&body).unwrap()),
        file if file.ends_with("/stdout") => {
            let offset: usize = path.split("offset=").nth(1).unwrap().split('&').next().unwrap().parse().unwrap();
            reply(&mut stream, "200 OK", "hello from the task\n".get(offset..).unwrap_or_default());
        }
        file if file.ends_with("/stderr") => reply(&mut stream, "200 OK", ""),
        "/mesolith/v1/nodes/node-1/log" => reply(&mut stream, "200 OK", "agent starts\n"),
        _ => reply(&mut stream, "404 Not Found", "nothing here"),
    }
}

fn scheduler(shared: &Shared, stream: &mut TcpStream, call: &Value) {
    shared.calls.lock().unwrap().push(call.clone());
    let kind = call["type"].as_str().unwrap();
    if kind != "SUBSCRIBE" {
        if kind == "ACCEPT" {
            let task = call["accept"]["operations"][0]["launch"]["task_infos"][0]["task_id"]["value"].as_str().unwrap();
            *shared.task.lock().unwrap() = Some(task.to_owned());
        }
        if ["ACCEPT", "KILL", "RECONCILE"].contains(&kind)
            && let Some(called) = shared.called.lock().unwrap().as_ref()
        {
            let _ = called.send(());
        }
        let _ = write!(stream, "HTTP/1.1 202 Accepted\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        return;
    }
    let (sender, receiver) = mpsc::channel();
    *shared.called.lock().unwrap() = Some(sender);
    let head =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nMesos-Stream-Id: s\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let _ = chunk(
        stream,
        &json!({"type": "SUBSCRIBED", "subscribed": {"framework_id": {"value": "F-9"}, "heartbeat_interval_seconds": 15.0}}),
    );
    let _ = chunk(stream, &json!({"type": "HEARTBEAT"}));
    if shared.task.lock().unwrap().is_none() {
        let offers: Vec<Value> = [("O-1", "M-S0", "r1-a", 2.0), ("O-2", "M-S1", "r2-a", 1.0)]
            .iter()
            .map(|(id, agent, rack, cpus)| {
                json!({"id": {"value": id}, "framework_id": {"value": "F-9"}, "agent_id": {"value": agent}, "hostname": "10.77.0.11",
                       "attributes": [{"name": "rack", "type": "TEXT", "text": {"value": rack}}],
                       "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
                                     {"name": "mem", "type": "SCALAR", "scalar": {"value": 900.0}}]})
            })
            .collect();
        let _ = chunk(stream, &json!({"type": "OFFERS", "offers": {"offers": offers}}));
    }
    if receiver.recv_timeout(Duration::from_secs(10)).is_err() {
        return;
    }
    while let Some(step) = shared.script.lock().unwrap().pop_front() {
        match step {
            Step::Break => return,
            Step::AwaitKill => {
                if receiver.recv_timeout(Duration::from_secs(10)).is_err() {
                    return;
                }
            }
            Step::Update(state, message, reason) => {
                let task = shared.task.lock().unwrap().clone().unwrap();
                let mut status = json!({"task_id": {"value": task}, "state": state, "message": message,
                                        "agent_id": {"value": "M-S0"}, "uuid": "AAAAAAAAAAAAAAAAAAAAAA=="});
                if let Some(reason) = reason {
                    status["reason"] = json!(reason);
                }
                let _ = chunk(stream, &json!({"type": "UPDATE", "update": {"status": status}}));
            }
        }
    }
    // The stream stays open until the peer closes it.
    let _ = stream.read(&mut [0; 1]);
}

const RUNNING: Step = Step::Update("TASK_RUNNING", "", None);

#[test]
fn run_streams_the_output_and_exits_with_the_tasks_status() {
    for (terminal, code) in [
        (Step::Update("TASK_FINISHED", "Command exited with status 0", None), 0),
        (Step::Update("TASK_FAILED", "Command exited with status 3", None), 3),
        (Step::Update("TASK_FAILED", "Command terminated with signal Killed", None), 137),
        (Step::Update("TASK_FAILED", "used 33 MiB of 32 MiB", Some("REASON_CONTAINER_LIMITATION_MEMORY")), 137),
        (Step::Update("TASK_ERROR", "Total resources cpus:9 required by task", None), 125),
    ] {
        let fake = Fake::start(vec![RUNNING, terminal]);
        let output = fake.output(&["run", "--cpus", "0.5", "--mem", "64", "--env", "A=b=c", "--", "echo", "hello"]);
        assert_eq!(output.status.code(), Some(code), "{}", err(&output));
        assert_eq!(out(&output), "hello from the task\n");
        let calls = fake.calls.lock().unwrap();
        let accept = calls.iter().find(|call| call["type"] == "ACCEPT").unwrap();
        let task = &accept["accept"]["operations"][0]["launch"]["task_infos"][0];
        assert_eq!(task["command"]["arguments"], json!(["echo", "hello"]));
        assert_eq!(
            task["command"]["environment"]["variables"],
            json!([{"name": "A", "type": "VALUE", "value": "b=c"}])
        );
        assert_eq!(task["resources"][0]["scalar"]["value"], json!(0.5));
        drop(calls);
        let kinds = fake.kinds();
        assert_eq!(kinds.first().map(String::as_str), Some("SUBSCRIBE"));
        assert_eq!(kinds.last().map(String::as_str), Some("TEARDOWN"));
        assert_eq!(kinds.iter().filter(|kind| *kind == "ACKNOWLEDGE").count(), 2, "{kinds:?}");
    }
}

#[test]
fn run_in_an_image_leaves_to_it_what_is_not_said() {
    for (after, command, name) in
        [(&[][..], json!({"shell": false}), "app"), (&["--", "ls"][..], json!({"shell": true, "value": "ls"}), "ls")]
    {
        let fake = Fake::start(vec![RUNNING, Step::Update("TASK_FINISHED", "Command exited with status 0", None)]);
        let output = fake.output(&[&["run", "--image", "10.0.0.1:5000/team/app:1.2"], after].concat());
        assert_eq!(output.status.code(), Some(0), "{}", err(&output));
        let calls = fake.calls.lock().unwrap();
        let accept = calls.iter().find(|call| call["type"] == "ACCEPT").unwrap();
        let task = &accept["accept"]["operations"][0]["launch"]["task_infos"][0];
        assert_eq!((&task["command"], &task["name"]), (&command, &json!(name)));
        assert_eq!(task["container"]["type"], "MESOS");
        assert_eq!(task["container"]["mesos"]["image"]["docker"]["name"], "10.0.0.1:5000/team/app:1.2");
    }
}

#[test]
fn run_tells_machines_how_the_task_ended() {
    let fake = Fake::start(vec![RUNNING, Step::Update("TASK_FAILED", "Command exited with status 3", None)]);
    let output = fake.output(&["run", "--json", "--quiet", "--", "false"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(err(&output), "hello from the task\n");
    let ended: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&ended["state"], &ended["node"], &ended["exit_status"]),
        (&json!("TASK_FAILED"), &json!("node-1"), &json!(3))
    );
}

#[test]
fn a_constraint_picks_the_rack() {
    let fake = Fake::start(vec![RUNNING, Step::Update("TASK_FINISHED", "", None)]);
    let output = fake.output(&["run", "--cpus", "0.5", "--constraint", "rack:LIKE:r2.*", "--", "true"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let calls = fake.calls.lock().unwrap();
    let accept = calls.iter().find(|call| call["type"] == "ACCEPT").unwrap();
    assert_eq!(accept["accept"]["offer_ids"], json!([{"value": "O-2"}]));
}

#[test]
fn a_broken_stream_is_taken_up_again_and_the_task_with_it() {
    let fake =
        Fake::start(vec![RUNNING, Step::Break, Step::Update("TASK_FAILED", "Command exited with status 4", None)]);
    let output = fake.output(&["run", "--", "true"]);
    assert_eq!(output.status.code(), Some(4), "{}", err(&output));
    let calls = fake.calls.lock().unwrap();
    let again = calls.iter().filter(|call| call["type"] == "SUBSCRIBE").nth(1).unwrap();
    assert_eq!(again["framework_id"]["value"], "F-9");
    assert!(calls.iter().any(|call| call["type"] == "RECONCILE"));
}

#[test]
fn ctrl_c_kills_the_task_and_waits_for_its_end() {
    let fake = Fake::start(vec![
        RUNNING,
        Step::AwaitKill,
        Step::Update("TASK_KILLED", "Command terminated with signal Terminated", None),
    ]);
    let child =
        fake.mesolith(&["run", "--", "sleep", "100"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while !fake.kinds().iter().any(|kind| kind == "ACKNOWLEDGE") {
        assert!(Instant::now() < deadline, "the task never ran: {:?}", fake.kinds());
        std::thread::sleep(Duration::from_millis(20));
    }
    let signalled = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(signalled.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", err(&output));
    assert!(fake.kinds().iter().any(|kind| kind == "KILL"));
}

#[test]
fn a_timeout_kills_and_says_so() {
    let fake = Fake::start(vec![RUNNING, Step::AwaitKill, Step::Update("TASK_KILLED", "", None)]);
    let output = fake.output(&["run", "--timeout", "200ms", "--", "sleep", "100"]);
    assert_eq!(output.status.code(), Some(124), "{}", err(&output));
    assert!(err(&output).contains("--timeout"), "{}", err(&output));
}

#[test]
fn what_cannot_run_says_why_and_what_to_do() {
    let fake = Fake::start(vec![]);
    for (arguments, what, next) in [
        (&["run", "--cpus", "64", "--", "true"][..], "no node is large enough for cpus:64; mem:32", "ask for less"),
        (&["run", "--constraint", "rack:LIKE:r9", "--wait", "500ms", "--", "true"], "r1-a on node-1", "mesolith nodes"),
        (&["run", "--constraint", "rack:UNIQUE", "--", "true"], "compares several tasks", "rack:LIKE"),
        (&["run", "--env", "A", "--", "true"], "is not KEY=VALUE", "GREETING"),
    ] {
        let output = fake.output(arguments);
        assert_eq!(output.status.code(), Some(125), "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(what) && err(&output).contains(next), "{arguments:?}: {}", err(&output));
        assert_eq!(out(&output), "");
    }
}

#[test]
fn lists_are_tables_and_json() {
    let fake = Fake::start(vec![]);
    for (arguments, text, pointer, value) in [
        (&["nodes"][..], "node-1  connected  10.77.0.11", "/0/name", json!("node-1")),
        (&["tasks"], "TASK_RUNNING", "/0/node", json!("node-1")),
        (&["tasks", "--all"], "TASK_FINISHED", "/1/id", json!("old")),
        (&["frameworks"], "F-1  web   active", "/0/tasks", json!(1)),
        (&["offers"], "O-1    web", "/0/resources/mem", json!(100.0)),
        (&["version"], "Mesos API 1.11.0", "/master/version/version", json!("1.11.0")),
    ] {
        let table = fake.output(arguments);
        assert!(table.status.success() && out(&table).contains(text), "{arguments:?}: {}{}", out(&table), err(&table));
        assert!(!out(&table).contains('\x1b'), "colour without a terminal");
        let json = fake.output(&[arguments, &["--json"]].concat());
        let json: Value = serde_json::from_slice(&json.stdout).unwrap();
        assert_eq!(json.pointer(pointer), Some(&value), "{arguments:?}: {json}");
    }
}

#[test]
fn logs_find_tasks_and_nodes() {
    let fake = Fake::start(vec![]);
    assert_eq!(out(&fake.output(&["logs", "t1"])), "hello from the task\n");
    assert_eq!(out(&fake.output(&["logs", "-f", "web/t1"])), "hello from the task\n");
    assert_eq!(out(&fake.output(&["logs", "t1", "--stderr"])), "");
    assert_eq!(out(&fake.output(&["logs", "node-1"])), "agent starts\n");
    for (arguments, what) in
        [(&["logs", "t7"][..], "no task and no node"), (&["logs", "node-1", "--stderr"], "no stderr")]
    {
        let output = fake.output(arguments);
        assert_eq!(output.status.code(), Some(1));
        assert!(err(&output).contains(what) && err(&output).contains("next:"), "{}", err(&output));
    }
}

#[test]
fn teardown_finds_the_framework_by_name() {
    let fake = Fake::start(vec![]);
    let output = fake.output(&["teardown", "web"]);
    assert!(output.status.success() && out(&output).contains("1 tasks are being killed"), "{}", err(&output));
    assert_eq!(fake.kinds(), ["frameworkId=F-1"]);
    assert_eq!(fake.output(&["teardown", "nobody"]).status.code(), Some(1));
}
