//! Between the masters: connections, questions, answers; and processes that start and form a cluster.

use std::io;
use std::time::Duration;

use master::peers::Question;
use master::raft::{Member, Replica};
use tokio::sync::{mpsc, oneshot};

use super::{Happening, TICK, World, digest};
use crate::invariants::Invariant;
use crate::machine::Machine;
use crate::process::{Posted, Seen};
use crate::trace::{MS, Micros, SECOND};
use crate::wires::{Answered, Asked, Life, caller, machine as machine_at};

/// Longer than anybody waits for a connection.
const NEVER: Micros = 5 * SECOND;

impl World {
    /// What a process has said and asked since.
    pub(super) fn collect(&mut self, machine: usize) {
        let Some(process) = &self.machines[machine].process else { return };
        let (seen, answers, admitted, ended) = {
            let mut posts = process.posts();
            let (seen, answers) = (std::mem::take(&mut posts.seen), std::mem::take(&mut posts.answers));
            (seen, answers, std::mem::take(&mut posts.admitted), posts.ended.take())
        };
        for seen in seen {
            self.note(format_args!("master {machine} {seen:?}"));
            if let Seen::Leading { term } = &seen {
                self.watch.room.leads(machine, *term);
            }
            if let (Seen::Leading { term: Some(_) }, 0, super::Phase::Forming) = (&seen, machine, self.phase) {
                self.form();
            }
        }
        for (other, replica) in admitted {
            self.note(format_args!("master {other} is replica {replica}"));
            self.machines[other].start(replica, false);
        }
        for Answered { question, result } in answers {
            self.send_answer(question, result);
        }
        let life = self.machines[machine].life();
        for dialed in self.machines[machine].exchange.take() {
            let Some(to) = machine_at(&dialed.address) else { continue };
            let at = self.now + self.latency();
            self.at(at, Happening::Dialed { from: life, to, asked: dialed.asked, reply: dialed.reply });
        }
        let (questions, closed) = self.wires.collect(machine, self.now);
        for asked in questions {
            self.send_question(asked);
        }
        for wire in closed {
            self.cut(wire);
        }
        if ended.as_ref().is_some_and(|why| why.contains("was removed from the cluster")) {
            // Whoever removes it sees to the rest.
            self.note(format_args!("master {machine} ends: it was removed"));
            self.ended_at(machine);
            self.drop_lines(machine, true);
            self.machines[machine].kill();
            for wire in self.wires.of(machine) {
                self.cut(wire);
            }
        } else if let Some(why) = ended {
            self.watch.check(Invariant::NobodyFails, self.now, Err(format!("master {machine} ended: {why}")));
        }
    }

    pub(super) fn latency(&mut self) -> Micros {
        let slow = if self.storm { 30 } else { 3 };
        if self.chance.percent(slow) { self.chance.within(5 * MS..400 * MS) } else { self.chance.within(100..4 * MS) }
    }

    pub(super) fn blocked(&self, from: usize, to: usize) -> Option<Micros> {
        let cuts = self.cuts.iter().filter(|(a, b, until)| (*a, *b) == (from, to) && *until > self.now);
        cuts.map(|(_, _, until)| *until).max()
    }

    fn send_question(&mut self, asked: Asked) {
        let (lost, again) = if self.storm { (10, 10) } else { (1, 1) };
        if self.chance.percent(lost) && self.in_trouble() {
            self.note(format_args!("question {} lost", asked.number));
            return;
        }
        if self.chance.percent(again) && self.in_trouble() {
            let at = self.now + self.latency();
            let Asked { number, wire, from, to, kind, ref content } = asked;
            let copy = Asked { number, wire, from, to, kind, content: content.clone() };
            self.at(at, Happening::Asked(copy));
        }
        let at = self.now + self.latency();
        self.at(at, Happening::Asked(asked));
    }

