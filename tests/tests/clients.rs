//! Clients of Mesos, as their authors published them, work on servers that booted over the network: pymesos's operator
//! driver, the npm package mesos-framework, avmesos, and the list commands of avmesos-cli.
//!
//! The programs on them are in `tests/clients`. They report; what is right is said here. pymesos's scheduler driver has a
//! test of its own: `pymesos.rs`.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::clients::{Conversation, NodePackages, PythonPackages, programs, run_to_end};
use tests::rack::{Options, Rack};

const BOOT: Duration = Duration::from_secs(240);
/// A framework from its subscription to its end, on two emulated servers that share a loaded host's two processors.
const FRAMEWORK: Duration = Duration::from_secs(400);
/// Some calls one after the other.
const CALLS: Duration = Duration::from_secs(120);
/// One command, whose interpreter alone takes seconds on a loaded host.
const COMMAND: Duration = Duration::from_secs(120);

#[test]
fn unmodified_clients_work_on_nodes_that_booted_over_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let rack = Rack::start(Options::new().unwrap()).unwrap();
    // The nodes boot meanwhile.
    let python = PythonPackages::install(
        &dir.path().join("python"),
        &["requirements.txt", "avmesos-requirements.txt"], // one environment for pymesos and avmesos
    )
    .unwrap();
    let cli = PythonPackages::install(&dir.path().join("cli"), &["avmesos-cli-requirements.txt"]).unwrap();
    let node = NodePackages::install(&dir.path().join("node")).unwrap();
    let agents = rack.wait_registered(2, BOOT).unwrap();
    let agents = Agents(agents.iter().map(|agent| text(&agent["id"]).to_owned()).collect());

    // The operator watches while the frameworks work.
    let mut operator = Operator::start(&rack, &python, dir.path());
    operator.look("idle");
    let avmesos = avmesos(&rack, &python, dir.path(), &agents);
    let mesos_framework = MesosFramework::start(&rack, &node, dir.path());
    operator.look("busy");
    list_commands(&rack, &cli, dir.path(), &agents, &avmesos);
    let mesos_framework = mesos_framework.finish(&agents);
    operator.change_and_undo();
    let gone = agents.0.first().unwrap().clone();
    operator.order(&format!("gone {gone}"));
    let seen = operator.end();

    seen.answers(&agents);
    seen.changes();
    seen.tasks_came_and_went(&avmesos);
    seen.tasks_came_and_went(&mesos_framework);
    seen.gone(&gone, &agents);

    for verified in [python.verify(), cli.verify(), node.verify()] {
        println!("after the run:\n{}", verified.unwrap());
    }
    rack.end().unwrap();
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("{value} is no list"))
}

