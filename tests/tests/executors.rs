//! Executors on the unmodified pymesos, and pods: on hosted nodes, whose tasks are processes of this host.
//!
//! On nodes that booted, with the executor in an image: `executors_booted.rs`.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tests::bare_master::BareMaster;
use tests::clients::{Conversation, PythonPackages, programs};
use tests::hosted_agent::HostedAgent;
use tests::tasks::Tasks;

/// Python starts slowly on a loaded host.
const SOON: Duration = Duration::from_secs(60);

/// A master, a hosted node and the framework.
struct Stage {
    agent: HostedAgent,
    master: BareMaster,
    framework: Conversation,
}

impl Stage {
    fn start(dir: &Path, python: &PythonPackages) -> Self {
        let master = BareMaster::start(dir, &[]).unwrap();
        let agent = HostedAgent::start(dir, &master);
        let script = programs().join("pymesos_executor.py");
        let python_path = python.python().get_program().to_owned();
        let executor = json!({
            "name": "pymesos executor",
            "command": {"shell": false, "value": python_path.to_str().unwrap(),
                "arguments": ["python", script.to_str().unwrap()]},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                          {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}],
        });
        let file = dir.join("executor.json");
        std::fs::write(&file, executor.to_string()).unwrap();
        let mut command = python.python();
        command.arg(programs().join("pymesos_executors.py")).arg(master.url.trim_start_matches("http://")).arg(file);
        let framework = Conversation::start(&mut command, &dir.join("framework.log")).unwrap();
        framework.wait_for("registered", SOON).unwrap();
        Self { agent, master, framework }
    }

    fn tell(&mut self, order: &str) {
        self.framework.tell(order).unwrap();
    }

    /// Each in this order; others may come between.
    fn hears(&self, lines: &[&str]) {
        for line in lines {
            if let Err(error) = self.framework.wait_for(line, SOON) {
                panic!("{error:#}\nagent:\n{}\nmaster:\n{}", self.agent.said(), self.master.log());
            }
        }
    }

    fn executors(&self) -> Vec<Value> {
        let state = self.master.get("/state").unwrap();
        state["frameworks"][0]["executors"].as_array().unwrap().clone()
    }
}

#[test]
fn a_pymesos_executor_runs_several_tasks_and_survives_its_agent() {
    let dir = tempfile::tempdir().unwrap();
    let python = PythonPackages::install(&dir.path().join("python"), &["requirements.txt"]).unwrap();
    let mut stage = Stage::start(dir.path(), &python);

    // Several tasks in one executor, one after the other and together.
    stage.tell("launch e one=finish two=wait three=wait");
    stage.hears(&["one TASK_RUNNING -", "one TASK_FINISHED -"]);
    stage.tell("launch e four=finish");
    stage.hears(&["four TASK_RUNNING -", "four TASK_FINISHED -"]);
    let executors = stage.executors();
    assert_eq!(executors.len(), 1, "one executor runs them all: {executors:?}");
    assert_eq!(executors[0]["executor_id"], "e");

    // Messages, both ways.
    stage.tell("say e ping hello");
    stage.hears(&["said e pong hello"]);
    stage.tell("kill three");
    stage.hears(&["three TASK_KILLED -"]);

    // The agent dies; its executor runs on, comes back, and what it says meanwhile arrives.
    let agent = stage.agent.child("agent").unwrap();
    stage.tell("launch e slow=sleep_3");
    stage.hears(&["slow TASK_RUNNING -"]);
    kill(Pid::from_raw(agent.cast_signed()), Signal::SIGKILL).unwrap();
    stage.hears(&["slow TASK_FINISHED -"]);
    assert!(stage.agent.child("agent").is_some_and(|now| now != agent), "the agent was not started again");
    stage.tell("say e finish two");
    stage.hears(&["two TASK_FINISHED -"]);

    // The executor dies: what it ran has failed, and the framework hears of it.
    stage.tell("launch e last=wait");
    stage.hears(&["last TASK_RUNNING -"]);
    stage.tell("say e die 7");
    stage.hears(&["last TASK_FAILED REASON_EXECUTOR_TERMINATED", "lost e 1792"]);
    assert!(stage.executors().is_empty());

    // One of the same name is another executor.
    stage.tell("launch e again=finish");
    stage.hears(&["again TASK_FINISHED -"]);
    println!("{}", python.verify().unwrap());
}

