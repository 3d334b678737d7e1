//! The world: moves time, carries messages, breaks things as planned, and looks whether the invariants hold.
//!
//! Time goes in ticks. In each, what is due is delivered, then every process lives for a tick, then what it has said is
//! put on its way. Nothing else happens, and nothing happens at the same time.

mod checks;
mod clients;
mod masters;
mod members;
mod trouble;

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use master::peers::Question;
use master::raft::offline::Outline;
use master_core::View;
use tokio::sync::{mpsc, oneshot};

use crate::agent::Agent;
use crate::chance::Chance;
use crate::faults::{self, Fault, Sizes};
use crate::framework::Framework;
use crate::invariants::{Invariant, Violation, Watch};
use crate::lines::{Heard, Lines, Word};
use crate::machine::Machine;
use crate::operator::Operator;
use crate::trace::{MS, Micros, SECOND, Trace};
use crate::wires::{Asked, Life, Wires};
use members::Steward;

/// One step of time.
const TICK: Micros = 4 * MS;
/// Between two looks of agents and frameworks at the clock.
const LOOK: Micros = 20 * MS;
/// Between two looks at logs and states.
const CHECK: Micros = 200 * MS;
/// For the cluster to form.
const FORMED: Micros = 30 * SECOND;
/// For everybody to get on once all is healed.
const HEALED: Micros = 60 * SECOND;

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// From which everything random comes.
    pub seed: u64,
    /// How many masters: 3 or 5.
    pub masters: usize,
    /// Prints every line of the trace.
    pub verbose: bool,
    /// The mistake to make.
    #[cfg(feature = "planted-bugs")]
    pub bug: Option<master_core::planted::Bug>,
}

/// What a run came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// Of everything that happened.
    pub hash: u64,
    /// The first invariant that did not hold.
    pub violation: Option<Violation>,
    /// Things that went wrong as planned.
    pub faults: usize,
    /// Terms there were.
    pub terms: u64,
    /// Masters that were added or removed, and operators' writes that were done.
    pub changes: (usize, usize),
    /// Containers that were started.
    pub containers: usize,
    /// Lines of the trace.
    pub lines: u64,
    /// How long it took in the world's time: microseconds.
    pub time: u64,
}

/// Runs one seed.
#[must_use]
pub fn run(options: &Options) -> Outcome {
    #[cfg(feature = "planted-bugs")]
    master_core::planted::choose(options.bug);
    let mut world = World::new(options);
    world.run();
    let outcome = Outcome {
        hash: world.trace.hash(),
        violation: world.watch.found.take(),
        faults: world.faults,
        terms: world.terms,
        changes: (world.steward.changes, world.operator.done),
        containers: world.watch.launched.count(),
        lines: world.trace.lines,
        time: world.now,
    };
    #[cfg(feature = "planted-bugs")]
    master_core::planted::choose(None);
    outcome
}

/// What is to happen.
enum Happening {
    /// A connection between masters is asked for.
    Dialed { from: Life, to: usize, asked: mpsc::Receiver<Question>, reply: oneshot::Sender<io::Result<()>> },
    /// And was accepted, or not.
    DialDone { reply: oneshot::Sender<io::Result<()>>, result: io::Result<()> },
    /// A question reaches a master.
    Asked(Asked),
    /// An answer reaches a master.
    Answered { question: u64, result: Result<Vec<u8>, String> },
    /// A master learns that a connection to it has ended.
    Ended { to: Life, wire: u64 },
    /// A connection breaks.
    Cut { wire: u64 },
    /// A word reaches a master.
    ToMaster { line: u64, word: Word },
    /// A word reaches an agent or a framework.
    ToClient { line: u64, heard: Heard },
    /// Something goes wrong.
    Fault(Fault),
    /// The power fails, if it has not yet.
    PowerOff(Life),
    /// Something goes back to normal.
    Normal(Normal),
    /// A process is started again.
    Back { machine: usize },
}

enum Normal {
    Disk(usize),
    Room(usize),
    Storm,
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    Forming,
    /// Until then things go wrong.
    Trouble(Micros),
    /// Since then nothing does.
    Healed(Micros),
    /// Since then frameworks launch nothing new.
    Quiet(Micros),
    Over,
}

struct World {
    now: Micros,
    agenda: BTreeMap<(Micros, u64), Happening>,
    next: u64,
    chance: Chance,
    trace: Trace,
    watch: Watch,
    phase: Phase,
    /// So many there are at first; there is one machine more.
    masters: usize,
    machines: Vec<Machine>,
    steward: Steward,
    wires: Wires,
    /// Who does not hear whom, until when.
    cuts: Vec<(usize, usize, Micros)>,
    /// Agents and frameworks that are cut off, until when.
    client_cuts: Vec<(usize, Micros)>,
    storm: bool,
    agents: Vec<Agent>,
    frameworks: Vec<Framework>,
    operator: Operator,
    lines: Lines,
    /// Logs as they were seen last.
    outlines: Vec<Outline>,
    /// Pictures that were asked for: of whom, in which term.
    asked_views: Vec<(usize, u64, oneshot::Receiver<std::sync::Arc<View>>)>,
    /// The newest leader's, with its term and when it was taken.
    view: Option<(u64, Micros, std::sync::Arc<View>)>,
    /// Tasks each framework had ended when all was healed.
    ended_before: Vec<usize>,
    faults: usize,
    terms: u64,
}

