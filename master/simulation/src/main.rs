//! `mesolith-simulate`: runs seeds, on as many threads as there are cores, until one violates an invariant.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use master_simulation::{Options, Outcome, run};

/// Simulates masters, agents and frameworks on machines that fail, as seeds say.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Which seeds: one number, or FROM..TO.
    #[arg(long, default_value = "0..1000", value_parser = seeds)]
    seeds: Range<u64>,
    /// How many masters: 3, 5, or both in turns.
    #[arg(long, value_parser = clap::value_parser!(u8).range(3..=5))]
    masters: Option<u8>,
    /// Threads; as many as there are cores.
    #[arg(long)]
    threads: Option<usize>,
    /// Each seed twice: both must have the same hash.
    #[arg(long)]
    twice: bool,
    /// Prints a line for each seed.
    #[arg(long)]
    list: bool,
    /// Prints everything that happens. For one seed.
    #[arg(long)]
    trace: bool,
    /// Prints what the masters log, as RUST_LOG says. For one seed.
    #[arg(long)]
    log: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |text: &str| text.trim().parse::<u64>().map_err(|error| format!("'{text}': {error}"));
    match text.split_once("..") {
        Some((from, to)) => Ok(number(from)?..number(to)?),
        None => number(text).map(|seed| seed..seed + 1),
    }
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let count = arguments.seeds.end.saturating_sub(arguments.seeds.start);
    ensure!(count > 0, "no seeds");
    ensure!(count == 1 || !(arguments.trace || arguments.log), "--trace and --log are for one seed");
    if arguments.log {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = arguments.threads.unwrap_or(cores).min(usize::try_from(count).unwrap_or(usize::MAX));
    let (next, done) = (AtomicU64::new(arguments.seeds.start), AtomicUsize::new(0));
    let total = Mutex::new(Total::default());
    let began = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= arguments.seeds.end {
                            return;
                        }
                        let outcome = one(&arguments, seed);
                        total.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(seed, &outcome);
                        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                        if done.is_multiple_of(100) {
                            eprintln!("{done} of {count} seeds in {:.0} s", began.elapsed().as_secs_f64());
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| ()))
    })
    .map_err(|()| anyhow::anyhow!("a thread panicked"))?;
    let total = total.into_inner().context("no thread panicked")?;
    println!("{}", total.summary(count, began.elapsed(), threads));
    if !total.violations.is_empty() {
        bail!("{} of {count} seeds violate an invariant: {:?}", total.violations.len(), total.violations);
    }
    Ok(())
}

fn one(arguments: &Arguments, seed: u64) -> Outcome {
    let masters = arguments.masters.map_or(if seed % 3 == 2 { 5 } else { 3 }, usize::from);
    let options = Options {
        seed,
        masters,
        verbose: arguments.trace,
        #[cfg(feature = "planted-bugs")]
        bug: None,
    };
    let mut outcome = run(&options);
    if arguments.twice {
        let again = run(&options);
        if again != outcome && outcome.violation.is_none() {
            let what = format!("the second run has the hash {:016x} after {} lines", again.hash, again.lines);
            let invariant = master_simulation::Invariant::Progress;
            outcome.violation = Some(master_simulation::Violation { invariant, at: 0, what });
        }
    }
    if let Some(violation) = &outcome.violation {
        eprintln!("seed {seed}, {masters} masters: {violation}");
    }
    if arguments.list {
        println!(
            "seed {seed} masters {masters} hash {:016x} faults {} terms {} containers {} lines {} seconds {:.1}",
            outcome.hash,
            outcome.faults,
            outcome.terms,
            outcome.containers,
            outcome.lines,
            Duration::from_micros(outcome.time).as_secs_f64()
        );
    }
    outcome
}

#[derive(Default)]
struct Total {
    violations: Vec<u64>,
    faults: usize,
    terms: u64,
    containers: usize,
    members: usize,
    writes: usize,
    time: Duration,
    hash: u64,
}

impl Total {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.violations.extend(outcome.violation.is_some().then_some(seed));
        self.faults += outcome.faults;
        self.terms += outcome.terms;
        self.containers += outcome.containers;
        self.members += outcome.changes.0;
        self.writes += outcome.changes.1;
        self.time += Duration::from_micros(outcome.time);
        self.hash ^= outcome.hash.rotate_left(u32::try_from(seed % 64).unwrap_or_default());
    }

    fn summary(&self, count: u64, took: Duration, threads: usize) -> String {
        format!(
            "{count} seeds in {:.1} s on {threads} threads: {} violations; {} faults, {} terms, {} containers, {} changes of \
             the members, {} writes of operators, {:.1} h simulated; hash of all {:016x}",
            took.as_secs_f64(),
            self.violations.len(),
            self.faults,
            self.terms,
            self.containers,
            self.members,
            self.writes,
            self.time.as_secs_f64() / 3600.0,
            self.hash
        )
    }
}
