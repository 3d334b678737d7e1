//! Containers on a booted node: what they may, what they get, and that nothing leads out of them.
//!
//! One node is booted for all of it. The master's list lets only the framework with the principal `trusted` run
//! privileged tasks.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

mod attempts;
mod confinement;
mod devices;
mod escapes;
mod lasting;
mod limits;
mod namespaces;
mod network;
mod stored;
mod volumes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::http;
use tests::rack::{FaultLine, Options, Rack};
use tests::tasks::Tasks;

const BOOT: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(180);
/// How many processes and threads a task may have here.
const PIDS: usize = 60;

const CAPABILITIES: [&str; 2] = ["MULTI_ROLE", "GPU_RESOURCES"];

const ACLS: &str = r#"{"run_privileged_tasks":[{"principals":{"values":["trusted"]},"users":{"type":"ANY"}}],
    "mount_host_paths":[{"principals":{"type":"NONE"},"host_paths":{"values":["/data/forbidden"]}}],
    "use_secrets":[{"principals":{"type":"NONE"},"secrets":{"values":["closed/%"]}}]}"#;

struct World {
    rack: Rack,
    tasks: Tasks,
    faults: FaultLine,
    /// The agent's pid: it must not change but by our hand.
    agent: u32,
    /// Of its disk.
    _directory: tempfile::TempDir,
}

#[test]
fn containers_get_what_they_were_promised_and_nothing_else() {
    let mut world = World::start();
    let mut failed = Vec::new();
    for (name, case) in cases() {
        println!("-- {name}");
        let since = Instant::now();
        // The others are worth knowing, too: a boot costs more than they do.
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            case(&mut world);
            world.is_healthy(name);
        }));
        println!("   {} in {:.1} s", if outcome.is_ok() { "ok" } else { "FAILED" }, since.elapsed().as_secs_f64());
        failed.extend(outcome.is_err().then_some(name));
    }
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
    world.tasks.only_one_end_each().unwrap();
    world.tasks.framework.call("TEARDOWN", &Value::Null).unwrap();
    world.rack.end().unwrap();
}

