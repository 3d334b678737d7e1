//! What a node and its master survive: a killed agent, launcher and master, a reboot, an impostor, a cable.
//!
//! One server, booted over the network. Its kernel command line says `mesolith.insecure_faults`, so that init obeys
//! `pids` and `kill NAME` from the second serial line; without the word there is nothing to obey.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::framework::Framework;
use tests::http;
use tests::rack::{FaultLine, Link, Options, Rack};

const BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(60);
/// Long enough for several restarts of the agent with their growing pauses.
const DOWN: Duration = Duration::from_secs(12);

const TERMINAL: [&str; 6] = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_GONE"];

/// Says once in half a second how often it has said so, and when its process was started (field 22 of its stat).
const BEATS: &str = "read pid comm state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt utime stime cutime \
                     cstime priority nice threads itrealvalue start rest </proc/self/stat; \
                     n=0; while :; do echo $n $start; n=$((n+1)); sleep 0.5; done";

#[test]
fn a_node_and_its_tasks_survive_their_faults() {
    let rack = Rack::start(FaultLine::with_line(Options::new().unwrap())).unwrap();
    rack.wait_registered(1, BOOT).unwrap();
    let mut faults = FaultLine::connect(&rack).unwrap();
    let mut cluster = Cluster::subscribe(&rack);
    killing_the_agent_loses_nothing(&rack, &mut faults, &mut cluster);
    killing_the_launcher_leaves_tasks_alone(&rack, &mut faults, &mut cluster);
    killing_the_master_loses_nothing(&rack, &mut cluster);
    an_impostor_is_refused(&rack, &mut cluster);
    a_pulled_cable_is_survived(&rack, &mut cluster);
    a_reboot_ends_every_task_once_and_the_node_is_back(&rack, &mut cluster);
    cluster.framework.call("TEARDOWN", &Value::Null).unwrap();
    rack.end().unwrap();
}

/// A framework that acknowledges everything and remembers it.
struct Cluster<'a> {
    rack: &'a Rack,
    framework: Framework,
    /// Every update that was no answer to a reconciliation, by task.
    updates: BTreeMap<String, Vec<Value>>,
    launched: u32,
}

impl<'a> Cluster<'a> {
    fn info(id: Option<&str>) -> Value {
        let mut more = json!({"failover_timeout": 3600, "checkpoint": true});
        if let Some(id) = id {
            more["id"] = json!({"value": id});
        }
        more
    }

    fn subscribe(rack: &'a Rack) -> Self {
        let framework = Framework::subscribe(rack.api_url(), "node faults", &Self::info(None)).unwrap();
        Self { rack, framework, updates: BTreeMap::new(), launched: 0 }
    }

    /// Comes back under the same id.
    fn resubscribe(&mut self) {
        let id = self.framework.id.clone();
        let framework = Framework::subscribe(self.rack.api_url(), "node faults", &Self::info(Some(&id))).unwrap();
        assert_eq!(framework.id, id, "the master knows the framework");
        self.framework = framework;
    }

