//! The machine's own words about itself: maker, model, serial numbers, firmware.

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::chassis::chassis_type_name;
use crate::junk::meaningful;
use crate::smbios::Tables;

/// SMBIOS strings, placeholders removed. Serial numbers and the UUID can be read by root only.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Platform {
    /// The product as sold.
    pub system: System,
    /// The mainboard.
    pub board: Board,
    /// The box.
    pub chassis: Chassis,
    /// The firmware.
    pub bios: Bios,
    /// Free text of the maker, or of a virtual machine's owner: `lab.rack=R07`.
    pub oem_strings: Vec<String>,
    /// The version of the tables these come from: `2.8`.
    pub smbios_version: Option<String>,
}

/// The product as sold.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct System {
    /// `Dell Inc.`
    pub vendor: Option<String>,
    /// `PowerEdge R650`.
    pub product: Option<String>,
    /// The model's revision.
    pub version: Option<String>,
    /// The machine's serial number.
    pub serial: Option<String>,
    /// Lower case. Not always unique: some makers flash the same one twice.
    pub uuid: Option<String>,
    /// The number to order it by.
    pub sku: Option<String>,
    /// The product line.
    pub family: Option<String>,
}

/// The mainboard.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Board {
    /// Who made it.
    pub vendor: Option<String>,
    /// Its model.
    pub product: Option<String>,
    /// Its revision.
    pub version: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The owner's tag.
    pub asset_tag: Option<String>,
    /// Where in the chassis it sits: `Slot U12`.
    pub location: Option<String>,
}

/// The box.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Chassis {
    /// Who made it.
    pub vendor: Option<String>,
    /// The number SMBIOS gives its form.
    pub type_code: Option<u8>,
    /// The form in words: `rack-mount`.
    pub type_name: Option<String>,
    /// Its revision.
    pub version: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The owner's tag.
    pub asset_tag: Option<String>,
    /// The number to order it by.
    pub sku: Option<String>,
    /// Height in rack units.
    pub height_units: Option<u8>,
}

/// The firmware.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Bios {
    /// Who wrote it.
    pub vendor: Option<String>,
    /// Its version, in the vendor's own form.
    pub version: Option<String>,
    /// `mm/dd/yyyy`.
    pub date: Option<String>,
    /// `2.1`.
    pub release: Option<String>,
    /// Booted through UEFI rather than as a legacy BIOS.
    pub uefi: bool,
    /// UEFI secure boot is on. `None` without UEFI variables.
    pub secure_boot: Option<bool>,
}

impl Platform {
    /// From the kernel's decoded strings, and from the raw tables for what it does not decode or did not export.
    pub(crate) fn detect(root: &SysRoot, tables: &Tables, version: Option<(u8, u8)>) -> Self {
        let id = |name: &str| root.text(&format!("sys/class/dmi/id/{name}")).and_then(|text| meaningful(&text));
        let (system, board) = (tables.system(version), tables.board());
        let (chassis, bios) = (tables.chassis(), tables.bios());
        let type_code = root
            .parse::<u8>("sys/class/dmi/id/chassis_type")
            .map(|code| code & 0x7f)
            .or_else(|| chassis.and_then(|chassis| chassis.type_code()));
        Self {
            system: System {
                vendor: id("sys_vendor").or_else(|| system?.vendor()),
                product: id("product_name").or_else(|| system?.product()),
                version: id("product_version").or_else(|| system?.version()),
                serial: id("product_serial").or_else(|| system?.serial()),
                uuid: id("product_uuid").map(|uuid| uuid.to_lowercase()).or_else(|| system?.uuid()),
                sku: id("product_sku").or_else(|| system?.sku()),
                family: id("product_family").or_else(|| system?.family()),
            },
            board: Board {
                vendor: id("board_vendor").or_else(|| board?.vendor()),
                product: id("board_name").or_else(|| board?.product()),
                version: id("board_version").or_else(|| board?.version()),
                serial: id("board_serial").or_else(|| board?.serial()),
                asset_tag: id("board_asset_tag").or_else(|| board?.asset_tag()),
                location: board.and_then(|board| board.location()),
            },
            chassis: Chassis {
                vendor: id("chassis_vendor").or_else(|| chassis?.vendor()),
                type_code,
                type_name: type_code.and_then(chassis_type_name).map(str::to_owned),
                version: id("chassis_version").or_else(|| chassis?.version()),
                serial: id("chassis_serial").or_else(|| chassis?.serial()),
                asset_tag: id("chassis_asset_tag").or_else(|| chassis?.asset_tag()),
                sku: chassis.and_then(|chassis| chassis.sku()),
                height_units: chassis.and_then(|chassis| chassis.height_units()),
            },
            bios: Bios {
                vendor: id("bios_vendor").or_else(|| bios?.vendor()),
                version: id("bios_version").or_else(|| bios?.version()),
                date: id("bios_date").or_else(|| bios?.date()),
                release: id("bios_release").or_else(|| bios?.release()),
                uefi: root.exists("sys/firmware/efi"),
                secure_boot: secure_boot(root),
            },
            oem_strings: tables.oem_strings(),
            smbios_version: version.map(|(major, minor)| format!("{major}.{minor}")),
        }
    }
}

/// The EFI variable `SecureBoot`: four bytes of attributes, then 0 or 1.
fn secure_boot(root: &SysRoot) -> Option<bool> {
    let bytes = root.bytes("sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c")?;
    bytes.get(4).map(|value| *value == 1)
}
