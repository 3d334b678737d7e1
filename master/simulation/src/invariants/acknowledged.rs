//! No acknowledged command is lost: what somebody has applied is the same for all, is in the log of whoever leads, and
//! no disk that had it has it no more.

use std::collections::BTreeMap;

use master::raft::offline::{Outline, Record};

#[derive(Debug, Default)]
pub(crate) struct Acknowledged {
    /// Entries that were applied by somebody, and in which term that was.
    entries: BTreeMap<u64, (Record, u64)>,
}

impl Acknowledged {
    /// A replica's log, how far it has applied it, and the term it is in.
    pub(crate) fn applied(&mut self, replica: u64, log: &Outline, applied: u64, term: u64) -> Result<(), String> {
        for (at, record) in log.records.range(..=applied) {
            let (known, _) = self.entries.entry(*at).or_insert((*record, term));
            if known != record {
                return Err(format!("replica {replica} has applied {record:?} as entry {at}, another one {known:?}"));
            }
        }
        Ok(())
    }

    /// Whoever leads has all that was applied in earlier terms.
    pub(crate) fn leads(&self, replica: u64, log: &Outline, term: u64) -> Result<(), String> {
        let from = log.snapshot.map_or(0, |at| at + 1);
        let earlier = self.entries.range(from..).filter(|(_, (_, applied))| *applied < term);
        for (at, (record, _)) in earlier {
            let has = log.records.get(at);
            if has != Some(record) {
                return Err(format!(
                    "replica {replica} leads in term {term} without entry {at}, {record:?}: it has {has:?}"
                ));
            }
        }
        Ok(())
    }

    /// What was written before the power failed is there afterwards.
    pub(crate) fn restarts(&self, replica: u64, before: &Outline, after: &Outline) -> Result<(), String> {
        let from = after.snapshot.map_or(0, |at| at + 1);
        let acknowledged = before
            .records
            .range(from..)
            .filter(|(at, record)| self.entries.get(at).is_some_and(|(known, _)| known == *record));
        for (at, record) in acknowledged {
            if after.records.get(at) != Some(record) {
                return Err(format!("replica {replica} had written entry {at}, {record:?}, and a power cut took it"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64]) -> Outline {
        let record = |(at, term): (usize, &u64)| (at as u64, Record { term: *term, leader: 1, digest: 0 });
        Outline { records: terms.iter().enumerate().map(record).collect(), ..Outline::default() }
    }

    #[test]
    fn what_was_applied_stays() {
        let mut acknowledged = Acknowledged::default();
        acknowledged.applied(1, &log(&[1, 1, 1, 1]), 2, 1).unwrap();
        acknowledged.leads(2, &log(&[1, 1, 1, 2]), 2).unwrap();
        acknowledged.leads(2, &log(&[1, 1]), 1).unwrap();
        assert!(acknowledged.leads(2, &log(&[1, 1]), 2).is_err());
        acknowledged.leads(2, &Outline { snapshot: Some(2), ..log(&[]) }, 2).unwrap();
        assert!(acknowledged.applied(2, &log(&[1, 1, 2]), 2, 2).is_err());
        acknowledged.restarts(1, &log(&[1, 1, 1, 1]), &log(&[1, 1, 1])).unwrap();
        assert!(acknowledged.restarts(1, &log(&[1, 1, 1, 1]), &log(&[1, 1])).is_err());
    }
}
