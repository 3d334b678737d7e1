//! Whose turn it is: a probe waits, is under way, or is over.

/// One of a task's two checks.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Turn {
    due_ms: Option<u64>,
    flying: Option<u64>,
    number: u64,
}

impl Turn {
    /// The next one is due then.
    pub(super) const fn at(&mut self, due_ms: u64) {
        self.due_ms = Some(due_ms);
        self.flying = None;
    }

    pub(super) const fn deadline_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// The number of the probe that begins now.
    pub(super) fn take(&mut self, now_ms: u64) -> Option<u64> {
        self.due_ms.take_if(|due_ms| *due_ms <= now_ms)?;
        self.number += 1;
        self.flying = Some(self.number);
        self.flying
    }

    /// The probe of that number is over; the next one is due then. None when it is not the one under way.
    pub(super) fn landed(&mut self, number: u64, next_ms: u64) -> Option<()> {
        self.flying.take_if(|flying| *flying == number)?;
        self.due_ms = Some(next_ms);
        Some(())
    }

    /// There will be no other.
    pub(super) const fn end(&mut self) {
        self.due_ms = None;
        self.flying = None;
    }
}
