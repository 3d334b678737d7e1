//! Runtimes by turns on one bundle: create, start, wait until the program has ended, delete.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::bundle::Bundle;

/// Rounds before those that count.
const WARM_UP: usize = 3;
/// What `true` may take.
const ENDS: Duration = Duration::from_secs(60);

/// What makes containers.
pub(super) trait Runtime {
    /// What it is called.
    fn name(&self) -> &str;
    /// Makes one whose process waits; the process.
    fn create(&mut self, container: &str, bundle: &Bundle) -> Result<i32>;
    /// Lets it go.
    fn start(&mut self, container: &str) -> Result<()>;
    /// Removes it.
    fn delete(&mut self, container: &str) -> Result<()>;
}

/// A runtime with the command line of the OCI.
#[derive(Clone, Debug)]
pub(super) struct Foreign {
    pub(super) name: &'static str,
    pub(super) program: PathBuf,
    /// Where it keeps its state.
    state: PathBuf,
}

impl Foreign {
    pub(super) const NAMES: [&'static str; 3] = ["crun", "runc", "youki"];

    /// Those of these names that are on this host.
    pub(super) fn find(tools: &Path, names: &[String]) -> Vec<Self> {
        let places = [tools, Path::new("/usr/bin"), Path::new("/usr/sbin"), Path::new("/usr/local/bin")];
        let find = |name: &'static str| {
            let program = places.iter().map(|place| place.join(name)).find(|program| program.is_file())?;
            Some(Self::at(name, program))
        };
        Self::NAMES.into_iter().filter(|name| names.iter().any(|wanted| wanted == name)).filter_map(find).collect()
    }

    /// One that is known to be there.
    pub(super) fn at(name: &'static str, program: PathBuf) -> Self {
        Self { name, program, state: Path::new("/run/mesolith-bench").join(name) }
    }

    fn run(&self, arguments: &[&str]) -> Result<()> {
        let errors = self.state.join("said");
        let file = fs::File::create(&errors).with_context(|| format!("cannot write {}", errors.display()))?;
        // Its output is inherited by the container: a pipe would be waited for until that ends.
        let status = Command::new(&self.program)
            .arg("--root")
            .arg(&self.state)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let said = || fs::read_to_string(&errors).unwrap_or_default();
        ensure!(status.success(), "{} {}: {status}: {}", self.name, arguments.join(" "), said().trim());
        Ok(())
    }
}

impl Runtime for Foreign {
    fn name(&self) -> &str {
        self.name
    }

    fn create(&mut self, container: &str, bundle: &Bundle) -> Result<i32> {
        fs::create_dir_all(&self.state).with_context(|| format!("cannot make {}", self.state.display()))?;
        let pid_file = self.state.join("pid");
        let paths = (bundle.path.display().to_string(), pid_file.display().to_string());
        self.run(&["create", "--bundle", &paths.0, "--pid-file", &paths.1, container])?;
        let pid = fs::read_to_string(&pid_file).with_context(|| format!("cannot read {}", pid_file.display()))?;
        pid.trim().parse().with_context(|| format!("{} wrote no process number", self.name))
    }

    fn start(&mut self, container: &str) -> Result<()> {
        self.run(&["start", container])
    }

    fn delete(&mut self, container: &str) -> Result<()> {
        self.run(&["delete", container])
    }
}

/// One container's life, from the call that made it.
#[derive(Clone, Copy, Debug)]
struct Round {
    running: Duration,
    ended: Duration,
    removed: Duration,
}

/// What the rounds of one runtime came to.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Summary {
    pub(super) name: String,
    pub(super) rounds: usize,
    running: Part,
    ended: Part,
    removed: Part,
}

/// One part of all rounds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(super) struct Part {
    pub(super) median_ms: f64,
    pub(super) least_ms: f64,
}

impl Summary {
    /// By name.
    pub(super) const fn parts(&self) -> [(&'static str, Part); 3] {
        [("create to running", self.running), ("create to its end", self.ended), ("create to removed", self.removed)]
    }

    fn of(name: &str, rounds: &[Round]) -> Result<Self> {
        let part = |of: fn(&Round) -> Duration| {
            let mut times: Vec<f64> = rounds.iter().map(|round| of(round).as_secs_f64() * 1e3).collect();
            times.sort_by(f64::total_cmp);
            let (least, median) = (times.first(), times.get(times.len() / 2));
            let (least_ms, median_ms) = least.zip(median).context("there was a round")?;
            anyhow::Ok(Part { median_ms: *median_ms, least_ms: *least_ms })
        };
        let (running, ended, removed) =
            (part(|round| round.running)?, part(|round| round.ended)?, part(|round| round.removed)?);
        Ok(Self { name: name.to_owned(), rounds: rounds.len(), running, ended, removed })
    }
}

/// All of them by turns. This process reaps their containers.
pub(super) fn by_turns(runtimes: &mut [Box<dyn Runtime>], bundle: &mut Bundle, rounds: usize) -> Result<Vec<Summary>> {
    nix::sys::prctl::set_child_subreaper(true).context("cannot become a child subreaper")?;
    let mut all = vec![Vec::with_capacity(rounds); runtimes.len()];
    for number in 0..rounds + WARM_UP {
        for (runtime, kept) in runtimes.iter_mut().zip(&mut all) {
            let container = format!("{}-{number}", runtime.name());
            bundle.write(&container)?;
            let round = one(runtime.as_mut(), &container, bundle)
                .with_context(|| format!("{} failed in round {number}", runtime.name()))?;
            if number >= WARM_UP {
                kept.push(round);
            }
        }
    }
    runtimes.iter().zip(&all).map(|(runtime, rounds)| Summary::of(runtime.name(), rounds)).collect()
}

fn one(runtime: &mut dyn Runtime, container: &str, bundle: &Bundle) -> Result<Round> {
    let began = Instant::now();
    let pid = Pid::from_raw(runtime.create(container, bundle)?);
    runtime.start(container)?;
    let running = began.elapsed();
    let status = wait(pid)?;
    let ended = began.elapsed();
    runtime.delete(container)?;
    let removed = began.elapsed();
    ensure!(matches!(status, WaitStatus::Exited(_, 0)), "`true` ended with {status:?}");
    Ok(Round { running, ended, removed })
}

/// Waits for a container's process, and reaps what else has ended: what made it, if that was a sibling of its own.
fn wait(pid: Pid) -> Result<WaitStatus> {
    let deadline = Instant::now() + ENDS;
    loop {
        match waitpid(pid, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(nix::errno::Errno::EINTR) => {}
            ended => return ended.with_context(|| format!("cannot wait for process {pid}")),
        }
        ensure!(Instant::now() < deadline, "`true` has not ended after {} s", ENDS.as_secs());
        std::thread::sleep(Duration::from_micros(100));
    }
}
