//! Agents and frameworks: what they want done, and their words on the way.

use std::fmt::Debug;

use super::{Happening, TICK, World};
use crate::lines::{Client, Heard, Line, Word};
use crate::trace::Micros;
use crate::{agent, framework, operator};

impl World {
    pub(super) fn clients_look(&mut self) {
        let masters = self.machines.len();
        for number in 0..self.agents.len() {
            let wishes = self.agents[number].look(self.now, masters, &mut self.watch);
            self.agent_wishes(number, wishes);
        }
        for number in 0..self.frameworks.len() {
            let wishes = self.frameworks[number].look(self.now, masters);
            self.framework_wishes(number, wishes);
        }
        self.operator_looks();
    }

    fn operator_looks(&mut self) {
        let masters = self.machines.len();
        let wish = match (self.phase, &self.view) {
            (super::Phase::Trouble(_), _) => {
                let agents: Vec<_> = self.agents.iter().filter_map(|agent| agent.id.clone()).collect();
                self.operator.look(self.now, masters, &agents, &mut self.watch)
            }
            (super::Phase::Healed(_) | super::Phase::Quiet(_), Some((_, _, view))) => {
                self.operator.tidy(self.now, masters, view, &mut self.watch)
            }
            (super::Phase::Forming | super::Phase::Over | super::Phase::Healed(_) | super::Phase::Quiet(_), _) => None,
        };
        match wish {
            Some(operator::Wish::Write(machine, write)) => {
                let line = self.open(Client::Operator, machine);
                self.operator.line = Some(line);
                self.say(line, Word::Write(write));
            }
            Some(operator::Wish::Close) => self.hang_up(Client::Operator),
            None => {}
        }
    }

    fn agent_wishes(&mut self, number: usize, wishes: Vec<agent::Wish>) {
        for wish in wishes {
            match wish {
                agent::Wish::Connect(machine, opening) => {
                    let line = self.open(Client::Agent(number), machine);
                    self.agents[number].line = Some(line);
                    self.say(line, Word::Open(opening));
                }
                agent::Wish::Register(registration) => {
                    if let Some(line) = self.agents[number].line {
                        self.say(line, Word::Register(registration));
                    }
                }
                agent::Wish::Say(message) => {
                    if let Some(line) = self.agents[number].line {
                        self.say(line, Word::Say(message));
                    }
                }
                agent::Wish::Close => self.hang_up(Client::Agent(number)),
            }
        }
    }

    fn framework_wishes(&mut self, number: usize, wishes: Vec<framework::Wish>) {
        for wish in wishes {
            match wish {
                framework::Wish::Connect(machine, call) => {
                    let line = self.open(Client::Framework(number), machine);
                    self.frameworks[number].line = Some(line);
                    self.say(line, Word::Subscribe(call));
                }
                framework::Wish::Call(call) => {
                    if let Some(line) = self.frameworks[number].line {
                        self.say(line, Word::Call(call));
                    }
                }
                framework::Wish::Close => self.hang_up(Client::Framework(number)),
            }
        }
    }

    fn open(&mut self, client: Client, machine: usize) -> u64 {
        self.lines.next += 1;
        self.lines.open.insert(self.lines.next, Line::new(client, machine));
        self.lines.next
    }

    /// Its connection ends, on its side first.
    pub(super) fn hang_up(&mut self, client: Client) {
        let line = match client {
            Client::Agent(number) => self.agents[number].line,
            Client::Framework(number) => self.frameworks[number].line,
            Client::Operator => self.operator.line,
        };
        if let Some(line) = line {
            self.say(line, Word::Bye);
            self.gone(client);
        }
    }

    fn gone(&mut self, client: Client) {
        match client {
            Client::Agent(number) => self.agents[number].disconnected(self.now),
            Client::Framework(number) => self.frameworks[number].disconnected(self.now),
            Client::Operator => {
                self.operator.line = None;
                self.operator.answered(None, self.machines.len(), &mut self.watch);
            }
        }
    }

    fn say(&mut self, line: u64, word: Word) {
        let latency = self.latency();
        let Some(open) = self.lines.open.get_mut(&line) else { return };
        let at = (self.now + latency).max(open.to_master_at + 1);
        open.to_master_at = at;
        self.at(at, Happening::ToMaster { line, word });
    }

    fn cut_off(&self, client: Client) -> Option<Micros> {
        let place = match client {
            Client::Agent(number) => number,
            Client::Framework(number) => self.agents.len() + number,
            Client::Operator => self.agents.len() + self.frameworks.len(),
        };
        let cuts = self.client_cuts.iter().filter(|(cut, until)| *cut == place && *until > self.now);
        cuts.map(|(_, until)| *until).max()
    }

    /// Later, and nothing overtakes.
    fn later(&mut self, line: u64, at: Micros, happening: Happening) {
        let Some(open) = self.lines.open.get_mut(&line) else { return };
        let last = match happening {
            Happening::ToMaster { .. } => &mut open.to_master_at,
            _ => &mut open.to_client_at,
        };
        // A process that stood still wakes in its own turn.
        let at = at.max(self.now + TICK);
        *last = (*last).max(at);
        self.at(at, happening);
    }

