//! `mesolith-lab load`: thousands of simulated agents and a hundred schedulers over real sockets, and what that costs
//! the real master. Figures of Mesos beside ours were recorded in another run, on two cores.

mod commits;
mod containers;
mod etcd;
mod event;
mod failover;
mod fleet;
mod process;
mod readers;
mod report;
mod scheduler;
mod wire;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::sync::watch;

use super::Format;
use crate::bare_master::BareMaster;
use crate::simulated::{Admission, Agents, Spec, Told};
pub use commits::{Commits, commits};
pub use containers::{Containers, Place, containers, run_as_init};
pub use failover::{Failover, failover};
pub use fleet::{Part, part};
use process::Process;
use readers::{Question, Readers};
use report::{Better, Report};
use scheduler::{Job, Scheduler, Times};

/// What each agent has, as in the benchmark Mesos was measured with.
const RESOURCES: &str = "cpus:20;mem:10240";
/// All agents' handshakes and registrations.
const REGISTER: Duration = Duration::from_secs(600);
/// One phase of tasks.
const PHASE: Duration = Duration::from_secs(900);
/// Tasks one after the other, for latencies.
const PROBES: usize = 200;
/// How often a read is timed; the least counts, for others share the machine.
const READS: usize = 3;

/// What to do.
#[derive(Clone, Debug)]
pub struct Load {
    /// Simulated agents.
    pub agents: usize,
    /// Schedulers.
    pub frameworks: usize,
    /// Tasks that end at once, in all.
    pub tasks: usize,
    /// Tasks on one offer.
    pub per_offer: usize,
    /// Tasks that stay, in all, for reading the state of everything.
    pub running: usize,
    /// Leave out the phase of idle agents.
    pub skip_idle: bool,
    /// More of the master's command line.
    pub master_args: Vec<String>,
    /// Where the masters keep their data.
    pub dir: PathBuf,
}

/// Runs it and prints the figures.
pub fn load(load: &Load, format: Format) -> Result<()> {
    raise_descriptor_limit()?;
    let mut report = Report { quiet: format == Format::Json, ..Report::default() };
    if !load.skip_idle {
        idle(load, &mut report)?;
    }
    tasks(load, &mut report)?;
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

/// To what is allowed, and gives that.
fn raise_descriptor_limit() -> Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")?;
    Ok(hard)
}

fn start_master(load: &Load, name: &str) -> Result<BareMaster> {
    let dir = load.dir.join(format!("load-{name}"));
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let args: Vec<&str> = load.master_args.iter().map(String::as_str).collect();
    BareMaster::start(&dir, &args)
}

fn start_agents(load: &Load, master: &BareMaster, report: &mut Report) -> Result<Agents> {
    let process = Process(master.pid());
    let specs: Vec<Spec> =
        (0..load.agents).map(|number| Spec::new(&format!("sim-{number}"), RESOURCES).statuses(Told::Running)).collect();
    let (cpu, begin) = (process.cpu()?, Instant::now());
    let agents = Agents::admit(master, specs, Admission::Signed)?;
    agents.wait_registered(REGISTER)?;
    let (elapsed, cpu) = (begin.elapsed().as_secs_f64(), process.cpu()? - cpu);
    let count = load.agents as f64;
    report.beside(format!("registering {count} agents, mutual TLS each"), elapsed, "s", 2.5, Better::Less);
    report.beside("agents registered a second", count / elapsed, "/s", 4000.0, Better::More);
    report.add("master CPU an agent registered", cpu.as_secs_f64() * 1e3 / count, "ms");
    Ok(agents)
}

