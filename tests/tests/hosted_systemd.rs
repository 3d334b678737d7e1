//! Hosted mode on an ordinary distribution: Debian with systemd, booted, with limits that hold.
//!
//! Nightly, because the guest's root file system is downloaded and a distribution boots slowly in emulation.
#![cfg(feature = "nightly")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::bare_master::BareMaster;
use tests::debian_guest::{DebianGuest, MASTER};
use tests::rack::Programs;
use tests::tasks::Tasks;

const SOON: Duration = Duration::from_secs(120);

const UNIT: &str = "mesolith-agent.service";

/// Where the guest has the agent.
const PROGRAM: &str = "/opt/mesolith/mesolith-agent";

/// What the test lays over the guest's root: the agent, its token, and an ordinary unit that starts it.
fn payload(dir: &Path, master: &BareMaster) -> std::path::PathBuf {
    let (token, ca) = master.token("debian").unwrap();
    let tree = dir.join("payload");
    let (opt, units) = (tree.join("opt/mesolith"), tree.join("etc/systemd/system"));
    fs::create_dir_all(&opt).unwrap();
    fs::create_dir_all(&units).unwrap();
    fs::copy(Programs::find().unwrap().agent, opt.join("mesolith-agent")).unwrap();
    let token_file = opt.join("token");
    fs::write(&token_file, token).unwrap();
    fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
    let options = format!(
        "--master {MASTER} --ca {ca} --token-file /opt/mesolith/token --work-dir /var/lib/mesolith --name debian"
    );
    let unit = format!(
        "[Unit]\nDescription=Mesolith node\nWants=network-online.target\nAfter=network-online.target dbus.socket\n\
         [Service]\nExecStart={PROGRAM} --hosted {options}\nRestart=on-failure\n"
    );
    fs::write(units.join(UNIT), unit).unwrap();
    fs::write(tree.join("etc/mesolith-marker"), "this is the host's root\n").unwrap();
    tree
}

