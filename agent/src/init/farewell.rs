//! The last word on every cable: a machine that ends is no neighbour any more (LLDP's shutdown frame), and its switch need
//! not wait two minutes to believe it.

use std::fs;
use std::io::Write;
use std::path::Path;

use agent_core::cmdline::{Lldp, NodeConfig};
use agent_core::lldp::own_announcement;
use hwdetect::lldp::{ETHERTYPE, NEAREST_BRIDGE};

/// Says goodbye on every card, unless nothing was to be said. What fails here nobody waits for.
pub(crate) fn say() {
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    // A line with mistakes started no agent, which would have said something.
    if NodeConfig::parse(&line).is_ok_and(|config| config.lldp == Lldp::On) {
        for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
            // Only hardware has a device.
            if entry.path().join("device").exists() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let _ = say_on(&entry.path(), &name);
            }
        }
    }
}

fn say_on(card: &Path, name: &str) -> std::io::Result<()> {
    let number = |file: &str| Ok::<_, std::io::Error>(fs::read_to_string(card.join(file))?.trim().to_owned());
    let index = number("ifindex")?.parse().map_err(std::io::Error::other)?;
    // A port of a bond has the bond's address: what was announced is its own.
    let own = number("bonding_slave/perm_hwaddr").or_else(|_| number("address"))?;
    let mut mac = [0; 6];
    for (byte, part) in mac.iter_mut().zip(own.split(':')) {
        *byte = u8::from_str_radix(part, 16).map_err(std::io::Error::other)?;
    }
    let mut announcement = own_announcement(mac, name, None, None);
    announcement.ttl_secs = 0;
    let mut socket = fs::File::from(agent_sys::ethernet::open(index, ETHERTYPE, NEAREST_BRIDGE)?);
    socket.write_all(&announcement.to_frame(mac, index))
}
