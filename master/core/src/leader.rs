//! What exists only while we lead: offers, streams, sessions, deadlines, the allocator.
//! Making a leader from the state *is* failover.

mod accept;
mod agents;
mod authorization;
mod calls;
mod conversion;
mod disks;
mod executors;
mod frameworks;
mod maintenance;
mod network;
mod offering;
mod operations;
mod operator;
mod react;
mod reconcile;
mod telling;
mod volumes;

pub(crate) use maintenance::OutstandingInverseOffer;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use api::v1::TaskStatus;
use api::v1::scheduler::Event;
use api::{AgentId, FrameworkId, MasterId, NodeName, OfferId, TaskId};

use crate::allocator::shuffle::Random;
use crate::allocator::{Activity, Allocator, Options};
use crate::command::Command;
use crate::io::{Input, Now, Output, RequestId, Response, SessionId, StreamId, ToAgent};
use crate::master::Config;
use crate::offers::{Offers, OutstandingOffer};
use crate::state::{Reachability, State};
use crate::timers::Timers;
use crate::view::{Counters, View};

/// What one input is handled with.
pub(crate) struct Turn<'a> {
    pub(crate) state: &'a State,
    pub(crate) counters: &'a mut Counters,
    pub(crate) now: Now,
    pub(crate) outputs: &'a mut Vec<Output>,
}

impl Turn<'_> {
    fn propose(&mut self, command: Command) {
        if let Some(Output::Propose(batch)) = self.outputs.last_mut() {
            batch.push(command);
        } else {
            self.outputs.push(Output::Propose(vec![command]));
        }
    }

    fn respond(&mut self, request: RequestId, response: Response) {
        if matches!(response, Response::Refused { .. }) {
            self.counters.calls_refused += 1;
        }
        self.outputs.push(Output::Respond { request, response });
    }

    fn refuse(&mut self, request: RequestId, status: u16, text: impl Into<String>) {
        self.respond(request, Response::Refused { status, text: text.into() });
    }

    fn send(&mut self, stream: &StreamId, event: Event) {
        self.outputs.push(Output::Event { stream: stream.clone(), event: Arc::new(event) });
    }

    fn tell_agent(&mut self, session: SessionId, message: ToAgent) {
        self.outputs.push(Output::ToAgent { session, message });
    }
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Timer {
    /// The next HEARTBEAT.
    Heartbeat(FrameworkId),
    /// It stayed away too long.
    RemoveFramework(FrameworkId),
    /// It stayed away too long.
    Unreachable(AgentId),
    /// The old session did not answer.
    Contest(NodeName),
    /// Ask every session.
    Ping,
    /// Consider what was put off.
    Batch,
    /// It stayed away too long, and it is its turn to be removed.
    RemoveAgent(AgentId),
    /// The oldest offer has been held too long.
    OfferTimeout,
    /// The outcome of an operation is not acknowledged.
    OperationRetry([u8; 16]),
}

/// A framework with a stream.
#[derive(Debug)]
struct Subscriber {
    stream: StreamId,
    /// As of the last call, committed or not.
    suppressed: BTreeSet<String>,
}

/// An agent's connection.
#[derive(Debug)]
struct Session {
    node: NodeName,
    agent: AgentId,
    /// Its registration is committed.
    registered: bool,
    /// It had nothing new to say of itself.
    returned: bool,
    heard_at: Duration,
}