fn result(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// The ids of the nodes' agents.
struct Agents(BTreeSet<String>);

/// What became of a framework: its id, and each task's last state.
struct Outcome {
    framework: String,
    ends: BTreeMap<String, String>,
}

impl Outcome {
    /// Of a program's result; the tasks must have run on both nodes.
    fn of(result: &Value, agents: &Agents) -> Self {
        let mut ends = BTreeMap::new();
        let mut used = BTreeSet::new();
        for update in list(&result["updates"]).iter().filter(|update| update["reason"] != "REASON_RECONCILIATION") {
            ends.insert(text(&update["task"]).to_owned(), text(&update["state"]).to_owned());
            used.insert(text(&update["agent"]).to_owned());
        }
        assert_eq!(used, agents.0, "both nodes are used");
        Self { framework: text(&result["framework"]).to_owned(), ends }
    }

    /// The last states of the tasks in whose ids `part` is.
    fn ends(&self, part: &str) -> Vec<&str> {
        self.ends.iter().filter(|(task, _)| task.contains(part)).map(|(_, state)| state.as_str()).collect()
    }
}

/// Runs the framework on avmesos: ten short tasks, a long one that is reconciled and killed, and the end by TEARDOWN.
fn avmesos(rack: &Rack, python: &PythonPackages, scratch: &Path, agents: &Agents) -> Outcome {
    let file = scratch.join("avmesos.json");
    let mut command = python.python();
    command.arg(programs().join("avmesos_framework.py")).arg(rack.api_url()).arg(&file);
    run_to_end(&mut command, &scratch.join("avmesos.log"), FRAMEWORK).unwrap();
    let result = result(&file);
    let outcome = Outcome::of(&result, agents);
    assert_eq!(outcome.ends("short-"), ["TASK_FINISHED"; 10]);
    assert_eq!(outcome.ends("long."), ["TASK_KILLED"]);
    assert_eq!(outcome.ends.len(), 11);
    let reconciled: BTreeMap<&str, &str> = list(&result["updates"])
        .iter()
        .filter(|update| update["reason"] == "REASON_RECONCILIATION")
        .map(|update| (text(&update["task"]).split('.').next().unwrap(), text(&update["state"])))
        .collect();
    // Not PARTITION_AWARE: what nobody knows is lost.
    assert_eq!(reconciled, BTreeMap::from([("long", "TASK_RUNNING"), ("nobody-knows-me", "TASK_LOST")]));
    assert!(result["ended"].as_bool().unwrap(), "its stream ends with TEARDOWN");
    assert!(result["heartbeats"].as_u64().unwrap() > 0);
    assert_eq!(result["master"]["address"]["port"].to_string(), rack.api_address().rsplit(':').next().unwrap());
    removed(rack, &outcome.framework);
    println!("avmesos on Python {}: {} tasks to their end", text(&result["python"]), outcome.ends.len());
    outcome
}

/// A framework that was torn down is among the completed ones.
fn removed(rack: &Rack, framework: &str) {
    let state = rack.get("/master/frameworks").unwrap();
    let completed = list(&state["completed_frameworks"]);
    assert!(completed.iter().any(|one| one["id"] == framework), "{framework} is not in {completed:?}");
}

/// The framework on the npm package, while its long tasks run.
struct MesosFramework<'a> {
    rack: &'a Rack,
    program: Conversation,
    file: std::path::PathBuf,
}

impl<'a> MesosFramework<'a> {
    /// Returns when the short tasks have ended and the long ones run.
    fn start(rack: &'a Rack, node: &NodePackages, scratch: &Path) -> Self {
        let file = scratch.join("mesos-framework.json");
        let (host, port) = rack.api_address().split_once(':').unwrap();
        let mut command = node.framework();
        command.args([host, port]).arg(&file);
        let program = Conversation::start(&mut command, &scratch.join("mesos-framework.err")).unwrap();
        program.wait_for("running", FRAMEWORK).unwrap();
        Self { rack, program, file }
    }

    /// Reconciliation, KILL, REVIVE and TEARDOWN.
    fn finish(mut self, agents: &Agents) -> Outcome {
        self.program.tell("go on").unwrap();
        self.program.end(FRAMEWORK).unwrap();
        let result = result(&self.file);
        let outcome = Outcome::of(&result, agents);
        assert_eq!(result["errors_until_teardown"], 0, "{}", result["errors"]);
        assert_eq!(outcome.ends(".short-"), ["TASK_FINISHED"; 6]);
        let failed = outcome.ends(".failing-");
        assert!(failed.len() >= 2, "a failed task is started again: {:?}", outcome.ends);
        assert!(failed.iter().all(|state| *state == "TASK_FAILED"), "{failed:?}");
        let long: Vec<&str> = list(&result["long"]).iter().map(text).collect();
        assert_eq!(outcome.ends.get(long[0]).unwrap(), "TASK_KILLED", "it was told to kill this one");
        let failure = list(&result["updates"]).iter().find(|update| update["state"] == "TASK_FAILED").unwrap();
        assert_eq!(failure["message"], "Command exited with status 3");
        for event in ["sent_accept", "sent_decline", "sent_acknowledge", "sent_reconcile", "sent_kill", "sent_revive"] {
            assert!(result["events"][event].as_u64().unwrap_or(0) > 0, "no {event}: {}", result["events"]);
        }
        removed(self.rack, &outcome.framework);
        println!("mesos-framework on Node.js {}: {}", text(&result["node"]), result["events"]);
        outcome
    }
}

