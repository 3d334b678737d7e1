//! One master's process: the real replica and the real driver on a runtime of their own, whose clock only moves when it
//! is told to. Dropping it is `kill -9`.

#![allow(unexpected_cfgs)] // `./dev simulate` sets tokio_unstable

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use master::clock::Clock;
use master::driver::{Driver, Handle};
use master::peers::Dialer;
use master::raft::{self, FromLog, Member, Options, Replica};
use master::random;
use master_core::{Config, Master};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::disk::SimulatedDisk;
use crate::wires::{Answered, Exchange};

/// Small, so that many snapshots are written and sent.
const SNAPSHOT_EVERY: u64 = 40;
/// Of every master's log, on its own disk.
pub(crate) const DIRECTORY: &str = "/raft";

/// What a process is started with.
pub(crate) struct Birth {
    pub(crate) replica: u64,
    pub(crate) member: Member,
    pub(crate) founds: bool,
    pub(crate) disk: SimulatedDisk,
    pub(crate) exchange: Exchange,
    pub(crate) seed: u64,
    /// Milliseconds since 1970.
    pub(crate) wall: Arc<AtomicU64>,
}

/// See the module.
pub(crate) struct Process {
    runtime: Runtime,
    began: Instant,
    lived: Duration,
    posted: Posted,
}

/// What the tasks within tell the world.
#[derive(Clone, Default)]
pub(crate) struct Posted(Arc<Mutex<Posts>>);

#[derive(Default)]
pub(crate) struct Posts {
    /// Once it has started.
    pub(crate) running: Option<Running>,
    pub(crate) answers: Vec<Answered>,
    pub(crate) seen: Vec<Seen>,
    /// Why it ended by itself.
    pub(crate) ended: Option<String>,
    /// Members that were admitted and wait for their processes, with their numbers.
    pub(crate) admitted: Vec<(usize, u64)>,
    /// All members vote.
    pub(crate) formed: bool,
}

#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) replica: Replica,
    pub(crate) driver: Handle,
}

/// What goes from the log to the driver. The trace prints it.
#[derive(Debug)]
#[allow(dead_code)]
pub(crate) enum Seen {
    Committed { commands: usize },
    Leading { term: Option<u64> },
    Installed,
}

impl Posted {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Posts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    pub(crate) fn start(birth: Birth) -> Self {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        // What is left of chance in the libraries: which branch of a `select!` is looked at first.
        #[cfg(tokio_unstable)]
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&birth.seed.to_le_bytes()));
        let runtime = builder.build().expect("a runtime of one thread needs nothing of the system");
        let began = {
            let _inside = runtime.enter();
            Instant::now()
        };
        let posted = Posted::default();
        runtime.spawn(live(birth, posted.clone()));
        Self { runtime, began, lived: Duration::ZERO, posted }
    }

    /// What it has to say.
    pub(crate) fn posts(&self) -> MutexGuard<'_, Posts> {
        self.posted.lock()
    }

    pub(crate) fn posted(&self) -> Posted {
        self.posted.clone()
    }

    pub(crate) fn running(&self) -> Option<Running> {
        self.posts().running.clone()
    }

    pub(crate) const fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Lives on for so long.
    pub(crate) fn live(&mut self, time: Duration) {
        self.lived += time;
        let until = self.began + self.lived;
        self.runtime.block_on(async { tokio::time::sleep_until(until).await });
    }

    /// Stood still for so long, and finds that out.
    pub(crate) fn wake(&mut self, after: Duration) {
        self.lived += after;
        self.runtime.block_on(async { tokio::time::advance(after).await });
    }
}

async fn live(birth: Birth, posted: Posted) {
    let Birth { replica, member, founds, disk, exchange, seed, wall } = birth;
    let options = Options {
        snapshot_every: SNAPSHOT_EVERY,
        id: replica,
        member: member.clone(),
        founds,
        dialer: Dialer::other(Arc::new(exchange)),
        disk: disk.shared(),
        chance: random::Chance::seeded(seed),
    };
    let started = match raft::start(Path::new(DIRECTORY), &options).await {
        Ok(started) => started,
        Err(error) => {
            posted.lock().ended = Some(chain(&error));
            return;
        }
    };
    let (driver, inbox) = Handle::channel();
    let (to_driver, log) = mpsc::channel(1);
    tokio::spawn(relay(started.messages, to_driver, posted.clone()));
    let clock = Clock::with_wall(move || wall.load(Ordering::Relaxed));
    let master = Master::new(core(&member, seed), started.state);
    posted.lock().running = Some(Running { replica: started.replica.clone(), driver });
    let (_stop, stopped) = watch::channel(false);
    let (leading, _) = watch::channel(false);
    let driver = Driver::new(master, clock, started.replica, inbox, log);
    // A task of its own, so that its panic is told.
    let ended = tokio::spawn(driver.run(stopped, leading)).await;
    posted.lock().ended = Some(match ended {
        Ok(Ok(())) => "the driver ended by itself".to_owned(),
        Ok(Err(error)) => chain(&error),
        Err(panic) => format!("the driver panicked: {panic}"),
    });
}

/// Hands on what the log says, and tells the world of it.
async fn relay(mut log: mpsc::Receiver<FromLog>, driver: mpsc::Sender<FromLog>, posted: Posted) {
    while let Some(message) = log.recv().await {
        let seen = match &message {
            FromLog::Committed { commands, .. } => Some(Seen::Committed { commands: commands.len() }),
            FromLog::Leading(term) => Some(Seen::Leading { term: *term }),
            FromLog::Install { .. } => Some(Seen::Installed),
            FromLog::Snapshot(_) | FromLog::Failed(_) => None,
        };
        posted.lock().seen.extend(seen);
        if driver.send(message).await.is_err() {
            return;
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

/// Everything faster than in a real cluster, so that a short run sees all of it.
fn core(member: &Member, seed: u64) -> Config {
    Config {
        master_id: format!("m{seed:016x}").into(),
        hostname: member.addr.clone(),
        seed,
        heartbeat_interval: Duration::from_secs(1),
        ping_interval: Duration::from_secs(1),
        agent_timeout: Duration::from_secs(5),
        reregister_timeout: Duration::from_secs(12),
        contest_timeout: Duration::from_millis(500),
        allocation_interval: Duration::from_millis(300),
        ..Config::default()
    }
}
