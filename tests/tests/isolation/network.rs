//! Networks of containers.

use super::Case;

pub(super) const CASES: &[Case] = &[];
