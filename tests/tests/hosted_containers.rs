//! What hosted containers get of a host's file systems and networks: project quotas of ext4 and xfs, and CNI with the plugins
//! Debian has.
//!
//! Nightly, because the guest's root file system is downloaded and a distribution boots slowly in emulation.
#![cfg(feature = "nightly")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::bare_master::BareMaster;
use tests::debian_guest::{DebianGuest, MASTER};
use tests::rack::Programs;
use tests::tasks::Tasks;

const SOON: Duration = Duration::from_secs(180);

/// Debian has the plugins of CNI 1.0 at this place.
const LAB: &str = r#"{"cniVersion": "1.0.0", "name": "lab", "plugins": [
    {"type": "bridge", "bridge": "cni-lab", "isGateway": true, "ipMasq": true,
     "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.77.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;

fn payload(dir: &Path, master: &BareMaster) -> PathBuf {
    let tree = dir.join("payload");
    let opt = tree.join("opt/mesolith");
    fs::create_dir_all(&opt).unwrap();
    fs::copy(Programs::find().unwrap().agent, opt.join("mesolith-agent")).unwrap();
    fs::create_dir_all(opt.join("cni")).unwrap();
    fs::write(opt.join("cni/lab.conflist"), LAB).unwrap();
    fs::write(
        opt.join("cni/broken.conflist"),
        r#"{"cniVersion": "1.0.0", "name": "broken", "plugins": [{"type": "nothing"}]}"#,
    )
    .unwrap();
    // What manages the guest's own network would take addresses from the plugins' links.
    let networks = tree.join("etc/systemd/network");
    fs::create_dir_all(&networks).unwrap();
    fs::write(networks.join("05-cni.network"), "[Match]\nName=veth* cni-*\n[Link]\nUnmanaged=yes\n").unwrap();
    for kind in ["ext4", "xfs"] {
        let (token, ca) = master.token(kind).unwrap();
        let token_file = opt.join(format!("{kind}.token"));
        fs::write(&token_file, token).unwrap();
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
        let options = format!(
            "--master {MASTER} --ca {ca} --token-file /opt/mesolith/{kind}.token --work-dir /srv/{kind} --name {kind} \
             --cni-config /opt/mesolith/cni --cni-plugins /usr/lib/cni"
        );
        let units = tree.join("etc/systemd/system");
        fs::create_dir_all(&units).unwrap();
        let unit = format!(
            "[Unit]\nDescription=Mesolith node\n[Service]\nExecStart=/opt/mesolith/mesolith-agent --hosted {options}\nRestart=on-failure\n"
        );
        fs::write(units.join(format!("mesolith-{kind}.service")), unit).unwrap();
    }
    tree
}

#[test]
fn hosted_containers_have_bounded_sandboxes_and_networks_of_the_operators() {
    let dir = tempfile::tempdir().unwrap();
    let master = BareMaster::start(dir.path(), &["--advertise", "127.0.0.1"]).unwrap();
    let tree = payload(dir.path(), &master);
    let mut guest = DebianGuest::boot(dir.path(), &master.link, &tree, "").unwrap();
    for (kind, make) in [("ext4", "mkfs.ext4 -q -O quota,project -E quotatype=prjquota"), ("xfs", "mkfs.xfs -q")] {
        let disk = format!("/var/{kind}.img");
        let line = format!(
            "export PATH=$PATH:/sbin:/usr/sbin; truncate -s 320M {disk} && {make} {disk} && mkdir -p /srv/{kind} && \
             mount -o loop,prjquota {disk} /srv/{kind}"
        );
        guest.run(&line).unwrap();
        guest.run(&format!("systemctl start mesolith-{kind}")).unwrap();
        wait_agent(&mut guest, &master, kind);
        let mut tasks = Tasks::subscribe(&master.url, kind).unwrap();
        a_sandbox_is_as_large_as_its_disk(&mut guest, &mut tasks, kind);
        if kind == "ext4" {
            containers_are_on_the_operators_network(&mut guest, &mut tasks);
        }
        tasks.framework.call("TEARDOWN", &Value::Null).unwrap();
        guest.run(&format!("systemctl stop mesolith-{kind}")).unwrap();
    }
}

fn wait_agent(guest: &mut DebianGuest, master: &BareMaster, name: &str) {
    let deadline = Instant::now() + SOON;
    loop {
        let agents = master.agents().unwrap();
        if agents.iter().any(|agent| agent["hostname"] == name || agent.to_string().contains(&format!("\"{name}\""))) {
            return;
        }
        if Instant::now() > deadline {
            let said = guest.try_run("journalctl --no-pager -n 60 -t mesolith-agent").unwrap();
            panic!("{name} did not register: {agents:?}\n{}\nmaster:\n{}", said.text, master.log());
        }
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn launch(tasks: &mut Tasks, id: &str, command: &str, more: Value) {
    let operations = |offer: &Value| {
        let role = &offer["allocation_info"];
        let ports = offer["resources"].as_array().unwrap().iter().find(|one| one["name"] == "ports").cloned();
        let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": role});
        let mut resources = vec![scalar("cpus", 0.2), scalar("mem", 64.0), scalar("disk", 16.0)];
        let mut ranges = ports.unwrap_or_default()["ranges"]["range"].as_array().cloned().unwrap_or_default();
        if let Some(first) = ranges.first_mut() {
            first["begin"] = json!(31005);
            first["end"] = json!(31005);
            resources.push(
                json!({"name": "ports", "type": "RANGES", "ranges": {"range": [first]}, "allocation_info": role}),
            );
        }
        let mut task = json!({"task_id": {"value": id}, "name": id, "command": {"value": command}, "agent_id": offer["agent_id"],
            "resources": resources});
        for (key, value) in more.as_object().unwrap() {
            task[key] = value.clone();
        }
        Some(json!([{"type": "LAUNCH", "launch": {"task_infos": [task]}}]))
    };
    tasks.accept_first(operations, SOON).unwrap();
}

fn wait_stdout(tasks: &Tasks, id: &str, text: &str) -> String {
    let deadline = Instant::now() + SOON;
    loop {
        let said = tasks.stdout(id).unwrap_or_default();
        if said.contains(text) {
            return said;
        }
        assert!(Instant::now() < deadline, "{id} has not said `{text}`: {said}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// The write fails, the task goes on, and its owner cannot take it out of its project.
fn a_sandbox_is_as_large_as_its_disk(guest: &mut DebianGuest, tasks: &mut Tasks, kind: &str) {
    let id = format!("full-{kind}");
    let command = "dd if=/dev/zero of=big bs=1M count=24 2>why || grep -o 'Disk quota exceeded\\|No space left' why; \
        [ $(stat -c %b big) -le 32768 ] && echo bounded; chattr -p 0 . 2>/dev/null && echo left || echo stays; \
        chattr -P . 2>/dev/null && echo left || echo stays; \
        rm big; mkdir deep && dd if=/dev/zero of=deep/less bs=1M count=8 2>/dev/null && echo again; sleep 600";
    launch(tasks, &id, command, json!({}));
    let said = wait_stdout(tasks, &id, "again");
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].contains("quota") || lines[0].contains("No space"), "{said}");
    assert_eq!(lines[1..], ["bounded", "stays", "stays", "again"], "{said}");
    println!("{kind}: {}", lines[0]);
    // What is used is known without a look at the files: the numbers agree to the block.
    let sandbox = guest.run(&format!("ls -d /srv/{kind}/slaves/*/frameworks/*/executors/{id}/runs/latest/")).unwrap();
    let projects =
        guest.run(&format!("export PATH=$PATH:/sbin:/usr/sbin; lsattr -pd $(readlink -f {sandbox})")).unwrap();
    let project: u32 = projects.split_whitespace().next().unwrap().parse().unwrap();
    assert!(project > 1 << 20, "{projects}");
    tasks.kill(&id).unwrap();
    tasks.wait_end(&id, SOON).unwrap();
    // Another run is another project.
    let id = format!("other-{kind}");
    launch(tasks, &id, "dd if=/dev/zero of=big bs=1M count=12 2>/dev/null && echo fits", json!({}));
    assert_eq!(tasks.wait_end(&id, SOON).unwrap()["state"], "TASK_FINISHED");
    assert_eq!(tasks.stdout(&id).unwrap(), "fits\n");
}

fn containers_are_on_the_operators_network(guest: &mut DebianGuest, tasks: &mut Tasks) {
    let network = json!({"container": {"type": "MESOS", "network_infos": [
        {"name": "lab", "port_mappings": [{"host_port": 31005, "container_port": 8080}]}]}});
    let serve = "export PATH=$PATH:/sbin:/usr/sbin; ip -o -4 addr show eth0 | grep -o '10.77.0.[0-9]*/24'; ip route show default; echo up; exec systemd-socket-activate -a --inetd -l 8080 /bin/echo hello";
    launch(tasks, "served", serve, network.clone());
    let said = wait_stdout(tasks, "served", "up");
    let address = said.lines().next().unwrap().split('/').next().unwrap().to_owned();
    assert!(said.contains("default via 10.77.0.1"), "{said}");
    let status = tasks.wait_state("served", "TASK_RUNNING", SOON).unwrap();
    let told = &status["container_status"]["network_infos"][0];
    assert_eq!((&told["name"], &told["ip_addresses"][0]["ip_address"]), (&json!("lab"), &json!(address)), "{status}");
    let ask = |place: &str, port: u16| format!("exec 3<>/dev/tcp/{place}/{port}; head -n1 <&3");
    guest.wait(&format!("bash -c '{}'", ask(&address, 8080)), SOON).unwrap();
    assert_eq!(guest.run(&format!("bash -c '{}'", ask("10.0.2.15", 31005))).unwrap(), "hello", "the node's port");
    // A new agent finds it connected and lets it go in the end.
    let agent =
        guest.run("pgrep -f 'mesolith-agent.* agent$' || grep -l '^agent' /proc/[0-9]*/comm | head -n1").unwrap();
    println!("the agent: {agent}");
    guest.run("for c in /sys/fs/cgroup/system.slice/mesolith-agent-*.scope/mesolith/agent/cgroup.procs; do kill -9 $(cat $c); done").unwrap();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(guest.run(&format!("ls /var/lib/cni/networks/lab | grep -c {address}")).unwrap(), "1");
    tasks.kill("served").unwrap();
    tasks.wait_end("served", SOON).unwrap();
    guest.wait(&format!("test ! -e /var/lib/cni/networks/lab/{address}"), SOON).unwrap();
    guest
        .wait("test -z \"$(ls /srv/ext4/run/agent/cni /srv/ext4/run/agent/netns 2>/dev/null | grep -v :)\"", SOON)
        .unwrap();
    guest.run("export PATH=$PATH:/sbin:/usr/sbin; ! iptables -t nat -S | grep 31005").unwrap();
    // With names of its own on a host takes an image; a network that is not there says which are.
    let other = json!({"container": {"type": "MESOS", "network_infos": [{"name": "broken"}]}});
    launch(tasks, "no-network", "true", other);
    let end = tasks.wait_end("no-network", SOON).unwrap();
    assert!(end["message"].as_str().unwrap().contains("only 'bridge' and 'lab'"), "{end}");
    let own = json!({"labels": {"labels": [{"key": "mesolith.user_namespace", "value": "own"}]}});
    launch(tasks, "own-names", "true", own);
    let end = tasks.wait_end("own-names", SOON).unwrap();
    assert!(end["message"].as_str().unwrap().contains("takes an image"), "{end}");
}
