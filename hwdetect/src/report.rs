//! An inventory for people: sections, aligned columns, sizes one can say aloud.

mod size;
mod table;

use crate::accelerator::AcceleratorKind;
use crate::disk::Disk;
use crate::inventory::Inventory;
use crate::memory::{Dimm, EccKind, HugePages};
use crate::nic::{Duplex, Nic};
use crate::pci::{PciFunction, PciLink};
use crate::transport::Transport;
use crate::virtualisation::Virtualisation;
use table::{Facts, Table, or_dash};

pub use size::human_bytes;
use size::human_disk_bytes;

/// Whether headings stand out by colour. Only a terminal should get it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Style {
    /// Text only.
    Plain,
    /// With ANSI escapes.
    Colour,
}

/// The inventory as text. Sections without content are left out.
#[must_use]
pub fn render(inventory: &Inventory, style: Style) -> String {
    let sections = [
        machine(inventory),
        processors(inventory),
        memory(inventory),
        numa(inventory),
        disks("Disks", &inventory.disks),
        partitions(inventory),
        disks("Optical drives", &inventory.optical_drives),
        nics(inventory),
        accelerators(inventory),
        pci(inventory),
    ];
    let shown = sections.into_iter().filter(|section| !section.body.is_empty());
    shown.map(|section| section.show(style)).collect::<Vec<_>>().join("\n")
}

struct Section {
    title: &'static str,
    body: String,
}

impl Section {
    fn show(self, style: Style) -> String {
        // Anybody may name a partition or a USB stick: what they wrote must not reach the terminal as a command.
        let body: String = self.body.chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect();
        match style {
            Style::Plain => format!("{}\n{body}", self.title),
            Style::Colour => format!("\u{1b}[1;36m{}\u{1b}[0m\n{body}", self.title),
        }
    }
}

fn machine(inventory: &Inventory) -> Section {
    let platform = &inventory.platform;
    let (system, board, chassis, bios) = (&platform.system, &platform.board, &platform.chassis, &platform.bios);
    let mut facts = Facts::default();
    facts.words("Model", [&system.vendor, &system.product, &system.version]);
    facts.optional("Serial", system.serial.as_ref());
    facts.optional("UUID", system.uuid.as_ref());
    facts.optional("SKU", system.sku.as_ref());
    facts.words("Board", [&board.vendor, &board.product, &board.version, &board.serial]);
    facts.words("Chassis", [&chassis.vendor, &chassis.type_name, &chassis.version, &chassis.serial]);
    facts.optional("Asset tag", chassis.asset_tag.as_ref().or(board.asset_tag.as_ref()));
    facts.optional("Location", board.location.as_ref());
    facts.words("Firmware", [&bios.vendor, &bios.version, &bios.date]);
    let secure = match bios.secure_boot {
        Some(true) => ", secure boot on",
        Some(false) => ", secure boot off",
        None => "",
    };
    facts.plain("Boot", format!("{}{secure}", if bios.uefi { "UEFI" } else { "BIOS" }));
    facts.optional("Kernel", inventory.kernel.release.as_ref());
    facts.plain(
        "Virtualisation",
        if inventory.virtualisation == Virtualisation::None {
            "none, this is hardware".to_owned()
        } else {
            inventory.virtualisation.to_string()
        },
    );
    facts.optional(
        "TPM",
        inventory
            .tpm
            .as_ref()
            .map(|tpm| match tpm.version_major {
                Some(1) => "1.2".to_owned(),
                Some(major) => format!("{major}.0"),
                None => "present".to_owned(),
            })
            .as_ref(),
    );
    facts.optional(
        "BMC",
        inventory
            .bmc
            .as_ref()
            .map(|bmc| {
                let version = bmc.ipmi_version.as_ref().map(|version| format!("IPMI {version}"));
                let firmware = bmc.firmware_revision.as_ref().map(|version| format!("firmware {version}"));
                [bmc.device.clone(), version, bmc.interface.clone(), firmware]
                    .into_iter()
                    .flatten()
                    .collect::<Vec<_>>()
                    .join(", ")
            })
            .as_ref(),
    );
    let watchdogs: Vec<&str> = inventory.watchdogs.iter().filter_map(|watchdog| watchdog.identity.as_deref()).collect();
    facts.plain("Watchdogs", watchdogs.join(", "));
    facts.plain("OEM strings", platform.oem_strings.join(", "));
    Section { title: "Machine", body: facts.show() }
}

