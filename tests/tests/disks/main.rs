//! Disks of servers that booted over the network: nothing is written to them without a rule; a rule makes them of use; what
//! is somebody else's stays.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

#[cfg(feature = "nightly")]
mod nightly;
mod server;

use serde_json::Value;

use server::{SOON, Server};

#[test]
fn rules_make_disks_of_use_and_what_is_somebody_elses_stays() {
    let mut server = Server::start(&[]);
    let disks = server.disks();
    let of = |disks: &[Value], serial: &str, field: &str| {
        let disk =
            disks.iter().find(|disk| disk["serial"] == serial).unwrap_or_else(|| panic!("no {serial}: {disks:?}"));
        disk[field].as_str().unwrap_or_default().to_owned()
    };
    for serial in ["NVA1", "VB1", "ZA1"] {
        assert_eq!(of(&disks, serial, "state"), "unused", "{disks:?}");
    }
    assert_eq!((server.written("nvme"), server.written("virtio")), (0, 0), "without a rule nothing is written");
    let foreign = server.bytes("sata");

    server.rule(&["pool", "--disks", "path", "--disk-class", "nvme", "--disk-count", "1", "--state-mib", "128"]);
    server.rule(&["data", "--disks", "mount", "--disk-class", "virtual", "--filesystem", "xfs", "--encrypted"]);
    server.rule(&["old", "--disks", "mount", "--disk-class", "hdd"]);
    let disks = server.wait_disks("all disks are as the rules say", |disks| {
        of(disks, "NVA1", "state") == "in use"
            && of(disks, "VB1", "state") == "in use"
            && of(disks, "NVA1", "content") == "ours: state ext4, path ext4"
            && of(disks, "VB1", "content") == "ours: mount xfs luks"
            && of(disks, "ZA1", "state") == "refused"
    });
    let why = of(&disks, "ZA1", "reason");
    assert!(why.contains("somebody's data is on it: LVM") && why.contains("--wipe ZA1"), "{why}");
    assert_eq!(server.bytes("sata"), foreign, "what is somebody else's stays");
    let table = server.cli(&["node", "node-1", "disks"]);
    assert!(table.contains("refused") && table.contains("LVM") && table.contains("ours: mount xfs luks"), "{table}");

    // The pool is the work directory from here on, and its size what is offered.
    server.wait_pool();
    let offered = server.offered();
    println!("offered: {offered:?}");
    assert!(offered.plain > 900.0, "of a disk of 3 GB, not of memory: {offered:?}");
    assert!(offered.mount > 700.0, "{offered:?}");

    server.make_volume_and("first", "echo kept > data/file; sync; ls data");
    let end = server.tasks.wait_end("first", SOON).unwrap();
    assert_eq!(end["state"], "TASK_FINISHED", "{end}");
    assert_eq!(server.tasks.stdout("first").unwrap(), "file\n", "a volume begins empty");
    server.on_volume("second", "cat data/file");
    assert_eq!(server.tasks.wait_end("second", SOON).unwrap()["state"], "TASK_FINISHED");
    assert_eq!(server.tasks.stdout("second").unwrap(), "kept\n");
    let on_disk = server.bytes("virtio");
    assert!(
        on_disk.windows(6).any(|window| window == b"LUKS\xba\xbe")
            && !on_disk.windows(5).any(|window| window == b"kept\n")
    );
    server.rack.end().unwrap();
}
