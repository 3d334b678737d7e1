//! Several masters on loopback that are one cluster: to be killed, stopped, added and removed.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::bare_master::BareMaster;
use crate::framework::Framework;
use crate::http;
use crate::rack::Programs;

/// On a busy host a sync of the disk may take seconds.
const ANSWER: Duration = Duration::from_secs(10);
/// For the cluster to agree, on a busy host.
const AGREEMENT: Duration = Duration::from_secs(60);

/// One of them, running or not.
struct Seat {
    dir: PathBuf,
    http: String,
    link: String,
    zk: String,
    process: Option<BareMaster>,
}

/// A cluster of masters. Dropping it kills all of them.
pub struct Masters {
    dir: PathBuf,
    more: Vec<String>,
    /// What is started from now on.
    program: PathBuf,
    seats: BTreeMap<usize, Seat>,
    next: usize,
}

impl Masters {
    /// Starts so many with their data below `dir`, one after the other; `more` is added to every command line.
    pub fn start(dir: &Path, count: usize, more: &[&str]) -> Result<Self> {
        Self::start_program(&Programs::find()?.master, dir, count, more)
    }

    /// The same, of another version.
    pub fn start_program(program: &Path, dir: &Path, count: usize, more: &[&str]) -> Result<Self> {
        let more = more.iter().map(|&argument| argument.to_owned()).collect();
        let (dir, program) = (dir.to_owned(), program.to_owned());
        let mut masters = Self { dir, more, program, seats: BTreeMap::new(), next: 0 };
        for _ in 0..count {
            masters.add(&[])?;
        }
        masters.wait_voters(count)?;
        Ok(masters)
    }

