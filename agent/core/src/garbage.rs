//! How long what ended tasks leave is kept: a week, or as much less as the file system is full (Mesos's rule).

/// What the operator wants of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// `gc_delay`: how long something is kept on an empty file system.
    pub delay_ms: u64,
    /// `gc_disk_headroom`, in thousandths: so much of it shall stay free.
    pub headroom: u64,
}

impl Default for Policy {
    /// Mesos's: a week, and a tenth.
    fn default() -> Self {
        Self { delay_ms: 7 * 24 * 3600 * 1000, headroom: 100 }
    }
}

impl Policy {
    /// How old something may become while so many thousandths of the file system are in use.
    #[must_use]
    pub const fn max_age_ms(&self, used: u64) -> u64 {
        let left = 1000u64.saturating_sub(self.headroom).saturating_sub(used);
        // Neither a week nor a year comes near the end of what fits.
        self.delay_ms / 1000 * left
    }

    /// Is something to go that was last touched then?
    #[must_use]
    pub const fn goes(&self, touched_ms: u64, now_ms: u64, used: u64) -> bool {
        now_ms.saturating_sub(touched_ms) > self.max_age_ms(used)
    }
}

/// `0.1` as thousandths; only parts of one.
#[must_use]
pub fn parse_headroom(text: &str) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    if whole.is_empty() || rest.len() > 3 || !digits(whole) || !digits(rest) {
        return None;
    }
    let headroom = whole.parse::<u64>().ok()?.checked_mul(1000)? + format!("{rest:0<3}").parse::<u64>().ok()?;
    (headroom <= 1000).then_some(headroom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;
    const WEEK: u64 = 7 * 24 * HOUR;

    #[test]
    fn the_fuller_the_file_system_the_sooner_everything_goes() {
        let policy = Policy::default();
        for (used, expected) in [(0, WEEK / 10 * 9), (400, WEEK / 2), (850, WEEK / 20), (900, 0), (1000, 0)] {
            assert_eq!(policy.max_age_ms(used), expected, "{used}");
        }
        let now = 100 * WEEK;
        assert!(!policy.goes(now - 6 * 24 * HOUR, now, 0) && policy.goes(now - WEEK, now, 0));
        assert!(!policy.goes(now - 8 * HOUR, now, 850) && policy.goes(now - 9 * HOUR, now, 850));
        assert!(policy.goes(now - 1, now, 950) && !policy.goes(now, now, 950), "what ends now is still there");
        // A clock that was set back makes nothing old.
        assert!(!policy.goes(now + HOUR, now, 950));
        let short = Policy { delay_ms: 10_000, headroom: 0 };
        assert_eq!((short.max_age_ms(0), short.max_age_ms(500)), (10_000, 5_000));
    }

    #[test]
    fn the_headroom_is_a_part_of_one() {
        for (text, headroom) in
            [("0.1", Some(100)), ("0", Some(0)), ("1", Some(1000)), ("0.125", Some(125)), ("0.05", Some(50))]
        {
            assert_eq!(parse_headroom(text), headroom, "{text}");
        }
        for bad in ["", ".", ".5", "1.1", "2", "-0.1", "0.1234", "x", "0.x"] {
            assert_eq!(parse_headroom(bad), None, "{bad}");
        }
    }
}
