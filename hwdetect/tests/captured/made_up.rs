//! Hardware no virtual machine here can imitate, written down as the kernel shows it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use hwdetect::{AcceleratorKind, Inventory, NicKind, PciLink, SysRoot, Transport, Virtualisation, detect};
use tempfile::TempDir;

struct Tree(TempDir);

impl Tree {
    fn new() -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        fs::create_dir(tree.0.path().join("sys")).unwrap();
        tree
    }

    fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{text}\n")).unwrap();
        self
    }

    fn files(&self, directory: &str, files: &[(&str, &str)]) -> &Self {
        for (name, text) in files {
            self.file(&format!("{directory}/{name}"), text);
        }
        self
    }

    fn link(&self, path: &str, target: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(Path::new(target), path).unwrap();
        self
    }

    fn detect(&self) -> Inventory {
        detect(&SysRoot::new(self.0.path()).unwrap())
    }
}

/// A whole-disk device at `devices` below `/sys/devices`.
fn disk(tree: &Tree, name: &str, devices: &str, sectors: &str) {
    tree.link(&format!("sys/block/{name}"), &format!("../devices/{devices}/{name}"));
    tree.files(
        &format!("sys/devices/{devices}/{name}"),
        &[
            ("size", sectors),
            ("removable", "0"),
            ("ro", "0"),
            ("hidden", "0"),
            ("queue/rotational", "0"),
            ("queue/logical_block_size", "512"),
            ("queue/physical_block_size", "4096"),
        ],
    );
}

#[test]
fn a_multipath_nvme_disk_is_one_disk_at_its_first_controller() {
    let tree = Tree::new();
    disk(&tree, "nvme0n1", "virtual/nvme-subsystem/nvme-subsys0", "2048");
    let subsystem = "sys/devices/virtual/nvme-subsystem/nvme-subsys0";
    let function = "pci0000:40/0000:40:01.1/0000:41:00.0";
    tree.files(subsystem, &[("model", "Acme D7"), ("serial", "S1"), ("firmware_rev", "1.0")])
        .file(&format!("{subsystem}/nvme0n1/wwid"), "eui.0011223344556677")
        .link(&format!("{subsystem}/nvme0n1/device"), "../../nvme-subsys0")
        .link(&format!("{subsystem}/nvme0"), &format!("../../../{function}/nvme/nvme0"))
        .files(&format!("sys/devices/{function}"), &[("vendor", "0x8086"), ("numa_node", "1")])
        .link(&format!("sys/devices/{function}/driver"), "../../../../bus/pci/drivers/nvme")
        .file(&format!("sys/devices/{function}/nvme/nvme0/transport"), "pcie");
    // The path below it, which the kernel hides.
    disk(&tree, "nvme0c0n1", &format!("{function}/nvme/nvme0"), "2048");
    tree.file(&format!("sys/devices/{function}/nvme/nvme0/nvme0c0n1/hidden"), "1");

    let inventory = tree.detect();
    let [disk] = inventory.disks.as_slice() else { panic!("{:?}", inventory.disks) };
    assert_eq!(
        (disk.name.as_str(), disk.transport, disk.size_bytes),
        ("nvme0n1", Some(Transport::Nvme), Some(1 << 20))
    );
    assert_eq!((disk.pci_address.as_deref(), disk.numa_node), (Some("0000:41:00.0"), Some(1)));
    assert_eq!((disk.model.as_deref(), disk.serial.as_deref()), (Some("Acme D7"), Some("S1")));
    assert_eq!((disk.wwid.as_deref(), disk.driver.as_deref()), (Some("eui.0011223344556677"), Some("nvme")));
    assert_eq!(disk.vendor.as_deref(), Some("Intel Corporation"));
}

#[test]
fn sas_sata_behind_sas_iscsi_fibre_channel_emmc_and_pmem_are_told_apart() {
    let tree = Tree::new();
    let host = "pci0000:00/0000:00:01.0/0000:02:00.0/host0";
    for (name, devices, vendor) in [
        ("sda", format!("{host}/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block"), "SEAGATE"),
        ("sdb", format!("{host}/port-0:1/end_device-0:1/target0:0:1/0:0:1:0/block"), "ATA"),
        ("sdc", "platform/host3/session1/target3:0:0/3:0:0:0/block".to_owned(), "LIO-ORG"),
        ("sdd", format!("{host}/rport-4:0-1/target4:0:1/4:0:1:0/block"), "NETAPP"),
        ("mmcblk0", "platform/80860F14:00/mmc_host/mmc0/mmc0:0001/block".to_owned(), ""),
        ("pmem0", "LNXSYSTM:00/ACPI0012:00/ndbus0/region0/namespace0.0/block".to_owned(), ""),
    ] {
        disk(&tree, name, &devices, "4096");
        let parent = devices.strip_suffix("/block").unwrap();
        tree.link(
            &format!("sys/devices/{devices}/{name}/device"),
            &format!("../../../{}", parent.rsplit('/').next().unwrap()),
        );
        if !vendor.is_empty() {
            tree.file(&format!("sys/devices/{parent}/vendor"), vendor);
        }
    }
    tree.files(
        "sys/devices/platform/80860F14:00/mmc_host/mmc0/mmc0:0001",
        &[("name", "DF4064"), ("serial", "0x1a2b3c4d"), ("cid", "4501004446343036")],
    );
    disk(&tree, "mmcblk0boot0", "platform/80860F14:00/mmc_host/mmc0/mmc0:0001/block/mmcblk0", "8");

    let inventory = tree.detect();
    let found: Vec<_> = inventory.disks.iter().map(|disk| (disk.name.as_str(), disk.transport.unwrap())).collect();
    assert_eq!(
        found,
        [
            ("mmcblk0", Transport::Mmc),
            ("pmem0", Transport::Nvdimm),
            ("sda", Transport::Sas),
            ("sdb", Transport::Sata),
            ("sdc", Transport::Iscsi),
            ("sdd", Transport::FibreChannel),
        ]
    );
    let card = &inventory.disks[0];
    assert_eq!((card.model.as_deref(), card.serial.as_deref()), (Some("DF4064"), Some("0x1a2b3c4d")));
    assert_eq!(card.wwid.as_deref(), Some("4501004446343036"));
    assert_eq!(inventory.disks[2].vendor.as_deref(), Some("SEAGATE"));
}

