//! Agents: admitted, back again, rebooted, unreachable.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::v1::{AgentCapabilities, Reason, TimeInfo};
use api::{AgentId, Attribute, Fact, FrameworkId, NodeName, Resources, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use super::{Drain, MAX_UNREACHABLE_AGENTS, MAX_UNREACHABLE_TASKS, State, Task};
use crate::event::Event;
use crate::io::{Registration, ReportedTask, Return};
use crate::operation::convert_again;
use crate::rules::{Resolved, resolve};

/// A node of the pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// `<master>-S<n>`; kept over reboots.
    pub id: AgentId,
    /// What an operator calls the machine.
    pub node: NodeName,
    /// Of the boot that registered last.
    pub boot_id: String,
    /// What frameworks reach the node by.
    pub hostname: String,
    /// IP address.
    pub address: String,
    /// Of the agent.
    pub version: String,
    /// What it can do.
    #[serde(default)]
    pub capabilities: AgentCapabilities,
    /// Kernel release.
    pub kernel: String,
    /// All it offers: the machine's, with reservations and volumes made of it since.
    pub resources: Arc<Resources>,
    /// What constraints match on: of the facts and the operator's rules those that count.
    pub attributes: Arc<Vec<Attribute>>,
    /// What the agent knows of its machine, with where it is from.
    #[serde(default)]
    pub facts: Arc<Vec<Fact>>,
    /// For whom a rule reserves what is free.
    #[serde(default)]
    pub reserve: Option<String>,
    /// `hwdetect::Inventory` as JSON.
    pub inventory_json: Arc<str>,
    /// Milliseconds since 1970: when the node first joined.
    pub registered_at: u64,
    /// When it last came back.
    pub reregistered_at: Option<u64>,
    /// Does the cluster count on it?
    pub reachability: Reachability,
    /// An operator wants it used no more: it is not offered.
    #[serde(default)]
    pub deactivated: bool,
    /// The agent's name for what it last told of the machine: by this it returns. 0: none.
    #[serde(default)]
    pub edition: u64,
    /// Set while it drains and when it has.
    #[serde(default)]
    pub drain: Option<Drain>,
}

impl Agent {
    /// As Mesos's messages name it.
    #[must_use]
    pub fn described(&self) -> String {
        format!("{} at slave(1)@{}:5051 ({})", self.id, self.address, self.hostname)
    }
}

/// Whether an agent is counted on. A connection that broke a moment ago does not show here.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Reachability {
    /// Connected, or away for less than the timeout.
    Reachable,
    /// Away for too long; may come back.
    Unreachable {
        /// Milliseconds since 1970.
        since: u64,
    },
    /// Its machine was taken down by an operator; may come back when the machine is up.
    Removed {
        /// Milliseconds since 1970.
        since: u64,
    },
}

impl State {
    pub(super) fn register_agent(
        &mut self,
        proposed: AgentId,
        registration: Registration,
        at: u64,
        events: &mut Vec<Event>,
    ) {
        if let Some((why, retry)) = self.refusal(&registration) {
            let agent = self.nodes.get(&registration.node).cloned().unwrap_or(proposed);
            let shutdown = registration.frameworks();
            events.push(Event::AgentRefused { agent, node: registration.node, why, retry, shutdown });
            return;
        }
        let id = self.nodes.entry(registration.node.clone()).or_insert(proposed).clone();
        if let Some(number) = id.as_str().rsplit_once("-S").and_then(|(_, number)| number.parse::<u64>().ok()) {
            self.next_agent = self.next_agent.max(number.saturating_add(1));
        }
        let old = self.agents.get(&id).cloned();
        // What was made of the machine's resources is in the log only.
        let (resources, lost) = match &old {
            Some(old) => convert_again(&registration.resources, &old.resources),
            None => (registration.resources, Resources::new()),
        };
        Self::tell_lost_conversions(&id, lost, events);
        let facts = all_facts(registration.attributes, registration.facts);
        let resolved = resolve(registration.node.as_str(), &registration.address, &facts, &self.rules);
        let agent = Agent {
            id: id.clone(),
            node: registration.node.clone(),
            boot_id: registration.boot_id,
            hostname: registration.hostname,
            address: registration.address,
            version: registration.version,
            capabilities: registration.capabilities,
            kernel: registration.kernel,
            resources: Arc::new(resources),
            attributes: Arc::new(resolved.attributes),
            facts: Arc::new(facts),
            reserve: resolved.reserve,
            inventory_json: registration.inventory_json.into(),
            registered_at: old.as_ref().map_or(at, |old| old.registered_at),
            reregistered_at: old.as_ref().map(|_| at),
            reachability: Reachability::Reachable,
            deactivated: old.as_ref().is_some_and(|old| old.deactivated),
            drain: old.as_ref().and_then(|old| old.drain),
            edition: registration.edition,
        };
        let mut registered = Registered::default();
        let same_boot = old.as_ref().is_some_and(|old| old.boot_id == agent.boot_id);
        if let Some(old) = old {
            let mine: Vec<Arc<Task>> = self.tasks_on(&id).cloned().collect();
            if old.boot_id == agent.boot_id {
                self.compare_tasks(&mine, &registration.tasks, at, &mut registered);
            } else {
                self.end_tasks_of_reboot(&mine, &registration.node, at, &mut registered.events);
            }
        }
        self.agents.insert(id.clone(), Arc::new(agent));
        if !same_boot {
            self.end_executors_on(&id, &mut registered.events);
        }
        // Before the agent is known to be there: it is told of as one that uses this much.
        self.executors_reported(&id, &registration.executors, events);
        self.end_unreported_executors(&id, &registration.executors, &registered.run, &mut registered.events);
        let strangers = registration.executors.iter().map(|executor| &executor.framework);
        registered.shutdown.extend(strangers.filter(|id| !self.frameworks.contains_key(*id)).cloned());
        for reported in &registration.tasks {
            if !self.frameworks.contains_key(&reported.framework) {
                registered.shutdown.insert(reported.framework.clone());
            } else if self.task(&reported.framework, &reported.task).is_none() && !reported.state.is_terminal() {
                registered.kill.push((reported.framework.clone(), reported.task.clone()));
            }
        }
        self.is_back(id, registration.node, registered, events);
    }

