//! Where nodes stand and what they are made of, found by themselves: from the switch at the other end of the cable, the
//! DHCP server, the firmware and the operator's rules; and what changes while tasks run.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::collections::BTreeMap;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use hwdetect::lldp::{Announcement, Id, parse_frame};
use serde_json::{Value, json};
use tests::clients::{PythonPackages, programs, run_to_end};
use tests::rack::{Node, Options, Places, Rack};

const BOOT: Duration = Duration::from_secs(300);
/// What a change may take until it shows, on a host where others work too. The measured times are printed.
const SHOWS: Duration = Duration::from_secs(30);
const CLIENT: Duration = Duration::from_secs(300);
/// What plugged-in hardware may take, from the command to QEMU to the master's answer, where the host has processors left
/// to emulate with.
const HOTPLUG: Duration = Duration::from_secs(1);
const NEW_CARD: &str = "52:54:00:99:00:03";

#[test]
fn nodes_find_their_racks_and_notice_what_changes_while_tasks_run() {
    let rack = Rack::start(options()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // The nodes boot meanwhile.
    let python = PythonPackages::install(&dir.path().join("python"), &["requirements.txt"]).unwrap();
    rack.wait_registered(2, BOOT).unwrap();
    let lab = Lab { rack: &rack };
    what_is_known_at_once(&lab);
    switches_and_a_rule_place_nodes(&lab);
    nodes_say_who_they_are(&lab);
    conditions_find_nodes(&lab);
    constraints_on_the_rack_are_honoured(&lab, &python, dir.path());
    let task = RunningTask::start(&lab, "node-1");
    hotplugged_hardware_shows(&lab);
    a_moved_cable_moves_the_node(&lab);
    rules_are_tried_and_removed(&lab);
    task.still_the_same_and_end();
    println!("{}", python.verify().unwrap());
    rack.end().unwrap();
}

/// The first node has slots for more, the second one firmware that says where it is.
fn options() -> Options {
    let mut options = Options { places: Places::Untold, ..Options::new().unwrap() };
    options.dhcp = vec!["dhcp-option-force=224,\"row=3 zone=lab-zone\"".to_owned()];
    let slots = (1..=3)
        .flat_map(|slot| ["-device".to_owned(), format!("pcie-root-port,id=slot{slot},chassis={slot},slot={slot}")]);
    options.node_qemu_args.insert("node-1".to_owned(), slots.collect());
    let firmware = [
        "-smbios",
        "type=1,manufacturer=Acme Inc.,product=RackStar 2200,serial=SN-2",
        "-smbios",
        "type=11,value=lab.rack=from-the-firmware,value=lab.site=bln-1",
    ];
    options.node_qemu_args.insert("node-2".to_owned(), firmware.map(str::to_owned).to_vec());
    options
}

struct Lab<'a> {
    rack: &'a Rack,
}

/// A value and where it is from.
type Known = (Value, String);

impl Lab<'_> {
    fn attributes(&self, node: &str) -> BTreeMap<String, Known> {
        let answer = self.rack.get(&format!("/mesolith/v1/nodes/{node}/attributes")).unwrap();
        let attributes = answer["attributes"].as_array().unwrap().iter();
        attributes
            .map(|one| {
                let text = |field: &str| one[field].as_str().unwrap().to_owned();
                (text("name"), (one["value"].clone(), text("source")))
            })
            .collect()
    }

    fn attribute(&self, node: &str, name: &str) -> Option<Known> {
        self.attributes(node).remove(name)
    }

    fn wait(&self, node: &str, name: &str, expected: Option<(Value, &str)>) -> Duration {
        let began = Instant::now();
        loop {
            let found = self.attribute(node, name);
            if found.as_ref().map(|(value, source)| (value.clone(), source.as_str())) == expected {
                return began.elapsed();
            }
            assert!(began.elapsed() < SHOWS, "{node}: {name} is {found:?}, not {expected:?}, after {SHOWS:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.rack.options().programs.cli);
        command.args(["--master", self.rack.api_address()]).args(arguments).stdin(Stdio::null());
        command.output().expect("mesolith has been built beside this test")
    }

    fn said(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
        text(&output.stdout)
    }

    fn node(&self, number: usize) -> Node<'_> {
        self.rack.node(number)
    }
}

fn switch(name: &str, port: &str) -> Announcement {
    Announcement {
        chassis: Id::Mac([0x00, 0x1c, 0x73, 0, 0, 1]),
        port: Id::Text(port.to_owned()),
        // Longer than the test: what is said once holds until it is taken back.
        ttl_secs: 3600,
        port_description: None,
        system_name: Some(name.to_owned()),
        system_description: Some("Acme switch".to_owned()),
        capabilities: Some(0x14),
        management_addresses: Vec::new(),
        port_vlan: None,
        max_frame_bytes: None,
        location: None,
        asset_tag: None,
    }
}

