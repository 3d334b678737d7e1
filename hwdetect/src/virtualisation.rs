//! Whether this machine is one, or a program on another.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SysRoot;
use crate::cpu::Cpu;
use crate::pci::{PciFunction, PciId};
use crate::platform::Platform;

/// What runs this machine.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Virtualisation {
    /// Nothing: it is hardware.
    #[default]
    None,
    /// Linux KVM, whatever drives it.
    Kvm,
    /// QEMU that emulates every instruction.
    Qemu,
    /// VMware.
    Vmware,
    /// Microsoft Hyper-V, Azure included.
    HyperV,
    /// Xen, as a guest.
    Xen,
    /// Oracle VirtualBox.
    VirtualBox,
    /// FreeBSD's bhyve.
    Bhyve,
    /// Parallels.
    Parallels,
    /// A hypervisor announces itself, but not its name.
    Other,
}

/// What gives a hypervisor away.
#[derive(Debug, Default)]
struct Clues {
    /// `None` where the processor cannot tell (other than x86).
    hypervisor_flag: Option<bool>,
    model_name: String,
    /// `/sys/hypervisor/type`.
    hypervisor_type: String,
    /// Xen's first domain, which owns the hardware.
    is_xen_control_domain: bool,
    system_vendor: String,
    product: String,
    bios_vendor: String,
    /// KVM and Hyper-V offer their guests a clock.
    clocksources: String,
    has_qemu_hardware: bool,
}

impl Virtualisation {
    pub(crate) fn detect(root: &SysRoot, cpu: &Cpu, platform: &Platform, functions: &[PciFunction]) -> Self {
        let is_x86 = cpu.architecture.as_deref().is_some_and(|name| name.starts_with("x86"));
        let text = |path: &str| root.text(path).unwrap_or_default();
        Self::judge(&Clues {
            hypervisor_flag: is_x86.then(|| cpu.flags.contains("hypervisor")),
            model_name: cpu.model_name.clone().unwrap_or_default(),
            hypervisor_type: text("sys/hypervisor/type"),
            is_xen_control_domain: text("proc/xen/capabilities").contains("control_d"),
            system_vendor: platform.system.vendor.clone().unwrap_or_default(),
            product: platform.system.product.clone().unwrap_or_default(),
            bios_vendor: platform.bios.vendor.clone().unwrap_or_default(),
            clocksources: text("sys/devices/system/clocksource/clocksource0/available_clocksource"),
            has_qemu_hardware: root.exists("sys/firmware/qemu_fw_cfg") || functions.iter().any(is_qemu),
        })
    }

    fn judge(clues: &Clues) -> Self {
        if clues.hypervisor_type == "xen" {
            return if clues.is_xen_control_domain { Self::None } else { Self::Xen };
        }
        // Clouds rent bare machines with the same strings as virtual ones: only the flag tells them apart.
        if clues.hypervisor_flag == Some(false) {
            return Self::None;
        }
        let maker = |names: &[&str]| {
            names.iter().any(|name| clues.system_vendor.contains(name) || clues.bios_vendor.contains(name))
        };
        let clock = |name: &str| clues.clocksources.contains(name);
        if maker(&["VMware"]) {
            Self::Vmware
        } else if maker(&["innotek", "VirtualBox"]) || clues.product == "VirtualBox" {
            Self::VirtualBox
        } else if maker(&["Parallels"]) {
            Self::Parallels
        } else if maker(&["Xen"]) {
            Self::Xen
        } else if maker(&["BHYVE"]) {
            Self::Bhyve
        } else if clues.system_vendor == "Microsoft Corporation" && clues.product == "Virtual Machine" {
            Self::HyperV
        } else if clock("kvm-clock") || clues.product.contains("KVM") {
            Self::Kvm
        } else if clues.model_name.contains("QEMU TCG") {
            Self::Qemu
        } else if clock("hyperv_clocksource") {
            Self::HyperV
        } else if clues.has_qemu_hardware || maker(&["QEMU"]) {
            // QEMU's board without KVM's clock.
            Self::Qemu
        } else if maker(&["Amazon EC2", "Google", "OpenStack", "DigitalOcean", "Hetzner", "Red Hat"]) {
            Self::Kvm
        } else if clues.hypervisor_flag == Some(true) {
            Self::Other
        } else {
            Self::None
        }
    }
}

/// QEMU's own vendor number, or its board number on chips it imitates.
fn is_qemu(function: &PciFunction) -> bool {
    function.vendor == Some(PciId(0x1b36))
        || (function.subsystem_vendor, function.subsystem_device) == (Some(PciId(0x1af4)), Some(PciId(0x1100)))
}

impl fmt::Display for Virtualisation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "none",
            Self::Kvm => "kvm",
            Self::Qemu => "qemu",
            Self::Vmware => "vmware",
            Self::HyperV => "hyper-v",
            Self::Xen => "xen",
            Self::VirtualBox => "virtualbox",
            Self::Bhyve => "bhyve",
            Self::Parallels => "parallels",
            Self::Other => "unknown hypervisor",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hypervisors_are_known_by_their_clues() {
        let guest = || Clues { hypervisor_flag: Some(true), ..Clues::default() };
        for (name, clues, expected) in [
            ("a server", Clues { hypervisor_flag: Some(false), ..Clues::default() }, Virtualisation::None),
            ("an arm server", Clues::default(), Virtualisation::None),
            (
                "kvm",
                Clues { clocksources: "tsc kvm-clock".into(), has_qemu_hardware: true, ..guest() },
                Virtualisation::Kvm,
            ),
            ("emulation", Clues { has_qemu_hardware: true, ..guest() }, Virtualisation::Qemu),
            (
                "emulation, no board",
                Clues { model_name: "QEMU TCG CPU version 2.5+".into(), ..guest() },
                Virtualisation::Qemu,
            ),
            ("vmware", Clues { system_vendor: "VMware, Inc.".into(), ..guest() }, Virtualisation::Vmware),
            (
                "azure",
                Clues { system_vendor: "Microsoft Corporation".into(), product: "Virtual Machine".into(), ..guest() },
                Virtualisation::HyperV,
            ),
            (
                "a Surface",
                Clues {
                    system_vendor: "Microsoft Corporation".into(),
                    hypervisor_flag: Some(false),
                    ..Clues::default()
                },
                Virtualisation::None,
            ),
            ("ec2", Clues { system_vendor: "Amazon EC2".into(), ..guest() }, Virtualisation::Kvm),
            (
                "ec2 metal",
                Clues { system_vendor: "Amazon EC2".into(), hypervisor_flag: Some(false), ..Clues::default() },
                Virtualisation::None,
            ),
            ("xen guest", Clues { hypervisor_type: "xen".into(), ..guest() }, Virtualisation::Xen),
            (
                "xen host",
                Clues { hypervisor_type: "xen".into(), is_xen_control_domain: true, ..guest() },
                Virtualisation::None,
            ),
            ("virtualbox", Clues { product: "VirtualBox".into(), ..guest() }, Virtualisation::VirtualBox),
            ("nameless", guest(), Virtualisation::Other),
        ] {
            assert_eq!(Virtualisation::judge(&clues), expected, "{name}");
        }
    }
}