/// What avmesos-cli's list commands print, compared with the master's state.
fn list_commands(rack: &Rack, cli: &PythonPackages, scratch: &Path, agents: &Agents, ended: &Outcome) {
    let config = scratch.join("cli.toml");
    fs::write(&config, format!("[master]\naddress = \"{}\"\n", rack.api_address())).unwrap();
    let table = |arguments: &[&str]| -> Vec<Vec<String>> {
        let mut command = cli.command("mesos-cli").unwrap();
        command.args(arguments).env("MESOS_CLI_CONFIG", &config);
        let said = run_to_end(&mut command, &scratch.join("cli.log"), COMMAND).unwrap();
        println!("mesos-cli {}:\n{said}", arguments.join(" "));
        rows(&said)
    };
    let state = rack.get("/state").unwrap();

    let listed = table(&["agent", "list"]);
    assert_eq!(listed[0], ["Agent ID", "Hostname", "Active"]);
    let ids: BTreeSet<String> = listed[1..].iter().map(|row| row[0].clone()).collect();
    assert_eq!(ids, agents.0);
    for row in &listed[1..] {
        let agent = list(&state["slaves"]).iter().find(|agent| agent["id"] == row[0].as_str()).unwrap();
        assert_eq!([row[1].as_str(), row[2].as_str()], [text(&agent["hostname"]), "True"]);
    }

    let running = &list(&state["frameworks"])[0];
    for arguments in [&["framework", "list"][..], &["framework", "list", "--all"]] {
        let listed = table(arguments);
        assert_eq!(listed[0], ["ID", "Active", "Hostname", "Name"]);
        assert_eq!(listed.len(), 2, "one framework is subscribed");
        assert_eq!((listed[1][0].as_str(), listed[1][1].as_str()), (text(&running["id"]), "True"));
        assert_eq!(listed[1].last().unwrap(), "mesos-framework-on-a-rack");
    }
    let mut inspect = cli.command("mesos-cli").unwrap();
    inspect.args(["framework", "inspect", text(&running["id"])]).env("MESOS_CLI_CONFIG", &config);
    let inspected: Value =
        serde_json::from_str(&run_to_end(&mut inspect, &scratch.join("cli.log"), COMMAND).unwrap()).unwrap();
    assert_eq!((text(&inspected["id"]), text(&inspected["name"])), (text(&running["id"]), text(&running["name"])));

    let listed = table(&["task", "list"]);
    assert_eq!(&listed[0][..3], ["ID", "State", "Framework ID"]);
    let tasks: BTreeSet<&str> = listed[1..].iter().map(|row| row[0].as_str()).collect();
    let expected: BTreeSet<&str> = list(&running["tasks"]).iter().map(|task| text(&task["id"])).collect();
    assert_eq!(expected.len(), 2, "the two long tasks: {expected:?}");
    assert_eq!(tasks, expected);
    assert!(listed[1..].iter().all(|row| row[1] == "TASK_RUNNING" && row[2] == text(&running["id"])), "{listed:?}");
    // The completed tasks are listed too, those of frameworks that are gone as well.
    let listed = table(&["task", "list", "--all"]);
    let states: BTreeMap<&str, &str> = listed[1..].iter().map(|row| (row[0].as_str(), row[1].as_str())).collect();
    for (task, end) in &ended.ends {
        assert_eq!(states.get(task.as_str()), Some(&end.as_str()), "{task}");
    }
}

/// The cells of a table: columns begin where the titles do, titles are two blanks apart.
fn rows(table: &str) -> Vec<Vec<String>> {
    let titles = table.lines().next().unwrap_or_default();
    let begins: Vec<usize> = (0..titles.len())
        .filter(|&at| !titles[at..].starts_with(' ') && (at == 0 || (at > 1 && titles[..at].ends_with("  "))))
        .collect();
    let cell = |line: &str, column: usize| {
        let end = begins.get(column + 1).copied().unwrap_or(line.len()).min(line.len());
        line.get(begins[column]..end).unwrap_or_default().trim().to_owned()
    };
    table.lines().map(|line| (0..begins.len()).map(|column| cell(line, column)).collect()).collect()
}

