//! Hosted mode as a process of this host: what it refuses, and tasks without isolation.
//!
//! That tasks are isolated where they can be is shown in a booted guest: `hosted_systemd.rs`.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tests::bare_master::BareMaster;
use tests::hosted_agent::{HostedAgent, parent};
use tests::rack::Programs;
use tests::tasks::Tasks;

const SOON: Duration = Duration::from_secs(30);

fn lives(pid: u64) -> bool {
    parent(u32::try_from(pid).unwrap()).is_some()
}

/// Field 22 of its stat: with the pid it names a process for ever.
fn start_time(pid: u64) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().split(' ').nth(19).unwrap().to_owned()
}

#[test]
fn without_isolation_tasks_are_plain_processes_with_mesos_endings() {
    let dir = tempfile::tempdir().unwrap();
    let master = BareMaster::start(dir.path(), &[]).unwrap();
    let mut agent = HostedAgent::start(dir.path(), &master);
    assert!(agent.said().contains("nothing limits them"), "it does not warn:\n{}", agent.said());
    let mut tasks = Tasks::subscribe(&master.url, "hosted").unwrap();

    for (id, command, state, message) in [
        ("well", "exit 0", "TASK_FINISHED", "Command exited with status 0"),
        ("badly", "exit 7", "TASK_FAILED", "Command exited with status 7"),
        ("killed", "kill -9 $$", "TASK_FAILED", "Command terminated with signal Killed"),
    ] {
        tasks.launch(id, command, 0.1, 16.0, SOON).unwrap();
        let end = tasks.wait_end(id, SOON).unwrap();
        assert_eq!((end["state"].as_str(), end["message"].as_str()), (Some(state), Some(message)), "{end}");
    }

    // It is a process among ours: the same namespaces, the same root, its sandbox where the host sees it.
    tasks
        .launch("look", "readlink /proc/self/ns/pid /proc/self/ns/mnt; pwd; echo $MESOS_SANDBOX", 0.1, 16.0, SOON)
        .unwrap();
    tasks.wait_end("look", SOON).unwrap();
    let said = tasks.stdout("look").unwrap();
    let lines: Vec<&str> = said.lines().collect();
    for (line, namespace) in lines.iter().zip(["pid", "mnt"]) {
        let ours = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap();
        assert_eq!(Path::new(line), ours, "{said}");
    }
    let work = dir.path().join("work").canonicalize().unwrap();
    assert!(lines[2].starts_with(work.to_str().unwrap()) && Path::new(lines[2]).join("stdout").exists(), "{said}");
    assert_eq!(lines[2], lines[3], "{said}");

    // A killed task leaves no child behind.
    tasks.launch("tree", "sleep 1000 & echo $!; sleep 1001", 0.1, 16.0, SOON).unwrap();
    tasks.wait_state("tree", "TASK_RUNNING", SOON).unwrap();
    let deadline = Instant::now() + SOON;
    let child = loop {
        if let Ok(pid) = tasks.stdout("tree").unwrap().trim().parse::<u64>() {
            break pid;
        }
        assert!(Instant::now() < deadline, "the task says nothing");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(lives(child));
    tasks.kill("tree").unwrap();
    assert_eq!(tasks.wait_end("tree", SOON).unwrap()["state"], "TASK_KILLED");
    assert!(!lives(child), "the killed task left process {child}");

    // Whoever talks to the master can die: the task goes on, and its end is still seen.
    tasks.launch("long", "sleep 1000", 0.1, 16.0, SOON).unwrap();
    tasks.launch("ends", "sleep 3; exit 5", 0.1, 16.0, SOON).unwrap();
    for id in ["long", "ends"] {
        tasks.wait_state(id, "TASK_RUNNING", SOON).unwrap();
    }
    let (long, before) = (tasks.pid("long").unwrap(), agent.child("agent").expect("the agent process runs"));
    let (started, registered) = (start_time(long), master.agents().unwrap());
    kill(Pid::from_raw(before.cast_signed()), Signal::SIGKILL).unwrap();
    let end = tasks.wait_end("ends", SOON).unwrap();
    assert_eq!(end["message"], "Command exited with status 5", "{end}");
    assert!(agent.child("agent").is_some_and(|pid| pid != before), "the agent process was not started again");
    assert_eq!(start_time(long), started);
    assert!(tasks.ends("long").is_empty());
    assert_eq!(master.agents().unwrap()[0]["id"], registered[0]["id"], "it is another agent now");

    // The end of the node is the end of its tasks.
    assert!(agent.stop(), "it ended badly:\n{}", agent.said());
    assert!(!lives(long), "a task outlived its node");
}

/// The agent's output when it is to isolate tasks on a host whose cgroup hierarchy is something else.
fn refused(dir: &Path) -> Output {
    // In a mount namespace of its own, so that it is refused on every host, also where it could isolate tasks.
    let script = "mount -t tmpfs none /sys/fs/cgroup && exec \"$@\"";
    Command::new("unshare")
        .args(["--map-root-user", "--mount", "--", "sh", "-c", script, "sh"])
        .arg(Programs::find().unwrap().agent)
        .args(["--hosted", "--master", "127.0.0.1:1", "--ca", &format!("sha256:{}", "0".repeat(64)), "--work-dir"])
        .arg(dir.join("work"))
        .stdin(Stdio::null())
        .output()
        .expect("unshare is there (package util-linux)")
}

#[test]
fn a_host_without_cgroup_v2_is_refused_with_the_reason_and_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let output = refused(dir.path());
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for part in
        ["this host cannot isolate tasks", "/sys/fs/cgroup is not a cgroup v2 hierarchy", "--insecure-no-isolation"]
    {
        assert!(said.contains(part), "it does not say `{part}`: {said}");
    }
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(!dir.path().join("work/run/init.sock").exists(), "it went on");
}
