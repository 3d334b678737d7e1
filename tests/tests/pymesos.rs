//! The unmodified pymesos from its package index launches tasks on servers that booted over the network.
//!
//! The program on it is `tests/clients/pymesos_framework.py`. It runs scenarios and reports; what is right is said here.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tests::clients::{PythonPackages, programs, run_to_end};
use tests::http;
use tests::rack::{Options, Rack};

const BOOT: Duration = Duration::from_secs(240);
/// All scenarios, on two emulated servers that share a loaded host's two processors.
const SCENARIOS: Duration = Duration::from_secs(600);

/// In this order: the hundred first, on fresh nodes; the fork bomb before the processor's measurement, which shows that
/// the node got over it.
const NAMES: [&str; 12] = [
    "hundred",
    "decline",
    "kill",
    "stubborn",
    "reconcile",
    "exit3",
    "unknown",
    "environment",
    "too_much",
    "memory",
    "pids",
    "cpu",
];

#[test]
fn pymesos_runs_tasks_on_nodes_that_booted_over_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let rack = Rack::start(Options::new().unwrap()).unwrap();
    // The nodes boot meanwhile.
    let python = PythonPackages::install(&dir.path().join("python"), &["requirements.txt"]).unwrap();
    let agents = rack.wait_registered(2, BOOT).unwrap();
    came_over_the_network(&rack);

    let result = run(&rack, &python, dir.path());
    assert_eq!(result["failures"], serde_json::json!({}), "scenarios that did not go through");
    let report = Report { rack: &rack, result: &result };
    report.hundred(&agents);
    report.declined_offers_stay_away();
    report.kills();
    report.reconciliation();
    report.endings();
    report.environment();
    report.memory();
    report.pids();
    report.processor_share();
    report.updates_came_once();

    println!("after the run:\n{}", python.verify().unwrap());
    rack.end().unwrap();
}

/// Every step of the network boot is in the logs under each server's MAC, and nobody gave QEMU a kernel.
fn came_over_the_network(rack: &Rack) {
    for node in rack.nodes() {
        let evidence = rack.pxe_evidence(node.mac()).unwrap();
        println!("{} {}: {evidence:?}", node.name(), node.mac());
        assert!(evidence.shows(1), "{}: {evidence:?}", node.name());
        let pid = node.status().unwrap().pid.unwrap();
        let command =
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).replace('\0', " ");
        for given in ["-kernel", "-initrd", "-append", "-cdrom", "-drive", "-hda"] {
            assert!(!command.contains(&format!(" {given} ")), "{}: {command}", node.name());
        }
    }
}

fn run(rack: &Rack, python: &PythonPackages, scratch: &Path) -> Value {
    let result = scratch.join("result.json");
    let mut command = python.python();
    command.arg(programs().join("pymesos_framework.py")).arg(rack.api_address()).arg(&result).args(NAMES);
    let said = run_to_end(&mut command, &scratch.join("framework.log"), SCENARIOS).unwrap();
    for line in said.lines().filter(|line| line.contains(" took ")) {
        println!("  {line}");
    }
    let result: Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
    println!("pymesos on Python {} as {}", text(&result["python"]), text(&result["framework"]));
    result
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

struct Report<'a> {
    rack: &'a Rack,
    result: &'a Value,
}