fn processors(inventory: &Inventory) -> Section {
    let cpu = &inventory.cpu;
    let mut facts = Facts::default();
    facts.optional("Model", cpu.model_name.as_ref().or(cpu.vendor.as_ref()));
    if cpu.threads > 0 {
        let count = |number: u32, noun: &str| format!("{number} {noun}{}", if number == 1 { "" } else { "s" });
        let parts = [
            count(cpu.sockets, "socket"),
            count(cpu.dies, "die"),
            count(cpu.cores, "core"),
            count(cpu.threads, "thread"),
        ];
        facts.plain("Topology", parts.join(", "));
        let absent = cpu.present.count().saturating_sub(cpu.online.count());
        let offline = if absent == 0 { String::new() } else { format!(" ({absent} offline)") };
        facts.plain("CPUs", format!("{}{offline}", cpu.online));
    }
    facts.plain("Isolated", cpu.isolated.to_string());
    facts.optional("Level", cpu.isa_level.map(|level| level.to_string()).or(cpu.architecture.clone()).as_ref());
    facts.optional("Microcode", cpu.microcode.as_ref());
    let clock = |mhz: Option<u32>, what: &str| mhz.map(|mhz| format!("{mhz} MHz {what}"));
    facts.plain(
        "Clock",
        [clock(cpu.base_mhz, "base"), clock(cpu.max_mhz, "max")].into_iter().flatten().collect::<Vec<_>>().join(", "),
    );
    let caches: Vec<String> = cpu
        .caches
        .iter()
        .map(|cache| {
            let kind = match cache.kind {
                crate::CacheKind::Data => "d",
                crate::CacheKind::Instruction => "i",
                crate::CacheKind::Unified => "",
            };
            let size = cache.size_bytes.map_or_else(|| "?".to_owned(), human_bytes);
            format!("L{}{kind} {} x {size}", cache.level, cache.shared_by.len())
        })
        .collect();
    facts.plain("Caches", caches.join(", "));
    let open: Vec<&str> = cpu
        .vulnerabilities
        .iter()
        .filter(|(_, state)| state.starts_with("Vulnerable"))
        .map(|(name, _)| name.as_str())
        .collect();
    facts.plain("Vulnerable to", open.join(", "));
    Section { title: "Processors", body: facts.show() }
}

fn memory(inventory: &Inventory) -> Section {
    let memory = &inventory.memory;
    let mut facts = Facts::default();
    facts.optional("Usable", memory.total_bytes.map(human_bytes).as_ref());
    facts.optional(
        "Installed",
        memory
            .installed_bytes
            .map(|bytes| {
                let slots = memory.slots.map_or_else(String::new, |slots| format!(" of {slots} slots"));
                format!("{} in {}{slots}", human_bytes(bytes), memory.dimms.len())
            })
            .as_ref(),
    );
    facts.optional(
        "ECC",
        memory
            .ecc
            .map(|ecc| {
                match ecc {
                    EccKind::None => "none",
                    EccKind::Parity => "parity",
                    EccKind::SingleBit => "single-bit",
                    EccKind::MultiBit => "multi-bit",
                    EccKind::Crc => "CRC",
                }
                .to_owned()
            })
            .as_ref(),
    );
    facts.plain("Huge pages", huge_pages(&memory.huge_pages));
    facts.optional("Broken", memory.corrupted_bytes.filter(|bytes| *bytes != 0).map(human_bytes).as_ref());
    let mut body = facts.show();
    let mut table = Table::new(["SLOT", "BANK", "SIZE", "TYPE", "SPEED", "MAKER", "PART", "SERIAL"]).right(2).right(4);
    for dimm in &memory.dimms {
        table.row([
            or_dash(dimm.locator.as_deref()),
            or_dash(dimm.bank.as_deref()),
            or_dash(dimm.size_bytes.map(human_bytes)),
            or_dash(dimm.memory_type.as_deref()),
            or_dash(speed(dimm)),
            or_dash(dimm.manufacturer.as_deref()),
            or_dash(dimm.part_number.as_deref()),
            or_dash(dimm.serial.as_deref()),
        ]);
    }
    body.push_str(&table.show());
    Section { title: "Memory", body }
}

