//! The SMBIOS decoder on any bytes. From `hwdetect/`, with real tables to begin from:
//!
//! ```text
//! mkdir -p fuzz/corpus/smbios
//! cargo +nightly fuzz run smbios fuzz/corpus/smbios fuzz/seeds/smbios
//! ```
#![no_main]

use hwdetect::smbios::{parse, parse_version};
use libfuzzer_sys::fuzz_target;
use read_all::read_all;

#[path = "../read_all.rs"]
mod read_all;

fuzz_target!(|bytes: &[u8]| {
    let _ = parse_version(bytes);
    let tables = parse(bytes);
    assert!(tables.structures.len() * 6 <= bytes.len(), "a structure takes at least six bytes");
    read_all(&tables);
});
