//! Log matching: two logs that have an entry of one number and one leader's term are the same up to it.

use std::collections::BTreeMap;

use master::raft::offline::Outline;

#[derive(Debug, Default)]
pub(crate) struct Matching {
    logs: BTreeMap<u64, Outline>,
}

impl Matching {
    /// A replica's log as it is now, beside those of the others.
    pub(crate) fn seen(&mut self, replica: u64, log: &Outline) -> Result<(), String> {
        for (other, theirs) in self.logs.iter().filter(|(other, _)| **other != replica) {
            let agreed = log.records.iter().rev().find(|(at, ours)| {
                theirs.records.get(at).is_some_and(|record| (record.term, record.leader) == (ours.term, ours.leader))
            });
            let Some((agreed, _)) = agreed else { continue };
            for (at, ours) in log.records.range(..=agreed) {
                if let Some(record) = theirs.records.get(at)
                    && record != ours
                {
                    return Err(format!(
                        "replicas {other} and {replica} agree at entry {agreed} and differ at {at}: {record:?}, {ours:?}"
                    ));
                }
            }
        }
        self.logs.insert(replica, log.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use master::raft::offline::Record;

    use super::*;

    fn log(terms: &[u64]) -> Outline {
        let record = |(at, term): (usize, &u64)| (at as u64, Record { term: *term, leader: 1, digest: 0 });
        Outline { records: terms.iter().enumerate().map(record).collect(), ..Outline::default() }
    }

    #[test]
    fn a_difference_counts_only_before_an_agreement() {
        let mut matching = Matching::default();
        matching.seen(1, &log(&[1, 1, 2])).unwrap();
        matching.seen(2, &log(&[1, 1, 1])).unwrap();
        matching.seen(2, &log(&[1, 1, 2, 2])).unwrap();
        assert!(matching.seen(3, &log(&[1, 3, 2])).is_err());
    }
}
