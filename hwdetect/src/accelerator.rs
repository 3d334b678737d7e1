//! GPUs and other processors on PCI, told apart from the chips that only draw a server's console.

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::pci::{PciClass, PciFunction, PciId, PciLink};

/// A display or processing function.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Accelerator {
    /// What it is good for: only `Gpu` and `Accelerator` are worth offering.
    pub kind: AcceleratorKind,
    /// `0000:41:00.0`.
    pub pci_address: String,
    /// The maker's PCI number.
    pub vendor_id: Option<PciId>,
    /// The maker.
    pub vendor: Option<String>,
    /// The chip's PCI number.
    pub device_id: Option<PciId>,
    /// The chip.
    pub model: Option<String>,
    /// The driver bound to it, without which it is useless.
    pub driver: Option<String>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// Its own memory, where the driver tells (amdgpu).
    pub memory_bytes: Option<u64>,
    /// The maker's unique number for it, where the driver tells.
    pub uuid: Option<String>,
    /// Its device nodes below `/dev/dri`: `card0`, `renderD128`.
    pub drm_nodes: Vec<String>,
    /// Its slot.
    pub link: Option<PciLink>,
}

/// What a display or processing function is good for.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AcceleratorKind {
    /// Graphics and general computing.
    Gpu,
    /// Computing only.
    Accelerator,
    /// Draws text: a management controller's VGA, or a hypervisor's.
    #[default]
    Console,
}

/// Makers of chips that are no GPU whatever their class says: management controllers and hypervisors.
const CONSOLE_VENDORS: &[u16] = &[
    0x1013, // Cirrus Logic, QEMU's old default
    0x102b, // Matrox G200, in iDRAC, iLO and many others
    0x1234, // QEMU standard VGA
    0x126f, // Silicon Motion
    0x1414, // Microsoft Hyper-V
    0x15ad, // VMware SVGA
    0x18ca, // XGI Volari
    0x19a2, // ServerEngines Pilot
    0x19e5, // Huawei iBMC (Hi1710)
    0x1a03, // ASPEED
    0x1af4, // virtio-gpu
    0x1b36, // QXL
    0x1d0f, // Amazon's emulated VGA
    0x5853, // Xen
    0x80ee, // VirtualBox
];

/// Chips of GPU makers that only ever drew server consoles: ATI's ES1000 and Rage.
const CONSOLE_CHIPS: &[(u16, u16)] =
    &[(0x1002, 0x515e), (0x1002, 0x5159), (0x1002, 0x4752), (0x1002, 0x4c59), (0x1002, 0x5046), (0x1002, 0x5962)];

/// Makers whose accelerators call themselves a system peripheral, a co-processor or nothing at all. Their other
/// products (network, storage) have proper classes.
const ACCELERATOR_VENDORS: &[u16] = &[
    0x1ac1, // Global Unichip, Coral Edge TPU
    0x1ae0, // Google TPU
    0x1d0f, // Amazon Inferentia and Trainium
    0x1da3, // Habana Gaudi
    0x1e52, // Tenstorrent
    0x1e60, // Hailo
];

impl AcceleratorKind {
    /// What a function with these numbers is. `None` for what is neither display nor processor.
    #[must_use]
    pub fn of(class: PciClass, vendor: Option<PciId>, device: Option<PciId>) -> Option<Self> {
        let vendor_is = |vendors: &[u16]| vendor.is_some_and(|vendor| vendors.contains(&vendor.0));
        let chip_is = |chips: &[(u16, u16)]| {
            vendor.zip(device).is_some_and(|(vendor, device)| chips.contains(&(vendor.0, device.0)))
        };
        match (class.base(), class.sub()) {
            // A 3D controller has no monitor to draw on: it computes, whoever made it.
            (0x03, 0x02) => Some(Self::Gpu),
            (0x03, _) if vendor_is(CONSOLE_VENDORS) || chip_is(CONSOLE_CHIPS) => Some(Self::Console),
            (0x03, _) => Some(Self::Gpu),
            (0x12, _) => Some(Self::Accelerator),
            (0x08 | 0x0b | 0xff | 0x00, _) if vendor_is(ACCELERATOR_VENDORS) => Some(Self::Accelerator),
            _ => None,
        }
    }
}

