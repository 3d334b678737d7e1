//! A rack of servers in a private network, held by a test: `Rack::start(Options::new()?)`, and gone when it is dropped.
//!
//! ```text
//!  test or `./dev up`            Rack: files, sockets and the framework port on 127.0.0.1
//!        │ stdin pipe (its end is the end of the rack) · control.sock
//!  mesolith-lab serve DIR        one thread in a network namespace of its own: br0 10.77.0.1/24, fd77::1/64, tapN
//!        ├─ dnsmasq              DHCP, TFTP, router advertisements            DIR/dnsmasq.log
//!        ├─ mesolith-master      its API socket is the one on the host's loopback   DIR/master.log, DIR/master/
//!        └─ qemu-system-x86_64   one a node: NIC ROM → DHCP → TFTP → HTTP     DIR/node-N.{console,serial,qmp}
//! ```

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

use self::control::Request;
use crate::framework::Framework;
use crate::http;

mod accelerator;
pub mod cables;
mod console;
mod control;
mod dnsmasq;
mod evidence;
mod fault_line;
pub(crate) mod hosted;
mod machine;
mod master_process;
mod network;
mod node;
mod options;
mod process;
pub(crate) mod programs;
mod qmp;
mod serve;
mod wire;
mod zookeeper;

pub use accelerator::Accelerator;
pub use control::{MasterStatus, NodeStatus, Status};
pub use evidence::PxeEvidence;
pub use fault_line::FaultLine;
pub use hosted::isolation_is_available;
pub use network::usual_or_free_port;
pub use node::{Link, Node};
pub use options::{BootService, Kind, Life, NodePlan, Options, Places};
pub use programs::{Programs, repository};
pub use serve::serve;

/// What building the network, the trial boot and the master's first start may take together on a loaded host.
const START: Duration = Duration::from_secs(120);

/// How long a rack waits for the one before it on this host.
const TURN: Duration = Duration::from_secs(30 * 60);

/// Until a leader takes a subscription.
const SUBSCRIBE: Duration = Duration::from_secs(60);

/// For a token with which a master joins.
const JOIN: Duration = Duration::from_secs(20);

/// What ending may take: the master and hosted agents get ten seconds each.
const END: Duration = Duration::from_secs(60);

/// A running rack. Dropping it ends it, unless it is detached.
pub struct Rack {
    options: Options,
    dir: PathBuf,
    status: Status,
    /// The serving process and the pipe whose end tells it that we are gone; none when the rack was found running.
    server: Option<(Child, Option<ChildStdin>)>,
    /// Held so that one virtual rack at a time boots on a host of tests.
    _turn: Option<Flock<File>>,
    temporary: bool,
}

impl Rack {
    /// Starts a rack and returns when its master serves and its nodes are switched on; they boot meanwhile.
    ///
    /// Racks in temporary directories (those of tests) take turns: two that boot at once on two cores would miss each
    /// other's deadlines.
    pub fn start(options: Options) -> Result<Self> {
        ensure!(
            (1..=Options::MAX_MASTERS).contains(&options.masters),
            "a rack has 1 to {} masters",
            Options::MAX_MASTERS
        );
        ensure!((1..=Options::MAX_NODES).contains(&options.nodes), "a rack has 1 to {} nodes", Options::MAX_NODES);
        let temporary = options.dir.is_none();
        let turn = if temporary { Some(take_turn()?) } else { None };
        let dir = match &options.dir {
            Some(dir) => dir.clone(),
            None => temporary_dir()?,
        };
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let dir = dir.canonicalize()?;
        let lock = OpenOptions::new().create(true).append(true).open(dir.join(serve::LOCK))?;
        if Flock::lock(lock, FlockArg::LockExclusiveNonblock).is_err() {
            bail!("a rack is running in {}; `./dev down` ends it", dir.display());
        }
        // The server works in the rack's directory, not in ours.
        let mut options = Options { dir: Some(dir.clone()), ..options };
        for path in [&mut options.image_dir, &mut options.programs.master, &mut options.programs.agent] {
            *path = std::path::absolute(&*path)?;
        }
        options.write(&dir.join(serve::OPTIONS))?;
        let server = start_server(&options, &dir)?;
        let mut server = Some(server);
        match wait_until_served(&dir, server.as_mut()) {
            Ok(status) => {
                let rack = Self { options, dir, status, server, _turn: turn, temporary };
                rack.join_masters()?;
                Ok(rack)
            }
            Err(error) => {
                if let Some((child, _)) = &mut server {
                    // It may have ended by itself; then there is nothing to kill.
                    let _ = child.kill();
                    let _ = child.wait();
                }
                Err(error)
            }
        }
    }