/// The program on pymesos's operator driver.
struct Operator {
    program: Conversation,
    file: std::path::PathBuf,
}

impl Operator {
    fn start(rack: &Rack, python: &PythonPackages, scratch: &Path) -> Self {
        let file = scratch.join("operator.json");
        let mut command = python.python();
        command.arg(programs().join("pymesos_operator.py")).arg(rack.api_address()).arg(&file);
        let program = Conversation::start(&mut command, &scratch.join("operator.err")).unwrap();
        program.wait_for("subscribed", CALLS).unwrap();
        Self { program, file }
    }

    fn order(&mut self, order: &str) {
        self.program.order(order, CALLS).unwrap();
    }

    fn look(&mut self, name: &str) {
        self.order(&format!("look {name}"));
    }

    fn change_and_undo(&mut self) {
        self.order("change");
    }

    fn end(mut self) -> Seen {
        self.order("end");
        self.program.end(CALLS).unwrap();
        Seen { result: result(&self.file) }
    }
}

/// What the operator has seen.
struct Seen {
    result: Value,
}

impl Seen {
    fn events(&self, kind: &str) -> Vec<&Value> {
        let all = list(&self.result["events"]);
        all.iter().filter(|event| event["kind"] == kind).map(|event| &event["event"]).collect()
    }

    /// The GET calls, before any framework came and while the npm package's long tasks ran.
    fn answers(&self, agents: &Agents) {
        let (idle, busy) = (&self.result["looks"]["idle"], &self.result["looks"]["busy"]);
        for look in [idle, busy] {
            assert_eq!(look["health"]["get_health"]["healthy"], true);
            assert_eq!(look["version"]["get_version"]["version_info"]["version"], "1.11.0");
            let ids = list(&look["agents"]["get_agents"]["agents"]).iter();
            let ids: BTreeSet<String> = ids.map(|agent| text(&agent["agent_info"]["id"]["value"]).to_owned()).collect();
            assert_eq!(ids, agents.0);
            assert!(look["master"]["get_master"]["master_info"]["id"].is_string());
            assert!(!list(&look["flags"]["get_flags"]["flags"]).is_empty());
            let metrics = list(&look["metrics"]["get_metrics"]["metrics"]);
            let connected = metrics.iter().find(|one| one["name"] == "master/slaves_connected").unwrap();
            assert_eq!(connected["value"].as_f64(), Some(2.0));
            assert_eq!(look["maintenance_status"]["get_maintenance_status"]["status"], serde_json::json!({}));
        }
        assert!(idle["tasks"]["get_tasks"]["tasks"].as_array().is_none_or(Vec::is_empty));
        let frameworks = list(&busy["frameworks"]["get_frameworks"]["frameworks"]);
        assert_eq!(frameworks.len(), 1);
        assert_eq!(frameworks[0]["framework_info"]["name"], "mesos-framework-on-a-rack");
        let completed = list(&busy["frameworks"]["get_frameworks"]["completed_frameworks"]);
        assert_eq!(completed[0]["framework_info"]["name"], "avmesos on a rack");
        for tasks in [&busy["tasks"]["get_tasks"], &busy["state"]["get_state"]["get_tasks"]] {
            let running = list(&tasks["tasks"]);
            assert_eq!(running.len(), 2, "{running:?}");
            assert!(running.iter().all(|task| task["state"] == "TASK_RUNNING"), "{running:?}");
            assert!(list(&tasks["completed_tasks"]).len() >= 11 + 6 + 2);
        }
        let roles = list(&busy["roles"]["get_roles"]["roles"]);
        let role = roles.iter().find(|role| role["name"] == "*").unwrap();
        assert_eq!(list(&role["frameworks"]).len(), 1, "{role}");
        println!("pymesos's operator driver on Python {}", text(&self.result["python"]));
    }

