//! What must never happen, one file each; and what must happen in the end.

pub(crate) mod acknowledged;
pub(crate) mod conserved;
pub(crate) mod disjoint;
pub(crate) mod election;
pub(crate) mod launched;
pub(crate) mod matching;
pub(crate) mod members;
pub(crate) mod obeyed;
pub(crate) mod room;
pub(crate) mod updates;

use std::fmt;

use crate::trace::{Micros, SECOND};

/// One of them does not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// When: microseconds since the beginning.
    pub at: Micros,
    /// What was seen.
    pub what: String,
}

/// All of them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Invariant {
    /// One leader a term; no vote is forgotten.
    ElectionSafety,
    /// Logs that agree at one place agree before it.
    LogMatching,
    /// What was acknowledged is there, for ever.
    NothingAcknowledgedIsLost,
    /// No task is launched twice.
    LaunchedOnce,
    /// Updates come in order, each until it is acknowledged.
    UpdatesInOrder,
    /// Nothing is offered that is in use or offered already.
    OffersDisjoint,
    /// What an agent has is in use, offered, or about to be.
    ResourcesConserved,
    /// Who knows of a change of the members goes by it, and what was answered stays.
    MembersAgree,
    /// What operators were answered stays, and nothing is offered of what they took out of use.
    OperatorsObeyed,
    /// A leader whose disk is full ceases to lead.
    FullDiskEndsReign,
    /// No process ends by itself.
    NobodyFails,
    /// Once everything is healed, everybody gets on.
    Progress,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {}.{:06}: {}", self.invariant, self.at / SECOND, self.at % SECOND, self.what)
    }
}

/// All that watch, and the first thing they saw.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) election: election::Election,
    pub(crate) matching: matching::Matching,
    pub(crate) acknowledged: acknowledged::Acknowledged,
    pub(crate) launched: launched::Launched,
    pub(crate) updates: updates::Updates,
    pub(crate) members: members::Members,
    pub(crate) obeyed: obeyed::Obeyed,
    pub(crate) room: room::Room,
    pub(crate) found: Option<Violation>,
}

impl Watch {
    /// Keeps the first.
    pub(crate) fn check(&mut self, invariant: Invariant, at: Micros, seen: Result<(), String>) {
        if let Err(what) = seen {
            self.found.get_or_insert(Violation { invariant, at, what });
        }
    }
}
