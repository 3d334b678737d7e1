//! How an agent comes to a master: join once, then connect, register, and again after every loss.

use crate::backoff::Backoff;
use crate::randomness::Randomness;
use crate::standby::PATIENCE_MS;

/// ```text
/// Searching ─▶ Joining ─Joined▶ Searching ─▶ Connecting ─Connected▶ Registering ─Registered▶ Registered
///     ▲           │failed                        │failed                │lost, refused           │lost
///     └─back-off──┴──────────────────────────────┴──────────────────────┴────────────────────────┘
/// A refusal that a person has to lift ends in Refused, and is tried again only rarely.
/// ```
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// Waiting until the time to try.
    Searching {
        /// Next try.
        at_ms: u64,
    },
    /// Exchanging the token for a certificate.
    Joining,
    /// Opening the link.
    Connecting,
    /// `Register` was sent.
    Registering {
        /// Give up when nothing was heard until then.
        until_ms: u64,
    },
    /// In the pool.
    Registered {
        /// The link is dead when no ping came until then.
        until_ms: u64,
        /// From the master.
        ping_timeout_ms: u64,
    },
    /// Nobody has claimed this machine: the session is open, and waits for somebody to.
    Unclaimed {
        /// The link is dead when no ping came until then.
        until_ms: u64,
        /// From the master.
        ping_timeout_ms: u64,
    },
    /// The master said no, and that trying again is no use.
    Refused {
        /// Its words.
        reason: String,
        /// One more try all the same: somebody may have put it right.
        at_ms: u64,
    },
}

/// What to do now.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Action {
    /// Ask this master for a certificate.
    Join {
        /// `host:port`.
        master: String,
    },
    /// Open a session with it.
    Connect {
        /// `host:port`.
        master: String,
    },
    /// Close the session.
    Disconnect,
}

/// What happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// There is a certificate now.
    Joined,
    /// There is none.
    JoinFailed {
        /// Why.
        reason: String,
        /// Whether the same request may succeed later.
        retry: bool,
    },
    /// The session is open and `Register` is on its way.
    Connected,
    /// The master took us.
    Registered {
        /// Without a ping for this long the agent reconnects.
        ping_timeout_ms: u64,
        /// Raft's.
        term: u64,
    },
    /// The master waits for somebody to claim this machine.
    Unclaimed {
        /// Without a ping for this long the agent reconnects.
        ping_timeout_ms: u64,
    },
    /// The master did not.
    Refused {
        /// Why.
        reason: String,
        /// Whether it may later.
        retry: bool,
    },
    /// A ping came.
    Pinged,
    /// The link could not be opened, or ended.
    Lost,
    /// It ended, and a session with the master that is to lead next is open: that one is waited for.
    LostWithStandby,
    /// The master of that session leads; the agent has told it that it is back.
    Promoted,
}

/// What a node has to show when it starts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Credential {
    /// A certificate from before.
    Certificate,
    /// At most a token.
    Nothing,
}

/// Walks the states; the shell performs the actions.
#[derive(Clone, Debug)]
pub struct Registration {
    masters: Vec<String>,
    current: usize,
    certified: bool,
    state: State,
    backoff: Backoff,
    randomness: Randomness,
    /// Attempts since a master took us last.
    tries: u32,
    /// So many of the masters, the first ones, are those we were started with.
    given: usize,
    /// In which the master led that took us last.
    term: u64,
}

/// The first wait after a loss: short, because a restarted master is back in a second.
const FIRST_WAIT_MS: u64 = 500;
/// Between two masters of several, at first: while they elect a leader, which takes them less than a second.
const HURRIED_WAIT_MS: u64 = 150;
/// For an agent that was refused by one of several and told who leads: [`Registration::follow`].
pub const REFUSED_WITHIN_MS: u64 = HURRIED_WAIT_MS / 4;
/// For so many attempts.
const HURRIED_TRIES: u32 = 20;
/// Masters remembered besides those we were started with. More: the rest is not.
const MOST_MASTERS: usize = 16;
/// The longest: a rack that lost its master for an hour must still come back within half a minute.
const LONGEST_WAIT_MS: u64 = 30_000;
/// How long a master may take to answer `Register`: it commits the admission to its log first.
const REGISTER_TIMEOUT_MS: u64 = 30_000;
/// When the old leader is tried once more, before the one we stand by with is waited for: by then another one leads, if
/// another one is to, and those who wait for it have been told.
const SAME_LEADER_MS: u64 = 2_000;
/// When a refusal is tried again.
const REFUSED_WAIT_MS: u64 = 300_000;