#[test]
fn a_gpu_tells_its_slot_and_a_console_is_no_gpu() {
    let tree = Tree::new();
    tree.files(
        "sys/bus/pci/devices/0000:41:00.0",
        &[
            ("class", "0x038000"),
            ("vendor", "0x1002"),
            ("device", "0x740c"),
            ("numa_node", "1"),
            ("mem_info_vram_total", "68702699520"),
            ("unique_id", "8f4b1c2d3e4f5a6b"),
            ("current_link_speed", "8.0 GT/s PCIe"),
            ("max_link_speed", "16.0 GT/s PCIe"),
            ("current_link_width", "8"),
            ("max_link_width", "16"),
            ("drm/card1/dev", "226:1"),
            ("drm/renderD128/dev", "226:128"),
            ("drm/version", "drm 1.1.0"),
        ],
    );
    tree.link("sys/bus/pci/devices/0000:41:00.0/driver", "../../../bus/pci/drivers/amdgpu");
    tree.link("sys/bus/pci/devices/0000:41:00.0/iommu_group", "../../../kernel/iommu_groups/37");
    tree.files(
        "sys/bus/pci/devices/0000:03:00.0",
        &[("class", "0x030000"), ("vendor", "0x1a03"), ("device", "0x2000")],
    );
    tree.files(
        "sys/bus/pci/devices/0000:61:00.0",
        &[("class", "0x120000"), ("vendor", "0x1da3"), ("device", "0x1020")],
    );
    tree.files(
        "sys/bus/pci/devices/0000:71:00.0",
        &[("class", "0x030200"), ("vendor", "0x10de"), ("device", "0x2330")],
    );
    tree.file(
        "proc/driver/nvidia/gpus/0000:71:00.0/information",
        "Model: \t\t NVIDIA H100 80GB HBM3\nGPU UUID: \t GPU-0a1b2c3d",
    );

    let inventory = tree.detect();
    let kinds: Vec<_> = inventory.accelerators.iter().map(|found| (found.pci_address.as_str(), found.kind)).collect();
    assert_eq!(
        kinds,
        [
            ("0000:03:00.0", AcceleratorKind::Console),
            ("0000:41:00.0", AcceleratorKind::Gpu),
            ("0000:61:00.0", AcceleratorKind::Accelerator),
            ("0000:71:00.0", AcceleratorKind::Gpu),
        ]
    );
    let amd = &inventory.accelerators[1];
    assert_eq!(
        (amd.driver.as_deref(), amd.numa_node, amd.memory_bytes),
        (Some("amdgpu"), Some(1), Some(68_702_699_520))
    );
    assert_eq!(
        (amd.uuid.as_deref(), amd.drm_nodes.join(" ")),
        (Some("8f4b1c2d3e4f5a6b"), "card1 renderD128".to_owned())
    );
    let link =
        PciLink { speed_mts: Some(8000), max_speed_mts: Some(16_000), width_lanes: Some(8), max_width_lanes: Some(16) };
    assert_eq!(amd.link, Some(link));
    assert_eq!(inventory.pci[1].iommu_group, Some(37));
    let nvidia = &inventory.accelerators[3];
    assert_eq!(
        (nvidia.model.as_deref(), nvidia.uuid.as_deref()),
        (Some("NVIDIA H100 80GB HBM3"), Some("GPU-0a1b2c3d"))
    );
}

