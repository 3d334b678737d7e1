//! A second session, with the master that is to lead next: when the leader is gone, nobody has to connect.

use crate::backoff::Backoff;
use crate::randomness::Randomness;

/// Opened so long after it was named, and some time within the spread: when a fleet has just come to a new leader there
/// are other things to do, and a handshake costs both ends half a millisecond.
const CALM_MS: u64 = 5_000;
const SPREAD_MS: u64 = 55_000;
/// After a loss.
const FIRST_WAIT_MS: u64 = 1_000;
/// A session that lasted so long was a good one.
const LASTED_MS: u64 = 60_000;
/// After many.
const LONGEST_WAIT_MS: u64 = 60_000;
/// How long a leader is waited for while a standby is open and the old leader does not answer, before others are asked.
/// The master there tells if another one leads.
pub const PATIENCE_MS: u64 = 8_000;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// There is no such master, or it is tried then.
    Idle {
        at_ms: u64,
    },
    Opening,
    Open {
        since_ms: u64,
    },
}

/// What to do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Open a session with it that waits.
    Open {
        /// `host:port`.
        master: String,
    },
    /// End it.
    Close,
}

/// Decides; the shell opens and closes.
#[derive(Clone, Debug)]
pub struct Standby {
    master: String,
    state: State,
    backoff: Backoff,
    randomness: Randomness,
}

impl Standby {
    /// Nobody yet.
    #[must_use]
    pub fn new(seed: [u8; 16]) -> Self {
        Self {
            master: String::new(),
            state: State::Idle { at_ms: u64::MAX },
            backoff: Backoff::new(FIRST_WAIT_MS, LONGEST_WAIT_MS),
            randomness: Randomness::new(seed),
        }
    }

    /// The leader names the master that is to lead next; empty for none.
    pub fn wish(&mut self, master: &str, now_ms: u64) -> Option<Action> {
        if self.master == master {
            return None;
        }
        master.clone_into(&mut self.master);
        self.backoff.reset();
        let open = std::mem::replace(&mut self.state, State::Idle { at_ms: u64::MAX });
        if !master.is_empty() {
            self.state = State::Idle { at_ms: now_ms + CALM_MS + self.randomness.up_to(SPREAD_MS) };
        }
        (!matches!(open, State::Idle { .. })).then_some(Action::Close)
    }

    /// When [`poll`](Self::poll) has something if nothing happens before.
    #[must_use]
    pub const fn poll_timeout(&self) -> u64 {
        match self.state {
            State::Idle { at_ms } => at_ms,
            State::Opening | State::Open { .. } => u64::MAX,
        }
    }

    /// The next thing to do, if one is due.
    pub fn poll(&mut self, now_ms: u64) -> Option<Action> {
        match self.state {
            State::Idle { at_ms } if at_ms <= now_ms && !self.master.is_empty() => {
                self.state = State::Opening;
                Some(Action::Open { master: self.master.clone() })
            }
            State::Idle { .. } | State::Opening | State::Open { .. } => None,
        }
    }

    /// The session is open.
    pub fn opened(&mut self, now_ms: u64) {
        if self.state == State::Opening {
            self.state = State::Open { since_ms: now_ms };
        }
    }

    /// It could not be opened, or ended.
    pub fn lost(&mut self, now_ms: u64) {
        // One that ends as soon as it is open was refused.
        if let State::Open { since_ms } = self.state
            && now_ms >= since_ms + LASTED_MS
        {
            self.backoff.reset();
        }
        if !matches!(self.state, State::Idle { .. }) {
            self.state = State::Idle { at_ms: now_ms + self.backoff.next_ms(&mut self.randomness) };
        }
    }

    /// Is it worth waiting for?
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Its master leads: the session is the agent's own from now on. The new leader says who is next.
    pub fn taken(&mut self) {
        self.master.clear();
        self.state = State::Idle { at_ms: u64::MAX };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Standby {
        let mut standby = Standby::new([1; 16]);
        assert_eq!(standby.poll(1_000_000), None);
        assert_eq!(standby.wish("b:2", 0), None);
        assert!((CALM_MS..=CALM_MS + SPREAD_MS).contains(&standby.poll_timeout()));
        assert_eq!(standby.poll(standby.poll_timeout()), Some(Action::Open { master: "b:2".to_owned() }));
        assert!(!standby.is_open());
        standby.opened(0);
        assert!(standby.is_open());
        standby
    }

    #[test]
    fn the_one_that_is_to_lead_next_is_changed_when_the_leader_says_so() {
        let mut standby = open();
        assert_eq!(standby.wish("b:2", 10), None);
        assert_eq!(standby.wish("c:3", 10), Some(Action::Close));
        assert!(!standby.is_open());
        assert_eq!(standby.poll(10 + CALM_MS + SPREAD_MS), Some(Action::Open { master: "c:3".to_owned() }));
        assert_eq!(standby.wish("", 10), Some(Action::Close));
        assert_eq!(standby.poll(u64::MAX - 1), None);
    }

    #[test]
    fn a_lost_one_is_opened_again_with_growing_waits() {
        let (mut standby, mut now, mut longest) = (open(), 0, 0);
        for _ in 0..12 {
            standby.lost(now);
            longest = longest.max(standby.poll_timeout() - now);
            now = standby.poll_timeout();
            assert!(standby.poll(now).is_some());
            // Open, and refused at once.
            standby.opened(now);
        }
        standby.lost(now + LASTED_MS);
        assert!(standby.poll_timeout() <= now + LASTED_MS + FIRST_WAIT_MS);
        standby.poll(u64::MAX - 1);
        assert!((LONGEST_WAIT_MS / 2..=LONGEST_WAIT_MS).contains(&longest), "{longest}");
    }

    #[test]
    fn one_that_leads_is_no_standby_any_more() {
        let mut standby = open();
        standby.taken();
        standby.lost(5);
        assert_eq!((standby.poll_timeout(), standby.poll(u64::MAX - 1)), (u64::MAX, None));
        assert_eq!(standby.wish("b:2", 0), None);
        assert!(standby.poll(CALM_MS + SPREAD_MS).is_some());
    }
}
