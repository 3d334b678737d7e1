//! Our partition table: GPT, both copies, and the old table that keeps others from taking the disk for an empty one.
//!
//! Bytes in, bytes out. A write is a list of stages: what is in one stage may reach the disk in any order or not at all when
//! power fails, what is in the next begins after all of it is there.

use std::fmt;
use std::io;

use hwdetect::signature::Readable;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: [u8; 4] = [0, 0, 1, 0];
const HEADER_BYTES: usize = 92;
const ENTRIES: u32 = 128;
const ENTRY_BYTES: u32 = 128;
/// What the entries take.
const TABLE_BYTES: usize = (ENTRIES * ENTRY_BYTES) as usize;
/// Partitions begin at multiples of this, whatever a disk is made of inside.
pub const ALIGNMENT: u64 = 1 << 20;
/// UTF-16 units of a partition's name.
const NAME_UNITS: usize = 36;

/// A GUID in the order in which it is written for people.
#[derive(Clone, Copy, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// GPT turns the first three groups around.
    fn on_disk(self) -> [u8; 16] {
        let mut bytes = self.0;
        bytes[..4].reverse();
        bytes[4..6].reverse();
        bytes[6..8].reverse();
        bytes
    }

    fn of_disk(bytes: [u8; 16]) -> Self {
        Self(Self(bytes).on_disk())
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a disk is addressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Geometry {
    /// All of it.
    pub bytes: u64,
    /// 512 or 4096.
    pub sector: u32,
}

impl Geometry {
    fn table_sectors(self) -> u64 {
        (TABLE_BYTES as u64).div_ceil(u64::from(self.sector))
    }

    fn sectors(self) -> u64 {
        self.bytes / u64::from(self.sector)
    }

    fn offset(self, lba: u64) -> Option<u64> {
        lba.checked_mul(u64::from(self.sector))
    }

    /// The bytes partitions may have: from one multiple of the alignment to another.
    #[must_use]
    pub fn usable(self) -> Option<(u64, u64)> {
        let kept = self.offset(2 + self.table_sectors())?;
        let end = self.offset(self.sectors().checked_sub(1 + self.table_sectors())?)?;
        let (begin, end) = (kept.next_multiple_of(ALIGNMENT), end - end % ALIGNMENT);
        (begin < end).then_some((begin, end))
    }

    /// Is it one we can write a table for?
    #[must_use]
    pub fn is_sane(self) -> bool {
        matches!(self.sector, 512 | 1024 | 2048 | 4096) && self.bytes.is_multiple_of(u64::from(self.sector))
    }
}

/// One partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Entry {
    /// What for.
    pub kind: Guid,
    /// Which.
    pub guid: Guid,
    /// Its first byte.
    pub begin: u64,
    /// The byte after its last.
    pub end: u64,
    /// 48 to 63 are the kind's own.
    pub attributes: u64,
    /// For people, and for us.
    pub name: String,
}

/// A whole table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Table {
    /// The disk's own GUID.
    pub disk: Guid,
    /// Its partitions.
    pub entries: Vec<Entry>,
}

/// Bytes for a place on the disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Write {
    /// Where.
    pub offset: u64,
    /// What.
    pub bytes: Vec<u8>,
}

impl Table {
    /// What makes the disk have this table, in stages: the copy at the end first, so that there always is a whole one.
    #[must_use]
    pub fn stages(&self, geometry: Geometry) -> Option<Vec<Vec<Write>>> {
        let entries = self.encode_entries(geometry)?;
        let last = geometry.sectors().checked_sub(1)?;
        let backup_table = last.checked_sub(geometry.table_sectors())?;
        let header = |own: u64, other: u64, table: u64| self.header(geometry, &entries, own, other, table);
        let write = |lba: u64, bytes: Vec<u8>| Some(Write { offset: geometry.offset(lba)?, bytes });
        let padded = |lba| {
            let mut bytes = entries.clone();
            bytes.resize(usize::try_from(geometry.offset(geometry.table_sectors())?).ok()?, 0);
            write(lba, bytes)
        };
        Some(vec![
            vec![padded(backup_table)?, write(last, header(last, 1, backup_table)?)?],
            vec![padded(2)?, write(1, header(1, last, 2)?)?],
            vec![write(0, protective(geometry))?],
        ])
    }

