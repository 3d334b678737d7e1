//! The one clock of a node's supervision: time since boot, which no administrator sets.

use nix::time::{ClockId, clock_gettime};

/// Milliseconds since the machine booted, time in suspension included.
pub(crate) fn millis() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).expect("the kernel has a boot-time clock");
    let millis = now.tv_sec().saturating_mul(1000).saturating_add(now.tv_nsec() / 1_000_000);
    u64::try_from(millis).unwrap_or_default()
}
