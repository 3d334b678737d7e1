//! Three masters and two booted nodes: leaders are killed, and every task is accounted for once.
#![cfg(feature = "nightly")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::books::{Books, Cluster};
use tests::clients::{PymesosFailover, PythonPackages};
use tests::framework::Framework;
use tests::rack::{Options, Rack};

const KILLS: usize = 20;
const BOOT: Duration = Duration::from_secs(240);
const LEADER: Duration = Duration::from_secs(60);
/// For all of pymesos's tasks, on emulated servers that share two processors with the masters.
const SCENARIO: Duration = Duration::from_secs(1200);
const TASKS: usize = 160;

struct Racked<'a>(&'a Rack);

impl Cluster for Racked<'_> {
    fn subscribe(&self, name: &str, more: &Value) -> Result<Framework> {
        self.0.subscribe(name, more)
    }
}

#[test]
fn twenty_leaders_are_killed_under_booted_nodes() -> Result<()> {
    let rack = Rack::start(Options { masters: 3, ..Options::new()? })?;
    rack.wait_registered(2, BOOT)?;
    let cluster = Racked(&rack);
    let mut books = Books::open(&cluster)?;
    let mut times = Vec::new();
    for round in 0..KILLS {
        books.launch(round, 2)?;
        let leader = rack.wait_leader(LEADER)?;
        let began = Instant::now();
        leader.kill9()?;
        books.return_to(&cluster)?;
        let subscribed = began.elapsed();
        let offer = books.offer().with_context(|| format!("after kill {round}"))?;
        books.offers.push(offer);
        times.push(began.elapsed());
        println!("kill {round}: subscribed after {subscribed:?}, first offer after {:?}", began.elapsed());
        leader.start()?;
        // Once the nodes have the time to stand by with the next one.
        if round == KILLS / 2 {
            std::thread::sleep(Duration::from_secs(61));
        }
    }
    books.close()?;
    books.check()?;
    times.sort();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{} tasks, {} of them never launched; from kill to first offer: median {median:?}, most {most:?}",
        books.ends.len(),
        books.never_launched.len()
    );
    ensure!(most < Duration::from_secs(30), "a failover took {most:?}");
    // Nothing of all this made a node start anew.
    for node in rack.nodes() {
        let boots = node.console().matches("Linux version").count();
        ensure!(boots <= 1, "{} booted {boots} times", node.name());
    }
    rack.end()
}

/// The unmodified pymesos finds each new leader through `zk://`.
#[test]
fn pymesos_runs_its_tasks_on_booted_nodes_through_twenty_leader_kills() -> Result<()> {
    let rack = Rack::start(Options { masters: 3, ..Options::new()? })?;
    // The nodes boot meanwhile.
    let dir = tempfile::tempdir()?;
    let packages = PythonPackages::install(&dir.path().join("python"), &["requirements.txt"])?;
    rack.wait_registered(2, BOOT)?;
    let framework = PymesosFailover::start(&packages, &rack.zk()?, dir.path(), TASKS, SCENARIO)?;
    let mut times = Vec::new();
    for round in 0..KILLS {
        // In the middle of its tasks, each time.
        framework.wait("end", 5).with_context(|| format!("before kill {round}"))?;
        let leader = rack.wait_leader(LEADER)?;
        let killed = Instant::now();
        leader.kill9()?;
        framework.wait("registered", 1).with_context(|| format!("after kill {round}"))?;
        times.push(killed.elapsed());
        println!("kill {round}: pymesos was registered again after {:?}", killed.elapsed());
        leader.start()?;
    }
    framework.finish()?;
    println!("{}", packages.verify()?);
    times.sort();
    println!("registered again after: median {:?}, most {:?}", times[times.len() / 2], times[times.len() - 1]);
    rack.end()
}
