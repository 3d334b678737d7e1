//! The life of one task, without IO: events in, actions out.

use std::collections::BTreeMap;
use std::time::Duration;

use api::v1::{DurationInfo, KillPolicy, Offer, TaskInfo, TaskStatus};
use api::{AgentId, OfferId, TaskId, TaskState};

use super::demand::{Demand, Verdict};
use super::ending::Ending;
use crate::scheduler::Event;

/// Offers that do not fit are not wanted again for so long: shorter than the wait, so that growth is noticed.
const REFUSE_SECONDS: f64 = 5.0;
/// What is left of the offer we used.
const REFUSE_REST_SECONDS: f64 = 3600.0;

/// What the driver has to do.
#[derive(Debug)]
pub(crate) enum Action {
    Accept {
        offers: Vec<OfferId>,
        task: Box<TaskInfo>,
        refuse_seconds: f64,
    },
    Decline {
        offers: Vec<OfferId>,
        refuse_seconds: f64,
    },
    Acknowledge(Box<TaskStatus>),
    Suppress,
    Revive,
    Kill {
        task: TaskId,
        agent: Option<AgentId>,
        policy: KillPolicy,
    },
    Reconcile {
        task: TaskId,
        agent: Option<AgentId>,
    },
    /// The task has a sandbox: its output can be read.
    Started,
    /// For people.
    Say(String),
    /// The task will not change any more, or never was.
    End(Ending),
}

/// Why we kill.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum KillReason {
    /// The signal we got.
    Signal(u8),
    /// `--timeout`.
    Timeout,
}

impl KillReason {
    fn ending(self, timeout: Option<Duration>) -> Ending {
        match self {
            Self::Signal(signal) => Ending::silent(128 + signal),
            Self::Timeout => {
                let seconds = timeout.unwrap_or_default().as_secs_f64();
                Ending::because(
                    124,
                    format!("the task had not ended after {seconds} s and was killed"),
                    "allow more with --timeout",
                )
            }
        }
    }
}

enum Phase {
    Seeking,
    Launched { agent: AgentId, heard_of: bool, started: bool },
    Over,
}

/// What has been offered that did not fit.
#[derive(Default)]
struct Seen {
    largest: Option<(f64, String)>,
    /// Of the constraint that failed last: where it failed, and on what.
    elsewhere: Option<(String, String)>,
    found: BTreeMap<String, String>,
}

/// One task from the first offer to its end.
pub(crate) struct Job {
    demand: Demand,
    task: TaskInfo,
    grace: Duration,
    timeout: Option<Duration>,
    /// Agent ids to node names.
    names: BTreeMap<AgentId, String>,
    phase: Phase,
    seen: Seen,
    kill: Option<KillReason>,
    /// Where it was launched, and what was last heard of it.
    agent: Option<AgentId>,
    last: Option<TaskStatus>,
}

impl Job {
    /// `task` lacks only its agent and resources.
    pub(crate) fn new(demand: Demand, task: TaskInfo, grace: Duration, timeout: Option<Duration>) -> Self {
        Self {
            demand,
            task,
            grace,
            timeout,
            names: BTreeMap::new(),
            phase: Phase::Seeking,
            seen: Seen::default(),
            kill: None,
            agent: None,
            last: None,
        }
    }

    /// For machines: which task, where, and how it ended.
    pub(crate) fn summary(&self) -> serde_json::Value {
        let last = self.last.as_ref();
        serde_json::json!({
            "task_id": self.task.task_id,
            "agent_id": self.agent,
            "node": self.agent.as_ref().map(|agent| self.node_name(agent)),
            "state": last.map(TaskStatus::state),
            "reason": last.and_then(TaskStatus::given_reason),
            "message": last.and_then(|status| status.message.as_deref()),
        })
    }

    /// Learns what nodes are called.
    pub(crate) fn learn_names(&mut self, names: impl IntoIterator<Item = (AgentId, String)>) {
        self.names.extend(names);
    }

    /// Is there an agent in these offers whose name we do not know?
    pub(crate) fn wants_names(&self, event: &Event) -> bool {
        matches!(event, Event::Offers(offers) if self.is_seeking() && offers.iter().any(|o| !self.names.contains_key(&o.agent_id)))
    }