#[test]
fn a_card_split_in_two_shows_its_slices() {
    let tree = Tree::new();
    let card = "pci0000:40/0000:41:00.0";
    for (name, device) in [("ens1f0", card), ("ens1f0v0", "pci0000:40/0000:41:02.0")] {
        tree.link(&format!("sys/class/net/{name}"), &format!("../../devices/{device}/net/{name}"));
        tree.link(
            &format!("sys/devices/{device}/net/{name}/device"),
            &format!("../../../{}", device.rsplit('/').next().unwrap()),
        );
        tree.files(
            &format!("sys/devices/{device}/net/{name}"),
            &[
                ("ifindex", "2"),
                ("type", "1"),
                ("address", "3c:ec:ef:00:00:01"),
                ("addr_assign_type", "0"),
                ("speed", "25000"),
                ("dev_port", "1"),
                ("mtu", "9000"),
            ],
        );
    }
    tree.files(&format!("sys/devices/{card}"), &[("sriov_totalvfs", "128"), ("sriov_numvfs", "1"), ("numa_node", "0")]);
    tree.link("sys/devices/pci0000:40/0000:41:02.0/physfn", "../0000:41:00.0");
    // The bonding driver's own file, which is no interface.
    tree.file("sys/class/net/bonding_masters", "bond0");

    let inventory = tree.detect();
    let kinds: Vec<_> = inventory.nics.iter().map(|nic| (nic.name.as_str(), nic.kind)).collect();
    assert_eq!(kinds, [("ens1f0", NicKind::Physical), ("ens1f0v0", NicKind::VirtualFunction)]);
    let whole = &inventory.nics[0];
    assert_eq!((whole.sriov_total_vfs, whole.sriov_vfs, whole.numa_node), (Some(128), Some(1), Some(0)));
    assert_eq!((whole.speed_mbps, whole.mtu_bytes, whole.dev_port), (Some(25_000), Some(9000), Some(1)));
    assert_eq!(inventory.nics[1].pci_address.as_deref(), Some("0000:41:02.0"));
}

#[test]
fn huge_pages_clocks_offline_cpus_and_flaws_are_told() {
    let tree = Tree::new();
    tree.files(
        "sys/devices/system/cpu",
        &[
            ("online", "0-1,3"),
            ("present", "0-3"),
            ("possible", "0-7"),
            ("isolated", "3"),
            ("cpu0/cpufreq/base_frequency", "2600000"),
            ("cpu0/cpufreq/cpuinfo_max_freq", "4100000"),
            ("cpu0/microcode/version", "0x2b000603"),
            ("vulnerabilities/meltdown", "Not affected"),
        ],
    );
    tree.files("sys/kernel/mm/hugepages", &[("hugepages-1048576kB/nr_hugepages", "64")]);
    tree.file("proc/cpuinfo", "processor\t: 0\nmicrocode\t: 0x1\nflags\t\t: fpu lm\n\nprocessor\t: 1");
    tree.files(
        "sys/class/dmi/id",
        &[
            ("sys_vendor", "To Be Filled By O.E.M."),
            ("product_name", "Default string"),
            ("product_serial", "0123456789"),
            ("product_uuid", "00000000-0000-0000-0000-000000000000"),
            ("board_name", "X12DPi-N6"),
            ("chassis_type", "23"),
        ],
    );

    let inventory = tree.detect();
    let cpu = &inventory.cpu;
    assert_eq!((cpu.threads, cpu.cores, cpu.logical.len()), (3, 3, 4));
    assert_eq!((cpu.logical[2].online, cpu.isolated.to_string().as_str()), (false, "3"));
    assert_eq!((cpu.base_mhz, cpu.max_mhz, cpu.microcode.as_deref()), (Some(2600), Some(4100), Some("0x2b000603")));
    assert_eq!(cpu.vulnerabilities["meltdown"], "Not affected");
    let pool = inventory.memory.huge_pages[0];
    assert_eq!((pool.page_bytes, pool.pages), (1 << 30, 64));
    assert_eq!(inventory.virtualisation, Virtualisation::None);
    let platform = &inventory.platform;
    let (system, chassis) = (&platform.system, &platform.chassis);
    assert_eq!((&system.vendor, &system.product, &system.serial, &system.uuid), (&None, &None, &None, &None));
    assert_eq!(
        (platform.board.product.as_deref(), chassis.type_name.as_deref()),
        (Some("X12DPi-N6"), Some("rack-mount"))
    );
}

#[test]
fn memory_that_fails_is_counted_and_its_modules_are_named() {
    let tree = Tree::new();
    assert_eq!(tree.detect().memory.errors, None, "no controller counts");
    let controllers = "sys/devices/system/edac/mc";
    tree.files(&format!("{controllers}/mc0"), &[("ce_count", "4711"), ("ue_count", "0"), ("mc_name", "skx")])
        .files(&format!("{controllers}/mc0/dimm0"), &[("dimm_label", "CPU0_A1"), ("dimm_ce_count", "4711")])
        .files(&format!("{controllers}/mc0/dimm1"), &[("dimm_label", "CPU0_B1"), ("dimm_ce_count", "0")])
        .files(&format!("{controllers}/mc1"), &[("ce_count", "0"), ("ue_count", "2")])
        .files(&format!("{controllers}/mc1/rank3"), &[("dimm_ue_count", "2")])
        .files(&format!("{controllers}/power"), &[("control", "auto")]);
    let errors = tree.detect().memory.errors.unwrap();
    assert_eq!((errors.corrected, errors.uncorrected), (4711, 2));
    assert_eq!(errors.modules, ["CPU0_A1", "mc1/rank3"]);
}