    fn encode_entries(&self, geometry: Geometry) -> Option<Vec<u8>> {
        let (first, end) = geometry.usable()?;
        let sector = u64::from(geometry.sector);
        let mut bytes = vec![0; TABLE_BYTES];
        if self.entries.len() > ENTRIES as usize {
            return None;
        }
        for (entry, place) in self.entries.iter().zip(bytes.chunks_mut(ENTRY_BYTES as usize)) {
            if entry.begin < first || entry.end > end || entry.begin >= entry.end {
                return None;
            }
            place[..16].copy_from_slice(&entry.kind.on_disk());
            place[16..32].copy_from_slice(&entry.guid.on_disk());
            place[32..40].copy_from_slice(&(entry.begin / sector).to_le_bytes());
            place[40..48].copy_from_slice(&(entry.end / sector - 1).to_le_bytes());
            place[48..56].copy_from_slice(&entry.attributes.to_le_bytes());
            let units = entry.name.encode_utf16().take(NAME_UNITS);
            for (unit, pair) in units.zip(place[56..].chunks_mut(2)) {
                pair.copy_from_slice(&unit.to_le_bytes());
            }
        }
        Some(bytes)
    }

    fn header(&self, geometry: Geometry, entries: &[u8], own: u64, other: u64, table: u64) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(geometry.sector).ok()?];
        let first_usable = 2 + geometry.table_sectors();
        let last_usable = geometry.sectors().checked_sub(2 + geometry.table_sectors())?;
        bytes[..8].copy_from_slice(SIGNATURE);
        bytes[8..12].copy_from_slice(&REVISION);
        bytes[12..16].copy_from_slice(&u32::try_from(HEADER_BYTES).ok()?.to_le_bytes());
        for (at, number) in [(24, own), (32, other), (40, first_usable), (48, last_usable), (72, table)] {
            bytes[at..at + 8].copy_from_slice(&number.to_le_bytes());
        }
        bytes[56..72].copy_from_slice(&self.disk.on_disk());
        for (at, number) in [(80, ENTRIES), (84, ENTRY_BYTES), (88, crc32(entries))] {
            bytes[at..at + 4].copy_from_slice(&number.to_le_bytes());
        }
        let crc = crc32(&bytes[..HEADER_BYTES]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        Some(bytes)
    }

    /// The table of a disk: the first copy if it is whole, else the second, else none.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn read(of: &(impl Readable + ?Sized), geometry: Geometry) -> io::Result<Option<Self>> {
        if let Some(table) = Self::read_copy(of, geometry, 1)? {
            return Ok(Some(table));
        }
        match geometry.sectors().checked_sub(1) {
            Some(last) if last > 1 => Self::read_copy(of, geometry, last),
            Some(_) | None => Ok(None),
        }
    }

    fn read_copy(of: &(impl Readable + ?Sized), geometry: Geometry, lba: u64) -> io::Result<Option<Self>> {
        let sector = u64::from(geometry.sector);
        let whole = |lba: u64, bytes: u64| {
            let at = geometry.offset(lba).filter(|at| at.checked_add(bytes).is_some_and(|end| end <= of.size()));
            at.filter(|_| sector >= 512)
        };
        let Some(at) = whole(lba, sector) else { return Ok(None) };
        let mut header = [0; HEADER_BYTES];
        of.read_at(at, &mut header)?;
        let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().unwrap_or_default());
        let short = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
        let mut unsigned = header;
        unsigned[16..20].fill(0);
        let whole_header = header.starts_with(SIGNATURE)
            && short(12) == u32::try_from(HEADER_BYTES).unwrap_or(0)
            && short(16) == crc32(&unsigned)
            && number(24) == lba;
        // Tables of another shape are valid, too; they are not ours.
        if !whole_header || short(80) != ENTRIES || short(84) != ENTRY_BYTES {
            return Ok(None);
        }
        let Some(at) = whole(number(72), TABLE_BYTES as u64) else { return Ok(None) };
        let mut entries = vec![0; TABLE_BYTES];
        of.read_at(at, &mut entries)?;
        if crc32(&entries) != short(88) {
            return Ok(None);
        }
        let guid = |bytes: &[u8]| Guid::of_disk(bytes.try_into().unwrap_or_default());
        let mut table = Self { disk: guid(&header[56..72]), entries: Vec::new() };
        for place in entries.chunks(ENTRY_BYTES as usize) {
            let number = |at: usize| u64::from_le_bytes(place[at..at + 8].try_into().unwrap_or_default());
            if place[..16] == [0; 16] {
                continue;
            }
            let units = place[56..].chunks(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
            let units: Vec<u16> = units.take_while(|unit| *unit != 0).collect();
            let (begin, end) = (number(32).checked_mul(sector), number(40).checked_add(1));
            let end = end.and_then(|end| end.checked_mul(sector)).filter(|end| *end <= geometry.bytes);
            let (Some(begin), Some(end)) = (begin, end) else { return Ok(None) };
            if begin >= end {
                return Ok(None);
            }
            table.entries.push(Entry {
                kind: guid(&place[..16]),
                guid: guid(&place[16..32]),
                begin,
                end,
                attributes: number(48),
                name: String::from_utf16_lossy(&units),
            });
        }
        Ok(Some(table))
    }
}