impl Registration {
    /// A node without a certificate joins first.
    #[must_use]
    pub fn new(masters: Vec<String>, has: Credential, seed: [u8; 16], now_ms: u64) -> Self {
        Self {
            given: masters.len(),
            masters,
            current: 0,
            certified: has == Credential::Certificate,
            state: State::Searching { at_ms: now_ms },
            backoff: Backoff::new(FIRST_WAIT_MS, LONGEST_WAIT_MS),
            randomness: Randomness::new(seed),
            tries: 0,
            term: 0,
        }
    }

    /// A master has told where all of them are now. Those we were started with stay known besides.
    pub fn know(&mut self, masters: &[String]) {
        let here = self.masters.get(self.current).cloned();
        self.masters.truncate(self.given);
        masters.iter().chain(&here).for_each(|master| self.add(master));
        let position = self.masters.iter().position(|master| Some(master) == here.as_ref());
        self.current = position.unwrap_or_default();
    }

    fn add(&mut self, master: &String) {
        if self.masters.len() < self.given + MOST_MASTERS && !master.is_empty() && !self.masters.contains(master) {
            self.masters.push(master.clone());
        }
    }

    /// A master has told that another one leads: that one is tried next, at some moment within so long.
    pub fn follow(&mut self, leader: &str, within_ms: u64, now_ms: u64) {
        self.add(&leader.to_owned());
        let Some(position) = self.masters.iter().position(|master| master == leader) else { return };
        self.current = position;
        // Somebody who is told the same again and again must not ask without a pause.
        if let State::Searching { at_ms } = &mut self.state
            && self.tries < HURRIED_TRIES
        {
            *at_ms = now_ms + self.randomness.up_to(within_ms);
        }
    }

    /// Where we are.
    #[must_use]
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Whether updates can be sent.
    #[must_use]
    pub const fn is_registered(&self) -> bool {
        matches!(self.state, State::Registered { .. })
    }

    /// A master says that it leads in this term: is it news? A leader that was replaced may not know it yet.
    #[must_use]
    pub const fn believes(&self, term: u64) -> bool {
        term > self.term || (term == self.term && !self.is_registered())
    }

    /// When [`poll`](Self::poll) may have something if nothing happens before.
    #[must_use]
    pub const fn poll_timeout(&self) -> u64 {
        match &self.state {
            State::Searching { at_ms } | State::Refused { at_ms, .. } => *at_ms,
            State::Joining | State::Connecting => u64::MAX, // the shell's own deadlines end these
            State::Registering { until_ms }
            | State::Registered { until_ms, .. }
            | State::Unclaimed { until_ms, .. } => *until_ms,
        }
    }

    /// The next thing to do, if one is due.
    pub fn poll(&mut self, now_ms: u64) -> Option<Action> {
        match &self.state {
            State::Searching { at_ms } | State::Refused { at_ms, .. } if *at_ms <= now_ms => {
                let master = self.masters.get(self.current)?.clone();
                if self.certified {
                    self.state = State::Connecting;
                    return Some(Action::Connect { master });
                }
                self.state = State::Joining;
                Some(Action::Join { master })
            }
            State::Registering { until_ms }
            | State::Registered { until_ms, .. }
            | State::Unclaimed { until_ms, .. }
                if *until_ms <= now_ms =>
            {
                self.next_try(now_ms);
                Some(Action::Disconnect)
            }
            State::Searching { .. }
            | State::Refused { .. }
            | State::Joining
            | State::Connecting
            | State::Registering { .. }
            | State::Registered { .. }
            | State::Unclaimed { .. } => None,
        }
    }

