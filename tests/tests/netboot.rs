//! A rack whose DHCP server gives addresses and knows nothing of booting: the master tells machines the rest.
#![cfg(feature = "nightly")]
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::time::{Duration, Instant};

use tests::rack::{BootService, Options, Rack};

const BOOT: Duration = Duration::from_secs(240);

#[test]
fn a_rack_boots_with_no_other_service_than_addresses() {
    let mut options = Options { nodes: 1, boot_service: BootService::Master, ..Options::new().unwrap() };
    options.master_args = ["--netboot", "br0"].map(str::to_owned).to_vec();
    let rack = Rack::start(options).unwrap();
    let began = Instant::now();
    rack.wait_registered(1, BOOT).unwrap();
    println!("registered {:?} after the power came", began.elapsed());
    let log = rack.master().log();
    assert!(log.contains("a machine is told what to boot"), "{log}");
    assert!(rack.master().boot_log().contains("/boot/start.ipxe"), "{}", rack.master().boot_log());
    let dhcp = std::fs::read_to_string(rack.dir().join("dnsmasq.log")).unwrap();
    // Machines ask it for a bootfile; it names none.
    assert!(dhcp.contains("DHCPACK") && !dhcp.contains("bootfile name"), "{dhcp}");
    rack.end().unwrap();
}