impl Accelerator {
    pub(crate) fn detect(root: &SysRoot, functions: &[PciFunction]) -> Vec<Self> {
        let kind = |function: &PciFunction| AcceleratorKind::of(function.class, function.vendor, function.device);
        functions.iter().filter_map(|function| Some(Self::read(root, function, kind(function)?))).collect()
    }

    fn read(root: &SysRoot, function: &PciFunction, kind: AcceleratorKind) -> Self {
        let address = &function.address;
        let file = |file: &str| format!("sys/bus/pci/devices/{address}/{file}");
        let nvidia = root.text(&format!("proc/driver/nvidia/gpus/{address}/information"));
        let nvidia = |key: &str| nvidia.as_deref().and_then(|text| nvidia_fact(text, key));
        let is_node = |name: &String| name.starts_with("card") || name.starts_with("renderD");
        Self {
            kind,
            pci_address: address.clone(),
            vendor_id: function.vendor,
            vendor: function.vendor_name.clone(),
            device_id: function.device,
            // The driver's name is the product's; the database's is the chip's.
            model: nvidia("Model").or_else(|| function.device_name.clone()),
            driver: function.driver.clone(),
            numa_node: function.numa_node,
            memory_bytes: root.parse(&file("mem_info_vram_total")),
            uuid: nvidia("GPU UUID").or_else(|| root.text(&file("unique_id"))),
            drm_nodes: root.list(&file("drm")).into_iter().filter(is_node).collect(),
            link: function.link,
        }
    }
}

/// `GPU UUID: \t GPU-4b5e…`; question marks until the card is first used.
fn nvidia_fact(text: &str, key: &str) -> Option<String> {
    let value = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })?;
    (!value.is_empty() && !value.contains("??")).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consoles_are_told_from_gpus() {
        use AcceleratorKind::{Accelerator, Console, Gpu};
        for (name, class, vendor, device, kind) in [
            ("NVIDIA H100", 0x03_0200, 0x10de, 0x2330, Some(Gpu)),
            ("NVIDIA GeForce", 0x03_0000, 0x10de, 0x2684, Some(Gpu)),
            ("AMD Instinct", 0x03_8000, 0x1002, 0x740c, Some(Gpu)),
            ("AMD MI300 in its other class", 0x12_0000, 0x1002, 0x74a1, Some(Accelerator)),
            ("Intel Flex", 0x03_8000, 0x8086, 0x56c0, Some(Gpu)),
            ("ASPEED", 0x03_0000, 0x1a03, 0x2000, Some(Console)),
            ("Matrox G200", 0x03_0000, 0x102b, 0x0538, Some(Console)),
            ("ATI ES1000", 0x03_0000, 0x1002, 0x515e, Some(Console)),
            ("QEMU VGA", 0x03_0000, 0x1234, 0x1111, Some(Console)),
            ("virtio-gpu", 0x03_8000, 0x1af4, 0x1050, Some(Console)),
            ("the lab's stand-in", 0x03_0200, 0x1af4, 0x1001, Some(Gpu)),
            ("Gaudi", 0x12_0000, 0x1da3, 0x1020, Some(Accelerator)),
            ("Inferentia", 0x08_8000, 0x1d0f, 0x7064, Some(Accelerator)),
            ("Amazon's network card", 0x02_0000, 0x1d0f, 0xec20, None),
            ("a watchdog", 0x08_8000, 0x8086, 0x25ab, None),
        ] {
            let of = AcceleratorKind::of(PciClass(class), Some(PciId(vendor)), Some(PciId(device)));
            assert_eq!(of, kind, "{name}");
        }
        assert_eq!(AcceleratorKind::of(PciClass(0x03_0000), None, None), Some(Gpu));
    }

    #[test]
    fn nvidias_facts_are_read_once_known() {
        let text = "Model: \t\t NVIDIA H100\nIRQ:   \t\t 1\nGPU UUID: \t GPU-4b5e\nVideo BIOS: \t ??.??";
        assert_eq!(nvidia_fact(text, "Model").as_deref(), Some("NVIDIA H100"));
        assert_eq!(nvidia_fact(text, "GPU UUID").as_deref(), Some("GPU-4b5e"));
        assert_eq!(nvidia_fact(text, "Video BIOS"), None);
        assert_eq!(nvidia_fact(text, "Nothing"), None);
    }
}
