//! When to stand for election, and whom one would vote for.
//!
//! The library would let everybody who misses the leader raise the term, which unseats a leader the others still hear.
//! So its own elections are off: a replica first asks the others whether they would vote for it (pre-vote), and stands
//! only when a majority does not hear a leader either. A leader that dies closes its connections, which is noticed at
//! once; one that only falls silent has [`PATIENCE`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use openraft::ServerState;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::hearing::Hearing;
use super::log_store::LastLog;
use super::network::{Peers, kind};
use super::room::Room;
use super::types::{LogId, Types};
use crate::random::Chance;

/// A leader that says nothing for so long is missed. Far above a disk's slowest sync, or a busy disk would cost the
/// leader its place.
const PATIENCE: Duration = Duration::from_millis(1000);
/// So that two replicas do not stand at the same moment: a random part of it is waited besides.
const SPREAD: Duration = Duration::from_millis(300);
/// The same, when the leader's connection broke.
const SPREAD_AFTER_BREAK: Duration = Duration::from_millis(60);
/// Whoever has agents waiting stands so much earlier,
const PRECEDENCE: Duration = Duration::from_millis(100);
/// and has so long to win before it would vote for somebody else.
const YIELD: Duration = Duration::from_millis(600);
/// For the others' answers.
const ANSWERS: Duration = Duration::from_millis(400);
/// For an election to end.
const ELECTION: Duration = Duration::from_millis(600);
/// After a leader's last word its followers vote for nobody else for so long: the library's lease. What it counts in.
pub(super) const LEASE_MS: u64 = 310;

/// Would you vote for me?
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct WouldVote {
    pub(super) candidate: u64,
    pub(super) last: Option<LogId>,
    /// Agents wait for it to lead.
    #[serde(default)]
    pub(super) followed: bool,
}

/// Yes or no, and why not.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Opinion {
    pub(super) yes: bool,
    pub(super) reason: String,
}

/// What an election needs.
#[derive(Clone)]
pub(super) struct Election {
    pub(super) id: u64,
    pub(super) raft: openraft::Raft<Types>,
    pub(super) peers: Peers,
    pub(super) hearing: Hearing,
    pub(super) last: LastLog,
    pub(super) chance: Chance,
    /// Agents with a session that waits for us to lead.
    pub(super) followed: Arc<AtomicUsize>,
    /// Held while a vote is given, to another or to ourselves: one in a term.
    pub(super) voting: Arc<Mutex<()>>,
    /// Without it nothing can be promised: no vote, no entry.
    pub(super) room: Room,
}

impl Election {
    /// Watches the leader for as long as the library runs.
    pub(super) async fn run(self) {
        let mut metrics = self.raft.metrics();
        let mut patience = PATIENCE + self.chance.part_of(SPREAD);
        loop {
            let (state, voters) = {
                let now = metrics.borrow_and_update();
                if now.running_state.is_err() {
                    return;
                }
                let voters: Vec<u64> = now.membership_config.membership().voter_ids().collect();
                (now.state, voters)
            };
            let may_stand = voters.contains(&self.id)
                && !self.room.is_wanting()
                && !matches!(state, ServerState::Leader | ServerState::Shutdown);
            if may_stand && voters.len() == 1 {
                // Alone, there is no leader to wait for.
                self.stand().await;
                continue;
            }
            let (silence, lost) = self.hearing.silence();
            let enough =
                if lost { Duration::from_millis(LEASE_MS) + self.chance.part_of(SPREAD_AFTER_BREAK) } else { patience };
            let others_first = if self.is_followed() { Duration::ZERO } else { PRECEDENCE };
            let wait = enough.saturating_sub(silence).max(others_first.saturating_sub(self.hearing.missed(patience)));
            if !may_stand || !wait.is_zero() {
                let wait = if may_stand { wait } else { PATIENCE / 4 };
                tokio::select! {
                    biased;
                    () = tokio::time::sleep(wait.max(Duration::from_millis(1))) => {}
                    () = self.hearing.until_lost() => {}
                    changed = metrics.changed(), if !may_stand => if changed.is_err() { return },
                }
                continue;
            }
            // While we asked, another one may have been faster.
            if self.would_win(&voters).await && self.hearing.silence().0 >= enough {
                tracing::info!(silence_ms = silence.as_millis(), lost, "the leader is missed; standing for election");
                self.stand().await;
                if self.raft.metrics().borrow().state == ServerState::Leader {
                    continue;
                }
            }
            patience = PATIENCE + self.chance.part_of(SPREAD);
            tokio::time::sleep(Duration::from_millis(20) + self.chance.part_of(SPREAD_AFTER_BREAK)).await;
        }
    }

