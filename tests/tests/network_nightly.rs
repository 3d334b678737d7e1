//! What of networks takes longer: LACP between two machines, settings that are tried and taken back, DHCPv6, a card that
//! flaps.
#![cfg(feature = "nightly")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::http;
use tests::rack::cables::mac;
use tests::rack::{Link, Options, Rack};

/// A boot on a loaded host.
const BOOT: Duration = Duration::from_secs(300);
const SOON: Duration = Duration::from_secs(120);

fn ask(rack: &Rack, node: &str, method: &str) -> anyhow::Result<Value> {
    rack.get(&format!("/mesolith/v1/nodes/{node}/api/{method}"))
}

/// Asks a node again and again until what it says is as it shall be.
fn wait_for(rack: &Rack, node: &str, method: &str, patience: Duration, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + patience;
    let mut last = String::new();
    loop {
        match ask(rack, node, method) {
            Ok(said) if holds(&said) => return said,
            Ok(said) => last = said.to_string(),
            Err(error) => last = format!("{error:#} (before: {last})"),
        }
        assert!(Instant::now() < deadline, "{node} {method}: {last}");
        std::thread::sleep(Duration::from_millis(300));
    }
}

fn link<'a>(said: &'a Value, name: &str) -> &'a Value {
    said["links"].as_array().unwrap().iter().find(|link| link["name"] == name).unwrap_or(&Value::Null)
}

/// A rule for one node's network.
fn put(rack: &Rack, node: &str, network: &Value) {
    let rule = json!({"match": {"node": node}, "network": network});
    let url = format!("{}/mesolith/v1/rules/network.{node}", rack.api_url());
    let json = [("Content-Type", "application/json")];
    http::request("PUT", &url, &json, Some(rule.to_string().as_bytes()), SOON).unwrap().success().unwrap();
}

fn state<'a>(said: &'a Value, rule: &str) -> Option<&'a str> {
    let settings = &said["settings"];
    (settings["rule"] == rule).then(|| settings["state"].as_str()).flatten()
}

#[test]
fn lacp_between_two_machines_set_by_the_master_then_a_bad_setting_that_is_taken_back() {
    let options = Options { nodes: 2, ..Options::new().unwrap() };
    let rack = Rack::start(options.with_cable(1, [1, 2]).with_cable(2, [1, 2])).unwrap();
    rack.wait_registered(2, BOOT).unwrap();
    for number in [1, 2] {
        let network = json!({"links": {
            "bond0": {"bond": {"ports": [mac(number, 1), mac(number, 2)], "mode": "802.3ad", "lacp_rate": "fast",
                "hash": "layer3+4"}, "mtu": 9000},
            "storage": {"vlan": {"of": "bond0", "id": 7}, "mtu": 9000, "addresses": [format!("10.9.0.{number}/24")]}
        }});
        put(&rack, &format!("node-{number}"), &network);
    }
    for number in [1, 2] {
        let (node, rule) = (format!("node-{number}"), format!("network.node-{number}"));
        wait_for(&rack, &node, "network", SOON, |said| state(said, &rule) == Some("confirmed"));
        let said = wait_for(&rack, &node, "links", SOON, |said| link(said, "bond0")["lacp_ports"] == "2");
        let bond = link(&said, "bond0");
        assert!(bond["lacp_partner"].as_str().unwrap().starts_with("52:54:00:77:1"), "{bond}");
        assert_eq!((&bond["mode"], &bond["mtu"]), (&"802.3ad".into(), &9000.into()));
        assert!(bond["hash"].as_str().unwrap().contains("layer3+4"), "{bond}");
        let vlan = link(&said, "storage");
        assert_eq!((&vlan["id"], &vlan["source"], &vlan["mtu"]), (&7.into(), &"master".into(), &9000.into()), "{vlan}");
        assert!(vlan["addresses"].to_string().contains(&format!("10.9.0.{number}/24")), "{vlan}");
    }
    // Packets arrive: each learnt the other's address by asking for it.
    let heard =
        wait_for(&rack, "node-2", "links", SOON, |said| link(said, "storage")["received_bytes"].as_u64() > Some(0));
    println!("bond of two ports with LACP, VLAN 7 received {}", link(&heard, "storage")["received_bytes"]);

    a_bad_setting_is_taken_back(&rack);
    rack.end().unwrap();
}

/// No card asks for an address any more: the master is lost, and found again with what was before.
fn a_bad_setting_is_taken_back(rack: &Rack) {
    let before = ask(rack, "node-1", "network").unwrap()["settings"]["in_force"].clone();
    let began = Instant::now();
    put(rack, "node-1", &json!({"others": {"ipv4": "off", "ipv6": "off"}, "try_seconds": 15}));
    rack.node(1).wait_console("trying the network of rule", SOON).unwrap();
    rack.node(1).wait_console("no master with the network of rule network.node-1: back to before", SOON).unwrap();
    let said = wait_for(rack, "node-1", "network", SOON, |said| said["settings"]["state"] == "reverted");
    let back = began.elapsed();
    assert_eq!(said["settings"]["in_force"], before);
    assert_eq!(said["settings"]["reverted"]["settings"]["try_seconds"], 15);
    assert!(back >= Duration::from_secs(15), "{back:?}");
    println!(
        "a setting without addresses was taken back: the node answers {:.1} s after it was given",
        back.as_secs_f32()
    );
}

#[test]
fn a_node_has_addresses_of_dhcpv6_and_of_routers_and_a_card_that_flaps_gets_them_again() {
    let mut options = Options { nodes: 1, ..Options::new().unwrap() };
    options.dhcp.push("dhcp-range=fd77::1000,fd77::1fff,64,10m".to_owned());
    options.dhcp.push("dhcp-option=option6:dns-server,[fd77::53]".to_owned());
    let rack = Rack::start(options).unwrap();
    rack.wait_registered(1, BOOT).unwrap();
    let lent = |said: &Value| {
        let links = said["links"].as_array().unwrap().iter();
        links
            .flat_map(|link| link["addresses"].as_array().into_iter().flatten())
            .any(|one| one.as_str().is_some_and(|one| one.starts_with("fd77::1") && one.ends_with("/128")))
    };
    wait_for(&rack, "node-1", "links", SOON, lent);
    let said =
        wait_for(&rack, "node-1", "network", SOON, |said| said["dns"]["servers"].to_string().contains("fd77::53"));
    println!("names: {}", said["dns"]);
    let node = rack.node(1);
    for _ in 0..10 {
        node.set_link(Link::Down).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        node.set_link(Link::Up).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    }
    node.set_link(Link::Down).unwrap();
    std::thread::sleep(Duration::from_secs(60));
    node.set_link(Link::Up).unwrap();
    let up = Instant::now();
    wait_for(&rack, "node-1", "links", SOON, lent);
    println!("all cards down for a minute: the node answers {:.1} s after they are up", up.elapsed().as_secs_f32());
    rack.end().unwrap();
}