type Case = (&'static str, fn(&mut World));

/// All of them, or those whose names hold a part of `ISOLATION_ONLY` (with commas): for whoever works on one.
fn cases() -> Vec<Case> {
    let only = std::env::var("ISOLATION_ONLY").unwrap_or_default();
    let all = [lasting::BEGUN, confinement::CASES, volumes::CASES, limits::CASES, network::CASES, escapes::CASES];
    let nightly = if cfg!(feature = "nightly") { namespaces::NIGHTLY } else { &[] };
    let more = [stored::CASES, attempts::CASES, devices::CASES, namespaces::CASES, nightly, lasting::LOOKED_AT];
    let all = [all.concat(), more.concat()].concat();
    let chosen: Vec<Case> =
        all.into_iter().filter(|(name, _)| only.split(',').any(|part| name.contains(part))).collect();
    assert!(!chosen.is_empty(), "no case is called like {only}");
    chosen
}

impl World {
    fn start() -> Self {
        let mut options = FaultLine::with_line(Options::new().unwrap());
        options.memory_mib = 1024;
        options.cpus = 2;
        options.master_args.extend(["--acls".to_owned(), ACLS.replace('\n', " ")]);
        options.cmdline.push_str(&format!(
            " mesolith.attributes=pids_max:{PIDS} mesolith.ports=enforce \
              mesolith.host_paths=/dev/shm,/usr/share/mesolith:ro mesolith.devices=/dev/vda,/dev/vdz \
              mesolith.gpus=/dev/mem,/dev/kmsg mesolith.gpu_files=/usr/share/mesolith"
        ));
        // Nobody's but those tasks' that are given it.
        let directory = tempfile::tempdir().unwrap();
        let disk = directory.path().join("disk");
        std::fs::File::create(&disk).unwrap().set_len(256 << 20).unwrap();
        let drive = format!("file={},if=none,format=raw,id=spare", disk.display());
        options.qemu_args.extend(["-drive", &drive, "-device", "virtio-blk-pci,drive=spare"].map(str::to_owned));
        let rack = Rack::start(options).unwrap();
        rack.wait_registered(1, BOOT).unwrap();
        let mut faults = FaultLine::connect(&rack).unwrap();
        let agent = faults.pids().unwrap()["agent"];
        // A node with graphics processors is offered to those only who know of them.
        let more = json!({"principal": "ordinary", "roles": ["data"], "capabilities": CAPABILITIES.map(|kind| json!({"type": kind}))});
        let tasks = Tasks::subscribe_as(rack.api_url(), "isolation", &more).unwrap();
        Self { rack, tasks, faults, agent, _directory: directory }
    }

    /// The agent is the one it was, and runs a task.
    fn is_healthy(&mut self, after: &str) {
        assert_eq!(self.faults.pids().unwrap()["agent"], self.agent, "{after}: the agent died of it");
        let id = format!("healthy-after-{}", after.replace(' ', "-"));
        self.launch(&id, json!({"value": "echo fine"}), json!({}));
        let end = self.tasks.wait_first_end(&id, SOON).unwrap();
        assert_eq!((&end["state"], self.stdout(&id).as_str()), (&json!("TASK_FINISHED"), "fine\n"), "{after}: {end}");
    }

    /// Launches a task with this command and these other fields; resources of its own replace the usual ones.
    fn launch(&mut self, id: &str, command: Value, more: Value) {
        launch_by(&mut self.tasks, id, command, more);
    }

    /// Runs one to its end.
    fn run(&mut self, id: &str, command: &str, more: Value) -> Value {
        self.launch(id, json!({ "value": command }), more);
        self.tasks.wait_first_end(id, SOON).unwrap()
    }

    /// Runs one that has to finish; what it wrote.
    fn output(&mut self, id: &str, command: &str, more: Value) -> String {
        let end = self.run(id, command, more);
        let said = || self.tasks.stdout(id).unwrap_or_default();
        assert_eq!(end["state"], "TASK_FINISHED", "{id}: {end} {}", said());
        self.stdout(id)
    }

    /// Waits while the node's agent is on its way back.
    fn stdout(&self, id: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            match self.tasks.stdout(id) {
                Ok(said) => return said,
                Err(error) => assert!(Instant::now() < deadline, "{id}: {error:#}"),
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn wait_stdout(&self, id: &str, text: &str) -> String {
        let deadline = Instant::now() + SOON;
        loop {
            let said = self.tasks.stdout(id).unwrap_or_default();
            if said.contains(text) {
                return said;
            }
            assert!(Instant::now() < deadline, "{id} has not said `{text}`: {said}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A task that cannot be launched; what its end says.
    fn refused(&mut self, id: &str, more: Value) -> String {
        let end = self.run(id, "true", more);
        assert_eq!(end["state"], "TASK_FAILED", "{id}: {end}");
        assert_eq!(end["reason"], "REASON_CONTAINER_LAUNCH_FAILED", "{id}: {end}");
        end["message"].as_str().unwrap().to_owned()
    }

    /// What the node says of its containers, by task. Waits while the node's agent is on its way back.
    fn container(&self, task: &str) -> Value {
        let url = format!("{}/mesolith/v1/nodes/node-1/api/containers", self.rack.api_url());
        let deadline = Instant::now() + SOON;
        loop {
            let answer = http::get(&url, Duration::from_secs(30)).unwrap();
            if answer.status == 200 {
                let answer: Value = serde_json::from_str(&answer.text()).unwrap();
                let all = answer["containers"].as_array().unwrap().clone();
                return all.into_iter().find(|one| one["executor_id"] == task).unwrap_or_default();
            }
            assert!(Instant::now() < deadline, "{}", answer.text());
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

fn scalar(name: &str, value: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}})
}

/// Puts an offer's role into resources that are to be of it.
fn of_offer(offer: &Value, resources: &Value) -> Value {
    let role = &offer["allocation_info"];
    let all = resources.as_array().unwrap().iter().map(|resource| {
        let mut resource = resource.clone();
        resource["allocation_info"] = role.clone();
        resource
    });
    Value::Array(all.collect())
}

fn task(offer: &Value, id: &str, command: Value, more: &Value) -> Value {
    let usual = json!([scalar("cpus", 0.1), scalar("mem", 48.0)]);
    let mut task = json!({"task_id": {"value": id}, "name": id, "command": command, "agent_id": offer["agent_id"],
        "kill_policy": {"grace_period": {"nanoseconds": 1_000_000_000}}});
    for (key, value) in more.as_object().unwrap() {
        task[key] = value.clone();
    }
    let resources = if task["resources"].is_null() { usual } else { task["resources"].clone() };
    task["resources"] = of_offer(offer, &resources);
    task
}

fn launch_by(tasks: &mut Tasks, id: &str, command: Value, more: Value) {
    let has_room = |offer: &Value| {
        let all = offer["resources"].as_array().unwrap();
        let amount = |name: &str| -> f64 {
            let found = all.iter().filter(|one| one["name"] == name && one["disk"].is_null());
            found.filter_map(|one| one["scalar"]["value"].as_f64()).sum()
        };
        amount("cpus") >= 0.5 && amount("mem") >= 64.0
    };
    let operations = |offer: &Value| {
        let launch =
            || json!([{"type": "LAUNCH", "launch": {"task_infos": [task(offer, id, command.clone(), &more)]}}]);
        has_room(offer).then(launch)
    };
    tasks.accept_first(operations, SOON).unwrap();
}
