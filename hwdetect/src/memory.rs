//! Memory: what the kernel can use, where it is, and the modules it is made of.

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::id_list::IdList;
use crate::memory_errors::MemoryErrors;
use crate::smbios::{MemoryDevice, Tables};

/// All memory of the machine.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Memory {
    /// What the kernel has to give (`MemTotal`): less than is installed by what firmware and kernel keep.
    pub total_bytes: Option<u64>,
    /// The sum of all modules. `None` where the firmware lists none or does not know a size.
    pub installed_bytes: Option<u64>,
    /// Swap the kernel has.
    pub swap_bytes: Option<u64>,
    /// The kernel found memory broken and took it out of use.
    pub corrupted_bytes: Option<u64>,
    /// Pools of huge pages, one for each page size.
    pub huge_pages: Vec<HugePages>,
    /// How memory errors are corrected. `None` where the firmware does not say.
    pub ecc: Option<EccKind>,
    /// Module slots, the empty ones included.
    pub slots: Option<u32>,
    /// The modules, in the firmware's order.
    pub dimms: Vec<Dimm>,
    /// What the memory controllers counted since the machine started. `None` where none counts.
    pub errors: Option<MemoryErrors>,
}

/// A NUMA node: CPUs and the memory that is near to them. Either may be missing.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct NumaNode {
    /// The number in `/sys/devices/system/node/nodeN`.
    pub id: u32,
    /// Its CPUs.
    pub cpus: IdList,
    /// Its part of the kernel's memory.
    pub total_bytes: Option<u64>,
    /// How far its CPUs are from each node's memory; 10 is its own.
    pub distances: Vec<NumaDistance>,
    /// Its part of the pools.
    pub huge_pages: Vec<HugePages>,
}

/// How far a node's memory is, in the units of ACPI's SLIT: 10 is local, 20 takes twice as long.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct NumaDistance {
    /// The other node.
    pub node: u32,
    /// Its distance.
    pub distance: u32,
}

/// A pool of huge pages.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct HugePages {
    /// The size of one.
    pub page_bytes: u64,
    /// How many are reserved, in use or not.
    pub pages: u64,
}

/// How memory errors are corrected (SMBIOS type 16).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EccKind {
    /// Not at all.
    None,
    /// Noticed only.
    Parity,
    /// One bit.
    SingleBit,
    /// Several bits.
    MultiBit,
    /// By checksum.
    Crc,
}

/// A memory module (SMBIOS type 17).
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Dimm {
    /// The slot's name on the board; unique only together with `bank`.
    pub locator: Option<String>,
    /// The bank's name on the board.
    pub bank: Option<String>,
    /// Its size. `None` where the firmware does not know.
    pub size_bytes: Option<u64>,
    /// `DDR5`.
    pub memory_type: Option<String>,
    /// `DIMM`.
    pub form_factor: Option<String>,
    /// The fastest it can go, in million transfers a second.
    pub speed_mts: Option<u32>,
    /// How fast it goes.
    pub configured_speed_mts: Option<u32>,
    /// Who made it.
    pub manufacturer: Option<String>,
    /// The number to order it by.
    pub part_number: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// The owner's tag.
    pub asset_tag: Option<String>,
    /// Ranks.
    pub ranks: Option<u8>,
    /// How its array corrects errors.
    pub ecc: Option<EccKind>,
}

impl Memory {
    pub(crate) fn detect(root: &SysRoot, tables: &Tables) -> Self {
        let meminfo = root.text("proc/meminfo").unwrap_or_default();
        let filled = |device: &MemoryDevice<'_>| device.size_bytes() != Some(0);
        let dimms: Vec<Dimm> =
            tables.memory_devices().filter(filled).map(|device| Dimm::from_record(&device, tables)).collect();
        let slots = u32::try_from(tables.memory_devices().count()).ok().filter(|slots| *slots != 0);
        let sum = |dimms: &[Dimm]| dimms.iter().try_fold(0u64, |sum, dimm| sum.checked_add(dimm.size_bytes?));
        let main_memory = tables.memory_arrays().find(|array| array.is_system_memory());
        Self {
            total_bytes: meminfo_bytes(&meminfo, "MemTotal"),
            installed_bytes: sum(&dimms).filter(|bytes| *bytes != 0),
            swap_bytes: meminfo_bytes(&meminfo, "SwapTotal"),
            corrupted_bytes: meminfo_bytes(&meminfo, "HardwareCorrupted"),
            huge_pages: huge_pages(root, "sys/kernel/mm/hugepages"),
            ecc: main_memory.and_then(|array| EccKind::from_code(array.error_correction()?)),
            slots,
            dimms,
            errors: MemoryErrors::detect(root),
        }
    }
}