    fn is_followed(&self) -> bool {
        self.followed.load(Ordering::Relaxed) > 0
    }

    /// Stands, and waits until it is decided.
    async fn stand(&self) {
        let mut metrics = self.raft.metrics();
        let stands = {
            let _alone = self.voting.lock().await;
            self.raft.trigger().elect().await
        };
        if stands.is_err() {
            return;
        }
        let decided = metrics.wait_for(|now| {
            now.running_state.is_err()
                || now.state == ServerState::Leader
                || now.current_leader.is_some_and(|leader| leader != self.id)
        });
        // Undecided: the next round decides.
        let _in_time = tokio::time::timeout(ELECTION, decided).await.is_ok();
    }

    /// Does a majority not hear a leader, and find our log good enough? While members come and go, one of the old and one of
    /// the new.
    async fn would_win(&self, voters: &[u64]) -> bool {
        let question = WouldVote { candidate: self.id, last: self.last.get(), followed: self.is_followed() };
        let mut asked = tokio::task::JoinSet::new();
        let configs = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            for voter in voters.iter().copied().filter(|voter| *voter != self.id) {
                let Some(member) = metrics.membership_config.membership().get_node(&voter) else { continue };
                let (peers, address, question) = (self.peers.clone(), member.addr.clone(), question.clone());
                asked.spawn(async move {
                    (voter, peers.ask::<Opinion>(voter, &address, kind::WOULD_VOTE, &question).await)
                });
            }
            metrics.membership_config.membership().get_joint_config().clone()
        };
        let (mut yes, deadline) = (BTreeSet::from([self.id]), Instant::now() + ANSWERS);
        while !is_quorum(&configs, &yes) {
            let Ok(Some(answer)) = tokio::time::timeout_at(deadline, asked.join_next()).await else { return false };
            match answer {
                Ok((voter, Ok(opinion))) if opinion.yes => drop(yes.insert(voter)),
                Ok((_, Ok(opinion))) => {
                    tracing::debug!(reason = opinion.reason, "another master would not vote for this one")
                }
                Ok((_, Err(error))) => tracing::debug!(%error, "another master was not reached"),
                Err(_) => {}
            }
        }
        true
    }

    /// Our own opinion of a candidate.
    pub(super) fn opinion(&self, question: &WouldVote) -> Opinion {
        let no = |reason: &str| Opinion { yes: false, reason: reason.to_owned() };
        let (state, is_voter) = {
            let metrics = self.raft.metrics();
            let now = metrics.borrow();
            let mut voters = now.membership_config.membership().voter_ids().peekable();
            // One that has heard of nobody yet may be needed all the same.
            (now.state, voters.peek().is_none() || voters.any(|voter| voter == question.candidate))
        };
        let (silence, lost) = self.hearing.silence();
        let enough = if lost { Duration::from_millis(LEASE_MS) } else { PATIENCE };
        if state == ServerState::Leader {
            return no("I lead");
        }
        if !is_voter {
            return no("you are no voter that I know of");
        }
        if self.room.is_wanting() {
            return no("my disk is full");
        }
        if silence < enough {
            return no("I hear the leader, or did a moment ago");
        }
        if question.last < self.last.get() {
            return no("my log is ahead of yours");
        }
        if self.is_followed() && !question.followed && self.hearing.missed(PATIENCE) < YIELD {
            return no("agents wait for me to lead");
        }
        Opinion { yes: true, reason: String::new() }
    }
}

/// A majority of each configuration: while members come and go there are two, and neither decides alone.
fn is_quorum(configs: &[BTreeSet<u64>], yes: &BTreeSet<u64>) -> bool {
    configs.iter().all(|config| config.intersection(yes).count() * 2 > config.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_configurations_need_a_majority_each_and_no_more() {
        let change = [BTreeSet::from([1, 3, 7]), BTreeSet::from([1, 3, 37])];
        assert!(is_quorum(&change, &BTreeSet::from([1, 3])), "two of the four are both majorities");
        assert!(!is_quorum(&change, &BTreeSet::from([1, 7])));
        assert!(!is_quorum(&change, &BTreeSet::from([1, 37])));
        assert!(is_quorum(&change, &BTreeSet::from([1, 7, 37])));
        assert!(is_quorum(&change[..1], &BTreeSet::from([3, 7])));
    }
}
