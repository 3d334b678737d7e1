//! Election safety: who has seen a term does not forget it, and in a term nobody leads but the one who was elected first.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Election {
    /// Who was elected in each term.
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
                return Err(format!("replica {replica} leads in term {term}, in which replica {leader} was elected"));
            }
        }
        Ok(())
    }

    /// Was nobody elected after it in this term?
    pub(crate) fn is_last(&self, term: u64, replica: u64) -> bool {
        self.leaders.get(&term) == Some(&replica)
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
    fn a_second_leader_and_a_forgotten_term_are_seen() {
        let mut election = Election::default();
        election.stands(1, 4, true).unwrap();
        election.stands(2, 4, false).unwrap();
        election.stands(2, 5, true).unwrap();
        election.restarts(2, 5).unwrap();
        assert!(election.restarts(2, 4).is_err());
        assert!(election.stands(3, 4, true).is_err());
        election.stands(4, 6, true).unwrap();
        assert!(election.stands(5, 6, true).is_err());
        assert!(election.stands(1, 3, false).is_err());
    }
}
