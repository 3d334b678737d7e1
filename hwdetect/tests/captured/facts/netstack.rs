//! Two dies in a socket; bond, VLAN, bridge and dummy over four cards.

use hwdetect::{IsaLevel, NicKind, OperState};

use super::{
    ExpectedNic, LOOPBACK, Topology, assert_memory, assert_nics, assert_platform, assert_topology, assert_watchdogs,
    card,
};
use crate::capture::detect;

#[test]
fn netstack_has_two_dies_in_one_socket() {
    let inventory = detect("netstack");
    assert_platform(&inventory, "EdgeBox 4", "SN-F-0006", "11111111-2222-3333-4444-0000000000f6");
    assert_topology(
        &inventory,
        &Topology {
            model: "Intel Xeon Processor (Cascadelake)",
            online: "0-7",
            possible: "0-7",
            packages: 1,
            dies: 2,
            cores: 4,
            cpus: 8,
            level: IsaLevel::V3,
        },
    );
    assert_memory(&inventory, 723_956, &[(0, "0-7", &[10], 723_956)]);
    assert_eq!(inventory.pci.len(), 8);
    assert_eq!((&inventory.tpm, &inventory.bmc), (&None, &None));
    assert_watchdogs(&inventory, &["iTCO_wdt", "Software Watchdog"]);
    assert_eq!((&inventory.disks, &inventory.optical_drives), (&vec![], &vec![]), "loop devices are no disks");
    assert!(!inventory.platform.bios.uefi);
}

#[test]
fn netstack_has_a_bond_a_vlan_and_a_bridge_over_its_cards() {
    let inventory = detect("netstack");
    let e1000e = Some((0x8086, 0x10d3));
    let made = |name, mac, speed, state, kind| ExpectedNic {
        name,
        mac: Some(mac),
        permanent: None,
        speed,
        state,
        driver: None,
        pci: None,
        numa: None,
        kind,
    };
    assert_nics(
        &inventory,
        &[
            made("bond0", "52:54:00:ab:00:00", Some(1000), OperState::Up, NicKind::Bond),
            made("bond0.100", "52:54:00:ab:00:00", Some(1000), OperState::Up, NicKind::Vlan),
            made("br0", "52:54:00:ab:00:02", Some(1000), OperState::Up, NicKind::Bridge),
            made("dummy0", "be:86:24:ee:4e:23", None, OperState::Unknown, NicKind::Virtual),
            card("eth0", "52:54:00:ab:00:00", None, OperState::Down, "e1000e", e1000e),
            // The bond gave it the first card's address; its own is one higher.
            ExpectedNic {
                permanent: Some("52:54:00:ab:00:01"),
                ..card("eth1", "52:54:00:ab:00:00", Some(1000), OperState::Up, "e1000e", e1000e)
            },
            card("eth2", "52:54:00:ab:00:02", None, OperState::Down, "e1000e", e1000e),
            card("eth3", "52:54:00:ab:00:03", None, OperState::Down, "e1000e", e1000e),
            LOOPBACK,
        ],
    );
    let parts: Vec<_> =
        inventory.nics.iter().map(|nic| (nic.name.as_str(), nic.master.as_deref(), nic.lower.join(" "))).collect();
    assert_eq!(parts[0], ("bond0", None, "eth0 eth1".to_owned()));
    assert_eq!(parts[1], ("bond0.100", None, "bond0".to_owned()));
    assert_eq!(parts[2], ("br0", None, "eth2".to_owned()));
    assert_eq!(
        parts[4..8].iter().map(|part| part.1).collect::<Vec<_>>(),
        [Some("bond0"), Some("bond0"), Some("br0"), None]
    );
}
