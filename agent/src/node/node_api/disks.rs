//! Disks, with what is on them, what became of them and how they are.

use hwdetect::SysRoot;
use serde_json::{Value, json};

use crate::node::disks::Board;

/// One row a disk.
pub(super) fn list(board: &Board) -> Result<Value, String> {
    let disks = hwdetect::detect(&SysRoot::host()).disks;
    let one = |disk: &hwdetect::Disk| {
        let mut row = serde_json::to_value(disk).ok()?;
        let Value::Object(known) = board.show(&disk.name) else { return None };
        let fields = row.as_object_mut()?;
        fields.insert("class".to_owned(), agent_core::disks::class(disk).into());
        fields.extend(known);
        Some(row)
    };
    let disks: Vec<Value> = disks.iter().filter_map(one).collect();
    Ok(json!({ "disks": disks }))
}
