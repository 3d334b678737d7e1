//! Who this machine is, for the master.

use api::link::Machine;
use hwdetect::{Accelerator, AcceleratorKind, Inventory, NicKind};

/// By its firmware's UUID and its cards; a hosted node, which may share both with others, by an id of its own.
pub(crate) fn of(inventory: &Inventory, node_name: &str, hosted: Option<&str>) -> Machine {
    match hosted {
        Some(id) => Machine { uuid: id.to_owned(), macs: Vec::new(), node_name: node_name.to_owned() },
        None => Machine {
            uuid: inventory.platform.system.uuid.clone().unwrap_or_default(),
            macs: macs(inventory),
            node_name: node_name.to_owned(),
        },
    }
}

/// The permanent addresses of real network cards, sorted.
fn macs(inventory: &Inventory) -> Vec<String> {
    let cards = inventory.nics.iter().filter(|nic| nic.kind == NicKind::Physical);
    let mut macs: Vec<String> = cards.filter_map(|nic| nic.permanent_mac.clone().or_else(|| nic.mac.clone())).collect();
    macs.sort();
    macs.dedup();
    macs
}

/// Graphics processors with a driver that tasks could use; a console chip is none.
pub(crate) fn is_gpu(accelerator: &Accelerator) -> bool {
    accelerator.kind == AcceleratorKind::Gpu && accelerator.driver.is_some()
}
