//! What holds in every history.
#![allow(clippy::unwrap_used)] // a test's helper may

#[path = "rig/rig.rs"]
mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Resources, TaskState};
use master_core::{Input, SessionId, State, StreamId};
use proptest::prelude::*;
use rig::{Rig, registration, task_info};

/// One thing that happens in a random history.
#[derive(Clone, Debug)]
enum Step {
    Register { node: u8, boot: u8 },
    Disconnect { node: u8 },
    Subscribe { framework: u8 },
    HangUp { framework: u8 },
    Teardown { framework: u8 },
    Accept { framework: u8, tasks: u8 },
    Decline { framework: u8, seconds: u8 },
    Kill { framework: u8, task: u8 },
    Update { pick: u8, state: u8, uuid: u8 },
    Acknowledge { pick: u8 },
    Revive { framework: u8 },
    Suppress { framework: u8 },
    Wait { seconds: u8 },
    Failover,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..3, 0u8..2).prop_map(|(node, boot)| Step::Register { node, boot }),
        1 => (0u8..3).prop_map(|node| Step::Disconnect { node }),
        3 => (0u8..3).prop_map(|framework| Step::Subscribe { framework }),
        1 => (0u8..3).prop_map(|framework| Step::HangUp { framework }),
        1 => (0u8..3).prop_map(|framework| Step::Teardown { framework }),
        8 => (0u8..3, 1u8..4).prop_map(|(framework, tasks)| Step::Accept { framework, tasks }),
        3 => (0u8..3, 0u8..9).prop_map(|(framework, seconds)| Step::Decline { framework, seconds }),
        2 => (0u8..3, 0u8..20).prop_map(|(framework, task)| Step::Kill { framework, task }),
        8 => (any::<u8>(), 0u8..5, any::<u8>()).prop_map(|(pick, state, uuid)| Step::Update { pick, state, uuid }),
        5 => any::<u8>().prop_map(|pick| Step::Acknowledge { pick }),
        1 => (0u8..3).prop_map(|framework| Step::Revive { framework }),
        1 => (0u8..3).prop_map(|framework| Step::Suppress { framework }),
        3 => (0u8..40).prop_map(|seconds| Step::Wait { seconds }),
        1 => Just(Step::Failover),
    ]
}

/// Plays a history and watches the laws.
struct History {
    rig: Rig,
    sessions: BTreeMap<u8, u64>,
    boots: BTreeMap<u8, u8>,
    frameworks: BTreeMap<u8, (String, String)>,
    next: u64,
    ended: BTreeMap<(String, String, String), TaskState>,
    offers_seen: BTreeSet<String>,
}

