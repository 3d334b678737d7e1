//! Records Mesos dialogues from a master, or checks a master against the recorded ones; `tests/record` calls it.

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use tests::conformance::deviations::{self, matches};
use tests::conformance::dialogue::{Dialogue, Reach};
use tests::conformance::player::{Purpose, play};
use tests::conformance::{scenarios, store};
use tests::http;

/// Records dialogues with a Mesos master, or checks that a master still answers as recorded.
///
/// The master must have two idle agents of cpus:8;mem:8192;disk:10000;ports:[31000-32000] with the attributes
/// rack:r1;level:10;keys:[1000-1500].
#[derive(Parser)]
struct Options {
    /// The master's address.
    #[arg(long, default_value = "http://127.0.0.1:5050")]
    url: String,
    /// Where recordings are kept.
    #[arg(long, default_value_os_t = store::committed())]
    out: PathBuf,
    /// Replay the recordings and print what is different, instead of recording.
    #[arg(long)]
    check: bool,
    /// Only dialogues of these names; `*` stands for anything.
    #[arg(long = "only", value_name = "PATTERN")]
    only: Vec<String>,
    /// A shell command that puts a new master in the place of the old: run before and after dialogues that need one.
    #[arg(long, value_name = "COMMAND")]
    restart: Option<String>,
    /// Keep what is recorded already, and record only what is missing.
    #[arg(long, conflicts_with = "check")]
    missing: bool,
    /// Forgive what the list of deviations names.
    #[arg(long, requires = "check")]
    deviations: bool,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let wanted =
        |dialogue: &Dialogue| options.only.is_empty() || options.only.iter().any(|only| matches(only, &dialogue.name));
    let recorded = if options.out.is_dir() { store::read(&options.out)? } else { Vec::new() };
    let mut dialogues: Vec<Dialogue> = if options.check { recorded.clone() } else { scenarios::all() };
    dialogues.retain(|dialogue| wanted(dialogue));
    if options.missing {
        dialogues.retain(|dialogue| !recorded.iter().any(|known| known.name == dialogue.name));
    }
    // Those that use a master up come last.
    dialogues.sort_by_key(|dialogue| dialogue.reach == Reach::Fresh);
    ensure!(!dialogues.is_empty(), "no dialogue has such a name");
    let allowed = if options.deviations { deviations::read(&options.out)? } else { Vec::new() };

    let version = http::get(&format!("{}/version", options.url), Duration::from_secs(10))?.success()?.json()?;
    let version = version["version"].as_str().context("/version names no version")?.to_owned();
    let purpose = if options.check { Purpose::Check } else { Purpose::Record };
    let mut wrong = 0;
    for dialogue in &dialogues {
        if dialogue.reach == Reach::Fresh {
            restart(&options)?;
        }
        let mut played = play(dialogue, &options.url, purpose);
        played.differences.retain(|found| !allowed.iter().any(|deviation| deviation.covers(&dialogue.name, found)));
        let well = played.failure.is_none() && played.differences.is_empty();
        println!("{} {}", if well { "ok  " } else { "FAIL" }, dialogue.name);
        for difference in &played.differences {
            println!("       {difference}");
        }
        if let Some(failure) = &played.failure {
            println!("       {failure}");
        }
        if well && purpose == Purpose::Record {
            played.seen.seen_on = format!("Apache Mesos {version}");
            store::write(&options.out, &played.seen)?;
        }
        wrong += usize::from(!well);
        if dialogue.reach == Reach::Fresh || !well && options.restart.is_some() {
            restart(&options)?;
        }
    }
    println!(
        "{} dialogues, {wrong} of them {}",
        dialogues.len(),
        if options.check { "different" } else { "not recorded" }
    );
    Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn restart(options: &Options) -> Result<()> {
    let command =
        options.restart.as_ref().context("a dialogue needs a master of its own: say with --restart how to get one")?;
    let status = Command::new("sh").args(["-c", command]).status().context("cannot run sh")?;
    ensure!(status.success(), "`{command}` ended with {status}");
    Ok(())
}
