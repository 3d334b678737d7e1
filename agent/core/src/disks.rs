//! Disks: what is on them, what the operator's rules want of them, and what follows from both. Nothing is ever written to
//! a disk no rule picks, and nothing of somebody else's is overwritten unless it was said so.

pub mod content;
pub mod decide;
pub mod gpt;
pub mod layout;
pub mod preparing;
