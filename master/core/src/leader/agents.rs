//! Agents: registering, answering, going away, and two claiming to be one.

use api::v1::scheduler::Event;
use api::{AgentId, FrameworkId, NodeName, TaskId};

use super::disks::Occasion;
use super::executors::executor_of;
use super::volumes::Told;
use super::{Contest, Leader, Session, Timer, Turn};
use crate::allocator::{Activity, AgentFacts};
use crate::command::Command;
use crate::io::{AgentMessage, Output, Registration, Return, SessionId, ToAgent};
use crate::state::{Agent, Task};

/// May an agent that is sent away come again?
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Comeback {
    /// At once.
    Welcome,
    /// Never under the same id.
    Barred,
}

impl Leader {
    pub(super) fn agent_registers(&mut self, turn: &mut Turn<'_>, session: SessionId, registration: Box<Registration>) {
        let node = &registration.node;
        if let Some((why, retry)) = turn.state.refusal(&registration) {
            tracing::warn!(%node, reason = %why, "refused an agent");
            for framework in registration.frameworks() {
                turn.tell_agent(session, ToAgent::ShutdownFramework { framework });
            }
            refuse(turn, session, ToAgent::Refused { reason: why, retry });
            return;
        }
        let agent = self.agent_id_of(turn, node);
        let Some(old) = self.sessions_by_agent.get(&agent).copied() else {
            self.admit(turn, session, agent, registration);
            return;
        };
        // Does the one we know still answer? A node that lost power leaves its connection open.
        if let Some(contest) = self.contests.remove(node) {
            let reason = format!("another connection registers as node {node} as well");
            refuse(turn, contest.challenger, ToAgent::Refused { reason, retry: true });
        }
        let (node, nonce) = (node.clone(), self.random.next());
        tracing::info!(%node, %agent, "a second connection registers: asking the first whether it still answers");
        turn.tell_agent(old, ToAgent::Ping { nonce });
        self.timers.set(Timer::Contest(node.clone()), turn.now.monotonic + self.config.contest_timeout);
        self.contests.insert(node, Contest { challenger: session, registration, nonce });
    }

    /// An agent of before: an agent whose predecessor on this node still answers, or that is not as we know it, has to
    /// register.
    pub(super) fn agent_returns(&mut self, turn: &mut Turn<'_>, session: SessionId, back: Box<Return>) {
        if self.sessions_by_agent.contains_key(&back.agent) || !turn.state.knows(&back) {
            turn.tell_agent(session, ToAgent::RegisterInFull);
            return;
        }
        self.enter(turn, session, back.node.clone(), back.agent.clone());
        if let Some(session) = self.sessions.get_mut(&session) {
            session.returned = true;
        }
        turn.propose(Command::ReturnAgent { back, at: turn.now.unix_ms });
    }

    /// What was known of it changed between the decision and the commit.
    pub(super) fn agent_unknown(&mut self, turn: &mut Turn<'_>, agent: &AgentId, node: &NodeName) {
        self.admitted(node);
        if let Some(session) = self.sessions_by_agent.remove(agent) {
            self.sessions.remove(&session);
            turn.tell_agent(session, ToAgent::RegisterInFull);
        }
    }

    fn agent_id_of(&mut self, turn: &Turn<'_>, node: &NodeName) -> AgentId {
        if let Some(agent) = turn.state.nodes.get(node) {
            return agent.clone();
        }
        if let Some((agent, _)) = self.admitting.get(node) {
            return agent.clone();
        }
        let agent = AgentId::from(format!("{}-S{}", self.prefix(turn.state), self.next_agent));
        self.next_agent += 1;
        self.admitting.insert(node.clone(), (agent.clone(), 0));
        agent
    }

    fn admit(&mut self, turn: &mut Turn<'_>, id: SessionId, agent: AgentId, registration: Box<Registration>) {
        self.enter(turn, id, registration.node.clone(), agent.clone());
        turn.propose(Command::RegisterAgent { agent, registration, at: turn.now.unix_ms });
    }

    fn enter(&mut self, turn: &Turn<'_>, id: SessionId, node: NodeName, agent: AgentId) {
        self.admitting.entry(node.clone()).or_insert_with(|| (agent.clone(), 0)).1 += 1;
        let heard_at = turn.now.monotonic;
        self.sessions.insert(id, Session { node, agent: agent.clone(), registered: false, returned: false, heard_at });
        self.sessions_by_agent.insert(agent, id);
    }

