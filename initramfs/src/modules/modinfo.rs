//! What a kernel module says about itself: the `.modinfo` section of its ELF file.

use crate::index;

/// The facts of one module that decide what is loaded with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModuleInfo {
    /// Its name, with `_`; modules since Linux 4.12 carry it.
    pub name: Option<String>,
    /// Modules whose symbols it uses.
    pub depends: Vec<String>,
    /// Names or aliases to try before it.
    pub soft_before: Vec<String>,
    /// Names or aliases to try after it.
    pub soft_after: Vec<String>,
    /// Patterns of the devices and requests it serves.
    pub aliases: Vec<String>,
    /// Firmware files it may ask for.
    pub firmware: Vec<String>,
}

/// Why a file is not a kernel module.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModuleInfoError {
    /// Not a 64-bit little-endian ELF file.
    #[error("not a 64-bit little-endian ELF file")]
    NotElf,
    /// A table or section lies outside the file.
    #[error("the ELF section table points outside the file")]
    OutOfBounds,
    /// No `.modinfo` section.
    #[error("the ELF file has no .modinfo section, so it is not a kernel module")]
    NoModinfo,
}

impl ModuleInfo {
    /// Reads the `.modinfo` section of a module file. An appended signature does no harm.
    ///
    /// # Errors
    /// When the bytes are not a kernel module.
    pub fn read(file: &[u8]) -> Result<ModuleInfo, ModuleInfoError> {
        Ok(ModuleInfo::parse(section(file, b".modinfo")?))
    }

    /// Reads `key=value` strings separated by NUL. Keys it does not know are skipped.
    fn parse(section: &[u8]) -> ModuleInfo {
        let mut info = ModuleInfo::default();
        for field in section.split(|byte| *byte == 0) {
            let Some((key, value)) = str::from_utf8(field).ok().and_then(|field| field.split_once('=')) else {
                continue;
            };
            match key {
                "name" => info.name = Some(index::fold_name(value)),
                "alias" => info.aliases.push(value.to_owned()),
                "firmware" if !info.firmware.iter().any(|known| known == value) => info.firmware.push(value.to_owned()),
                "depends" => {
                    info.depends.extend(value.split(',').filter(|name| !name.is_empty()).map(index::fold_name));
                }
                "softdep" => info.soft_dependency(value),
                _ => {}
            }
        }
        info
    }

    /// `pre: a b post: c`. Words before the first marker mean nothing, as for modprobe.
    fn soft_dependency(&mut self, value: &str) {
        let mut list = None;
        for word in value.split_ascii_whitespace() {
            match word {
                "pre:" => list = Some(&mut self.soft_before),
                "post:" => list = Some(&mut self.soft_after),
                name => {
                    if let Some(list) = list.as_mut() {
                        list.push(name.to_owned());
                    }
                }
            }
        }
    }
}

/// The bytes of a named section of a 64-bit little-endian ELF file.
fn section<'a>(file: &'a [u8], wanted: &[u8]) -> Result<&'a [u8], ModuleInfoError> {
    if !file.starts_with(b"\x7fELF\x02\x01") || file.len() < 64 {
        return Err(ModuleInfoError::NotElf);
    }
    let table = number(file, 40, 8)?;
    let entry_size = number(file, 58, 2)?;
    let entries = number(file, 60, 2)?;
    let names_entry = number(file, 62, 2)?;
    let header = |place: usize| {
        let start = place.checked_mul(entry_size).and_then(|at| at.checked_add(table));
        start.ok_or(ModuleInfoError::OutOfBounds)
    };
    let contents = |header: usize| slice(file, number(file, header + 24, 8)?, number(file, header + 32, 8)?);
    let names = contents(header(names_entry)?)?;
    for place in 0..entries {
        let header = header(place)?;
        let name = names.get(number(file, header, 4)?..).ok_or(ModuleInfoError::OutOfBounds)?;
        if name.strip_prefix(wanted).is_some_and(|rest| rest.first() == Some(&0)) {
            return contents(header);
        }
    }
    Err(ModuleInfoError::NoModinfo)
}

fn number(file: &[u8], at: usize, width: usize) -> Result<usize, ModuleInfoError> {
    let number = slice(file, at, width)?.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    usize::try_from(number).map_err(|_| ModuleInfoError::OutOfBounds)
}

fn slice(file: &[u8], start: usize, len: usize) -> Result<&[u8], ModuleInfoError> {
    start.checked_add(len).and_then(|end| file.get(start..end)).ok_or(ModuleInfoError::OutOfBounds)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The smallest ELF file with a `.modinfo` section of these fields.
    pub(crate) fn elf(fields: &[&str]) -> Vec<u8> {
        let names = b"\0.shstrtab\0.modinfo\0";
        let info: Vec<u8> = fields.iter().flat_map(|field| field.bytes().chain([0])).collect();
        let (names_at, info_at) = (64, 64 + names.len());
        let table = info_at + info.len();
        let mut file = vec![0u8; 64];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[40..48].copy_from_slice(&(table as u64).to_le_bytes());
        file[58] = 64;
        file[60] = 3;
        file[62] = 1;
        file.extend_from_slice(names);
        file.extend_from_slice(&info);
        for (name, at, len) in [(0u32, 0, 0), (1, names_at, names.len()), (11, info_at, info.len())] {
            let mut header = [0u8; 64];
            header[..4].copy_from_slice(&name.to_le_bytes());
            header[24..32].copy_from_slice(&(at as u64).to_le_bytes());
            header[32..40].copy_from_slice(&(len as u64).to_le_bytes());
            file.extend_from_slice(&header);
        }
        file
    }

    #[test]
    fn the_fields_that_matter_are_read() {
        let info = ModuleInfo::read(&elf(&[
            "license=GPL",
            "depends=libphy,ptp-core",
            "alias=pci:v000014E4d*",
            "alias=fs-xfs",
            "firmware=tigon/tg3.bin",
            "firmware=tigon/tg3.bin",
            "softdep=stray pre: crc32c crypto-x post: late",
            "softdep=post: later",
            "name=tg-3",
            "broken",
        ]))
        .unwrap();
        assert_eq!(
            info,
            ModuleInfo {
                name: Some("tg_3".into()),
                depends: vec!["libphy".into(), "ptp_core".into()],
                soft_before: vec!["crc32c".into(), "crypto-x".into()],
                soft_after: vec!["late".into(), "later".into()],
                aliases: vec!["pci:v000014E4d*".into(), "fs-xfs".into()],
                firmware: vec!["tigon/tg3.bin".into()],
            }
        );
    }

    #[test]
    fn other_files_are_refused() {
        assert_eq!(ModuleInfo::read(b"#!/bin/sh"), Err(ModuleInfoError::NotElf));
        assert_eq!(ModuleInfo::read(&elf(&[])[..100]), Err(ModuleInfoError::OutOfBounds));
        let mut renamed = elf(&["name=x"]);
        renamed[64 + 12] = b'X';
        assert_eq!(ModuleInfo::read(&renamed), Err(ModuleInfoError::NoModinfo));
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(changes in prop::collection::vec((0usize..400, any::<u8>()), 0..6), cut in 0usize..400) {
            let mut file = elf(&["name=x", "depends=a,b", "alias=pci:*"]);
            for (at, byte) in changes {
                let len = file.len();
                file[at % len] = byte;
            }
            file.truncate(cut);
            let _ = ModuleInfo::read(&file);
        }
    }
}