    /// Takes note. An event that does not belong to the state (the end of a link already given up)
    /// changes nothing.
    pub fn handle(&mut self, event: Event, now_ms: u64) {
        match (&self.state, event) {
            (State::Joining, Event::Joined) => {
                self.certified = true;
                self.backoff.reset();
                self.state = State::Searching { at_ms: now_ms };
            }
            (State::Joining, Event::JoinFailed { reason, retry })
            | (
                State::Registering { .. } | State::Registered { .. } | State::Unclaimed { .. },
                Event::Refused { reason, retry },
            ) => {
                if retry {
                    self.next_try(now_ms);
                } else {
                    self.state = State::Refused { reason, at_ms: now_ms + REFUSED_WAIT_MS };
                }
            }
            (State::Connecting, Event::Connected) => {
                self.state = State::Registering { until_ms: now_ms + REGISTER_TIMEOUT_MS };
            }
            (State::Registering { .. } | State::Unclaimed { .. }, Event::Registered { ping_timeout_ms, term }) => {
                self.term = term;
                self.backoff.reset();
                self.tries = 0;
                self.state = State::Registered { until_ms: now_ms + ping_timeout_ms, ping_timeout_ms };
            }
            (State::Registering { .. }, Event::Unclaimed { ping_timeout_ms }) => {
                self.backoff.reset();
                self.tries = 0;
                self.state = State::Unclaimed { until_ms: now_ms + ping_timeout_ms, ping_timeout_ms };
            }
            (State::Unclaimed { ping_timeout_ms, .. }, Event::Pinged) => {
                let ping_timeout_ms = *ping_timeout_ms;
                self.state = State::Unclaimed { until_ms: now_ms + ping_timeout_ms, ping_timeout_ms };
            }
            (State::Registered { ping_timeout_ms, .. }, Event::Pinged) => {
                let ping_timeout_ms = *ping_timeout_ms;
                self.state = State::Registered { until_ms: now_ms + ping_timeout_ms, ping_timeout_ms };
            }
            (
                State::Connecting | State::Registering { .. } | State::Registered { .. } | State::Unclaimed { .. },
                Event::Lost,
            ) => self.next_try(now_ms),
            // It may have been this session only; or the leader is there again, in its old term.
            (State::Registered { .. }, Event::LostWithStandby) => {
                let at_ms = now_ms + SAME_LEADER_MS + self.randomness.up_to(SAME_LEADER_MS / 2);
                self.state = State::Searching { at_ms };
            }
            (State::Connecting | State::Registering { .. } | State::Unclaimed { .. }, Event::LostWithStandby) => {
                let at_ms = now_ms + PATIENCE_MS + self.randomness.up_to(PATIENCE_MS / 2);
                self.state = State::Searching { at_ms };
            }
            (_, Event::Promoted) => self.state = State::Registering { until_ms: now_ms + REGISTER_TIMEOUT_MS },
            (
                _,
                Event::Joined
                | Event::JoinFailed { .. }
                | Event::Connected
                | Event::Registered { .. }
                | Event::Unclaimed { .. }
                | Event::Refused { .. }
                | Event::Pinged
                | Event::LostWithStandby
                | Event::Lost,
            ) => {}
        }
    }

