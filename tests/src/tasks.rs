//! Tasks of one framework: launched one at a time, followed to their end, every update acknowledged and kept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::framework::Framework;
use crate::http;

const TERMINAL: [&str; 6] = ["TASK_FINISHED", "TASK_FAILED", "TASK_KILLED", "TASK_ERROR", "TASK_LOST", "TASK_GONE"];

/// How long a declined offer stays away.
const REFUSE_SECONDS: f64 = 0.5;

/// A framework and what became of its tasks.
pub struct Tasks {
    /// For calls that are not about launching.
    pub framework: Framework,
    api_url: String,
    updates: BTreeMap<String, Vec<Value>>,
}

impl Tasks {
    /// Subscribes under `name`. Its tasks outlive the stream, should that break.
    pub fn subscribe(api_url: &str, name: &str) -> Result<Self> {
        let more = json!({"failover_timeout": 3600, "checkpoint": true});
        let framework = Framework::subscribe(api_url, name, &more)?;
        Ok(Self { framework, api_url: api_url.to_owned(), updates: BTreeMap::new() })
    }

    /// As [`Self::subscribe`], with more in its FrameworkInfo.
    pub fn subscribe_as(api_url: &str, name: &str, more: &Value) -> Result<Self> {
        let mut info = json!({"failover_timeout": 3600, "checkpoint": true});
        for (key, value) in more.as_object().into_iter().flatten() {
            info[key] = value.clone();
        }
        let framework = Framework::subscribe(api_url, name, &info)?;
        Ok(Self { framework, api_url: api_url.to_owned(), updates: BTreeMap::new() })
    }

