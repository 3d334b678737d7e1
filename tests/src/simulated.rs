//! Agents without machines: they speak the real link to a real master, and only pretend to run tasks.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! # let dir = std::path::Path::new("/tmp/example");
//! use tests::bare_master::BareMaster;
//! use tests::simulated::{Agents, Spec};
//!
//! let master = BareMaster::start(dir, &[])?;
//! // Returns when all of them are registered.
//! let agents = Agents::start(&master, vec![
//!     Spec::new("node-1", "cpus:4;mem:4096;disk:10000;ports:[31000-32000]").attributes("rack:r1"),
//!     // Reservations, volumes and whatever else the text grammar cannot say, as Mesos's JSON.
//!     Spec::with_resources("node-2", serde_json::json!([
//!         {"name": "cpus", "type": "SCALAR", "scalar": {"value": 2}, "reservations": [{"type": "STATIC", "role": "web"}]},
//!     ])),
//! ])?;
//! let id = agents.id("node-1")?;                 // its agent id
//! agents.disconnect("node-1")?;                  // its connection breaks, and it stays away
//! agents.reconnect("node-1")?;                   // it is back with the same tasks
//! agents.reboot("node-1")?;                      // it is back, and everything that ran is gone
//! agents.offer("node-2", "cpus:8;mem:1024")?;    // it has other resources from now on
//! # Ok(()) }
//! ```
//!
//! What a task does is decided by its command's value, see [`Script`]: `true` ends at once, `exit 3` fails, `sleep 1`
//! ends after a second, `fail REASON_CONTAINER_LIMITATION_MEMORY too much` fails for that reason, anything else (`cat`)
//! runs until it is killed. As with a real agent an update is repeated until it is acknowledged, and the next one waits.

mod agent;
mod certificates;
mod connection;
mod runs;
mod script;
mod standby;
mod words;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use api::v1;
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::bare_master::BareMaster;
use agent::{Agent, Word};
pub use certificates::Admission;
pub use script::Script;
pub use words::Told;

/// Registering, all of them: a handshake and a log entry each.
const REGISTER_DEADLINE: Duration = Duration::from_secs(300);
/// Agents between connecting and being registered.
const CONNECTING: usize = 512;
/// Words an agent has not taken yet. Full: the caller waits.
const WORDS: usize = 16;

/// What an agent is to be.
#[derive(Clone, Debug)]
pub struct Spec {
    name: String,
    hostname: String,
    resources: Vec<v1::Resource>,
    attributes: Vec<v1::Attribute>,
    statuses: Told,
    standby_after: Option<Duration>,
}

impl Spec {
    /// An agent on a node of this name, with resources in Mesos's text grammar.
    ///
    /// # Panics
    /// The resources are not in the grammar: a mistake in the test.
    #[must_use]
    pub fn new(name: &str, resources: &str) -> Self {
        let resources = words::resources(resources).expect("a test gives resources in the grammar");
        Self {
            name: name.to_owned(),
            hostname: name.to_owned(),
            resources,
            attributes: Vec::new(),
            statuses: Told::default(),
            standby_after: None,
        }
    }

    /// As [`new`](Self::new), with resources as a JSON array of Mesos's `Resource`.
    ///
    /// # Panics
    /// They are not that.
    #[must_use]
    pub fn with_resources(name: &str, resources: Value) -> Self {
        let resources = words::resources_json(&resources).expect("a test gives resources in Mesos's JSON");
        Self { resources, ..Self::new(name, "") }
    }

    /// With attributes in Mesos's text grammar: `rack:r1;ssd:true`.
    ///
    /// # Panics
    /// They are not in the grammar.
    #[must_use]
    pub fn attributes(mut self, attributes: &str) -> Self {
        self.attributes = words::attributes(attributes).expect("a test gives attributes in the grammar");
        self
    }