/// A second connection claims to be a node that has one.
#[derive(Debug)]
struct Contest {
    challenger: SessionId,
    registration: Box<crate::io::Registration>,
    nonce: u64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Leader {
    config: Arc<Config>,
    elected_at: u64,
    random: Random,
    allocator: Allocator,
    offers: Offers,
    next_offer: u64,
    timers: Timers<Timer>,
    batch_pending: bool,
    subscribers: BTreeMap<FrameworkId, Subscriber>,
    streams: BTreeMap<StreamId, FrameworkId>,
    /// SUBSCRIBEs not yet committed.
    subscribing: BTreeMap<StreamId, RequestId>,
    /// UPDATE_FRAMEWORKs not yet committed.
    updating: BTreeMap<FrameworkId, Vec<RequestId>>,
    /// Operator's teardowns not yet committed.
    tearing_down: BTreeMap<FrameworkId, Vec<RequestId>>,
    /// Launches not yet committed: their resources are charged already.
    launching: BTreeSet<(FrameworkId, TaskId)>,
    launching_executors: executors::LaunchingExecutors,
    next_framework: u64,
    next_agent: u64,
    sessions: BTreeMap<SessionId, Session>,
    sessions_by_agent: BTreeMap<AgentId, SessionId>,
    /// Ids given to nodes whose registration is not yet committed, and how many registrations are not.
    admitting: BTreeMap<NodeName, (AgentId, u32)>,
    contests: BTreeMap<NodeName, Contest>,
    /// When offers time out, in the order they were made.
    offer_deadlines: VecDeque<(Duration, OfferId)>,
    inverse_offers: BTreeMap<OfferId, OutstandingInverseOffer>,
    /// Operators' writes not yet committed, by token.
    operating: BTreeMap<[u8; 16], operator::Operating>,
    /// Agents with operators' operations not yet committed, and how many: not offered meanwhile.
    converting_agents: BTreeMap<AgentId, u32>,
    /// Frameworks' operations not yet committed.
    converting: BTreeMap<[u8; 16], operations::Converting>,
    /// How long outcomes wait for their acknowledgement before they are told again.
    operation_retries: BTreeMap<[u8; 16], Duration>,
    /// When the next agent may be removed.
    next_removal: Duration,
    /// Agents that have not come back since the failover.
    recovering: BTreeSet<AgentId>,
    /// What agents were told of rules for disks, as far as any were.
    told_of_disks: BTreeMap<AgentId, Vec<api::disks::NamedRule>>,
}

impl Leader {
    pub(crate) fn new(config: Arc<Config>, state: &State, now: Now) -> Self {
        let options = Options { seed: config.seed, min_refusal: config.allocation_interval, ..Options::default() };
        let mut leader = Self {
            elected_at: now.unix_ms,
            random: Random::new(config.seed ^ now.unix_ms),
            allocator: Allocator::new(options),
            offers: Offers::default(),
            next_offer: 0,
            timers: Timers::new(),
            batch_pending: false,
            subscribers: BTreeMap::new(),
            streams: BTreeMap::new(),
            subscribing: BTreeMap::new(),
            updating: BTreeMap::new(),
            tearing_down: BTreeMap::new(),
            launching: BTreeSet::new(),
            launching_executors: executors::LaunchingExecutors::default(),
            next_framework: state.next_framework,
            next_agent: state.next_agent,
            sessions: BTreeMap::new(),
            sessions_by_agent: BTreeMap::new(),
            admitting: BTreeMap::new(),
            contests: BTreeMap::new(),
            offer_deadlines: VecDeque::new(),
            inverse_offers: BTreeMap::new(),
            operating: BTreeMap::new(),
            converting_agents: BTreeMap::new(),
            converting: BTreeMap::new(),
            operation_retries: BTreeMap::new(),
            next_removal: Duration::ZERO,
            recovering: BTreeSet::new(),
            told_of_disks: BTreeMap::new(),
            config,
        };
        leader.timers.set(Timer::Ping, now.monotonic + leader.config.ping_interval);
        leader.load_roles(state);
        for agent in state.agents.values().filter(|agent| agent.reachability == Reachability::Reachable) {
            leader.allocator.add_agent(&agent.id, &agent.resources, agents::facts(agent), Activity::Inactive);
            leader.load_unavailability(state, &agent.id);
            leader.recovering.insert(agent.id.clone());
            leader.timers.set(Timer::Unreachable(agent.id.clone()), now.monotonic + leader.config.reregister_timeout);
        }
        for framework in state.frameworks.values() {
            leader.allocator.set_framework(&framework.id, &frameworks::subscription(framework), Activity::Inactive);
            for task in framework.tasks.values().filter(|task| task.holds_resources()) {
                leader.allocator.charge(&framework.id, &task.role, &task.agent, &task.resources);
            }
            for executor in framework.executors.values() {
                leader.allocator.charge(&framework.id, &executor.role, &executor.agent, &executor.resources);
            }
            if let Some(away) = framework.disconnected {
                // It could not come back while nobody led.
                let grace = framework.failover_timeout_ms().min(millis(leader.config.reregister_timeout));
                let left = away.remove_at.saturating_sub(now.unix_ms).max(grace);
                let at = now.monotonic + Duration::from_millis(left);
                leader.timers.set(Timer::RemoveFramework(framework.id.clone()), at);
            }
        }
        leader
    }

    /// What a new leader writes down first.
    pub(crate) fn start(&mut self, turn: &mut Turn<'_>) {
        if turn.state.cluster.is_none() {
            turn.propose(Command::FoundCluster { id: self.config.master_id.clone() });
        }
        // Streams do not survive a failover: everybody has the same chance to come back.
        for framework in turn.state.frameworks.values().filter(|framework| framework.disconnected.is_none()) {
            let grace = framework.failover_timeout_ms().max(millis(self.config.reregister_timeout));
            turn.propose(Command::DisconnectFramework {
                framework: framework.id.clone(),
                stream: String::new(),
                at: turn.now.unix_ms,
                remove_at: turn.now.unix_ms.saturating_add(grace),
            });
        }
        self.finish_draining(turn);
        self.retry_operations_of(turn, None);
        let (agents, frameworks) = (turn.state.agents.len(), turn.state.frameworks.len());
        tracing::info!(agents, frameworks, "leading");
    }

