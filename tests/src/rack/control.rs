//! What the handle and the serving process say to each other: one JSON line each way over `control.sock`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::accelerator::Accelerator;
use super::options::Kind;

/// What the serving process can be asked to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", tag = "do")]
pub(super) enum Request {
    /// Nothing: only tell.
    Status,
    /// SIGKILL to a master.
    KillMaster { master: usize },
    /// SIGTERM to a master, SIGKILL after ten seconds.
    StopMaster { master: usize },
    /// Starts a master on the same data and listener, with these arguments added.
    StartMaster { master: usize, args: Vec<String> },
    /// Ends the node's QEMU or hosted agent at once, as a cut power cable does.
    CutPower { node: String },
    /// Starts it again.
    PowerOn { node: String },
    /// Ends everything.
    Shutdown,
}

/// The answer to every request.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// Done; this is how things stand.
    Done(Box<Status>),
    /// Not done.
    Failed(String),
}

/// How a rack stands. Also what `./dev status --json` prints.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Status {
    /// `running`.
    pub state: String,
    /// The serving process; its network is the rack's (`nsenter --net --target PID`).
    pub pid: u32,
    /// The framework API on the host's loopback, without authentication.
    pub api: String,
    /// The rack's directory.
    pub dir: PathBuf,
    /// The master's data directory.
    pub data: PathBuf,
    /// The cluster's CA certificate.
    pub ca: PathBuf,
    /// The principal and secret of the API where it asks for them.
    pub credentials: PathBuf,
    /// Virtual or hosted.
    pub kind: Kind,
    /// What runs the virtual servers.
    pub accelerator: Option<Accelerator>,
    /// The first master.
    pub master: MasterStatus,
    /// All of them, the first one too.
    pub masters: Vec<MasterStatus>,
    /// The nodes in order.
    pub nodes: Vec<NodeStatus>,
}

/// How the master stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct MasterStatus {
    /// The framework API again: `mesolith` looks for it here when it is started beside `.lab/`.
    pub url: String,
    /// Its process id, `None` when it is not running.
    pub pid: Option<u32>,
    /// Its address for agents, inside the rack.
    pub link: String,
    /// Its boot endpoints, inside the rack; none for hosted agents.
    pub boot: Option<String>,
    /// Its log.
    pub log: PathBuf,
}

/// How one node stands.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct NodeStatus {
    /// `node-1` and so on.
    pub name: String,
    /// Its MAC.
    pub mac: String,
    /// Its system UUID.
    pub uuid: String,
    /// Its address inside the rack.
    pub ip: String,
    /// Its rack attribute.
    pub rack: String,
    /// `on` or `off`.
    pub state: String,
    /// The QEMU or agent process on this host.
    pub pid: Option<u32>,
    /// Everything its serial console said (a hosted agent's output).
    pub console: PathBuf,
    /// The serial console itself, to talk to (`socat - UNIX-CONNECT:…`).
    pub serial: Option<PathBuf>,
    /// QEMU's machine protocol.
    pub qmp: Option<PathBuf>,
}

/// Where the status lies for programs that cannot ask, written when the rack is up and removed when it ends.
pub(super) const STATUS: &str = "status.json";

/// The control socket's name in the rack's directory.
pub(super) const SOCKET: &str = "control.sock";

/// Restarting a master on a long log or powering a hosted agent off takes the longest.
const ANSWER: Duration = Duration::from_secs(60);

/// Asks the rack in `dir`, and fails if it fails.
pub(super) fn ask(dir: &Path, request: &Request) -> Result<Status> {
    let mut stream = connect(dir, SOCKET)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes()).context("cannot ask the rack")?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).context("the rack did not answer")?;
    match serde_json::from_str(&answer).with_context(|| format!("the rack answered `{}`", answer.trim()))? {
        Reply::Done(status) => Ok(*status),
        Reply::Failed(why) => bail!("{why}"),
    }
}

/// Connects to a socket by its name in `dir`. The name of a socket has at most 107 bytes, of a directory many more, so
/// the directory is named by its descriptor.
pub(super) fn connect(dir: &Path, name: &str) -> Result<UnixStream> {
    let open = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    let short = format!("/proc/self/fd/{}/{name}", open.as_raw_fd());
    UnixStream::connect(short).with_context(|| format!("cannot connect to {}", dir.join(name).display()))
}

/// Listens on a socket by its name in `dir`, taking the place of one a dead rack left.
pub(super) fn listen(dir: &Path, name: &str) -> Result<UnixListener> {
    let open = File::open(dir).with_context(|| format!("cannot open {}", dir.display()))?;
    let short = format!("/proc/self/fd/{}/{name}", open.as_raw_fd());
    // Fails when there is none, which is as well.
    let _ = std::fs::remove_file(&short);
    UnixListener::bind(short).with_context(|| format!("cannot listen on {}", dir.join(name).display()))
}