    pub(super) fn asked(&mut self, asked: Asked) {
        let (from, to) = (asked.from, asked.to);
        if self.machines[to.machine].life() != to || !self.wires.is_open(asked.wire) {
            return;
        }
        if let Some(until) = self.blocked(from.machine, to.machine) {
            // Sent again when the way is free, if it still is wanted.
            if self.chance.percent(50) {
                self.at(until.max(self.now + TICK), Happening::Asked(asked));
            }
            return;
        }
        if let Some(until) = self.machines[to.machine].still_until() {
            self.at(until.max(self.now + TICK), Happening::Asked(asked));
            return;
        }
        let Some(process) = &self.machines[to.machine].process else { return };
        let (Some(running), posted) = (process.running(), process.posted()) else { return };
        let Asked { number, wire, kind, content, .. } = asked;
        let what = (from.machine, to.machine, digest(&content));
        process.runtime().spawn(async move {
            let answer = running.replica.answer(&caller(wire, from.machine), kind, content).await;
            let result = answer.unwrap_or_else(|| Err("unknown kind".to_owned()));
            posted.lock().answers.push(Answered { question: number, result });
        });
        self.note(format_args!("question {number} {} to {} kind {kind} {:x}", what.0, what.1, what.2));
    }

    fn send_answer(&mut self, question: u64, result: Result<Vec<u8>, String>) {
        let Some((from, to)) = self.wires.ends_of(question) else { return };
        let lost = if self.storm { 10 } else { 1 };
        if (self.chance.percent(lost) && self.in_trouble()) || self.blocked(from.machine, to.machine).is_some() {
            self.note(format_args!("answer {question} lost"));
            return;
        }
        let at = self.now + self.latency();
        self.at(at, Happening::Answered { question, result });
    }

    pub(super) fn dialed(
        &mut self,
        from: Life,
        to: usize,
        asked: mpsc::Receiver<Question>,
        reply: oneshot::Sender<io::Result<()>>,
    ) {
        let blocked = self.blocked(from.machine, to).or(self.blocked(to, from.machine)).is_some();
        let machine = &self.machines[to];
        let off = machine.process.is_none() && machine.back_at.is_some() && machine.off_for > 0;
        if blocked || off || machine.still_until().is_some() {
            // Nothing comes back.
            let result = Err(io::ErrorKind::TimedOut.into());
            self.at(self.now + NEVER, Happening::DialDone { reply, result });
            return;
        }
        let running = machine.process.as_ref().and_then(crate::process::Process::running).is_some();
        let result = if running {
            let life = machine.life();
            let wire = self.wires.open(from, life, asked);
            self.note(format_args!("wire {wire} {} to {to}", from.machine));
            Ok(())
        } else {
            Err(io::ErrorKind::ConnectionRefused.into())
        };
        let at = self.now + self.latency();
        self.at(at, Happening::DialDone { reply, result });
    }

    /// A connection ends for both.
    pub(super) fn cut(&mut self, wire: u64) {
        if let Some(to) = self.wires.cut(wire) {
            self.note(format_args!("wire {wire} ends"));
            let at = self.now + self.latency();
            self.at(at, Happening::Ended { to, wire });
        }
    }

    pub(super) fn ended(&mut self, to: Life, wire: u64) {
        if self.machines[to.machine].life() != to {
            return;
        }
        if let Some(running) = self.machines[to.machine].process.as_ref().and_then(crate::process::Process::running) {
            running.replica.ended(&caller(wire, 0));
        }
    }

    fn form(&mut self) {
        let others: Vec<(usize, Member)> = (1..self.masters).map(|number| (number, Machine::member(number))).collect();
        let Some(process) = &self.machines[0].process else { return };
        if let Some(running) = process.running() {
            process.runtime().spawn(form(running.replica, process.posted(), others));
        }
    }

    pub(super) fn formed(&self) -> bool {
        self.machines[0].process.as_ref().is_some_and(|process| process.posts().formed)
    }

    pub(super) fn back(&mut self, machine: usize) {
        let one = &mut self.machines[machine];
        if one.process.is_some() || one.back_at.is_none_or(|at| at > self.now) {
            return;
        }
        if let Some(replica) = one.replica {
            one.off_for = 0;
            one.start(replica, false);
            self.note(format_args!("master {machine} is back"));
        }
    }

    fn in_trouble(&self) -> bool {
        matches!(self.phase, super::Phase::Trouble(_))
    }
}

/// Takes the others in, one after the other, as an operator would.
async fn form(replica: Replica, posted: Posted, others: Vec<(usize, Member)>) {
    const PAUSE: Duration = Duration::from_millis(50);
    for (number, member) in others {
        let id = loop {
            match replica.admit(member.clone()).await {
                Ok(id) => break id,
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        };
        posted.lock().admitted.push((number, id));
        while replica.promote(id).await.is_err() {
            tokio::time::sleep(PAUSE).await;
        }
    }
    posted.lock().formed = true;
}
