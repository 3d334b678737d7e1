//! Members agree: whoever has applied a change of the members goes by it, for ever and like everybody else; and what an
//! operator was told is done stays done.

use std::collections::BTreeMap;

/// A replica, and whether it votes.
pub(crate) type Seats = BTreeMap<u64, bool>;

/// What an operator was told of a replica.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    Votes,
    Gone,
}

#[derive(Debug, Default)]
pub(crate) struct Members {
    /// By the entry that made them so.
    changes: BTreeMap<u64, Seats>,
    told: BTreeMap<u64, Told>,
}

impl Members {
    /// Whom a replica takes for the members, since which entry, and how far it has applied the log.
    pub(crate) fn seen(
        &mut self,
        replica: u64,
        seats: &Seats,
        since: Option<u64>,
        applied: Option<u64>,
    ) -> Result<(), String> {
        let (Some(since), Some(applied)) = (since, applied) else { return Ok(()) };
        if let Some((newest, _)) = self.changes.range(..=applied).next_back()
            && since < *newest
        {
            return Err(format!(
                "replica {replica} has applied {applied} entries, and goes by the members of entry {since}: those of \
                 entry {newest} are forgotten"
            ));
        }
        if since > applied {
            return Ok(()); // it may come to nothing
        }
        let known = self.changes.entry(since).or_insert_with(|| seats.clone());
        if known != seats {
            return Err(format!("entry {since} makes {known:?} the members, replica {replica} goes by {seats:?}"));
        }
        Ok(())
    }

    /// An operator's change was answered.
    pub(crate) fn answered(&mut self, replica: u64, told: Told) {
        self.told.insert(replica, told);
    }

    /// In the end, when all agree.
    pub(crate) fn last(&self, seats: &Seats) -> Result<(), String> {
        for (replica, told) in &self.told {
            let holds = match told {
                Told::Votes => seats.get(replica) == Some(&true),
                Told::Gone => !seats.contains_key(replica),
            };
            if !holds {
                return Err(format!("an operator was told of replica {replica} that {told:?}, but there is {seats:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seats(of: &[(u64, bool)]) -> Seats {
        of.iter().copied().collect()
    }

    #[test]
    fn a_change_that_is_forgotten_or_different_is_seen() {
        let (mut members, one, two) = (Members::default(), seats(&[(1, true)]), seats(&[(1, true), (5, false)]));
        members.seen(1, &one, Some(0), Some(3)).unwrap();
        members.seen(1, &two, Some(5), Some(4)).unwrap();
        members.seen(1, &two, Some(5), Some(5)).unwrap();
        members.seen(5, &one, Some(0), Some(4)).unwrap();
        assert!(members.seen(5, &one, Some(0), Some(6)).is_err());
        assert!(members.seen(5, &one, Some(5), Some(6)).is_err());
        members.answered(5, Told::Votes);
        assert!(members.last(&two).is_err());
        members.last(&seats(&[(1, true), (5, true)])).unwrap();
        members.answered(5, Told::Gone);
        members.last(&one).unwrap();
    }
}
