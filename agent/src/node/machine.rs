//! Who this machine is and what is known about it, for the master.

use api::Attribute;
use api::link::Machine;
use hwdetect::{Inventory, NicKind, SysRoot, Virtualisation};

/// What registering needs of the hardware. The inventory itself is sent and not kept.
#[derive(Debug)]
pub(crate) struct Detected {
    pub(crate) machine: Machine,
    pub(crate) inventory_json: String,
    pub(crate) kernel: String,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) cpus: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) gpus: u64,
}

/// Reads the machine. `hosted` is the id of a hosted node, which may share its hardware with others.
pub(crate) fn detect(node_name: &str, hosted: Option<&str>) -> Detected {
    let inventory = hwdetect::detect(&SysRoot::host());
    let machine = match hosted {
        Some(id) => Machine { uuid: id.to_owned(), macs: Vec::new(), node_name: node_name.to_owned() },
        None => Machine {
            uuid: inventory.platform.system.uuid.clone().unwrap_or_default(),
            macs: macs(&inventory),
            node_name: node_name.to_owned(),
        },
    };
    Detected {
        machine,
        inventory_json: serde_json::to_string(&inventory).unwrap_or_default(),
        kernel: inventory.kernel.release.clone().unwrap_or_default(),
        attributes: attributes(node_name, &inventory),
        cpus: u64::from(inventory.cpu.threads),
        memory_bytes: inventory.memory.total_bytes.unwrap_or_default(),
        gpus: u64::try_from(inventory.accelerators.iter().filter(|accelerator| is_gpu(accelerator)).count())
            .unwrap_or(0),
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
fn is_gpu(accelerator: &hwdetect::Accelerator) -> bool {
    accelerator.kind == hwdetect::AcceleratorKind::Gpu && accelerator.driver.is_some()
}

/// A small set that constraints really use; the rest is in the inventory.
fn attributes(node_name: &str, inventory: &Inventory) -> Vec<Attribute> {
    let cpu = &inventory.cpu;
    let vendor = cpu.vendor.as_deref().map(|vendor| match vendor {
        "GenuineIntel" => "intel",
        "AuthenticAMD" => "amd",
        other => other,
    });
    let virtualisation = match inventory.virtualisation {
        Virtualisation::None => "none",
        Virtualisation::Kvm => "kvm",
        Virtualisation::Qemu => "qemu",
        Virtualisation::Vmware => "vmware",
        Virtualisation::HyperV => "hyper-v",
        Virtualisation::Xen => "xen",
        Virtualisation::VirtualBox => "virtualbox",
        Virtualisation::Bhyve => "bhyve",
        Virtualisation::Parallels => "parallels",
        Virtualisation::Other => "other",
    };
    let level = cpu.isa_level.and_then(|level| serde_json::to_value(level).ok());
    let gpu = inventory.accelerators.iter().find(|accelerator| is_gpu(accelerator));
    [
        ("node.name", Some(node_name)),
        ("node.vendor", inventory.platform.system.vendor.as_deref()),
        ("node.model", inventory.platform.system.product.as_deref()),
        ("node.virtualization", Some(virtualisation)),
        ("cpu.arch", cpu.architecture.as_deref()),
        ("cpu.vendor", vendor),
        ("cpu.model", cpu.model_name.as_deref()),
        ("cpu.level", level.as_ref().and_then(|level| level.as_str())),
        ("kernel.version", inventory.kernel.release.as_deref()),
        ("gpu.model", gpu.and_then(|gpu| gpu.model.as_deref())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some(Attribute::text(name, value.filter(|value| !value.is_empty())?)))
    .collect()
}
