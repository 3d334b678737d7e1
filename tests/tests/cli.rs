//! Every verb of `mesolith` against a rack of two servers that booted over the network.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::framework::Framework;
use tests::rack::{Options, Rack};

const BOOT: Duration = Duration::from_secs(240);

#[test]
fn every_verb_works_on_a_booted_rack() {
    let rack = Rack::start(Options::new().unwrap()).unwrap();
    rack.wait_registered(2, BOOT).unwrap();
    let cli = Cli { rack: &rack };
    nodes(&cli);
    hardware(&cli);
    run_exits_with_the_tasks_status(&cli);
    run_streams_while_the_task_runs(&cli);
    constraints_choose_the_node(&cli);
    interrupted_and_timed_out_tasks_are_killed(&cli);
    impossible_tasks_are_explained(&cli);
    tasks_and_logs(&cli);
    frameworks_offers_and_teardown(&cli);
    version(&cli);
    run_survives_a_killed_master(&cli);
    rack.end().unwrap();
}

struct Cli<'a> {
    rack: &'a Rack,
}

impl Cli<'_> {
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.rack.options().programs.cli);
        command.args(["--master", self.rack.api_address()]).args(arguments).stdin(Stdio::null());
        command
    }

    fn output(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("mesolith has been built beside this test")
    }

    /// What a successful run prints.
    fn text(&self, arguments: &[&str]) -> String {
        let output = self.output(arguments);
        assert!(output.status.success(), "{arguments:?}: {}{}", stdout(&output), stderr(&output));
        stdout(&output)
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let text = self.text(&[arguments, &["--json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} --json: {error}\n{text}"))
    }

    /// Waits until `true`, asking `/state` through the program itself.
    fn wait_tasks(&self, what: &str, reached: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let tasks = self.json(&["tasks"]).as_array().unwrap().clone();
            if reached(&tasks) {
                return tasks;
            }
            assert!(Instant::now() < deadline, "{what} did not come: {tasks:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn nodes(cli: &Cli<'_>) {
    let table = cli.text(&["nodes"]);
    println!("{table}");
    let nodes = cli.json(&["nodes"]);
    for (index, node) in cli.rack.nodes().iter().enumerate() {
        let line =
            table.lines().find(|line| line.starts_with(node.name())).unwrap_or_else(|| panic!("no {}", node.name()));
        assert!(line.contains("connected") && line.contains(&format!("rack={}", node.rack_name())), "{line}");
        let row = &nodes[index];
        assert_eq!((row["name"].as_str(), row["state"].as_str()), (Some(node.name()), Some("connected")), "{row}");
        assert_eq!(row["attributes"]["rack"], node.rack_name(), "{row}");
        assert!(
            row["resources"]["cpus"].as_f64().unwrap() >= 1.0 && row["resources"]["mem"].as_f64().unwrap() > 256.0,
            "{row}"
        );
    }
    assert!(!table.contains('\x1b'), "colour without a terminal");
}

fn hardware(cli: &Cli<'_>) {
    let text = cli.text(&["hw", "node-1"]);
    println!("{text}");
    let inventory = cli.json(&["hw", "node-1"]);
    let mac = cli.rack.node(1).mac().to_owned();
    assert!(text.contains(&mac) && inventory.to_string().contains(&mac), "the inventory lacks the NIC {mac}");
    assert!(text.to_lowercase().contains("qemu"), "the inventory does not say whose machine it is");
    // By address and agent id, too.
    let address = cli.rack.node(2).address().to_owned();
    assert!(cli.text(&["hw", &address]).contains(cli.rack.node(2).mac()));
    let output = cli.output(&["hw", "node-9"]);
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("no node is called `node-9`"), "{said}");
    // Like every list of nodes in the order of their names, though they registered in the other.
    assert!(said.contains("the nodes are node-1, node-2"), "{said}");
}

fn run_exits_with_the_tasks_status(cli: &Cli<'_>) {
    for (arguments, code, out) in [
        (&["--", "echo out; echo err >&2; exit 0"][..], 0, "out\n"),
        (&["--", "exit 3"], 3, ""),
        (&["--", "sh", "-c", "exit 200"], 200, ""),
        (&["--env", "GREETING=hello there", "--", "echo $GREETING"], 0, "hello there\n"),
        (&["--", "printf", "%s|", "two words", "$HOME"], 0, "two words|$HOME|"),
        (&["--cpus", "0.5", "--mem", "32", "--", "head -c 100m /dev/zero | tail"], 137, ""),
        (&["--", "/no/such/program", "argument"], 127, ""),
    ] {
        let began = Instant::now();
        let output = cli.output(&[&["run", "--quiet"], arguments].concat());
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), out, "{arguments:?}");
        println!("run {arguments:?}: {code} after {:.2} s {}", began.elapsed().as_secs_f32(), stderr(&output).trim());
        if code == 0 && out == "out\n" {
            assert_eq!(stderr(&output), "err\n");
        }
        if arguments.contains(&"/no/such/program") {
            assert!(stderr(&output).contains("/no/such/program"), "{}", stderr(&output));
        }
    }
    let ended = cli.output(&["run", "--json", "--quiet", "--", "echo told; exit 5"]);
    assert_eq!((ended.status.code(), stderr(&ended).as_str()), (Some(5), "told\n"));
    let ended: Value = serde_json::from_slice(&ended.stdout).unwrap();
    assert_eq!((&ended["state"], &ended["exit_status"]), (&json!("TASK_FAILED"), &json!(5)), "{ended}");
}