    fn is_back(&mut self, id: AgentId, node: NodeName, mut registered: Registered, events: &mut Vec<Event>) {
        self.kill_what_drains(&id, &mut registered);
        events.push(Event::AgentRegistered {
            agent: id.clone(),
            node,
            run: registered.run,
            kill: registered.kill,
            shutdown: registered.shutdown.into_iter().collect(),
        });
        events.append(&mut registered.events);
        self.check_drained(&id, events);
    }

    /// Is the agent that returns what we know of it?
    #[must_use]
    pub(crate) fn knows(&self, back: &Return) -> bool {
        let Some(agent) = self.agents.get(&back.agent).filter(|agent| agent.node == back.node) else { return false };
        let same = agent.boot_id == back.boot_id && agent.edition == back.edition && back.edition != 0;
        let reachable = agent.reachability == Reachability::Reachable;
        // What it has of executors is more than a digest tells.
        let same = same && self.executors_on(&back.agent).next().is_none();
        let down = self.maintenance.is_down(&agent.hostname, &agent.address);
        same && reachable && !down && self.nodes.get(&back.node) == Some(&back.agent) && {
            let tasks = self.tasks_on(&back.agent);
            let known = tasks.map(|task| (&task.framework, task.id(), &task.container, task.state));
            api::tasks_digest(known) == back.tasks
        }
    }

    /// An agent that is what we know of it: as if it had registered with all that.
    pub(super) fn return_agent(&mut self, back: &Return, at: u64, events: &mut Vec<Event>) {
        let (id, node) = (back.agent.clone(), back.node.clone());
        if !self.knows(back) {
            events.push(Event::AgentUnknown { agent: id, node });
            return;
        }
        if let Some(agent) = self.agents.get_mut(&id) {
            Arc::make_mut(agent).reregistered_at = Some(at);
        }
        let mut registered = Registered::default();
        let killed = self.tasks_on(&id).filter(|task| task.kill.is_some() && !task.state.is_terminal());
        registered.kill = killed.map(|task| (task.framework.clone(), task.id().clone())).collect();
        self.is_back(id, node, registered, events);
    }

    /// Why a node may not register, and whether trying again can help.
    #[must_use]
    pub(crate) fn refusal(&self, registration: &Registration) -> Option<(String, bool)> {
        if registration.agent.as_ref().is_some_and(|agent| self.gone.contains_key(agent)) {
            return Some(("Agent has been marked gone".to_owned(), false));
        }
        let down = self.maintenance.is_down(&registration.hostname, &registration.address);
        down.then(|| ("Machine is `DOWN`".to_owned(), true))
    }

