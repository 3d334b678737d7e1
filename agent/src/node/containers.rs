//! The agent's lines to the launchers: a thread for each, that asks one thing after the other. What is about one container
//! goes the same way.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use agent_core::agent::Input;
use agent_core::bridge::{Address, NamedNetwork};
use agent_core::handover::{ContainerState, LauncherReply, LauncherRequest, MAX_PACKET, launcher_of};
use agent_core::launch::Plan;
use agent_core::record::Process;
use agent_images::Store;
use api::ContainerId;

use super::bridge::Bridge;
use super::bundle;
use super::cgroup::start_ticks;
use super::cni::{Cni, Leaving};
use super::events::{Event, Events};
use super::init_client::{GreetingError, greet};
use super::projects::Projects;
use crate::logging::chain;
use crate::seqpacket::{Connection, SeqpacketError};

/// How long a restarting launcher is waited for before a call fails.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_millis(200);
/// A container that cannot be removed is tried this often.
const DELETE_TRIES: u32 = 3;

/// One thing to do.
#[derive(Debug)]
pub(crate) enum Job {
    Prepare {
        container: ContainerId,
        plan: Box<Plan>,
    },
    Create {
        container: ContainerId,
        bundle: String,
        sandbox: String,
        network: Option<Address>,
        named_network: Option<NamedNetwork>,
    },
    Start(ContainerId),
    Signal {
        container: ContainerId,
        signal: i32,
    },
    KillAll(ContainerId),
    Delete(ContainerId),
}

/// The way to the threads. Their queues have no bound of their own: each task has at most a few jobs in one, and the master
/// bounds the tasks by the node's resources.
#[derive(Clone, Debug)]
pub(crate) struct Containers {
    lines: Vec<mpsc::Sender<Job>>,
    deletions: Deletions,
}

/// How many removals of each container are asked for and not done. A network may let go of a container long after the
/// next removal of the same was asked for: the first answer must not be taken for the second.
#[derive(Clone, Debug, Default)]
struct Deletions(Arc<Mutex<BTreeMap<ContainerId, u32>>>);

impl Deletions {
    fn asked(&self, container: &ContainerId) {
        *self.counts().entry(container.clone()).or_default() += 1;
    }

    /// One is done; the answer, if it was the last. There is one for all of them.
    fn done(&self, container: ContainerId) -> Option<Input> {
        let mut counts = self.counts();
        if let Some(count) = counts.get_mut(&container) {
            *count = count.saturating_sub(1);
            if *count > 0 {
                return None;
            }
            counts.remove(&container);
        }
        Some(Input::Deleted { container })
    }