    /// With a host name that is not the node's.
    #[must_use]
    pub fn hostname(mut self, hostname: &str) -> Self {
        hostname.clone_into(&mut self.hostname);
        self
    }

    /// When it opens its session with the next leader; otherwise some time within a minute, as real ones do.
    #[must_use]
    pub const fn standby_after(mut self, after: Duration) -> Self {
        self.standby_after = Some(after);
        self
    }

    /// Which statuses its tasks go through.
    #[must_use]
    pub fn statuses(mut self, told: Told) -> Self {
        self.statuses = told;
        self
    }
}

/// What can be seen of one agent from outside.
#[derive(Clone, Debug, Default)]
struct Standing {
    /// Given by the master at the last registration.
    id: String,
    /// How many times it was registered.
    registrations: u64,
    /// How many times it told all of itself.
    told: u64,
    /// In which term the master leads that did.
    term: u64,
    /// A session with the next leader is open.
    standby: bool,
    /// What the master said when it refused the agent.
    refused: Option<String>,
}

/// How many agents are how far.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Count {
    /// By the term of the leader that registered them last.
    pub registered: BTreeMap<u64, usize>,
    /// With a session that waits.
    pub standing_by: usize,
    /// How many times they have told a master all of themselves.
    pub told: u64,
}

struct Handle {
    words: mpsc::Sender<Word>,
    standing: watch::Receiver<Standing>,
}

/// Running simulated agents. Dropping them closes their connections.
pub struct Agents {
    runtime: Option<Runtime>,
    agents: BTreeMap<String, Handle>,
}

impl Agents {
    /// Starts them all and waits until they are registered. A few join with a token each, as nodes do; for many the
    /// certificates are made at once with the authority's key, which only the host of the master has.
    pub fn start(master: &BareMaster, specs: Vec<Spec>) -> Result<Self> {
        let admission = if specs.len() <= certificates::JOIN_AT_MOST { Admission::Join } else { Admission::Signed };
        let agents = Self::admit(master, specs, admission)?;
        agents.wait_registered(REGISTER_DEADLINE)?;
        Ok(agents)
    }