    /// An agent that was away when its draining began brings tasks back.
    fn kill_what_drains(&mut self, id: &AgentId, registered: &mut Registered) {
        let drain = self.agents.get(id).and_then(|agent| agent.drain).filter(|drain| !drain.drained);
        let Some(drain) = drain else { return };
        let mine: Vec<Arc<Task>> = self.tasks_on(id).filter(|task| !task.state.is_terminal()).cloned().collect();
        for task in mine.into_iter().filter(|task| task.kill.is_none()) {
            let (framework, grace_ms) = (task.framework.clone(), drain.grace_of(&task));
            if let Some(task) = self.task_mut(&framework, task.id()) {
                task.kill = Some(super::KillRequest { grace_ms });
            }
            registered.kill.push((framework, task.id().clone()));
        }
    }

    /// The node rebooted: whatever ran there is gone, once.
    fn end_tasks_of_reboot(&mut self, mine: &[Arc<Task>], node: &NodeName, at: u64, events: &mut Vec<Event>) {
        for task in mine {
            let gone = self.lost_or(&task.framework, TaskState::Gone);
            let state = if task.state.is_terminal() { task.state } else { gone };
            let status = task.master_status(state, Reason::AgentRestarted, format!("Node {node} rebooted"), at);
            self.end_task(&task.framework, task.id(), status, at, events);
        }
    }

    /// The same boot is back: what it knows and what the log knows are brought together.
    fn compare_tasks(&mut self, mine: &[Arc<Task>], reported: &[ReportedTask], at: u64, registered: &mut Registered) {
        let reported: BTreeMap<_, _> = reported.iter().map(|task| ((&task.framework, &task.task), task)).collect();
        for task in mine {
            let key = (task.framework.clone(), task.id().clone());
            let known = reported.get(&(&key.0, &key.1)).filter(|reported| reported.container == task.container);
            match known {
                Some(reported) => {
                    if task.state == TaskState::Unreachable {
                        self.task_is_back(task, reported.state, at, &mut registered.events);
                    }
                    if task.kill.is_some() && !task.state.is_terminal() {
                        registered.kill.push(key);
                    }
                }
                // The message that was to start it never arrived.
                None if task.state == TaskState::Staging && task.statuses.is_empty() => {
                    if task.kill.is_some() {
                        registered.kill.push(key.clone());
                    }
                    registered.run.push(key);
                }
                None if task.state.is_terminal()
                    && task.last_status().is_some_and(|last| last.state().is_terminal()) =>
                {
                    self.complete_task(&key.0, &key.1);
                }
                None => {
                    let gone = self.lost_or(&task.framework, TaskState::Gone);
                    let state = if task.state.is_terminal() { task.state } else { gone };
                    let message = "Reconciliation: task unknown to the agent";
                    let status = task.master_status(state, Reason::Reconciliation, message, at);
                    self.end_task(&key.0, &key.1, status, at, &mut registered.events);
                }
            }
        }
    }

    fn task_is_back(&mut self, task: &Task, state: TaskState, at: u64, events: &mut Vec<Event>) {
        // An end is told by the agent's own update, which it repeats until acknowledged.
        let shown = if state.is_terminal() { TaskState::Running } else { state };
        let mut status = task.master_status(shown, Reason::AgentReregistered, "Agent reregistered", at);
        status.container_status = task.statuses.iter().rev().find_map(|last| last.get().container_status);
        if let Some(task) = self.task_mut(&task.framework, task.id()) {
            task.state = shown;
            task.record(status.clone());
        }
        events.push(Event::TaskUpdated { framework: task.framework.clone(), status: Box::new(status) });
    }

    pub(super) fn lost_or(&self, framework: &FrameworkId, aware: TaskState) -> TaskState {
        self.framework(framework).map_or(TaskState::Lost, |framework| framework.lost_or(aware))
    }

    pub(super) fn update_capacity(
        &mut self,
        id: &AgentId,
        resources: Resources,
        (attributes, facts): (Vec<Attribute>, Vec<Fact>),
        inventory_json: Option<String>,
        events: &mut Vec<Event>,
    ) {
        let rules = Arc::clone(&self.rules);
        let Some(agent) = self.agents.get_mut(id) else { return };
        let facts = all_facts(attributes, facts);
        let Resolved { attributes, reserve, .. } = resolve(agent.node.as_str(), &agent.address, &facts, &rules);
        let (resources, lost) = convert_again(&resources, &agent.resources);
        let same_resources = agent.resources.contains(&resources) && resources.contains(&agent.resources);
        let same = same_resources && *agent.attributes == attributes && agent.reserve == reserve;
        if same && *agent.facts == facts && inventory_json.is_none() {
            return;
        }
        let agent = Arc::make_mut(agent);
        agent.facts = Arc::new(facts);
        if let Some(json) = inventory_json {
            agent.inventory_json = json.into();
        }
        if same {
            return; // another evidence, another serial number of a disk: nothing offers show
        }
        if !same_resources {
            agent.resources = Arc::new(resources);
        }
        agent.attributes = Arc::new(attributes);
        agent.reserve = reserve;
        Self::tell_lost_conversions(id, lost, events);
        events.push(Event::CapacityChanged { agent: id.clone() });
    }