    /// One less is on its way through the log. Was it the last of its node?
    fn admitted(&mut self, node: &NodeName) -> bool {
        let Some((_, waiting)) = self.admitting.get_mut(node) else { return true };
        *waiting = waiting.saturating_sub(1);
        let last = *waiting == 0;
        if last {
            self.admitting.remove(node);
        }
        last
    }

    /// A registration is committed.
    pub(super) fn agent_registered(&mut self, turn: &mut Turn<'_>, id: &AgentId, node: &NodeName) {
        let Some(agent) = turn.state.agents.get(id) else { return };
        if self.allocator.has_agent(id) {
            self.allocator.update_total(id, &agent.resources);
            self.allocator.update_facts(id, facts(agent));
        } else {
            self.allocator.add_agent(id, &agent.resources, facts(agent), Activity::Inactive);
            self.load_unavailability(turn.state, id);
            for task in turn.state.tasks_on(id).filter(|task| task.holds_resources()) {
                self.allocator.charge(&task.framework, &task.role, id, &task.resources);
            }
            for executor in turn.state.executors_on(id) {
                self.allocator.charge(&executor.framework, &executor.role, id, &executor.resources);
            }
        }
        let latest = self.admitted(node);
        let session = self.sessions_by_agent.get(id).copied().filter(|_| latest);
        let Some(session) = session else {
            self.timers.set(Timer::Unreachable(id.clone()), turn.now.monotonic + self.config.agent_timeout);
            return;
        };
        let mut returned = false;
        if let Some(session) = self.sessions.get_mut(&session) {
            session.registered = true;
            returned = session.returned;
        }
        self.timers.clear(&Timer::Unreachable(id.clone()));
        self.timers.clear(&Timer::RemoveAgent(id.clone()));
        self.recovering.remove(id);
        self.settle_agent(turn, id);
        if agent.reregistered_at.is_some() {
            turn.counters.agents_reregistered += 1;
        } else {
            turn.counters.agents_registered += 1;
        }
        if returned {
            // Thousands in a second.
            tracing::debug!(agent = %id, %node, "agent is back");
        } else {
            tracing::info!(agent = %id, %node, address = %agent.address, resources = %agent.resources, "agent registered");
        }
        turn.tell_agent(session, ToAgent::Registered { agent: id.clone() });
        self.send_volumes(turn, id, Told::Nothing);
        self.tell_network(turn, id);
        self.send_disk_rules(turn, id, Occasion::Session);
    }

    /// What the agent missed.
    pub(super) fn catch_up(
        &mut self,
        turn: &mut Turn<'_>,
        agent: &AgentId,
        run: Vec<(FrameworkId, TaskId)>,
        kill: Vec<(FrameworkId, TaskId)>,
        shutdown: Vec<FrameworkId>,
    ) {
        let Some(session) = self.session_of(agent) else { return };
        #[cfg(feature = "planted-bugs")]
        self.start_again(turn, session, agent);
        self.run_again(turn, run);
        for (framework, task) in kill {
            let wanted = turn.state.task(&framework, &task).and_then(|task| task.kill);
            let grace_ms = wanted.and_then(|kill| kill.grace_ms);
            turn.tell_agent(session, ToAgent::KillTask { framework, task, grace_ms });
        }
        for framework in shutdown {
            turn.tell_agent(session, ToAgent::ShutdownFramework { framework });
        }
    }

    #[cfg(feature = "planted-bugs")]
    fn start_again(&mut self, turn: &mut Turn<'_>, session: SessionId, agent: &AgentId) {
        if !crate::planted::is(crate::planted::Bug::RunningStartedAgain) {
            return;
        }
        for task in turn.state.tasks_on(agent).filter(|task| task.state == api::TaskState::Running) {
            let Some(framework) = turn.state.framework(&task.framework) else { continue };
            let message = ToAgent::RunTask {
                framework: task.framework.clone(),
                container: api::ContainerId::from(self.random.uuid()),
                task: Box::new(task.info.get()),
                framework_info: framework.info.clone(),
                executor: executor_of(turn.state, task),
            };
            turn.outputs.push(Output::ToAgent { session, message });
        }
    }

    /// If the agent is not there it is sent when it registers.
    pub(super) fn run_task(&self, turn: &mut Turn<'_>, task: &Task) {
        let Some(session) = self.session_of(&task.agent) else { return };
        let Some(framework) = turn.state.framework(&task.framework) else { return };
        turn.tell_agent(
            session,
            ToAgent::RunTask {
                framework: task.framework.clone(),
                container: task.container.clone(),
                task: Box::new(task.info.get()),
                framework_info: framework.info.clone(),
                executor: executor_of(turn.state, task),
            },
        );
    }

