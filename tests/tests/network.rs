//! Networks of racks as they are: a bond of two cards with a management VLAN on it, LACP between two machines, settings
//! that are tried and taken back, DHCPv6.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::rack::cables::{Switch, mac};
use tests::rack::{Link, Options, Rack};

/// A boot on a loaded host.
const BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(90);

/// Asks a node again and again until what it says is as it shall be.
fn wait_for(rack: &Rack, node: &str, method: &str, patience: Duration, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + patience;
    let mut last = String::new();
    loop {
        match rack.get(&format!("/mesolith/v1/nodes/{node}/api/{method}")) {
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

/// The node's name of a card.
fn card(said: &Value, mac: &str) -> String {
    let cards = said["links"].as_object().unwrap();
    let found = cards.iter().find(|(_, link)| link["permanent_mac"] == mac);
    found.unwrap_or_else(|| panic!("no card is {mac}: {said}")).0.clone()
}

#[test]
fn a_node_is_managed_over_a_vlan_of_a_bond_and_a_pulled_cable_does_not_matter() {
    let macs = [1, 2].map(|cable| mac(1, cable).replace(':', "-"));
    let cmdline =
        format!("bond=bond0:{},{}:mode=active-backup:1600 vlan=bond0.100:bond0 ip=bond0.100:dhcp", macs[0], macs[1]);
    let options = Options { nodes: 1, cmdline, ..Options::new().unwrap() };
    let rack = Rack::start(options.with_cable_to_switch(1, 1).with_cable_to_switch(2, 1)).unwrap();
    let _switch = Switch::start(&rack, 100, 1, &[1, 2]).unwrap();
    let began = Instant::now();
    rack.wait_registered(1, BOOT).unwrap();
    let registered = began.elapsed();
    // The card it booted through has no address: only the VLAN leads to the master.
    let said = wait_for(&rack, "node-1", "links", SOON, |said| link(said, "bond0.100")["addresses"].is_array());
    let network = rack.get("/mesolith/v1/nodes/node-1/api/network").unwrap();
    let vlan = link(&said, "bond0.100");
    let address =
        vlan["addresses"].as_array().unwrap().iter().filter_map(Value::as_str).find(|one| one.contains("10.77.0."));
    let address = address.unwrap_or_else(|| panic!("{vlan}")).trim_end_matches("/24").to_owned();
    let node = rack.get("/mesolith/v1/nodes").unwrap()["nodes"][0].clone();
    assert_eq!(node["address"], address.as_str(), "the address the master knows is the one that is used");
    assert_eq!((&vlan["kind"], &vlan["id"], &vlan["of"]), (&"vlan".into(), &100.into(), &"bond0".into()));
    assert_eq!((&vlan["source"], &vlan["primary"]), (&"command line".into(), &true.into()));
    let bond = link(&said, "bond0");
    assert_eq!((&bond["mode"], &bond["mtu"]), (&"active-backup".into(), &1600.into()), "{bond}");
    let ports = [1, 2].map(|cable| card(&network, &mac(1, cable)));
    for port in &ports {
        let port = link(&said, port);
        assert_eq!((&port["bond"], &port["mtu"]), (&"bond0".into(), &1600.into()), "{port}");
    }
    let boot = link(&said, &card(&network, rack.node(1).mac()));
    let four =
        |link: &Value| link["addresses"].as_array().into_iter().flatten().any(|one| one.to_string().contains('.'));
    assert!(!four(boot), "{boot}");

    // The working cable goes, then comes back and the other goes: the session over the bond stays.
    let active = bond["active_port"].as_str().unwrap().to_owned();
    let number = if active == ports[0] { 1 } else { 2 };
    let other = 3 - number;
    let mark = rack.node(1).console_mark();
    let pulled = Instant::now();
    rack.node(1).set_cable(number, Link::Down).unwrap();
    let is_other = |said: &Value| link(said, "bond0")["active_port"] == ports[usize::from(other) - 1].as_str();
    wait_for(&rack, "node-1", "links", SOON, is_other);
    let answered = pulled.elapsed();
    rack.node(1).set_cable(number, Link::Up).unwrap();
    let both = |said: &Value| ports.iter().all(|port| link(said, port)["port_mii"] == "up");
    wait_for(&rack, "node-1", "links", SOON, both);
    rack.node(1).set_cable(other, Link::Down).unwrap();
    let is_first = |said: &Value| link(said, "bond0")["active_port"] == active.as_str();
    wait_for(&rack, "node-1", "links", SOON, is_first);
    assert!(!rack.node(1).console()[mark..].contains("READY"), "it registered anew: the session was lost");
    println!(
        "registered as {address} over VLAN 100 of an active-backup bond {:.1} s after power on; asked {:.1} s after its \
         cable was pulled, in the same session",
        registered.as_secs_f32(),
        answered.as_secs_f32()
    );
    rack.end().unwrap();
}
