//! Looks at leaders, logs and states; and in the end, whether everybody has got on.

use std::collections::BTreeMap;

use master::driver::Message;
use tokio::sync::oneshot;

use super::World;
use crate::invariants::{Invariant, conserved, disjoint, obeyed};
use crate::operator;
use crate::process::Process;
use crate::trace::{Micros, SECOND};

impl World {
    /// Every tick: who leads.
    pub(super) fn look_at_leaders(&mut self) {
        for machine in 0..self.machines.len() {
            let one = &self.machines[machine];
            let Some(running) = one.process.as_ref().and_then(Process::running) else { continue };
            if one.still_until().is_some() {
                continue;
            }
            let standing = running.replica.standing();
            let members = super::members::seats(&standing);
            let agrees =
                self.watch.members.seen(standing.id, &members, running.replica.members_since(), standing.applied);
            self.watch.check(Invariant::MembersAgree, self.now, agrees);
            let one = &self.machines[machine];
            let steps_down = self.watch.room.look(machine, one.disk.refuses(), one.awake, self.now);
            self.watch.check(Invariant::FullDiskEndsReign, self.now, steps_down);
            let stands = self.watch.election.stands(standing.id, standing.term, standing.leader == Some(standing.id));
            self.terms = self.terms.max(standing.term);
            self.watch.check(Invariant::ElectionSafety, self.now, stands);
        }
        let asked = std::mem::take(&mut self.asked_views);
        for (machine, term, mut answer) in asked {
            match answer.try_recv() {
                Ok(view) => {
                    self.note(format_args!("view {} of master {machine}: {} offers", view.version, view.offers.len()));
                    if !view.leading {
                        continue;
                    }
                    let disjoint = disjoint::check(&view);
                    self.watch.check(Invariant::OffersDisjoint, self.now, disjoint);
                    let unused = obeyed::out_of_use(&view);
                    self.watch.check(Invariant::OperatorsObeyed, self.now, unused);
                    if self.view.as_ref().is_none_or(|(known, ..)| *known <= term) {
                        self.view = Some((term, self.now, view));
                    }
                }
                Err(oneshot::error::TryRecvError::Empty) => self.asked_views.push((machine, term, answer)),
                Err(oneshot::error::TryRecvError::Closed) => {}
            }
        }
    }

    /// Now and then: logs and states.
    pub(super) fn check(&mut self) {
        for machine in 0..self.machines.len() {
            let one = &self.machines[machine];
            let Some(process) = &one.process else { continue };
            let Some(running) = process.running() else { continue };
            let standing = running.replica.standing();
            let leads = standing.leader == Some(standing.id);
            if leads && one.still_until().is_none() {
                let (reply, answer) = oneshot::channel();
                let _inside = process.runtime().enter();
                running.driver.tell(Message::View(reply));
                self.asked_views.push((machine, standing.term, answer));
            }
            let Some(outline) = self.outline(machine) else { continue };
            let (replica, applied, term) = (standing.id, standing.applied.unwrap_or(0), standing.term);
            self.note(format_args!("replica {replica} applied {applied} term {term} log {}", outline.records.len()));
            let matching = self.watch.matching.seen(replica, &outline);
            self.watch.check(Invariant::LogMatching, self.now, matching);
            let acknowledged = self.watch.acknowledged.applied(replica, &outline, applied, term);
            self.watch.check(Invariant::NothingAcknowledgedIsLost, self.now, acknowledged);
            if leads {
                let complete = self.watch.acknowledged.leads(replica, &outline, term);
                self.watch.check(Invariant::NothingAcknowledgedIsLost, self.now, complete);
            }
            self.outlines[machine] = outline;
        }
    }

    /// Who has not got on yet, and what that would be.
    pub(super) fn unsettled(&self, since: Micros) -> Option<(Invariant, String)> {
        let stuck = |what: String| Some((Invariant::Progress, what));
        let mut applied = BTreeMap::new();
        if !self.steward.is_done() {
            return stuck("a change of the members is not done".to_owned());
        }
        for machine in self.machines.iter().filter(|machine| machine.replica.is_some()) {
            let Some(running) = machine.process.as_ref().and_then(Process::running) else {
                return stuck(format!("master {} does not run", machine.number));
            };
            let standing = running.replica.standing();
            applied.insert(machine.number, (standing.applied, standing.leader, standing.term));
            if let Err(what) = self.watch.members.last(&super::members::seats(&standing)) {
                return Some((Invariant::MembersAgree, what));
            }
        }
        let all = || applied.values();
        if all().any(|one| Some(one) != all().next()) {
            return stuck(format!("the masters do not agree: {applied:?}"));
        }
        if let Some(agent) = self.agents.iter().find(|agent| !agent.is_settled()) {
            return stuck(format!("{} is registered: {}, or waits", agent.name, agent.registered));
        }
        for framework in &self.frameworks {
            if !framework.subscribed || framework.unfinished() > 0 {
                return stuck(format!(
                    "a framework is subscribed: {}, {} tasks",
                    framework.subscribed,
                    framework.unfinished()
                ));
            }
        }
        // The picture is to be of a time when all of this was so already.
        let Some((_, at, view)) = &self.view else { return stuck("nobody has a view".to_owned()) };
        if *at < since + 2 * SECOND {
            return stuck("nobody has had a view for long".to_owned());
        }
        if operator::disorder(view).is_some() || self.operator.line.is_some() {
            return stuck("the operator has not put everything in order".to_owned());
        }
        if let Err(what) = self.watch.obeyed.last(view, operator::ROLE) {
            return Some((Invariant::OperatorsObeyed, what));
        }
        let agents = self.agents.iter().filter_map(|agent| agent.id.as_ref());
        conserved::check(view, agents).err().map(|what| (Invariant::ResourcesConserved, what))
    }

    /// For a person.
    pub(super) fn describe(&self, machine: usize) -> String {
        let running = self.machines[machine].process.as_ref().and_then(Process::running);
        running.map_or_else(
            || format!("master {machine} does not run"),
            |running| {
                let standing = running.replica.standing();
                let (term, leader, applied) = (standing.term, standing.leader, standing.applied);
                format!("master {machine} in term {term} led by {leader:?} has applied {applied:?}")
            },
        )
    }
}