/// Agents, then frameworks, that do nothing: memory.
fn idle(load: &Load, report: &mut Report) -> Result<()> {
    let master = start_master(load, "idle")?;
    let process = Process(master.pid());
    let empty = process.resident()?;
    report.beside("resident memory of an empty master", empty as f64 / 1e6, "MB", 21.7, Better::Less);
    let agents = start_agents(load, &master, report)?;
    let (cpu, begin) = (process.cpu()?, Instant::now());
    std::thread::sleep(Duration::from_secs(20)); // longer than the interval between pings
    let idle_cpu = (process.cpu()? - cpu).as_secs_f64() / begin.elapsed().as_secs_f64();
    report.add("master CPU while all agents idle", idle_cpu * 100.0, "% of a core");
    let with_agents = process.resident()?;
    let each = with_agents.saturating_sub(empty) as f64 / load.agents as f64;
    report.beside("resident memory a connected idle agent", each / 1e3, "kB", 19.0, Better::Less);
    let runtime = runtime()?;
    runtime.block_on(async {
        let address = api(&master)?;
        let mut schedulers = Vec::new();
        for number in 0..load.frameworks {
            schedulers.push(Scheduler::subscribe(&address, &format!("load-{number}"), &["*"]).await?);
        }
        let each = process.resident()?.saturating_sub(with_agents) as f64 / load.frameworks as f64;
        report.add("resident memory a connected framework", each / 1e3, "kB");
        read_state(&address, &format!("{} idle agents", load.agents), report).await
    })?;
    drop(agents);
    Ok(())
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("schedulers").enable_all();
    builder.build().context("cannot start the schedulers' runtime")
}

fn api(master: &BareMaster) -> Result<String> {
    Ok(master.url.strip_prefix("http://").context("the API's URL begins with http://")?.to_owned())
}

/// Schedulers that hold their offers until all are told to go.
struct Waiting {
    go: watch::Sender<bool>,
    holding: tokio::task::JoinSet<Result<Scheduler>>,
}

impl Waiting {
    /// To be subscribed before there are agents, so that each agent's offer goes to whoever has least.
    async fn subscribe(address: &str, count: usize) -> Result<Self> {
        let (go, going) = watch::channel(false);
        let mut holding = tokio::task::JoinSet::new();
        for number in 0..count {
            let mut scheduler = Scheduler::subscribe(address, &format!("load-{number}"), &[]).await?;
            let mut going = going.clone();
            holding.spawn(async move {
                scheduler.hold(&mut going).await?;
                Ok(scheduler)
            });
        }
        Ok(Self { go, holding })
    }

    /// Off they go.
    async fn go(mut self) -> Result<Team> {
        self.go.send_replace(true);
        let mut schedulers = Vec::new();
        while let Some(scheduler) = self.holding.join_next().await {
            schedulers.push(scheduler??);
        }
        Ok(Team { schedulers })
    }
}

/// Schedulers that work together.
struct Team {
    schedulers: Vec<Scheduler>,
}