fn announce(node: &Node<'_>, announcement: &Announcement) {
    node.send_frame(&announcement.to_frame([0x00, 0x1c, 0x73, 0, 0, 2], 1)).unwrap();
}

fn what_is_known_at_once(lab: &Lab<'_>) {
    for node in ["node-1", "node-2"] {
        let known = lab.attributes(node);
        for (name, value, source) in [
            ("node.name", json!(node), "agent"),
            ("virt", json!("qemu"), "kernel"),
            ("net.count", json!(1.0), "kernel"),
            ("net.drivers", json!("virtio_net"), "kernel"),
            ("zone", json!("lab-zone"), "dhcp"),
            ("row", json!("3"), "dhcp"),
            ("net.primary", json!("eth0"), "agent"),
        ] {
            assert_eq!(known.get(name), Some(&(value, source.to_owned())), "{node} {name}: {known:?}");
        }
        assert!(!known.contains_key("switch"), "no switch has spoken: {known:?}");
    }
    assert_eq!(lab.attribute("node-1", "rack"), None);
    let second = lab.attributes("node-2");
    for (name, value) in [
        ("rack", "from-the-firmware"),
        ("dc", "bln-1"),
        ("node.vendor", "acme"),
        ("node.model", "rackstar-2200"),
        ("node.serial", "SN-2"),
    ] {
        assert_eq!(second.get(name), Some(&(json!(value), "smbios".to_owned())), "{name}");
    }
    println!("node-2 has {} attributes", second.len());
}

fn switches_and_a_rule_place_nodes(lab: &Lab<'_>) {
    let rule = [
        "rules",
        "add",
        "racks",
        "--switch",
        "tor-(?<rack>r[0-9]+)-.*",
        "--switch-port",
        "Ethernet1/(?<unit>[0-9]+)",
        "--set",
        "rack={rack}",
        "--set",
        "rack.unit={unit}",
    ];
    println!("{}", lab.said(&rule).trim());
    for (number, name, port) in [(1, "tor-r7-a", "Ethernet1/7"), (2, "tor-r8-a", "Ethernet1/3")] {
        let node = lab.node(number);
        announce(&node, &switch(name, port));
        let after = lab.wait(node.name(), "switch", Some((json!(name), "lldp")));
        assert_eq!(lab.attribute(node.name(), "switch.eth0.port"), Some((json!(port), "lldp".to_owned())));
        println!("{name} shows as the switch of {} {:.3} s after its frame", node.name(), after.as_secs_f32());
    }
    lab.wait("node-1", "rack", Some((json!("r7"), "rule")));
    lab.wait("node-1", "rack.unit", Some((json!(7.0), "rule")));
    // The firmware's word counts less, and is not forgotten.
    lab.wait("node-2", "rack", Some((json!("r8"), "rule")));
    lab.wait("node-2", "rack.conflict", Some((json!("true"), "master")));
    let shown = lab.said(&["hw", "node-2"]);
    let line = shown.lines().find(|line| line.starts_with("rack ")).unwrap();
    assert!(line.contains("rule racks") && line.contains("from-the-firmware (smbios)"), "{line}");
    let table = lab.said(&["nodes"]);
    assert!(table.contains("rack=r7") && table.contains("rack=r8") && !table.contains("cpu."), "{table}");
}

fn nodes_say_who_they_are(lab: &Lab<'_>) {
    let node = lab.node(1);
    let said = parse_frame(&node.hear_lldp(Duration::from_secs(70)).unwrap()).unwrap();
    assert_eq!(said.system_name.as_deref(), Some("node-1"));
    assert_eq!((said.chassis.to_string(), said.port.to_string()), (node.mac().to_owned(), "eth0".to_owned()));
    assert_eq!(said.management_addresses, [node.address().parse::<std::net::IpAddr>().unwrap()]);
    assert!(!said.forwards() && said.ttl_secs == 120);
    println!("node-1 says: {said:?}");
}

