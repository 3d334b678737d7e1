//! Maintenance: when machines will be away, and which are down.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use api::v1::Reason;
use api::{AgentId, TaskState};
use serde::{Deserialize, Serialize};

use super::{Agent, Reachability, State, Task};
use crate::event::Event;
use crate::io::operator::{MachineId, Refusal, Unavailability, Window};

/// The schedule and what came of it. Machines in a window are draining unless they are down; all others
/// are up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Maintenance {
    /// The schedule.
    pub windows: Vec<Window>,
    /// Machines that are down: their agents are refused.
    pub down: BTreeSet<MachineId>,
    /// Machines that were in a schedule once: what operators are told of them tells them from machines nobody
    /// ever named. Full: further ones are not remembered.
    #[serde(default)]
    named: BTreeSet<MachineId>,
}

/// A hall of racks, several times.
const MAX_NAMED_MACHINES: usize = 100_000;

impl Maintenance {
    /// When the agent's machine will be away.
    #[must_use]
    pub fn unavailability(&self, agent: &Agent) -> Option<Unavailability> {
        self.window_of(&agent.hostname, &agent.address).map(|(_, unavailability)| unavailability)
    }

    fn window_of(&self, hostname: &str, ip: &str) -> Option<(&MachineId, Unavailability)> {
        self.windows.iter().find_map(|window| {
            let machine = window.machines.iter().find(|machine| machine.is(hostname, ip))?;
            Some((machine, window.unavailability))
        })
    }

    /// The machine of the schedule that the agent is on.
    pub(super) fn machine_of(&self, agent: &Agent) -> Option<&MachineId> {
        self.window_of(&agent.hostname, &agent.address).map(|(machine, _)| machine)
    }

    /// Is the machine with this hostname and address down?
    #[must_use]
    pub fn is_down(&self, hostname: &str, ip: &str) -> bool {
        self.down.iter().any(|machine| machine.is(hostname, ip))
    }

    fn schedules(&self, machine: &MachineId) -> bool {
        self.windows.iter().any(|window| window.machines.contains(machine))
    }
}

impl State {
    pub(super) fn update_maintenance_schedule(
        &mut self,
        windows: Vec<Window>,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let windows: Vec<Window> = windows
            .into_iter()
            .map(|Window { machines, unavailability }| {
                let machines = machines.iter().map(|machine| MachineId::new(&machine.hostname, &machine.ip));
                Window { machines: machines.collect(), unavailability }
            })
            .collect();
        self.check_schedule(&windows).map_err(Refusal::bad_request)?;
        let machines = windows.iter().flat_map(|window| &window.machines);
        let room = MAX_NAMED_MACHINES.saturating_sub(self.maintenance.named.len());
        self.maintenance.named.extend(machines.take(room).cloned());
        self.maintenance.windows = windows;
        events.push(Event::MaintenanceUpdated);
        Ok(())
    }