impl Team {
    /// Everybody does the same job at once; the times of all tasks.
    async fn work(&mut self, job: &Job) -> Result<Vec<Times>> {
        let mut together = tokio::task::JoinSet::new();
        for mut scheduler in self.schedulers.drain(..) {
            let job = job.clone();
            together.spawn(async move {
                let times = scheduler.work(&job).await?;
                anyhow::Ok((scheduler, times))
            });
        }
        let mut all = Vec::new();
        let done = async {
            while let Some(done) = together.join_next().await {
                let (scheduler, times) = done??;
                self.schedulers.push(scheduler);
                all.extend(times);
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PHASE, done).await.context("the tasks were not done in time")??;
        Ok(all)
    }
}

/// Tasks: rates and latencies, then reading beside them.
fn tasks(load: &Load, report: &mut Report) -> Result<()> {
    let master = start_master(load, "tasks")?;
    let process = Process(master.pid());
    let address = api(&master)?;
    let runtime = runtime()?;
    let waiting = runtime.block_on(Waiting::subscribe(&address, load.frameworks))?;
    let mut scratch = Report { quiet: true, ..Report::default() };
    let _agents = start_agents(load, &master, if load.skip_idle { report } else { &mut scratch })?;
    runtime.block_on(async {
        let mut team = waiting.go().await?;
        let before = process.resident()?;
        throughput(load, &mut team, process, report).await?;
        let kept = (load.tasks).min(load.frameworks * 1000) as f64;
        let grown = process.resident()?.saturating_sub(before) as f64;
        report.add("resident memory a completed task that is remembered", grown / kept / 1e3, "kB");
        probe(&mut team, "nobody reads", report).await?;
        read_state(&address, &format!("{kept} completed"), report).await?;
        for running in [load.running / 10, load.running - load.running / 10] {
            let before = process.resident()?;
            stay(load, &mut team, running).await?;
            let grown = process.resident()?.saturating_sub(before) as f64;
            report.add(format!("resident memory a running task, {running} more"), grown / running as f64 / 1e3, "kB");
        }
        read_state(&address, &format!("{} running + {kept} completed", load.running), report).await?;
        probe(&mut team, "nobody reads, all tasks there", report).await?;
        for (name, questions) in [
            ("one reads /state", &[Question::State][..]),
            ("two read /state and GET_STATE", &[Question::State, Question::GetState]),
        ] {
            if questions.contains(&Question::GetState) && readers::ask(&address, Question::GetState).await.is_err() {
                continue;
            }
            let readers = Readers::start(&address, questions);
            probe(&mut team, name, report).await?;
            report.add(format!("{name}: answers a second"), readers.end().await?, "/s");
        }
        Ok(())
    })
}

async fn throughput(load: &Load, team: &mut Team, process: Process, report: &mut Report) -> Result<()> {
    let each = load.tasks / load.frameworks;
    let job = Job {
        tasks: each,
        per_offer: load.per_offer,
        at_once: usize::MAX,
        command: "true",
        leave_running: false,
        hold_one: true,
    };
    let (cpu, begin) = (process.cpu()?, Instant::now());
    let times = team.work(&job).await?;
    let (elapsed, cpu) = (begin.elapsed().as_secs_f64(), process.cpu()? - cpu);
    let count = times.len() as f64;
    let launched = times.iter().filter_map(|task| task.running).max().context("tasks ran")? - begin;
    report.beside("launches a second (to RUNNING)", count / launched.as_secs_f64(), "/s", 5171.0, Better::More);
    report.beside("whole task lifecycles a second", count / elapsed, "/s", 2758.0, Better::More);
    report.beside("master CPU a task lifecycle", cpu.as_secs_f64() * 1e3 / count, "ms", 0.37, Better::Less);
    report.latencies("all at once", &times);
    Ok(())
}

/// One task at a time on one agent: latencies without a queue, and from ACCEPT to the next offer.
async fn probe(team: &mut Team, name: &str, report: &mut Report) -> Result<()> {
    let mut scheduler = team.schedulers.pop().context("there is a scheduler")?;
    let job = Job { tasks: PROBES, per_offer: 1, at_once: 1, command: "true", leave_running: false, hold_one: true };
    scheduler.revive().await?;
    scheduler.wait_offer().await?;
    let times =
        tokio::time::timeout(PHASE, scheduler.work(&job)).await.context("the tasks were not done in time")??;
    team.schedulers.push(scheduler);
    report.latencies(name, &times);
    // A round that used an offer made before, of another agent, says nothing.
    let cycles = times.windows(2).filter(|pair| pair[1].offered > pair[0].accepted);
    let cycles = cycles.map(|pair| pair[1].offered.saturating_duration_since(pair[0].accepted)).collect();
    report.spread(&format!("{name}: ACCEPT to end to next offer"), cycles);
    Ok(())
}

/// Launches tasks that stay.
async fn stay(load: &Load, team: &mut Team, count: usize) -> Result<()> {
    let job = Job {
        tasks: count / load.frameworks,
        per_offer: load.per_offer,
        at_once: usize::MAX,
        command: "cat",
        leave_running: true,
        hold_one: false,
    };
    for scheduler in &mut team.schedulers {
        scheduler.revive().await?;
    }
    team.work(&job).await?;
    Ok(())
}

/// What was recorded of Mesos with 10,000 agents, 100,000 tasks running and as many completed.
const MESOS_STATE_MS: [(Question, f64); 2] = [(Question::State, 1650.0), (Question::GetState, 2490.0)];

async fn read_state(address: &str, what: &str, report: &mut Report) -> Result<()> {
    for (question, recorded) in MESOS_STATE_MS {
        let mut answers = Vec::new();
        for _ in 0..READS {
            match readers::ask(address, question).await {
                Ok(answer) => answers.push(answer),
                Err(error) if question == Question::GetState => {
                    eprintln!("{} is not measured: {error:#}", question.name());
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let least = answers.iter().min_by_key(|answer| answer.whole).context("it was read")?;
        let name = question.name();
        let millis = least.whole.as_secs_f64() * 1e3;
        if what.starts_with("100000 running") {
            report.beside(format!("{name}, {what}, least of {READS}"), millis, "ms", recorded, Better::Less);
        } else {
            report.add(format!("{name}, {what}, least of {READS}"), millis, "ms");
        }
        report.add(format!("{name}, {what}, to its first byte"), least.first_byte.as_secs_f64() * 1e3, "ms");
        report.add(format!("{name}, {what}, size"), least.bytes as f64 / 1e6, "MB");
    }
    Ok(())
}
