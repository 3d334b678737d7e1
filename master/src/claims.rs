//! Which machines are the cluster's: the table that every master has, and those that wait to be claimed here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use api::{Attribute, NodeName};
use clap::ValueEnum;
use master_core::claims::{Candidate, Claim, ClaimRule, Entry, How, Listed, MachineId, Verdict, verdict};
use master_core::state::Kept;
use master_core::{Registration, SessionId, state};
use tokio::sync::{mpsc, watch};

use crate::agents::SessionCommand;
use crate::clock::unix_ms;
use crate::kept::{KeepError, Keeper, Table};
use crate::machines::Machines;

/// What becomes of a machine that nobody has claimed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Admission {
    /// It is the cluster's like any other: who may boot from us may work for us.
    #[default]
    Open,
    /// It waits, shows what it is and offers nothing until somebody claims it.
    Claimed,
}

/// Entries at once, nodes and rules.
const CAPACITY: usize = 100_000;

/// The table was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// Too many.
    #[error("the list of claimed machines is full ({CAPACITY})")]
    Full,
    /// Somebody looks for one that is not there.
    #[error("there is no {0}")]
    Unknown(String),
    /// The table.
    #[error(transparent)]
    Keep(#[from] KeepError),
}

/// The table. Reading never waits; whatever changes it blocks until that is committed.
pub struct Claims {
    table: Table<Entry>,
    changes: watch::Receiver<Kept>,
    admission: Admission,
    listed: Machines,
}

fn node_key(node: &str) -> String {
    format!("node/{node}")
}

fn rule_key(rule: &str) -> String {
    format!("rule/{rule}")
}

impl Claims {
    /// The table that `keeper` keeps.
    #[must_use]
    pub fn new(keeper: Keeper, admission: Admission, listed: Machines) -> Self {
        let changes = keeper.changes();
        Self { table: Table::new(state::Table::Claims, keeper), changes, admission, listed }
    }

    /// Has something changed? Wakes for other tables, too.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Kept> {
        self.changes.clone()
    }

    /// What happens to machines nobody has claimed.
    #[must_use]
    pub const fn admission(&self) -> Admission {
        self.admission
    }

    /// May this machine work?
    #[must_use]
    pub fn verdict(&self, node: &NodeName, machine: &MachineId, attributes: &[Attribute]) -> Verdict {
        if self.admission == Admission::Open {
            return Verdict::Admitted;
        }
        let all = self.table.all();
        let claim = match all.get(&node_key(node.as_str())) {
            Some(Entry::Node(claim)) => Some(claim),
            Some(Entry::Rule(_)) | None => None,
        };
        let rules = all.iter().filter_map(|(key, entry)| match entry {
            Entry::Rule(rule) => Some((key.strip_prefix("rule/")?, rule)),
            Entry::Node(_) => None,
        });
        let listed = if self.listed.has_name(node.as_str()) { Listed::Listed } else { Listed::Unlisted };
        verdict(Candidate { node, machine, attributes, listed }, claim, rules)
    }

    /// The machines that are claimed, and the rules, by name.
    #[must_use]
    pub fn list(&self) -> (BTreeMap<String, Claim>, BTreeMap<String, ClaimRule>) {
        let (mut nodes, mut rules) = (BTreeMap::new(), BTreeMap::new());
        for (key, entry) in self.table.all().iter() {
            match (key.split_once('/'), entry) {
                (Some(("node", name)), Entry::Node(claim)) => drop(nodes.insert(name.to_owned(), claim.clone())),
                (Some(("rule", name)), Entry::Rule(rule)) => drop(rules.insert(name.to_owned(), rule.clone())),
                _ => {}
            }
        }
        (nodes, rules)
    }

    /// From now on these are the cluster's. Claiming again takes the machine as it is now.
    ///
    /// # Errors
    /// The table was not changed.
    pub fn claim(&self, nodes: &[(NodeName, MachineId)], how: &How, by: &str) -> Result<(), ClaimError> {
        let claimed_ms = unix_ms();
        self.table.change(|all| {
            for (node, machine) in nodes {
                let claim = Claim { claimed_ms, by: by.to_owned(), how: how.clone(), machine: machine.clone() };
                all.insert(node_key(node.as_str()), Entry::Node(claim));
            }
            if all.len() > CAPACITY { Err(ClaimError::Full) } else { Ok(()) }
        })
    }

    /// It is not the cluster's any more; false if it was not.
    ///
    /// # Errors
    /// The table was not changed.
    pub fn release(&self, node: &str) -> Result<bool, ClaimError> {
        self.table.change(|all| Ok(all.remove(&node_key(node)).is_some()))
    }

    /// Machines for which the condition holds are claimed as they come.
    ///
    /// # Errors
    /// The table was not changed.
    pub fn put_rule(&self, name: &str, condition: &str, by: &str) -> Result<(), ClaimError> {
        let rule = ClaimRule { condition: condition.to_owned(), made_ms: unix_ms(), by: by.to_owned() };
        self.table.change(|all| {
            all.insert(rule_key(name), Entry::Rule(rule.clone()));
            if all.len() > CAPACITY { Err(ClaimError::Full) } else { Ok(()) }
        })
    }

    /// The rule claims nothing more; what it claimed stays claimed.
    ///
    /// # Errors
    /// There is none of that name, or the table was not changed.
    pub fn remove_rule(&self, name: &str) -> Result<(), ClaimError> {
        self.table.change(|all| {
            let gone = all.remove(&rule_key(name)).is_some();
            if gone { Ok(()) } else { Err(ClaimError::Unknown(format!("claim rule '{name}'"))) }
        })
    }
}