    /// Nothing fails with them in hand.
    fn counts(&self) -> MutexGuard<'_, BTreeMap<ContainerId, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The launcher could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LauncherError {
    #[error(transparent)]
    Greeting(#[from] GreetingError),
    #[error("the launcher does not answer")]
    Call(#[source] SeqpacketError),
    #[error("the launcher ended during the call")]
    Closed,
    #[error("{0}")]
    Failed(String),
    #[error("the launcher answered something else")]
    Confused,
}

impl Containers {
    /// Starts a thread for each line.
    pub(crate) fn start(
        lines: Vec<Line>,
        bundles: PathBuf,
        store: Option<Store>,
        bridge: Bridge,
        cni: Option<Cni>,
        projects: Option<Projects>,
        events: Events,
    ) -> std::io::Result<Self> {
        let bridge = Arc::new(Mutex::new(bridge));
        let deletions = Deletions::default();
        let start = |line: Line| {
            let (sender, jobs) = mpsc::channel();
            let (bundles, store, bridge, events) =
                (bundles.clone(), store.clone(), Arc::clone(&bridge), events.clone());
            let (cni, projects, deletions) = (cni.clone(), projects.clone(), deletions.clone());
            let mut worker = Worker { line, bundles, store, bridge, cni, projects, deletions, events };
            std::thread::Builder::new().name("containers".to_owned()).stack_size(512 * 1024).spawn(move || {
                let mut waiting = Vec::new();
                while let Some(job) = next(&jobs, &mut waiting) {
                    worker.perform(job);
                }
            })?;
            Ok(sender)
        };
        let lines = lines.into_iter().map(start).collect::<std::io::Result<_>>()?;
        Ok(Self { lines, deletions })
    }

    /// Queues a job.
    pub(crate) fn tell(&self, job: Job) {
        if let Job::Delete(container) = &job {
            self.deletions.asked(container);
        }
        if let Some(line) = self.lines.get(launcher_of(job.container().as_str(), self.lines.len())) {
            // The threads end only with the process.
            let _ = line.send(job);
        }
    }
}

impl Job {
    const fn container(&self) -> &ContainerId {
        match self {
            Self::Prepare { container, .. }
            | Self::Create { container, .. }
            | Self::Signal { container, .. }
            | Self::Start(container)
            | Self::KillAll(container)
            | Self::Delete(container) => container,
        }
    }

    /// What is short goes before what is long: a container that exists shall not wait for others to be made. A
    /// removal stays before what may make the same container again.
    const fn rank(&self) -> u8 {
        match self {
            Self::Start(_) => 0,
            Self::Signal { .. } | Self::KillAll(_) => 1,
            Self::Delete(_) => 2,
            Self::Prepare { .. } => 3,
            Self::Create { .. } => 4,
        }
    }
}

/// The first of the lowest rank; waits for one. `None` when nobody will send another.
fn next(jobs: &mpsc::Receiver<Job>, waiting: &mut Vec<Job>) -> Option<Job> {
    if waiting.is_empty() {
        waiting.push(jobs.recv().ok()?);
    }
    waiting.extend(jobs.try_iter());
    let (at, _) = waiting.iter().enumerate().min_by_key(|(_, job)| job.rank())?;
    Some(waiting.remove(at))
}

/// A connection to the launcher that is opened again when it breaks.
#[derive(Debug)]
pub(crate) struct Line {
    path: PathBuf,
    connection: Option<Connection>,
    buffer: Vec<u8>,
}

impl Line {
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, connection: None, buffer: Vec::new() }
    }

    /// Every container there is.
    pub(crate) fn list(&mut self) -> Result<Vec<ContainerState>, LauncherError> {
        match self.ask(&LauncherRequest::List)? {
            LauncherReply::Containers(list) => Ok(list),
            LauncherReply::Failed { reason } => Err(LauncherError::Failed(reason)),
            LauncherReply::Created { .. } | LauncherReply::Done => Err(LauncherError::Confused),
        }
    }

    fn done(&mut self, request: &LauncherRequest) -> Result<(), LauncherError> {
        match self.ask(request)? {
            LauncherReply::Done => Ok(()),
            LauncherReply::Failed { reason } => Err(LauncherError::Failed(reason)),
            LauncherReply::Created { .. } | LauncherReply::Containers(_) => Err(LauncherError::Confused),
        }
    }

    /// Asks once on a working connection. A launcher that ends during the call is an error: whether the call was
    /// done is for the caller to find out.
    fn ask(&mut self, request: &LauncherRequest) -> Result<LauncherReply, LauncherError> {
        let connection = self.connected()?;
        let sent = connection.send(request).map_err(LauncherError::Call);
        self.buffer.resize(MAX_PACKET, 0);
        let answer = sent.and_then(|()| {
            let connection = self.connection.as_ref().ok_or(LauncherError::Closed)?;
            connection.receive::<LauncherReply>(&mut self.buffer).map_err(LauncherError::Call)
        });
        match answer {
            Ok(Some((reply, _))) => Ok(reply),
            Ok(None) => {
                self.connection = None;
                Err(LauncherError::Closed)
            }
            Err(error) => {
                self.connection = None;
                Err(error)
            }
        }
    }

    fn connected(&mut self) -> Result<&Connection, LauncherError> {
        let since = Instant::now();
        loop {
            if self.connection.is_some() {
                break;
            }
            match greet(&self.path, "the launcher") {
                Ok(connection) => self.connection = Some(connection),
                Err(error @ GreetingError::Refused { .. }) => return Err(error.into()),
                Err(error) if since.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => std::thread::sleep(RETRY),
            }
        }
        self.connection.as_ref().ok_or(LauncherError::Closed)
    }
}

