//! Tells the driver when we begin and cease to lead, and when the log stops.
//!
//! A leader that a majority no longer answers, or that has itself stood still for a while (the machine was suspended,
//! the process stopped), may have been replaced: it ceases to lead here until a majority has confirmed it.

use std::sync::Arc;
use std::time::Duration;

use openraft::ServerState;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::types::Member;
use super::{FromLog, Leader, Links, Replica};

/// Between two looks at the clock.
const LOOK: Duration = Duration::from_millis(100);
/// A leader that a majority has not answered for so long does not lead. With a look it is over before the others have
/// missed it for long enough to elect another one, so that what it answers is never out of date.
const ALONE: Duration = Duration::from_millis(900);
/// Between two looks so much time must not pass unnoticed.
const STANDSTILL: Duration = Duration::from_millis(700);
/// For a majority's confirmation.
const CONFIRMATION: Duration = Duration::from_millis(1000);

/// Who is told of what.
pub(super) struct Told {
    pub(super) driver: mpsc::Sender<FromLog>,
    pub(super) links: watch::Sender<Arc<Links>>,
    pub(super) leader: watch::Sender<Option<Leader>>,
}

pub(super) async fn watch(replica: Replica, member: Member, told: Told) {
    let Told { driver, links, leader } = told;
    let raft = &replica.raft;
    let mut metrics = raft.metrics();
    let (mut leads, mut was_member) = (None, false);
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known = None;
    let (mut looked, mut reported) = (Instant::now(), Instant::now());
    loop {
        let (mut now_leads, stopped, membership, heard_of) = {
            if metrics.has_changed().unwrap_or(false) {
                reported = Instant::now();
            }
            let now = metrics.borrow_and_update();
            let others = now.membership_config.membership().voter_ids().any(|voter| voter != replica.id);
            let unanswered = Duration::from_millis(now.millis_since_quorum_ack.unwrap_or(0)) + reported.elapsed();
            let leads = now.state == ServerState::Leader && !(others && unanswered > ALONE) && !out_of_room(&replica);
            let stopped = now.running_state.as_ref().err().map(ToString::to_string);
            let heard_of = now.current_leader.map(|id| (now.current_term, id));
            (leads.then_some(now.current_term), stopped, now.membership_config.clone(), heard_of)
        };
        if let Some(reason) = stopped {
            // The driver may be gone already: then nobody needs to know.
            drop(driver.send(FromLog::Failed(reason)).await);
            return;
        }
        let before = known.and_then(|(_, next)| next);
        // One that ceases to lead takes nothing back: just now the agents need it.
        let next = if now_leads.is_some() { replica.successor(before) } else { before };
        if known != Some((*membership.log_id(), next)) {
            known = Some((*membership.log_id(), next));
            let address = |id: u64| Some(membership.membership().get_node(&id)?.addr.clone());
            let all = membership.membership().nodes().map(|(_, member)| member.addr.clone()).collect();
            links.send_replace(Arc::new(Links { all, standby: next.and_then(address) }));
        }
        if let Some((term, id)) = heard_of {
            let member = membership.membership().get_node(&id);
            let heard_of = member.map(|member| Leader { term, id, link: member.addr.clone() });
            leader.send_if_modified(|known| {
                let news = heard_of.is_some() && *known != heard_of;
                if news {
                    *known = heard_of;
                }
                news
            });
        }
        let seat = membership.membership().get_node(&replica.id);
        if seat.is_none() && was_member {
            let reason =
                "this master was removed from the cluster: to return it joins anew, with another data directory";
            drop(driver.send(FromLog::Failed(reason.to_owned())).await);
            return;
        }
        was_member = was_member || seat.is_some();
        let stood_still = looked.elapsed() > STANDSTILL;
        looked = Instant::now();
        if stood_still && leads.is_some() && leads == now_leads && !confirmed(&replica).await {
            now_leads = None;
        }
        if now_leads != leads {
            if leads.take().is_some() && driver.send(FromLog::Leading(None)).await.is_err() {
                return;
            }
            if let Some(term) = now_leads {
                // A new leader first applies what its predecessors committed, and what it has in the log itself.
                let ready = confirmed(&replica).await && applied(&replica).await;
                if !ready || raft.metrics().borrow().current_term != term {
                    tracing::debug!("leadership not confirmed yet");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                leads = Some(term);
                if driver.send(FromLog::Leading(leads)).await.is_err() {
                    return;
                }
                if seat.is_some_and(|seat| *seat != member) {
                    let (replica, member) = (replica.clone(), member.clone());
                    tokio::spawn(async move { replica.move_to(replica.id, member).await });
                }
            }
        }
        tokio::select! {
            biased;
            changed = metrics.changed() => {
                reported = Instant::now();
                if changed.is_err() {
                    drop(driver.send(FromLog::Failed("the consensus task ended".to_owned())).await);
                    return;
                }
            }
            _ = looks.tick() => {}
        }
    }
}

/// What it writes is not safe anywhere: it must promise nothing.
fn out_of_room(replica: &Replica) -> bool {
    #[cfg(feature = "planted-bugs")]
    if master_core::planted::is(master_core::planted::Bug::FullDiskLeads) {
        return false;
    }
    replica.election.room.is_wanting()
}

async fn confirmed(replica: &Replica) -> bool {
    matches!(tokio::time::timeout(CONFIRMATION, replica.raft.ensure_linearizable()).await, Ok(Ok(_)))
}

/// Is everything applied that is in the log? A replica may lead again in the term in which it led before: having lost a
/// majority for a while, or after a restart, when it does not even know what it had committed. What was decided then is
/// of this term and will be applied; what is decided from now on must know it.
pub(super) async fn applied(replica: &Replica) -> bool {
    let last = replica.election.last.get();
    let mut metrics = replica.raft.metrics();
    let applied = metrics.wait_for(|now| now.last_applied >= last);
    matches!(tokio::time::timeout(CONFIRMATION, applied).await, Ok(Ok(_)))
}
