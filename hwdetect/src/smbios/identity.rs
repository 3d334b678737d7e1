//! Who made this machine and what it calls itself: structures 0, 1, 2, 3 and 38.

use super::Structure;
use crate::junk::meaningful;

/// Type 0.
#[derive(Clone, Copy, Debug)]
pub struct BiosInformation<'a>(pub(super) &'a Structure);

impl BiosInformation<'_> {
    /// Who wrote the firmware.
    #[must_use]
    pub fn vendor(&self) -> Option<String> {
        self.0.string(0x04)
    }

    /// Its version, in the vendor's own form.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.0.string(0x05)
    }

    /// `mm/dd/yyyy`.
    #[must_use]
    pub fn date(&self) -> Option<String> {
        self.0.string(0x08)
    }

    /// `2.1`; two bytes of all ones mean the firmware has none.
    #[must_use]
    pub fn release(&self) -> Option<String> {
        match (self.0.byte(0x14)?, self.0.byte(0x15)?) {
            (0xff, _) | (_, 0xff) => None,
            (major, minor) => Some(format!("{major}.{minor}")),
        }
    }
}

/// Type 1.
#[derive(Clone, Copy, Debug)]
pub struct SystemInformation<'a> {
    pub(super) structure: &'a Structure,
    pub(super) version: Option<(u8, u8)>,
}

impl SystemInformation<'_> {
    /// Who sold the machine.
    #[must_use]
    pub fn vendor(&self) -> Option<String> {
        self.structure.string(0x04)
    }

    /// The model.
    #[must_use]
    pub fn product(&self) -> Option<String> {
        self.structure.string(0x05)
    }

    /// The model's revision.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.structure.string(0x06)
    }

    /// The machine's serial number.
    #[must_use]
    pub fn serial(&self) -> Option<String> {
        self.structure.string(0x07)
    }

    /// The machine's UUID in lower case, unless it is all zeros or all ones.
    #[must_use]
    pub fn uuid(&self) -> Option<String> {
        let mut bytes: [u8; 16] = self.structure.array(0x08)?;
        // Version 2.6 decided that the first three fields are little-endian, as makers had been writing them.
        if self.version.is_none_or(|version| version >= (2, 6)) {
            bytes[0..4].reverse();
            bytes[4..6].reverse();
            bytes[6..8].reverse();
        }
        let hex = |range: std::ops::Range<usize>| bytes[range].iter().map(|b| format!("{b:02x}")).collect::<String>();
        meaningful(&[hex(0..4), hex(4..6), hex(6..8), hex(8..10), hex(10..16)].join("-"))
    }

    /// The number to order it by.
    #[must_use]
    pub fn sku(&self) -> Option<String> {
        self.structure.string(0x19)
    }

    /// The product line.
    #[must_use]
    pub fn family(&self) -> Option<String> {
        self.structure.string(0x1a)
    }
}

/// Type 2.
#[derive(Clone, Copy, Debug)]
pub struct BoardInformation<'a>(pub(super) &'a Structure);

impl BoardInformation<'_> {
    /// It says it is a motherboard, not a riser or a blade's I/O module.
    #[must_use]
    pub fn is_motherboard(&self) -> bool {
        self.0.byte(0x0d) == Some(0x0a)
    }

    /// Who made the board.
    #[must_use]
    pub fn vendor(&self) -> Option<String> {
        self.0.string(0x04)
    }

    /// The board's model.
    #[must_use]
    pub fn product(&self) -> Option<String> {
        self.0.string(0x05)
    }

    /// The board's revision.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.0.string(0x06)
    }

    /// The board's serial number.
    #[must_use]
    pub fn serial(&self) -> Option<String> {
        self.0.string(0x07)
    }

    /// The owner's tag.
    #[must_use]
    pub fn asset_tag(&self) -> Option<String> {
        self.0.string(0x08)
    }

    /// Where in the chassis it sits, which tells blades apart: `Slot U12`.
    #[must_use]
    pub fn location(&self) -> Option<String> {
        self.0.string(0x0a)
    }
}

/// Type 3.
#[derive(Clone, Copy, Debug)]
pub struct ChassisInformation<'a>(pub(super) &'a Structure);

