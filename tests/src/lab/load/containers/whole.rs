//! Tasks by a framework, a master and one agent: how long one takes, how many a second, and what they leave in memory.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::sample::{ROLES, Sample};
use crate::lab::load::report::{Better, Report};
use crate::lab::load::scheduler::{Job, Scheduler, Times};
use crate::lab::load::{PHASE, runtime};

/// Tasks one after the other.
const SINGLE: usize = 50;
/// `true` at once.
const BURST: usize = 200;
/// Until processes have settled after a burst.
const SETTLE: Duration = Duration::from_secs(3);
/// Until all are gone once their framework is.
const GONE: Duration = Duration::from_secs(600);

/// Measures one agent.
pub(super) fn measure(
    place: &str,
    address: &str,
    counts: &[usize],
    sample: &dyn Fn() -> Result<Sample>,
    report: &mut Report,
) -> Result<()> {
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut scheduler = subscribe(address, "short").await?;
        let job = Job { tasks: 5, per_offer: 1, at_once: 1, command: "true", leave_running: false, hold_one: true };
        work(&mut scheduler, &job).await?;
        let times = work(&mut scheduler, &Job { tasks: SINGLE, ..job.clone() }).await?;
        latency(place, &times, report);
        let burst = Job { tasks: BURST, per_offer: BURST, at_once: usize::MAX, ..job.clone() };
        let rates = rates(&work(&mut scheduler, &burst).await?)?;
        let what = format!("{place}: {BURST} `true` at once, whole tasks a second");
        report.beside(what, rates.ended.context("all have ended")?, "/s", 47.0, Better::More);
        scheduler.teardown().await?;
        for count in counts {
            let before = quiet(sample).await?;
            let mut scheduler = subscribe(address, &format!("long-{count}")).await?;
            let long = Job {
                tasks: *count,
                per_offer: *count,
                at_once: usize::MAX,
                command: "sleep 100000",
                leave_running: true,
                hold_one: false,
            };
            let rates = self::rates(&work(&mut scheduler, &long).await?)?;
            let what = format!("{place}: {count} that stay, launched a second");
            report.beside(what, rates.running, "/s", 51.0, Better::More);
            tokio::time::sleep(SETTLE).await;
            memory(place, *count, &before, &sample()?, report);
            let began = Instant::now();
            scheduler.teardown().await?;
            while sample()?.of_tasks > 0 {
                ensure!(began.elapsed() < GONE, "tasks still run after their framework was removed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            let rate = *count as f64 / began.elapsed().as_secs_f64();
            report.add(format!("{place}: {count} killed with their framework, a second"), rate, "/s");
        }
        Ok(())
    })
}

async fn subscribe(address: &str, name: &str) -> Result<Scheduler> {
    let mut scheduler = Scheduler::subscribe(address, name, &[]).await?;
    scheduler.wait_offer().await?;
    Ok(scheduler)
}

async fn work(scheduler: &mut Scheduler, job: &Job) -> Result<Vec<Times>> {
    scheduler.revive().await?;
    tokio::time::timeout(PHASE, scheduler.work(job)).await.context("the tasks were not done in time")?
}

/// No task is left, and what they took is given back as far as it will be.
async fn quiet(sample: &dyn Fn() -> Result<Sample>) -> Result<Sample> {
    let began = Instant::now();
    while sample()?.of_tasks > 0 {
        ensure!(began.elapsed() < GONE, "tasks of the round before still run");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(SETTLE).await;
    sample()
}

fn latency(place: &str, times: &[Times], report: &mut Report) {
    let since = |to: fn(&Times) -> Option<Instant>| -> Vec<Duration> {
        times.iter().filter_map(|task| Some(to(task)?.saturating_duration_since(task.accepted))).collect()
    };
    report.spread(&format!("{place}: `true`, ACCEPT to RUNNING"), since(|task| task.running));
    report.spread(&format!("{place}: `true`, ACCEPT to FINISHED"), since(|task| task.ended));
}

/// Tasks a second from the first ACCEPT to the last update.
struct Rates {
    running: f64,
    ended: Option<f64>,
}

fn rates(times: &[Times]) -> Result<Rates> {
    let first = times.iter().map(|task| task.accepted).min().context("tasks were launched")?;
    let rate = |last: Option<Instant>| {
        last.map(|last| times.len() as f64 / last.saturating_duration_since(first).as_secs_f64().max(1e-6))
    };
    let running = rate(times.iter().filter_map(|task| task.running).max()).context("tasks ran")?;
    Ok(Rates { running, ended: rate(times.iter().filter_map(|task| task.ended).max()) })
}

/// What so many tasks add.
fn memory(place: &str, count: usize, before: &Sample, with: &Sample, report: &mut Report) {
    for role in ROLES {
        let of = |sample: &Sample| sample.resident.get(role).copied().unwrap_or(0) as f64;
        let each = (of(with) - of(before)) / count as f64 / 1024.0;
        report.add(format!("{place}: memory of the {role} a running task, of {count}"), each, "KiB");
    }
    let more = with.own as f64 - before.own as f64;
    report.add(format!("{place}: processes of ours a running task, of {count}"), more / count as f64, "");
    report.add(format!("{place}: processes of {count} tasks"), with.of_tasks as f64, "");
}