#[test]
fn a_task_group_is_one_thing() {
    let dir = tempfile::tempdir().unwrap();
    let master = BareMaster::start(dir.path(), &[]).unwrap();
    let agent = HostedAgent::start(dir.path(), &master);
    let mut tasks = Tasks::subscribe(&master.url, "pods").unwrap();
    let task = |id: &str, command: &str| json!({"task_id": {"value": id}, "name": id, "command": {"value": command}});

    // One fails: the other is killed.
    let group = [task("good", "sleep 600"), task("bad", "pwd; sleep 1; exit 3")];
    tasks.launch_group("pod", &group, 0.1, 16.0, SOON).unwrap();
    for id in ["good", "bad"] {
        tasks.wait_state(id, "TASK_RUNNING", SOON).unwrap();
    }
    let executors = master.get("/state").unwrap()["frameworks"][0]["executors"].clone();
    assert_eq!((&executors[0]["executor_id"], &executors[0]["type"]), (&json!("pod"), &json!("DEFAULT")));
    let (bad, good) = (tasks.wait_end("bad", SOON).unwrap(), tasks.wait_end("good", SOON).unwrap());
    assert_eq!((bad["state"].as_str(), good["state"].as_str()), (Some("TASK_FAILED"), Some("TASK_KILLED")));
    assert_eq!(bad["executor_id"]["value"], "pod");
    let (own, parent) = (&bad["container_status"]["container_id"], &good["container_status"]["container_id"]["parent"]);
    assert_eq!(&own["parent"], parent, "one pod");
    let below = format!("runs/{}/containers/{}", text(&parent["value"]), text(&own["value"]));
    let sandboxes = dir.path().join("work/slaves").join(text(&bad["agent_id"]["value"])).join("frameworks");
    let sandbox = sandboxes.join(&tasks.framework.id).join("executors/pod").join(below);
    assert!(sandbox.join("stdout").is_file(), "{} is not there\n{}", sandbox.display(), agent.said());

    // One finishes: the other goes on, and the agent's end is nothing to it.
    let group = [task("short", "exit 0"), task("long", "sleep 600")];
    tasks.launch_group("other", &group, 0.1, 16.0, SOON).unwrap();
    assert_eq!(tasks.wait_end("short", SOON).unwrap()["state"], "TASK_FINISHED");
    let before = agent.child("agent").unwrap();
    kill(Pid::from_raw(before.cast_signed()), Signal::SIGKILL).unwrap();
    tasks.launch_group("third", &[task("third", "exit 0")], 0.1, 16.0, SOON).unwrap();
    assert_eq!(tasks.wait_end("third", SOON).unwrap()["state"], "TASK_FINISHED");
    assert!(tasks.ends("long").is_empty());
    tasks.kill("long").unwrap();
    assert_eq!(tasks.wait_end("long", SOON).unwrap()["state"], "TASK_KILLED");

    // One cannot be launched: none is.
    let mut wrong = task("wrong", "true");
    wrong["health_check"] = json!({"type": "HTTP"});
    tasks.launch_group("fourth", &[task("right", "true"), wrong], 0.1, 16.0, SOON).unwrap();
    for id in ["right", "wrong"] {
        let end = tasks.wait_end(id, SOON).unwrap();
        assert_eq!((&end["state"], &end["reason"]), (&json!("TASK_ERROR"), &json!("REASON_TASK_GROUP_INVALID")));
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}
