//! What somebody has written to a disk: partition tables, file systems and the labels of everything that takes disks
//! together, by their magic numbers. Whatever is not known is still not nothing.

use std::io;

/// Something to look into: a disk, a file, or bytes.
pub trait Readable {
    /// Its size.
    fn size(&self) -> u64;
    /// Fills the buffer from there.
    ///
    /// # Errors
    /// The disk gives no answer, or ends before.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl Readable for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok().and_then(|from| self.get(from..));
        let from = from.and_then(|from| from.get(..buffer.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    }
}

/// A magic number at a fixed place from the beginning.
struct Magic {
    name: &'static str,
    at: u64,
    bytes: &'static [u8],
}

const fn magic(name: &'static str, at: u64, bytes: &'static [u8]) -> Magic {
    Magic { name, at, bytes }
}

const KIB: u64 = 1024;
/// Where things begin.
const FROM_START: &[Magic] = &[
    magic("LUKS", 0, b"LUKS\xba\xbe"),
    magic("XFS", 0, b"XFSB"),
    magic("squashfs", 0, b"hsqs"),
    magic("Ceph bluestore", 0, b"bluestore block device"),
    magic("NTFS", 3, b"NTFS    "),
    magic("exFAT", 3, b"EXFAT   "),
    magic("BitLocker", 3, b"-FVE-FS-"),
    magic("Oracle ASM", 32, b"ORCLDISK"),
    magic("FAT", 54, b"FAT"),
    magic("FAT", 82, b"FAT32"),
    magic("Apple partition map", 512, b"PM\0\0"),
    magic("LVM", 0, b"LABELONE"),
    magic("LVM", 512, b"LABELONE"),
    magic("LVM", KIB, b"LABELONE"),
    magic("LVM", 1536, b"LABELONE"),
    magic("ext2, ext3 or ext4", KIB + 56, b"\x53\xef"),
    magic("HFS+", KIB, b"H+\0"),
    magic("F2FS", KIB, b"\x10\x20\xf5\xf2"),
    magic("Linux RAID", 0, b"\xfc\x4e\x2b\xa9"),
    magic("Linux RAID", 4 * KIB, b"\xfc\x4e\x2b\xa9"),
    magic("bcache", 4 * KIB + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
    magic("bcachefs", 4 * KIB + 24, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    magic("swap", 4 * KIB - 10, b"SWAPSPACE2"),
    magic("swap", 4 * KIB - 10, b"SWAP-SPACE"),
    magic("suspended system", 4 * KIB - 10, b"S1SUSPEND"),
    magic("swap", 64 * KIB - 10, b"SWAPSPACE2"),
    magic("LUKS", 16 * KIB, b"SKUL\xba\xbe"),
    magic("LUKS", 32 * KIB, b"SKUL\xba\xbe"),
    magic("LUKS", 64 * KIB, b"SKUL\xba\xbe"),
    magic("LUKS", 128 * KIB, b"SKUL\xba\xbe"),
    magic("LUKS", 256 * KIB, b"SKUL\xba\xbe"),
    magic("LUKS", 512 * KIB, b"SKUL\xba\xbe"),
    magic("LUKS", 1024 * KIB, b"SKUL\xba\xbe"),
    magic("LUKS", 2048 * KIB, b"SKUL\xba\xbe"),
    magic("LUKS", 4096 * KIB, b"SKUL\xba\xbe"),
    magic("JFS", 32 * KIB, b"JFS1"),
    magic("ISO 9660", 32 * KIB + 1, b"CD001"),
    magic("UDF", 32 * KIB + 1, b"BEA01"),
    magic("reiserfs", 64 * KIB + 52, b"ReIsEr"),
    magic("btrfs", 64 * KIB + 64, b"_BHRfS_M"),
    magic("GFS2", 64 * KIB, b"\x01\x16\x19\x70"),
    magic("VMFS", 1024 * KIB, b"\x0d\xd0\x01\xc0"),
];

/// From the end, where older RAIDs and firmware's have their labels.
const FROM_END: &[Magic] = &[
    magic("Linux RAID", 8 * KIB, b"\xfc\x4e\x2b\xa9"),
    magic("firmware RAID (Intel)", KIB, b"Intel Raid ISM Cfg Sig. "),
    magic("firmware RAID (DDF)", 512, b"\xde\x11\xde\x11"),
    magic("firmware RAID (DDF)", 512, b"\x11\xde\x11\xde"),
];

/// What is read of the beginning at once.
const HEAD: u64 = 4 << 20;
/// What of the beginning has to be empty for a disk nobody has used.
const EMPTY: usize = 1 << 20;
/// ZFS keeps 128 uberblocks in the second half of each label of 256 KiB, two labels at each end.
const UBERBLOCK: [u8; 8] = 0x00ba_b10c_u64.to_le_bytes();

/// Everything that is found, by name, without repeats. Nothing at all: the disk is empty.
///
/// # Errors
/// It cannot be read.
pub fn signatures(of: &(impl Readable + ?Sized)) -> io::Result<Vec<&'static str>> {
    let size = of.size();
    let mut head = vec![0; usize::try_from(size.min(HEAD)).unwrap_or(0)];
    of.read_at(0, &mut head)?;
    let mut found: Vec<&'static str> = Vec::new();
    let mut add = |name: &'static str| {
        if !found.contains(&name) {
            found.push(name);
        }
    };
    // With the sector sizes there are.
    if [512_usize, 4096].into_iter().any(|sector| head.get(sector..).is_some_and(|at| at.starts_with(b"EFI PART"))) {
        add("GPT");
    }
    let mut last = [0; 4096];
    let at_end = size.checked_sub(4096);
    if let Some(at) = at_end {
        of.read_at(at, &mut last)?;
    }
    if last.starts_with(b"EFI PART") || last[4096 - 512..].starts_with(b"EFI PART") {
        add("GPT");
    }
    for one in FROM_START {
        if reads(of, &head, one.at, one.bytes)? {
            add(one.name);
        }
    }
    for one in FROM_END {
        if let Some(at) = size.checked_sub(one.at)
            && reads(of, &head, at, one.bytes)?
        {
            add(one.name);
        }
    }
    // Version 0.90 is in the last 64 KiB that begin at a multiple of them.
    if let Some(at) = (size & !(64 * KIB - 1)).checked_sub(64 * KIB)
        && reads(of, &head, at, b"\xfc\x4e\x2b\xa9")?
    {
        add("Linux RAID");
    }
    if is_zfs(of, size)? {
        add("ZFS");
    }
    if has_partitions(&head) {
        add("MBR");
    }
    let is_blank =
        |bytes: &[u8]| bytes.iter().all(|byte| *byte == bytes[0]) && matches!(bytes.first(), None | Some(0 | 0xff));
    let begin = &head[..head.len().min(EMPTY)];
    if found.is_empty() && !(is_blank(begin) && is_blank(&last)) {
        found.push("data of an unknown kind");
    }
    Ok(found)
}

fn reads(of: &(impl Readable + ?Sized), head: &[u8], at: u64, expected: &[u8]) -> io::Result<bool> {
    if at.checked_add(expected.len() as u64).is_none_or(|end| end > of.size()) {
        return Ok(false);
    }
    let known = usize::try_from(at).ok().and_then(|at| head.get(at..)?.get(..expected.len()));
    if let Some(known) = known {
        return Ok(known == expected);
    }
    let mut bytes = vec![0; expected.len()];
    of.read_at(at, &mut bytes)?;
    Ok(bytes == expected)
}

fn is_zfs(of: &(impl Readable + ?Sized), size: u64) -> io::Result<bool> {
    const LABEL: u64 = 256 * KIB;
    let aligned = size & !(LABEL - 1);
    let labels = [Some(0), Some(LABEL), aligned.checked_sub(2 * LABEL), aligned.checked_sub(LABEL)];
    let mut ring = vec![0; 128 << 10];
    for label in labels.into_iter().flatten() {
        if label + LABEL > size {
            continue;
        }
        of.read_at(label + LABEL / 2, &mut ring)?;
        let is = |block: &[u8]| block.starts_with(&UBERBLOCK) || block.iter().take(8).eq(UBERBLOCK.iter().rev());
        if ring.chunks(1 << 10).any(is) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A partition table of the old kind that says something. A FAT ends its first sector in the same way.
fn has_partitions(head: &[u8]) -> bool {
    let Some(sector) = head.get(..512).filter(|sector| sector.ends_with(b"\x55\xaa")) else { return false };
    let entries = sector[446..510].chunks(16);
    let is_entry = |entry: &[u8]| matches!(entry[0], 0 | 0x80);
    let mut any = false;
    for entry in entries {
        // Code instead of entries.
        if !is_entry(entry) {
            return false;
        }
        any |= entry[4] != 0;
    }
    any
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut disk = vec![0; 6 << 20];
        disk[at..at + bytes.len()].copy_from_slice(bytes);
        disk
    }

    #[test]
    fn every_magic_number_is_found_where_it_stands() {
        for one in FROM_START {
            let disk = with(usize::try_from(one.at).unwrap(), one.bytes);
            assert_eq!(signatures(disk.as_slice()).unwrap(), [one.name], "{} at {}", one.name, one.at);
        }
        for one in FROM_END {
            let disk = with((6 << 20) - usize::try_from(one.at).unwrap(), one.bytes);
            assert_eq!(signatures(disk.as_slice()).unwrap(), [one.name], "{} at the end", one.name);
        }
        for (at, name) in [((6 << 20) - (64 << 10), "Linux RAID"), (256 << 10, ""), (384 << 10, "ZFS")] {
            let bytes: &[u8] = if name == "ZFS" { &UBERBLOCK } else { b"\xfc\x4e\x2b\xa9" };
            let expected = if name.is_empty() { "data of an unknown kind" } else { name };
            assert_eq!(signatures(with(at, bytes).as_slice()).unwrap(), [expected]);
        }
    }

    #[test]
    fn an_empty_disk_is_empty_and_a_disk_with_data_is_not() {
        for size in [0, 1, 511, 512, 4095, 4096, 1 << 20, 5 << 20] {
            assert!(signatures(vec![0; size].as_slice()).unwrap().is_empty(), "{size}");
            assert!(signatures(vec![0xff; size].as_slice()).unwrap().is_empty(), "{size}");
        }
        assert_eq!(signatures(with(700_000, b"x").as_slice()).unwrap(), ["data of an unknown kind"]);
    }

    #[test]
    fn partition_tables_are_told_from_boot_sectors() {
        let mut disk = with(510, b"\x55\xaa");
        assert_eq!(signatures(disk.as_slice()).unwrap(), ["data of an unknown kind"]);
        disk[450] = 0x83;
        assert_eq!(signatures(disk.as_slice()).unwrap(), ["MBR"]);
        disk[446] = 0x13;
        assert_eq!(signatures(disk.as_slice()).unwrap(), ["data of an unknown kind"]);
        for at in [512, 4096, (6 << 20) - 512, (6 << 20) - 4096] {
            assert_eq!(signatures(with(at, b"EFI PART").as_slice()).unwrap(), ["GPT"], "{at}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_makes_it_panic(
            size in 0usize..300_000,
            marks in proptest::collection::vec((any::<usize>(), any::<u8>()), 0..64),
        ) {
            let mut disk = vec![0; size];
            for (at, byte) in marks {
                if size > 0 {
                    disk[at % size] = byte;
                }
            }
            let found = signatures(disk.as_slice()).unwrap();
            prop_assert!(!found.is_empty() || disk.iter().take(EMPTY).all(|byte| *byte == disk[0]));
        }
    }
}
