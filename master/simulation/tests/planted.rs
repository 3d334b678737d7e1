//! Each mistake that is made on purpose is found, by the invariant that is there for it.
#![cfg(feature = "planted-bugs")]

use master_core::planted::Bug;
use master_simulation::{Invariant, Options, run};

/// A mistake that needs more is not found well enough.
const SEEDS: u64 = 200;

fn is_found(bug: Bug, by: Invariant) {
    let mut others = Vec::new();
    for seed in 0..SEEDS {
        let outcome = run(&Options { seed, masters: 3, verbose: false, bug: Some(bug) });
        match outcome.violation {
            Some(violation) if violation.invariant == by => {
                println!("{bug:?}: seed {seed}: {violation}");
                return;
            }
            Some(violation) => others.push(format!("seed {seed}: {violation}")),
            None => {}
        }
    }
    panic!("{SEEDS} seeds do not find {bug:?} by {by:?}; what they find: {others:#?}");
}

#[test]
fn a_vote_that_is_not_saved() {
    is_found(Bug::VoteNotSaved, Invariant::ElectionSafety);
}

#[test]
fn foreign_entries_that_are_kept() {
    is_found(Bug::ForeignEntriesKept, Invariant::LogMatching);
}

#[test]
fn a_log_that_is_not_synced() {
    is_found(Bug::LogNotSynced, Invariant::NothingAcknowledgedIsLost);
}

#[test]
fn a_leader_that_leads_on_in_its_term() {
    is_found(Bug::LeadsOn, Invariant::LogMatching);
}

#[test]
fn a_running_task_that_is_started_again() {
    is_found(Bug::RunningStartedAgain, Invariant::LaunchedOnce);
}

#[test]
fn an_update_that_is_acknowledged_too_early() {
    is_found(Bug::AcknowledgedTooEarly, Invariant::UpdatesInOrder);
}

#[test]
fn an_accepted_offer_that_stays() {
    is_found(Bug::OfferStays, Invariant::OffersDisjoint);
}

#[test]
fn declined_resources_that_are_lost() {
    is_found(Bug::DeclinedLost, Invariant::ResourcesConserved);
}

#[test]
fn a_leader_whose_disk_is_full() {
    is_found(Bug::FullDiskLeads, Invariant::FullDiskEndsReign);
}

#[test]
fn members_that_snapshots_forget() {
    is_found(Bug::MembersForgotten, Invariant::MembersAgree);
}

#[test]
fn an_operator_who_is_answered_too_early() {
    is_found(Bug::AnsweredTooEarly, Invariant::OperatorsObeyed);
}

#[test]
fn an_agent_out_of_use_that_is_offered() {
    is_found(Bug::DeactivatedOffered, Invariant::OperatorsObeyed);
}