impl World {
    fn new(options: &Options) -> Self {
        let mut chance = Chance::new(options.seed);
        let machines = (0..=options.masters).map(|number| Machine::new(number, chance.fork())).collect();
        let agents = (0..2 + chance.index(3)).map(|number| Agent::new(number, chance.fork())).collect();
        let frameworks = (0..1 + chance.index(2)).map(|number| Framework::new(number, chance.fork())).collect();
        Self {
            now: 0,
            agenda: BTreeMap::new(),
            next: 0,
            trace: Trace::new(options.verbose),
            watch: Watch::default(),
            phase: Phase::Forming,
            masters: options.masters,
            machines,
            steward: Steward::default(),
            wires: Wires::default(),
            cuts: Vec::new(),
            client_cuts: Vec::new(),
            storm: false,
            agents,
            frameworks,
            operator: Operator::new(chance.fork()),
            lines: Lines::default(),
            outlines: vec![Outline::default(); options.masters + 1],
            asked_views: Vec::new(),
            view: None,
            ended_before: Vec::new(),
            faults: 0,
            terms: 0,
            chance,
        }
    }

    fn run(&mut self) {
        self.machines[0].start(master::raft::FOUNDER, true);
        while self.watch.found.is_none() && self.phase != Phase::Over {
            while let Some(entry) = self.agenda.first_entry()
                && entry.key().0 <= self.now
            {
                let happening = entry.remove();
                self.happen(happening);
            }
            if self.now % LOOK == 0 {
                self.change_members();
                self.clients_look();
            }
            for machine in 0..self.machines.len() {
                self.machines[machine].live(self.now, TICK);
                if self.machines[machine].disk.is_dead() {
                    self.power_off(machine);
                }
            }
            self.now += TICK;
            for machine in 0..self.machines.len() {
                self.collect(machine);
            }
            self.collect_clients();
            self.look_at_leaders();
            if self.now % CHECK == 0 {
                self.check();
            }
            self.go_on();
        }
    }

    fn at(&mut self, at: Micros, happening: Happening) {
        self.next += 1;
        self.agenda.insert((at, self.next), happening);
    }

    fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.note(self.now, what);
    }

    /// From one phase to the next.
    fn go_on(&mut self) {
        match self.phase {
            Phase::Forming => {
                if self.formed() {
                    let until = self.now + self.chance.within(6..16) * SECOND;
                    let (masters, agents, frameworks) = (self.machines.len(), self.agents.len(), self.frameworks.len());
                    let sizes = Sizes { masters, agents, frameworks };
                    let plan = faults::plan(&mut self.chance.fork(), self.now, until, sizes);
                    plan.into_iter().for_each(|(at, fault)| self.at(at, Happening::Fault(fault)));
                    self.enter(Phase::Trouble(until));
                } else if self.now > FORMED {
                    self.stuck("the cluster has not formed");
                }
            }
            Phase::Trouble(until) if self.now >= until => {
                self.heal();
                self.enter(Phase::Healed(self.now));
            }
            Phase::Trouble(_) | Phase::Over => {}
            Phase::Healed(since) => {
                let gets_on = |(framework, before): (&Framework, &usize)| framework.ended.len() >= before + 3;
                if self.frameworks.iter().zip(&self.ended_before).all(gets_on) {
                    self.frameworks.iter_mut().for_each(|framework| framework.quiet = true);
                    self.enter(Phase::Quiet(self.now));
                } else if self.now > since + HEALED {
                    self.stuck("frameworks do not get their tasks run");
                }
            }
            Phase::Quiet(since) => {
                if self.now % CHECK == 0 {
                    match self.unsettled(since) {
                        None => self.enter(Phase::Over),
                        Some((invariant, what)) if self.now > since + HEALED => {
                            self.watch.check(invariant, self.now, Err(what));
                        }
                        Some(_) => {}
                    }
                }
            }
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.note(format_args!("{phase:?}"));
    }

    fn stuck(&mut self, what: &str) {
        let standing: Vec<String> = (0..self.machines.len()).map(|machine| self.describe(machine)).collect();
        let what = format!("{what}: {}", standing.join("; "));
        self.watch.check(Invariant::Progress, self.now, Err(what));
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Dialed { from, to, asked, reply } => self.dialed(from, to, asked, reply),
            // Whoever dialed may be gone.
            Happening::DialDone { reply, result } => drop(reply.send(result)),
            Happening::Asked(asked) => self.asked(asked),
            Happening::Answered { question, result } => {
                let digest = result.as_deref().map(crc32fast::hash).map_err(String::clone);
                if self.wires.answered(question, result) {
                    self.note(format_args!("answer {question} {digest:x?}"));
                }
            }
            Happening::Ended { to, wire } => self.ended(to, wire),
            Happening::Cut { wire } => self.cut(wire),
            Happening::ToMaster { line, word } => self.to_master(line, word),
            Happening::ToClient { line, heard } => self.to_client(line, heard),
            Happening::Fault(fault) => self.fault(fault),
            Happening::PowerOff(life) => {
                let machine = &self.machines[life.machine];
                if machine.process.is_some() && machine.life() == life {
                    self.power_off(life.machine);
                }
            }
            Happening::Normal(Normal::Disk(machine)) => self.machines[machine].disk.set_slow(false),
            Happening::Normal(Normal::Room(machine)) => self.machines[machine].disk.set_full(false),
            Happening::Normal(Normal::Storm) => self.storm = false,
            Happening::Back { machine } => self.back(machine),
        }
    }
}

/// For the trace.
fn digest(content: &Bytes) -> u32 {
    crc32fast::hash(content)
}