fn speed(dimm: &Dimm) -> Option<String> {
    dimm.configured_speed_mts.or(dimm.speed_mts).map(|speed| format!("{speed} MT/s"))
}

fn huge_pages(pools: &[HugePages]) -> String {
    let used = pools.iter().filter(|pool| pool.pages != 0);
    used.map(|pool| format!("{} x {}", pool.pages, human_bytes(pool.page_bytes))).collect::<Vec<_>>().join(", ")
}

fn numa(inventory: &Inventory) -> Section {
    let mut table = Table::new(["NODE", "CPUS", "MEMORY", "DISTANCES", "HUGE PAGES"]).right(0).right(2);
    for node in &inventory.numa_nodes {
        let distances: Vec<String> = node.distances.iter().map(|to| format!("{}:{}", to.node, to.distance)).collect();
        table.row([
            node.id.to_string(),
            or_dash(Some(node.cpus.to_string()).filter(|cpus| !cpus.is_empty())),
            or_dash(node.total_bytes.map(human_bytes)),
            distances.join(" "),
            or_dash(Some(huge_pages(&node.huge_pages)).filter(|pools| !pools.is_empty())),
        ]);
    }
    Section { title: "NUMA nodes", body: table.show() }
}

fn disks(title: &'static str, disks: &[Disk]) -> Section {
    let heads = ["NAME", "SIZE", "KIND", "BUS", "MODEL", "SERIAL", "SECTORS", "NODE", "PCI", "WWID"];
    let mut table = Table::new(heads).right(1).right(7);
    for disk in disks {
        let kind = match (disk.removable, disk.transport, disk.rotational) {
            (Some(true), _, _) => Some("removable"),
            // The kernel takes every one of these for rotating.
            (_, Some(Transport::Virtio | Transport::Xen), _) => Some("virtual"),
            (_, _, Some(true)) => Some("rotating"),
            (_, _, Some(false)) => Some("solid"),
            (_, _, None) => None,
        };
        let sectors = disk.logical_sector_bytes.zip(disk.physical_sector_bytes);
        table.row([
            disk.name.clone(),
            or_dash(disk.size_bytes.map(human_disk_bytes)),
            or_dash(kind),
            or_dash(disk.transport),
            or_dash(disk.model.as_deref()),
            or_dash(disk.serial.as_deref()),
            or_dash(sectors.map(|(logical, physical)| format!("{logical}/{physical}"))),
            or_dash(disk.numa_node),
            or_dash(disk.pci_address.as_deref()),
            or_dash(disk.wwid.as_deref().map(|wwid| wwid.split_whitespace().collect::<Vec<_>>().join(" "))),
        ]);
    }
    Section { title, body: table.show() }
}

fn partitions(inventory: &Inventory) -> Section {
    let mut table = Table::new(["NAME", "SIZE", "LABEL"]).right(1);
    for partition in inventory.disks.iter().flat_map(|disk| &disk.partitions) {
        table.row([
            partition.name.clone(),
            or_dash(partition.size_bytes.map(human_bytes)),
            or_dash(partition.label.as_deref()),
        ]);
    }
    Section { title: "Partitions", body: table.show() }
}

fn nics(inventory: &Inventory) -> Section {
    let heads = ["NAME", "KIND", "STATE", "SPEED", "MAC", "DRIVER", "MTU", "NODE", "PCI", "PART OF"];
    let mut table = Table::new(heads).right(3).right(6).right(7);
    for nic in &inventory.nics {
        table.row([
            nic.name.clone(),
            nic.kind.to_string(),
            or_dash(nic.operstate),
            or_dash(link_speed(nic)),
            or_dash(nic.permanent_mac.as_deref().or(nic.mac.as_deref())),
            or_dash(nic.driver.as_deref()),
            or_dash(nic.mtu_bytes),
            or_dash(nic.numa_node),
            or_dash(nic.pci_address.as_deref()),
            or_dash(nic.master.as_deref()),
        ]);
    }
    Section { title: "Network interfaces", body: table.show() }
}

