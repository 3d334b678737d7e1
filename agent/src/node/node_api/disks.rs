//! Disks, with what the kernel knows of their health.

use hwdetect::SysRoot;
use serde_json::{Value, json};

/// One row a disk.
pub(super) fn list() -> Result<Value, String> {
    let disks = hwdetect::detect(&SysRoot::host()).disks;
    let disks: Vec<Value> = disks.iter().filter_map(|disk| serde_json::to_value(disk).ok()).collect();
    Ok(json!({ "disks": disks }))
}
