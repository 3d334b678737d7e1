//! Which disk is it: model, serial number and world-wide name, from wherever its transport keeps them.

use crate::SysRoot;
use crate::device_path::DevicePath;
use crate::junk::meaningful;

/// What a disk says of itself.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct DiskIdentity {
    pub(crate) vendor: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) wwid: Option<String>,
    pub(crate) firmware: Option<String>,
}

impl DiskIdentity {
    /// `block` is the disk's directory, `path` the same below `sys/devices`.
    pub(crate) fn read(root: &SysRoot, block: &str, path: &DevicePath) -> Self {
        let file = |name: &str| root.text(&format!("{block}/{name}")).and_then(|text| meaningful(&text));
        let usb = |name: &str| {
            let text = root.text(&format!("{}/{name}", path.usb_directory()?))?;
            meaningful(&text)
        };
        // SCSI's vendor field holds the word ATA for every SATA disk, and virtio's a number.
        let vendor = file("device/vendor").filter(|vendor| vendor != "ATA" && !vendor.starts_with("0x"));
        Self {
            vendor,
            // `name` is where SD cards and eMMC have it.
            model: file("device/model").or_else(|| file("device/name")).or_else(|| usb("product")),
            // The disk's own first, then what identifies only its enclosure.
            serial: file("serial")
                .or_else(|| file("device/serial"))
                .or_else(|| root.bytes(&format!("{block}/device/vpd_pg80")).and_then(|page| unit_serial(&page)))
                .or_else(|| usb("serial")),
            wwid: file("wwid").or_else(|| file("device/wwid")).or_else(|| file("device/cid")),
            firmware: file("device/firmware_rev").or_else(|| file("device/rev")).or_else(|| file("device/fwrev")),
        }
    }
}

/// SCSI's vital product data page 80h, the unit's serial number (SPC-5 section 7.7.20): a header of four bytes with a
/// big-endian length, then ASCII.
fn unit_serial(page: &[u8]) -> Option<String> {
    let &[_, 0x80, high, low, ref text @ ..] = page else { return None };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let text = text.get(..length).unwrap_or(text);
    if !text.iter().all(|byte| matches!(byte, 0 | 0x20..=0x7e)) {
        return None;
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(text.len());
    meaningful(std::str::from_utf8(&text[..end]).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_unit_serial_page_is_decoded() {
        for (page, serial) in [
            (&b"\0\x80\0\x06PV0001"[..], Some("PV0001")),
            (b"\0\x80\0\x14ZA1AAAA2            ", Some("ZA1AAAA2")),
            (b"\0\x80\0\xffshort", Some("short")),
            (b"\0\x80\0\x04SN\0\0", Some("SN")),
            (b"\0\x80\0\0", None),
            (b"\0\x80\0\x04    ", None),
            (b"\0\x83\0\x04ABCD", None),
            (b"\0\x80\0\x02\xff\xfe", None),
            (b"\0\x80", None),
            (b"", None),
        ] {
            assert_eq!(unit_serial(page).as_deref(), serial, "{page:?}");
        }
    }

    proptest! {
        #[test]
        fn any_page_is_decoded(mut page in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Some(code) = page.get_mut(1) { *code = 0x80; }
            let _ = unit_serial(&page);
        }
    }
}