impl Report<'_> {
    fn scenario(&self, name: &str) -> &Value {
        &self.result["scenarios"][name]
    }

    fn end(&self, name: &str) -> &Value {
        &self.scenario(name)["end"]
    }

    /// A file of the scenario's task.
    fn output(&self, name: &str, file: &str) -> String {
        let (framework, task) = (text(&self.result["framework"]), text(&self.scenario(name)["task"]));
        let url = format!("{}/mesolith/v1/tasks/{framework}/{task}/files/{file}", self.rack.api_url());
        http::get(&url, Duration::from_secs(30)).unwrap().success().unwrap().text()
    }

    fn hundred(&self, agents: &[Value]) {
        let scenario = self.scenario("hundred");
        let mut by_agent: BTreeMap<&str, u32> = BTreeMap::new();
        let ends = scenario["ends"].as_array().unwrap();
        for end in ends {
            assert_eq!(end["state"], "TASK_FINISHED", "{end}");
            *by_agent.entry(text(&end["agent"])).or_default() += 1;
        }
        let tasks: BTreeSet<&str> = ends.iter().map(|end| text(&end["task"])).collect();
        assert_eq!(tasks.len(), 100);
        let known: BTreeSet<&str> = agents.iter().map(|agent| text(&agent["id"])).collect();
        assert_eq!(by_agent.keys().copied().collect::<BTreeSet<_>>(), known, "both nodes are used");
        println!("100 tasks, all TASK_FINISHED, in {:.1} s: {by_agent:?}", number(&scenario["seconds"]));
    }

    fn declined_offers_stay_away(&self) {
        let scenario = self.scenario("decline");
        assert_eq!(scenario["declined"].as_array().unwrap().len(), 2, "{scenario}");
        assert_eq!(scenario["while_declined"], 0, "{scenario}");
        println!(
            "declined for an hour: no offer in 6 s; offered again {:.3} s after REVIVE",
            number(&scenario["seconds_to_revive"])
        );
    }

    fn kills(&self) {
        let (kill, stubborn) = (self.scenario("kill"), self.scenario("stubborn"));
        for scenario in [kill, stubborn] {
            assert_eq!(scenario["end"]["state"], "TASK_KILLED", "{scenario}");
        }
        assert_eq!(text(&kill["end"]["message"]), "Command terminated with signal Terminated");
        assert_eq!(text(&stubborn["end"]["message"]), "Command terminated with signal Killed");
        let output = self.output("stubborn", "stdout");
        assert!(output.contains("ready"), "{output}");
        let seconds = number(&stubborn["seconds"]);
        assert!((1.9..8.0).contains(&seconds), "a grace of 2 s ended after {seconds:.1} s");
        println!(
            "killed in {:.2} s ({}); ignoring SIGTERM: killed in {seconds:.2} s with a grace of 2 s",
            number(&kill["seconds"]),
            text(&kill["end"]["message"])
        );
    }

    fn reconciliation(&self) {
        let scenario = self.scenario("reconcile");
        let find = |answers: &Value, task: &str| {
            let found = answers.as_array().unwrap().iter().find(|answer| answer["task"] == task).cloned();
            found.unwrap_or_else(|| panic!("no answer about {task}: {answers}"))
        };
        let task = text(&scenario["task"]);
        for (answers, task, state) in [
            (&scenario["explicit"], task, "TASK_RUNNING"),
            // Not PARTITION_AWARE: what nobody knows is lost.
            (&scenario["explicit"], "nobody-knows-me", "TASK_LOST"),
            (&scenario["implicit"], task, "TASK_RUNNING"),
        ] {
            let answer = find(answers, task);
            assert_eq!((text(&answer["state"]), text(&answer["reason"])), (state, "REASON_RECONCILIATION"), "{answer}");
            assert!(answer["uuid"].is_null(), "reconciled states are not acknowledged: {answer}");
        }
        println!("reconciled explicitly and implicitly");
    }

    fn endings(&self) {
        let exit3 = self.end("exit3");
        assert_eq!((text(&exit3["state"]), text(&exit3["message"])), ("TASK_FAILED", "Command exited with status 3"));
        let unknown = self.end("unknown");
        assert_eq!(unknown["state"], "TASK_FAILED", "{unknown}");
        assert!(text(&unknown["message"]).contains("/no/such/program"), "{unknown}");
        let too_much = self.end("too_much");
        assert_eq!(
            (text(&too_much["state"]), text(&too_much["reason"])),
            ("TASK_ERROR", "REASON_TASK_INVALID"),
            "{too_much}"
        );
        assert!(text(&too_much["message"]).contains("is more than available"), "{too_much}");
        for end in [exit3, unknown, too_much] {
            println!("{}: {}", text(&end["state"]), text(&end["message"]));
        }
    }

    fn environment(&self) {
        assert_eq!(self.end("environment")["state"], "TASK_FINISHED");
        let (stdout, stderr) = (self.output("environment", "stdout"), self.output("environment", "stderr"));
        let framework = format!("MESOS_FRAMEWORK_ID={}", text(&self.result["framework"]));
        let task = format!("MESOS_TASK_ID={}", text(&self.scenario("environment")["task"]));
        for wanted in [
            "GREETING=hello there",
            "EMPTY=",
            "MESOS_SANDBOX=/mnt/mesos/sandbox",
            "/mnt/mesos/sandbox",
            &framework,
            &task,
        ] {
            assert!(stdout.lines().any(|line| line == wanted), "no line `{wanted}` in:\n{stdout}");
        }
        assert_eq!(stderr, "to-stderr\n");
        println!("the environment is Mesos's, stdout and stderr are apart");
    }

    fn memory(&self) {
        let end = self.end("memory");
        let got = (text(&end["state"]), text(&end["reason"]));
        assert_eq!(got, ("TASK_FAILED", "REASON_CONTAINER_LIMITATION_MEMORY"), "{end}");
        let message = text(&end["message"]);
        // Mesos's words: what was asked for, what was used.
        assert!(message.starts_with("Memory limit exceeded: Requested: 32MB Maximum Used: "), "{message}");
        assert_eq!(end["limitation"]["resources"][0]["name"], "mem", "{end}");
        assert!(!self.output("memory", "stdout").contains("survived"));
        println!("{} {}: {message}", text(&end["state"]), text(&end["reason"]));
    }

    fn pids(&self) {
        let stdout = self.output("pids", "stdout");
        let value = |key: &str| -> u64 {
            let line = stdout
                .lines()
                .find_map(|line| line.strip_prefix(key))
                .unwrap_or_else(|| panic!("no {key} in:\n{stdout}"));
            line.trim().parse().unwrap_or_else(|_| panic!("{key} is `{line}`"))
        };
        let (max, peak, refused) = (value("max "), value("peak "), value("event max "));
        assert!((2..=max).contains(&peak), "{peak} processes of {max}");
        assert!(refused > 0, "the bomb never met its limit:\n{stdout}");
        assert_eq!(self.end("pids")["state"], "TASK_FINISHED", "{}", self.end("pids"));
        let active = self.rack.registered().len();
        assert_eq!(active, 2, "the bomb took a node with it");
        println!("fork bomb: {peak} processes seen of at most {max}, {refused} forks refused; {active} nodes active");
    }

    fn processor_share(&self) {
        let stdout = self.output("cpu", "stdout");
        let look = |name: &str| -> (f64, f64) {
            let line =
                stdout.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in:\n{stdout}"));
            let values: Vec<f64> = line.split(' ').skip(1).map(|value| value.parse().unwrap()).collect();
            (values[0] / 1e6, values[1])
        };
        let (before, after) = (look("before"), look("after"));
        let (used, passed) = (after.0 - before.0, after.1 - before.1);
        let share = used / passed;
        println!("half a cpu for {passed:.2} s: {used:.3} s used, {share:.4} cpus");
        assert!(passed >= 29.5, "the measurement took {passed} s only");
        assert!((share - 0.5).abs() <= 0.025, "0.5 cpus were asked for, {share:.4} were given");
    }

    /// No task ended twice, and no update came twice: each was acknowledged in time.
    fn updates_came_once(&self) {
        let updates = self.result["updates"].as_array().unwrap();
        let terminal = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST"];
        let (mut ended, mut uuids) = (BTreeMap::<&str, u32>::new(), BTreeMap::<&str, u32>::new());
        for update in updates.iter().filter(|update| update["reason"] != "REASON_RECONCILIATION") {
            if terminal.contains(&text(&update["state"])) {
                *ended.entry(text(&update["task"])).or_default() += 1;
            }
            if let Some(uuid) = update["uuid"].as_str() {
                *uuids.entry(uuid).or_default() += 1;
            }
        }
        let twice: Vec<_> = ended.iter().filter(|(_, count)| **count > 1).collect();
        assert!(twice.is_empty(), "ended more than once: {twice:?}");
        let repeated = uuids.values().filter(|count| **count > 1).count();
        println!("{} updates, {} tasks ended once each, {repeated} updates repeated", updates.len(), ended.len());
    }
}