    pub(super) fn to_master(&mut self, line: u64, word: Word) {
        let Some(open) = self.lines.open.get(&line) else { return };
        let (client, machine) = (open.client, open.machine);
        let still = self.machines[machine].still_until();
        if let Some(until) = self.cut_off(client).or(still) {
            self.later(line, until, Happening::ToMaster { line, word });
            return;
        }
        let life = self.machines[machine].life();
        let bye = matches!(word, Word::Bye);
        let running = self.machines[machine].process.as_ref().and_then(crate::process::Process::running);
        let open = self.lines.open.get_mut(&line).expect("it was there a moment ago");
        match running {
            Some(running) if *open.life.get_or_insert(life) == life => {
                self.trace.note(self.now, format_args!("{client:?} to {machine} {}", brief(&word)));
                let process = self.machines[machine].process.as_ref().expect("it runs");
                let _inside = process.runtime().enter();
                open.arrives(line, word, &running);
            }
            Some(_) | None => {
                open.forget();
                if !bye {
                    self.tell(line, Heard::Closed);
                }
            }
        }
        if bye {
            self.lines.open.remove(&line);
        }
    }

    /// What the masters have said.
    pub(super) fn collect_clients(&mut self) {
        let numbers: Vec<u64> = self.lines.open.keys().copied().collect();
        for line in numbers {
            let Some(open) = self.lines.open.get_mut(&line) else { continue };
            let Some(life) = open.life else { continue };
            let machine = &self.machines[life.machine];
            if machine.life() != life || machine.process.is_none() {
                continue;
            }
            for heard in open.collect() {
                self.tell(line, heard);
            }
        }
    }

    pub(super) fn tell(&mut self, line: u64, heard: Heard) {
        let latency = self.latency();
        let Some(open) = self.lines.open.get_mut(&line) else { return };
        let at = (self.now + latency).max(open.to_client_at + 1);
        open.to_client_at = at;
        if matches!(heard, Heard::Closed) {
            open.forget();
        }
        self.at(at, Happening::ToClient { line, heard });
    }

    pub(super) fn to_client(&mut self, line: u64, heard: Heard) {
        let Some(open) = self.lines.open.get(&line) else { return };
        let client = open.client;
        if let Some(until) = self.cut_off(client) {
            self.later(line, until, Happening::ToClient { line, heard });
            return;
        }
        let current = match client {
            Client::Agent(number) => self.agents[number].line,
            Client::Framework(number) => self.frameworks[number].line,
            Client::Operator => self.operator.line,
        };
        if current != Some(line) {
            return; // it has hung up
        }
        self.note(format_args!("{client:?} hears {}", brief(&heard)));
        match (client, heard) {
            (_, Heard::Closed) => {
                self.say(line, Word::Bye);
                self.gone(client);
            }
            (Client::Agent(number), Heard::ToAgent(word)) => {
                let wishes = self.agents[number].hear(*word, self.now, &mut self.watch);
                self.agent_wishes(number, wishes);
            }
            (Client::Framework(number), Heard::Event(event)) => {
                let wishes = self.frameworks[number].hear(*event, self.now, &mut self.watch);
                self.framework_wishes(number, wishes);
            }
            (Client::Framework(number), Heard::Answer(answer)) => {
                let wishes = self.frameworks[number].answered(answer.as_ref(), self.now);
                self.framework_wishes(number, wishes);
            }
            (Client::Operator, Heard::Answer(answer)) => {
                self.operator.answered(answer.as_ref(), self.machines.len(), &mut self.watch);
                self.hang_up(Client::Operator);
            }
            (Client::Agent(_), Heard::Event(_) | Heard::Answer(_))
            | (Client::Framework(_), Heard::ToAgent(_))
            | (Client::Operator, Heard::ToAgent(_) | Heard::Event(_)) => {}
        }
    }

    /// All connections of clients with a process end, because it did; those who were connected notice soon, or never.
    pub(super) fn drop_lines(&mut self, machine: usize, told: bool) {
        let life = self.machines[machine].life();
        let of_it = |line: &Line| line.life == Some(life);
        let lines: Vec<u64> =
            self.lines.open.iter().filter(|(_, line)| of_it(line)).map(|(number, _)| *number).collect();
        for line in lines {
            if let Some(open) = self.lines.open.get_mut(&line) {
                open.forget();
            }
            if told {
                self.tell(line, Heard::Closed);
            }
        }
    }
}

/// Short enough for a line of the trace, and different for what is different.
fn brief(what: &impl Debug) -> String {
    let whole = format!("{what:?}");
    let text: String = whole.replace("None", "");
    let head: String = text.chars().take(60).collect();
    format!("{head} {:x}", crc32fast::hash(text.as_bytes()))
}
