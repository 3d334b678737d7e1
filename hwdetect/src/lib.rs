//! What this machine is made of: reads `/sys` and `/proc` once and returns an [`Inventory`].
//!
//! Nothing here fails: a file that is missing, unreadable or malformed becomes `None`, because an inventory with a
//! gap is worth more than no inventory. [`SysRoot`] alone opens files, so any captured tree can stand in for a machine.
//!
//! ```no_run
//! let inventory = hwdetect::detect(&hwdetect::SysRoot::host());
//! println!("{} threads, {:?} bytes", inventory.cpu.threads, inventory.memory.total_bytes);
//! ```

mod accelerator;
mod bmc;
mod cache;
mod chassis;
mod civic_address;
mod cpu;
mod cpuinfo;
mod device_path;
mod disk;
mod disk_identity;
mod id_list;
mod inventory;
mod isa_level;
mod junk;
mod kernel;
pub mod lldp;
mod memory;
mod memory_errors;
mod nic;
mod pci;
mod platform;
mod report;
pub mod signature;
pub mod smart;
pub mod smbios;
mod sysroot;
mod tpm;
mod transport;
mod virtualisation;
mod watchdog;

pub use accelerator::{Accelerator, AcceleratorKind};
pub use bmc::Bmc;
pub use cache::{Cache, CacheKind};
pub use chassis::chassis_type_name;
pub use civic_address::CivicAddress;
pub use cpu::{Cpu, LogicalCpu};
pub use disk::{Disk, Partition};
pub use id_list::IdList;
pub use inventory::{Inventory, detect};
pub use isa_level::IsaLevel;
pub use junk::meaningful;
pub use kernel::Kernel;
pub use memory::{Dimm, EccKind, HugePages, Memory, NumaDistance, NumaNode};
pub use memory_errors::MemoryErrors;
pub use nic::{Duplex, Nic, NicKind, OperState};
pub use pci::{PciClass, PciFunction, PciId, PciLink};
pub use platform::{Bios, Board, Chassis, Platform, System};
pub use report::{Style, human_bytes, render};
pub use sysroot::{SysRoot, SysRootError};
pub use tpm::Tpm;
pub use transport::Transport;
pub use virtualisation::Virtualisation;
pub use watchdog::Watchdog;