    /// Accepts the first offer of which `operations` makes something; the others are declined.
    pub fn accept_first(&mut self, operations: impl Fn(&Value) -> Option<Value>, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let event = self.next(deadline)?.with_context(|| format!("no offer fits within {timeout:?}"))?;
            let mut accepted = false;
            for offer in event["offers"]["offers"].as_array().into_iter().flatten() {
                match operations(offer).filter(|_| !accepted) {
                    Some(operations) => {
                        let filters = json!({ "refuse_seconds": REFUSE_SECONDS });
                        let body = json!({"offer_ids": [offer["id"]], "operations": operations, "filters": filters});
                        self.framework.call("ACCEPT", &body)?;
                        accepted = true;
                    }
                    None => self.decline(offer)?,
                }
            }
            if accepted {
                return Ok(());
            }
        }
    }

    /// Takes in what comes for that long; offers are declined.
    pub fn take(&mut self, wait: Duration) -> Result<()> {
        self.take_until(Instant::now() + wait, |_| false)
    }

    /// The same, at most until something is so.
    fn take_until(&mut self, deadline: Instant, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        while !is_so(self)
            && let Some(event) = self.next(deadline)?
        {
            if event["type"] == "OFFERS" {
                for offer in event["offers"]["offers"].as_array().into_iter().flatten() {
                    self.decline(offer)?;
                }
            }
        }
        Ok(())
    }

    /// Launches a shell command under this id on the first offer that has so much. Gives the agent's id.
    pub fn launch(&mut self, id: &str, command: &str, cpus: f64, mem: f64, timeout: Duration) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let event = self.next(deadline)?.with_context(|| format!("no offer fits within {timeout:?}"))?;
            let mut agent = None;
            for offer in event["offers"]["offers"].as_array().into_iter().flatten() {
                if agent.is_none() && scalar(offer, "cpus") >= cpus && scalar(offer, "mem") >= mem {
                    self.accept(offer, id, command, cpus, mem)?;
                    agent = offer["agent_id"]["value"].as_str().map(str::to_owned);
                } else {
                    self.decline(offer)?;
                }
            }
            if let Some(agent) = agent {
                return Ok(agent);
            }
        }
    }

    /// Launches all these tasks with so much each on the first offer that has it; `agent_id` and `resources` are put in.
    pub fn launch_all(&mut self, tasks: &[Value], cpus: f64, mem: f64, timeout: Duration) -> Result<()> {
        let launch = |tasks: Vec<Value>| json!({"type": "LAUNCH", "launch": {"task_infos": tasks}});
        self.launch_together(tasks, (cpus, mem), (0.0, 0.0), timeout, &launch)
    }

    /// Launches these tasks as a group, with a default executor of that id, as [`Self::launch_all`] does.
    pub fn launch_group(
        &mut self,
        executor: &str,
        tasks: &[Value],
        cpus: f64,
        mem: f64,
        timeout: Duration,
    ) -> Result<()> {
        let own = json!([amount("cpus", 0.1), amount("mem", 32.0), amount("disk", 1.0)]);
        let executor = json!({"type": "DEFAULT", "executor_id": {"value": executor}, "resources": own,
            "framework_id": {"value": self.framework.id}});
        let launch = move |tasks: Vec<Value>| json!({"type": "LAUNCH_GROUP", "launch_group": {"executor": executor, "task_group": {"tasks": tasks}}});
        self.launch_together(tasks, (cpus, mem), (0.1, 32.0), timeout, &launch)
    }

    fn launch_together(
        &mut self,
        tasks: &[Value],
        (cpus, mem): (f64, f64),
        (more_cpus, more_mem): (f64, f64),
        timeout: Duration,
        operation: &dyn Fn(Vec<Value>) -> Value,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        let count = f64::from(u32::try_from(tasks.len())?);
        loop {
            let event = self.next(deadline)?.with_context(|| format!("no offer fits within {timeout:?}"))?;
            let mut launched = false;
            for offer in event["offers"]["offers"].as_array().into_iter().flatten() {
                let fits =
                    scalar(offer, "cpus") >= cpus * count + more_cpus && scalar(offer, "mem") >= mem * count + more_mem;
                if launched || !fits {
                    self.decline(offer)?;
                    continue;
                }
                let mut tasks = tasks.to_vec();
                for task in &mut tasks {
                    task["agent_id"] = offer["agent_id"].clone();
                    task["resources"] = json!([amount("cpus", cpus), amount("mem", mem)]);
                }
                self.accept_with(offer, &operation(tasks))?;
                launched = true;
            }
            if launched {
                return Ok(());
            }
        }
    }

    /// Waits for the task's update of this state. An error when it ends otherwise before.
    pub fn wait_state(&mut self, id: &str, state: &str, timeout: Duration) -> Result<Value> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.statuses(id).iter().find(|status| status["state"] == state) {
                return Ok(status.clone());
            }
            if let Some(end) = self.ends(id).first() {
                bail!("{id} was to become {state}, but ended: {end}");
            }
            ensure!(Instant::now() < deadline, "{id} is not {state} after {timeout:?}: {:?}", self.statuses(id));
            self.take_until(deadline.min(Instant::now() + Duration::from_millis(100)), |tasks| {
                tasks.statuses(id).iter().any(|status| status["state"] == state)
            })?;
        }
    }

    /// Waits for the task's end, and a moment longer: there must be one end only.
    pub fn wait_end(&mut self, id: &str, timeout: Duration) -> Result<Value> {
        let end = self.wait_first_end(id, timeout)?;
        self.take(Duration::from_millis(500))?;
        self.only_one_end(id)?;
        Ok(end)
    }

    /// Waits for the task's end and no longer: [`Self::only_one_end_each`] is to be asked when all have ended.
    pub fn wait_first_end(&mut self, id: &str, timeout: Duration) -> Result<Value> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(end) = self.ends(id).into_iter().next() {
                return Ok(end);
            }
            ensure!(Instant::now() < deadline, "{id} has not ended after {timeout:?}: {:?}", self.statuses(id));
            self.take_until(deadline.min(Instant::now() + Duration::from_millis(100)), |tasks| {
                !tasks.ends(id).is_empty()
            })?;
        }
    }

    /// An error if one of the tasks has ended several times.
    pub fn only_one_end_each(&mut self) -> Result<()> {
        self.take(Duration::from_millis(500))?;
        self.updates.keys().try_for_each(|id| self.only_one_end(id))
    }

    fn only_one_end(&self, id: &str) -> Result<()> {
        let ends = self.ends(id);
        ensure!(ends.len() <= 1, "{id} ended {} times: {ends:?}", ends.len());
        Ok(())
    }

    /// Asks for the task's end.
    pub fn kill(&self, id: &str) -> Result<()> {
        self.framework.call("KILL", &json!({"task_id": {"value": id}}))
    }

    /// Every update of a task.
    #[must_use]
    pub fn statuses(&self, id: &str) -> &[Value] {
        self.updates.get(id).map_or(&[], Vec::as_slice)
    }

    /// The terminal updates of a task; one that was repeated under its uuid counts once.
    #[must_use]
    pub fn ends(&self, id: &str) -> Vec<Value> {
        let mut seen = BTreeSet::new();
        let terminal = |status: &&Value| TERMINAL.iter().any(|state| status["state"] == **state);
        let ends = self.statuses(id).iter().filter(terminal);
        ends.filter(|status| status["uuid"].is_null() || seen.insert(status["uuid"].to_string())).cloned().collect()
    }

    /// What the task wrote to `stdout` in its sandbox so far, read through the master.
    pub fn stdout(&self, id: &str) -> Result<String> {
        let url = format!("{}/mesolith/v1/tasks/{}/{id}/files/stdout", self.api_url, self.framework.id);
        Ok(http::get(&url, Duration::from_secs(30))?.success()?.text())
    }

    /// The pid of the task's first process, as its agent reported it with TASK_RUNNING.
    pub fn pid(&self, id: &str) -> Result<u64> {
        let running = self.statuses(id).iter().find(|status| status["state"] == "TASK_RUNNING");
        let pid = running.and_then(|status| status["container_status"]["executor_pid"].as_u64());
        pid.with_context(|| format!("{id} has no pid: {:?}", self.statuses(id)))
    }

    fn next(&mut self, deadline: Instant) -> Result<Option<Value>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let Some((_, event)) = self.framework.next(left)? else {
            return Ok(None);
        };
        if event["type"] == "UPDATE" {
            self.framework.acknowledge(&event)?;
            let status = event["update"]["status"].clone();
            let id = status["task_id"]["value"].as_str().context("an update names its task")?.to_owned();
            self.updates.entry(id).or_default().push(status);
        }
        Ok(Some(event))
    }

    fn decline(&self, offer: &Value) -> Result<()> {
        let filters = json!({ "refuse_seconds": REFUSE_SECONDS });
        self.framework.call("DECLINE", &json!({"offer_ids": [offer["id"]], "filters": filters}))
    }

    fn accept(&self, offer: &Value, id: &str, command: &str, cpus: f64, mem: f64) -> Result<()> {
        let task = json!({"name": id, "task_id": {"value": id}, "agent_id": offer["agent_id"],
                          "command": {"value": command}, "kill_policy": {"grace_period": {"nanoseconds": 1_000_000_000}},
                          "resources": [amount("cpus", cpus), amount("mem", mem)]});
        self.accept_with(offer, &json!({"type": "LAUNCH", "launch": {"task_infos": [task]}}))
    }

    fn accept_with(&self, offer: &Value, operation: &Value) -> Result<()> {
        let filters = json!({ "refuse_seconds": REFUSE_SECONDS });
        self.framework
            .call("ACCEPT", &json!({"offer_ids": [offer["id"]], "operations": [operation], "filters": filters}))
    }
}

fn amount(name: &str, value: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}})
}

/// The sum of an offer's scalar resources of this name.
fn scalar(offer: &Value, name: &str) -> f64 {
    let resources = offer["resources"].as_array().into_iter().flatten();
    resources.filter(|resource| resource["name"] == name).filter_map(|found| found["scalar"]["value"].as_f64()).sum()
}