fn conditions_find_nodes(lab: &Lab<'_>) {
    for (condition, expected) in [
        ("rack == 'r7'", &["node-1"][..]),
        ("rack =~ 'r[78]' && cpus >= 1", &["node-1", "node-2"]),
        ("node.vendor == 'acme' || net.count >= 99", &["node-2"]),
        ("disks.nvme >= 2 && net.max_mbps >= 25000", &[]),
    ] {
        let rows: Value = serde_json::from_str(&lab.said(&["nodes", "--json", "--where", condition])).unwrap();
        let names: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(names, expected, "{condition}");
    }
    let output = lab.cli(&["nodes", "--where", "rack = 'r7'"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("write `==`") && said.contains("     ^"), "{said}");
}

/// `mesolith run` and the unmodified pymesos go where the rack is.
fn constraints_on_the_rack_are_honoured(lab: &Lab<'_>, python: &PythonPackages, dir: &std::path::Path) {
    for (rack, node) in [("r7", 1), ("r8", 2)] {
        let constraint = format!("rack:IS:{rack}");
        let said = lab.cli(&["run", "--constraint", &constraint, "--", "true"]);
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let told = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(told.contains(lab.node(node).name()), "{constraint}: {told}");
    }
    let result = dir.join("rack.json");
    let mut command = python.python();
    command.arg(programs().join("pymesos_rack.py")).arg(lab.rack.api_address()).arg(&result).args(["r8", "5"]);
    run_to_end(&mut command, &dir.join("rack.log"), CLIENT).unwrap();
    let result: Value = serde_json::from_slice(&std::fs::read(result).unwrap()).unwrap();
    let agents = lab.rack.registered();
    let second = agents.iter().find(|agent| agent["attributes"]["node.name"] == "node-2").unwrap();
    assert_eq!(result["errors"], json!([]));
    let (placed, ends) = (result["placed"].as_object().unwrap(), result["ends"].as_object().unwrap());
    assert_eq!((placed.len(), ends.len()), (5, 5), "{result}");
    assert!(placed.values().all(|agent| *agent == second["id"]), "{result}");
    assert!(ends.values().all(|end| end == "TASK_FINISHED"), "{result}");
    assert_eq!(result["racks"].as_object().unwrap().len(), 2, "it was offered both racks: {result}");
}

/// A task of `mesolith run` that says its process id again and again.
struct RunningTask<'a> {
    lab: &'a Lab<'a>,
    client: Child,
    task: Value,
}

