//! Simulated agents in processes of their own: each has two connections, and a process may not have enough.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::process::Process;
use super::{RESOURCES, raise_descriptor_limit};
use crate::simulated::{Agents, Count, Spec, Told};

/// Between two looks at the agents.
const LOOK: Duration = Duration::from_millis(50);

/// A part of a fleet.
#[derive(Clone, Debug)]
pub struct Part {
    /// The data directory of a master on this host, for the authority's key.
    pub data: PathBuf,
    /// Where the agents connect first.
    pub link: String,
    /// The number of the first one.
    pub first: usize,
    /// How many.
    pub count: usize,
}

/// Runs a part until standard input ends; tells of it on standard output.
pub fn part(part: &Part) -> Result<()> {
    raise_descriptor_limit()?;
    let specs = (part.first..part.first + part.count)
        .map(|number| Spec::new(&format!("sim-{number}"), RESOURCES).statuses(Told::Running))
        .collect();
    let agents = Agents::signed(&part.data, &part.link, specs)?;
    std::thread::spawn(|| {
        // The one who asked is gone, or wants no more.
        drop(std::io::stdin().read_to_end(&mut Vec::new()));
        std::process::exit(0);
    });
    let (mut out, mut told) = (std::io::stdout().lock(), None);
    loop {
        let count = agents.count();
        if told.as_ref() != Some(&count) {
            serde_json::to_writer(&mut out, &count)?;
            writeln!(out)?;
            out.flush()?;
            told = Some(count);
        }
        std::thread::sleep(LOOK);
    }
}

/// All parts of it, as last told. Dropping it ends them.
pub(super) struct Fleet {
    parts: Vec<Child>,
    counts: Arc<(Mutex<BTreeMap<usize, Count>>, Condvar)>,
}

impl Fleet {
    /// As many processes as the agents' connections need.
    pub(super) fn start(data: &Path, link: &str, agents: usize, of_one: usize) -> Result<Self> {
        let counts = Arc::new((Mutex::new(BTreeMap::new()), Condvar::new()));
        let mut fleet = Self { parts: Vec::new(), counts };
        for (number, first) in (0..agents).step_by(of_one).enumerate() {
            let count = of_one.min(agents - first);
            let program = std::env::current_exe().context("cannot find this program")?;
            let mut child = Command::new(program)
                .arg("fleet")
                .args(["--link", link, "--first", &first.to_string(), "--count", &count.to_string(), "--data"])
                .arg(data)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .context("cannot start a process of agents")?;
            let told = BufReader::new(child.stdout.take().context("its output is piped")?);
            fleet.parts.push(child);
            let counts = fleet.counts.clone();
            std::thread::spawn(move || {
                for line in told.lines().map_while(Result::ok) {
                    let Ok(count) = serde_json::from_str(&line) else { return };
                    counts.0.lock().unwrap_or_else(PoisonError::into_inner).insert(number, count);
                    counts.1.notify_all();
                }
            });
        }
        Ok(fleet)
    }

    /// Processor time of all of them.
    pub(super) fn cpu(&self) -> Result<Duration> {
        self.parts.iter().map(|part| Process(part.id()).cpu()).sum()
    }

    /// Waits until so many are registered by a leader of a term after `after`. When half of them were.
    pub(super) fn wait_registered(&self, agents: usize, after: u64, timeout: Duration) -> Result<Instant> {
        let registered = |count: &Count| count.registered.range(after + 1..).map(|(_, count)| count).sum();
        self.wait("registered", agents, timeout, registered)
    }

    /// Waits until so many have a session with the next leader.
    pub(super) fn wait_standing_by(&self, agents: usize, timeout: Duration) -> Result<()> {
        self.wait("standing by", agents, timeout, |count| count.standing_by).map(drop)
    }

    fn wait(&self, what: &str, agents: usize, timeout: Duration, of: impl Fn(&Count) -> usize) -> Result<Instant> {
        let deadline = Instant::now() + timeout;
        let mut half = None;
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let now: usize = counts.values().map(&of).sum();
            if now * 2 >= agents {
                half.get_or_insert_with(Instant::now);
            }
            if let Some(half) = half.filter(|_| now >= agents) {
                return Ok(half);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{now} of {agents} agents are {what} after {} s", timeout.as_secs());
            counts = self.counts.1.wait_timeout(counts, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for part in &mut self.parts {
            drop(part.kill());
            drop(part.wait());
        }
    }
}
