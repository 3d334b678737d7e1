//! A framework that goes on while its masters die, and what became of each of its tasks.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::framework::Framework;
use crate::masters::Masters;

const EVENT: Duration = Duration::from_secs(20);
const TERMINAL: [&str; 6] = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_DROPPED"];

/// Several masters, one of which leads.
pub trait Cluster {
    /// Subscribes with whichever leads.
    fn subscribe(&self, name: &str, more: &Value) -> Result<Framework>;
}

impl Cluster for Masters {
    fn subscribe(&self, name: &str, more: &Value) -> Result<Framework> {
        Self::subscribe(self, name, more)
    }
}

/// A framework that goes to whichever master leads, and counts its tasks.
pub struct Books {
    framework: Framework,
    /// That came and were not used.
    pub offers: Vec<Value>,
    /// Launched, and the ends that were reported: by the update's id, for an update may come twice.
    pub ends: BTreeMap<String, BTreeMap<String, String>>,
    /// Of which the master says that it does not know them, and how: their ACCEPT was lost with the leader.
    pub never_launched: BTreeMap<String, String>,
    /// Their ACCEPT was answered: they were launched, whoever died.
    pub accepted: BTreeSet<String>,
}

impl Books {
    fn info(id: Option<&str>) -> Value {
        let mut info = json!({
            "failover_timeout": 3600.0, "checkpoint": true,
            "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}],
        });
        if let Some(id) = id {
            info["id"] = json!({"value": id});
        }
        info
    }

    /// Subscribes.
    pub fn open(masters: &impl Cluster) -> Result<Self> {
        let framework = masters.subscribe("books", &Self::info(None))?;
        Ok(Self {
            framework,
            offers: Vec::new(),
            ends: BTreeMap::new(),
            never_launched: BTreeMap::new(),
            accepted: BTreeSet::new(),
        })
    }

    /// With whichever leads now. Offers of before are void.
    pub fn return_to(&mut self, masters: &impl Cluster) -> Result<()> {
        self.offers.clear();
        self.framework = masters.subscribe("books", &Self::info(Some(&self.framework.id)))?;
        Ok(())
    }

    /// Takes in one event; false when the stream has ended.
    pub fn event(&mut self) -> Result<bool> {
        let Ok(event) = self.framework.next(EVENT) else { return Ok(false) };
        let (_, event) = event.context("no event")?;
        self.take(&event)?;
        Ok(true)
    }

    /// What has come already: an offer may have been rescinded meanwhile.
    fn catch_up(&mut self) -> Result<()> {
        while let Ok(Some((_, event))) = self.framework.next(Duration::from_millis(1)) {
            self.take(&event)?;
        }
        Ok(())
    }

    fn take(&mut self, event: &Value) -> Result<()> {
        match event["type"].as_str() {
            Some("OFFERS") => self.offers.extend(event["offers"]["offers"].as_array().into_iter().flatten().cloned()),
            Some("RESCIND") => self.offers.retain(|offer| offer["id"] != event["rescind"]["offer_id"]),
            Some("UPDATE") => {
                // The leader may be dying: then it comes again.
                drop(self.framework.acknowledge(event));
                let status = &event["update"]["status"];
                let task = status["task_id"]["value"].as_str().context("a status names its task")?.to_owned();
                let state = status["state"].as_str().context("a status has a state")?.to_owned();
                let ends = self.ends.get_mut(&task).with_context(|| format!("an update of {task}, never launched"))?;
                if let Some(uuid) = status["uuid"].as_str() {
                    ensure!(!self.never_launched.contains_key(&task), "{task} was never launched, and is {state}");
                    if TERMINAL.contains(&state.as_str()) {
                        ends.insert(uuid.to_owned(), state);
                    }
                } else if status["reason"] == "REASON_INVALID_OFFERS" {
                    // The offer had been rescinded when we used it, and we hear so.
                    self.accepted.remove(&task);
                    self.never_launched.insert(task, status.to_string());
                } else if ["TASK_DROPPED", "TASK_LOST", "TASK_UNKNOWN", "TASK_GONE"].contains(&state.as_str()) {
                    // An answer to reconciliation: the master does not know it.
                    if ends.is_empty() {
                        self.never_launched.insert(task, status.to_string());
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// One offer, and everything that comes before it.
    pub fn offer(&mut self) -> Result<Value> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.offers.is_empty() {
            // Heartbeats keep the stream alive, also of a cluster whose agents are lost.
            ensure!(Instant::now() < deadline, "no offer came");
            ensure!(self.event()?, "the stream ended before an offer came");
        }
        Ok(self.offers.remove(0))
    }

    /// So many tasks on the next offer. The answer may be lost, with or without the tasks.
    pub fn launch(&mut self, round: usize, count: usize) -> Result<()> {
        self.catch_up()?;
        let offer = self.offer()?;
        let mut infos = Vec::new();
        for number in 0..count {
            let id = format!("r{round}-t{number}");
            self.ends.insert(id.clone(), BTreeMap::new());
            infos.push(json!({
                "name": id, "task_id": {"value": id}, "agent_id": offer["agent_id"],
                "command": {"value": if number % 2 == 0 { "sleep 0.2" } else { "sleep 1.5" }},
                "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                              {"name": "mem", "type": "SCALAR", "scalar": {"value": 16}}],
            }));
        }
        let accept = json!({
            "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0.0},
            "operations": [{"type": "LAUNCH", "launch": {"task_infos": infos}}],
        });
        if self.framework.call("ACCEPT", &accept).is_ok() {
            self.accepted.extend((0..count).map(|number| format!("r{round}-t{number}")));
        }
        Ok(())
    }

    fn unaccounted(&self) -> Vec<String> {
        let open = |task: &&String| self.ends[*task].is_empty() && !self.never_launched.contains_key(*task);
        self.ends.keys().filter(open).cloned().collect()
    }

    /// Until every task has ended, or was never launched.
    pub fn close(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut asked = Instant::now() - EVENT;
        while !self.unaccounted().is_empty() {
            ensure!(Instant::now() < deadline, "unaccounted for: {:?}", self.unaccounted());
            if asked.elapsed() > Duration::from_secs(3) {
                let tasks: Vec<Value> =
                    self.unaccounted().iter().map(|task| json!({"task_id": {"value": task}})).collect();
                self.framework.call("RECONCILE", &json!({ "tasks": tasks }))?;
                asked = Instant::now();
            }
            ensure!(self.event()?, "the stream ended");
        }
        Ok(())
    }

    /// Every task has ended once, or was never launched; and what was answered 202 was launched.
    pub fn check(&self) -> Result<()> {
        for (task, ends) in &self.ends {
            let never = self.never_launched.contains_key(task);
            ensure!(ends.len() + usize::from(never) == 1, "{task} ended {ends:?}, never launched: {never}");
        }
        let mut lost = self.never_launched.clone();
        lost.retain(|task, _| self.accepted.contains(task));
        ensure!(lost.is_empty(), "accepted, and never launched: {lost:?}");
        Ok(())
    }
}
