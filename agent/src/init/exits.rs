//! The exit statuses of containers, kept until somebody has made them durable.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::handover::{Exit, ExitStatus, MAX_EXITS, UNCLAIMED_SECS};

/// Every status not yet acknowledged.
#[derive(Debug)]
pub(crate) struct Exits {
    kept: BTreeMap<u64, Kept>,
    /// Living children whose exit somebody wants.
    claimed: BTreeSet<i32>,
    next_sequence: u64,
    limit: usize,
    dropped: u64,
}

#[derive(Debug)]
struct Kept {
    exit: Exit,
    claimed: bool,
}

/// Whether there is a process of a number now, one that has ended and was not yet reaped included.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Process {
    /// There is.
    Exists,
    /// There is none.
    Gone,
}

/// What a claim found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// The child lives: its exit will be kept.
    Noted,
    /// The child has ended: its exit stays until acknowledged.
    Kept,
    /// There is no such child and no kept exit of it.
    Unknown,
}

impl Default for Exits {
    fn default() -> Exits {
        Exits::with_limit(MAX_EXITS)
    }
}

impl Exits {
    fn with_limit(limit: usize) -> Exits {
        Exits { kept: BTreeMap::new(), claimed: BTreeSet::new(), next_sequence: 1, limit, dropped: 0 }
    }

    /// Notes that a child has ended.
    pub(crate) fn record(&mut self, pid: i32, status: ExitStatus, uptime_ms: u64) -> Exit {
        let exit = Exit { sequence: self.next_sequence, pid, status, uptime_ms };
        self.next_sequence += 1;
        if self.kept.len() >= self.limit {
            self.drop_one();
        }
        let claimed = self.claimed.remove(&pid);
        self.kept.insert(exit.sequence, Kept { exit, claimed });
        exit
    }

    /// Keeps the exit of a child until acknowledged. When there is such a process now, the claim is for it, and not
    /// for an earlier one of the same number.
    pub(crate) fn claim(&mut self, pid: i32, process: Process) -> Claim {
        if process == Process::Exists {
            self.claimed.insert(pid);
            return Claim::Noted;
        }
        match self.kept.values_mut().rev().find(|kept| kept.exit.pid == pid) {
            Some(kept) => {
                kept.claimed = true;
                Claim::Kept
            }
            None => Claim::Unknown,
        }
    }

    /// Forgets a status. False when it was not kept.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> bool {
        self.kept.remove(&sequence).is_some()
    }

    /// The first kept status at or after a sequence number.
    pub(crate) fn at_or_after(&self, sequence: u64) -> Option<Exit> {
        self.kept.range(sequence..).next().map(|(_, kept)| kept.exit)
    }

    /// Forgets statuses that nobody has claimed in time.
    pub(crate) fn expire(&mut self, now_ms: u64) {
        let lifetime_ms = UNCLAIMED_SECS * 1000;
        self.kept.retain(|_, kept| kept.claimed || now_ms.saturating_sub(kept.exit.uptime_ms) < lifetime_ms);
    }

    /// Whether an exit that somebody has claimed is still to come, or waits to be acknowledged. A child that has ended
    /// and was not reaped has left its cgroup already: that its exit is to come is known only here.
    pub(crate) fn awaits_acknowledgement(&self) -> bool {
        !self.claimed.is_empty() || self.kept.values().any(|kept| kept.claimed)
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    /// How many statuses were lost because too many were kept.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Makes room: the oldest that nobody has claimed, else the oldest.
    fn drop_one(&mut self) {
        let unclaimed = self.kept.iter().find(|(_, kept)| !kept.claimed).map(|(sequence, _)| *sequence);
        if let Some(sequence) = unclaimed.or_else(|| self.kept.keys().next().copied()) {
            self.kept.remove(&sequence);
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: ExitStatus = ExitStatus::Code(0);

    #[test]
    fn a_claimed_exit_stays_until_it_is_acknowledged() {
        let mut exits = Exits::default();
        assert_eq!(exits.claim(7, Process::Exists), Claim::Noted);
        assert!(exits.awaits_acknowledgement());
        let exit = exits.record(7, ExitStatus::Signal(9), 1_000);
        exits.expire(u64::MAX);
        assert_eq!(exits.at_or_after(0), Some(exit));
        assert!(exits.awaits_acknowledgement());
        assert!(exits.acknowledge(exit.sequence));
        assert!(!exits.awaits_acknowledgement());
        assert!(!exits.acknowledge(exit.sequence));
        assert_eq!(exits.at_or_after(0), None);
    }

    #[test]
    fn an_exit_can_be_claimed_late_but_not_too_late() {
        let mut exits = Exits::default();
        exits.record(7, OK, 1_000);
        exits.record(8, OK, 1_000);
        exits.expire(60_999);
        assert_eq!(exits.claim(7, Process::Gone), Claim::Kept);
        exits.expire(61_000);
        assert_eq!(exits.len(), 1);
        assert_eq!(exits.claim(8, Process::Gone), Claim::Unknown);
    }

    #[test]
    fn a_claim_on_a_living_process_is_not_answered_with_its_predecessor() {
        let mut exits = Exits::default();
        exits.record(7, OK, 0);
        assert_eq!(exits.claim(7, Process::Exists), Claim::Noted);
        exits.expire(60_000);
        assert_eq!(exits.len(), 0);
        exits.record(7, ExitStatus::Code(3), 60_001);
        exits.expire(u64::MAX);
        assert_eq!(exits.at_or_after(0).unwrap().status, ExitStatus::Code(3));
    }

    #[test]
    fn when_too_many_are_kept_the_oldest_unclaimed_goes_first_and_is_counted() {
        let mut exits = Exits::with_limit(3);
        exits.claim(1, Process::Exists);
        for pid in 1..=4 {
            exits.record(pid, OK, 0);
        }
        let pids: Vec<i32> = exits.kept.values().map(|kept| kept.exit.pid).collect();
        assert_eq!((pids, exits.dropped()), (vec![1, 3, 4], 1));
    }

    #[test]
    fn sequences_never_repeat() {
        let mut exits = Exits::with_limit(1);
        let first = exits.record(1, OK, 0).sequence;
        exits.acknowledge(first);
        assert!(exits.record(1, OK, 0).sequence > first);
    }
}