fn link_speed(nic: &Nic) -> Option<String> {
    let half = if nic.duplex == Some(Duplex::Half) { " half" } else { "" };
    nic.speed_mbps.map(|mbps| match mbps {
        mbps if mbps >= 1000 && mbps % 1000 == 0 => format!("{} Gb/s{half}", mbps / 1000),
        mbps => format!("{mbps} Mb/s{half}"),
    })
}

fn accelerators(inventory: &Inventory) -> Section {
    let mut table = Table::new(["PCI", "KIND", "DEVICE", "DRIVER", "MEMORY", "LINK", "NODE"]).right(4).right(6);
    for accelerator in &inventory.accelerators {
        let kind = match accelerator.kind {
            AcceleratorKind::Gpu => "gpu",
            AcceleratorKind::Accelerator => "accelerator",
            AcceleratorKind::Console => "console",
        };
        let names: Vec<&str> =
            [&accelerator.vendor, &accelerator.model].into_iter().flatten().map(String::as_str).collect();
        table.row([
            accelerator.pci_address.clone(),
            kind.to_owned(),
            or_dash(Some(names.join(" ")).filter(|name| !name.is_empty())),
            or_dash(accelerator.driver.as_deref()),
            or_dash(accelerator.memory_bytes.map(human_bytes)),
            or_dash(accelerator.link.as_ref().map(link)),
            or_dash(accelerator.numa_node),
        ]);
    }
    Section { title: "Graphics and accelerators", body: table.show() }
}

/// `x16 of x16, 16.0 of 32.0 GT/s`.
fn link(link: &PciLink) -> String {
    let speed =
        |mts: Option<u32>| mts.map_or_else(|| "?".to_owned(), |mts| format!("{}.{}", mts / 1000, mts % 1000 / 100));
    let width = |lanes: Option<u32>| lanes.map_or_else(|| "x?".to_owned(), |lanes| format!("x{lanes}"));
    format!(
        "{} of {}, {} of {} GT/s",
        width(link.width_lanes),
        width(link.max_width_lanes),
        speed(link.speed_mts),
        speed(link.max_speed_mts)
    )
}

fn pci(inventory: &Inventory) -> Section {
    let mut table = Table::new(["ADDRESS", "CLASS", "IDS", "DEVICE", "DRIVER", "NODE"]).right(5);
    for function in &inventory.pci {
        let ids =
            function.vendor.zip(function.device).map(|(vendor, device)| format!("{:04x}:{:04x}", vendor.0, device.0));
        table.row([
            function.address.clone(),
            class_name(function),
            or_dash(ids),
            function.description(),
            or_dash(function.driver.as_deref()),
            or_dash(function.numa_node),
        ]);
    }
    Section { title: "PCI functions", body: table.show() }
}

fn class_name(function: &PciFunction) -> String {
    let name = function.subclass_name.as_ref().or(function.class_name.as_ref());
    name.cloned().unwrap_or_else(|| function.class.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Partition;

    #[test]
    fn what_others_named_cannot_command_the_terminal() {
        let partition = Partition { name: "sda1".into(), label: Some("a\u{1b}[2J\nb".into()), ..Partition::default() };
        let disk = Disk { name: "sda".into(), partitions: vec![partition], ..Disk::default() };
        let text = render(&Inventory { disks: vec![disk], ..Inventory::default() }, Style::Plain);
        assert!(!text.contains('\u{1b}'), "{text}");
        assert!(text.contains("a?[2J"), "{text}");
    }

    #[test]
    fn a_machine_of_which_nothing_is_known_is_still_shown() {
        let text = render(&Inventory::default(), Style::Colour);
        assert!(text.starts_with("\u{1b}[1;36mMachine"), "{text}");
        assert!(!text.contains("Disks"), "{text}");
    }
}
