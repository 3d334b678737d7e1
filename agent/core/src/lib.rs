//! The agent's decisions, without IO.
//!
//! The life of a machine: [`cmdline`] says where the master is, [`network`] what its links shall be, [`dhcp`] and [`dhcp6`] bring addresses, [`dns`] names, [`sntp`] the
//! time, [`lldp`] the switches it is plugged into, [`capacity`] turns what was found into resources and
//! [`attributes`] into what constraints match on, [`registration`] walks from searching to registered, [`standby`] keeps the
//! next leader at hand. Then the life of a task: [`agent::Agent`] takes a `RunTask`, [`launch`] turns it into a
//! container specification, [`container`] walks it from preparing to gone, [`status`] repeats each
//! update until it is acknowledged, and [`recovery`] picks all of it up again after the process died.
//!
//! Nothing here reads a clock, a file or a socket. Times are milliseconds since boot (`now_ms`), because
//! they must survive a restart of the process; what is shown to frameworks is seconds since 1970.

pub mod agent;
pub mod attributes;
pub mod backoff;
pub mod bridge;
pub mod capacity;
pub mod checks;
pub mod cmdline;
pub mod container;
pub mod cores;
pub mod debounce;
pub mod dhcp;
pub mod dhcp6;
pub mod disks;
pub mod dns;
pub mod ending;
pub mod executor;
pub mod garbage;
pub mod gpus;
pub mod handover;
pub mod ids;
pub mod image;
pub mod launch;
pub mod lldp;
pub mod network;
pub mod overrun;
pub mod randomness;
pub mod record;
pub mod recovery;
pub mod registration;
pub mod sntp;
pub mod standby;
pub mod status;
pub mod status_page;
pub mod timekeeping;