    /// If the agent is not there it is sent when it registers.
    pub(super) fn send_kill(&self, turn: &mut Turn<'_>, task: &Task) {
        let (Some(session), Some(kill)) = (self.session_of(&task.agent), task.kill) else { return };
        let (framework, id) = (task.framework.clone(), task.id().clone());
        turn.tell_agent(session, ToAgent::KillTask { framework, task: id, grace_ms: kill.grace_ms });
    }

    pub(super) fn heard(&mut self, turn: &mut Turn<'_>, id: SessionId, message: AgentMessage) {
        let Some(session) = self.sessions.get_mut(&id) else {
            if !self.contests.values().any(|contest| contest.challenger == id) {
                turn.outputs.push(Output::CloseSession(id));
            }
            return;
        };
        session.heard_at = turn.now.monotonic;
        let (node, agent, registered) = (session.node.clone(), session.agent.clone(), session.registered);
        match message {
            AgentMessage::Pong { nonce } => {
                if self.contests.get(&node).is_some_and(|contest| contest.nonce == nonce) {
                    self.contest_lost(turn, &node);
                }
            }
            // Before its registration is committed an agent has nothing to say; it repeats what it said.
            AgentMessage::Update { .. }
            | AgentMessage::Capacity { .. }
            | AgentMessage::ExecutorMessage { .. }
            | AgentMessage::ExecutorEnded { .. }
                if !registered => {}
            AgentMessage::Update { framework, status, latest } => {
                turn.propose(Command::UpdateTask { framework, agent, status, latest, at: turn.now.unix_ms });
            }
            AgentMessage::Capacity { resources, attributes, facts, inventory_json, edition } => {
                turn.propose(Command::UpdateCapacity { agent, resources, attributes, facts, inventory_json, edition });
            }
            AgentMessage::ExecutorMessage { framework, executor, data } => {
                self.executor_said(turn, &framework, &agent, executor, data);
            }
            AgentMessage::ExecutorEnded { framework, executor, container, status } => {
                turn.propose(Command::EndExecutor { framework, agent, executor, container, status });
            }
        }
    }

    pub(super) fn capacity_changed(&mut self, turn: &mut Turn<'_>, id: &AgentId) {
        let Some(agent) = turn.state.agents.get(id) else { return };
        self.rescind_agent(turn, id); // they show what is no longer so
        self.allocator.update_total(id, &agent.resources);
        self.allocator.update_facts(id, facts(agent));
        self.send_disk_rules(turn, id, Occasion::Change);
    }

    pub(super) fn ping_all(&mut self, turn: &mut Turn<'_>) {
        self.timers.set(Timer::Ping, turn.now.monotonic + self.config.ping_interval);
        let mut silent = Vec::new();
        for (id, session) in &self.sessions {
            if turn.now.monotonic.saturating_sub(session.heard_at) >= self.config.agent_timeout {
                silent.push((*id, session.agent.clone()));
            } else {
                turn.tell_agent(*id, ToAgent::Ping { nonce: self.random.next() });
            }
        }
        for (session, agent) in silent {
            tracing::warn!(%agent, "agent does not answer");
            turn.outputs.push(Output::CloseSession(session));
            self.session_ended(turn, session);
            self.timers.clear(&Timer::Unreachable(agent.clone()));
            self.remove_in_turn(turn, agent);
        }
    }

    /// Agents are given up no faster than the operator allows.
    pub(super) fn remove_in_turn(&mut self, turn: &mut Turn<'_>, agent: AgentId) {
        let now = turn.now.monotonic;
        let at = self.next_removal.max(now);
        if let Some((removals, within)) = self.config.agent_removal_rate_limit {
            self.next_removal = at + within / removals.max(1);
        }
        if at > now {
            self.timers.set(Timer::RemoveAgent(agent), at);
        } else {
            turn.propose(Command::MarkAgentUnreachable { agent, at: turn.now.unix_ms });
        }
    }

    /// Has it not come back since the failover?
    pub(super) fn is_recovering(&self, agent: &AgentId) -> bool {
        self.recovering.contains(agent)
    }

