//! `./dev bench containers`: how long containers take to be made, to run and to be gone, ours beside those of other
//! runtimes on the same bundle, and how many tasks a second one agent launches, natively and in a booted node.

mod bundle;
mod guest;
mod initrd;
mod launcher;
mod native;
mod runtimes;
mod sample;
mod whole;

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use super::super::Format;
use super::raise_descriptor_limit;
use super::report::Report;
pub use guest::run_as_init;
use runtimes::{Foreign, Summary};

/// What to do.
#[derive(Clone, Debug)]
pub struct Containers {
    /// How many containers each runtime makes, by turns.
    pub rounds: usize,
    /// How many tasks run at the same time, one count after the other.
    pub counts: Vec<usize>,
    /// Other runtimes, by name.
    pub beside: Vec<String>,
    /// Where it is measured.
    pub places: Vec<Place>,
    /// Programs of other runtimes, beside those of packages.
    pub tools: PathBuf,
    /// Where images and data are.
    pub dir: PathBuf,
}

/// Where containers are made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// On this host: two real processors, and no limits where the host's hierarchy has no controllers.
    Native,
    /// In a virtual server that booted our image, with limits.
    Node,
}

/// Runs it and prints the figures.
pub fn containers(wanted: &Containers, format: Format) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "only root can make containers");
    raise_descriptor_limit()?;
    let dir = wanted.dir.join("containers");
    if dir.exists() {
        std::fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))?;
    }
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut report = Report { quiet: format == Format::Json, ..Report::default() };
    let foreign = Foreign::find(&wanted.tools, &wanted.beside);
    for name in wanted.beside.iter().filter(|name| !foreign.iter().any(|found| found.name == **name)) {
        eprintln!("{name} is not measured: it is neither installed nor in {}", wanted.tools.display());
    }
    for place in &wanted.places {
        match place {
            Place::Native => native::measure(wanted, &dir.join("native"), &foreign, &mut report)?,
            Place::Node => guest::measure(wanted, &dir.join("node"), &foreign, &mut report)?,
        }
    }
    if format == Format::Json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}

/// What the rounds came to, and how ours compare.
fn show(place: &str, summaries: &[Summary], report: &mut Report) {
    for summary in summaries {
        let Summary { name, rounds, .. } = summary;
        for (what, of) in summary.parts() {
            report.add(format!("{place}: {name}, {what}, median of {rounds}"), of.median_ms, "ms");
            report.add(format!("{place}: {name}, {what}, least"), of.least_ms, "ms");
        }
    }
    let Some(ours) = summaries.iter().find(|summary| summary.name == launcher::NAME) else { return };
    for other in summaries.iter().filter(|summary| summary.name != launcher::NAME) {
        for ((what, ours), (_, theirs)) in ours.parts().into_iter().zip(other.parts()) {
            let ratio = ours.median_ms / theirs.median_ms.max(f64::MIN_POSITIVE);
            report.add(format!("{place}: ours / {}, {what}, medians", other.name), ratio, "times");
        }
    }
}
