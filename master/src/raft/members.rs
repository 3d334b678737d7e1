//! Who belongs to the cluster, as the log says, and how that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use openraft::{ChangeMembers, ServerState};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::Replica;
use super::types::Member;

/// A learner that is so many entries behind, or fewer, may vote.
const CAUGHT_UP: u64 = 64;
/// One that is to lead next is not much later than so many entries.
const SUCCESSOR_LAG: u64 = 4096;
/// For a change to be committed.
const CHANGE: Duration = Duration::from_secs(10);
/// More voters make every write slower and no cluster safer.
const MOST_VOTERS: usize = 7;

/// One member as the leader, or whoever is asked, sees it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seat {
    /// Its number.
    pub id: u64,
    /// Where it is.
    pub member: Member,
    /// Does it vote, or only learn?
    pub voter: bool,
    /// Entries the leader has and it has not; only the leader knows.
    pub lag: Option<u64>,
}

/// Where agents find the masters.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Links {
    /// All of them: `host:port`.
    pub all: Vec<String>,
    /// The one that had better lead next. Only the leader says so.
    pub standby: Option<String>,
}

/// Who leads, as far as a replica has heard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leader {
    /// In which term.
    pub term: u64,
    /// Its number.
    pub id: u64,
    /// Where agents reach it: `host:port`.
    pub link: String,
}

/// How things stand, as seen from one replica.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Standing {
    /// Who says so.
    pub id: u64,
    /// The newest term it knows.
    pub term: u64,
    /// Who leads, if somebody does.
    pub leader: Option<u64>,
    /// The newest entry it has.
    pub last_log: Option<u64>,
    /// The newest entry it has applied.
    pub applied: Option<u64>,
    /// All members.
    pub members: Vec<Seat>,
}

impl Standing {
    /// The leader's place.
    #[must_use]
    pub fn leader_member(&self) -> Option<&Member> {
        self.members.iter().find(|seat| Some(seat.id) == self.leader).map(|seat| &seat.member)
    }

    /// A member's.
    #[must_use]
    pub fn seat(&self, id: u64) -> Option<&Seat> {
        self.members.iter().find(|seat| seat.id == id)
    }
}

/// Why the members are as before, or may be.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ChangeError {
    /// Ask the leader.
    #[error("this master does not lead")]
    NotLeading,
    /// No such member.
    #[error("no master has the number {0}")]
    Unknown(u64),
    /// It would be too early.
    #[error("master {0} has not caught up yet: {1} entries are missing")]
    Behind(u64, u64),
    /// It would be too many.
    #[error("{MOST_VOTERS} masters vote already: more would only be slower")]
    TooMany,
    /// It would be nobody.
    #[error("master {0} is the only one that votes: without it there is no cluster")]
    Last(u64),
    /// The log refuses.
    #[error("the change was not committed: {0}")]
    Refused(String),
}

impl Replica {
    /// Its number.
    #[must_use]
    pub const fn id(&self) -> u64 {
        self.id
    }

    /// Where agents reach the members, as it changes.
    #[must_use]
    pub fn links(&self) -> watch::Receiver<Arc<Links>> {
        self.links.clone()
    }

    /// The last leader it has heard of, as that changes.
    #[must_use]
    pub fn leader(&self) -> watch::Receiver<Option<Leader>> {
        self.leader.clone()
    }

    /// So many agents wait for this replica to lead: the more reason that it does when the leader is gone.
    pub fn set_followed(&self, agents: usize) {
        self.election.followed.store(agents, Ordering::Relaxed);
    }

    /// The voter that had better lead next: who keeps up and answers. The same as before, if it does.
    pub(super) fn successor(&self, before: Option<u64>) -> Option<u64> {
        let metrics = self.raft.metrics();
        let now = metrics.borrow();
        let (last, replication) = (now.last_log_index.unwrap_or(0), now.replication.as_ref()?);
        let ready = |id: &u64| {
            let matched = replication.get(id).copied().flatten().map_or(0, |id| id.index);
            *id != self.id && matched + SUCCESSOR_LAG >= last && self.election.peers.answers(*id)
        };
        let voters = || now.membership_config.membership().voter_ids();
        before.filter(|id| voters().any(|voter| voter == *id) && ready(id)).or_else(|| voters().find(|id| ready(id)))
    }

