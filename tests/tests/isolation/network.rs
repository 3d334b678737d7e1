//! Networks of containers: an address of their own, ports of the node that are theirs, and nothing left afterwards.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Case, SOON, World, scalar};

pub(super) const CASES: &[Case] = &[
    ("the bridge with mapped ports", bridge),
    ("the node's network", shared),
    ("ports nobody gave", theft),
    ("what cannot be connected", refused),
];

pub(super) fn resources(begin: u32, end: u32) -> Value {
    let ports = json!({"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": begin, "end": end}]}});
    json!([scalar("cpus", 0.1), scalar("mem", 48.0), ports])
}

fn mapped(host: u32, container: u32) -> Value {
    let network = json!({"name": "bridge", "port_mappings": [{"host_port": host, "container_port": container}]});
    json!({"resources": resources(host, host), "container": {"type": "MESOS", "hostname": "inside", "network_infos": [network]}})
}

/// What another machine gets from a port of the node; empty when there is nothing.
fn fetch(world: &World, port: u32, path: &str) -> String {
    let mut curl = world.rack.inside(Path::new("/usr/bin/curl"));
    curl.args(["-s", "--max-time", "4", &format!("http://10.77.0.11:{port}/{path}")]);
    String::from_utf8_lossy(&curl.output().unwrap().stdout).into_owned()
}

fn bridge(world: &mut World) {
    let serve = |name: &str| {
        format!(
            "echo {name} > index.html; cat /etc/hosts; cat /etc/resolv.conf; ip -o -4 addr; httpd -f -p 80 & sleep 600"
        )
    };
    world.launch("one", json!({"value": serve("one")}), mapped(31_100, 80));
    world.launch("two", json!({"value": serve("two")}), mapped(31_101, 80));
    let mut addresses = Vec::new();
    for id in ["one", "two"] {
        let status = world.tasks.wait_state(id, "TASK_RUNNING", SOON).unwrap();
        let network = &status["container_status"]["network_infos"][0];
        let address = network["ip_addresses"][0]["ip_address"].as_str().unwrap().to_owned();
        assert!(address.starts_with("10.88.0."), "{status}");
        assert_eq!(network["port_mappings"][0]["container_port"], 80, "{status}");
        let said = world.wait_stdout(id, "eth0");
        assert!(said.contains(&format!("{address} inside")) && said.contains(&format!("{address}/16")), "{said}");
        addresses.push(address);
    }
    assert_ne!(addresses[0], addresses[1]);
    // From another machine, by the node's ports.
    let deadline = Instant::now() + SOON;
    while fetch(world, 31_100, "index.html") != "one\n" || fetch(world, 31_101, "index.html") != "two\n" {
        assert!(Instant::now() < deadline, "not reachable: {:?}", fetch(world, 31_100, "index.html"));
        std::thread::sleep(Duration::from_millis(500));
    }
    // From containers: each other's addresses, the node's mapped ports, and the world outside.
    let ask = format!(
        "wget -q -O - http://{}/index.html; wget -q -O - http://10.77.0.11:31101/index.html; \
         wget -q -O - http://10.77.0.11:31100/index.html; wget -q -T 5 -O - http://10.77.0.1:5050/version | grep -c version; \
         cat /sys/class/net/lo/operstate; hostname",
        addresses[0]
    );
    let more = json!({"container": {"type": "MESOS", "network_infos": [{"name": "bridge"}]}});
    let said = world.output("asker", &ask, more);
    assert!(said.starts_with("one\ntwo\none\n"), "{said}");
    // A port nobody mapped is not reachable from outside, though the machine outside knows the way.
    let mut route = world.rack.inside(Path::new("/sbin/ip"));
    assert!(route.args(["route", "replace", "10.88.0.0/16", "via", "10.77.0.11"]).status().unwrap().success());
    let mut curl = world.rack.inside(Path::new("/usr/bin/curl"));
    curl.args(["-s", "--max-time", "4", &format!("http://{}/index.html", addresses[0])]);
    assert!(!curl.status().unwrap().success(), "an address of a container is reachable from outside");
    // An agent that dies leaves the network as it is, and the next one knows it.
    let killed = world.faults.kill("agent").unwrap();
    world.agent = world.faults.wait_other("agent", killed, SOON).unwrap();
    assert_eq!(fetch(world, 31_100, "index.html"), "one\n");
    let statistics = world.container("one")["statistics"].clone();
    assert!(statistics["net_rx_bytes"].as_u64().unwrap_or(0) > 0, "{statistics}");
    // The third gets the address that is free again, and the port.
    world.tasks.kill("one").unwrap();
    assert_eq!(world.tasks.wait_first_end("one", SOON).unwrap()["state"], "TASK_KILLED");
    assert_eq!(fetch(world, 31_100, "index.html"), "", "its port is nobody's");
    world.launch("three", json!({"value": serve("three")}), mapped(31_100, 80));
    let status = world.tasks.wait_state("three", "TASK_RUNNING", SOON).unwrap();
    assert_eq!(status["container_status"]["network_infos"][0]["ip_addresses"][0]["ip_address"], json!(addresses[0]));
    let deadline = Instant::now() + SOON;
    while fetch(world, 31_100, "index.html") != "three\n" {
        assert!(Instant::now() < deadline, "not reachable");
        std::thread::sleep(Duration::from_millis(500));
    }
    for id in ["two", "three"] {
        world.tasks.kill(id).unwrap();
        world.tasks.wait_first_end(id, SOON).unwrap();
    }
    let left = world.output("left", "ls /sys/class/net | grep -c '^mv' ; true", json!({}));
    assert_eq!(left, "0\n", "interfaces are left");
}

fn shared(world: &mut World) {
    let said = world.output("shared-network", "ls /sys/class/net | grep -c eth", json!({}));
    assert_eq!(said, "1\n", "a task that asks for nothing has the node's");
}

/// On the node's network a task has the ports of its offer, and this node ends those that take others. One that does not
/// runs meanwhile: `super::lasting`.
fn theft(world: &mut World) {
    let more = json!({"resources": resources(31_310, 31_310)});
    let end = world.run("thief", "( while true; do echo taken | nc -l -p 31301; done ) & sleep 600", more);
    assert_eq!(
        (&end["state"], &end["reason"]),
        (&json!("TASK_FAILED"), &json!("REASON_CONTAINER_LIMITATION")),
        "{end}"
    );
    assert_eq!(end["message"], "Container is listening on unallocated ports: 31301", "{end}");
    assert_eq!(end["limitation"]["resources"][0]["ranges"]["range"][0]["begin"], 31_301, "{end}");
}

fn refused(world: &mut World) {
    let end = world.run(
        "not-mine",
        "true",
        json!({"resources": resources(31_200, 31_200), "container": {"type": "MESOS",
        "network_infos": [{"port_mappings": [{"host_port": 80, "container_port": 80}]}]}}),
    );
    assert!(end["message"].as_str().unwrap().contains("Port 80 not included in resources"), "{end}");
    let other = json!({"container": {"type": "MESOS", "network_infos": [{"name": "overlay"}]}});
    assert!(world.refused("overlay", other).contains("network 'overlay'"));
}
