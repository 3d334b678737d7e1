//! The whole machine in one value, and the one function that makes it.

use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::bmc::Bmc;
use crate::cpu::Cpu;
use crate::cpuinfo::CpuInfo;
use crate::disk::Disk;
use crate::kernel::Kernel;
use crate::memory::{Memory, NumaNode};
use crate::nic::Nic;
use crate::pci::PciFunction;
use crate::platform::Platform;
use crate::smbios;
use crate::sysroot::SysRoot;
use crate::tpm::Tpm;
use crate::virtualisation::Virtualisation;
use crate::watchdog::Watchdog;

/// What a machine is made of. Units are in the names of fields; `None` means that the kernel does not say. It holds
/// nothing that changes by itself (no free memory, no temperature), so two detections differ only if the machine does;
/// memory that fails is such a difference.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Inventory {
    /// The running kernel.
    pub kernel: Kernel,
    /// What runs this machine, if it is not hardware.
    pub virtualisation: Virtualisation,
    /// Maker, model, serial numbers, firmware.
    pub platform: Platform,
    /// Processors.
    pub cpu: Cpu,
    /// Memory.
    pub memory: Memory,
    /// Which CPUs and memory are near to each other.
    pub numa_nodes: Vec<NumaNode>,
    /// Disks.
    pub disks: Vec<Disk>,
    /// CD, DVD and Blu-ray drives.
    pub optical_drives: Vec<Disk>,
    /// Network interfaces of every kind.
    pub nics: Vec<Nic>,
    /// GPUs, accelerators, and console chips marked as such.
    pub accelerators: Vec<Accelerator>,
    /// Every PCI function, the above included.
    pub pci: Vec<PciFunction>,
    /// The trusted platform module.
    pub tpm: Option<Tpm>,
    /// The management controller.
    pub bmc: Option<Bmc>,
    /// Watchdog timers.
    pub watchdogs: Vec<Watchdog>,
}

/// Reads the machine under `root`. It never fails: what cannot be read is absent.
#[must_use]
pub fn detect(root: &SysRoot) -> Inventory {
    // Root only: for everybody else the tables are empty, and what depends on them is absent.
    let tables = smbios::parse(&root.bytes("sys/firmware/dmi/tables/DMI").unwrap_or_default());
    let entry_point = root.bytes("sys/firmware/dmi/tables/smbios_entry_point").unwrap_or_default();
    let platform = Platform::detect(root, &tables, smbios::parse_version(&entry_point));

    let numa_nodes = NumaNode::detect(root);
    let node_of = |cpu| numa_nodes.iter().find(|node| node.cpus.contains(cpu)).map(|node| node.id);
    let info = CpuInfo::parse(&root.text("proc/cpuinfo").unwrap_or_default());
    let cpu = Cpu::detect(root, info, node_of);

    let pci = PciFunction::detect(root);
    let (disks, optical_drives) = Disk::detect(root);
    Inventory {
        kernel: Kernel::detect(root),
        virtualisation: Virtualisation::detect(root, &cpu, &platform, &pci),
        memory: Memory::detect(root, &tables),
        nics: Nic::detect(root),
        accelerators: Accelerator::detect(root, &pci),
        tpm: Tpm::detect(root),
        bmc: Bmc::detect(root, &tables),
        watchdogs: Watchdog::detect(root),
        platform,
        cpu,
        numa_nodes,
        disks,
        optical_drives,
        pci,
    }
}