fn wait_agent(guest: &mut DebianGuest, master: &BareMaster) -> Value {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(agent) = master.agents().unwrap().pop() {
            return agent;
        }
        if Instant::now() > deadline {
            // Not by unit: what the agent says from its scope counts as the scope's.
            let said = guest.try_run("journalctl --no-pager -n 60 -t mesolith-agent; networkctl --no-pager status");
            panic!("the agent did not register:\n{}\nmaster:\n{}", said.unwrap().text, master.log());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// `systemctl show` of one property.
fn property(guest: &mut DebianGuest, unit: &str, name: &str) -> String {
    guest.run(&format!("systemctl show --value -p {name} {unit}")).unwrap()
}

/// The scope of the running agent.
fn scope(guest: &mut DebianGuest) -> String {
    let scopes =
        guest.run("systemctl list-units --no-legend --plain 'mesolith-agent-*.scope' | cut -d' ' -f1").unwrap();
    assert_eq!(scopes.lines().count(), 1, "not one scope: {scopes:?}");
    scopes
}

#[test]
fn on_debian_tasks_live_in_a_delegated_scope_with_limits() {
    let dir = tempfile::tempdir().unwrap();
    let master = BareMaster::start(dir.path(), &["--advertise", "127.0.0.1"]).unwrap();
    let tree = payload(dir.path(), &master);
    let started = Instant::now();
    let mut guest = DebianGuest::boot(dir.path(), &master.link, &tree, "").unwrap();
    println!(
        "Debian was up after {:.0} s: {}",
        started.elapsed().as_secs_f32(),
        guest.run("systemctl --version | head -n 1").unwrap()
    );
    guest.run(&format!("systemctl start {UNIT}")).unwrap();
    let agent = wait_agent(&mut guest, &master);
    let mut tasks = Tasks::subscribe(&master.url, "hosted on systemd").unwrap();

    let group = the_agent_has_a_delegated_scope(&mut guest);
    a_task_is_isolated_and_limited_in_the_scope(&mut guest, &mut tasks, &group);
    endings_are_mesos_own(&mut tasks);
    killing_the_agent_keeps_tasks(&mut guest, &mut tasks, &group);
    assert_eq!(wait_agent(&mut guest, &master)["id"], agent["id"], "the agent comes back under its id");
    stopping_the_service_ends_tasks_in_good_order(&mut guest, &mut tasks, &group);
    guest.run(&format!("systemctl start {UNIT}")).unwrap();
    a_started_service_tells_how_its_tasks_ended(&mut guest, &mut tasks);
    assert_eq!(wait_agent(&mut guest, &master)["id"], agent["id"], "the agent comes back under its id");
}

/// Gives the scope's cgroup as the hierarchy names it.
fn the_agent_has_a_delegated_scope(guest: &mut DebianGuest) -> String {
    let scope = scope(guest);
    for (name, expected) in
        [("ActiveState", "active"), ("SubState", "running"), ("Delegate", "yes"), ("Transient", "yes")]
    {
        assert_eq!(property(guest, &scope, name), expected, "{scope}: {name}");
    }
    let controllers = property(guest, &scope, "DelegateControllers");
    for controller in ["cpu", "memory", "pids"] {
        assert!(controllers.split(' ').any(|name| name == controller), "{controller} is not delegated: {controllers}");
    }
    assert_eq!(property(guest, UNIT, "SubState"), "running", "systemd thinks the service has ended");
    let group = property(guest, &scope, "ControlGroup");
    // Our own processes are all in it, on their side.
    let main = property(guest, UNIT, "MainPID");
    for (pid, name) in
        [(main, "init"), (own(guest, &group, "agent"), "agent"), (own(guest, &group, "launcher"), "launcher")]
    {
        assert_eq!(guest.run(&format!("cat /proc/{pid}/cgroup")).unwrap(), format!("0::{group}/mesolith/{name}"));
    }
    println!("{scope}: {group}, delegated: {controllers}");
    group
}

/// The pid of one of our processes.
fn own(guest: &mut DebianGuest, group: &str, name: &str) -> String {
    guest.wait(&format!("grep . /sys/fs/cgroup{group}/mesolith/{name}/cgroup.procs"), SOON).unwrap()
}

fn a_task_is_isolated_and_limited_in_the_scope(guest: &mut DebianGuest, tasks: &mut Tasks, group: &str) {
    let command = "cat /etc/mesolith-marker /proc/self/cgroup; echo $$; pwd; cat /proc/cmdline; sleep 1000";
    tasks.launch("looks", command, 0.5, 48.0, SOON).unwrap();
    tasks.wait_state("looks", "TASK_RUNNING", SOON).unwrap();
    let pid = tasks.pid("looks").unwrap();
    let cgroup = guest.run(&format!("cat /proc/{pid}/cgroup")).unwrap();
    let cgroup = cgroup.strip_prefix("0::").unwrap().to_owned();
    assert!(cgroup.starts_with(&format!("{group}/tasks/")), "the task is in {cgroup}");
    for (file, expected) in [("cpu.max", "50000 100000"), ("memory.max", "50331648"), ("pids.max", "1024")] {
        assert_eq!(guest.run(&format!("cat /sys/fs/cgroup{cgroup}/{file}")).unwrap(), expected, "{file}");
    }
    for (namespace, shared) in
        [("mnt", false), ("pid", false), ("ipc", false), ("uts", false), ("cgroup", false), ("net", true)]
    {
        let line = format!("test \"$(readlink /proc/{pid}/ns/{namespace})\" = \"$(readlink /proc/1/ns/{namespace})\"");
        assert_eq!(guest.try_run(&line).unwrap().status == 0, shared, "namespace {namespace}");
    }
    let deadline = Instant::now() + SOON;
    let mut said = String::new();
    while said.lines().count() < 4 {
        assert!(Instant::now() < deadline, "the task said only: {said}");
        std::thread::sleep(Duration::from_millis(100));
        said = tasks.stdout("looks").unwrap();
    }
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[..3],
        ["this is the host's root", "0::/", "1"],
        "it sees the host's files, its own cgroup and pids"
    );
    assert!(lines[3].starts_with("/var/lib/mesolith/slaves/"), "its sandbox is where the host has it: {said}");
    assert!(!said.contains("nvme"), "it sees the kernel's command line: {said}");
    guest.run(&format!("test -e {}/stdout", lines[3])).unwrap();
    tasks.kill("looks").unwrap();
    assert_eq!(tasks.wait_end("looks", SOON).unwrap()["state"], "TASK_KILLED");
    guest.wait(&format!("test ! -e /sys/fs/cgroup{cgroup}"), SOON).unwrap();
    println!("task {pid} lived in {cgroup}");
}

fn endings_are_mesos_own(tasks: &mut Tasks) {
    tasks.launch("well", "exit 0", 0.2, 32.0, SOON).unwrap();
    let end = tasks.wait_end("well", SOON).unwrap();
    assert_eq!(
        (end["state"].as_str(), end["message"].as_str()),
        (Some("TASK_FINISHED"), Some("Command exited with status 0"))
    );
    tasks.launch("badly", "exit 3", 0.2, 32.0, SOON).unwrap();
    let end = tasks.wait_end("badly", SOON).unwrap();
    assert_eq!(
        (end["state"].as_str(), end["message"].as_str()),
        (Some("TASK_FAILED"), Some("Command exited with status 3"))
    );
    // tail keeps the last line, and that one never ends.
    tasks.launch("eats", "tail /dev/zero", 0.5, 32.0, SOON).unwrap();
    let end = tasks.wait_end("eats", SOON).unwrap();
    assert_eq!(
        (end["state"].as_str(), end["reason"].as_str()),
        (Some("TASK_FAILED"), Some("REASON_CONTAINER_LIMITATION_MEMORY")),
        "{end}"
    );
    println!("a task that eats memory: {}", end["message"]);
}

/// `stays` is one process: with a shell around it, it were a race whose signal is told.
fn killing_the_agent_keeps_tasks(guest: &mut DebianGuest, tasks: &mut Tasks, group: &str) {
    tasks.launch("stays", "exec sleep 1000", 0.1, 32.0, SOON).unwrap();
    tasks.launch("ends", "sleep 4; exit 6", 0.1, 32.0, SOON).unwrap();
    for id in ["stays", "ends"] {
        tasks.wait_state(id, "TASK_RUNNING", SOON).unwrap();
    }
    let pid = tasks.pid("stays").unwrap();
    let born = format!("cut -d' ' -f22 /proc/{pid}/stat");
    let (before, agent) = (guest.run(&born).unwrap(), own(guest, group, "agent"));
    guest.run(&format!("kill -9 {agent}")).unwrap();
    let end = tasks.wait_end("ends", SOON).unwrap();
    assert_eq!(
        (end["state"].as_str(), end["message"].as_str()),
        (Some("TASK_FAILED"), Some("Command exited with status 6"))
    );
    assert_ne!(own(guest, group, "agent"), agent, "the agent is another process");
    assert_eq!(guest.run(&born).unwrap(), before, "the task is the same process");
    assert!(tasks.ends("stays").is_empty());
}

/// The task `stays` still runs when this begins.
fn stopping_the_service_ends_tasks_in_good_order(guest: &mut DebianGuest, tasks: &mut Tasks, group: &str) {
    let pid = tasks.pid("stays").unwrap();
    let stopping = Instant::now();
    guest.run(&format!("systemctl stop {UNIT}")).unwrap();
    println!("systemctl stop took {:.1} s", stopping.elapsed().as_secs_f32());
    assert_eq!(property(guest, UNIT, "Result"), "success", "it ended badly");
    assert_eq!(property(guest, UNIT, "SubState"), "dead");
    guest.run(&format!("test ! -e /proc/{pid}")).unwrap();
    guest.wait(&format!("test ! -e /sys/fs/cgroup{group}"), SOON).unwrap();
    let left =
        "systemctl list-units --all --no-legend --plain 'mesolith-agent-*.scope'; grep -sl mesolith /proc/[0-9]*/comm";
    assert_eq!(guest.try_run(left).unwrap().text, "", "something is left");
}

fn a_started_service_tells_how_its_tasks_ended(guest: &mut DebianGuest, tasks: &mut Tasks) {
    let end = tasks.wait_end("stays", SOON).unwrap();
    println!("the task that ran when the service was stopped: {} {} {}", end["state"], end["reason"], end["message"]);
    assert_eq!(
        (end["state"].as_str(), end["message"].as_str()),
        (Some("TASK_FAILED"), Some("Command terminated with signal Killed")),
        "{end}"
    );
    // A new scope, and it works.
    scope(guest);
    tasks.launch("again", "exit 0", 0.1, 32.0, SOON).unwrap();
    assert_eq!(tasks.wait_end("again", SOON).unwrap()["state"], "TASK_FINISHED");
}

#[test]
fn where_the_kernel_has_no_memory_controller_the_agent_refuses_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let master = BareMaster::start(dir.path(), &["--advertise", "127.0.0.1"]).unwrap();
    let tree = payload(dir.path(), &master);
    let mut guest = DebianGuest::boot(dir.path(), &master.link, &tree, "cgroup_disable=memory").unwrap();
    let line = guest.run(&format!("sed -n 's/^ExecStart=//p' /etc/systemd/system/{UNIT}")).unwrap();
    let said = guest.try_run(&format!("systemd-run --quiet --wait --pipe {line}")).unwrap();
    assert_eq!(said.status, 1, "{}", said.text);
    for part in ["this host cannot isolate tasks", "has no controller memory", "--insecure-no-isolation"] {
        assert!(said.text.contains(part), "it does not say `{part}`: {}", said.text);
    }
    println!("it said: {}", said.text.trim());
    guest.run("test -z \"$(systemctl list-units --all --no-legend --plain 'mesolith-agent-*.scope')\"").unwrap();
    // The way out works.
    guest.run(&format!("sed -i 's/--hosted/--hosted --insecure-no-isolation/' /etc/systemd/system/{UNIT}")).unwrap();
    guest.run(&format!("systemctl daemon-reload && systemctl start {UNIT}")).unwrap();
    wait_agent(&mut guest, &master);
    let mut tasks = Tasks::subscribe(&master.url, "hosted without isolation").unwrap();
    tasks.launch("plain", "exit 0", 0.1, 32.0, SOON).unwrap();
    assert_eq!(tasks.wait_end("plain", SOON).unwrap()["state"], "TASK_FINISHED");
}