struct Worker {
    line: Line,
    bundles: PathBuf,
    /// Where roots of containers with an image are.
    store: Option<Store>,
    bridge: Arc<Mutex<Bridge>>,
    cni: Option<Cni>,
    projects: Option<Projects>,
    deletions: Deletions,
    events: Events,
}

impl Worker {
    fn perform(&mut self, job: Job) {
        let input = match job {
            Job::Prepare { container, plan } => {
                let made = bundle::make(&container, &plan, self.store.as_ref(), self.projects.as_ref());
                let result = made.map_err(|error| chain(&error));
                Input::Prepared { container, result }
            }
            Job::Create { container, bundle, sandbox, network, named_network } => {
                let made = self.create(&container, bundle, &sandbox).map_err(|error| chain(&error));
                let result = made.and_then(|process| self.connect(&container, process, network));
                match (&result, named_network, self.cni.clone()) {
                    (Ok(process), Some(wish), Some(cni)) => return self.join(cni, container, *process, wish),
                    // The operator has taken it away since it was asked for.
                    (Ok(_), Some(wish), None) => {
                        let reason = format!("this node has no network '{}' any more", wish.name);
                        Input::Created { container, result: Err(reason) }
                    }
                    (Ok(_) | Err(_), _, _) => Input::Created { container, result },
                }
            }
            Job::Start(container) => {
                let result = self.start(&container).map_err(|error| chain(&error));
                Input::Started { container, result }
            }
            Job::Signal { container, signal } => {
                let request = LauncherRequest::Kill { container: container.into(), signal };
                if let Err(error) = self.line.done(&request) {
                    tracing::debug!(error = %chain(&error), "a signal was not delivered");
                }
                return;
            }
            Job::KillAll(container) => {
                if let Err(error) = self.line.done(&LauncherRequest::KillAll { container: container.to_string() }) {
                    tracing::warn!(%container, error = %chain(&error), "a container could not be killed");
                }
                return;
            }
            Job::Delete(container) => {
                self.delete(&container);
                if let Some(cni) = self.cni.clone()
                    && let Some(leaving) = cni.leave(container.as_str())
                {
                    return self.leave(cni, container, leaving);
                }
                let Some(answer) = self.deletions.done(container) else { return };
                answer
            }
        };
        // The driver ends only with the process.
        let _ = self.events.blocking_send(Event::Core(input));
    }

    fn create(&mut self, container: &ContainerId, bundle: String, sandbox: &str) -> Result<Process, LauncherError> {
        let request = LauncherRequest::Create {
            container: container.to_string(),
            bundle,
            stdout: format!("{sandbox}/stdout"),
            stderr: format!("{sandbox}/stderr"),
        };
        let reply = match self.line.ask(&request) {
            Err(LauncherError::Closed | LauncherError::Call(_)) => {
                // It died over it. Once more, from a clean state.
                tracing::warn!(%container, "the launcher ended while it made a container, trying once more");
                self.line.done(&LauncherRequest::Delete { container: container.to_string() })?;
                self.line.ask(&request)?
            }
            reply => reply?,
        };
        match reply {
            LauncherReply::Created { pid } => Ok(Process { pid, start_ticks: start_ticks(pid).unwrap_or(0) }),
            LauncherReply::Failed { reason } => Err(LauncherError::Failed(reason)),
            LauncherReply::Done | LauncherReply::Containers(_) => Err(LauncherError::Confused),
        }
    }

    /// One that failed with it in hand has left it as it was.
    fn bridge(&self) -> MutexGuard<'_, Bridge> {
        self.bridge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A container that should be on the bridge and is not does not run.
    fn connect(&mut self, id: &ContainerId, process: Process, network: Option<Address>) -> Result<Process, String> {
        let Some(address) = network else { return Ok(process) };
        let attached = self.bridge().attach(id.as_str(), process.pid, &address);
        attached.map(|()| process).map_err(|error| chain(&error))
    }

