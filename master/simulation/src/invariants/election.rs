//! Election safety: a term has at most one leader, because a replica that has seen a term does not forget it.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Election {
    leaders: BTreeMap<u64, u64>,
    /// The newest term each replica has said it knows.
    terms: BTreeMap<u64, u64>,
}

impl Election {
    /// A replica believes to lead, or not.
    pub(crate) fn stands(&mut self, replica: u64, term: u64, leads: bool) -> Result<(), String> {
        let known = self.terms.entry(replica).or_insert(term);
        if term < *known {
            return Err(format!("replica {replica} is in term {term}, and was in term {known} before"));
        }
        *known = term;
        if leads {
            let leader = *self.leaders.entry(term).or_insert(replica);
            if leader != replica {
                return Err(format!("replicas {leader} and {replica} both lead in term {term}"));
            }
        }
        Ok(())
    }

    /// What a replica finds on its disk when it starts again.
    pub(crate) fn restarts(&self, replica: u64, term: u64) -> Result<(), String> {
        match self.terms.get(&replica) {
            Some(known) if term < *known => {
                Err(format!("replica {replica} was in term {known}, and its disk has forgotten it: there it is {term}"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_a_term_and_a_forgotten_term_are_seen() {
        let mut election = Election::default();
        election.stands(1, 4, true).unwrap();
        election.stands(2, 4, false).unwrap();
        election.stands(2, 5, true).unwrap();
        election.restarts(2, 5).unwrap();
        assert!(election.restarts(2, 4).is_err());
        assert!(election.stands(3, 4, true).is_err());
        assert!(election.stands(1, 3, false).is_err());
    }
}