    /// The rack that is running in `dir`, started by somebody else.
    pub fn find(dir: &Path) -> Result<Self> {
        ensure!(dir.join(control::SOCKET).exists(), "no rack is running in {}; `./dev up` starts one", dir.display());
        let dir = dir.canonicalize()?;
        let status = control::ask(&dir, &Request::Status)
            .with_context(|| format!("no rack is running in {}; `./dev up` starts one", dir.display()))?;
        let options = Options::read(&dir.join(serve::OPTIONS))?;
        Ok(Self { options, dir, status, server: None, _turn: None, temporary: false })
    }

    /// The directory with consoles, logs, sockets and the master's data.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it was started with.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// `http://127.0.0.1:PORT`: the framework and operator API, without authentication. Outlives the master.
    #[must_use]
    pub fn api_url(&self) -> &str {
        &self.status.api
    }

    /// `127.0.0.1:PORT`, as the programs' `--master` takes it.
    #[must_use]
    pub fn api_address(&self) -> &str {
        self.status.api.trim_start_matches("http://")
    }

    /// How it stands now.
    pub fn status(&self) -> Result<Status> {
        control::ask(&self.dir, &Request::Status)
    }

    /// The other masters join the first one.
    fn join_masters(&self) -> Result<()> {
        for number in 2..=self.options.masters {
            let answer = http::post_json(&format!("{}/mesolith/v1/masters", self.status.api), "", JOIN)?;
            let answer = answer.success()?.json()?;
            let text = |key: &str| answer[key].as_str().with_context(|| format!("the token to join has no {key}"));
            self.master_of(number).start_with(&["--join", text("join")?, "--token", text("token")?])?;
        }
        Ok(())
    }

