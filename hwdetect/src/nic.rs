//! Network interfaces.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::device_path::DevicePath;

/// A network interface of any kind: look at `kind` before taking it for hardware.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Nic {
    /// The kernel's name. `ethN` follows the order drivers load in, so identify by MAC or PCI address.
    pub name: String,
    /// What is behind it.
    pub kind: NicKind,
    /// The address in use, lower case.
    pub mac: Option<String>,
    /// The address burnt in, where it is the one in use or the bond that replaced it tells.
    pub permanent_mac: Option<String>,
    /// `e1000e`.
    pub driver: Option<String>,
    /// The link's speed. `None` when it is down or, on virtio, has none.
    pub speed_mbps: Option<u32>,
    /// Whether both ends may send at once.
    pub duplex: Option<Duplex>,
    /// The PCI function it hangs on.
    pub pci_address: Option<String>,
    /// The port of that function, from 0, where it has several.
    pub dev_port: Option<u32>,
    /// The NUMA node of its PCI function.
    pub numa_node: Option<u32>,
    /// The cable is in and the other end answers. `None` while the interface is administratively down.
    pub carrier: Option<bool>,
    /// RFC 2863's state.
    pub operstate: Option<OperState>,
    /// The largest packet.
    pub mtu_bytes: Option<u32>,
    /// The bond or bridge it is part of.
    pub master: Option<String>,
    /// The interfaces it is made of, for bonds, bridges and VLANs.
    pub lower: Vec<String>,
    /// How many virtual functions it can be split into. `None` if it cannot.
    pub sriov_total_vfs: Option<u32>,
    /// How many it is split into.
    pub sriov_vfs: Option<u32>,
}

/// What is behind an interface.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NicKind {
    /// A card, or what a hypervisor shows as one.
    Physical,
    /// An SR-IOV slice of a card.
    VirtualFunction,
    /// `lo`.
    Loopback,
    /// Several made one.
    Bond,
    /// A tagged slice of another.
    Vlan,
    /// A switch in the kernel.
    Bridge,
    /// Anything else without hardware: dummies, tunnels, ends of containers' links.
    #[default]
    Virtual,
}

/// Whether both ends of a link may send at once.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplex {
    /// They take turns.
    Half,
    /// They may.
    Full,
}

/// RFC 2863's `ifOperStatus`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OperState {
    /// Packets pass.
    Up,
    /// They do not.
    Down,
    /// Up, but waiting for something, such as 802.1X.
    Dormant,
    /// What it is made of is down.
    LowerLayerDown,
    /// The hardware is missing.
    NotPresent,
    /// Under test.
    Testing,
    /// The driver does not say: usual for loopback and dummies.
    Unknown,
}

impl Nic {
    pub(crate) fn detect(root: &SysRoot) -> Vec<Self> {
        let names = root.list("sys/class/net").into_iter();
        // The bonding driver puts a plain file here, `bonding_masters`: only interfaces have an index.
        names
            .filter(|name| root.exists(&format!("sys/class/net/{name}/ifindex")))
            .map(|name| Self::read(root, name))
            .collect()
    }

    fn read(root: &SysRoot, name: String) -> Self {
        let directory = format!("sys/class/net/{name}");
        let file = |file: &str| format!("{directory}/{file}");
        let path = DevicePath::of(root, &directory);
        let mac = root.text(&file("address")).and_then(|text| parse_mac(&text));
        let kind = kind(root, &directory, &path);
        let has_hardware = matches!(kind, NicKind::Physical | NicKind::VirtualFunction);
        let assigned = root.parse::<u32>(&file("addr_assign_type"));
        let enslaved = root.text(&file("bonding_slave/perm_hwaddr")).and_then(|text| parse_mac(&text));
        // 0 is NET_ADDR_PERM. Loopback has it too, with an address that is none.
        let own = mac.clone().filter(|_| has_hardware && assigned == Some(0));
        let entries = if has_hardware { Vec::new() } else { root.list(&directory) };
        Self {
            permanent_mac: enslaved.or(own),
            driver: has_hardware.then(|| path.driver(root)).flatten(),
            speed_mbps: root.text(&file("speed")).and_then(|text| parse_speed(&text)),
            duplex: root.text(&file("duplex")).and_then(|text| parse_duplex(&text)),
            pci_address: path.pci_address().map(str::to_owned),
            dev_port: has_hardware.then(|| root.parse(&file("dev_port"))).flatten(),
            numa_node: path.numa_node(root),
            carrier: root.flag(&file("carrier")),
            operstate: root.text(&file("operstate")).and_then(|text| parse_operstate(&text)),
            mtu_bytes: root.parse(&file("mtu")),
            master: root.link_name(&file("master")),
            lower: entries.iter().filter_map(|entry| entry.strip_prefix("lower_")).map(str::to_owned).collect(),
            sriov_total_vfs: root.parse(&file("device/sriov_totalvfs")).filter(|vfs| *vfs != 0),
            sriov_vfs: root.parse(&file("device/sriov_numvfs")),
            kind,
            mac,
            name,
        }
    }
}