    /// One more; the first founds the cluster. Returns its key here when it serves.
    pub fn add(&mut self, more: &[&str]) -> Result<usize> {
        let key = self.next;
        self.next += 1;
        let dir = self.dir.join(format!("m{key}"));
        std::fs::create_dir_all(&dir)?;
        let seat = Seat { dir, http: free_address()?, link: free_address()?, zk: free_address()?, process: None };
        let joining = match self.leader() {
            Ok(leader) => {
                let answer = http::post_json(&format!("{}/mesolith/v1/masters", self.url(leader)), "", ANSWER)?;
                let answer = answer.success()?.json()?;
                let text = |key: &str| answer[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
                vec!["--join".to_owned(), text("join")?, "--token".to_owned(), text("token")?]
            }
            Err(_) if self.seats.is_empty() => Vec::new(),
            Err(error) => return Err(error),
        };
        self.seats.insert(key, seat);
        let joining: Vec<&str> = joining.iter().map(String::as_str).chain(more.iter().copied()).collect();
        self.run(key, &joining)?;
        Ok(key)
    }

    fn run(&mut self, key: usize, more: &[&str]) -> Result<()> {
        let seat = self.seats.get_mut(&key).context("no such master")?;
        let arguments: Vec<&str> = ["--advertise", "127.0.0.1", "--zk", &seat.zk]
            .into_iter()
            .chain(self.more.iter().map(String::as_str))
            .chain(more.iter().copied())
            .collect();
        seat.process = Some(BareMaster::start_program(&self.program, &seat.dir, &seat.http, &seat.link, &arguments)?);
        Ok(())
    }

    /// Who starts from now on is of this version.
    pub fn set_program(&mut self, program: &Path) {
        program.clone_into(&mut self.program);
    }

    /// All of them, whether they run or not.
    #[must_use]
    pub fn keys(&self) -> Vec<usize> {
        self.seats.keys().copied().collect()
    }

    /// Starts a killed one again, where it was.
    pub fn restart(&mut self, key: usize) -> Result<()> {
        self.run(key, &[])
    }

    /// kill -9, and gone when this returns.
    pub fn kill(&mut self, key: usize) -> Result<()> {
        drop(self.seats.get_mut(&key).and_then(|seat| seat.process.take()).context("it does not run")?);
        Ok(())
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, key: usize, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.process(key)?.pid())?), signal).context("cannot signal a master")
    }

    /// A running one.
    pub fn process(&self, key: usize) -> Result<&BareMaster> {
        self.seats.get(&key).and_then(|seat| seat.process.as_ref()).context("it does not run")
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self, key: usize) -> PathBuf {
        self.dir.join(format!("m{key}")).join("master")
    }

    /// `http://host:port` of its API, whether it runs or not.
    #[must_use]
    pub fn url(&self, key: usize) -> String {
        self.seats.get(&key).map(|seat| format!("http://{}", seat.http)).unwrap_or_default()
    }

    /// `zk://host:port,.../mesos`.
    #[must_use]
    pub fn zk(&self) -> String {
        let hosts: Vec<&str> = self.seats.values().map(|seat| seat.zk.as_str()).collect();
        format!("zk://{}/mesos", hosts.join(","))
    }

    /// `/mesolith/v1/masters`, from the leader.
    pub fn standing(&self) -> Result<Value> {
        let leader = self.leader()?;
        http::get(&format!("{}/mesolith/v1/masters", self.url(leader)), ANSWER)?.success()?.json()
    }

    /// The newest term that one knows.
    pub fn term(&self, key: usize) -> Result<u64> {
        let answer = http::get(&format!("{}/mesolith/v1/masters", self.url(key)), ANSWER)?.success()?.json()?;
        answer["term"].as_u64().context("no term")
    }

    /// Which one leads: it answers `/redirect` with itself.
    pub fn leader(&self) -> Result<usize> {
        for (key, seat) in &self.seats {
            if seat.process.is_none() {
                continue;
            }
            let Ok(answer) = http::get(&format!("{}/redirect", self.url(*key)), Duration::from_millis(500)) else {
                continue;
            };
            if answer.status == 307 && answer.header("location") == Some(&format!("//{}", seat.http)) {
                return Ok(*key);
            }
        }
        bail!("no master leads")
    }

    /// The leader, when there is one.
    pub fn wait_leader(&self) -> Result<usize> {
        self.wait("a leader", |masters| masters.leader().ok())
    }

    /// Until so many vote.
    pub fn wait_voters(&self, count: usize) -> Result<Value> {
        self.wait(&format!("{count} voters"), |masters| {
            let standing = masters.standing().ok()?;
            let voters = standing["members"].as_array()?.iter().filter(|seat| seat["voter"] == true).count();
            (voters == count).then_some(standing)
        })
    }

    fn wait<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + AGREEMENT;
        loop {
            if let Some(found) = look(self) {
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "no {what} within {AGREEMENT:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Subscribes with whichever leads: asks one after the other, and follows redirections.
    pub fn subscribe(&self, name: &str, more: &Value) -> Result<Framework> {
        let deadline = Instant::now() + AGREEMENT;
        let mut refused = None;
        loop {
            for key in self.seats.keys() {
                let Ok(answer) = http::get(&format!("{}/redirect", self.url(*key)), Duration::from_millis(300)) else {
                    continue;
                };
                let Some(leader) = answer.header("location").filter(|_| answer.status == 307) else { continue };
                match Framework::subscribe(&format!("http:{leader}"), name, more) {
                    Ok(framework) => return Ok(framework),
                    Err(error) => refused = Some(error),
                }
            }
            ensure!(Instant::now() < deadline, "nobody lets the framework subscribe: {refused:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The end of every log, for whoever has to find out.
    #[must_use]
    pub fn logs(&self) -> String {
        let of = |key: &usize| {
            let text = std::fs::read_to_string(self.dir.join(format!("m{key}/master.log"))).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(60).collect();
            format!("==== master {key}\n{}\n", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        self.seats.keys().map(of).collect()
    }
}

/// An address nobody listens on at this moment, and that no connection gets by chance while its master is away: below
/// the ports the kernel gives out.
fn free_address() -> Result<String> {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 10_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests that run at the same time begin at different places.
    let begin = std::process::id().wrapping_mul(37);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + begin.wrapping_add(step) % COUNT;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", u16::try_from(port)?)) {
            return Ok(listener.local_addr()?.to_string());
        }
    }
    bail!("no port from {FIRST} on is free")
}