    /// The first master.
    #[must_use]
    pub fn master(&self) -> Master<'_> {
        self.master_of(1)
    }

    /// Master `number`, counted from 1.
    #[must_use]
    pub fn master_of(&self, number: usize) -> Master<'_> {
        Master { rack: self, number }
    }

    /// The one that leads, when there is one.
    pub fn wait_leader(&self, timeout: Duration) -> Result<Master<'_>> {
        let deadline = Instant::now() + timeout;
        loop {
            for number in 1..=self.options.masters {
                let master = self.master_of(number);
                if master.pid()?.is_some() && master.leads()? {
                    return Ok(master);
                }
            }
            ensure!(Instant::now() < deadline, "no master leads after {timeout:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Subscribes with whichever master leads.
    pub fn subscribe(&self, name: &str, more: &Value) -> Result<Framework> {
        let deadline = Instant::now() + SUBSCRIBE;
        loop {
            let subscribed =
                self.wait_leader(SUBSCRIBE).and_then(|leader| Framework::subscribe(&leader.url()?, name, more));
            if subscribed.is_ok() || Instant::now() > deadline {
                return subscribed;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Node `number`, counted from 1.
    #[must_use]
    pub fn node(&self, number: usize) -> Node<'_> {
        Node { rack: self, plan: self.options.node(number) }
    }

    /// All nodes in order.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node<'_>> {
        (1..=self.options.nodes).map(|number| self.node(number)).collect()
    }

    /// GET a path of the master's API, which must answer 2xx with JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        http::get(&format!("{}{path}", self.status.api), Duration::from_secs(10))?.success()?.json()
    }

    /// The active agents in the master's `/state`; none while it does not answer.
    #[must_use]
    pub fn registered(&self) -> Vec<Value> {
        let state = self.get("/state").unwrap_or_default();
        let slaves = state["slaves"].as_array().cloned().unwrap_or_default();
        slaves.into_iter().filter(|slave| slave["active"].as_bool() == Some(true)).collect()
    }

    /// Waits until at least `count` agents are active in `/state`; gives them.
    pub fn wait_registered(&self, count: usize, timeout: Duration) -> Result<Vec<Value>> {
        let deadline = Instant::now() + timeout;
        loop {
            let active = self.registered();
            if active.len() >= count {
                return Ok(active);
            }
            if Instant::now() >= deadline {
                let consoles: Vec<String> = self
                    .nodes()
                    .iter()
                    .map(|node| format!("{}:\n{}", node.name(), last_lines(&node.console(), 8)))
                    .collect();
                bail!(
                    "{} of {count} agents registered within {timeout:?}\n{}\nmaster:\n{}",
                    active.len(),
                    consoles.join("\n"),
                    process::tail(&self.dir.join("master.log"), 8)
                );
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the logs say of the network boots of the server with this MAC.
    pub fn pxe_evidence(&self, mac: &str) -> Result<PxeEvidence> {
        let nodes = self.nodes();
        let node = nodes.iter().find(|node| node.mac() == mac).with_context(|| format!("no node has the MAC {mac}"))?;
        Ok(node.pxe_evidence())
    }

    /// A command that will run inside the rack's network, for a test that needs an address of its own there.
    #[must_use]
    pub fn inside(&self, program: &Path) -> Command {
        if self.options.kind == Kind::Hosted {
            return Command::new(program);
        }
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.status.pid.to_string(), "--net"]);
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// Ends the rack and waits until everything is gone.
    pub fn end(mut self) -> Result<()> {
        self.end_now()
    }

    /// Lets a detached rack go on without this handle.
    pub fn leave(mut self) {
        self.server = None;
        self.temporary = false;
    }

    fn end_now(&mut self) -> Result<()> {
        control::ask(&self.dir, &Request::Shutdown)?;
        let lock = OpenOptions::new().create(true).append(true).open(self.dir.join(serve::LOCK))?;
        let deadline = Instant::now() + END;
        let mut lock = lock;
        loop {
            match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
                Ok(_) => break,
                Err((back, _)) => lock = back,
            }
            ensure!(Instant::now() < deadline, "the rack in {} did not end within {END:?}", self.dir.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        if let Some((mut child, _)) = self.server.take() {
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Rack {
    fn drop(&mut self) {
        if self.server.is_some()
            && let Err(error) = self.end_now()
        {
            eprintln!("the rack did not end in good order: {error:#}");
            if let Some((child, _)) = &mut self.server {
                // Its children follow by their death signal.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if self.temporary {
            if std::thread::panicking() {
                eprintln!("the rack's consoles and logs are in {}", self.dir.display());
            } else {
                // Nothing of worth is in it.
                let _ = fs::remove_dir_all(&self.dir);
            }
        }
    }
}

/// The master of a running rack.
pub struct Master<'a> {
    rack: &'a Rack,
    number: usize,
}

impl Master<'_> {
    /// Counted from 1.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    fn status(&self) -> Result<MasterStatus> {
        let all = self.rack.status()?.masters;
        all.into_iter().nth(self.number - 1).with_context(|| format!("the rack has no master {}", self.number))
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> Result<String> {
        Ok(self.status()?.url)
    }

    /// Does it lead? No, if it does not answer.
    fn leads(&self) -> Result<bool> {
        let url = self.url()?;
        let Ok(answer) = http::get(&format!("{url}/redirect"), Duration::from_millis(500)) else { return Ok(false) };
        let own = url.trim_start_matches("http:");
        Ok(answer.status == 307 && answer.header("location") == Some(own))
    }

    /// Its process id while it runs.
    pub fn pid(&self) -> Result<Option<u32>> {
        Ok(self.status()?.pid)
    }

    /// SIGKILL. Connections to the API wait in the listener's queue until it is back.
    pub fn kill9(&self) -> Result<()> {
        control::ask(&self.rack.dir, &Request::KillMaster { master: self.number }).map(drop)
    }

    /// SIGTERM, and SIGKILL after ten seconds.
    pub fn stop(&self) -> Result<()> {
        control::ask(&self.rack.dir, &Request::StopMaster { master: self.number }).map(drop)
    }

    /// Starts it on the same data; returns when it serves.
    pub fn start(&self) -> Result<()> {
        self.start_with(&[])
    }

    /// Starts it with more arguments.
    pub fn start_with(&self, args: &[&str]) -> Result<()> {
        let args = args.iter().map(|&arg| arg.to_owned()).collect();
        control::ask(&self.rack.dir, &Request::StartMaster { master: self.number, args }).map(drop)
    }

    /// Ends it in good order if it runs, and starts it again.
    pub fn restart(&self) -> Result<()> {
        self.stop()?;
        self.start()
    }

    /// Its data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.rack.dir.join(master_process::name(self.number))
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        console::read(&self.rack.dir.join(format!("{}.log", master_process::name(self.number))))
    }

    /// `boot.log`: one line for each request to the boot endpoints.
    #[must_use]
    pub fn boot_log(&self) -> String {
        console::read(&self.data().join("boot.log"))
    }
}

/// Starts `mesolith-lab serve`. A detached one gets a session of its own and outlives us.
fn start_server(options: &Options, dir: &Path) -> Result<(Child, Option<ChildStdin>)> {
    let lab = programs::required(&options.programs.lab)?;
    // Fails when there are none.
    let _ = fs::remove_file(dir.join(control::SOCKET));
    let _ = fs::remove_file(dir.join(control::STATUS));
    let log = File::create(dir.join("lab.log")).with_context(|| format!("cannot write in {}", dir.display()))?;
    // setsid only forks when it leads a process group, which a fresh child does not: the pid is the server's.
    let mut command = Command::new("setsid");
    command
        .arg(lab)
        .arg("serve")
        .arg(dir)
        .env("PATH", path_with_system_programs())
        .stdin(match options.life {
            Life::Attached => Stdio::piped(),
            Life::Detached => Stdio::null(),
        })
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut child = command.spawn().context("cannot start mesolith-lab through setsid")?;
    let stdin = child.stdin.take();
    Ok((child, stdin))
}

/// `ip` and `dnsmasq` lie in sbin, which the PATH of users lacks.
fn path_with_system_programs() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}

/// Waits for the control socket to answer; an error says how the server ended.
fn wait_until_served(dir: &Path, mut server: Option<&mut (Child, Option<ChildStdin>)>) -> Result<Status> {
    let deadline = Instant::now() + START;
    loop {
        if dir.join(control::SOCKET).exists()
            && let Ok(status) = control::ask(dir, &Request::Status)
        {
            return Ok(status);
        }
        if let Some((child, _)) = &mut server
            && child.try_wait()?.is_some()
        {
            bail!("the rack did not start: {}", process::tail(&dir.join("lab.log"), 20));
        }
        ensure!(
            Instant::now() < deadline,
            "the rack did not start within {START:?}: {}",
            process::tail(&dir.join("lab.log"), 20)
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A directory nobody else has.
fn temporary_dir() -> Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is set")?;
    let dir = std::env::temp_dir().join(format!("mesolith-rack-{}-{}", std::process::id(), now.as_nanos()));
    fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir)
}

/// Waits until no other test on this host holds a rack.
fn take_turn() -> Result<Flock<File>> {
    let path = std::env::temp_dir().join(format!("mesolith-rack-{}.turn", nix::unistd::geteuid()));
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    let deadline = Instant::now() + TURN;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, _)) => file = back,
        }
        ensure!(Instant::now() < deadline, "another test has held its rack for {TURN:?} ({})", path.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The last `count` lines of a text.
fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
