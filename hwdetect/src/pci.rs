//! PCI functions and their names.

use std::fmt;

use pci_ids::FromId;
use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::device_path::is_pci_address;

/// One function of a PCI device. Ids are written in hexadecimal, as everywhere else.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct PciFunction {
    /// `0000:00:1f.2`.
    pub address: String,
    /// Base class, subclass and programming interface: `0x010601`.
    pub class: PciClass,
    /// `Mass storage controller`.
    pub class_name: Option<String>,
    /// `SATA controller`.
    pub subclass_name: Option<String>,
    /// Who made the chip.
    pub vendor: Option<PciId>,
    /// Its name.
    pub vendor_name: Option<String>,
    /// The chip.
    pub device: Option<PciId>,
    /// Its name.
    pub device_name: Option<String>,
    /// Who made the board.
    pub subsystem_vendor: Option<PciId>,
    /// Its name.
    pub subsystem_vendor_name: Option<String>,
    /// The board.
    pub subsystem_device: Option<PciId>,
    /// Its name, which few have.
    pub subsystem_name: Option<String>,
    /// The chip's stepping.
    pub revision: Option<u8>,
    /// The driver bound to it.
    pub driver: Option<String>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// Devices of one group cannot be given to different owners.
    pub iommu_group: Option<u32>,
    /// The board's own name for it: `Onboard-LAN-1`.
    pub label: Option<String>,
    /// Its PCI Express link.
    pub link: Option<PciLink>,
}

/// A vendor or device number.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PciId(pub u16);

/// A class number of 24 bits.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PciClass(pub u32);

/// A PCI Express link. Slower or narrower than it could be points to a bad slot or cable.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct PciLink {
    /// Million transfers a second and lane: 16000 is generation 4.
    pub speed_mts: Option<u32>,
    /// The fastest both ends of the slot could.
    pub max_speed_mts: Option<u32>,
    /// Lanes in use.
    pub width_lanes: Option<u32>,
    /// Lanes there are.
    pub max_width_lanes: Option<u32>,
}

impl PciClass {
    /// `0x02`: network.
    #[must_use]
    pub fn base(self) -> u8 {
        self.0.to_be_bytes()[1]
    }

    /// `0x00` of `0x02`: Ethernet.
    #[must_use]
    pub fn sub(self) -> u8 {
        self.0.to_be_bytes()[2]
    }
}

impl PciFunction {
    pub(crate) fn detect(root: &SysRoot) -> Vec<Self> {
        let addresses = root.list("sys/bus/pci/devices").into_iter().filter(|name| is_pci_address(name));
        let mut functions: Vec<Self> = addresses.map(|address| Self::read(root, address)).collect();
        // Hexadecimal digits: plain text order is bus order.
        functions.sort_by(|a, b| a.address.cmp(&b.address));
        functions
    }

    fn read(root: &SysRoot, address: String) -> Self {
        let file = |file: &str| format!("sys/bus/pci/devices/{address}/{file}");
        let id = |name: &str| root.hex(&file(name)).and_then(|id| u16::try_from(id).ok()).map(PciId);
        let class = PciClass(root.hex(&file("class")).unwrap_or_default() & 0x00ff_ffff);
        let (vendor, device) = (id("vendor"), id("device"));
        // Zero is "none" here: bridges have it.
        let subsystem_vendor = id("subsystem_vendor").filter(|id| id.0 != 0);
        let subsystem_device = id("subsystem_device").filter(|_| subsystem_vendor.is_some());
        let known = vendor.zip(device).and_then(|(vendor, device)| pci_ids::Device::from_vid_pid(vendor.0, device.0));
        let subsystem = known.zip(subsystem_vendor.zip(subsystem_device)).and_then(|(device, (vendor, board))| {
            device.subsystems().find(|system| (system.subvendor(), system.subdevice()) == (vendor.0, board.0))
        });
        Self {
            class_name: pci_ids::Class::from_id(class.base()).map(|class| class.name().to_owned()),
            subclass_name: pci_ids::Subclass::from_cid_sid(class.base(), class.sub()).map(|sub| sub.name().to_owned()),
            vendor_name: vendor.and_then(|id| vendor_name(id.0)),
            device_name: known.map(|device| device.name().to_owned()),
            subsystem_vendor_name: subsystem_vendor.and_then(|id| vendor_name(id.0)),
            subsystem_name: subsystem.map(|system| system.name().to_owned()),
            revision: root.hex(&file("revision")).and_then(|revision| u8::try_from(revision).ok()),
            driver: root.link_name(&file("driver")),
            numa_node: root.id(&file("numa_node")),
            iommu_group: root.link_name(&file("iommu_group")).and_then(|group| group.parse().ok()),
            label: root.text(&file("label")),
            link: has_link_of_interest(class).then(|| PciLink::read(root, &address)).flatten(),
            class,
            vendor,
            device,
            subsystem_vendor,
            subsystem_device,
            address,
        }
    }

