//! SMBIOS tables, decoded from raw bytes: total on any input, as firmware writes any input (DSP0134).
//!
//! A structure is a header (type, length, handle), a formatted area of that length, then its strings, each ended by a
//! NUL, the set ended by another. Everything reads through [`Structure`]'s accessors, which answer `None` past the end:
//! old tables are shorter than new ones, and broken ones shorter than they say.

mod identity;
mod memory;

pub use identity::{BiosInformation, BoardInformation, ChassisInformation, IpmiInterface, SystemInformation};
pub use memory::{MemoryArray, MemoryDevice};

use crate::junk::meaningful;

/// The decoded tables, in the firmware's order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Tables {
    /// All structures before the end marker or the first that cannot be delimited.
    pub structures: Vec<Structure>,
}

/// One record of the tables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Structure {
    /// What it describes (DSP0134 section 7): 17 is a memory device.
    pub kind: u8,
    /// How other structures refer to it.
    pub handle: u16,
    /// The formatted area with its four bytes of header, so offsets are those of the specification.
    formatted: Vec<u8>,
    strings: Vec<String>,
}

/// The most structures taken: a 64 KiB table of empty ones has fewer.
const STRUCTURES_LIMIT: usize = 16_384;

/// The marker that ends the tables.
const END_OF_TABLE: u8 = 127;

/// The header: type, length, handle.
const HEADER_BYTES: usize = 4;

/// Decodes `/sys/firmware/dmi/tables/DMI`. Whatever the bytes, it returns what could be made out before the first
/// structure without an end.
#[must_use]
pub fn parse(table: &[u8]) -> Tables {
    let mut structures = Vec::new();
    let mut rest = table;
    while structures.len() < STRUCTURES_LIMIT {
        let Some((structure, tail)) = split_structure(rest) else { break };
        if structure.kind == END_OF_TABLE {
            break;
        }
        structures.push(structure);
        rest = tail;
    }
    Tables { structures }
}

/// The version in `/sys/firmware/dmi/tables/smbios_entry_point`: `(2, 8)`. Both the 32-bit and the 64-bit form.
#[must_use]
pub fn parse_version(entry_point: &[u8]) -> Option<(u8, u8)> {
    let at = if entry_point.starts_with(b"_SM3_") {
        7
    } else if entry_point.starts_with(b"_SM_") {
        6
    } else {
        return None;
    };
    Some((*entry_point.get(at)?, *entry_point.get(at + 1)?))
}

fn split_structure(bytes: &[u8]) -> Option<(Structure, &[u8])> {
    let &[kind, length, low, high, ..] = bytes else { return None };
    let length = usize::from(length);
    if length < HEADER_BYTES {
        return None;
    }
    let (formatted, rest) = bytes.split_at_checked(length)?;
    // The end marker of some firmware lacks its two zero bytes.
    let end = match rest.windows(2).position(|pair| pair == [0, 0]) {
        Some(end) => end,
        None if kind == END_OF_TABLE => 0,
        None => return None,
    };
    let strings = match &rest[..end] {
        [] => Vec::new(),
        strings => strings.split(|byte| *byte == 0).map(text).collect(),
    };
    let structure = Structure { kind, handle: u16::from_le_bytes([low, high]), formatted: formatted.to_vec(), strings };
    Some((structure, rest.get(end + 2..).unwrap_or_default()))
}

/// Strings are ASCII by the specification and Latin-1 by practice.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

impl Structure {
    /// The byte at an offset of the specification.
    #[must_use]
    pub fn byte(&self, offset: usize) -> Option<u8> {
        self.formatted.get(offset).copied()
    }

    /// The little-endian 16-bit number at an offset.
    #[must_use]
    pub fn word(&self, offset: usize) -> Option<u16> {
        self.array(offset).map(u16::from_le_bytes)
    }

    /// The little-endian 32-bit number at an offset.
    #[must_use]
    pub fn dword(&self, offset: usize) -> Option<u32> {
        self.array(offset).map(u32::from_le_bytes)
    }

    /// The little-endian 64-bit number at an offset.
    #[must_use]
    pub fn qword(&self, offset: usize) -> Option<u64> {
        self.array(offset).map(u64::from_le_bytes)
    }

    /// The string whose number stands at an offset, unless it is a placeholder. Number 0 means "none".
    #[must_use]
    pub fn string(&self, offset: usize) -> Option<String> {
        let number = usize::from(self.byte(offset)?);
        meaningful(self.strings.get(number.checked_sub(1)?)?)
    }

    /// All strings, as they stand.
    #[must_use]
    pub fn strings(&self) -> &[String] {
        &self.strings
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let end = offset.checked_add(N)?;
        self.formatted.get(offset..end)?.try_into().ok()
    }
}

impl Tables {
    /// The structures of one type, in order.
    pub fn of_kind(&self, kind: u8) -> impl Iterator<Item = &Structure> {
        self.structures.iter().filter(move |structure| structure.kind == kind)
    }