impl ChassisInformation<'_> {
    /// Who made the chassis.
    #[must_use]
    pub fn vendor(&self) -> Option<String> {
        self.0.string(0x04)
    }

    /// DSP0134 section 7.4.1; the highest bit only says that there is a lock.
    #[must_use]
    pub fn type_code(&self) -> Option<u8> {
        self.0.byte(0x05).map(|code| code & 0x7f)
    }

    /// The chassis's revision.
    #[must_use]
    pub fn version(&self) -> Option<String> {
        self.0.string(0x06)
    }

    /// The chassis's serial number.
    #[must_use]
    pub fn serial(&self) -> Option<String> {
        self.0.string(0x07)
    }

    /// The owner's tag.
    #[must_use]
    pub fn asset_tag(&self) -> Option<String> {
        self.0.string(0x08)
    }

    /// Height in rack units; 0 means unsaid.
    #[must_use]
    pub fn height_units(&self) -> Option<u8> {
        self.0.byte(0x11).filter(|units| *units != 0)
    }

    /// The number to order it by, which stands behind a list of variable length.
    #[must_use]
    pub fn sku(&self) -> Option<String> {
        let (count, size) = (usize::from(self.0.byte(0x13)?), usize::from(self.0.byte(0x14)?));
        self.0.string(0x15 + count * size)
    }
}

/// Type 38.
#[derive(Clone, Copy, Debug)]
pub struct IpmiInterface<'a>(pub(super) &'a Structure);

impl IpmiInterface<'_> {
    /// DSP0134 section 7.39.1.
    #[must_use]
    pub fn interface(&self) -> Option<&'static str> {
        match self.0.byte(0x04)? {
            1 => Some("KCS"),
            2 => Some("SMIC"),
            3 => Some("BT"),
            4 => Some("SSIF"),
            _ => None,
        }
    }

    /// The IPMI version, two digits of four bits: `2.0`.
    #[must_use]
    pub fn revision(&self) -> Option<String> {
        self.0.byte(0x05).filter(|bcd| *bcd != 0).map(|bcd| format!("{}.{}", bcd >> 4, bcd & 0xf))
    }
}

#[cfg(test)]
mod tests {
    use crate::smbios::parse;

    fn system_with_uuid(uuid: [u8; 16]) -> Vec<u8> {
        let mut table = vec![1, 0x1b, 0, 1, 0, 0, 0, 0];
        table.extend_from_slice(&uuid);
        table.extend_from_slice(&[6, 0, 0, 0, 0]);
        table
    }

    #[test]
    fn a_uuid_follows_the_byte_order_of_its_version() {
        let mut uuid = [0u8; 16];
        for (value, byte) in (0..).zip(&mut uuid) {
            *byte = value;
        }
        let tables = parse(&system_with_uuid(uuid));
        let uuid = |version| tables.system(version).unwrap().uuid().unwrap();
        assert_eq!(uuid(Some((2, 8))), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(uuid(None), "03020100-0504-0706-0809-0a0b0c0d0e0f");
        assert_eq!(uuid(Some((2, 5))), "00010203-0405-0607-0809-0a0b0c0d0e0f");
    }

    #[test]
    fn a_uuid_of_zeros_or_ones_is_none() {
        for byte in [0, 0xff] {
            assert_eq!(parse(&system_with_uuid([byte; 16])).system(None).unwrap().uuid(), None);
        }
    }

    #[test]
    fn the_chassis_sku_is_found_behind_the_contained_elements() {
        let mut table = vec![3, 0x1c, 0, 3, 0, 0x97, 0, 0, 0, 3, 3, 3, 2, 0, 0, 0, 0, 2, 0, 2, 3];
        table.extend_from_slice(&[0; 6]);
        table.push(1);
        table.extend_from_slice(b"CHSKU\0\0");
        let tables = parse(&table);
        let chassis = tables.chassis().unwrap();
        assert_eq!(chassis.sku().as_deref(), Some("CHSKU"));
        assert_eq!((chassis.type_code(), chassis.height_units()), (Some(23), Some(2)));
    }
}