    /// `Intel Corporation 82574L Gigabit Network Connection`, with numbers where names are missing.
    #[must_use]
    pub fn description(&self) -> String {
        let number = |id: Option<PciId>| id.map_or_else(|| "????".to_owned(), |id| format!("{:04x}", id.0));
        match (&self.vendor_name, &self.device_name) {
            (Some(vendor), Some(device)) => format!("{vendor} {device}"),
            (Some(vendor), None) => format!("{vendor} device {}", number(self.device)),
            (None, _) => format!("device {}:{}", number(self.vendor), number(self.device)),
        }
    }
}

impl PciLink {
    fn read(root: &SysRoot, address: &str) -> Option<Self> {
        let file = |file: &str| format!("sys/bus/pci/devices/{address}/{file}");
        let speed = |name: &str| root.text(&file(name)).and_then(|text| parse_speed(&text));
        // 0 and 255 lanes are how the kernel writes "no link".
        let width = |name: &str| root.parse(&file(name)).filter(|lanes| !matches!(lanes, 0 | 255));
        let link = Self {
            speed_mts: speed("current_link_speed"),
            max_speed_mts: speed("max_link_speed"),
            width_lanes: width("current_link_width"),
            max_width_lanes: width("max_link_width"),
        };
        (link != Self::default()).then_some(link)
    }
}

/// Storage, network, display and accelerators: a bridge's link repeats that of what is behind it, and each read costs an
/// access to configuration space.
fn has_link_of_interest(class: PciClass) -> bool {
    matches!(class.base(), 0x01..=0x03 | 0x12)
}

/// `8.0 GT/s PCIe`, `2.5 GT/s`, `Unknown`.
fn parse_speed(text: &str) -> Option<u32> {
    let number = text.split_once(" GT/s")?.0;
    let (whole, tenth) = number.split_once('.').unwrap_or((number, "0"));
    let tenth = tenth.chars().next()?.to_digit(10)?;
    whole.parse::<u32>().ok()?.checked_mul(1000)?.checked_add(tenth * 100).filter(|speed| *speed != 0)
}

/// The name of a vendor, if it is known.
pub(crate) fn vendor_name(id: u16) -> Option<String> {
    pci_ids::Vendor::from_id(id).map(|vendor| vendor.name().to_owned())
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:04x}", self.0)
    }
}

impl fmt::Display for PciClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:06x}", self.0)
    }
}

impl Serialize for PciId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for PciClass {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PciId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = hexadecimal(&String::deserialize(deserializer)?)?;
        u16::try_from(number).map(Self).map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for PciClass {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        hexadecimal(&String::deserialize(deserializer)?).map(Self)
    }
}

fn hexadecimal<E: serde::de::Error>(text: &str) -> Result<u32, E> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    u32::from_str_radix(digits, 16).map_err(|_| E::custom(format_args!("`{text}` is not a hexadecimal number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_speeds_are_read() {
        for (text, speed) in [
            ("8.0 GT/s PCIe", Some(8000)),
            ("2.5 GT/s", Some(2500)),
            ("32 GT/s", Some(32_000)),
            ("Unknown", None),
            ("0 GT/s", None),
            (" GT/s", None),
            ("9999999999 GT/s", None),
        ] {
            assert_eq!(parse_speed(text), speed, "{text}");
        }
    }

    #[test]
    fn a_function_without_a_name_shows_its_numbers() {
        let unnamed = PciFunction { vendor: Some(PciId(0xfff0)), device: Some(PciId(2)), ..PciFunction::default() };
        assert_eq!(unnamed.description(), "device fff0:0002");
        assert_eq!(PciFunction::default().description(), "device ????:????");
    }

    #[test]
    fn ids_are_written_and_read_in_hexadecimal() {
        assert_eq!(serde_json::to_string(&(PciId(0x8086), PciClass(0x02_0000))).unwrap(), r#"["0x8086","0x020000"]"#);
        let ids: (PciId, PciClass) = serde_json::from_str(r#"["0x8086","0x020000"]"#).unwrap();
        assert_eq!(ids, (PciId(0x8086), PciClass(0x02_0000)));
        assert!(serde_json::from_str::<PciId>(r#""0x12345""#).is_err());
        assert!(serde_json::from_str::<PciId>(r#""x""#).is_err());
    }
}
