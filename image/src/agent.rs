//! The one binary of the image: checked to run without any library, and freed of what only debuggers read.

use anyhow::{Result, bail, ensure};

const ELF64_LITTLE: &[u8] = b"\x7fELF\x02\x01";
const HEADER_LEN: usize = 64;
const PROGRAM_HEADER_LEN: usize = 56;
const PT_LOAD: u64 = 1;
const PT_INTERP: u64 = 3;
const X86_64: u64 = 62;

/// Checks that a file is a static x86-64 executable and gives the part of it that is used at run time.
///
/// Symbols and debug information lie after the last loaded segment and are found by the section table; the kernel
/// reads neither. Without them a development build loads in a fraction of the memory.
pub(crate) fn prepare(file: &[u8]) -> Result<Vec<u8>> {
    ensure!(file.starts_with(ELF64_LITTLE) && file.len() >= HEADER_LEN, "not a 64-bit ELF executable");
    ensure!(number(file, 18, 2)? == X86_64, "not an x86-64 executable");
    let table = position(file, 32, 8)?;
    let entry_len = position(file, 54, 2)?;
    let entries = position(file, 56, 2)?;
    ensure!(entry_len == PROGRAM_HEADER_LEN, "its program headers have an unknown shape");
    let mut end = HEADER_LEN;
    let mut loaded = false;
    for place in 0..entries {
        let header = table.saturating_add(place * entry_len);
        let segment =
            position(file, header.saturating_add(8), 8)?.checked_add(position(file, header.saturating_add(32), 8)?);
        match number(file, header, 4)? {
            PT_INTERP => {
                bail!("it is dynamically linked; PID 1 finds no libraries in the image, so link it statically")
            }
            kind => loaded |= kind == PT_LOAD,
        }
        let used = segment.map(|end| end.max(header.saturating_add(entry_len)));
        let Some(used) = used.filter(|used| *used <= file.len()) else {
            bail!("the executable is cut off");
        };
        end = end.max(used);
    }
    ensure!(loaded, "it loads nothing, so it is no executable");
    let mut kept = file[..end].to_vec();
    for range in [40..48, 58..64] {
        kept[range].fill(0);
    }
    Ok(kept)
}

fn position(file: &[u8], at: usize, width: usize) -> Result<usize> {
    Ok(usize::try_from(number(file, at, width)?)?)
}

fn number(file: &[u8], at: usize, width: usize) -> Result<u64> {
    let Some(bytes) = at.checked_add(width).and_then(|end| file.get(at..end)) else {
        bail!("the executable is cut off");
    };
    Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An executable with one segment of this kind over its first 200 bytes, and something after it.
    fn elf(kind: u8) -> Vec<u8> {
        let mut file = vec![0xee; 300];
        file[..HEADER_LEN].fill(0);
        file[..6].copy_from_slice(ELF64_LITTLE);
        file[18] = 62;
        file[32] = 64;
        file[40] = 250;
        file[54] = 56;
        file[56] = 1;
        file[60] = 1;
        file[64..120].fill(0);
        file[64] = kind;
        file[96] = 200;
        file
    }

    #[test]
    fn only_the_loaded_part_is_kept() {
        let kept = prepare(&elf(1)).unwrap();
        assert_eq!(kept.len(), 200);
        assert_eq!(kept[40], 0);
        assert_eq!(kept[60], 0);
        assert_eq!(prepare(&kept).unwrap(), kept);
    }

    #[test]
    fn what_cannot_be_init_is_refused_with_the_reason() {
        let mut foreign = elf(1);
        foreign[18] = 183;
        let cases = [
            (elf(3), "dynamically linked"),
            (elf(2), "loads nothing"),
            (elf(1)[..150].to_vec(), "cut off"),
            (foreign, "not an x86-64"),
            (b"#!/bin/sh\n".to_vec(), "not a 64-bit ELF"),
        ];
        for (file, expected) in cases {
            let error = format!("{:#}", prepare(&file).unwrap_err());
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(changes in prop::collection::vec((0usize..130, any::<u8>()), 0..6), cut in 0usize..300) {
            let mut file = elf(1);
            for (at, byte) in changes {
                file[at] = byte;
            }
            file.truncate(cut);
            let _ = prepare(&file);
        }
    }
}
