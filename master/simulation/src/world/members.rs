//! Masters that are added and replaced while things go wrong, by somebody who does one after the other and waits until
//! each is done.

use std::sync::{Arc, Mutex, PoisonError};

use master::raft::{ChangeError, Standing};

use super::World;
use crate::invariants::members::{Seats, Told};
use crate::machine::Machine;
use crate::process::{Process, Running};
use crate::trace::{MS, Micros};
use crate::wires::{Life, address};

/// Between two questions.
const PAUSE: Micros = 150 * MS;

/// What is to be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Wish {
    /// A vote for this machine.
    Add(usize),
    /// This machine's replica gone, and its disk emptied.
    Remove(usize, u64),
}

/// A change that was asked for.
struct Asked {
    of: Life,
    told: Option<(u64, Told)>,
    answer: Arc<Mutex<Option<Result<(), ChangeError>>>>,
}

/// See the module.
#[derive(Default)]
pub(super) struct Steward {
    wish: Option<Wish>,
    asked: Option<Asked>,
    at: Micros,
    pub(super) changes: usize,
}

impl Steward {
    pub(super) const fn is_done(&self) -> bool {
        self.wish.is_none()
    }
}

/// A replica's members, in short.
pub(super) fn seats(standing: &Standing) -> Seats {
    standing.members.iter().map(|seat| (seat.id, seat.voter)).collect()
}

impl World {
    /// Somebody decides that a master is to come or go, if nothing of this kind is going on.
    pub(super) fn wish_members(&mut self) {
        if !self.steward.is_done() {
            return;
        }
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            (0..self.machines.len()).partition(|machine| self.machines[*machine].replica.is_some());
        let adds = !outside.is_empty() && (inside.len() < self.masters || self.chance.percent(40));
        let wish = if adds {
            Wish::Add(outside[self.chance.index(outside.len())])
        } else {
            let machine = inside[self.chance.index(inside.len())];
            let Some(replica) = self.machines[machine].replica else { return };
            Wish::Remove(machine, replica)
        };
        self.note(format_args!("members: {wish:?}"));
        self.steward.wish = Some(wish);
    }

    /// Goes on with it.
    pub(super) fn change_members(&mut self) {
        let Some(wish) = self.steward.wish else { return };
        if let Some(asked) = self.steward.asked.take() {
            let machine = &self.machines[asked.of.machine];
            let answer = asked.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
            match answer {
                Some(answer) => {
                    self.note(format_args!("members: {answer:?}"));
                    if let (Ok(()), Some((replica, told))) = (&answer, asked.told) {
                        self.watch.members.answered(replica, told);
                    }
                    self.steward.at = self.now + PAUSE;
                }
                None if machine.process.is_some() && machine.life() == asked.of => {
                    self.steward.asked = Some(asked);
                    return;
                }
                None => {}
            }
        }
        if self.now < self.steward.at {
            return;
        }
        let Some((leader, running, standing)) = self.newest_leader() else { return };
        let settled = running.replica.members_since() <= standing.applied;
        match wish {
            Wish::Add(machine) => {
                let seat = standing.members.iter().find(|seat| seat.member.addr == address(machine)).cloned();
                match seat {
                    None => {
                        let member = Machine::member(machine);
                        let replica = running.replica;
                        self.ask(leader, None, async move { replica.admit(member).await.map(drop) });
                    }
                    // It may come to nothing.
                    Some(_) if !settled => {}
                    Some(seat) if self.machines[machine].replica != Some(seat.id) => {
                        self.note(format_args!("master {machine} is replica {}", seat.id));
                        self.machines[machine].start(seat.id, false);
                    }
                    Some(seat) if seat.voter => self.done(),
                    Some(seat) => {
                        let replica = running.replica;
                        let told = Some((seat.id, Told::Votes));
                        self.ask(leader, told, async move { replica.promote(seat.id).await });
                    }
                }
            }
            Wish::Remove(machine, id) => match standing.seat(id) {
                None if settled => {
                    self.note(format_args!("master {machine} was replica {id}"));
                    self.watch.members.answered(id, Told::Gone);
                    self.wipe(machine);
                    self.done();
                }
                None => {}
                Some(_) => {
                    let replica = running.replica;
                    let told = Some((id, Told::Gone));
                    self.ask(leader, told, async move { replica.remove(id).await });
                }
            },
        }
    }

    fn done(&mut self) {
        self.steward.wish = None;
        self.steward.changes += 1;
    }

    /// Whoever leads in the newest term there is, and knows it.
    fn newest_leader(&self) -> Option<(usize, Running, Standing)> {
        for (number, machine) in self.machines.iter().enumerate() {
            let Some(running) = machine.process.as_ref().and_then(Process::running) else { continue };
            if machine.still_until().is_some() || !self.watch.room.is_leading(number) {
                continue;
            }
            let standing = running.replica.standing();
            let newest = standing.term == self.terms && self.watch.election.is_last(standing.term, standing.id);
            if standing.leader == Some(standing.id) && newest {
                return Some((number, running, standing));
            }
        }
        None
    }

    fn ask(
        &mut self,
        leader: usize,
        told: Option<(u64, Told)>,
        change: impl Future<Output = Result<(), ChangeError>> + Send + 'static,
    ) {
        let Some(process) = &self.machines[leader].process else { return };
        let answer = Arc::new(Mutex::new(None));
        let reply = answer.clone();
        process.runtime().spawn(async move {
            let done = change.await;
            *reply.lock().unwrap_or_else(PoisonError::into_inner) = Some(done);
        });
        self.steward.asked = Some(Asked { of: self.machines[leader].life(), told, answer });
    }

    /// Its replica is no member any more: the machine is taken for something new.
    fn wipe(&mut self, machine: usize) {
        self.drop_lines(machine, true);
        self.ended_at(machine);
        self.machines[machine].wipe();
        self.outlines[machine] = master::raft::offline::Outline::default();
        for wire in self.wires.of(machine) {
            self.cut(wire);
        }
    }
}