    pub(super) fn mark_agent_unreachable(&mut self, id: &AgentId, at: u64, events: &mut Vec<Event>) {
        let Some(agent) = self.agents.get_mut(id) else { return };
        if agent.reachability != Reachability::Reachable {
            return;
        }
        let agent = Arc::make_mut(agent);
        agent.reachability = Reachability::Unreachable { since: at };
        let message = format!("Agent {} is unreachable", agent.hostname);
        let mine: Vec<Arc<Task>> = self.tasks_on(id).cloned().collect();
        let mut frameworks = BTreeSet::new();
        for task in mine {
            frameworks.insert(task.framework.clone());
            if task.state.is_terminal() {
                continue;
            }
            let state = self.lost_or(&task.framework, TaskState::Unreachable);
            let mut status = task.master_status(state, Reason::AgentRemoved, message.clone(), at);
            status.unreachable_time = Some(TimeInfo::from_unix_ms(at));
            events.push(task.freed());
            if let Some(task) = self.task_mut(&task.framework, task.id()) {
                task.state = TaskState::Unreachable; // the agent may bring it back
                task.record(status.clone());
            }
            events.push(Event::TaskUpdated { framework: task.framework.clone(), status: Box::new(status) });
        }
        self.end_executors_on(id, events);
        events.push(Event::AgentUnreachable { agent: id.clone(), frameworks: frameworks.iter().cloned().collect() });
        for framework in frameworks {
            self.bound_unreachable_tasks(&framework, at, events);
        }
        self.bound_unreachable_agents(at, events);
        self.check_drained(id, events);
    }

    fn bound_unreachable_tasks(&mut self, framework: &FrameworkId, at: u64, events: &mut Vec<Event>) {
        let Some(known) = self.framework(framework) else { return };
        let mut away: Vec<Arc<Task>> =
            known.tasks.values().filter(|task| task.state == TaskState::Unreachable).cloned().collect();
        if away.len() <= MAX_UNREACHABLE_TASKS {
            return;
        }
        away.sort_by(|a, b| (a.launched_at, a.id()).cmp(&(b.launched_at, b.id())));
        for task in &away[..away.len() - MAX_UNREACHABLE_TASKS] {
            self.forget_unreachable(task, at, events);
        }
    }

    fn bound_unreachable_agents(&mut self, at: u64, events: &mut Vec<Event>) {
        let since = |agent: &Agent| match agent.reachability {
            Reachability::Unreachable { since } => Some(since),
            Reachability::Reachable | Reachability::Removed { .. } => None,
        };
        let away = || self.agents.values().filter_map(|agent| Some((since(agent)?, agent)));
        if away().count() <= MAX_UNREACHABLE_AGENTS {
            return;
        }
        let oldest = away().min_by_key(|(since, agent)| (*since, &agent.id));
        let Some((id, node)) = oldest.map(|(_, agent)| (agent.id.clone(), agent.node.clone())) else { return };
        let mine: Vec<Arc<Task>> = self.tasks_on(&id).cloned().collect();
        for task in mine {
            self.forget_unreachable(&task, at, events);
        }
        self.operations.retain(|_, operation| operation.agent != id);
        self.draining.remove(&id);
        self.agents.remove(&id);
        self.nodes.remove(&node);
    }

    fn forget_unreachable(&mut self, task: &Task, at: u64, events: &mut Vec<Event>) {
        let lost = self.lost_or(&task.framework, TaskState::Gone);
        let state = if task.state.is_terminal() { task.state } else { lost };
        let message = "Too many tasks are unreachable: the oldest is given up";
        let status = task.master_status(state, Reason::AgentRemoved, message, at);
        self.end_task(&task.framework, task.id(), status, at, events);
    }
}

/// What was typed, then the rest.
fn all_facts(typed: Vec<Attribute>, mut facts: Vec<Fact>) -> Vec<Fact> {
    let mut all: Vec<Fact> = typed.into_iter().map(Fact::typed).collect();
    all.append(&mut facts);
    all
}

/// What a registration brings about.
#[derive(Default)]
struct Registered {
    run: Vec<(FrameworkId, TaskId)>,
    kill: Vec<(FrameworkId, TaskId)>,
    shutdown: BTreeSet<FrameworkId>,
    events: Vec<Event>,
}
