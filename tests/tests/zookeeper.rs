//! Frameworks with a `zk://` URL find the leader: the unmodified kazoo and pymesos, from their package index.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::masters::Masters;
use tests::rack::repository;
use tests::simulated::{Admission, Agents, Spec};

const SCENARIO: Duration = Duration::from_secs(300);
const TASKS: usize = 60;
const KILLS: usize = 3;

fn clients() -> PathBuf {
    repository().join("tests/clients")
}

/// A virtual environment with the clients of requirements.txt, each by its hash.
fn install(venv: &Path) -> PathBuf {
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    run(Command::new("python3").args(["-m", "venv"]).arg(venv));
    let python = venv.join("bin/python");
    for file in ["build-requirements.txt", "requirements.txt"] {
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
            "install",
            "--require-hashes",
            "--no-deps",
        ]);
        pip.args(["--no-cache-dir", "--no-build-isolation", "-r"]).arg(clients().join(file));
        // See sitecustomize.py there.
        run(pip.env("PYTHONPATH", clients().join("build")));
    }
    python
}

/// Killed with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn kazoo_and_pymesos_find_every_new_leader_through_a_zk_url() {
    let dir = tempfile::tempdir().unwrap();
    let python = install(&dir.path().join("venv"));
    let mut masters = Masters::start(dir.path(), 3, &[]).unwrap();
    let zk = masters.zk();
    let hosts = zk.trim_start_matches("zk://").trim_end_matches("/mesos");

    let mut client = Command::new(&python);
    client.arg(clients().join("zookeeper_client.py")).args([hosts, "3"]).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut client = Process(client.spawn().unwrap());
    let mut lines = BufReader::new(client.0.stdout.take().unwrap()).lines();
    for _ in 0..3 {
        let line = lines.next().expect("kazoo finds a leader").unwrap();
        let seen: Value = serde_json::from_str(&line).unwrap();
        let leader = masters.wait_leader().unwrap();
        assert_eq!(seen["leader"].as_str().unwrap(), &masters.url(leader)[7..], "{}", masters.logs());
        assert_eq!(seen["nodes"], 3);
        masters.kill(leader).unwrap();
        masters.wait_leader().unwrap();
        masters.restart(leader).unwrap();
    }
    assert!(client.0.wait().unwrap().success());

    let leader = masters.wait_leader().unwrap();
    let specs = ["node-1", "node-2"].map(|name| Spec::new(name, "cpus:4;mem:4096;disk:1000"));
    let agents = Agents::admit(masters.process(leader).unwrap(), specs.to_vec(), Admission::Join).unwrap();
    agents.wait_registered(Duration::from_secs(60)).unwrap();
    let result = dir.path().join("result.json");
    let mut framework = Command::new(&python);
    framework.arg(clients().join("pymesos_failover.py")).arg(&zk).arg(&result).arg(TASKS.to_string());
    let mut framework = Process(framework.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(framework.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    for _ in 0..KILLS {
        // In the middle of its tasks, each time.
        let mut ended = 0;
        while ended < 5 {
            ended += usize::from(lines.next().expect("the framework goes on") == "end");
        }
        let leader = masters.wait_leader().unwrap();
        let killed = Instant::now();
        masters.kill(leader).unwrap();
        let back = lines.find(|line| line == "registered");
        println!("pymesos was {:?} again {:?} after the leader was killed", back.unwrap(), killed.elapsed());
        masters.restart(leader).unwrap();
    }
    let rest = std::thread::spawn(move || lines.for_each(drop));
    let deadline = Instant::now() + SCENARIO;
    let status = loop {
        if let Some(status) = framework.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "pymesos is not done\n{}", masters.logs());
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(status.success());
    rest.join().unwrap();
    let result: Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
    let never: Vec<&str> = result["never"].as_array().unwrap().iter().map(|task| task.as_str().unwrap()).collect();
    let ends = result["ends"].as_object().unwrap();
    assert_eq!(ends.len(), TASKS);
    for (task, ends) in ends {
        let counted = ends.as_array().unwrap().len() + usize::from(never.contains(&task.as_str()));
        assert_eq!(counted, 1, "{task}: {ends}");
    }
    println!("pymesos: {TASKS} tasks, {} never launched, {} registrations", never.len(), result["registrations"]);
}
