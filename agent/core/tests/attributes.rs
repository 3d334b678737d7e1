//! The attributes of the captured machines against committed ones: `BLESS=1` writes them anew.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use agent_core::attributes::{FACTS_LIMIT, Own, Surroundings, facts};
use agent_core::lldp::{Neighbour, Neighbours, own_announcement};
use api::attributes::AttributeValue;
use api::facts::{Source, winners};
use api::{Attribute, Fact};
use hwdetect::lldp::{Announcement, Id};
use hwdetect::{CivicAddress, Inventory};

/// Inventories of captured machines, which `hwdetect` has made golden.
fn inventories() -> Vec<(String, Inventory)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hwdetect/tests/machines");
    let mut found: Vec<(String, Inventory)> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&fs::read(&path).unwrap()).unwrap())
        })
        .collect();
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    found
}

fn own() -> Own {
    Own { node_name: "node-1".to_owned(), agent_version: "1.2.3".to_owned(), image_version: Some("1.2.3".to_owned()) }
}

/// A switch on eth0, as in the lab.
fn surroundings() -> Surroundings {
    Surroundings {
        primary: Some("eth0".to_owned()),
        address: Some([10, 77, 0, 11].into()),
        neighbours: vec![neighbour("eth1", "spine-1", "Ethernet9"), neighbour("eth0", "tor-r7-a", "Ethernet1/7")],
        location: Some(CivicAddress { building: Some("bln-1".to_owned()), ..CivicAddress::default() }),
        place: Some("row=3 zone=z1".to_owned()),
    }
}

fn neighbour(link: &str, switch: &str, port: &str) -> Neighbour {
    let announcement = Announcement {
        chassis: Id::Mac([0, 0x1c, 0x73, 1, 2, 3]),
        capabilities: Some(0x14),
        port_vlan: Some(112),
        ..own_announcement([2; 6], port, Some(switch), None)
    };
    Neighbour { link: link.to_owned(), announcement }
}

fn shown(facts: &[Fact]) -> String {
    let mut text = String::new();
    for fact in winners(facts) {
        let value = match &fact.attribute.value {
            AttributeValue::Scalar(number) => format!("{number}"),
            AttributeValue::Ranges(ranges) => ranges.to_string(),
            AttributeValue::Text(text) => format!("{text:?}"),
        };
        let evidence = if fact.evidence.is_empty() { String::new() } else { format!(" ({})", fact.evidence) };
        writeln!(text, "{} = {value} from {}{evidence}", fact.attribute.name, fact.source).unwrap();
    }
    text
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines").join(format!("{name}.txt"))
}

#[test]
fn every_captured_machine_has_its_golden_attributes() {
    let inventories = inventories();
    assert!(inventories.len() >= 5);
    for (name, inventory) in inventories {
        let facts = facts(&own(), &inventory, &surroundings(), &[]);
        assert!(facts.len() < FACTS_LIMIT, "{name} has {} facts", facts.len());
        let found = shown(&facts);
        if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
            fs::write(golden(&name), &found).unwrap();
        }
        let expected = fs::read_to_string(golden(&name)).unwrap_or_default();
        let first = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        assert!(found == expected, "{name} differs, first at {first:?}; look at it, then run with BLESS=1\n{found}");
    }
}

fn value(facts: &[Fact], name: &str) -> Option<(String, Source)> {
    let fact = winners(facts).into_iter().find(|fact| fact.attribute.name == name)?;
    match &fact.attribute.value {
        AttributeValue::Text(text) => Some((text.clone(), fact.source)),
        AttributeValue::Scalar(_) | AttributeValue::Ranges(_) => None,
    }
}

#[test]
fn a_rack_is_taken_from_the_strongest_source_that_knows_it() {
    let mut inventory = Inventory::default();
    let mut around = Surroundings { primary: Some("eth0".to_owned()), ..Surroundings::default() };
    let rack = |inventory: &Inventory, around: &Surroundings, typed: &[Attribute]| {
        value(&facts(&own(), inventory, around, typed), "rack")
    };
    assert_eq!(rack(&inventory, &around, &[]), None);
    inventory.platform.oem_strings = vec!["lab.rack=smbios".to_owned()];
    assert_eq!(rack(&inventory, &around, &[]), Some(("smbios".to_owned(), Source::Smbios)));
    around.place = Some("rack=dhcp".to_owned());
    assert_eq!(rack(&inventory, &around, &[]), Some(("dhcp".to_owned(), Source::Dhcp)));
    let mut other = neighbour("eth1", "tor-2", "p1");
    other.announcement.port_description = Some("rack=elsewhere".to_owned());
    let mut primary = neighbour("eth0", "tor-1", "p1");
    primary.announcement.port_description = Some("rack=lldp".to_owned());
    around.neighbours = vec![other, primary];
    assert_eq!(rack(&inventory, &around, &[]), Some(("lldp".to_owned(), Source::Lldp)), "the primary link's switch");
    let typed = [Attribute::text("rack", "typed")];
    assert_eq!(rack(&inventory, &around, &typed), Some(("typed".to_owned(), Source::CommandLine)));
}

#[test]
fn another_machine_heard_on_the_wire_is_no_switch() {
    let mut neighbours = Neighbours::default();
    let frame = own_announcement([2; 6], "eth0", Some("node-2"), None).to_frame([2; 6], 2);
    neighbours.hear((2, "eth0"), &frame, 0).unwrap();
    let around = Surroundings { neighbours: neighbours.all(), ..Surroundings::default() };
    assert_eq!(around.neighbours.len(), 1);
    assert_eq!(value(&facts(&own(), &Inventory::default(), &around, &[]), "switch"), None);
}
