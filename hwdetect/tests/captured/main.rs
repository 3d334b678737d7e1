//! Detection over captured machines: trees of `/sys` and `/proc` in `tests/machines/*.tar.gz`.

// Clippy takes only functions marked `#[test]` for tests; here the others are tests' helpers.
#![allow(clippy::unwrap_used)]

mod capture;
mod command;
mod damage;
mod facts;
mod golden;
mod large;
mod made_up;
mod smbios_bytes;