impl History {
    fn new() -> Self {
        Self {
            rig: Rig::default(),
            sessions: BTreeMap::new(),
            boots: BTreeMap::new(),
            frameworks: BTreeMap::new(),
            next: 0,
            ended: BTreeMap::new(),
            offers_seen: BTreeSet::new(),
        }
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn offers_of(&mut self, framework: &str) -> Vec<Arc<master_core::OutstandingOffer>> {
        let view = self.rig.master.view();
        view.offers.values().filter(|offer| offer.framework.as_str() == framework).cloned().collect()
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Register { node, boot } => {
                let session = self.fresh();
                let name = format!("node-{node}");
                let mut registration = registration(&name, &format!("b{boot}"), "cpus:4;mem:400");
                if self.boots.insert(node, boot) == Some(boot)
                    && let Some(agent) = self.rig.master.state().nodes.get(&name.as_str().into()).cloned()
                {
                    let state = self.rig.master.state();
                    let mine = state.tasks_on(&agent).filter(|task| !task.statuses.is_empty());
                    registration.tasks = mine
                        .map(|task| {
                            let shown =
                                if task.state == TaskState::Unreachable { TaskState::Running } else { task.state };
                            self.rig.report(task.framework.as_str(), task.id().as_str(), shown)
                        })
                        .collect();
                }
                if let Some(old) = self.sessions.insert(node, session) {
                    self.rig.input(Input::AgentDisconnected(SessionId(old)));
                }
                self.rig.register(session, registration);
            }
            Step::Disconnect { node } => {
                if let Some(old) = self.sessions.remove(&node) {
                    self.rig.input(Input::AgentDisconnected(SessionId(old)));
                }
            }
            Step::Subscribe { framework } => {
                let stream = format!("s{}", self.fresh());
                match self.frameworks.get(&framework).map(|(id, _)| id.clone()) {
                    Some(id) => self.rig.again(&stream, &id),
                    None => self.rig.subscribe(&stream),
                };
                let first = self.rig.take(&stream).first().cloned().unwrap_or_default();
                match first.strip_prefix("SUBSCRIBED ") {
                    Some(id) => drop(self.frameworks.insert(framework, (id.to_owned(), stream))),
                    None => drop(self.frameworks.remove(&framework)),
                }
            }
            Step::HangUp { framework } => {
                if let Some((_, stream)) = self.frameworks.get(&framework).cloned() {
                    self.rig.input(Input::StreamClosed(StreamId(stream)));
                }
            }
            Step::Teardown { framework } => {
                if let Some((id, stream)) = self.frameworks.get(&framework).cloned() {
                    self.rig.simple(&stream, &id, "TEARDOWN");
                }
            }
            Step::Accept { framework, tasks } => {
                let Some((id, stream)) = self.frameworks.get(&framework).cloned() else { return };
                let Some(offer) = self.offers_of(&id).first().cloned() else { return };
                let names: Vec<String> = (0..tasks).map(|_| format!("t{}", self.fresh() % 20)).collect();
                let tasks: Vec<_> = names.iter().map(|name| task_info(name, offer.agent.as_str(), 1.0, 50.0)).collect();
                self.rig.accept(&stream, &id, &[offer.id.as_str()], &tasks);
            }
            Step::Decline { framework, seconds } => {
                let Some((id, stream)) = self.frameworks.get(&framework).cloned() else { return };
                for offer in self.offers_of(&id) {
                    self.rig.decline(&stream, &id, offer.id.as_str(), f64::from(seconds));
                }
            }
            Step::Kill { framework, task } => {
                let Some((id, stream)) = self.frameworks.get(&framework).cloned() else { return };
                let task = format!("t{task}");
                let kill = serde_json::json!({"framework_id": {"value": id}, "type": "KILL", "kill": {"task_id": {"value": task}}});
                self.rig.call(&stream, kill);
            }
            Step::Update { pick, state, uuid } => {
                let tasks: Vec<_> = self.rig.master.state().tasks().cloned().collect();
                let Some(task) = tasks.get(usize::from(pick) % tasks.len().max(1)) else { return };
                let agents = &self.rig.master.state().agents;
                let node = agents[&task.agent].node.as_str().trim_start_matches("node-").parse::<u8>().unwrap();
                let states = [
                    TaskState::Starting,
                    TaskState::Running,
                    TaskState::Finished,
                    TaskState::Failed,
                    TaskState::Killed,
                ];
                if let Some(session) = self.sessions.get(&node).copied() {
                    let (framework, id) = (task.framework.as_str().to_owned(), task.id().as_str().to_owned());
                    self.rig.update(session, &framework, &id, states[usize::from(state)], uuid);
                }
            }
            Step::Acknowledge { pick } => {
                let tasks: Vec<_> = self.rig.master.state().tasks().cloned().collect();
                let Some(task) = tasks.get(usize::from(pick) % tasks.len().max(1)) else { return };
                let Some(uuid) = task.last_status().and_then(|last| last.uuid_bytes()) else { return };
                let found = self.frameworks.values().find(|(id, _)| *id == task.framework.as_str()).cloned();
                let Some((id, stream)) = found else { return };
                let call = serde_json::json!({"framework_id": {"value": id}, "type": "ACKNOWLEDGE", "acknowledge": {
                    "agent_id": {"value": task.agent}, "task_id": {"value": task.id()}, "uuid": rig::uuid_text(uuid[0])}});
                self.rig.call(&stream, call);
            }
            Step::Revive { framework } => {
                if let Some((id, stream)) = self.frameworks.get(&framework).cloned() {
                    self.rig.simple(&stream, &id, "REVIVE");
                }
            }
            Step::Suppress { framework } => {
                if let Some((id, stream)) = self.frameworks.get(&framework).cloned() {
                    self.rig.simple(&stream, &id, "SUPPRESS");
                }
            }
            Step::Wait { seconds } => {
                self.rig.wait(u64::from(seconds) * 1000);
                for session in self.sessions.values().copied().collect::<Vec<_>>() {
                    self.rig.pong(session);
                }
            }
            Step::Failover => {
                let rig = std::mem::take(&mut self.rig);
                self.rig = rig.failover();
                self.sessions.clear();
                // Offers do not survive, and their numbers start again.
                self.offers_seen.clear();
            }
        }
    }

    /// Each offer is made once; nothing is given twice; what ended stays as it ended.
    fn check(&mut self) {
        master_core::invariant::check(self.rig.master.state());
        for event in std::mem::take(&mut self.rig.events).into_values().flatten() {
            for offer in event.strip_prefix("OFFERS ").into_iter().flat_map(|offers| offers.split(" | ")) {
                let id = offer.split(' ').next().unwrap().to_owned();
                assert!(self.offers_seen.insert(id.clone()), "offer {id} is made once");
            }
        }
        let view = self.rig.master.view();
        for agent in view.state.agents.values() {
            let mut given = Resources::new();
            for task in view.state.tasks_on(&agent.id).filter(|task| task.holds_resources()) {
                given.add_all(&task.resources);
            }
            for offer in view.offers.values().filter(|offer| offer.agent == agent.id) {
                assert!(view.connected_agents.contains(&agent.id), "only connected agents are offered");
                given.add_all(&offer.resources);
            }
            assert!(agent.resources.contains(&given), "{} has {}, gave {given}", agent.id, agent.resources);
        }
        let completed = view.state.completed_frameworks.iter().flat_map(|framework| &framework.completed_tasks);
        let completed =
            completed.chain(view.state.frameworks.values().flat_map(|framework| &framework.completed_tasks));
        for task in completed.chain(view.state.tasks()).filter(|task| task.state.is_terminal()) {
            let key = (task.framework.to_string(), task.id().to_string(), task.container.to_string());
            let before = self.ended.entry(key).or_insert(task.state);
            assert_eq!(*before, task.state, "no ended task changes");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_history_keeps_the_laws(steps in prop::collection::vec(step(), 1..80)) {
        let mut history = History::new();
        for step in steps {
            history.play(step);
            history.check();
        }
        let mut replayed = State::default();
        for batch in &history.rig.log {
            for command in master_core::Command::decode_batch(batch).unwrap() {
                replayed.apply(command);
            }
        }
        prop_assert_eq!(&replayed, history.rig.master.state(), "replaying the log gives the same state");
        prop_assert_eq!(&State::from_snapshot(&replayed.to_snapshot()).unwrap(), &replayed);
    }
}
