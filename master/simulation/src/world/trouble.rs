//! Things go wrong, and in the end they do not any more.

use std::path::Path;

use master::raft::offline::{self, Outline};

use super::{Happening, Normal, World};
use crate::faults::Fault;
use crate::invariants::Invariant;
use crate::lines::Client;
use crate::process::DIRECTORY;
use crate::trace::{MS, Micros, SECOND};

/// A fuse that has not blown by then is helped.
const FUSE: Micros = 2 * SECOND;
/// Until the others find out that a machine without power is gone.
const UNNOTICED: Micros = 12 * SECOND;

impl World {
    pub(super) fn fault(&mut self, fault: Fault) {
        if matches!(self.phase, super::Phase::Healed(_) | super::Phase::Quiet(_) | super::Phase::Over) {
            return;
        }
        self.faults += 1;
        self.note(format_args!("{fault:?}"));
        let now = self.now;
        match fault {
            Fault::Kill { machine, back_after } => self.kill(machine, back_after),
            Fault::PowerCut { machine, changes, back_after } => {
                let one = &mut self.machines[machine];
                if one.process.is_some() {
                    one.disk.set_fuse(changes);
                    one.off_for = back_after;
                    let life = one.life();
                    self.at(now + FUSE, Happening::PowerOff(life));
                }
            }
            Fault::Standstill { machine, time } => self.machines[machine].stand_still(now, time),
            Fault::SlowDisk { machine, time } => {
                self.machines[machine].disk.set_slow(true);
                self.at(now + time, Happening::Normal(Normal::Disk(machine)));
            }
            Fault::FullDisk { machine, time } => {
                self.machines[machine].disk.set_full(true);
                self.at(now + time, Happening::Normal(Normal::Room(machine)));
            }
            Fault::Members => self.wish_members(),
            Fault::CutOff { machine, says, hears, time } => {
                for other in (0..self.machines.len()).filter(|other| *other != machine) {
                    self.cuts.extend(says.then_some((machine, other, now + time)));
                    self.cuts.extend(hears.then_some((other, machine, now + time)));
                }
            }
            Fault::Apart { from, to, both, time } => {
                self.cuts.push((from, to, now + time));
                self.cuts.extend(both.then_some((to, from, now + time)));
            }
            Fault::Storm { time } => {
                self.storm = true;
                self.at(now + time, Happening::Normal(Normal::Storm));
            }
            Fault::Break { machine } => {
                for wire in self.wires.of(machine) {
                    self.cut(wire);
                }
            }
            Fault::WallClock { machine, by_ms } => self.machines[machine].set_wall(by_ms),
            Fault::Drift { machine, rate } => self.machines[machine].rate = rate,
            Fault::AgentLost { agent } => self.hang_up(Client::Agent(agent)),
            Fault::Reboot { agent } => {
                self.hang_up(Client::Agent(agent));
                self.agents[agent].reboot(now, &mut self.watch);
            }
            Fault::FrameworkLost { framework } => self.hang_up(Client::Framework(framework)),
            Fault::ClientCutOff { client, time } => self.client_cuts.push((client, now + time)),
        }
    }

    fn kill(&mut self, machine: usize, back_after: Micros) {
        if self.machines[machine].process.is_none() {
            return;
        }
        self.drop_lines(machine, true);
        self.ended_at(machine);
        self.machines[machine].kill();
        if let (Some(log), Some(replica)) = (self.outline(machine), self.machines[machine].replica) {
            self.elected(replica, &log);
        }
        for wire in self.wires.of(machine) {
            let at = self.now + self.latency();
            self.at(at, Happening::Cut { wire });
        }
        self.will_be_back(machine, back_after);
    }

    /// Without power: nobody is told anything, and the disk loses what was not synced.
    pub(super) fn power_off(&mut self, machine: usize) {
        let one = &self.machines[machine];
        let back_after = one.off_for.max(20 * MS);
        // In the middle of a change nothing can be read; then what was seen last counts.
        let before = if one.disk.is_dead() { None } else { self.outline(machine) };
        let before = before.unwrap_or_else(|| self.outlines[machine].clone());
        self.note(format_args!("master {machine} has no power"));
        self.drop_lines(machine, false);
        self.ended_at(machine);
        let one = &mut self.machines[machine];
        one.kill();
        one.disk.power_cut();
        for wire in self.wires.of(machine) {
            self.at(self.now + UNNOTICED, Happening::Cut { wire });
        }
        if let (Some(after), Some(replica)) = (self.outline(machine), self.machines[machine].replica) {
            let kept = self.watch.acknowledged.restarts(replica, &before, &after);
            self.watch.check(Invariant::NothingAcknowledgedIsLost, self.now, kept);
            let remembered = self.watch.election.restarts(replica, after.term);
            self.watch.check(Invariant::ElectionSafety, self.now, remembered);
            self.elected(replica, &after);
            self.outlines[machine] = after;
        }
        self.machines[machine].off_for = back_after;
        self.will_be_back(machine, back_after);
    }

    /// What died may have been elected a moment before, and will know it.
    fn elected(&mut self, replica: u64, log: &Outline) {
        if log.elected == Some(replica) {
            let stands = self.watch.election.stands(replica, log.term, true);
            self.watch.check(Invariant::ElectionSafety, self.now, stands);
        }
    }

    /// Its process is no more.
    pub(super) fn ended_at(&mut self, machine: usize) {
        self.watch.room.leads(machine, None);
    }

    fn will_be_back(&mut self, machine: usize, after: Micros) {
        self.machines[machine].back_at = Some(self.now + after);
        self.at(self.now + after, Happening::Back { machine });
    }

    /// What is on a machine's disk; a log that cannot be read is a violation.
    pub(super) fn outline(&mut self, machine: usize) -> Option<Outline> {
        match offline::outline(&self.machines[machine].disk.copy().shared(), Path::new(DIRECTORY)) {
            Ok(outline) => Some(outline),
            Err(error) => {
                let what = format!("the log of master {machine} cannot be read: {error}: {:?}", error);
                self.watch.check(Invariant::NothingAcknowledgedIsLost, self.now, Err(what));
                None
            }
        }
    }

    /// Everything is as it should be from now on.
    pub(super) fn heal(&mut self) {
        self.cuts.clear();
        self.client_cuts.clear();
        self.storm = false;
        for machine in 0..self.machines.len() {
            let one = &mut self.machines[machine];
            one.heal();
            // A fuse that is still burning would be a fault after all.
            if one.process.is_none() {
                one.back_at = Some(self.now);
                self.at(self.now, Happening::Back { machine });
            }
        }
        self.agents.iter_mut().for_each(|agent| agent.hurry = true);
        self.ended_before = self.frameworks.iter().map(|framework| framework.ended.len()).collect();
    }
}
