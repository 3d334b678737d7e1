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