/// Machines that may wait at a master, each with all it says of itself. Full: others try again later.
const MOST_WAITING: usize = 20_000;
/// Different machines that wait under one name.
const MOST_OF_A_NAME: usize = 4;

/// A machine that waits here to be claimed.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// All it says of itself.
    pub registration: Arc<Registration>,
    /// Which machine it is.
    pub machine: MachineId,
    /// Milliseconds since 1970: when it came.
    pub since_ms: u64,
    /// Why it waits.
    pub reason: String,
    /// The way to it: it answers the node API.
    pub commands: mpsc::Sender<SessionCommand>,
}

/// All machines that wait at this master. Clones share it.
#[derive(Clone, Default)]
pub struct Unclaimed(Arc<Mutex<BTreeMap<SessionId, Waiting>>>);

/// As long as it is held the machine is among those that wait.
pub struct Seat {
    all: Unclaimed,
    id: SessionId,
}

impl Unclaimed {
    /// One more waits, in place of itself if its session of before is not over yet; none if it is full.
    #[must_use]
    pub fn seat(&self, id: SessionId, waiting: Waiting) -> Option<Seat> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let node = &waiting.registration.node;
        all.retain(|_, other| {
            let again = other.registration.node == *node && other.machine.is_same(&waiting.machine);
            if again {
                // Full: it ends by itself when the machine does not answer.
                drop(other.commands.try_send(SessionCommand::Close));
            }
            !again
        });
        let of_name = all.values().filter(|other| other.registration.node == *node).count();
        if all.len() >= MOST_WAITING || of_name >= MOST_OF_A_NAME {
            return None;
        }
        all.insert(id, waiting);
        drop(all);
        Some(Seat { all: self.clone(), id })
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Vec<Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The one of that name, if there is only one.
    #[must_use]
    pub fn find(&self, node: &str) -> Option<Waiting> {
        let mut found = self.all().into_iter().filter(|waiting| waiting.registration.node.as_str() == node);
        let one = found.next()?;
        found.next().is_none().then_some(one)
    }
}

impl Seat {
    /// It says something else of itself, or waits for another reason.
    pub fn update(&self, change: impl FnOnce(&mut Waiting)) {
        let mut all = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = all.get_mut(&self.id) {
            change(waiting);
        }
    }

    /// What is known of it.
    #[must_use]
    pub fn waiting(&self) -> Option<Waiting> {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).get(&self.id).cloned()
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_cluster_takes_everybody_and_a_closed_one_those_it_claimed() {
        let keeper = Keeper::in_memory();
        let node = NodeName::from("node-1");
        let machine = MachineId { serial: "s".to_owned(), ..MachineId::default() };
        let open = Claims::new(keeper.clone(), Admission::Open, Machines::default());
        assert_eq!(open.verdict(&node, &machine, &[]), Verdict::Admitted);
        let claims = Claims::new(keeper, Admission::Claimed, Machines::default());
        assert!(matches!(claims.verdict(&node, &machine, &[]), Verdict::Waits(_)));
        claims.claim(&[(node.clone(), machine.clone())], &How::Hand, "ops").unwrap();
        assert_eq!(claims.verdict(&node, &machine, &[]), Verdict::Admitted);
        assert!(claims.release("node-1").unwrap() && !claims.release("node-1").unwrap());
        claims.put_rule("all", "name =~ 'node-.*'", "ops").unwrap();
        assert_eq!(claims.verdict(&node, &machine, &[]), Verdict::Claims(How::Rule("all".to_owned())));
        claims.remove_rule("all").unwrap();
        assert!(matches!(claims.remove_rule("all"), Err(ClaimError::Unknown(_))));
        assert!(claims.list().0.is_empty() && claims.list().1.is_empty());
    }
}
