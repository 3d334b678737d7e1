//! Three masters and two booted nodes: leaders are killed, and every task is accounted for once.
#![cfg(feature = "nightly")]

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tests::books::{Books, Cluster};
use tests::framework::Framework;
use tests::rack::{Options, Rack};

const KILLS: usize = 20;
const BOOT: Duration = Duration::from_secs(240);
const LEADER: Duration = Duration::from_secs(60);

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