/// What the task prints is here before the task is over.
fn run_streams_while_the_task_runs(cli: &Cli<'_>) {
    use std::io::{BufRead, BufReader};
    let mut command = cli.command(&["run", "--quiet", "--", "echo first; sleep 4; echo last"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "first");
    let first = Instant::now();
    assert!(child.try_wait().unwrap().is_none(), "the task was over before its first line came");
    assert_eq!(lines.next().unwrap().unwrap(), "last");
    let between = first.elapsed();
    assert!(between > Duration::from_secs(2), "both lines came together, {between:?} apart");
    assert!(child.wait().unwrap().success());
    println!("output came as it was made, {:.1} s apart", between.as_secs_f32());
}

fn constraints_choose_the_node(cli: &Cli<'_>) {
    for node in cli.rack.nodes() {
        let constraint = format!("rack:LIKE:{}", node.rack_name());
        let output =
            cli.output(&["run", "--json", "--constraint", &constraint, "--cpus", "0.5", "--mem", "64", "--", "true"]);
        let ended: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", stderr(&output)));
        assert_eq!(ended["node"].as_str(), Some(node.name()), "{constraint}: {ended}");
    }
    let output = cli.output(&["run", "--quiet", "--wait", "4s", "--constraint", "rack:UNLIKE:r1-.*", "--", "true"]);
    assert_eq!(output.status.code(), Some(125));
    let said = stderr(&output);
    assert!(said.contains("rack is r1-a on node-1, r1-b on node-2"), "{said}");
    println!("{}", said.trim());
}

fn interrupted_and_timed_out_tasks_are_killed(cli: &Cli<'_>) {
    let output = cli.output(&["run", "--quiet", "--timeout", "2s", "--grace", "1s", "--", "sleep", "1000"]);
    assert_eq!(output.status.code(), Some(124), "{}", stderr(&output));
    let mut command = cli.command(&["run", "--name", "interrupted", "--grace", "1s", "--", "sleep", "1000"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cli.wait_tasks("the running task", |tasks| {
        tasks.iter().any(|t| t["name"] == "interrupted" && t["state"] == "TASK_RUNNING")
    });
    let interrupt = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    println!("Ctrl-C: killed and confirmed within {:.1} s", interrupt.elapsed().as_secs_f32());
    let all = cli.json(&["tasks", "--all"]);
    let killed = all.as_array().unwrap().iter().find(|task| task["name"] == "interrupted").cloned().unwrap();
    assert_eq!(killed["state"], "TASK_KILLED", "{killed}");
}

fn impossible_tasks_are_explained(cli: &Cli<'_>) {
    for (arguments, says) in [
        (&["run", "--cpus", "64", "--", "true"][..], "no node is large enough for cpus:64; mem:32: the nearest, node-"),
        (&["run", "--constraint", "rack:like:x", "--", "true"], "is not an operator"),
        (&["logs", "nothing"], "no task and no node is called `nothing`"),
        (&["teardown", "nothing"], "no framework has the id or name `nothing`"),
    ] {
        let output = cli.output(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = stderr(&output);
        assert!(said.contains(says) && said.contains("next: "), "{arguments:?}: {said}");
    }
    let nobody =
        Command::new(&cli.rack.options().programs.cli).args(["--master", "127.0.0.1:1", "nodes"]).output().unwrap();
    assert!(
        stderr(&nobody).contains("cannot reach the master") && stderr(&nobody).contains("--master"),
        "{}",
        stderr(&nobody)
    );
}

fn tasks_and_logs(cli: &Cli<'_>) {
    let mut command = cli.command(&[
        "run",
        "--quiet",
        "--name",
        "talker",
        "--",
        "n=0; while [ $n -lt 12 ]; do echo line $n; echo e$n >&2; n=$((n+1)); sleep 0.5; done",
    ]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let tasks = cli
        .wait_tasks("the talker", |tasks| tasks.iter().any(|t| t["name"] == "talker" && t["state"] == "TASK_RUNNING"));
    let task = tasks.iter().find(|task| task["name"] == "talker").unwrap();
    let id = task["id"].as_str().unwrap();
    let table = cli.text(&["tasks"]);
    println!("{table}");
    assert!(table.contains(id) && table.contains("TASK_RUNNING") && table.contains(task["node"].as_str().unwrap()));
    // Follows to the end of the task, and gives exactly what `run` gave.
    let followed = cli.text(&["logs", "-f", id]);
    let ran = child.wait_with_output().unwrap();
    let whole: String = (0..12).map(|n| format!("line {n}\n")).collect();
    assert_eq!((followed.as_str(), stdout(&ran).as_str()), (whole.as_str(), whole.as_str()));
    assert!(cli.text(&["logs", id, "--stderr"]).ends_with("e11\n"));
    assert_eq!(cli.text(&["logs", id]), whole);
    let log = cli.text(&["logs", "node-1"]);
    assert!(log.lines().count() > 5, "the node's log is short:\n{log}");
    println!("node-1's log has {} lines, the last: {}", log.lines().count(), log.lines().last().unwrap_or_default());
    let all = cli.json(&["tasks", "--all"]);
    let done = all.as_array().unwrap().iter().find(|task| task["id"] == id).unwrap();
    assert_eq!(done["state"], "TASK_FINISHED", "{done}");
}

fn frameworks_offers_and_teardown(cli: &Cli<'_>) {
    let framework = Framework::subscribe(cli.rack.api_url(), "holds offers", &json!({"failover_timeout": 60})).unwrap();
    framework.wait("OFFERS", Duration::from_secs(30)).unwrap();
    let table = cli.text(&["frameworks"]);
    assert!(table.lines().any(|line| line.contains("holds offers") && line.contains("active")), "{table}");
    let offers = cli.json(&["offers"]);
    let first = &offers.as_array().unwrap()[0];
    assert_eq!(first["framework_id"].as_str(), Some(framework.id.as_str()), "{offers}");
    let table = cli.text(&["offers"]);
    assert!(table.contains("holds offers") && table.contains("node-"), "{table}");
    println!("{table}");
    let told = cli.json(&["teardown", "holds offers"]);
    assert_eq!(told["framework_id"].as_str(), Some(framework.id.as_str()));
    let rows = cli.json(&["frameworks", "--all"]);
    let row = rows.as_array().unwrap().iter().find(|row| row["id"] == framework.id.as_str()).unwrap();
    assert_eq!(row["state"], "completed", "{row}");
}

fn version(cli: &Cli<'_>) {
    let version = cli.json(&["version"]);
    assert_eq!(version["master"]["version"]["version"], "1.11.0", "frameworks are told Mesos's version: {version}");
    println!("{}", cli.text(&["version"]));
}

/// The master is killed under a running `mesolith run`, which notices and goes on.
fn run_survives_a_killed_master(cli: &Cli<'_>) {
    let mut command = cli.command(&["run", "--name", "patient", "--", "echo before; sleep 8; echo after; exit 7"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    cli.wait_tasks("the running task", |tasks| {
        tasks.iter().any(|t| t["name"] == "patient" && t["state"] == "TASK_RUNNING")
    });
    cli.rack.master().kill9().unwrap();
    std::thread::sleep(Duration::from_secs(2));
    cli.rack.master().start().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{}", stderr(&output));
    assert_eq!(stdout(&output), "before\nafter\n", "{}", stderr(&output));
    println!("`mesolith run` outlived its master: {}", stderr(&output).trim().replace('\n', " | "));
}
