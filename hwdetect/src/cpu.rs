//! Processors: how many, of what kind, and which are neighbours.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::cache::Cache;
use crate::cpuinfo::CpuInfo;
use crate::id_list::IdList;
use crate::isa_level::IsaLevel;

/// All processors of the machine. Counts are of CPUs online.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Cpu {
    /// `x86_64`.
    pub architecture: Option<String>,
    /// The best level compiled code may assume. `None` off x86-64.
    pub isa_level: Option<IsaLevel>,
    /// `GenuineIntel`.
    pub vendor: Option<String>,
    /// `Intel(R) Xeon(R) Gold 6338 CPU @ 2.00GHz`.
    pub model_name: Option<String>,
    /// Family, with `model` and `stepping` the maker's numbering.
    pub family: Option<u32>,
    /// See `family`.
    pub model: Option<u32>,
    /// See `family`.
    pub stepping: Option<u32>,
    /// The running microcode: `0x2b000603`.
    pub microcode: Option<String>,
    /// Packages with a CPU online.
    pub sockets: u32,
    /// Dies with a CPU online, of all packages.
    pub dies: u32,
    /// Cores with a CPU online.
    pub cores: u32,
    /// CPUs online: what the scheduler can use.
    pub threads: u32,
    /// More than one thread of a core is in use.
    pub smt_active: Option<bool>,
    /// CPUs online.
    pub online: IdList,
    /// CPUs there, online or not.
    pub present: IdList,
    /// CPUs there could be, hot-plugged ones included.
    pub possible: IdList,
    /// CPUs kept from the scheduler by `isolcpus=`.
    pub isolated: IdList,
    /// The clock it is sold with.
    pub base_mhz: Option<u32>,
    /// The highest clock it may reach.
    pub max_mhz: Option<u32>,
    /// Bits of a physical address.
    pub physical_address_bits: Option<u32>,
    /// Bits of a virtual address.
    pub virtual_address_bits: Option<u32>,
    /// What it can do, in the kernel's names.
    pub flags: BTreeSet<String>,
    /// Caches by level and kind.
    pub caches: Vec<Cache>,
    /// The kernel's word on each known flaw: `meltdown` is `Not affected`.
    pub vulnerabilities: BTreeMap<String, String>,
    /// Every CPU present, in order.
    pub logical: Vec<LogicalCpu>,
}

/// One CPU as the scheduler sees it. Where it stands is known only while it is online.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LogicalCpu {
    /// The number in `/sys/devices/system/cpu/cpuN`.
    pub id: u32,
    /// It runs tasks.
    pub online: bool,
    /// Its package.
    pub socket: Option<u32>,
    /// Its die, numbered within the package.
    pub die: Option<u32>,
    /// Its core, numbered within the die or the package.
    pub core: Option<u32>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// The CPUs of its core, itself included.
    pub thread_siblings: IdList,
}

/// The most CPUs looked at: the kernel's own limit, so that a made-up list cannot keep us busy.
pub(crate) const CPUS_LIMIT: usize = 8192;

const DIRECTORY: &str = "sys/devices/system/cpu";

impl Cpu {
    /// `numa_node_of` tells the node of a CPU.
    pub(crate) fn detect(root: &SysRoot, info: CpuInfo, numa_node_of: impl Fn(u32) -> Option<u32>) -> Self {
        let list = |name: &str| root.parse::<IdList>(&format!("{DIRECTORY}/{name}"));
        let online = list("online").unwrap_or_default();
        let present = list("present").unwrap_or_else(|| online.clone());
        let logical: Vec<LogicalCpu> = present
            .iter()
            .take(CPUS_LIMIT)
            .map(|id| {
                if online.contains(id) {
                    LogicalCpu::read(root, id)
                } else {
                    LogicalCpu { id, ..LogicalCpu::default() }
                }
            })
            .map(|cpu| LogicalCpu { numa_node: numa_node_of(cpu.id), ..cpu })
            .collect();
        let mut cpu = Self {
            isa_level: IsaLevel::of_flags(&info.flags),
            base_mhz: base_mhz(root, &info),
            max_mhz: root.parse(&format!("{DIRECTORY}/cpu0/cpufreq/cpuinfo_max_freq")).and_then(khz_to_mhz),
            architecture: info.architecture.map(str::to_owned),
            vendor: info.vendor,
            model_name: info.model_name,
            family: info.family,
            model: info.model,
            stepping: info.stepping,
            microcode: root.text(&format!("{DIRECTORY}/cpu0/microcode/version")).or(info.microcode),
            smt_active: root.flag(&format!("{DIRECTORY}/smt/active")),
            possible: list("possible").unwrap_or_else(|| present.clone()),
            isolated: list("isolated").unwrap_or_default(),
            physical_address_bits: info.physical_address_bits,
            virtual_address_bits: info.virtual_address_bits,
            flags: info.flags,
            caches: Cache::detect(root, &online),
            vulnerabilities: vulnerabilities(root),
            online,
            present,
            ..Self::default()
        };
        cpu.count(&logical);
        cpu.logical = logical;
        cpu
    }

    fn count(&mut self, logical: &[LogicalCpu]) {
        let online = || logical.iter().filter(|cpu| cpu.online);
        let distinct = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        self.threads = distinct(online().count());
        self.sockets = distinct(online().map(|cpu| cpu.socket).collect::<BTreeSet<_>>().len());
        self.dies = distinct(online().map(|cpu| (cpu.socket, cpu.die)).collect::<BTreeSet<_>>().len());
        // The lowest sibling names the core. Core numbers alone would not do: they begin anew in every package.
        let core = |cpu: &LogicalCpu| cpu.thread_siblings.iter().next().unwrap_or(cpu.id);
        self.cores = distinct(online().map(core).collect::<BTreeSet<_>>().len());
    }
}

impl LogicalCpu {
    fn read(root: &SysRoot, id: u32) -> Self {
        let file = |name: &str| format!("{DIRECTORY}/cpu{id}/topology/{name}");
        Self {
            id,
            online: true,
            // -1 where the firmware does not say.
            socket: root.id(&file("physical_package_id")),
            die: root.id(&file("die_id")),
            core: root.id(&file("core_id")),
            numa_node: None,
            thread_siblings: root.parse(&file("thread_siblings_list")).unwrap_or_else(|| [id].into_iter().collect()),
        }
    }
}

/// Nominal clock: what ACPI says in MHz, what Intel's driver says in kHz, what the model's name says.
fn base_mhz(root: &SysRoot, info: &CpuInfo) -> Option<u32> {
    root.parse(&format!("{DIRECTORY}/cpu0/acpi_cppc/nominal_freq"))
        .filter(|mhz| *mhz != 0)
        .or_else(|| root.parse(&format!("{DIRECTORY}/cpu0/cpufreq/base_frequency")).and_then(khz_to_mhz))
        .or_else(|| info.clock_in_name_mhz())
}

fn khz_to_mhz(khz: u32) -> Option<u32> {
    (khz >= 1000).then_some(khz / 1000)
}

fn vulnerabilities(root: &SysRoot) -> BTreeMap<String, String> {
    let directory = format!("{DIRECTORY}/vulnerabilities");
    let entry =
        |name: String| Some((root.text(&format!("{directory}/{name}"))?, name)).map(|(text, name)| (name, text));
    root.list(&directory).into_iter().filter_map(entry).collect()
}