impl NumaNode {
    /// The nodes online. A kernel without NUMA has none.
    pub(crate) fn detect(root: &SysRoot) -> Vec<Self> {
        let online = root.parse::<IdList>("sys/devices/system/node/online").unwrap_or_default();
        let ids: Vec<u32> = online.iter().take(NODES_LIMIT).collect();
        ids.iter().map(|id| Self::read(root, *id, &ids)).collect()
    }

    fn read(root: &SysRoot, id: u32, nodes: &[u32]) -> Self {
        let file = |name: &str| format!("sys/devices/system/node/node{id}/{name}");
        let meminfo = root.text(&file("meminfo")).unwrap_or_default();
        Self {
            id,
            cpus: root.parse(&file("cpulist")).unwrap_or_default(),
            total_bytes: meminfo_bytes(&meminfo, "MemTotal"),
            distances: distances(&root.text(&file("distance")).unwrap_or_default(), nodes),
            huge_pages: huge_pages(root, &file("hugepages")),
        }
    }
}

/// The kernel's own limit on nodes.
const NODES_LIMIT: usize = 1024;

impl EccKind {
    /// DSP0134 section 7.17.3.
    fn from_code(code: u8) -> Option<Self> {
        match code {
            3 => Some(Self::None),
            4 => Some(Self::Parity),
            5 => Some(Self::SingleBit),
            6 => Some(Self::MultiBit),
            7 => Some(Self::Crc),
            _ => None,
        }
    }
}

impl Dimm {
    fn from_record(device: &MemoryDevice<'_>, tables: &Tables) -> Self {
        let array =
            device.array_handle().and_then(|handle| tables.memory_arrays().find(|array| array.handle() == handle));
        Self {
            locator: device.locator(),
            bank: device.bank_locator(),
            size_bytes: device.size_bytes(),
            memory_type: device.memory_type().map(str::to_owned),
            form_factor: device.form_factor().map(str::to_owned),
            speed_mts: device.speed_mts(),
            configured_speed_mts: device.configured_speed_mts(),
            manufacturer: device.manufacturer(),
            part_number: device.part_number(),
            serial: device.serial(),
            asset_tag: device.asset_tag(),
            ranks: device.ranks(),
            ecc: array.and_then(|array| EccKind::from_code(array.error_correction()?)),
        }
    }
}

/// `MemTotal:  2015432 kB`, and in a node's file `Node 0 MemTotal:  984716 kB`. The kernel's kB are KiB.
fn meminfo_bytes(text: &str, key: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.split_whitespace().last() == Some(key)).then_some(value)
    })?;
    value.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// `10 21`: one number for each node online, in order.
fn distances(text: &str, nodes: &[u32]) -> Vec<NumaDistance> {
    let numbers = text.split_whitespace().map(str::parse);
    nodes
        .iter()
        .zip(numbers)
        .filter_map(|(node, distance)| Some(NumaDistance { node: *node, distance: distance.ok()? }))
        .collect()
}

/// From directories named `hugepages-2048kB`, by size.
fn huge_pages(root: &SysRoot, directory: &str) -> Vec<HugePages> {
    let pool = |name: String| {
        let kib: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
        let pages = root.parse(&format!("{directory}/{name}/nr_hugepages"))?;
        Some(HugePages { page_bytes: kib.checked_mul(1024)?, pages })
    };
    root.list(directory).into_iter().filter_map(pool).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn meminfo_is_read_in_both_its_forms() {
        assert_eq!(meminfo_bytes("MemTotal:  2 kB\nMemFree: 1 kB", "MemTotal"), Some(2048));
        assert_eq!(meminfo_bytes("Node 0 MemTotal:  3 kB\n", "MemTotal"), Some(3072));
        for text in ["", "MemTotal", "MemTotal:", "MemTotal: x kB", "MemTotal: 99999999999999999999 kB"] {
            assert_eq!(meminfo_bytes(text, "MemTotal"), None, "{text}");
        }
    }

    #[test]
    fn distances_belong_to_the_nodes_online() {
        let expected = [NumaDistance { node: 0, distance: 10 }, NumaDistance { node: 2, distance: 21 }];
        assert_eq!(distances("10 21", &[0, 2]), expected);
        assert_eq!(distances("10", &[0, 2]), expected[..1]);
        assert_eq!(distances("x", &[0]), []);
    }

    proptest! {
        #[test]
        fn any_meminfo_is_read(text in "(?s).{0,100}", tail in "MemTotal:.{0,30}") {
            let _ = meminfo_bytes(&format!("{text}\n{tail}"), "MemTotal");
        }
    }
}
