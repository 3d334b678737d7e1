//! The master: a state, and while it leads a leader.

use std::sync::Arc;
use std::time::Duration;

use api::MasterId;

use crate::acl::Acls;
use crate::command::Command;
use crate::io::{Input, Now, Output, Response};
use crate::leader::{Leader, Turn};
use crate::state::State;
use crate::view::{Counters, View};

/// What the operator decided, and what the process is.
#[derive(Clone, Debug)]
pub struct Config {
    /// A fresh UUID: becomes the cluster's id if the log does not have one yet.
    pub master_id: MasterId,
    /// What others reach this master by.
    pub hostname: String,
    /// Its IPv4 address as text.
    pub ip: String,
    /// The port of the scheduler API.
    pub port: u16,
    /// What frameworks are told: Mesos's version, dotted integers only.
    pub version: String,
    /// Where agents' HTTP endpoints are said to be in offers.
    pub agent_port: u16,
    /// A random number: container ids and the allocator's order derive from it.
    pub seed: u64,
    /// How often a scheduler hears from us.
    pub heartbeat_interval: Duration,
    /// How often a session is asked whether it still answers.
    pub ping_interval: Duration,
    /// Without a connection, or an answer, for this long an agent is unreachable.
    pub agent_timeout: Duration,
    /// After a failover, agents and frameworks have at least this long to come back.
    pub reregister_timeout: Duration,
    /// How long the old session of a node has to answer when a second one registers.
    pub contest_timeout: Duration,
    /// How often refused resources are considered again.
    pub allocation_interval: Duration,
    /// An offer held longer is rescinded (`--offer_timeout`).
    pub offer_timeout: Option<Duration>,
    /// At most so many agents are given up within that time (`--agent_removal_rate_limit`).
    pub agent_removal_rate_limit: Option<(u32, Duration)>,
    /// Who may do what.
    pub acls: Arc<Acls>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            master_id: MasterId::default(),
            hostname: "localhost".to_owned(),
            ip: "127.0.0.1".to_owned(),
            port: 5050,
            version: "1.11.0".to_owned(),
            agent_port: 5051,
            seed: 1,
            heartbeat_interval: Duration::from_secs(15),
            ping_interval: Duration::from_secs(15),
            agent_timeout: Duration::from_secs(75),
            reregister_timeout: Duration::from_secs(600),
            contest_timeout: Duration::from_secs(2),
            allocation_interval: Duration::from_secs(1),
            offer_timeout: None,
            agent_removal_rate_limit: None,
            acls: Arc::default(),
        }
    }
}

/// All decisions of one master process.
#[derive(Debug)]
pub struct Master {
    config: Arc<Config>,
    state: Arc<State>,
    role: Role,
    counters: Counters,
    version: u64,
    changed_at: Now,
    view: Option<Arc<View>>,
}

#[derive(Debug)]
enum Role {
    Follower,
    Leader(Box<Leader>),
}

impl Master {
    /// A follower with the state the snapshot gives, or an empty one.
    #[must_use]
    pub fn new(config: Config, state: State) -> Self {
        Self {
            config: Arc::new(config),
            state: Arc::new(state),
            role: Role::Follower,
            counters: Counters::default(),
            version: 0,
            changed_at: Now::default(),
            view: None,
        }
    }

    /// Decides. Outputs are to be performed in order.
    pub fn handle(&mut self, input: Input, now: Now) -> Vec<Output> {
        self.version += 1;
        self.changed_at = now;
        self.view = None;
        let mut outputs = Vec::new();
        match input {
            Input::Committed(commands) => self.commit(commands, now, &mut outputs),
            Input::Leading(true) => self.start_leading(now, &mut outputs),
            Input::Leading(false) => self.stop_leading(&mut outputs),
            Input::Call { .. }
            | Input::StreamClosed(_)
            | Input::AgentRegisters { .. }
            | Input::AgentReturns { .. }
            | Input::FromAgent { .. }
            | Input::AgentDisconnected(_)
            | Input::Teardown { .. }
            | Input::Operator { .. }
            | Input::Tick => match &mut self.role {
                Role::Leader(leader) => {
                    let (state, counters, outputs) = (&self.state, &mut self.counters, &mut outputs);
                    leader.handle(&mut Turn { state, counters, now, outputs }, input);
                }
                Role::Follower => refuse(input, &mut outputs),
            },
        }
        if let Role::Leader(leader) = &mut self.role {
            let (state, counters, outputs) = (&self.state, &mut self.counters, &mut outputs);
            leader.finish(&mut Turn { state, counters, now, outputs });
        }
        outputs
    }

