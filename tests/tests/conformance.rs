//! Our master answers as a real Mesos did: every recorded dialogue, replayed.
//!
//! `DIALOGUES='subscribe/*'` plays only those of that name.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use anyhow::Result;
use tempfile::TempDir;
use tests::bare_master::BareMaster;
use tests::conformance::deviations::{self, Deviation, matches};
use tests::conformance::dialogue::{Dialogue, Reach};
use tests::conformance::player::{Purpose, play};
use tests::conformance::report::{self, Verdict};
use tests::conformance::{scenarios, store};
use tests::simulated::{Agents, Spec};

/// Dialogues wait more than they compute: this many at once, each on a master of its own.
const AT_ONCE: usize = 6;

/// A master with two agents like those of the master that was recorded.
struct Cluster {
    master: BareMaster,
    _agents: Agents,
    _dir: TempDir,
}

impl Cluster {
    fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        // All on one machine, as those that were recorded.
        let master = BareMaster::start(dir.path(), &["--advertise", "localhost"])?;
        let spec = |name| {
            Spec::new(name, "cpus:8;mem:8192;disk:10000;ports:[31000-32000]")
                .hostname("localhost")
                .attributes("rack:r1;level:10;keys:[1000-1500]")
        };
        let agents = Agents::start(&master, vec![spec("node-1"), spec("node-2")])?;
        Ok(Self { master, _agents: agents, _dir: dir })
    }
}

/// Plays dialogues until none is left. A cluster is kept as long as nobody has used it up.
fn work(waiting: &Mutex<Vec<Dialogue>>, allowed: &[Deviation], done: &Mutex<Vec<Verdict>>) {
    let mut cluster: Option<Cluster> = None;
    loop {
        let Some(dialogue) = waiting.lock().unwrap().pop() else { return };
        if dialogue.reach == Reach::Fresh {
            cluster = None;
        }
        let running = cluster.take().map_or_else(Cluster::start, Ok).unwrap();
        let played = play(&dialogue, &running.master.url, Purpose::Check);
        let verdict = Verdict::of(&played, allowed);
        let clean = verdict.complaints.is_empty() || dialogue.reach == Reach::Own && played.failure.is_none();
        if clean && dialogue.reach != Reach::Fresh {
            cluster = Some(running);
        }
        done.lock().unwrap().push(verdict);
    }
}

fn heading(dialogue: &Dialogue) -> u8 {
    // The last is taken first: those that wait longest begin.
    u8::from(dialogue.reach == Reach::Fresh) + 2 * u8::from(dialogue.name == "subscribe/heartbeats")
}

#[test]
fn our_master_answers_as_mesos_did() {
    let dir = store::committed();
    let (mut dialogues, allowed) = (store::read(&dir).unwrap(), deviations::read(&dir).unwrap());
    let not_yet = report::not_yet(&dir).unwrap();
    for name in not_yet.keys() {
        assert!(
            dialogues.iter().any(|dialogue| dialogue.name == *name),
            "not-yet.txt lists {name}, which is no recording"
        );
    }
    let only = std::env::var("DIALOGUES").unwrap_or_else(|_| "*".to_owned());
    dialogues.retain(|dialogue| matches(&only, &dialogue.name));
    assert!(!dialogues.is_empty(), "no dialogue is called {only}");
    dialogues.sort_by_key(heading);

    let (waiting, done) = (Mutex::new(dialogues), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| work(&waiting, &allowed, &done));
        }
    });
    let mut verdicts = done.into_inner().unwrap();
    verdicts.sort_by(|a, b| a.name.cmp(&b.name));

    let mut wrong = Vec::new();
    for verdict in &verdicts {
        let known = not_yet.get(&verdict.name);
        match (verdict.complaints.is_empty(), known) {
            (true, None) => {}
            (true, Some(_)) => wrong.push(format!("{} passes: take it off not-yet.txt", verdict.name)),
            (false, _) => {
                println!("{}{}", verdict.name, known.map_or(String::new(), |reason| format!(" (not yet: {reason})")));
                for complaint in &verdict.complaints {
                    println!("    {complaint}");
                }
                if known.is_none() {
                    wrong.push(format!("{} does not pass", verdict.name));
                }
            }
        }
    }
    if only == "*" {
        for (index, deviation) in allowed.iter().enumerate() {
            if !verdicts.iter().any(|verdict| verdict.deviations.contains(&index)) {
                wrong.push(format!("no dialogue shows this deviation: {} ({})", deviation.what, deviation.at));
            }
        }
    }
    println!("\n{}", report::table(&verdicts));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_scenario_is_recorded_as_it_is_written_and_nothing_else_is() {
    let requests = |dialogue: &Dialogue| {
        let mut value = serde_json::to_value(dialogue).unwrap();
        value["seen_on"].take();
        for step in value["steps"].as_array_mut().unwrap() {
            step["expect"].take();
        }
        value
    };
    let mut recorded = store::read(&store::committed()).unwrap();
    let mut written = scenarios::all();
    written.sort_by(|a, b| a.name.cmp(&b.name));
    recorded.sort_by(|a, b| a.name.cmp(&b.name));
    let names = |all: &[Dialogue]| all.iter().map(|dialogue| dialogue.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&recorded), names(&written), "`tests/record` makes what is missing");
    for (one, other) in recorded.iter().zip(&written) {
        assert_eq!(requests(one), requests(other), "{} was recorded before its scenario changed", one.name);
        assert!(one.seen_on.starts_with("Apache Mesos "), "{}", one.name);
    }
    assert!(recorded.len() >= 150, "{} dialogues", recorded.len());
}

#[test]
fn the_deviations_are_documented() {
    let documented =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mesos-compatibility.md")).unwrap();
    let table = deviations::rendered(&deviations::read(&store::committed()).unwrap());
    assert!(documented.contains(&table), "docs/mesos-compatibility.md should hold\n\n{table}");
}
