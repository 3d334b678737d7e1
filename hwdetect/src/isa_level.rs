//! The x86-64 microarchitecture levels of the psABI (section 3.1.1), which distributions compile for.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What compiled code may assume. Each level includes those before it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum IsaLevel {
    /// Every 64-bit processor.
    V1,
    /// From about 2009: SSE4.2, POPCNT.
    V2,
    /// From about 2013: AVX2, FMA, BMI.
    V3,
    /// AVX-512 in the form of 2017.
    V4,
}

/// What each level adds, in the kernel's names for the flags: `pni` is SSE3, `abm` is LZCNT.
const LEVELS: [(IsaLevel, &[&str]); 4] = [
    (IsaLevel::V1, &["lm", "cmov", "cx8", "fpu", "fxsr", "mmx", "syscall", "sse", "sse2"]),
    (IsaLevel::V2, &["cx16", "lahf_lm", "popcnt", "pni", "ssse3", "sse4_1", "sse4_2"]),
    (IsaLevel::V3, &["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe", "xsave"]),
    (IsaLevel::V4, &["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
];

impl IsaLevel {
    /// The highest level whose flags are all there. `None` for what is no 64-bit x86.
    #[must_use]
    pub fn of_flags(flags: &BTreeSet<String>) -> Option<Self> {
        LEVELS
            .iter()
            .take_while(|(_, needs)| needs.iter().all(|flag| flags.contains(*flag)))
            .map(|(level, _)| *level)
            .last()
    }
}

impl fmt::Display for IsaLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "x86-64-v1",
            Self::V2 => "x86-64-v2",
            Self::V3 => "x86-64-v3",
            Self::V4 => "x86-64-v4",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_needs_all_flags_of_those_below_it() {
        let mut flags = BTreeSet::new();
        assert_eq!(IsaLevel::of_flags(&flags), None);
        for (level, adds) in LEVELS {
            flags.extend(adds.iter().map(|flag| (*flag).to_owned()));
            assert_eq!(IsaLevel::of_flags(&flags), Some(level));
        }
        flags.remove("popcnt");
        assert_eq!(IsaLevel::of_flags(&flags), Some(IsaLevel::V1));
    }
}