    /// Plugins may take long: nobody else waits for them.
    fn join(&self, cni: Cni, container: ContainerId, process: Process, wish: NamedNetwork) {
        let events = self.events.clone();
        beside(move || {
            let result = cni.add(container.as_str(), process.pid, &wish).map_err(|error| chain(&error));
            let result = result.map(|addresses| {
                let joined = Input::Joined { container: container.clone(), addresses };
                let _ = events.blocking_send(Event::Core(joined));
                process
            });
            let _ = events.blocking_send(Event::Core(Input::Created { container, result }));
        });
    }

    fn leave(&self, cni: Cni, container: ContainerId, leaving: Leaving) {
        let (events, deletions) = (self.events.clone(), self.deletions.clone());
        beside(move || {
            cni.finish(&leaving);
            if let Some(answer) = deletions.done(container) {
                let _ = events.blocking_send(Event::Core(answer));
            }
            // Only now may the next one of its id be connected: what comes of that is heard after this answer.
            drop(leaving);
        });
    }

    fn start(&mut self, container: &ContainerId) -> Result<(), LauncherError> {
        let request = LauncherRequest::Start { container: container.to_string() };
        match self.line.done(&request) {
            Err(LauncherError::Closed | LauncherError::Call(_)) => {
                let list = self.line.list()?;
                let state = list.iter().find(|state| state.container == container.as_str());
                match state.map(|state| state.status.as_str()) {
                    Some("created") => self.line.done(&request),
                    Some("running" | "stopped") => Ok(()),
                    _ => Err(LauncherError::Closed),
                }
            }
            result => result,
        }
    }

    fn delete(&mut self, container: &ContainerId) {
        for _ in 0..DELETE_TRIES {
            match self.line.done(&LauncherRequest::Delete { container: container.to_string() }) {
                Ok(()) => break,
                Err(error) => tracing::warn!(%container, error = %chain(&error), "a container could not be removed"),
            }
            std::thread::sleep(RETRY);
        }
        self.bridge().detach(container.as_str());
        if let Err(error) = bundle::remove(&self.bundles.join(container.as_str())) {
            tracing::warn!(%container, %error, "a bundle could not be removed");
        }
        if let Some(Err(error)) = self.store.as_ref().map(|store| store.remove_root(container.as_str())) {
            tracing::warn!(%container, error = %chain(&error), "a container's root could not be removed");
        }
    }
}

/// Without a thread it is done at once, and others wait.
fn beside(work: impl FnOnce() + Send + 'static) {
    let work = std::sync::Arc::new(std::sync::Mutex::new(Some(work)));
    let take =
        |work: &std::sync::Mutex<Option<_>>| work.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
    let other = std::sync::Arc::clone(&work);
    let run = move || {
        if let Some(work) = take(&other) {
            work();
        }
    };
    let thread = std::thread::Builder::new().name("network".to_owned()).stack_size(256 * 1024).spawn(run);
    if thread.is_err()
        && let Some(work) = take(&work)
    {
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_made_container_starts_before_the_next_one_is_made() {
        let (sender, jobs) = mpsc::channel();
        let create = |name: &str| Job::Create {
            container: name.into(),
            bundle: String::new(),
            sandbox: String::new(),
            network: None,
            named_network: None,
        };
        for job in [create("a"), create("b"), Job::Delete("c".into()), Job::Start("d".into()), Job::Start("e".into())] {
            sender.send(job).unwrap();
        }
        drop(sender);
        let mut waiting = Vec::new();
        let order: Vec<String> = std::iter::from_fn(|| next(&jobs, &mut waiting))
            .map(|job| format!("{job:?}").replace("ContainerId", ""))
            .collect();
        assert!(order[0].contains("\"d\"") && order[1].contains("\"e\"") && order[2].contains("\"c\""), "{order:?}");
        assert!(order[3].contains("\"a\"") && order[4].contains("\"b\""), "{order:?}");
    }

    #[test]
    fn removals_of_one_container_are_answered_once_by_the_last() {
        let (deletions, container) = (Deletions::default(), ContainerId::from("c"));
        deletions.asked(&container);
        deletions.asked(&container);
        assert!(deletions.done(container.clone()).is_none());
        assert!(deletions.done(container).is_some() && deletions.counts().is_empty());
    }
}