    /// Everything that was changed could be read back, and is as it was.
    fn changes(&self) {
        let change = &self.result["change"];
        let weights = list(&change["weights"]["get_weights"]["weight_infos"]);
        assert!(weights.iter().any(|one| one["role"] == "clients-role" && one["weight"] == 2.5), "{weights:?}");
        let quota = &change["quota"]["get_quota"]["status"]["infos"][0];
        assert_eq!(
            (text(&quota["role"]), quota["guarantee"][0]["scalar"]["value"].as_f64()),
            ("clients-role", Some(0.25))
        );
        assert!(change["quota_removed"]["get_quota"]["status"]["infos"].is_null(), "{}", change["quota_removed"]);

        let of_role = |when: &str| -> BTreeMap<&str, f64> {
            let resources = list(&change[when]["total_resources"]).iter();
            let reserved = resources.filter(|one| one["reservations"][0]["role"] == "clients-role");
            reserved.map(|one| (text(&one["name"]), one["scalar"]["value"].as_f64().unwrap())).collect()
        };
        let expected = BTreeMap::from([("cpus", 0.2), ("disk", 32.0)]);
        assert_eq!(of_role("reserved"), expected);
        assert_eq!(of_role("volume"), expected);
        let volume = |when: &str| {
            list(&change[when]["total_resources"])
                .iter()
                .any(|one| one["disk"]["persistence"]["id"] == "clients-volume")
        };
        assert!(volume("volume") && !volume("reserved") && !volume("unreserved"));
        assert!(of_role("unreserved").is_empty());

        assert_eq!(change["logging_level"]["get_logging_level"]["level"], 1);
        let window = &change["schedule"]["get_maintenance_schedule"]["schedule"]["windows"][0];
        assert_eq!(window["machine_ids"][0]["hostname"], "not-in-this-rack");
        let status = |when: &str| change[when]["get_maintenance_status"]["status"].clone();
        assert_eq!(status("draining")["draining_machines"][0]["id"]["hostname"], "not-in-this-rack");
        assert_eq!(status("down")["down_machines"][0]["hostname"], "not-in-this-rack");
        assert!(change["schedule_empty"]["get_maintenance_schedule"]["schedule"]["windows"].is_null());
        println!("weights, quota, reservations, a volume, logging and maintenance were changed, read back and undone");
    }

    /// The stream told of the framework, and of each of its tasks from TASK_ADDED to its end.
    fn tasks_came_and_went(&self, outcome: &Outcome) {
        let framework = outcome.framework.as_str();
        let added = self.events("framework_added");
        assert!(added.iter().any(|event| event["framework_info"]["id"]["value"] == framework), "{added:?}");
        let removed = self.events("framework_removed");
        assert!(removed.iter().any(|event| event["id"]["value"] == framework), "{removed:?}");

        let added: BTreeSet<&str> = self
            .events("task_added")
            .into_iter()
            .filter(|event| event["framework_id"]["value"] == framework)
            .map(|event| text(&event["task_id"]["value"]))
            .collect();
        let expected: BTreeSet<&str> = outcome.ends.keys().map(String::as_str).collect();
        assert_eq!(added, expected);
        let mut last = BTreeMap::new();
        for event in self.events("task_updated").iter().filter(|event| event["framework_id"]["value"] == framework) {
            last.insert(text(&event["status"]["task_id"]["value"]), text(&event["state"]));
        }
        for (task, end) in &outcome.ends {
            // The last that the framework saw of a task that ended with it is TASK_RUNNING.
            let end = if end == "TASK_RUNNING" { "TASK_KILLED" } else { end };
            assert_eq!(last.get(task.as_str()), Some(&end), "{task}");
        }
        println!("the event stream told of {framework} and its {} tasks", added.len());
    }

    /// An agent that is marked gone is no agent any more. Unlike Mesos's, the stream tells of it, if it is read that long.
    fn gone(&self, gone: &str, agents: &Agents) {
        let left = list(&self.result["after_gone"]["get_agents"]["agents"]).iter();
        let left: BTreeSet<&str> = left.map(|agent| text(&agent["agent_info"]["id"]["value"])).collect();
        assert_eq!(left, agents.0.iter().map(String::as_str).filter(|id| *id != gone).collect());
        assert!(self.events("agent_removed").iter().all(|agent| *agent == gone));
    }
}
