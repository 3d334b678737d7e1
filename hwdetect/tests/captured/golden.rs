//! Whole inventories against committed ones: nothing changes unseen. `BLESS=1` writes them anew; `facts.rs` says what
//! must be true whatever they hold.

use std::fs;

use crate::capture::{MACHINES, detect, machines_directory};

fn check(machine: &str) {
    let golden = machines_directory().join(format!("{machine}.json"));
    let inventory = detect(machine);
    let found = serde_json::to_string_pretty(&inventory).unwrap() + "\n";
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        fs::write(&golden, &found).unwrap();
    }
    let expected = fs::read_to_string(&golden).unwrap_or_else(|error| panic!("{}: {error}", golden.display()));
    if found != expected {
        let first = found.lines().zip(expected.lines()).enumerate().find(|(_, (found, expected))| found != expected);
        panic!(
            "{machine} differs from {}, first at {first:#?}; look at the change, then run with BLESS=1",
            golden.display()
        );
    }
    let read: hwdetect::Inventory = serde_json::from_str(&expected).unwrap();
    assert_eq!(read, inventory, "{machine}: JSON does not hold the whole inventory");
}

#[test]
fn compute_numa_is_as_committed() {
    check("compute-numa");
}

#[test]
fn storage_is_as_committed() {
    check("storage");
}

#[test]
fn uefi_epyc_is_as_committed() {
    check("uefi-epyc");
}

#[test]
fn netstack_is_as_committed() {
    check("netstack");
}

#[test]
fn microvm_is_as_committed() {
    check("microvm");
}

#[test]
fn every_captured_machine_is_tested() {
    let mut found: Vec<String> = fs::read_dir(machines_directory())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".tar.gz").map(str::to_owned))
        .collect();
    found.sort();
    let mut named = MACHINES.map(str::to_owned);
    named.sort();
    assert_eq!(found, named);
}

#[test]
fn an_inventory_written_by_an_older_release_is_still_read() {
    let read: hwdetect::Inventory = serde_json::from_str(r#"{"disks":[{"name":"sda"}],"from_the_future":1}"#).unwrap();
    assert_eq!((read.disks[0].name.as_str(), read.cpu.threads), ("sda", 0));
}