    /// Takes in what has come, for that long; gives the reconciliation's answers among it.
    fn take(&mut self, wait: Duration) -> Vec<Value> {
        let (deadline, mut reconciled) = (Instant::now() + wait, Vec::new());
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some((_, event)) = self.framework.next(left).expect("the master keeps the stream open") else {
                return reconciled;
            };
            match event["type"].as_str().unwrap() {
                "UPDATE" => {
                    self.framework.acknowledge(&event).unwrap();
                    let status = event["update"]["status"].clone();
                    if status["reason"] == "REASON_RECONCILIATION" {
                        reconciled.push(status);
                    } else {
                        let task = status["task_id"]["value"].as_str().unwrap().to_owned();
                        self.updates.entry(task).or_default().push(status);
                    }
                }
                // What is not wanted now is offered again soon.
                "OFFERS" => self.decline(&event),
                _ => {}
            }
        }
    }

    fn decline(&self, event: &Value) {
        let ids: Vec<Value> =
            event["offers"]["offers"].as_array().unwrap().iter().map(|offer| offer["id"].clone()).collect();
        self.framework.call("DECLINE", &json!({"offer_ids": ids, "filters": {"refuse_seconds": 0.5}})).unwrap();
    }

    /// Launches these commands on one offer and waits until all run. Gives the task ids.
    fn launch(&mut self, commands: &[String]) -> Vec<String> {
        let deadline = Instant::now() + SOON;
        // Making the container is charged to the task: less than this takes seconds.
        let (cpus, mem) = (0.08, 16.0);
        let tasks = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let event = self.framework.wait("OFFERS", left).expect("an offer of the only node");
            let offer = event["offers"]["offers"][0].clone();
            let tasks: Vec<Value> = commands
                .iter()
                .map(|command| {
                    self.launched += 1;
                    json!({"name": "fault", "task_id": {"value": format!("fault-{}", self.launched)}, "agent_id": offer["agent_id"],
                           "command": {"value": command}, "kill_policy": {"grace_period": {"nanoseconds": 500_000_000}},
                           "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
                                         {"name": "mem", "type": "SCALAR", "scalar": {"value": mem}}]})
                })
                .collect();
            let have = |name: &str| -> f64 {
                let resources = offer["resources"].as_array().into_iter().flatten();
                resources
                    .filter(|resource| resource["name"] == name)
                    .filter_map(|r| r["scalar"]["value"].as_f64())
                    .sum()
            };
            let count = f64::from(u32::try_from(tasks.len()).unwrap());
            if have("cpus") >= cpus * count && have("mem") >= mem * count {
                let launch = json!({"type": "LAUNCH", "launch": {"task_infos": tasks}});
                let accept =
                    json!({"offer_ids": [offer["id"]], "operations": [launch], "filters": {"refuse_seconds": 0.5}});
                self.framework.call("ACCEPT", &accept).unwrap();
                break tasks;
            }
            self.decline(&event);
        };
        let ids: Vec<String> = tasks.iter().map(|task| task["task_id"]["value"].as_str().unwrap().to_owned()).collect();
        while !ids.iter().all(|id| self.states(id).contains(&"TASK_RUNNING".to_owned())) {
            let states: Vec<_> = ids.iter().map(|id| self.states(id)).collect();
            assert!(Instant::now() < deadline, "not all tasks run: {states:?}");
            self.take(Duration::from_millis(200));
        }
        ids
    }

    fn states(&self, task: &str) -> Vec<String> {
        let updates = self.updates.get(task).into_iter().flatten();
        updates.map(|status| status["state"].as_str().unwrap().to_owned()).collect()
    }

    /// The terminal updates of a task; one repeated under its uuid counts once, and is told.
    fn ends(&self, task: &str) -> Vec<Value> {
        let mut seen = BTreeSet::new();
        let updates = self.updates.get(task).into_iter().flatten();
        updates
            .filter(|status| TERMINAL.contains(&status["state"].as_str().unwrap()))
            .filter(|status| status["uuid"].is_null() || seen.insert(status["uuid"].to_string()))
            .cloned()
            .collect()
    }

    fn wait_ends(&mut self, tasks: &[String]) -> Vec<Value> {
        let deadline = Instant::now() + SOON;
        while tasks.iter().any(|task| self.ends(task).is_empty()) {
            let states: Vec<_> = tasks.iter().map(|task| (task, self.states(task))).collect();
            assert!(Instant::now() < deadline, "not all tasks ended: {states:?}");
            self.take(Duration::from_millis(200));
        }
        // A second end would come now.
        self.take(Duration::from_secs(2));
        tasks
            .iter()
            .map(|task| {
                let ends = self.ends(task);
                assert_eq!(ends.len(), 1, "{task} ended {} times: {ends:?}", ends.len());
                ends[0].clone()
            })
            .collect()
    }

    fn kill(&mut self, tasks: &[String]) {
        for task in tasks {
            self.framework.call("KILL", &json!({"task_id": {"value": task}})).unwrap();
        }
        for end in self.wait_ends(tasks) {
            assert_eq!(end["state"], "TASK_KILLED", "{end}");
        }
    }

    /// The agent may be coming back just now: then the master says to try again.
    fn stdout(&self, task: &str) -> String {
        let url = format!("{}/mesolith/v1/tasks/{}/{task}/files/stdout", self.rack.api_url(), self.framework.id);
        let deadline = Instant::now() + SOON;
        loop {
            let answer = http::get(&url, Duration::from_secs(30)).unwrap();
            if answer.status != 503 || Instant::now() > deadline {
                return answer.success().unwrap().text();
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// How often a task of [`BEATS`] has spoken, and its start time: without a gap, and always the same.
    fn beats(&self, task: &str) -> (usize, u64) {
        let text = self.stdout(task);
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let mut start = None;
        for (expected, line) in whole.lines().enumerate() {
            let words: Vec<u64> =
                line.split(' ').map(|word| word.parse().unwrap_or_else(|_| panic!("{task} said `{line}`"))).collect();
            assert_eq!(usize::try_from(words[0]).unwrap(), expected, "{task} stopped or began anew");
            assert_eq!(*start.get_or_insert(words[1]), words[1], "{task} is another process");
        }
        (whole.lines().count(), start.unwrap_or_else(|| panic!("{task} has said nothing")))
    }

    /// The pid on the node, as the agent reports it.
    fn pid(&self, task: &str) -> u64 {
        let state = self.rack.get("/state").unwrap();
        let tasks =
            state["frameworks"].as_array().unwrap().iter().flat_map(|framework| framework["tasks"].as_array().unwrap());
        let found =
            tasks.into_iter().find(|found| found["id"] == task).unwrap_or_else(|| panic!("/state lacks {task}"));
        let status = found["statuses"].as_array().unwrap().last().unwrap();
        status["container_status"]["executor_pid"].as_u64().unwrap_or_else(|| panic!("{task} has no pid: {found}"))
    }
}

fn agent(rack: &Rack) -> Value {
    rack.wait_registered(1, SOON).unwrap().remove(0)
}

fn killing_the_agent_loses_nothing(rack: &Rack, faults: &mut FaultLine, cluster: &mut Cluster<'_>) {
    let before = agent(rack);
    let mut commands = vec![BEATS.to_owned(); 8];
    // These two end in the middle of the time in which the agent is killed again and again.
    let ends_at = DOWN.as_secs() / 2;
    for status in [0, 3] {
        commands.push(format!("sleep {ends_at}; exit {status}"));
    }
    let tasks = cluster.launch(&commands);
    let running = Instant::now();
    let (beating, ending) = tasks.split_at(8);
    let before_kill: Vec<(u64, u64)> = {
        let beats = |task: &String| (cluster.pid(task), cluster.beats(task).1);
        std::thread::sleep(Duration::from_secs(1));
        beating.iter().map(beats).collect()
    };
    let first = faults.pids().unwrap()["agent"];
    let mut killed = BTreeSet::from([faults.kill("agent").unwrap()]);
    assert!(killed.contains(&first), "init killed {killed:?}, the agent was {first}");
    while running.elapsed() < DOWN {
        let pid = faults.pids().unwrap().get("agent").copied().unwrap_or(0);
        if pid != 0 && !killed.contains(&pid) {
            killed.insert(faults.kill("agent").unwrap());
            // It had ended by itself in between.
            killed.remove(&0);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.take(Duration::ZERO);
    for task in ending {
        assert!(
            cluster.ends(task).is_empty(),
            "an agent lived long enough to report {task}: {:?}",
            cluster.states(task)
        );
    }
    let last = *killed.iter().next_back().unwrap();
    let now = faults.wait_other("agent", last, SOON).unwrap();
    assert!(!killed.contains(&now), "the agent has a new pid");
    let back = Instant::now();
    // Re-registered when the master is told of the two ends.
    for (end, (state, message)) in cluster
        .wait_ends(ending)
        .iter()
        .zip([("TASK_FINISHED", "Command exited with status 0"), ("TASK_FAILED", "Command exited with status 3")])
    {
        assert_eq!((end["state"].as_str(), end["message"].as_str()), (Some(state), Some(message)), "{end}");
    }
    let told = back.elapsed();
    let after = agent(rack);
    assert_eq!(after["id"], before["id"], "the agent comes back under its id");
    for (task, (pid, start)) in beating.iter().zip(&before_kill) {
        assert_eq!(cluster.pid(task), *pid, "{task} has another pid");
        let (beats, started) = cluster.beats(task);
        assert_eq!(started, *start, "{task} was started again");
        assert!(beats as f64 > DOWN.as_secs_f64(), "{task} stood still: {beats} beats");
        assert!(cluster.ends(task).is_empty(), "{task} ended: {:?}", cluster.ends(task));
    }
    println!(
        "agent {first} killed {} times in {} s, now {now}: 8 tasks kept pid and start time, 2 ended meanwhile and were \
         reported once {:.1} s after the agent was back; agent id {} kept",
        killed.len(),
        DOWN.as_secs(),
        told.as_secs_f32(),
        after["id"]
    );
    cluster.kill(beating);
}

fn killing_the_launcher_leaves_tasks_alone(rack: &Rack, faults: &mut FaultLine, cluster: &mut Cluster<'_>) {
    let task = cluster.launch(&[BEATS.to_owned()]);
    let before = faults.kill("launcher").unwrap();
    let now = faults.wait_other("launcher", before, SOON).unwrap();
    let second = cluster.launch(&[BEATS.to_owned()]);
    let (beats, _) = cluster.beats(&task[0]);
    assert!(cluster.ends(&task[0]).is_empty());
    assert_eq!(rack.registered().len(), 1);
    println!("launcher {before} killed, now {now}: the task went on ({beats} beats), another was launched");
    cluster.kill(&[task[0].clone(), second[0].clone()]);
}

fn killing_the_master_loses_nothing(rack: &Rack, cluster: &mut Cluster<'_>) {
    let before = agent(rack);
    let tasks = cluster.launch(&vec![BEATS.to_owned(); 3]);
    let mut commands = tasks.clone();
    // One that ends while there is no master to tell.
    commands.extend(cluster.launch(&["sleep 5; exit 4".to_owned()]));
    let ending = vec![commands[3].clone()];
    rack.master().kill9().unwrap();
    std::thread::sleep(Duration::from_secs(8));
    let restart = Instant::now();
    rack.master().start().unwrap();
    let served = restart.elapsed();
    let state = rack.get("/state").unwrap();
    let known = state["frameworks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|framework| framework["id"] == cluster.framework.id.as_str());
    let known = known.unwrap_or_else(|| panic!("the restarted master lost the framework: {state}"));
    for task in &tasks {
        assert!(known["tasks"].as_array().unwrap().iter().any(|kept| kept["id"] == task.as_str()), "it lost {task}");
    }
    let after = agent(rack);
    let registered = restart.elapsed();
    assert_eq!(after["id"], before["id"], "the agent is known");
    cluster.resubscribe();
    let end = cluster.wait_ends(&ending).remove(0);
    assert_eq!(
        (end["state"].as_str(), end["message"].as_str()),
        (Some("TASK_FAILED"), Some("Command exited with status 4"))
    );
    cluster.framework.call("RECONCILE", &json!({"tasks": []})).unwrap();
    let reconciled = cluster.take(Duration::from_secs(2));
    for task in &tasks {
        let found = reconciled.iter().find(|status| status["task_id"]["value"] == task.as_str());
        assert_eq!(found.unwrap_or_else(|| panic!("{task} is not reconciled"))["state"], "TASK_RUNNING");
        assert!(cluster.ends(task).is_empty(), "{task} ended");
        cluster.beats(task);
    }
    println!(
        "master killed and away for 8 s: it served {:.2} s after its start, the agent was back after {:.2} s; framework, agent \
         and 3 running tasks kept, the exit meanwhile reported once",
        served.as_secs_f32(),
        registered.as_secs_f32()
    );
    cluster.kill(&tasks);
}

/// Another machine with the name of a node that lives gets a refusal that says why, and the node does not notice.
fn an_impostor_is_refused(rack: &Rack, cluster: &mut Cluster<'_>) {
    let before = agent(rack);
    let task = cluster.launch(&[BEATS.to_owned()]);
    let name = rack.node(1).name().to_owned();
    let made =
        http::post_json(&format!("{}/mesolith/v1/tokens", rack.api_url()), &json!({ "name": name }).to_string(), SOON);
    let made = made.unwrap().success().unwrap().json().unwrap();
    let dir = rack.dir().join("impostor");
    std::fs::create_dir_all(&dir).unwrap();
    let token = dir.join("token");
    std::fs::write(&token, made["token"].as_str().unwrap()).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&token, permissions).unwrap();
    let ca = made["ca_sha256"].as_str().unwrap().trim_start_matches("sha256:").to_owned();
    let log = dir.join("log");
    let file = File::create(&log).unwrap();
    let mut impostor = rack
        .inside(&rack.options().programs.agent)
        .args(["--hosted", "--insecure-no-isolation", "--master", "10.77.0.1:5052", "--ca", &format!("sha256:{ca}")])
        .arg("--token-file")
        .arg(&token)
        .arg("--work-dir")
        .arg(dir.join("work"))
        .args(["--name", &name])
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let says = "registered already";
    let deadline = Instant::now() + SOON;
    let said = loop {
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        if let Some(line) = said.lines().find(|line| line.contains(says)) {
            break line.to_owned();
        }
        if Instant::now() > deadline {
            impostor.kill().unwrap();
            panic!("the impostor was not refused within {SOON:?}:\n{said}\nmaster:\n{}", rack.master().log());
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    // SIGTERM first: it has children of its own.
    std::process::Command::new("kill").arg(impostor.id().to_string()).status().unwrap();
    let deadline = Instant::now() + Duration::from_secs(15);
    while impostor.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            impostor.kill().unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(
        rack.master().log().contains("refused a second agent with the same identity"),
        "the master does not say so"
    );
    let after = agent(rack);
    assert_eq!(
        (&after["id"], &after["hostname"]),
        (&before["id"], &before["hostname"]),
        "the impostor took the node's place"
    );
    cluster.take(Duration::from_millis(500));
    assert!(cluster.ends(&task[0]).is_empty(), "the task was lost to the impostor");
    println!("an impostor was told: {}", said.trim());
    cluster.kill(&task);
}

/// The cable is out for a while: the tasks go on, an exit meanwhile is reported once.
fn a_pulled_cable_is_survived(rack: &Rack, cluster: &mut Cluster<'_>) {
    let before = agent(rack);
    let task = cluster.launch(&[BEATS.to_owned()]);
    let ending = cluster.launch(&["sleep 5; exit 6".to_owned()]);
    rack.node(1).set_link(Link::Down).unwrap();
    std::thread::sleep(Duration::from_secs(10));
    assert!(cluster.ends(&ending[0]).is_empty(), "the exit came through a pulled cable");
    rack.node(1).set_link(Link::Up).unwrap();
    let plugged = Instant::now();
    let end = cluster.wait_ends(&ending).remove(0);
    assert_eq!(end["message"], "Command exited with status 6");
    assert_eq!(agent(rack)["id"], before["id"]);
    assert!(cluster.ends(&task[0]).is_empty());
    cluster.beats(&task[0]);
    println!(
        "cable out for 10 s: the exit meanwhile came {:.1} s after it was in again",
        plugged.elapsed().as_secs_f32() - 2.0
    );
    cluster.kill(&task);
}

fn a_reboot_ends_every_task_once_and_the_node_is_back(rack: &Rack, cluster: &mut Cluster<'_>) {
    let before = agent(rack);
    let node = rack.node(1);
    let tasks = cluster.launch(&vec![BEATS.to_owned(); 3]);
    let reset = Instant::now();
    let mark = node.console_mark();
    node.reset().unwrap();
    node.wait_console_after(mark, "as init process", BOOT).unwrap();
    let mut back = None;
    while back.is_none() {
        assert!(reset.elapsed() < BOOT, "the node is not back:\n{}", node.console());
        cluster.take(Duration::from_millis(200));
        let nodes = rack.get("/mesolith/v1/nodes").unwrap();
        let nodes = nodes["nodes"].as_array().unwrap().clone();
        assert!(nodes.len() == 1, "the rebooted node was taken for another: {nodes:?}");
        let again = nodes[0]["state"] == "connected" && tasks.iter().all(|task| !cluster.ends(task).is_empty());
        back = again.then(|| nodes[0].clone());
    }
    let back = back.unwrap();
    let took = reset.elapsed();
    assert_eq!(back["name"].as_str(), Some(node.name()), "the node kept its name");
    assert!(node.pxe_evidence().shows(2), "it came over the network again: {:?}", node.pxe_evidence());
    for end in cluster.wait_ends(&tasks) {
        println!("  a task of the old boot: {} {} {}", end["state"], end["reason"], end["message"]);
    }
    println!(
        "reset to registered again: {:.1} s, as {} under agent id {} (before {})",
        took.as_secs_f32(),
        back["name"],
        back["agent_id"],
        before["id"]
    );
    let task = cluster.launch(&["exit 0".to_owned()]);
    assert_eq!(cluster.wait_ends(&task)[0]["state"], "TASK_FINISHED");
}