    /// Joins with a token that was made before, and does nothing more.
    pub fn join_once(master: &BareMaster, name: &str, token: &str) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(certificates::redeem(master, name, token.to_owned())).map(drop)
    }

    /// Starts them all without waiting.
    pub fn admit(master: &BareMaster, specs: Vec<Spec>, admission: Admission) -> Result<Self> {
        let runtime = runtime()?;
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let identities = runtime.block_on(certificates::obtain(master, &names, admission))?;
        Ok(Self::run(runtime, &master.link, specs, identities))
    }

    /// Starts them all without waiting, in a process that knows of a master only where its data and its link are.
    pub fn signed(data: &Path, link: &str, specs: Vec<Spec>) -> Result<Self> {
        let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let identities = certificates::sign(data, &names)?;
        Ok(Self::run(runtime()?, link, specs, identities))
    }

    fn run(runtime: Runtime, link: &str, specs: Vec<Spec>, identities: Vec<Arc<ClientConfig>>) -> Self {
        let link: Arc<str> = link.into();
        let doors = Arc::new(Semaphore::new(CONNECTING));
        let mut agents = BTreeMap::new();
        for (number, (spec, tls)) in specs.into_iter().zip(identities).enumerate() {
            let (words, inbox) = mpsc::channel(WORDS);
            let (report, standing) = watch::channel(Standing::default());
            let name = spec.name.clone();
            runtime.spawn(Agent::new(spec, link.clone(), tls, number as u64, report, doors.clone()).run(inbox));
            agents.insert(name, Handle { words, standing });
        }
        Self { runtime: Some(runtime), agents }
    }

    /// Waits until every one of them has been registered.
    pub fn wait_registered(&self, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        for name in self.agents.keys() {
            self.wait(name, deadline, |standing| standing.registrations > 0)?;
        }
        Ok(())
    }

    /// How many times each was registered.
    #[must_use]
    pub fn registrations(&self) -> BTreeMap<String, u64> {
        self.agents.iter().map(|(name, agent)| (name.clone(), agent.standing.borrow().registrations)).collect()
    }

    /// Waits until every one of them was registered once more.
    pub fn wait_registered_since(&self, before: &BTreeMap<String, u64>, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        for (name, before) in before {
            self.wait(name, deadline, |standing| standing.registrations > *before)?;
        }
        Ok(())
    }

    /// How many are registered in which term, and how many have a session with the next leader.
    #[must_use]
    pub fn count(&self) -> Count {
        let mut count = Count::default();
        for agent in self.agents.values() {
            let standing = agent.standing.borrow();
            if standing.registrations > 0 {
                *count.registered.entry(standing.term).or_default() += 1;
            }
            count.standing_by += usize::from(standing.standby);
            count.told += standing.told;
        }
        count
    }

    /// How many are registered, or were once.
    #[must_use]
    pub fn registered(&self) -> usize {
        self.agents.values().filter(|agent| agent.standing.borrow().registrations > 0).count()
    }

    /// The id the master gave the agent of this name.
    pub fn id(&self, name: &str) -> Result<String> {
        Ok(self.handle(name)?.standing.borrow().id.clone())
    }

    /// Its connection breaks, and it stays away. Its tasks go on.
    pub fn disconnect(&self, name: &str) -> Result<()> {
        self.say(name, Word::Disconnect)
    }

    /// It comes back after [`disconnect`](Self::disconnect), and is registered when this returns.
    pub fn reconnect(&self, name: &str) -> Result<()> {
        self.back(name, Word::Reconnect)
    }

    /// Its node starts anew: tasks and unacknowledged updates are gone. It is registered when this returns.
    pub fn reboot(&self, name: &str) -> Result<()> {
        self.back(name, Word::Reboot)
    }

    /// It has these resources from now on, in the text grammar.
    pub fn offer(&self, name: &str, resources: &str) -> Result<()> {
        let resources = words::resources(resources)?;
        self.say(name, Word::Resources(resources))
    }

    /// As [`offer`](Self::offer), as a JSON array of Mesos's `Resource`.
    pub fn offer_json(&self, name: &str, resources: &Value) -> Result<()> {
        self.say(name, Word::Resources(words::resources_json(resources)?))
    }

    fn handle(&self, name: &str) -> Result<&Handle> {
        self.agents.get(name).with_context(|| format!("no simulated agent is called {name}"))
    }

    fn say(&self, name: &str, word: Word) -> Result<()> {
        self.handle(name)?.words.blocking_send(word).ok().with_context(|| format!("agent {name} has ended"))
    }

    fn back(&self, name: &str, word: Word) -> Result<()> {
        let before = self.handle(name)?.standing.borrow().registrations;
        self.say(name, word)?;
        self.wait(name, Instant::now() + REGISTER_DEADLINE, |standing| standing.registrations > before)
    }

    fn wait(&self, name: &str, deadline: Instant, holds: impl Fn(&Standing) -> bool) -> Result<()> {
        let mut standing = self.handle(name)?.standing.clone();
        let runtime = self.runtime.as_ref().expect("the runtime is there until the drop");
        runtime.block_on(async {
            let changed = async {
                loop {
                    {
                        let now = standing.borrow_and_update();
                        if holds(&now) {
                            return Ok(());
                        }
                        if let Some(reason) = &now.refused {
                            bail!("the master refused agent {name}: {reason}");
                        }
                    }
                    standing.changed().await.with_context(|| format!("agent {name} has ended"))?;
                }
            };
            let waited = tokio::time::timeout_at(deadline.into(), changed).await;
            waited.with_context(|| format!("agent {name} was not registered in time"))?
        })
    }
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("agents")
        .enable_all()
        .build()
        .context("cannot start the agents' runtime")
}

impl Drop for Agents {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
