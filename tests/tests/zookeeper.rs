//! Frameworks with a `zk://` URL find the leader: the unmodified kazoo and pymesos, from their package index.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::clients::{PymesosFailover, PythonPackages, programs};
use tests::masters::Masters;
use tests::simulated::{Admission, Agents, Spec};

const SCENARIO: Duration = Duration::from_secs(300);
const TASKS: usize = 160;
const KILLS: usize = 20;

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
    let packages = PythonPackages::install(&dir.path().join("python"), &["requirements.txt"]).unwrap();
    let mut masters = Masters::start(dir.path(), 3, &[]).unwrap();
    let zk = masters.zk();
    let hosts = zk.trim_start_matches("zk://").trim_end_matches("/mesos");

    let mut client = packages.python();
    client.arg(programs().join("zookeeper_client.py")).args([hosts, "3"]).stdin(Stdio::null()).stdout(Stdio::piped());
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
    let framework = PymesosFailover::start(&packages, &zk, dir.path(), TASKS, SCENARIO).unwrap();
    for _ in 0..KILLS {
        // In the middle of its tasks, each time.
        framework.wait("end", 5).unwrap();
        let leader = masters.wait_leader().unwrap();
        let killed = Instant::now();
        masters.kill(leader).unwrap();
        framework.wait("registered", 1).unwrap();
        println!("pymesos was registered again {:?} after the leader was killed", killed.elapsed());
        masters.restart(leader).unwrap();
    }
    framework.finish().map_err(|error| format!("{error:#}\n{}", masters.logs())).unwrap();
    println!("{}", packages.verify().unwrap());
}
