//! Where a device hangs: its path below `sys/devices`, read from right to left.

use crate::SysRoot;

/// `sys/devices/pci0000:00/0000:00:1f.2/ata1/host3/target3:0:0/3:0:0:0/block/sdd`.
#[derive(Clone, Debug)]
pub(crate) struct DevicePath(String);

impl DevicePath {
    /// From a link of `/sys/class` or `/sys/block`.
    pub(crate) fn of(root: &SysRoot, link: &str) -> Self {
        Self(root.resolve(link))
    }

    /// No hardware is behind it.
    pub(crate) fn is_virtual(&self) -> bool {
        self.0.starts_with("sys/devices/virtual/")
    }

    /// Some part of the path satisfies `test`.
    pub(crate) fn any(&self, test: impl Fn(&str) -> bool) -> bool {
        self.0.split('/').any(test)
    }

    /// The longest beginning of the path whose last part satisfies `test`: the nearest such ancestor.
    pub(crate) fn up_to(&self, test: impl Fn(&str) -> bool) -> Option<&str> {
        self.ancestors().find(|path| path.rsplit('/').next().is_some_and(&test))
    }

    /// The path, its parent, its parent's parent, …
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = &str> {
        std::iter::successors(Some(self.0.as_str()), |path| Some(path.rsplit_once('/')?.0))
    }

    /// The directory of the PCI function it hangs on, the nearest if bridges lie between.
    pub(crate) fn pci_directory(&self) -> Option<&str> {
        self.up_to(is_pci_address)
    }

    /// `0000:00:1f.2`.
    pub(crate) fn pci_address(&self) -> Option<&str> {
        self.pci_directory()?.rsplit('/').next()
    }

    /// The NUMA node of its PCI function.
    pub(crate) fn numa_node(&self, root: &SysRoot) -> Option<u32> {
        root.id(&format!("{}/numa_node", self.pci_directory()?))
    }

    /// The driver of the nearest ancestor that has one, but for those that only stand for "a disk".
    pub(crate) fn driver(&self, root: &SysRoot) -> Option<String> {
        let generic = |driver: &String| !matches!(driver.as_str(), "sd" | "sr" | "mmcblk");
        self.ancestors()
            .take_while(|path| path.contains("/devices/"))
            .find_map(|path| root.link_name(&format!("{path}/driver")).filter(generic))
    }

    /// The directory of the USB device, not of its interface: `…/usb2/2-1`.
    pub(crate) fn usb_directory(&self) -> Option<&str> {
        let is_port = |part: &str| {
            part.split_once('-').is_some_and(|(bus, ports)| {
                let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                digits(bus) && ports.split('.').all(digits)
            })
        };
        self.any(|part| part.starts_with("usb")).then(|| self.up_to(is_port)).flatten()
    }
}

/// `DDDD:BB:DD.F`; domains of some virtual bridges have more than four digits.
pub(crate) fn is_pci_address(text: &str) -> bool {
    let hex = |text: &str, lengths: std::ops::RangeInclusive<usize>| {
        lengths.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut parts = text.split(':');
    let (Some(domain), Some(bus), Some(slot), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    let Some((device, function)) = slot.split_once('.') else { return false };
    hex(domain, 4..=8) && hex(bus, 2..=2) && hex(device, 2..=2) && hex(function, 1..=1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pci_addresses_are_told_from_scsi_ones() {
        for (text, is) in [
            ("0000:00:1f.2", true),
            ("10000:e1:00.0", true),
            ("2:0:0:0", false),
            ("target2:0:0", false),
            ("0000:00:1f", false),
            ("pci0000:00", false),
            ("0000:00:02.0:pcie001", false),
            ("IPI0001:00", false),
        ] {
            assert_eq!(is_pci_address(text), is, "{text}");
        }
    }

    #[test]
    fn the_nearest_pci_function_and_usb_device_are_found() {
        let path = DevicePath(
            "sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/usb2/2-1/2-1.4/2-1.4:1.0/host9/block/sdk".into(),
        );
        assert_eq!(path.pci_address(), Some("0000:01:00.0"));
        assert_eq!(path.usb_directory(), Some("sys/devices/pci0000:00/0000:00:02.0/0000:01:00.0/usb2/2-1/2-1.4"));
        let path = DevicePath("sys/devices/platform/LNRO0005:00/virtio0/block/vda".into());
        assert_eq!((path.pci_address(), path.usb_directory()), (None, None));
    }
}
