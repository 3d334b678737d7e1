//! The bytes of an initramfs: reproducible cpio archives, kernel modules with what they need, and their index.
//!
//! Everything here is a function from bytes to bytes. [`manifest`] says what goes in, [`cpio`] writes it, [`modules`]
//! chooses kernel modules when an image is built, and [`index`] is what PID 1 reads at run time.

pub mod cpio;
pub mod index;
pub mod manifest;
pub mod modules;

pub use manifest::{Entry, EntryKind, Manifest};