    /// No offer has fitted yet.
    pub(crate) const fn is_seeking(&self) -> bool {
        matches!(self.phase, Phase::Seeking)
    }

    /// One event of the stream.
    pub(crate) fn on_event(&mut self, event: Event) -> Vec<Action> {
        match event {
            Event::Offers(offers) => self.on_offers(offers),
            Event::Update(status) => self.on_status(*status),
            Event::Error(message) => {
                self.phase = Phase::Over;
                let next = "if someone tore the framework down or took its id, run it again";
                vec![Action::End(Ending::because(125, format!("the master ended the framework: {message}"), next))]
            }
            Event::Failure { agent_id, executor: None } if self.runs_on(&agent_id) => {
                vec![Action::Say(format!("{} does not answer; waiting for it", self.node_name(&agent_id)))]
            }
            // An offer we hold is answered at once, so a rescinded one is already accepted or declined.
            Event::Rescind | Event::Failure { .. } | Event::Subscribed { .. } | Event::Message | Event::Heartbeat => {
                vec![]
            }
        }
    }

    fn on_offers(&mut self, offers: Vec<Offer>) -> Vec<Action> {
        if !self.is_seeking() {
            let offers = offers.into_iter().map(|offer| offer.id).collect();
            return vec![Action::Decline { offers, refuse_seconds: REFUSE_REST_SECONDS }];
        }
        let (mut unfit, mut unused, mut actions) = (Vec::new(), Vec::new(), Vec::new());
        for offer in offers {
            let Offer { id, agent_id, .. } = &offer;
            if !self.is_seeking() {
                unused.push(id.clone());
                continue;
            }
            let name = self.names.get(agent_id).map(String::as_str);
            match self.demand.judge(&offer, name) {
                Verdict::Fits(resources) => {
                    let task = TaskInfo { agent_id: agent_id.clone(), resources, ..self.task.clone() };
                    let place = self.node_name(agent_id);
                    let place = if place == agent_id.as_str() {
                        offer.hostname.clone()
                    } else {
                        format!("{place} ({})", offer.hostname)
                    };
                    actions.push(Action::Say(format!("task {} on {place}", self.task.task_id)));
                    actions.push(Action::Accept {
                        offers: vec![id.clone()],
                        task: Box::new(task),
                        refuse_seconds: REFUSE_REST_SECONDS,
                    });
                    actions.push(Action::Suppress);
                    self.agent = Some(agent_id.clone());
                    self.phase = Phase::Launched { agent: agent_id.clone(), heard_of: false, started: false };
                }
                Verdict::Elsewhere { constraint, field, value } => {
                    let place = name.unwrap_or(&offer.hostname).to_owned();
                    self.seen.found.insert(place, value.unwrap_or_else(|| "none".to_owned()));
                    self.seen.elsewhere = Some((constraint, field));
                    unfit.push(id.clone());
                }
                Verdict::TooSmall { ratio } => {
                    if self.seen.largest.as_ref().is_none_or(|(best, _)| ratio >= *best) {
                        let place = name.unwrap_or(&offer.hostname);
                        self.seen.largest = Some((ratio, format!("{} on {place}", self.demand.of_offer(&offer))));
                    }
                    unfit.push(id.clone());
                }
            }
        }
        for (offers, refuse_seconds) in [(unfit, REFUSE_SECONDS), (unused, REFUSE_REST_SECONDS)] {
            if !offers.is_empty() {
                actions.push(Action::Decline { offers, refuse_seconds });
            }
        }
        actions
    }

    fn on_status(&mut self, status: TaskStatus) -> Vec<Action> {
        let mut actions = Vec::new();
        if status.uuid.is_some() {
            actions.push(Action::Acknowledge(Box::new(status.clone())));
        }
        if status.task_id != self.task.task_id {
            return actions;
        }
        let state = status.state();
        let Phase::Launched { heard_of, started, .. } = &mut self.phase else { return actions };
        // The master never got our ACCEPT: it was lost with the connection. There is no task; look for another offer.
        if !*heard_of && state.is_missing() && self.kill.is_none() {
            self.phase = Phase::Seeking;
            actions.push(Action::Say("the launch was lost on the way; trying again".to_owned()));
            actions.push(Action::Revive);
            return actions;
        }
        self.last = Some(status.clone());
        // A reconciled STAGING is the master's own knowledge: the agent may not have the task yet.
        *heard_of = true;
        let has_sandbox = matches!(state, TaskState::Starting | TaskState::Running | TaskState::Killing);
        if !*started && (has_sandbox || state.is_terminal() && status.uuid.is_some()) {
            *started = true;
            actions.push(Action::Started);
        }
        if state == TaskState::Unreachable {
            actions.push(Action::Say("the node does not answer; the task may still run there".to_owned()));
        }
        if state.is_terminal() || state == TaskState::Unknown {
            self.phase = Phase::Over;
            let ours = self.kill.filter(|_| state == TaskState::Killed || state.is_missing());
            let ending = ours.map_or_else(|| Ending::of(&status), |reason| reason.ending(self.timeout));
            actions.push(Action::End(ending));
        }
        actions
    }