    /// Lets go of everybody: the next leader takes them over.
    pub(crate) fn stop(&mut self, outputs: &mut Vec<Output>) {
        let updating = std::mem::take(&mut self.updating).into_values().flatten();
        let tearing_down = std::mem::take(&mut self.tearing_down).into_values().flatten();
        let waiting = std::mem::take(&mut self.subscribing).into_values().chain(updating).chain(tearing_down);
        for request in waiting {
            let response = Response::Refused { status: 503, text: "No leader elected".to_owned() };
            outputs.push(Output::Respond { request, response });
        }
        self.stop_operating(outputs);
        outputs.extend(std::mem::take(&mut self.streams).into_keys().map(Output::CloseStream));
        outputs.extend(std::mem::take(&mut self.sessions).into_keys().map(Output::CloseSession));
        outputs.extend(std::mem::take(&mut self.contests).into_values().map(|c| Output::CloseSession(c.challenger)));
        tracing::info!("no longer leading");
    }

    pub(crate) fn handle(&mut self, turn: &mut Turn<'_>, input: Input) {
        match input {
            Input::Call { request, stream, principal, call } => {
                turn.counters.calls += 1;
                self.call(turn, request, (stream, principal), *call);
            }
            Input::StreamClosed(stream) => self.stream_closed(turn, &stream),
            Input::AgentRegisters { session, registration } => self.agent_registers(turn, session, registration),
            Input::AgentReturns { session, back } => self.agent_returns(turn, session, back),
            Input::FromAgent { session, message } => self.heard(turn, session, message),
            Input::AgentDisconnected(session) => self.agent_disconnected(turn, session),
            Input::Teardown { request, framework } => self.operator_teardown(turn, request, framework),
            Input::Operator { request, write } => self.operate(turn, request, *write),
            Input::Tick => self.tick(turn),
            Input::Committed(_) | Input::Leading(_) => {} // the master's own
        }
    }

    fn tick(&mut self, turn: &mut Turn<'_>) {
        while let Some(timer) = self.timers.pop_due(turn.now.monotonic) {
            match timer {
                Timer::Heartbeat(framework) => self.heartbeat(turn, framework),
                Timer::RemoveFramework(framework) => {
                    tracing::info!(%framework, "removing a framework that stayed away");
                    turn.propose(Command::RemoveFramework { framework, at: turn.now.unix_ms });
                }
                Timer::Unreachable(agent) => self.remove_in_turn(turn, agent),
                Timer::OfferTimeout => self.offers_timed_out(turn),
                Timer::OperationRetry(uuid) => self.retry_operation(turn, uuid),
                Timer::RemoveAgent(agent) => {
                    turn.propose(Command::MarkAgentUnreachable { agent, at: turn.now.unix_ms });
                }
                Timer::Contest(node) => self.contest_won(turn, &node),
                Timer::Ping => self.ping_all(turn),
                Timer::Batch => {
                    self.batch_pending = false;
                    self.allocator.consider_deferred();
                }
            }
        }
        self.allocator.expire(turn.now.monotonic);
    }

    /// After every input: offers what became available.
    pub(crate) fn finish(&mut self, turn: &mut Turn<'_>) {
        if self.allocator.is_due() {
            self.allocate(turn);
        }
        if self.allocator.inverse_offers_are_due() {
            self.make_inverse_offers(turn);
        }
        if self.allocator.has_deferred() && !self.batch_pending {
            self.batch_pending = true;
            self.timers.set(Timer::Batch, turn.now.monotonic + self.config.allocation_interval);
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        [self.timers.next(), self.allocator.next_expiry()].into_iter().flatten().min()
    }

    pub(crate) fn show(&self, view: &mut View) {
        view.leading = true;
        view.elected_at = Some(self.elected_at);
        view.offers = self.offers.all().clone();
        view.inverse_statuses = self.allocator.inverse_statuses();
        view.connected_frameworks = self.subscribers.keys().cloned().collect();
        let registered = self.sessions.values().filter(|session| session.registered);
        view.connected_agents = registered.map(|session| session.agent.clone()).collect();
    }

    fn prefix<'a>(&'a self, state: &'a State) -> &'a MasterId {
        state.cluster.as_ref().unwrap_or(&self.config.master_id)
    }

    /// Tells a framework, if it listens.
    fn tell(&self, turn: &mut Turn<'_>, framework: &FrameworkId, event: Event) {
        if let Some(subscriber) = self.subscribers.get(framework) {
            turn.send(&subscriber.stream, event);
        }
    }

    fn tell_rescinded(&self, turn: &mut Turn<'_>, offer: &OutstandingOffer) {
        self.tell(turn, &offer.framework, Event::new_rescind(offer.id.clone()));
    }

    fn tell_status(&self, turn: &mut Turn<'_>, framework: &FrameworkId, status: TaskStatus) {
        turn.counters.status_updates += 1;
        self.tell(turn, framework, Event::new_update(status));
    }

    /// The session of an agent that is registered.
    fn session_of(&self, agent: &AgentId) -> Option<SessionId> {
        let session = *self.sessions_by_agent.get(agent)?;
        self.sessions.get(&session).filter(|known| known.registered).map(|_| session)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