impl<'a> RunningTask<'a> {
    fn start(lab: &'a Lab<'a>, node: &str) -> Self {
        let client = Command::new(&lab.rack.options().programs.cli)
            .args(["--master", lab.rack.api_address(), "run", "--name", "witness"])
            .args(["--constraint", &format!("node.name:IS:{node}"), "--", "while :; do sleep 1; done"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut running = Self { lab, client, task: Value::Null };
        let began = Instant::now();
        loop {
            if let Some(task) = Self::find(lab) {
                running.task = task;
                return running;
            }
            assert!(began.elapsed() < CLIENT, "the task did not start");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// Its status with the process on the node, once it runs.
    fn find(lab: &Lab<'_>) -> Option<Value> {
        let state = lab.rack.get("/state").unwrap();
        let tasks = state["frameworks"].as_array()?.iter().flat_map(|framework| framework["tasks"].as_array().unwrap());
        let task = tasks.into_iter().find(|task| task["name"] == "witness")?;
        if task["state"] != "TASK_RUNNING" {
            return None;
        }
        task["statuses"]
            .as_array()?
            .last()
            .map(|status| json!([task["id"], status["container_status"]["executor_pid"]]))
    }

    fn still_the_same_and_end(mut self) {
        assert_eq!(Self::find(self.lab), Some(self.task.clone()), "the task is another, or gone");
        assert!(self.client.try_wait().unwrap().is_none(), "the client has ended");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.client.id()).unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
        self.client.wait().unwrap();
        println!("the task {} ran through all of it", self.task);
    }
}

fn hotplugged_hardware_shows(lab: &Lab<'_>) {
    let node = lab.node(1);
    for (disk, size) in [("d1", 2_000_000_000_000_u64), ("d2", 1_000_000_000_000)] {
        let backend = json!({"driver": "null-co", "node-name": disk, "size": size, "read-zeroes": true});
        node.qmp("blockdev-add", backend).unwrap();
    }
    node.qmp("netdev_add", json!({"type": "hubport", "id": "n3", "hubid": 7})).unwrap();
    let before = lab.attributes("node-1");
    assert_eq!((&before["disks.count"].0, &before["net.count"].0), (&json!(0.0), &json!(1.0)));
    for (number, driver, more, name, without, with) in [
        (1, "virtio-blk-pci", json!({"drive": "d1", "serial": "VB-1"}), "disks.virtual", None, json!(1.0)),
        (2, "nvme", json!({"drive": "d2", "serial": "NV-1"}), "disks.nvme", None, json!(1.0)),
        (3, "virtio-net-pci", json!({"netdev": "n3", "mac": NEW_CARD}), "net.count", Some(json!(1.0)), json!(2.0)),
    ] {
        let id = format!("plugged{number}");
        let mut device = json!({"driver": driver, "id": id, "bus": format!("slot{number}")});
        device.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let mut tries = Vec::new();
        // An emulated machine beside others: the best of a few tries is what the programs need.
        while tries.iter().all(|took| *took >= HOTPLUG) {
            if tries.len() >= 5 {
                let load = load_per_processor();
                assert!(load > 1.5, "{driver} shows in {tries:?}, not within {HOTPLUG:?}, at a load of {load:.1}");
                println!("{driver} shows in {tries:?}: the host is too busy ({load:.1}) to tell more");
                break;
            }
            if !tries.is_empty() {
                node.qmp("device_del", json!({"id": id})).unwrap();
                lab.wait("node-1", name, without.clone().map(|value| (value, "kernel")));
            }
            node.qmp("device_add", device.clone()).unwrap();
            tries.push(lab.wait("node-1", name, Some((with.clone(), "kernel"))));
        }
        println!("{driver} plugged in shows after {:.3} s (try {})", tries[tries.len() - 1].as_secs_f32(), tries.len());
    }
    assert_eq!(lab.attribute("node-1", "disks.total_gb").unwrap().0, json!(3000.0));
    assert!(lab.attribute("node-1", "net.mac.set").unwrap().0.as_str().unwrap().contains(NEW_CARD));
    let inventory = lab.rack.get("/mesolith/v1/nodes/node-1/inventory").unwrap();
    assert!(inventory.to_string().contains("NV-1"), "the inventory follows");
    node.qmp("device_del", json!({"id": "plugged2"})).unwrap();
    let gone = lab.wait("node-1", "disks.nvme", None);
    println!("an NVMe disk taken out is gone after {:.3} s", gone.as_secs_f32());
    let log = tests::http::get(&format!("{}/mesolith/v1/nodes/node-1/log", lab.rack.api_url()), SHOWS).unwrap().text();
    for line in log.lines().filter(|line| line.contains("the machine changed")) {
        println!("  {line}");
    }
}

/// How many want a processor for each there is.
fn load_per_processor() -> f64 {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    let load: f64 = load.split(' ').next().unwrap().parse().unwrap();
    let processors = std::thread::available_parallelism().unwrap().get();
    load / f64::from(u32::try_from(processors).unwrap())
}

/// The switch says goodbye, another one is there.
fn a_moved_cable_moves_the_node(lab: &Lab<'_>) {
    let node = lab.node(1);
    announce(&node, &Announcement { ttl_secs: 0, ..switch("tor-r7-a", "Ethernet1/7") });
    let gone = lab.wait("node-1", "rack", None);
    announce(&node, &switch("tor-r9-b", "Ethernet1/40"));
    let moved = lab.wait("node-1", "rack", Some((json!("r9"), "rule")));
    assert_eq!(lab.attribute("node-1", "rack.unit"), Some((json!(40.0), "rule".to_owned())));
    println!(
        "the rack is gone {:.3} s after a goodbye, another one is there {:.3} s after a frame",
        gone.as_secs_f32(),
        moved.as_secs_f32()
    );
}

fn rules_are_tried_and_removed(lab: &Lab<'_>) {
    let tried = lab.said(&["rules", "test", "spare", "--mac", lab.node(2).mac(), "--set", "tier=spare"]);
    assert!(
        tried.contains("node-2") && tried.contains("tier: nothing -> spare") && !tried.contains("node-1"),
        "{tried}"
    );
    assert_eq!(lab.attribute("node-2", "tier"), None, "it was only tried");
    let bad = lab.cli(&["rules", "add", "bad", "--switch", "(", "--set", "rack=r1"]);
    assert!(!bad.status.success() && String::from_utf8_lossy(&bad.stderr).contains("not a valid regular expression"));
    lab.said(&["rules", "add", "spare", "--subnet", "10.77.0.0/24", "--first", "--set", "tier=spare"]);
    lab.wait("node-2", "tier", Some((json!("spare"), "rule")));
    let list = lab.said(&["rules", "list"]);
    println!("{list}");
    let order: Vec<usize> = ["spare", "racks"].iter().map(|name| list.find(name).unwrap()).collect();
    assert!(order[0] < order[1], "{list}");
    // A reservation for a role holds for what is free, and ends with its rule.
    let reserved = |role: &str| {
        let agents = lab.rack.registered();
        let second = agents.iter().find(|agent| agent["attributes"]["node.name"] == "node-2").unwrap();
        second["reserved_resources"][role]["cpus"].as_f64()
    };
    lab.said(&["rules", "add", "web", "--node", "node-2", "--reserve", "web"]);
    assert_eq!(reserved("web"), Some(1.0));
    lab.said(&["rules", "remove", "web"]);
    assert_eq!(reserved("web"), None);
    // What is committed outlives the master.
    lab.rack.master().restart().unwrap();
    lab.rack.wait_registered(2, BOOT).unwrap();
    lab.wait("node-2", "tier", Some((json!("spare"), "rule")));
    lab.said(&["rules", "remove", "spare"]);
    lab.said(&["rules", "remove", "racks"]);
    lab.wait("node-2", "tier", None);
    lab.wait("node-2", "rack", Some((json!("from-the-firmware"), "smbios")));
}
