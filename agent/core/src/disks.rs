//! Disks: what is on them, what the operator's rules want of them, and what follows from both. Nothing is ever written to
//! a disk no rule picks, and nothing of somebody else's is overwritten unless it was said so.

pub mod content;
pub mod decide;
pub mod gpt;
pub mod layout;
pub mod preparing;

/// What kind of disk it is: one of [`api::disks::CLASSES`].
#[must_use]
pub fn class(disk: &hwdetect::Disk) -> &'static str {
    crate::attributes::disk_type(disk)
}
