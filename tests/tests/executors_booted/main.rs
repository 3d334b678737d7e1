//! Executors and pods on servers that booted over the network: an unmodified pymesos in an image from a registry.
//!
//! The same on hosted nodes, with more of what can go wrong: `executors.rs`.
#![cfg(feature = "nightly")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

#[path = "../images/image.rs"]
#[allow(dead_code)] // the images of other tests
mod image;
mod python;
#[path = "../images/registry.rs"]
#[allow(dead_code)] // what other tests do to it
mod registry;

use std::path::Path;
use std::time::Duration;

use image::{Image, busybox};
use registry::{ADDRESS, Registry};
use serde_json::{Value, json};
use tests::clients::{Conversation, PythonPackages, programs};
use tests::rack::{FaultLine, Options, Rack};
use tests::tasks::Tasks;

const BOOT: Duration = Duration::from_secs(300);
/// A Python of 60 MB is pulled and started, on an emulated server beside others.
const SOON: Duration = Duration::from_secs(300);

#[test]
fn executors_in_images_and_pods_run_on_servers_that_booted() {
    let dir = tempfile::tempdir().unwrap();
    let python = PythonPackages::install(&dir.path().join("python"), &["requirements.txt"]).unwrap();
    let (layer, interpreter) = python::layer(&python);
    let base = busybox();
    let config = json!({"Cmd": ["/bin/sh"],
        "Env": ["PATH=/bin", format!("PYTHONPATH={}", python::PACKAGES), "PYTHONDONTWRITEBYTECODE=1"]});
    let mut registry = Registry::new(&dir.path().join("registry"));
    registry.fill(&[
        ("lab/python:1", &Image::of(&[&base, &layer], &config)),
        ("lab/base:1", &Image::of(&[&base], &json!({"Cmd": ["/bin/sh"]}))),
    ]);
    let mut options = FaultLine::with_line(Options::new().unwrap());
    options.memory_mib = 1536;
    options.cmdline.push_str(&format!(" mesolith.image={ADDRESS}/lab/base:1 mesolith.image_plain_http={ADDRESS} mesolith.executor_registration_timeout=5mins"));
    let rack = Rack::start(options).unwrap();
    registry.serve(&rack);
    rack.wait_registered(1, BOOT).unwrap();

    executors(&rack, &python, &interpreter, dir.path());
    pods(&rack);
    rack.end().unwrap();
}

fn executors(rack: &Rack, python: &PythonPackages, interpreter: &str, dir: &Path) {
    let executor = json!({
        "name": "pymesos executor",
        "command": {"shell": false, "value": interpreter,
            "arguments": ["python", format!("{}/pymesos_executor.py", python::PROGRAMS)]},
        "container": {"type": "MESOS", "mesos": {"image":
            {"type": "DOCKER", "docker": {"name": format!("{ADDRESS}/lab/python:1")}}}},
        "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                      {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}}],
    });
    let file = dir.join("executor.json");
    std::fs::write(&file, executor.to_string()).unwrap();
    let mut command = python.python();
    command.arg(programs().join("pymesos_executors.py")).arg(rack.api_address()).arg(file);
    let mut framework = Conversation::start(&mut command, &dir.join("framework.log")).unwrap();
    let hears = |framework: &Conversation, line: &str| {
        if let Err(error) = framework.wait_for(line, SOON) {
            panic!("{error:#}\n{:?}", rack.nodes().iter().map(tests::rack::Node::console).collect::<Vec<_>>());
        }
    };
    hears(&framework, "registered");
    framework.tell("launch e one=finish two=wait").unwrap();
    hears(&framework, "one TASK_FINISHED -");
    framework.tell("say e ping hello").unwrap();
    hears(&framework, "said e pong hello");
    framework.tell("launch e three=finish").unwrap();
    hears(&framework, "three TASK_FINISHED -");

    // The agent of that node dies while the executor runs.
    let mut faults = FaultLine::connect(rack).unwrap();
    let before = faults.kill("agent").unwrap();
    faults.wait_other("agent", before, SOON).unwrap();
    std::thread::sleep(Duration::from_secs(20)); // until pymesos has come back
    framework.tell("say e finish two").unwrap();
    hears(&framework, "two TASK_FINISHED -");

    framework.tell("launch e last=wait").unwrap();
    hears(&framework, "last TASK_RUNNING -");
    framework.tell("say e die 7").unwrap();
    hears(&framework, "last TASK_FAILED REASON_EXECUTOR_TERMINATED");
    hears(&framework, "lost e 1792");
}

fn pods(rack: &Rack) {
    let mut tasks = Tasks::subscribe(rack.api_url(), "pods").unwrap();
    let task = |id: &str, command: &str| json!({"task_id": {"value": id}, "name": id, "command": {"value": command}});
    let group = [task("good", "sleep 600"), task("bad", "sleep 5; exit 3")];
    tasks.launch_group("pod", &group, 0.1, 32.0, SOON).unwrap();
    let bad = tasks.wait_end("bad", SOON).unwrap();
    let good = tasks.wait_end("good", SOON).unwrap();
    assert_eq!(
        (bad["state"].as_str(), good["state"].as_str()),
        (Some("TASK_FAILED"), Some("TASK_KILLED")),
        "{bad} {good}"
    );
    let parent = |end: &Value| end["container_status"]["container_id"]["parent"]["value"].clone();
    assert!(parent(&bad).is_string() && parent(&bad) == parent(&good), "{bad} {good}");
}