    fn check_schedule(&self, windows: &[Window]) -> Result<(), String> {
        let mut seen = BTreeSet::new();
        for window in windows {
            if window.machines.is_empty() {
                return Err("List of machines in the maintenance window is empty".to_owned());
            }
            if window.unavailability.duration.is_some_and(|duration| duration < 0) {
                return Err("Unavailability 'duration' is negative".to_owned());
            }
            check_machines(&window.machines, &mut seen)?;
        }
        match self.maintenance.down.iter().find(|machine| !seen.contains(machine)) {
            Some(machine) => {
                let machine = machine.json();
                Err(format!("Machine '{machine}' is deactivated and cannot be removed from the schedule"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn start_maintenance(
        &mut self,
        machines: &[MachineId],
        at: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), Refusal> {
        let machines = known_machines(machines).map_err(Refusal::bad_request)?;
        for machine in &machines {
            if !self.maintenance.schedules(machine) || self.maintenance.down.contains(machine) {
                return Err(self.wrong_mode(machine, "is not in DRAINING mode and cannot be brought down"));
            }
        }
        self.maintenance.down.extend(machines);
        let mut stopped = Vec::new();
        for (id, agent) in &self.agents {
            let down = self.maintenance.is_down(&agent.hostname, &agent.address);
            if down && !matches!(agent.reachability, Reachability::Removed { .. }) {
                stopped.push(id.clone());
            }
        }
        for agent in stopped {
            self.remove_agent(&agent, at, events);
        }
        events.push(Event::MaintenanceUpdated);
        Ok(())
    }

    pub(super) fn stop_maintenance(&mut self, machines: &[MachineId], events: &mut Vec<Event>) -> Result<(), Refusal> {
        let machines = known_machines(machines).map_err(Refusal::bad_request)?;
        for machine in &machines {
            if !self.maintenance.down.contains(machine) {
                return Err(self.wrong_mode(machine, "is not in DOWN mode and cannot be brought up"));
            }
        }
        for machine in &machines {
            self.maintenance.down.remove(machine);
            for window in &mut self.maintenance.windows {
                window.machines.retain(|other| other != machine);
            }
        }
        self.maintenance.windows.retain(|window| !window.machines.is_empty());
        events.push(Event::MaintenanceUpdated);
        Ok(())
    }

    fn wrong_mode(&self, machine: &MachineId, what: &str) -> Refusal {
        let on = |agent: &Arc<Agent>| machine.is(&agent.hostname, &agent.address);
        let known = self.maintenance.named.contains(machine) || self.agents.values().any(on);
        let what = if known { what } else { "is not part of a maintenance schedule" };
        Refusal::bad_request(format!("Machine '{}' {what}", machine.json()))
    }

    /// The agent's machine is down: its tasks are lost. It may register again when the machine is up.
    fn remove_agent(&mut self, id: &AgentId, at: u64, events: &mut Vec<Event>) {
        const WHY: &str = "Operator initiated 'Machine DOWN'";
        let mine: Vec<Arc<Task>> = self.tasks_on(id).cloned().collect();
        let mut frameworks = BTreeSet::new();
        for task in mine {
            frameworks.insert(task.framework.clone());
            let lost = self.lost_or(&task.framework, TaskState::Gone);
            let state = if task.state.is_terminal() { task.state } else { lost };
            let status = task.master_status(state, Reason::AgentRemoved, WHY, at);
            self.end_task(&task.framework, task.id(), status, at, events);
        }
        self.end_executors_on(id, events);
        if let Some(agent) = self.agents.get_mut(id) {
            Arc::make_mut(agent).reachability = Reachability::Removed { since: at };
        }
        let frameworks = frameworks.into_iter().collect();
        events.push(Event::AgentRemoved { agent: id.clone(), frameworks, why: WHY.to_owned() });
        self.check_drained(id, events);
    }
}

fn known_machines(machines: &[MachineId]) -> Result<Vec<MachineId>, String> {
    if machines.is_empty() {
        return Err("List of machines is empty".to_owned());
    }
    let machines: Vec<MachineId> =
        machines.iter().map(|machine| MachineId::new(&machine.hostname, &machine.ip)).collect();
    check_machines(&machines, &mut BTreeSet::new())?;
    Ok(machines)
}

fn check_machines(machines: &[MachineId], seen: &mut BTreeSet<MachineId>) -> Result<(), String> {
    for machine in machines {
        if machine.hostname.is_empty() && machine.ip.is_empty() {
            return Err("Both 'hostname' and 'ip' for a machine are empty".to_owned());
        }
        if !machine.ip.is_empty() && machine.ip.parse::<Ipv4Addr>().is_err() {
            return Err(format!("Failed to parse the IP: {}", machine.ip));
        }
        if !seen.insert(machine.clone()) {
            return Err(format!("Machine '{}' appears more than once in the schedule", machine.json()));
        }
    }
    Ok(())
}