    /// The structure others call by this handle.
    #[must_use]
    pub fn by_handle(&self, handle: u16) -> Option<&Structure> {
        self.structures.iter().find(|structure| structure.handle == handle)
    }

    /// Type 0, the firmware.
    #[must_use]
    pub fn bios(&self) -> Option<BiosInformation<'_>> {
        self.of_kind(0).next().map(BiosInformation)
    }

    /// Type 1, the product as sold. UUIDs changed their byte order with version 2.6, hence `version`.
    #[must_use]
    pub fn system(&self, version: Option<(u8, u8)>) -> Option<SystemInformation<'_>> {
        self.of_kind(1).next().map(|structure| SystemInformation { structure, version })
    }

    /// Type 2, the mainboard: the first that says it is one, else the first.
    #[must_use]
    pub fn board(&self) -> Option<BoardInformation<'_>> {
        let boards = || self.of_kind(2).map(BoardInformation);
        boards().find(BoardInformation::is_motherboard).or_else(|| boards().next())
    }

    /// Type 3, the chassis.
    #[must_use]
    pub fn chassis(&self) -> Option<ChassisInformation<'_>> {
        self.of_kind(3).next().map(ChassisInformation)
    }

    /// Type 11, free text the maker or the virtual machine's owner put there (`lab.rack=R07`).
    #[must_use]
    pub fn oem_strings(&self) -> Vec<String> {
        self.of_kind(11).flat_map(|structure| structure.strings()).filter_map(|text| meaningful(text)).collect()
    }

    /// Type 16, the memory arrays.
    pub fn memory_arrays(&self) -> impl Iterator<Item = MemoryArray<'_>> {
        self.of_kind(16).map(MemoryArray)
    }

    /// Type 17, the memory slots, filled or not.
    pub fn memory_devices(&self) -> impl Iterator<Item = MemoryDevice<'_>> {
        self.of_kind(17).map(MemoryDevice)
    }

    /// Type 38, the management controller's interface.
    #[must_use]
    pub fn ipmi(&self) -> Option<IpmiInterface<'_>> {
        self.of_kind(38).next().map(IpmiInterface)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(kind: u8, formatted: &[u8], strings: &[&str]) -> Vec<u8> {
        let length = u8::try_from(formatted.len() + HEADER_BYTES).unwrap();
        let mut bytes = vec![kind, length, kind, 0];
        bytes.extend_from_slice(formatted);
        for string in strings {
            bytes.extend_from_slice(string.as_bytes());
            bytes.push(0);
        }
        bytes.extend_from_slice(if strings.is_empty() { &[0, 0] } else { &[0] });
        bytes
    }

    #[test]
    fn structures_follow_each_other_until_the_end_marker() {
        let mut table = structure(1, &[1, 2], &["Acme", "Rack"]);
        table.extend(structure(2, &[], &[]));
        table.extend(structure(END_OF_TABLE, &[], &[]));
        table.extend(structure(3, &[], &["behind the end"]));
        let tables = parse(&table);
        assert_eq!(tables.structures.iter().map(|s| s.kind).collect::<Vec<_>>(), [1, 2]);
        let first = &tables.structures[0];
        assert_eq!((first.string(4), first.string(5)), (Some("Acme".to_owned()), Some("Rack".to_owned())));
        assert_eq!((first.string(6), first.word(5), first.word(4)), (None, None, Some(0x0201)));
        assert_eq!(tables.by_handle(2).unwrap().kind, 2);
    }

    #[test]
    fn a_string_number_without_its_string_says_nothing() {
        let tables = parse(&structure(1, &[0, 9, 1], &["None"]));
        let only = &tables.structures[0];
        assert_eq!((only.string(4), only.string(5), only.string(6)), (None, None, None));
    }

    #[test]
    fn a_structure_without_an_end_stops_the_walk() {
        let mut table = structure(1, &[1], &["Acme"]);
        for tail in [&[9, 3, 0, 0, 0, 0][..], &[9, 200, 0, 0][..], &[9, 4, 0, 0, b'x'][..], &[9][..]] {
            table.truncate(structure(1, &[1], &["Acme"]).len());
            table.extend_from_slice(tail);
            assert_eq!(parse(&table).structures.len(), 1, "{tail:?}");
        }
        assert_eq!(parse(&[]), Tables::default());
    }

    #[test]
    fn both_entry_points_tell_the_version() {
        assert_eq!(parse_version(b"_SM_\x04\x1f\x02\x08rest"), Some((2, 8)));
        assert_eq!(parse_version(b"_SM3_\x04\x18\x03\x06\x00"), Some((3, 6)));
        assert_eq!(parse_version(b"_SM3_\x04"), None);
        assert_eq!(parse_version(b"garbage"), None);
    }

    #[test]
    fn strings_that_are_no_utf8_are_latin_1() {
        assert_eq!(text(b"Caf\xe9"), "Café");
        assert_eq!(text("é".as_bytes()), "é");
    }
}