    /// We subscribed again: whatever was offered is void, and updates may have been missed.
    pub(crate) fn on_resubscribed(&mut self) -> Vec<Action> {
        let Phase::Launched { agent, .. } = &self.phase else { return vec![] };
        let (task, agent) = (self.task.task_id.clone(), Some(agent.clone()));
        let mut actions = vec![Action::Reconcile { task, agent }];
        if self.kill.is_some() {
            actions.push(self.kill_action());
        }
        actions
    }

    /// Kill it. The second time we are asked, no answer is waited for.
    pub(crate) fn on_kill(&mut self, reason: KillReason) -> Vec<Action> {
        let again = self.kill.is_some();
        self.kill = Some(reason);
        match self.phase {
            Phase::Launched { .. } if !again => {
                vec![Action::Say("killing the task".to_owned()), self.kill_action()]
            }
            Phase::Seeking | Phase::Launched { .. } => {
                self.phase = Phase::Over;
                vec![Action::End(reason.ending(self.timeout))]
            }
            Phase::Over => vec![],
        }
    }

    /// Nothing has fitted for as long as we wait.
    pub(crate) fn on_no_offer(&mut self, waited: Duration) -> Vec<Action> {
        if !self.is_seeking() {
            return vec![];
        }
        self.phase = Phase::Over;
        let seconds = waited.as_secs_f64();
        let asked = self.demand.text();
        let ending = if let Some((_, largest)) = &self.seen.largest {
            let what = format!("no node offers {asked}: the largest offer in {seconds} s was {largest}");
            Ending::because(
                125,
                what,
                "ask for less, wait longer with --wait, or see `mesolith nodes` for who uses the rest",
            )
        } else if let Some((constraint, field)) = &self.seen.elsewhere {
            let found: Vec<String> =
                self.seen.found.iter().take(8).map(|(node, value)| format!("{value} on {node}")).collect();
            let what =
                format!("no node offered within {seconds} s satisfies {constraint}: {field} is {}", found.join(", "));
            Ending::because(125, what, "`mesolith nodes` shows every node's attributes")
        } else {
            let what = format!("no offer came within {seconds} s");
            Ending::because(
                125,
                what,
                "`mesolith nodes` shows whether there are nodes, `mesolith offers` who holds what they have",
            )
        };
        vec![Action::End(ending)]
    }

    fn runs_on(&self, id: &AgentId) -> bool {
        matches!(&self.phase, Phase::Launched { agent, .. } if agent == id)
    }

    fn node_name<'a>(&'a self, agent: &'a AgentId) -> &'a str {
        self.names.get(agent).map_or(agent.as_str(), String::as_str)
    }

    fn kill_action(&self) -> Action {
        let agent = match &self.phase {
            Phase::Launched { agent, .. } => Some(agent.clone()),
            Phase::Seeking | Phase::Over => None,
        };
        let nanoseconds = i64::try_from(self.grace.as_nanos()).unwrap_or(i64::MAX);
        let policy = KillPolicy { grace_period: Some(DurationInfo { nanoseconds }) };
        Action::Kill { task: self.task.task_id.clone(), agent, policy }
    }
}

trait Missing {
    /// The cluster does not know such a task.
    fn is_missing(&self) -> bool;
}

impl Missing for TaskState {
    fn is_missing(&self) -> bool {
        matches!(self, Self::Lost | Self::Dropped | Self::Gone | Self::GoneByOperator | Self::Unknown)
    }
}

#[cfg(test)]
mod tests;
