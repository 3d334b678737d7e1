//! Which of several time servers to believe, and what to do to the clock: a step when it is far off, else a slew.
//!
//! Pure: the shell asks the servers and moves the clock. Times are milliseconds of a clock that never jumps.

use crate::sntp::Exchange;

/// Further off than this a clock is stepped: slewing 128 ms takes minutes.
pub const STEP_US: i64 = 128_000;
/// A clock that was right is stepped only when it is found wrong so many times in a row: one answer may be late.
const STEPS_AFTER: u32 = 3;
/// Two clocks agree if they can both be right within what the network hides, and this.
const SLACK_US: i64 = 5_000;
/// Between two looks: at first, and at most.
const SHORTEST_MS: u64 = 16_000;
const LONGEST_MS: u64 = 1_024_000;
/// After a look without an answer.
const RETRY_MS: u64 = 8_000;
/// So near, the next look may be later.
const NEAR_US: i64 = 5_000;

/// What is to be done to the clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Correction {
    /// Nothing.
    None,
    /// It jumps by so much.
    Step {
        /// Microseconds.
        offset_us: i64,
    },
    /// It runs faster or slower until it is right; the kernel learns its drift by it.
    Slew {
        /// Microseconds.
        offset_us: i64,
        /// Of the kernel's loop: the logarithm of the time between two looks.
        constant: u8,
    },
}

/// Believes what most servers can agree on: the offset in the middle of the interval that most of their intervals share.
/// Of one server its word; of two that disagree the one that answered faster.
#[must_use]
pub fn believe(answers: &[Exchange]) -> Option<Exchange> {
    let half = |answer: &Exchange| answer.delay_us / 2 + SLACK_US;
    let agree = |at: i64| {
        answers
            .iter()
            .filter(move |answer| (answer.offset_us - half(answer)..=answer.offset_us + half(answer)).contains(&at))
    };
    let best =
        answers.iter().max_by_key(|answer| (agree(answer.offset_us).count(), std::cmp::Reverse(answer.delay_us)))?;
    // The fastest of those that agree hides least.
    agree(best.offset_us).min_by_key(|answer| answer.delay_us).copied()
}

/// A clock that is kept right.
#[derive(Clone, Debug, Default)]
pub struct Timekeeper {
    due_ms: u64,
    interval_ms: u64,
    synchronised: bool,
    /// In a row.
    far_off: u32,
    /// In a row.
    near: u32,
    last: Option<(u64, Exchange)>,
    steps: u32,
}

impl Timekeeper {
    /// When the servers are asked next.
    #[must_use]
    pub const fn poll_timeout(&self) -> u64 {
        self.due_ms
    }

    /// Was it ever right?
    #[must_use]
    pub const fn is_synchronised(&self) -> bool {
        self.synchronised
    }

    /// How often it jumped.
    #[must_use]
    pub const fn steps(&self) -> u32 {
        self.steps
    }

    /// When servers answered last, and what they said.
    #[must_use]
    pub const fn last(&self) -> Option<(u64, Exchange)> {
        self.last
    }

    /// Milliseconds between two looks.
    #[must_use]
    pub const fn interval_ms(&self) -> u64 {
        self.interval_ms
    }

    /// Other servers, or another network: look now.
    pub const fn hurry(&mut self, now_ms: u64) {
        self.due_ms = now_ms;
        self.interval_ms = 0;
    }