    /// A registration is refused by the log.
    pub(super) fn agent_refused(
        &mut self,
        turn: &mut Turn<'_>,
        (agent, node): (&AgentId, &NodeName),
        shutdown: &[FrameworkId],
        why: &str,
        comeback: Comeback,
    ) {
        tracing::warn!(%agent, %node, reason = %why, "refused an agent");
        self.admitted(node);
        self.dismiss_session(turn, agent, shutdown, why, comeback);
    }

    pub(super) fn agent_disconnected(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        let contest = self.contests.iter().find(|(_, contest)| contest.challenger == id).map(|(node, _)| node.clone());
        if let Some(node) = contest {
            self.contests.remove(&node);
            self.timers.clear(&Timer::Contest(node));
            return;
        }
        let node = self.sessions.get(&id).map(|session| session.node.clone());
        self.session_ended(turn, id);
        if let Some(node) = node.filter(|node| self.contests.contains_key(node)) {
            self.contest_won(turn, &node);
        }
    }

    /// The connection is no more. The agent's tasks are kept; its offers are not.
    fn session_ended(&mut self, turn: &mut Turn<'_>, id: SessionId) {
        let Some(session) = self.sessions.remove(&id) else { return };
        if self.sessions_by_agent.get(&session.agent) != Some(&id) {
            return;
        }
        self.sessions_by_agent.remove(&session.agent);
        self.allocator.deactivate_agent(&session.agent);
        self.rescind_agent(turn, &session.agent);
        if session.registered {
            tracing::info!(agent = %session.agent, node = %session.node, "agent disconnected");
            let at = turn.now.monotonic + self.config.agent_timeout;
            self.timers.set(Timer::Unreachable(session.agent), at);
        }
    }

    /// The first connection does not answer: the second is the node.
    pub(super) fn contest_won(&mut self, turn: &mut Turn<'_>, node: &NodeName) {
        let Some(contest) = self.contests.remove(node) else { return };
        self.timers.clear(&Timer::Contest(node.clone()));
        let agent = self.agent_id_of(turn, node);
        if let Some(old) = self.sessions_by_agent.get(&agent).copied() {
            turn.outputs.push(Output::CloseSession(old));
            self.session_ended(turn, old);
        }
        self.admit(turn, contest.challenger, agent, contest.registration);
    }

    /// The first connection answers: there are two machines of one name.
    fn contest_lost(&mut self, turn: &mut Turn<'_>, node: &NodeName) {
        let Some(contest) = self.contests.remove(node) else { return };
        self.timers.clear(&Timer::Contest(node.clone()));
        let first = turn.state.nodes.get(node).and_then(|agent| turn.state.agents.get(agent));
        let first = first.map_or_else(String::new, |agent| format!(" at {} as {}", agent.address, agent.id));
        let second = &contest.registration.address;
        tracing::warn!(%node, address = %second, "refused a second agent with the same identity");
        let reason = format!(
            "node {node} is registered already{first} and still answers: \
             the machine at {second} must not use the same name and certificate"
        );
        refuse(turn, contest.challenger, ToAgent::Refused { reason, retry: false });
    }

    pub(super) fn agent_unreachable(&mut self, turn: &mut Turn<'_>, agent: &AgentId) {
        turn.counters.agents_unreachable += 1;
        self.rescind_agent(turn, agent);
        self.allocator.remove_agent(agent);
        self.timers.clear(&Timer::Unreachable(agent.clone()));
        self.timers.clear(&Timer::RemoveAgent(agent.clone()));
        self.recovering.remove(agent);
        self.rescind_inverse_offers(turn, agent);
        // It may have come back between the decision and the commit: it registers anew.
        if let Some(session) = self.sessions_by_agent.get(agent).copied() {
            turn.outputs.push(Output::CloseSession(session));
            self.sessions.remove(&session);
            self.sessions_by_agent.remove(agent);
        }
        let frameworks: Vec<FrameworkId> = self.subscribers.keys().cloned().collect();
        for framework in frameworks {
            self.tell(turn, &framework, Event::new_failure(agent.clone(), None));
        }
    }
}

/// An agent as the allocator sees it.
pub(super) fn facts(agent: &Agent) -> AgentFacts {
    AgentFacts { hostname: agent.hostname.clone(), attributes: agent.attributes.clone(), ..AgentFacts::default() }
}

fn refuse(turn: &mut Turn<'_>, session: SessionId, refusal: ToAgent) {
    turn.tell_agent(session, refusal);
    turn.outputs.push(Output::CloseSession(session));
}
