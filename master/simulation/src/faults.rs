//! What goes wrong, and when: a plan made of the seed alone.

use crate::chance::Chance;
use crate::trace::{MS, Micros, SECOND};

/// One thing that goes wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Fault {
    /// The process is killed, and started again after a while.
    Kill { machine: usize, back_after: Micros },
    /// The power fails after so many more changes on the disk, or soon.
    PowerCut { machine: usize, changes: u64, back_after: Micros },
    /// The process stands still.
    Standstill { machine: usize, time: Micros },
    /// The disk is slow.
    SlowDisk { machine: usize, time: Micros },
    /// There is no room on the disk.
    FullDisk { machine: usize, time: Micros },
    /// Somebody adds a master, or replaces one.
    Members,
    /// One machine is cut off, or only what it says, or only what it hears.
    CutOff { machine: usize, says: bool, hears: bool, time: Micros },
    /// Two machines do not hear each other, or one of them not the other.
    Apart { from: usize, to: usize, both: bool, time: Micros },
    /// Messages are lost, repeated and late more than usual.
    Storm { time: Micros },
    /// Connections break.
    Break { machine: usize },
    /// The clock on the wall jumps by so many milliseconds.
    WallClock { machine: usize, by_ms: i64 },
    /// Time goes faster or slower there: parts per thousand.
    Drift { machine: usize, rate: u64 },
    /// An agent's connection breaks.
    AgentLost { agent: usize },
    /// An agent's machine starts anew.
    Reboot { agent: usize },
    /// A framework's connection breaks.
    FrameworkLost { framework: usize },
    /// An agent, framework or operator hears nothing of the masters, nor they of it, for a while.
    ClientCutOff { client: usize, time: Micros },
}

/// How many of each there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) masters: usize,
    pub(crate) agents: usize,
    pub(crate) frameworks: usize,
}

/// All of them, between two moments.
pub(crate) fn plan(chance: &mut Chance, from: Micros, until: Micros, sizes: Sizes) -> Vec<(Micros, Fault)> {
    let mut plan = Vec::new();
    // Some seeds are calm, some are not.
    let pause = chance.within(150..1500) * MS;
    let mut at = from + chance.below(pause);
    while at < until {
        plan.push((at, one(chance, sizes)));
        at += 1 + chance.below(2 * pause);
    }
    plan
}

fn one(chance: &mut Chance, sizes: Sizes) -> Fault {
    let machine = chance.index(sizes.masters);
    let short = chance.within(50 * MS..4 * SECOND);
    let back_after = chance.within(20 * MS..3 * SECOND);
    match chance.below(118) {
        100..109 => Fault::FullDisk { machine, time: short },
        109..118 => Fault::Members,
        0..15 => Fault::Kill { machine, back_after },
        15..35 => Fault::PowerCut { machine, changes: chance.below(40), back_after },
        35..42 => Fault::Standstill { machine, time: short },
        42..48 => Fault::SlowDisk { machine, time: short },
        48..60 => {
            let (says, hears) = [(true, true), (true, false), (false, true)][chance.index(3)];
            Fault::CutOff { machine, says, hears, time: short }
        }
        60..68 => {
            let to = (machine + 1 + chance.index(sizes.masters - 1)) % sizes.masters;
            Fault::Apart { from: machine, to, both: chance.percent(50), time: short }
        }
        68..74 => Fault::Storm { time: short },
        74..78 => Fault::Break { machine },
        78..82 => {
            let far = if chance.percent(50) { 5_000 } else { 86_400_000 };
            let by_ms = i64::try_from(chance.below(far)).unwrap_or_default();
            Fault::WallClock { machine, by_ms: if chance.percent(50) { by_ms } else { -by_ms } }
        }
        82..85 => Fault::Drift { machine, rate: chance.within(900..1100) },
        85..90 => Fault::AgentLost { agent: chance.index(sizes.agents) },
        90..92 => Fault::Reboot { agent: chance.index(sizes.agents) },
        92..95 => Fault::FrameworkLost { framework: chance.index(sizes.frameworks) },
        _ => {
            let time = chance.within(200 * MS..9 * SECOND);
            Fault::ClientCutOff { client: chance.index(sizes.agents + sizes.frameworks + 1), time }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_makes_one_plan() {
        let sizes = Sizes { masters: 3, agents: 3, frameworks: 2 };
        let made = |seed| plan(&mut Chance::new(seed), SECOND, 10 * SECOND, sizes);
        assert_eq!(made(7), made(7));
        assert_ne!(made(7), made(8));
        assert!(made(7).iter().all(|(at, _)| (SECOND..10 * SECOND).contains(at)));
    }
}
