//! System calls that `nix` does not wrap safely: everything the project needs `unsafe` for.
//!
//! Each function is safe outside and makes one call inside, with the reason it is sound beside it.

pub mod clock;
pub mod disk;
pub mod ethernet;
pub mod idmap;
pub mod inherit;
pub mod loopback;
pub mod memory;
pub mod packet;
pub mod pidfd;
pub mod quota;
pub mod sealed;
pub mod seccomp;
pub mod signal;
pub mod terminal;
pub mod wait;
pub mod watchdog;
