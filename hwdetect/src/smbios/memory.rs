//! Memory slots and the arrays they belong to: structures 16 and 17.

use super::Structure;

/// Type 16: a set of slots behind one kind of error correction.
#[derive(Clone, Copy, Debug)]
pub struct MemoryArray<'a>(pub(super) &'a Structure);

impl MemoryArray<'_> {
    /// How slots refer to this array.
    #[must_use]
    pub fn handle(&self) -> u16 {
        self.0.handle
    }

    /// It holds main memory, not video memory, cache or flash.
    #[must_use]
    pub fn is_system_memory(&self) -> bool {
        self.0.byte(0x05) == Some(3)
    }

    /// DSP0134 section 7.17.3, as the raw number: 3 none, 4 parity, 5 single-bit, 6 multi-bit, 7 CRC.
    #[must_use]
    pub fn error_correction(&self) -> Option<u8> {
        self.0.byte(0x06)
    }

    /// The most the array can hold.
    #[must_use]
    pub fn max_capacity_bytes(&self) -> Option<u64> {
        match self.0.dword(0x07)? {
            0x8000_0000 => self.0.qword(0x0f).filter(|bytes| *bytes != 0),
            0 => None,
            kib => Some(u64::from(kib) << 10),
        }
    }

    /// How many slots there are, filled or not.
    #[must_use]
    pub fn slots(&self) -> Option<u16> {
        self.0.word(0x0d)
    }
}

/// Type 17: a slot and what is in it.
#[derive(Clone, Copy, Debug)]
pub struct MemoryDevice<'a>(pub(super) &'a Structure);

impl MemoryDevice<'_> {
    /// The array it belongs to.
    #[must_use]
    pub fn array_handle(&self) -> Option<u16> {
        self.0.word(0x04)
    }

    /// Bits on the bus including those for error correction: 72 for 64 data bits with ECC.
    #[must_use]
    pub fn total_width_bits(&self) -> Option<u16> {
        self.0.word(0x08).filter(|bits| !matches!(bits, 0 | 0xffff))
    }

    /// Data bits on the bus.
    #[must_use]
    pub fn data_width_bits(&self) -> Option<u16> {
        self.0.word(0x0a).filter(|bits| !matches!(bits, 0 | 0xffff))
    }

    /// `Some(0)` is an empty slot, `None` a size the firmware does not know.
    #[must_use]
    pub fn size_bytes(&self) -> Option<u64> {
        match self.0.word(0x0c)? {
            0xffff => None,
            // Too large for the field: the 31-bit one counts MiB.
            0x7fff => self.0.dword(0x1c).map(|mib| u64::from(mib & 0x7fff_ffff) << 20),
            kib if kib & 0x8000 != 0 => Some(u64::from(kib & 0x7fff) << 10),
            mib => Some(u64::from(mib) << 20),
        }
    }

    /// DSP0134 section 7.18.1.
    #[must_use]
    pub fn form_factor(&self) -> Option<&'static str> {
        Some(match self.0.byte(0x0e)? {
            0x03 => "SIMM",
            0x05 => "chip",
            0x09 => "DIMM",
            0x0b => "row of chips",
            0x0c => "RIMM",
            0x0d => "SODIMM",
            0x0f => "FB-DIMM",
            0x10 => "die",
            0x11 => "CAMM",
            _ => return None,
        })
    }

    /// The slot's name on the board. Not unique by itself: the bank completes it.
    #[must_use]
    pub fn locator(&self) -> Option<String> {
        self.0.string(0x10)
    }

    /// The bank's name on the board.
    #[must_use]
    pub fn bank_locator(&self) -> Option<String> {
        self.0.string(0x11)
    }

    /// DSP0134 section 7.18.2.
    #[must_use]
    pub fn memory_type(&self) -> Option<&'static str> {
        Some(match self.0.byte(0x12)? {
            0x03 => "DRAM",
            0x07 => "RAM",
            0x09 => "Flash",
            0x0f => "SDRAM",
            0x12 => "DDR",
            0x13 => "DDR2",
            0x14 => "DDR2 FB-DIMM",
            0x18 => "DDR3",
            0x19 => "FBD2",
            0x1a => "DDR4",
            0x1b => "LPDDR",
            0x1c => "LPDDR2",
            0x1d => "LPDDR3",
            0x1e => "LPDDR4",
            0x1f => "Logical non-volatile",
            0x20 => "HBM",
            0x21 => "HBM2",
            0x22 => "DDR5",
            0x23 => "LPDDR5",
            0x24 => "HBM3",
            _ => return None,
        })
    }

    /// The fastest it can go, in million transfers a second.
    #[must_use]
    pub fn speed_mts(&self) -> Option<u32> {
        self.speed(0x15, 0x54)
    }

    /// How fast it goes.
    #[must_use]
    pub fn configured_speed_mts(&self) -> Option<u32> {
        self.speed(0x20, 0x58)
    }

    /// Who made it.
    #[must_use]
    pub fn manufacturer(&self) -> Option<String> {
        self.0.string(0x17)
    }

    /// Its serial number.
    #[must_use]
    pub fn serial(&self) -> Option<String> {
        self.0.string(0x18)
    }

    /// The owner's tag.
    #[must_use]
    pub fn asset_tag(&self) -> Option<String> {
        self.0.string(0x19)
    }

    /// The number to order it by.
    #[must_use]
    pub fn part_number(&self) -> Option<String> {
        self.0.string(0x1a)
    }

    /// Ranks; 0 means unsaid.
    #[must_use]
    pub fn ranks(&self) -> Option<u8> {
        self.0.byte(0x1b).map(|attributes| attributes & 0x0f).filter(|ranks| *ranks != 0)
    }

    /// A 16-bit field whose all-ones value sends to a 32-bit one added by version 3.3.
    fn speed(&self, offset: usize, extended: usize) -> Option<u32> {
        let speed = match self.0.word(offset)? {
            0xffff => self.0.dword(extended)? & 0x7fff_ffff,
            speed => u32::from(speed),
        };
        (speed != 0).then_some(speed)
    }
}

#[cfg(test)]
mod tests {
    use crate::smbios::parse;

    fn device(edit: impl Fn(&mut [u8])) -> Vec<u8> {
        let mut table = vec![0; 0x5c + 2];
        table[0] = 17;
        table[1] = 0x5c;
        edit(&mut table);
        table
    }

    #[test]
    fn sizes_come_in_four_forms() {
        for (size, extended, bytes) in [
            (0x0800u16, 0u32, Some(2048 << 20)),
            (0x8400, 0, Some(1 << 20)),
            (0x7fff, 0x0001_0000, Some(64 << 30)),
            (0xffff, 0, None),
            (0, 0, Some(0)),
        ] {
            let table = device(|bytes| {
                bytes[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
                bytes[0x1c..0x20].copy_from_slice(&extended.to_le_bytes());
            });
            assert_eq!(parse(&table).memory_devices().next().unwrap().size_bytes(), bytes, "{size:#x}");
        }
    }

    #[test]
    fn speeds_beyond_sixteen_bits_are_read_from_the_extended_field() {
        let table = device(|bytes| {
            bytes[0x15..0x17].copy_from_slice(&[0xff, 0xff]);
            bytes[0x54..0x58].copy_from_slice(&70_000u32.to_le_bytes());
        });
        let tables = parse(&table);
        let device = tables.memory_devices().next().unwrap();
        assert_eq!((device.speed_mts(), device.configured_speed_mts()), (Some(70_000), None));
    }
}