    fn next_try(&mut self, now_ms: u64) {
        self.current = (self.current + 1) % self.masters.len().max(1);
        self.tries = self.tries.saturating_add(1);
        let wait = if self.masters.len() > 1 && self.tries <= HURRIED_TRIES && self.certified {
            HURRIED_WAIT_MS / 3 + self.randomness.up_to(HURRIED_WAIT_MS)
        } else {
            self.backoff.next_ms(&mut self.randomness)
        };
        self.state = State::Searching { at_ms: now_ms + wait };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh(masters: &[&str]) -> Registration {
        Registration::new(masters.iter().map(|&master| master.to_owned()).collect(), Credential::Nothing, [5; 16], 0)
    }

    fn registered() -> Registration {
        let mut registration = fresh(&["a:1"]);
        assert_eq!(registration.poll(0), Some(Action::Join { master: "a:1".to_owned() }));
        registration.handle(Event::Joined, 5);
        assert_eq!(registration.poll(5), Some(Action::Connect { master: "a:1".to_owned() }));
        registration.handle(Event::Connected, 6);
        registration.handle(Event::Registered { ping_timeout_ms: 75_000, term: 3 }, 7);
        registration
    }

    #[test]
    fn a_machine_nobody_has_claimed_keeps_its_session_until_somebody_does() {
        let mut registration = fresh(&["a:1"]);
        registration.poll(0);
        registration.handle(Event::Joined, 5);
        registration.poll(5);
        registration.handle(Event::Connected, 6);
        registration.handle(Event::Unclaimed { ping_timeout_ms: 30_000 }, 7);
        assert!(!registration.is_registered() && registration.poll(30_006).is_none());
        registration.handle(Event::Pinged, 20_000);
        assert_eq!(registration.poll(49_999), None);
        registration.handle(Event::Registered { ping_timeout_ms: 30_000, term: 1 }, 40_000);
        assert!(registration.is_registered());
        let mut silent = fresh(&["a:1"]);
        silent.poll(0);
        silent.handle(Event::Joined, 5);
        silent.poll(5);
        silent.handle(Event::Connected, 6);
        silent.handle(Event::Unclaimed { ping_timeout_ms: 30_000 }, 7);
        assert_eq!(silent.poll(30_007), Some(Action::Disconnect));
    }

    #[test]
    fn a_new_node_joins_connects_and_registers() {
        let mut registration = registered();
        assert!(registration.is_registered());
        assert_eq!(registration.poll_timeout(), 75_007);
        registration.handle(Event::Pinged, 50_000);
        assert_eq!(registration.poll(75_007), None);
        assert_eq!(registration.poll(125_000), Some(Action::Disconnect));
    }

    #[test]
    fn a_lost_link_is_opened_again_without_joining_again() {
        let mut registration = registered();
        registration.handle(Event::Lost, 1000);
        let at = registration.poll_timeout();
        assert!((1250..=1500).contains(&at), "{at}");
        assert_eq!(registration.poll(at - 1), None);
        assert!(matches!(registration.poll(at), Some(Action::Connect { .. })));
    }

    #[test]
    fn the_next_leader_is_waited_for_where_a_session_with_it_is_open() {
        let mut registration = registered();
        registration.know(&["a:1".to_owned(), "b:2".to_owned()]);
        registration.handle(Event::LostWithStandby, 1000);
        // The old one first, once.
        let at = registration.poll_timeout();
        assert!((1000 + SAME_LEADER_MS..1000 + 2 * SAME_LEADER_MS).contains(&at));
        assert_eq!(registration.poll(at), Some(Action::Connect { master: "a:1".to_owned() }));
        registration.handle(Event::LostWithStandby, at);
        assert!((at + PATIENCE_MS..at + 2 * PATIENCE_MS).contains(&registration.poll_timeout()));
        assert!(registration.believes(3) && registration.believes(4) && !registration.believes(2));
        registration.handle(Event::Promoted, 1400);
        assert_eq!(registration.poll(1400 + REGISTER_TIMEOUT_MS - 1), None);
        registration.handle(Event::Registered { ping_timeout_ms: 75_000, term: 4 }, 1500);
        assert!(registration.is_registered());
        assert!(!registration.believes(4) && registration.believes(5), "a leader of a newer term takes over");
        // It does not come: the others are asked.
        registration.handle(Event::LostWithStandby, 2000);
        let at = registration.poll_timeout();
        assert!(registration.poll(at).is_some());
        registration.handle(Event::LostWithStandby, at);
        assert!(matches!(registration.poll(at + 2 * PATIENCE_MS), Some(Action::Connect { .. })));
    }

    #[test]
    fn a_leader_that_is_still_there_has_its_agent_back_in_seconds() {
        let mut registration = registered();
        registration.handle(Event::LostWithStandby, 1000);
        let at = registration.poll_timeout();
        assert_eq!(registration.poll(at), Some(Action::Connect { master: "a:1".to_owned() }));
        registration.handle(Event::Connected, at);
        registration.handle(Event::Registered { ping_timeout_ms: 75_000, term: 3 }, at + 10);
        assert!(registration.is_registered() && at <= 1000 + SAME_LEADER_MS * 3 / 2);
    }

    #[test]
    fn failures_go_round_the_masters_with_growing_waits() {
        let (mut registration, mut now, mut seen, mut longest) = (fresh(&["a:1", "b:2"]), 0, Vec::new(), 0);
        for _ in 0..12 {
            let Some(Action::Join { master }) = registration.poll(now) else { panic!("no try at {now}") };
            seen.push(master);
            registration.handle(Event::JoinFailed { reason: "connection refused".to_owned(), retry: true }, now);
            longest = longest.max(registration.poll_timeout() - now);
            now = registration.poll_timeout();
        }
        assert_eq!(seen[..3], ["a:1", "b:2", "a:1"]);
        assert!((LONGEST_WAIT_MS / 2..=LONGEST_WAIT_MS).contains(&longest));
    }

    #[test]
    fn masters_that_are_replaced_are_forgotten_but_for_those_of_the_start() {
        let mut registration = registered();
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        registration.know(&list(&["a:1", "b:2", "c:3"]));
        registration.know(&list(&["d:4", "c:3"]));
        assert_eq!(registration.masters, list(&["a:1", "d:4", "c:3"]));
        registration.follow("e:5", REFUSED_WITHIN_MS, 0);
        registration.know(&list(&["d:4"]));
        assert_eq!(registration.masters, list(&["a:1", "d:4", "e:5"]));
        assert_eq!(registration.masters[registration.current], "e:5");
        let many: Vec<String> = (0..100).map(|number| format!("m:{number}")).collect();
        registration.know(&many);
        assert_eq!(registration.masters.len(), 1 + MOST_MASTERS);
    }

    #[test]
    fn a_leader_that_is_named_is_tried_next_and_the_others_stay_known() {
        let mut registration = registered();
        registration.know(&["b:2".to_owned(), "a:1".to_owned(), "c:3".to_owned()]);
        registration.handle(Event::Lost, 1000);
        let at = registration.poll_timeout();
        assert!((1000..1250).contains(&at), "{at}");
        assert_eq!(registration.poll(at), Some(Action::Connect { master: "b:2".to_owned() }));
        registration.handle(Event::Connected, at);
        registration.handle(Event::Refused { reason: "does not lead".to_owned(), retry: true }, at);
        registration.follow("d:4", REFUSED_WITHIN_MS, at);
        assert!(registration.poll_timeout() < at + HURRIED_WAIT_MS / 3);
        let at = registration.poll_timeout();
        assert_eq!(registration.poll(at), Some(Action::Connect { master: "d:4".to_owned() }));
        // It is gone for good: round and round, and slower in the end.
        let (mut now, mut seen) = (at, Vec::new());
        for _ in 0..40 {
            registration.handle(Event::Lost, now);
            now = registration.poll_timeout();
            let Some(Action::Connect { master }) = registration.poll(now) else { panic!("no try at {now}") };
            seen.push(master);
        }
        assert_eq!(seen[..4], ["a:1", "b:2", "c:3", "d:4"]);
        assert!(now - at > 60_000, "{now}");
    }

    #[test]
    fn a_refusal_for_good_keeps_its_reason_and_waits_long() {
        let mut registration = fresh(&["a:1"]);
        registration.poll(0);
        registration.handle(Event::JoinFailed { reason: "token expired".to_owned(), retry: false }, 0);
        assert_eq!(
            *registration.state(),
            State::Refused { reason: "token expired".to_owned(), at_ms: REFUSED_WAIT_MS }
        );
        registration.handle(Event::Lost, 1);
        assert_eq!(registration.poll(REFUSED_WAIT_MS - 1), None);
        assert!(registration.poll(REFUSED_WAIT_MS).is_some());
    }
}