/// `ARPHRD_LOOPBACK` of `linux/if_arp.h`.
const LOOPBACK: u32 = 772;

fn kind(root: &SysRoot, directory: &str, path: &DevicePath) -> NicKind {
    let uevent = root.text(&format!("{directory}/uevent")).unwrap_or_default();
    match uevent.lines().find_map(|line| line.strip_prefix("DEVTYPE=")) {
        Some("bond") => NicKind::Bond,
        Some("vlan") => NicKind::Vlan,
        Some("bridge") => NicKind::Bridge,
        _ if root.parse(&format!("{directory}/type")) == Some(LOOPBACK) => NicKind::Loopback,
        _ if path.is_virtual() => NicKind::Virtual,
        _ if root.link_name(&format!("{directory}/device/physfn")).is_some() => NicKind::VirtualFunction,
        _ => NicKind::Physical,
    }
}

/// Six bytes, or the twenty of InfiniBand. All zeros is no address.
fn parse_mac(text: &str) -> Option<String> {
    let is_byte = |byte: &str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    let valid = text.split(':').count() >= 6 && text.split(':').all(is_byte);
    (valid && text.bytes().any(|byte| !matches!(byte, b'0' | b':'))).then(|| text.to_ascii_lowercase())
}

/// `-1`, and by drivers that mean it 0, 65535 and 4294967295, is "unknown".
fn parse_speed(text: &str) -> Option<u32> {
    text.parse::<u32>().ok().filter(|speed| !matches!(speed, 0 | 0xffff | 0xffff_ffff))
}

fn parse_duplex(text: &str) -> Option<Duplex> {
    match text {
        "full" => Some(Duplex::Full),
        "half" => Some(Duplex::Half),
        _ => None,
    }
}

fn parse_operstate(text: &str) -> Option<OperState> {
    Some(match text {
        "up" => OperState::Up,
        "down" => OperState::Down,
        "dormant" => OperState::Dormant,
        "lowerlayerdown" => OperState::LowerLayerDown,
        "notpresent" => OperState::NotPresent,
        "testing" => OperState::Testing,
        "unknown" => OperState::Unknown,
        _ => return None,
    })
}

impl fmt::Display for NicKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Physical => "physical",
            Self::VirtualFunction => "sr-iov vf",
            Self::Loopback => "loopback",
            Self::Bond => "bond",
            Self::Vlan => "vlan",
            Self::Bridge => "bridge",
            Self::Virtual => "virtual",
        })
    }
}

impl fmt::Display for OperState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Dormant => "dormant",
            Self::LowerLayerDown => "lowerlayerdown",
            Self::NotPresent => "notpresent",
            Self::Testing => "testing",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_speeds_are_none() {
        for (text, speed) in [
            ("1000", Some(1000)),
            ("-1", None),
            ("0", None),
            ("65535", None),
            ("4294967295", None),
            ("", None),
            ("x", None),
        ] {
            assert_eq!(parse_speed(text), speed, "{text}");
        }
    }

    #[test]
    fn an_address_of_zeros_is_none() {
        for (text, mac) in [
            ("52:54:00:AA:00:03", Some("52:54:00:aa:00:03")),
            ("00:00:00:00:00:00", None),
            ("00:00:00:00", None),
            ("52:54:00:aa:00:zz", None),
            (
                "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01",
                Some("80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:00:00:01"),
            ),
            ("", None),
        ] {
            assert_eq!(parse_mac(text).as_deref(), mac, "{text}");
        }
    }
}
