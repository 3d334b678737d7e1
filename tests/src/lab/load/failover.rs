//! `./dev bench failover`: thousands of simulated agents with their tasks, and the leader of three masters killed again
//! and again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::fleet::Fleet;
use super::process::Process;
use super::report::{Better, Report};
use super::scheduler::Job;
use super::{PHASE, REGISTER, Waiting, raise_descriptor_limit, runtime};
use crate::http;
use crate::masters::Masters;

/// Of the descriptors a process may have, for everything but agents.
const OTHER_DESCRIPTORS: usize = 500;
/// Of an agent, at most: with the leader, with the one that is to lead next, and one that is being replaced.
const CONNECTIONS: usize = 3;
/// For every agent to be attached again.
const ATTACHED: Duration = Duration::from_secs(120);
/// One answer of a master that may be dying.
const ANSWER: Duration = Duration::from_secs(2);

/// What to do.
#[derive(Clone, Debug)]
pub struct Failover {
    /// Simulated agents; no more than a master may have connections.
    pub agents: usize,
    /// Wait before each kill until every agent has a session with the next leader, as on an ordinary day.
    pub standby: bool,
    /// Tasks that run on them, in all.
    pub tasks: usize,
    /// Schedulers that launch them.
    pub frameworks: usize,
    /// How many times.
    pub kills: usize,
    /// Where the masters keep their data.
    pub dir: PathBuf,
}

/// Runs it and prints the figures; the last line has the medians.
pub fn failover(wanted: &Failover) -> Result<()> {
    let limit = usize::try_from(raise_descriptor_limit()?)?.saturating_sub(OTHER_DESCRIPTORS);
    let count = wanted.agents.min(limit);
    if count < wanted.agents {
        println!("{count} agents instead of {}: a master may have no more connections here", wanted.agents);
    }
    let dir = wanted.dir.join("failover");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut masters = Masters::start(&dir, 3, &[])?;
    let mut report = Report::default();
    let fleet = busy_fleet(wanted, &masters, count, limit / CONNECTIONS, &mut report)?;
    let (mut serving, mut attached, mut peaks) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=wanted.kills {
        let leader = masters.wait_leader()?;
        if wanted.standby {
            fleet.wait_standing_by(count, ATTACHED)?;
        }
        let term = masters.term(leader)?;
        let (by_masters, by_agents) = (cpu(&masters, leader)?, fleet.cpu()?);
        let began = Instant::now();
        masters.kill(leader)?;
        let next = masters.wait_leader()?;
        http::get(&format!("{}/state-summary", masters.url(next)), ANSWER)?.success()?;
        let served = began.elapsed();
        let half = fleet.wait_registered(count, term, ATTACHED)?.duration_since(began);
        let whole = began.elapsed();
        let (by_masters, by_agents) = (cpu(&masters, leader)? - by_masters, fleet.cpu()? - by_agents);
        let peak = Process(masters.process(next)?.pid()).peak()?;
        println!(
            "kill {number}: another master serves after {:.2} s, half of the agents are attached after {:.2} s, the last one \
             after {:.2} s, which took {:.1} s of cores for masters and {:.1} s for agents, the new leader's peak is {:.0} MB",
            served.as_secs_f64(),
            half.as_secs_f64(),
            whole.as_secs_f64(),
            by_masters.as_secs_f64(),
            by_agents.as_secs_f64(),
            peak as f64 / 1e6
        );
        serving.push(served.as_secs_f64());
        attached.push(whole.as_secs_f64());
        peaks.push(peak as f64 / 1e6);
        masters.restart(leader)?;
        masters.wait_voters(3)?;
    }
    let median = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or_default()
    };
    let (serving, attached, peak) = (median(&mut serving), median(&mut attached), median(&mut peaks));
    report.beside(format!("{count} agents attached again"), attached, "s", 4.6, Better::Less);
    println!(
        "medians of {}: serves after {serving:.2} s, last agent after {attached:.2} s, peak {peak:.0} MB",
        wanted.kills
    );
    Ok(())
}

/// Processor time of all masters but one.
fn cpu(masters: &Masters, but: usize) -> Result<Duration> {
    let others = masters.keys().into_iter().filter(|key| *key != but);
    others.map(|key| Process(masters.process(key)?.pid()).cpu()).sum()
}

/// Agents that run their tasks, under a leader.
fn busy_fleet(wanted: &Failover, masters: &Masters, count: usize, of_one: usize, report: &mut Report) -> Result<Fleet> {
    let leader = masters.wait_leader()?;
    let address = masters.url(leader).trim_start_matches("http://").to_owned();
    let runtime = runtime()?;
    let waiting = runtime.block_on(Waiting::subscribe(&address, wanted.frameworks))?;
    let began = Instant::now();
    let master = masters.process(leader)?;
    let fleet = Fleet::start(&master.data(), &master.link, count, of_one)?;
    fleet.wait_registered(count, 0, REGISTER)?;
    report.add(format!("{count} agents registered at first"), began.elapsed().as_secs_f64(), "s");
    let job = Job {
        tasks: wanted.tasks / wanted.frameworks,
        per_offer: wanted.tasks.div_ceil(count),
        at_once: usize::MAX,
        command: "cat",
        leave_running: true,
        hold_one: false,
    };
    let began = Instant::now();
    runtime.block_on(async {
        let mut team = waiting.go().await?;
        for scheduler in &team.schedulers {
            scheduler.revive().await?;
        }
        tokio::time::timeout(PHASE, team.work(&job)).await.context("the tasks did not run in time")??;
        anyhow::Ok(())
    })?;
    report.add(format!("{} tasks launched", wanted.tasks), began.elapsed().as_secs_f64(), "s");
    Ok(fleet)
}
