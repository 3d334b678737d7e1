//! Mistakes made on purpose, so that the simulation can show that it would find them. Not in any program that is used.

use std::cell::Cell;

/// One mistake for each thing the simulation watches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Bug {
    /// A vote is given before it is on the disk: after a crash a replica votes again in the same term.
    VoteNotSaved,
    /// Entries are taken for known by their number, whatever their term.
    ForeignEntriesKept,
    /// Entries are acknowledged before they are on the disk.
    LogNotSynced,
    /// A leader that restarts leads on in its term, though others may have what it lost.
    LeadsOn,
    /// An agent that comes back is told to start what it runs already.
    RunningStartedAgain,
    /// An update is acknowledged to the agent when the log has it, not when the framework has.
    AcknowledgedTooEarly,
    /// An offer stays on the table when it is accepted.
    OfferStays,
    /// What a framework declines is nobody's any more.
    DeclinedLost,
    /// A leader whose disk is full goes on as if it was not.
    FullDiskLeads,
    /// Snapshots say who the members were when the process started.
    MembersForgotten,
    /// An operator is answered when the write is proposed, not when it is committed.
    AnsweredTooEarly,
    /// An agent that is taken out of use stays on offer.
    DeactivatedOffered,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::VoteNotSaved,
        Self::ForeignEntriesKept,
        Self::LogNotSynced,
        Self::LeadsOn,
        Self::RunningStartedAgain,
        Self::AcknowledgedTooEarly,
        Self::OfferStays,
        Self::DeclinedLost,
        Self::FullDiskLeads,
        Self::MembersForgotten,
        Self::AnsweredTooEarly,
        Self::DeactivatedOffered,
    ];
}

thread_local! {
    static CHOSEN: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// From now on this thread makes this mistake, or none.
pub fn choose(bug: Option<Bug>) {
    CHOSEN.set(bug);
}

/// Is it to be made?
#[must_use]
pub fn is(bug: Bug) -> bool {
    CHOSEN.get() == Some(bug)
}
