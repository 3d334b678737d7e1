//! The SMBIOS decoder on arbitrary bytes and on damaged real tables. `fuzz/` does the same for as long as one likes.

use std::fs;
use std::sync::OnceLock;

use hwdetect::smbios::{parse, parse_version};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::capture::unpack;
use read_all::read_all;

#[path = "../../fuzz/read_all.rs"]
mod read_all;

/// The tables of the machines that have some.
fn real_tables() -> &'static [Vec<u8>] {
    static TABLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    TABLES.get_or_init(|| {
        ["compute-numa", "storage", "uefi-epyc", "netstack"]
            .map(|machine| fs::read(unpack(machine).path().join("sys/firmware/dmi/tables/DMI")).unwrap())
            .to_vec()
    })
}

#[test]
fn a_real_table_cut_anywhere_gives_the_structures_before_the_cut() {
    for table in real_tables() {
        let whole = parse(table);
        assert!(whole.structures.len() > 8, "{}", whole.structures.len());
        for end in 0..table.len() {
            let cut = parse(&table[..end]);
            read_all(&cut);
            assert!(whole.structures.starts_with(&cut.structures), "cut at {end}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_decoded(bytes in vec(any::<u8>(), 0..2048)) {
        read_all(&parse(&bytes));
        let _ = parse_version(&bytes);
    }

    #[test]
    fn any_bytes_with_a_plausible_header_are_decoded(
        kind in proptest::sample::select(vec![0u8, 1, 2, 3, 11, 16, 17, 38, 41, 127]),
        length in 0u8..100,
        tail in vec(any::<u8>(), 0..300),
    ) {
        let mut bytes = vec![kind, length, 0, 0];
        bytes.extend(tail);
        bytes.extend([0, 0]);
        read_all(&parse(&bytes));
    }

    #[test]
    fn a_damaged_real_table_is_decoded(
        which in any::<Index>(),
        changes in vec((any::<Index>(), any::<u8>()), 1..40),
        removed in proptest::option::of((any::<Index>(), 1usize..40)),
        inserted in proptest::option::of((any::<Index>(), vec(any::<u8>(), 1..40))),
    ) {
        let mut bytes = which.get(real_tables()).clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some((at, count)) = removed {
            let at = at.index(bytes.len());
            bytes.drain(at..(at + count).min(bytes.len()));
        }
        if let Some((at, more)) = inserted {
            let at = at.index(bytes.len() + 1);
            bytes.splice(at..at, more);
        }
        let tables = parse(&bytes);
        read_all(&tables);
        // A structure takes at least six bytes: nothing is made up.
        prop_assert!(tables.structures.len() * 6 <= bytes.len());
    }
}