    /// The entry that made the members what this replica takes them for.
    #[must_use]
    pub fn members_since(&self) -> Option<u64> {
        self.raft.metrics().borrow().membership_config.log_id().map(|id| id.index)
    }

    /// How things stand.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        let now = metrics.borrow();
        let membership = now.membership_config.membership();
        let voters: BTreeSet<u64> = membership.voter_ids().collect();
        let last_log = now.last_log_index;
        let lag = |id: u64| {
            let matched = now.replication.as_ref()?.get(&id)?;
            Some(last_log.unwrap_or(0).saturating_sub(matched.map_or(0, |id| id.index)))
        };
        let members = membership.nodes().map(|(id, member)| Seat {
            id: *id,
            member: member.clone(),
            voter: voters.contains(id),
            lag: if *id == self.id && now.state == ServerState::Leader { Some(0) } else { lag(*id) },
        });
        let (_, lost) = self.election.hearing.silence();
        let leader = now.current_leader.filter(|leader| *leader == self.id || !lost);
        Standing {
            id: self.id,
            term: now.current_term,
            leader,
            last_log,
            applied: now.last_applied.map(|id| id.index),
            members: members.collect(),
        }
    }

    /// Takes a new member in, as a learner first, and gives its number: that of the entry that takes it in, so that no
    /// number is given twice.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn admit(&self, member: Member) -> Result<u64, ChangeError> {
        let standing = self.standing();
        if standing.leader != Some(self.id) {
            return Err(ChangeError::NotLeading);
        }
        let id = standing.last_log.unwrap_or(0) + 1;
        if standing.seat(id).is_some() || id == super::FOUNDER {
            return Err(ChangeError::Refused("another change is going on".to_owned()));
        }
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(id, member)]))).await?;
        Ok(id)
    }

    /// A member is somewhere else now.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn move_to(&self, id: u64, member: Member) -> Result<(), ChangeError> {
        let standing = self.standing();
        let seat = standing.seat(id).ok_or(ChangeError::Unknown(id))?;
        if seat.member == member {
            return Ok(());
        }
        tracing::info!(id, from = seat.member.addr, to = member.addr, "a master has moved");
        self.change(ChangeMembers::SetNodes(BTreeMap::from([(id, member)]))).await
    }

    /// Gives a learner its vote.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn promote(&self, id: u64) -> Result<(), ChangeError> {
        let standing = self.standing();
        if standing.leader != Some(self.id) {
            return Err(ChangeError::NotLeading);
        }
        let seat = standing.seat(id).ok_or(ChangeError::Unknown(id))?;
        if seat.voter {
            return Ok(());
        }
        let lag = seat.lag.unwrap_or(u64::MAX);
        if lag > CAUGHT_UP {
            return Err(ChangeError::Behind(id, lag));
        }
        if standing.members.iter().filter(|seat| seat.voter).count() >= MOST_VOTERS {
            return Err(ChangeError::TooMany);
        }
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// A member no longer belongs to the cluster.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn remove(&self, id: u64) -> Result<(), ChangeError> {
        let standing = self.standing();
        if standing.leader != Some(self.id) {
            return Err(ChangeError::NotLeading);
        }
        let seat = standing.seat(id).ok_or(ChangeError::Unknown(id))?;
        if !seat.voter {
            return self.change(ChangeMembers::RemoveNodes(BTreeSet::from([id]))).await;
        }
        if standing.members.iter().filter(|seat| seat.voter).count() == 1 {
            return Err(ChangeError::Last(id));
        }
        self.change(ChangeMembers::RemoveVoters(BTreeSet::from([id]))).await
    }

    async fn change(&self, change: ChangeMembers<u64, Member>) -> Result<(), ChangeError> {
        match tokio::time::timeout(CHANGE, self.raft.change_membership(change, false)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(ChangeError::Refused(error.to_string())),
            Err(_) => Err(ChangeError::Refused(format!("no majority answered within {} s", CHANGE.as_secs()))),
        }
    }
}