    /// Takes the answers of one look.
    pub fn handle(&mut self, answers: &[Exchange], now_ms: u64) -> Correction {
        let Some(answer) = believe(answers) else {
            self.due_ms = now_ms + RETRY_MS;
            return Correction::None;
        };
        self.last = Some((now_ms, answer));
        let offset_us = answer.offset_us;
        if offset_us.abs() >= STEP_US {
            self.far_off += 1;
            self.near = 0;
            if self.synchronised && self.far_off < STEPS_AFTER {
                self.due_ms = now_ms + RETRY_MS;
                return Correction::None;
            }
            (self.far_off, self.synchronised, self.interval_ms) = (0, true, SHORTEST_MS);
            self.steps += 1;
            self.due_ms = now_ms + RETRY_MS;
            return Correction::Step { offset_us };
        }
        (self.far_off, self.synchronised) = (0, true);
        self.near = if offset_us.abs() <= NEAR_US { self.near + 1 } else { 0 };
        self.interval_ms = if self.near >= 4 {
            self.near = 0;
            (self.interval_ms * 2).clamp(SHORTEST_MS, LONGEST_MS)
        } else if offset_us.abs() > 4 * NEAR_US {
            (self.interval_ms / 2).max(SHORTEST_MS)
        } else {
            self.interval_ms.max(SHORTEST_MS)
        };
        self.due_ms = now_ms + self.interval_ms;
        let constant = u8::try_from((self.interval_ms / 1000).max(1).ilog2().saturating_sub(4)).unwrap_or(10).min(10);
        Correction::Slew { offset_us, constant }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(offset_us: i64, delay_us: i64) -> Exchange {
        Exchange { offset_us, delay_us }
    }

    #[test]
    fn a_server_that_lies_is_outvoted_and_the_fastest_of_the_others_believed() {
        let (good, better, liar) = (answer(1_000, 20_000), answer(1_500, 2_000), answer(9_000_000, 100));
        assert_eq!(believe(&[good, liar, better]), Some(better));
        assert_eq!(believe(&[liar]), Some(liar));
        assert_eq!(believe(&[]), None);
        // Two that disagree: the faster one.
        assert_eq!(believe(&[answer(0, 50_000), answer(800_000, 1_000)]), Some(answer(800_000, 1_000)));
    }

    #[test]
    fn a_clock_of_2001_jumps_at_once_and_is_slewed_from_then_on() {
        let mut keeper = Timekeeper::default();
        let far = answer(800_000_000_000_000, 1_000);
        assert_eq!(keeper.handle(&[far], 0), Correction::Step { offset_us: far.offset_us });
        assert!(keeper.is_synchronised() && keeper.steps() == 1);
        assert_eq!(keeper.poll_timeout(), RETRY_MS);
        let near = keeper.handle(&[answer(40_000, 1_000)], 8_000);
        assert_eq!(near, Correction::Slew { offset_us: 40_000, constant: 0 });
        assert_eq!(keeper.poll_timeout(), 24_000);
    }

    #[test]
    fn one_late_answer_moves_nothing_and_three_do() {
        let mut keeper = Timekeeper::default();
        keeper.handle(&[answer(0, 10)], 0);
        let late = [answer(500_000, 900_000)];
        assert_eq!(keeper.handle(&late, 16_000), Correction::None);
        assert_eq!(keeper.handle(&[answer(0, 10)], 24_000), Correction::Slew { offset_us: 0, constant: 0 });
        assert_eq!(keeper.handle(&late, 40_000), Correction::None);
        assert_eq!(keeper.handle(&late, 48_000), Correction::None);
        assert_eq!(keeper.handle(&late, 56_000), Correction::Step { offset_us: 500_000 });
    }

    #[test]
    fn a_clock_that_is_right_is_looked_at_less_and_less() {
        let (mut keeper, mut now) = (Timekeeper::default(), 0);
        for _ in 0..200 {
            keeper.handle(&[answer(100, 1_000)], now);
            now = keeper.poll_timeout();
        }
        assert_eq!(keeper.interval_ms(), LONGEST_MS);
        keeper.handle(&[answer(90_000, 1_000)], now);
        assert_eq!(keeper.interval_ms(), LONGEST_MS / 2);
        // Nobody answers: again soon.
        assert_eq!(keeper.handle(&[], now), Correction::None);
        assert_eq!(keeper.poll_timeout(), now + RETRY_MS);
    }
}
