//! Scalar quantities in thousandths.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A scalar resource in thousandths: Mesos compares scalars to three decimals, and floats do
/// not add up (0.1 + 0.2 cpus must equal 0.3). 1 cpu is 1000, 1 MiB of memory is 1000.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Milli(pub u64);

impl Milli {
    /// Nothing at all.
    pub const ZERO: Self = Self(0);

    /// Rounds to the nearest thousandth. `None` for a negative number, NaN, or one too large to hold.
    #[must_use]
    pub fn from_units(units: f64) -> Option<Self> {
        let thousandths = (units * 1000.0).round();
        // 2^53: beyond it a float no longer counts thousandths exactly.
        if thousandths.is_finite() && (0.0..=9_007_199_254_740_992.0).contains(&thousandths) {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked on the line above
            return Some(Self(thousandths as u64));
        }
        None
    }

    /// As a number of units, the form of the wire.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // from_units keeps values below 2^53
    pub fn units(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// The sum, held at the largest value instead of wrapping.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference, or zero.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The difference, or `None` below zero.
    #[must_use]
    pub const fn checked_sub(self, other: Self) -> Option<Self> {
        match self.0.checked_sub(other.0) {
            Some(rest) => Some(Self(rest)),
            None => None,
        }
    }
}

impl fmt::Display for Milli {
    /// As Mesos prints scalars: no trailing zeros.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let text = format!("{part:03}");
        write!(f, "{whole}.{}", text.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenths_add_up() {
        let sum = Milli::from_units(0.1).unwrap().saturating_add(Milli::from_units(0.2).unwrap());
        assert_eq!(sum, Milli::from_units(0.3).unwrap());
    }

    #[test]
    fn nonsense_is_refused_and_text_is_short() {
        for bad in [-1.0, f64::NAN, f64::INFINITY, 1e300] {
            assert_eq!(Milli::from_units(bad), None, "{bad}");
        }
        for (units, text) in [(1.0, "1"), (0.5, "0.5"), (1.25, "1.25"), (0.001, "0.001"), (2.1004, "2.1")] {
            assert_eq!(Milli::from_units(units).unwrap().to_string(), text);
        }
    }
}