/// The old table: one partition of everything, of a type that says GPT.
fn protective(geometry: Geometry) -> Vec<u8> {
    let mut bytes = vec![0; geometry.sector as usize];
    let length = u32::try_from(geometry.sectors().saturating_sub(1)).unwrap_or(u32::MAX);
    bytes[446 + 1..446 + 4].copy_from_slice(&[0, 2, 0]);
    bytes[446 + 4] = 0xee;
    bytes[446 + 5..446 + 8].fill(0xff);
    bytes[446 + 8..446 + 12].copy_from_slice(&1_u32.to_le_bytes());
    bytes[446 + 12..446 + 16].copy_from_slice(&length.to_le_bytes());
    bytes[510..512].copy_from_slice(b"\x55\xaa");
    bytes
}

/// CRC-32 as GPT (and Ethernet) has it.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KIND: Guid = Guid(*b"mesolith12345678");

    fn table() -> Table {
        let entry = |begin: u64, end: u64, name: &str| Entry {
            kind: KIND,
            guid: Guid([u8::try_from(begin & 255).unwrap() | 1; 16]),
            begin: begin << 20,
            end: end << 20,
            attributes: 1 << 48,
            name: name.to_owned(),
        };
        Table {
            disk: Guid([9; 16]),
            entries: vec![entry(1, 3, "mesolith state ext4"), entry(3, 6, "mesolith path xfs")],
        }
    }

    fn written(table: &Table, geometry: Geometry) -> Vec<u8> {
        let mut disk = vec![0; usize::try_from(geometry.bytes).unwrap()];
        for write in table.stages(geometry).unwrap().into_iter().flatten() {
            let at = usize::try_from(write.offset).unwrap();
            disk[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        disk
    }

    #[test]
    fn what_is_written_is_read_from_either_copy() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        for sector in [512, 4096] {
            let geometry = Geometry { bytes: 8 << 20, sector };
            assert_eq!(geometry.usable(), Some((1 << 20, 7 << 20)));
            let mut disk = written(&table(), geometry);
            assert_eq!(Table::read(disk.as_slice(), geometry).unwrap(), Some(table()));
            disk[sector as usize + 60] ^= 1;
            assert_eq!(Table::read(disk.as_slice(), geometry).unwrap(), Some(table()), "the copy at the end");
            let last = disk.len() - sector as usize;
            disk[last + 17] ^= 1;
            assert_eq!(Table::read(disk.as_slice(), geometry).unwrap(), None);
        }
    }

    #[test]
    fn what_does_not_fit_is_not_written() {
        let small = Geometry { bytes: 1 << 20, sector: 512 };
        assert_eq!((small.usable(), table().stages(small)), (None, None));
        let mut outside = table();
        outside.entries[1].end = 8 << 20;
        assert_eq!(outside.stages(Geometry { bytes: 8 << 20, sector: 512 }), None);
        assert!(!Geometry { bytes: 1000, sector: 512 }.is_sane() && !Geometry { bytes: 0, sector: 0 }.is_sane());
    }

    /// Another's program finds no fault with it.
    #[test]
    fn sfdisk_reads_what_we_write() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk");
        std::fs::write(&path, written(&table(), Geometry { bytes: 8 << 20, sector: 512 })).unwrap();
        let run = |arguments: &[&str]| {
            let output = std::process::Command::new("sfdisk").args(arguments).arg(&path).output();
            let output = output.expect("sfdisk, of Debian's package fdisk, is installed");
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            (output.status.success(), text(output.stdout), text(output.stderr))
        };
        let (verified, out, err) = run(&["--verify"]);
        assert!(verified && err.is_empty() && out.contains("No errors detected."), "{out}{err}");
        let (_, json, _) = run(&["--json"]);
        let told: serde_json::Value = serde_json::from_str(&json).unwrap();
        let told = &told["partitiontable"];
        assert_eq!(
            (told["label"].as_str(), told["id"].as_str()),
            (Some("gpt"), Some("09090909-0909-0909-0909-090909090909"))
        );
        assert_eq!((told["firstlba"].as_u64(), told["lastlba"].as_u64()), (Some(34), Some((8 << 11) - 34)));
        let second = &told["partitions"][1];
        assert_eq!((second["start"].as_u64(), second["size"].as_u64()), (Some(3 << 11), Some(3 << 11)));
        assert_eq!(second["type"].as_str().unwrap().to_lowercase(), KIND.to_string());
        assert_eq!((second["name"].as_str(), second["attrs"].as_str()), (Some("mesolith path xfs"), Some("GUID:48")));
    }

    proptest! {
        #[test]
        fn no_damage_is_mistaken_for_a_table_or_makes_it_panic(
            marks in proptest::collection::vec((any::<usize>(), any::<u8>()), 1..40),
        ) {
            let geometry = Geometry { bytes: 8 << 20, sector: 512 };
            let mut disk = written(&table(), geometry);
            for (at, byte) in marks {
                // Where the tables are.
                let at = at % (2 * (34 << 9));
                let at = if at < 34 << 9 { at } else { disk.len() - 1 - (at - (34 << 9)) };
                disk[at] = byte;
            }
            if let Some(read) = Table::read(disk.as_slice(), geometry).unwrap() {
                prop_assert_eq!(read, table());
            }
        }

        #[test]
        fn a_header_that_lies_is_no_table(at in 20usize..92, bytes in any::<[u8; 8]>()) {
            let geometry = Geometry { bytes: 8 << 20, sector: 512 };
            let mut disk = written(&table(), geometry);
            let length = disk.len();
            disk[length - 512..].fill(0);
            let end = (512 + at + 8).min(512 + 92);
            disk[512 + at..end].copy_from_slice(&bytes[..end - 512 - at]);
            disk[512 + 16..512 + 20].fill(0);
            let crc = crc32(&disk[512..512 + 92]);
            disk[512 + 16..512 + 20].copy_from_slice(&crc.to_le_bytes());
            let _ = Table::read(disk.as_slice(), geometry).unwrap();
        }
    }
}