    fn commit(&mut self, commands: Vec<Command>, now: Now, outputs: &mut Vec<Output>) {
        let state = Arc::make_mut(&mut self.state);
        for command in commands {
            self.counters.commands_committed += 1;
            for event in state.apply(command) {
                if let Role::Leader(leader) = &mut self.role {
                    leader.react(&mut Turn { state, counters: &mut self.counters, now, outputs }, event);
                }
            }
        }
    }

    fn start_leading(&mut self, now: Now, outputs: &mut Vec<Output>) {
        if matches!(self.role, Role::Leader(_)) {
            return;
        }
        let mut leader = Leader::new(self.config.clone(), &self.state, now);
        let (state, counters) = (&self.state, &mut self.counters);
        leader.start(&mut Turn { state, counters, now, outputs });
        self.role = Role::Leader(Box::new(leader));
    }

    fn stop_leading(&mut self, outputs: &mut Vec<Output>) {
        if let Role::Leader(leader) = &mut self.role {
            leader.stop(outputs);
            self.role = Role::Follower;
        }
    }

    /// When to hand in [`Input::Tick`] if nothing else happens, on [`Now::monotonic`]'s clock.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Duration> {
        match &self.role {
            Role::Leader(leader) => leader.next_deadline(),
            Role::Follower => None,
        }
    }

    /// What the log says.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What was counted since the process started.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Takes over another state: a follower was sent a snapshot.
    pub fn install(&mut self, state: State) {
        self.state = Arc::new(state);
        self.version += 1;
        self.view = None;
    }

    /// A picture for readers; the same one until something happens.
    pub fn view(&mut self) -> Arc<View> {
        if let Some(view) = &self.view {
            return view.clone();
        }
        let mut view = View {
            version: self.version,
            at: self.changed_at,
            master_id: self.state.cluster.clone().unwrap_or_else(|| self.config.master_id.clone()),
            leading: false,
            elected_at: None,
            state: self.state.clone(),
            offers: std::collections::BTreeMap::new(),
            connected_frameworks: std::collections::BTreeSet::new(),
            connected_agents: std::collections::BTreeSet::new(),
            inverse_statuses: std::collections::BTreeMap::new(),
            counters: self.counters,
        };
        if let Role::Leader(leader) = &self.role {
            leader.show(&mut view);
        }
        let view = Arc::new(view);
        self.view = Some(view.clone());
        view
    }
}

/// A follower decides nothing.
fn refuse(input: Input, outputs: &mut Vec<Output>) {
    match input {
        Input::Call { request, .. } | Input::Teardown { request, .. } | Input::Operator { request, .. } => {
            let response = Response::Refused { status: 503, text: "No leader elected".to_owned() };
            outputs.push(Output::Respond { request, response });
        }
        Input::AgentRegisters { session, .. } | Input::AgentReturns { session, .. } => {
            let reason = "this master does not lead".to_owned();
            let message = crate::io::ToAgent::Refused { reason, retry: true };
            outputs.push(Output::ToAgent { session, message });
            outputs.push(Output::CloseSession(session));
        }
        Input::FromAgent { session, .. } => outputs.push(Output::CloseSession(session)),
        Input::StreamClosed(_)
        | Input::AgentDisconnected(_)
        | Input::Tick
        | Input::Committed(_)
        | Input::Leading(_) => {}
    }
}
