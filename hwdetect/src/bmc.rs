//! The baseboard management controller, seen through IPMI.

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::smbios::Tables;

/// A management controller the host can talk to.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Bmc {
    /// `ipmi0`, as in `/dev/ipmi0`. `None` when only the firmware's tables tell of it.
    pub device: Option<String>,
    /// How the host reaches it, from SMBIOS type 38: `KCS`.
    pub interface: Option<String>,
    /// The IPMI version it speaks: `2.0`.
    pub ipmi_version: Option<String>,
    /// Its firmware's version.
    pub firmware_revision: Option<String>,
    /// The maker's IANA enterprise number.
    pub manufacturer_id: Option<u32>,
    /// The maker's product number.
    pub product_id: Option<u32>,
}

impl Bmc {
    pub(crate) fn detect(root: &SysRoot, tables: &Tables) -> Option<Self> {
        let device = root.list("sys/class/ipmi").into_iter().find(|name| name.starts_with("ipmi"));
        let record = tables.ipmi();
        if device.is_none() && record.is_none() {
            return None;
        }
        // Where the controller's own facts are: a platform device the IPMI core makes once it answered.
        let directory = root
            .list("sys/devices/platform")
            .into_iter()
            .find(|name| name.starts_with("ipmi_bmc."))
            .map(|name| format!("sys/devices/platform/{name}"));
        let file = |name: &str| directory.as_ref().map(|directory| format!("{directory}/{name}"));
        Some(Self {
            device,
            interface: record.as_ref().and_then(|record| record.interface()).map(str::to_owned),
            ipmi_version: file("ipmi_version")
                .and_then(|path| root.text(&path))
                .or_else(|| record.as_ref().and_then(|record| record.revision())),
            firmware_revision: file("firmware_revision").and_then(|path| root.text(&path)),
            manufacturer_id: file("manufacturer_id").and_then(|path| root.hex(&path)),
            product_id: file("product_id").and_then(|path| root.hex(&path)),
        })
    }
}
