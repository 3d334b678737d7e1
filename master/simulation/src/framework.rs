//! A simulated framework: finds the leader, launches tasks from offers, acknowledges what it is told, and asks again
//! about what it is not sure of.

use std::collections::{BTreeMap, BTreeSet};

use api::v1::scheduler::{Call, Event, event};
use api::v1::{Offer, TaskStatus};
use api::{Resources, TaskState};
use master_core::Response;
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::invariants::updates::Uuid;
use crate::invariants::{Invariant, Watch};
use crate::trace::{MS, Micros, SECOND};

/// Without a heartbeat for so long the stream is given up.
const SILENCE: Micros = 3 * SECOND;
/// From asking to being subscribed.
const SUBSCRIBE: Micros = 3 * SECOND;
/// How often it asks about all that has not ended.
const RECONCILE: Micros = 2 * SECOND;
/// Tasks at once.
const AT_ONCE: usize = 6;

/// What a framework wants done.
pub(crate) enum Wish {
    /// A connection to some master, and SUBSCRIBE on it.
    Connect(usize, Box<Call>),
    /// This call.
    Call(Box<Call>),
    /// The connection is of no use.
    Close,
}

#[derive(Debug, Eq, PartialEq)]
enum Stage {
    /// To be launched.
    Wanted,
    /// Asked for, on this line; no word yet.
    Asked(u64),
    /// The master has said something of it.
    Known,
}

/// See the module.
pub(crate) struct Framework {
    name: String,
    role: &'static str,
    chance: Chance,
    id: Option<String>,
    pub(crate) line: Option<u64>,
    pub(crate) subscribed: bool,
    heard_at: Micros,
    connect_at: Micros,
    reconcile_at: Micros,
    /// Those that have not ended, with where they were last said to be.
    tasks: BTreeMap<String, (Stage, Option<String>)>,
    next_task: u64,
    pub(crate) ended: BTreeSet<String>,
    /// Holds what it is offered, and launches nothing.
    pub(crate) quiet: bool,
}

impl Framework {
    pub(crate) fn new(number: usize, chance: Chance) -> Self {
        Self {
            name: format!("framework-{number}"),
            role: if number == 0 { "*" } else { crate::operator::ROLE },
            chance,
            id: None,
            line: None,
            subscribed: false,
            heard_at: 0,
            connect_at: 0,
            reconcile_at: 0,
            tasks: BTreeMap::new(),
            next_task: 0,
            ended: BTreeSet::new(),
            quiet: false,
        }
    }

    /// Tasks it has not heard the end of, apart from those not yet asked for.
    pub(crate) fn unfinished(&self) -> usize {
        self.tasks.values().filter(|(stage, _)| *stage != Stage::Wanted).count()
    }

    /// Looks at the clock.
    pub(crate) fn look(&mut self, now: Micros, masters: usize) -> Vec<Wish> {
        if self.line.is_none() {
            if now < self.connect_at {
                return Vec::new();
            }
            (self.subscribed, self.heard_at) = (false, now);
            let mut info = json!({"user": "root", "name": self.name, "failover_timeout": 1e6, "roles": [self.role],
                "capabilities": [{"type": "PARTITION_AWARE"}, {"type": "MULTI_ROLE"}]});
            let mut call = json!({"type": "SUBSCRIBE"});
            if let Some(id) = &self.id {
                info["id"] = json!({"value": id});
                call["framework_id"] = json!({"value": id});
            }
            call["subscribe"] = json!({"framework_info": info});
            return vec![Wish::Connect(self.chance.index(masters), call_of(call))];
        }
        if now > self.heard_at + if self.subscribed { SILENCE } else { SUBSCRIBE } {
            return vec![Wish::Close];
        }
        if !self.subscribed {
            return Vec::new();
        }
        while !self.quiet && self.tasks.len() < AT_ONCE {
            self.next_task += 1;
            self.tasks.insert(format!("t{}", self.next_task), (Stage::Wanted, None));
        }
        if now < self.reconcile_at {
            return Vec::new();
        }
        self.reconcile_at = now + RECONCILE;
        let asked = self.tasks.iter().filter(|(_, (stage, _))| *stage != Stage::Wanted);
        let tasks: Vec<Value> = asked
            .map(|(task, (_, agent))| match agent {
                Some(agent) => json!({"task_id": {"value": task}, "agent_id": {"value": agent}}),
                None => json!({"task_id": {"value": task}}),
            })
            .collect();
        let mut wishes = Vec::new();
        if !tasks.is_empty() {
            wishes.push(self.call(json!({"type": "RECONCILE", "reconcile": {"tasks": tasks}})));
        }
        if !self.quiet && self.chance.percent(20) {
            wishes.extend(self.kill());
        }
        wishes
    }

    fn kill(&mut self) -> Option<Wish> {
        let known: Vec<&String> =
            self.tasks.iter().filter(|(_, (stage, _))| *stage == Stage::Known).map(|(task, _)| task).collect();
        if known.is_empty() {
            return None;
        }
        let task = known[self.chance.index(known.len())].clone();
        Some(self.call(json!({"type": "KILL", "kill": {"task_id": {"value": task}}})))
    }

    fn call(&self, mut call: Value) -> Wish {
        call["framework_id"] = json!({"value": self.id});
        Wish::Call(call_of(call))
    }

