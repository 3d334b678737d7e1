//! Simulated agents are agents: the master cannot tell, and frameworks get what they ask for.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::bare_master::BareMaster;
use tests::framework::Framework;
use tests::simulated::{Admission, Agents, Spec};

const EVENT: Duration = Duration::from_secs(20);

/// A framework that forgets no event while it waits for another.
struct Scheduler {
    framework: Framework,
    offers: Vec<Value>,
    statuses: VecDeque<Value>,
    seen: BTreeSet<String>,
}

impl Scheduler {
    fn subscribe(master: &BareMaster) -> Result<Self> {
        let aware = json!({"capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}]});
        let framework = Framework::subscribe(&master.url, "simulated", &aware)?;
        Ok(Self { framework, offers: Vec::new(), statuses: VecDeque::new(), seen: BTreeSet::new() })
    }

    fn event(&mut self) -> Result<()> {
        let (_, event) = self.framework.next(EVENT)?.context("no event")?;
        match event["type"].as_str() {
            Some("OFFERS") => {
                self.offers.extend(event["offers"]["offers"].as_array().context("offers are a list")?.iter().cloned());
            }
            Some("RESCIND") => self.offers.retain(|offer| offer["id"] != event["rescind"]["offer_id"]),
            Some("UPDATE") => {
                self.framework.acknowledge(&event)?;
                // An update whose acknowledgement was lost with a connection comes again.
                let status = &event["update"]["status"];
                if status["uuid"].is_null() || self.seen.insert(status["uuid"].to_string()) {
                    self.statuses.push_back(status.clone());
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Launches a task of this command on an offer of this agent.
    fn launch(&mut self, agent: &str, id: &str, command: &str) -> Result<()> {
        let offer = loop {
            let mine = self.offers.iter().position(|offer| offer["agent_id"]["value"] == agent);
            match mine {
                Some(mine) => break self.offers.remove(mine),
                None => self.event()?,
            }
        };
        let task = json!({
            "name": id, "task_id": {"value": id}, "agent_id": offer["agent_id"], "command": {"value": command},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                          {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}}]});
        let launch = json!({"type": "LAUNCH", "launch": {"task_infos": [task]}});
        let filters = json!({"refuse_seconds": 0.0});
        let accept = json!({"offer_ids": [offer["id"]], "operations": [launch], "filters": filters});
        self.framework.call("ACCEPT", &accept)
    }

    /// The next status.
    fn status(&mut self) -> Result<Value> {
        loop {
            match self.statuses.pop_front() {
                Some(status) => return Ok(status),
                None => self.event()?,
            }
        }
    }

    fn states(&mut self, count: usize) -> Result<Vec<String>> {
        (0..count).map(|_| Ok(self.status()?["state"].as_str().context("a state is text")?.to_owned())).collect()
    }
}

#[test]
fn tasks_do_what_their_command_says_and_a_reboot_ends_them() {
    let dir = tempfile::tempdir().unwrap();
    let master = BareMaster::start(dir.path(), &[]).unwrap();
    let specs = ["sim-1", "sim-2"].map(|name| Spec::new(name, "cpus:4;mem:4096").attributes("rack:r1"));
    let agents = Agents::start(&master, specs.to_vec()).unwrap();
    let known = master.agents().unwrap();
    assert_eq!(known.len(), 2);
    assert!(known.iter().all(|agent| agent["attributes"]["rack"] == "r1"), "{known:?}");
    let agent = agents.id("sim-1").unwrap();
    let mut scheduler = Scheduler::subscribe(&master).unwrap();

    scheduler.launch(&agent, "good", "true").unwrap();
    assert_eq!(scheduler.states(3).unwrap(), ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]);
    scheduler.launch(&agent, "bad", "exit 3").unwrap();
    assert_eq!(scheduler.states(2).unwrap(), ["TASK_STARTING", "TASK_RUNNING"]);
    assert_eq!(scheduler.status().unwrap()["message"], "Command exited with status 3");
    scheduler.launch(&agent, "oom", "fail REASON_CONTAINER_LIMITATION_MEMORY too much").unwrap();
    assert_eq!(scheduler.states(1).unwrap(), ["TASK_STARTING"]);
    assert_eq!(scheduler.status().unwrap()["reason"], "REASON_CONTAINER_LIMITATION_MEMORY");

    scheduler.launch(&agent, "long", "cat").unwrap();
    assert_eq!(scheduler.states(2).unwrap(), ["TASK_STARTING", "TASK_RUNNING"]);
    agents.disconnect("sim-1").unwrap();
    agents.reconnect("sim-1").unwrap();
    scheduler.framework.call("KILL", &json!({"task_id": {"value": "long"}})).unwrap();
    assert_eq!(scheduler.states(1).unwrap(), ["TASK_KILLED"]);

    scheduler.launch(&agent, "lost", "cat").unwrap();
    assert_eq!(scheduler.states(2).unwrap(), ["TASK_STARTING", "TASK_RUNNING"]);
    agents.reboot("sim-1").unwrap();
    assert_eq!(scheduler.status().unwrap()["state"], "TASK_GONE");
    assert_eq!(agents.id("sim-1").unwrap(), agent, "a node keeps its id");
}

#[test]
fn agents_by_the_hundred_register_with_certificates_signed_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let master = BareMaster::start(dir.path(), &[]).unwrap();
    let specs = (0..200).map(|number| Spec::new(&format!("sim-{number}"), "cpus:1;mem:64")).collect();
    let agents = Agents::admit(&master, specs, Admission::Signed).unwrap();
    agents.wait_registered(Duration::from_secs(60)).unwrap();
    assert_eq!(master.agents().unwrap().len(), 200);
    agents.offer("sim-7", "cpus:2;mem:64").unwrap();
    let total = || {
        let summary = master.get("/state-summary").unwrap();
        let agents = summary["slaves"].as_array().unwrap();
        agents.iter().map(|agent| agent["resources"]["cpus"].as_f64().unwrap()).sum::<f64>()
    };
    let deadline = std::time::Instant::now() + EVENT;
    while total() < 201.0 {
        assert!(std::time::Instant::now() < deadline, "the new capacity does not show: {}", total());
        std::thread::sleep(Duration::from_millis(20));
    }
}