    /// The connection is no more.
    pub(crate) fn disconnected(&mut self, now: Micros) {
        (self.line, self.subscribed) = (None, false);
        self.connect_at = now + self.chance.within(20 * MS..300 * MS);
    }

    /// What became of a call.
    pub(crate) fn answered(&mut self, answer: Option<&Response>, now: Micros) -> Vec<Wish> {
        match answer {
            Some(Response::Accepted | Response::Ok | Response::Stream(_)) => {
                self.heard_at = now;
                Vec::new()
            }
            // Somebody else leads, or this stream is no more.
            Some(Response::Refused { .. }) | None => vec![Wish::Close],
        }
    }

    /// The master says something.
    pub(crate) fn hear(&mut self, event: Event, now: Micros, watch: &mut Watch) -> Vec<Wish> {
        self.heard_at = now;
        match event.r#type() {
            event::Type::Subscribed => {
                let subscribed = event.subscribed.unwrap_or_default();
                self.id = Some(subscribed.framework_id.to_string());
                (self.subscribed, self.reconcile_at) = (true, now);
                Vec::new()
            }
            event::Type::Offers => {
                let offers = event.offers.unwrap_or_default().offers;
                offers.into_iter().filter_map(|offer| self.offered(&offer)).collect()
            }
            event::Type::Update => {
                let status = event.update.unwrap_or_default().status;
                self.updated(&status, now, watch).into_iter().collect()
            }
            event::Type::Error => vec![Wish::Close],
            event::Type::Unknown
            | event::Type::Rescind
            | event::Type::Message
            | event::Type::Failure
            | event::Type::Heartbeat
            | event::Type::InverseOffers
            | event::Type::RescindInverseOffer
            | event::Type::UpdateOperationStatus => Vec::new(),
        }
    }

    fn offered(&mut self, offer: &Offer) -> Option<Wish> {
        if self.quiet {
            return None;
        }
        let line = self.line?;
        let offered = api::v1::resources_from_wire(&offer.resources).unwrap_or_default();
        let one = Resources::parse("cpus:0.5;mem:100").expect("resources are written in the grammar");
        let (mut left, mut tasks) = (offered, Vec::new());
        for (task, (stage, agent)) in &mut self.tasks {
            let Some(rest) = left.checked_sub(&one).filter(|_| *stage == Stage::Wanted && tasks.len() < 2) else {
                continue;
            };
            left = rest;
            *stage = Stage::Asked(line);
            *agent = Some(offer.agent_id.to_string());
            tasks.push(
                json!({"name": task, "task_id": {"value": task}, "agent_id": {"value": offer.agent_id.as_str()},
                "command": {"value": "true"}, "resources": [
                    {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
                    {"name": "mem", "type": "SCALAR", "scalar": {"value": 100.0}}]}),
            );
        }
        let refuse = if self.chance.percent(50) { 0.2 } else { 2.0 };
        let (ids, filters) = (json!([{"value": offer.id.as_str()}]), json!({"refuse_seconds": refuse}));
        Some(self.call(if tasks.is_empty() {
            json!({"type": "DECLINE", "decline": {"offer_ids": ids, "filters": filters}})
        } else {
            let launch = json!([{"type": "LAUNCH", "launch": {"task_infos": tasks}}]);
            json!({"type": "ACCEPT", "accept": {"offer_ids": ids, "operations": launch, "filters": filters}})
        }))
    }

    fn updated(&mut self, status: &TaskStatus, now: Micros, watch: &mut Watch) -> Option<Wish> {
        let (task, state) = (status.task_id.to_string(), status.state());
        let uuid: Option<Uuid> = status.uuid_bytes();
        if let Some(uuid) = uuid {
            let heard = watch.updates.heard(uuid);
            watch.check(Invariant::UpdatesInOrder, now, heard);
        }
        self.note(&task, state, uuid.is_some(), watch);
        // Sometimes it forgets to, and is told again.
        let uuid = uuid.filter(|_| self.quiet || !self.chance.percent(10))?;
        watch.updates.acknowledges(uuid);
        let agent = status.agent_id.as_ref().map(ToString::to_string);
        let mut call = call_of(json!({"type": "ACKNOWLEDGE", "framework_id": {"value": self.id}, "acknowledge":
            {"agent_id": {"value": agent}, "task_id": {"value": task}, "uuid": ""}}));
        call.acknowledge.get_or_insert_default().uuid = uuid.to_vec();
        Some(Wish::Call(call))
    }

    fn note(&mut self, task: &str, state: TaskState, of_agent: bool, watch: &mut Watch) {
        let over = state.is_terminal() || matches!(state, TaskState::Unknown);
        let Some((stage, _)) = self.tasks.get_mut(task) else { return };
        if !over {
            *stage = Stage::Known;
            return;
        }
        if !of_agent && let Some(id) = &self.id {
            watch.updates.is_over(id, task);
        }
        match stage {
            // It never was, as far as anybody knows: it is launched after all, under the same name.
            Stage::Asked(asked) if Some(*asked) != self.line => *stage = Stage::Wanted,
            Stage::Wanted => {}
            Stage::Asked(_) | Stage::Known => {
                self.tasks.remove(task);
                self.ended.insert(task.to_owned());
            }
        }
    }
}

fn call_of(call: Value) -> Box<Call> {
    Box::new(serde_json::from_value(call).expect("calls are written in the grammar"))
}
