//! Any master may die: the others go on within a second or two, and every task is accounted for once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::books::Books;
use tests::http;
use tests::masters::Masters;
use tests::simulated::{Admission, Agents, Spec};

const KILLS: usize = 20;
const EVENT: Duration = Duration::from_secs(20);

fn agents(masters: &Masters) -> Result<Agents> {
    let leader = masters.wait_leader()?;
    let specs = ["node-1", "node-2"].map(|name| Spec::new(name, "cpus:4;mem:4096;disk:1000"));
    let agents = Agents::admit(masters.process(leader)?, specs.to_vec(), Admission::Join)?;
    agents.wait_registered(Duration::from_secs(60))?;
    Ok(agents)
}

/// Agents that stand by with the master that is to lead next need not connect, nor tell it what it knows.
#[test]
fn agents_that_stand_by_are_back_when_the_next_one_leads() -> Result<()> {
    const AGENTS: usize = 200;
    let dir = tempfile::tempdir()?;
    let mut masters = Masters::start(dir.path(), 3, &[])?;
    let specs = (0..AGENTS).map(|number| {
        Spec::new(&format!("node-{number}"), "cpus:4;mem:4096;disk:1000").standby_after(Duration::from_millis(200))
    });
    let leader = masters.wait_leader()?;
    let agents = Agents::admit(masters.process(leader)?, specs.collect(), Admission::Signed)?;
    agents.wait_registered(Duration::from_secs(60))?;
    let result = (|| {
        for round in 1..=3 {
            let deadline = Instant::now() + Duration::from_secs(60);
            while agents.count().standing_by < AGENTS {
                ensure!(Instant::now() < deadline, "{:?}", agents.count());
                std::thread::sleep(Duration::from_millis(50));
            }
            let (leader, before) = (masters.wait_leader()?, agents.registrations());
            let term = masters.term(leader)?;
            masters.kill(leader)?;
            agents.wait_registered_since(&before, Duration::from_secs(60))?;
            let count = agents.count();
            let back: usize = count.registered.range(term + 1..).map(|(_, count)| count).sum();
            ensure!(back == AGENTS, "round {round}: {count:?}");
            ensure!(count.told == AGENTS as u64, "round {round}: they register anew: {count:?}");
            masters.restart(leader)?;
            masters.wait_voters(3)?;
        }
        Ok(())
    })();
    explained(&masters, result)
}

/// Shows what the masters logged when something failed.
fn explained<T>(masters: &Masters, result: Result<T>) -> Result<T> {
    result.with_context(|| masters.logs())
}

#[test]
fn twenty_leaders_are_killed_and_every_task_is_accounted_for_once() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut masters = Masters::start(dir.path(), 3, &[])?;
    let _agents = agents(&masters)?;
    let mut books = Books::open(&masters)?;
    let mut times = Vec::new();
    for round in 0..KILLS {
        books.launch(round, 4)?;
        let leader = explained(&masters, masters.wait_leader())?;
        let began = Instant::now();
        masters.kill(leader)?;
        let result = books.return_to(&masters);
        explained(&masters, result)?;
        let subscribed = began.elapsed();
        let offer = books.offer();
        let offer = explained(&masters, offer)?;
        books.offers.push(offer);
        println!("kill {round}: subscribed after {subscribed:?}, first offer after {:?}", began.elapsed());
        ensure!(subscribed < Duration::from_secs(3), "{}", masters.logs());
        times.push(began.elapsed());
        let restarted = masters.restart(leader);
        explained(&masters, restarted)?;
    }
    let closed = books.close();
    explained(&masters, closed)?;
    let checked = books.check();
    explained(&masters, checked)?;
    // The master's own books agree. What is not acknowledged yet is among the tasks.
    let leader = masters.wait_leader()?;
    let state = http::get(&format!("{}/state", masters.url(leader)), EVENT)?.success()?.json()?;
    let listed = ["completed_tasks", "tasks"].map(|list| state["frameworks"][0][list].as_array().cloned());
    let listed: Vec<Value> = listed.into_iter().flatten().flatten().collect();
    let known: BTreeSet<&str> = listed.iter().filter_map(|task| task["id"].as_str()).collect();
    ensure!(known.len() == listed.len(), "a task is listed twice");
    ensure!(
        known.len() + books.never_launched.len() == books.ends.len(),
        "{} of {} known, {} never launched",
        known.len(),
        books.ends.len(),
        books.never_launched.len()
    );
    times.sort();
    let (median, most) = (times[times.len() / 2], times[times.len() - 1]);
    println!(
        "{} tasks, {} of them never launched; from kill to first offer: median {median:?}, most {most:?}",
        books.ends.len(),
        books.never_launched.len()
    );
    ensure!(most < Duration::from_secs(10), "a failover took {most:?}");
    Ok(())
}

#[test]
fn a_leader_that_stands_still_is_replaced_and_follows_when_it_returns() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let masters = Masters::start(dir.path(), 3, &[])?;
    let _agents = agents(&masters)?;
    let mut books = Books::open(&masters)?;
    books.launch(0, 4)?;
    let stopped = masters.wait_leader()?;
    masters.signal(stopped, Signal::SIGSTOP)?;
    let began = Instant::now();
    // It may answer for a moment more.
    let next = loop {
        let next = masters.wait_leader();
        if next.as_ref().map_or(true, |next| *next != stopped) || began.elapsed() > EVENT {
            break explained(&masters, next);
        }
    };
    masters.signal(stopped, Signal::SIGCONT)?;
    println!("a stopped leader was replaced after {:?}", began.elapsed());
    ensure!(next? != stopped, "a process that stands still leads");
    // The one that returns sends whoever asks to the new one.
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let leader = explained(&masters, masters.wait_leader())?;
        let answer = http::get(&format!("{}/state", masters.url(stopped)), EVENT)?;
        if leader != stopped && answer.status == 307 {
            ensure!(answer.header("location") == Some(format!("{}/state", &masters.url(leader)[5..]).as_str()));
            break;
        }
        if Instant::now() > deadline {
            bail!("the old leader answers {}\n{}", answer.status, masters.logs());
        }
    }
    books.return_to(&masters)?;
    let closed = books.close();
    explained(&masters, closed)?;
    Ok(())
}

#[test]
fn a_torn_last_record_costs_nothing_that_was_acknowledged() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut masters = Masters::start(dir.path(), 3, &[])?;
    let _agents = agents(&masters)?;
    let mut books = Books::open(&masters)?;
    books.launch(0, 4)?;
    books.close()?;
    let leader = masters.wait_leader()?;
    masters.kill(leader)?;
    let raft = masters.data(leader).join("raft");
    let logs = std::fs::read_dir(&raft)?.filter_map(Result::ok).map(|entry| entry.path());
    let newest = logs.filter(|path| path.to_string_lossy().contains("/log-")).max().context("there is a log")?;
    let bytes = std::fs::read(&newest)?;
    std::fs::write(&newest, &bytes[..bytes.len() - 7])?;
    explained(&masters, masters.wait_leader())?;
    let restarted = masters.restart(leader);
    explained(&masters, restarted)?;
    ensure!(masters.process(leader)?.log().contains("it was cut off"), "nobody noticed");
    let caught_up = masters.standing()?;
    ensure!(caught_up["members"].as_array().is_some_and(|members| members.len() == 3));
    Ok(())
}

#[test]
fn a_damaged_disk_takes_no_part_and_says_so() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut masters = Masters::start(dir.path(), 3, &[])?;
    let leader = masters.wait_leader()?;
    let other = (0..3).find(|key| *key != leader).context("three masters")?;
    masters.kill(other)?;
    let raft = masters.data(other).join("raft");
    let logs = std::fs::read_dir(&raft)?.filter_map(Result::ok).map(|entry| entry.path());
    let log = logs.filter(|path| path.to_string_lossy().contains("/log-")).max().context("there is a log")?;
    let mut bytes = std::fs::read(&log)?;
    bytes[60] ^= 0x20;
    std::fs::write(&log, bytes)?;
    let refused = masters.restart(other).err().context("a master with a damaged log started")?;
    ensure!(format!("{refused:#}").contains("takes no part"), "{refused:#}");
    ensure!(masters.leader()? == leader);
    Ok(())
}

#[test]
fn tokens_and_revocations_outlive_the_leader() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut masters = Masters::start(dir.path(), 3, &[])?;
    let first = masters.wait_leader()?;
    let post = |masters: &Masters, key: usize, path: &str, body: &Value| {
        http::post_json(&format!("{}{path}", masters.url(key)), &body.to_string(), EVENT)
    };
    let make = |masters: &Masters, key: usize, name: &str| -> Result<String> {
        let made = post(masters, key, "/mesolith/v1/tokens", &json!({"name": name}))?.success()?.json()?;
        Ok(made["token"].as_str().context("there is a token")?.to_owned())
    };
    let (token, revoked) = (make(&masters, first, "node-1")?, make(&masters, first, "node-2")?);
    post(&masters, first, "/mesolith/v1/revocations/nodes/node-2", &json!({"reason": "stolen"}))?.success()?;
    let issued = post(&masters, first, "/mesolith/v1/api-tokens", &json!({"principal": "ci"}))?.success()?.json()?;
    masters.kill(first)?;
    let leader = explained(&masters, masters.wait_leader())?;
    let follower = (0..3).find(|key| *key != leader && *key != first).context("one follows")?;
    // Any master lets in, and keeps out.
    let joined = Agents::join_once(masters.process(follower)?, "node-1", &token);
    explained(&masters, joined)?;
    let again = Agents::join_once(masters.process(leader)?, "node-1", &token).err().context("a token joined twice")?;
    ensure!(format!("{again:#}").contains("used already"), "{again:#}");
    let refused = Agents::join_once(masters.process(follower)?, "node-2", &revoked).err().context("node-2 joined")?;
    ensure!(format!("{refused:#}").contains("stolen"), "{refused:#}");
    let tokens = http::get(&format!("{}/mesolith/v1/api-tokens", masters.url(leader)), EVENT)?.success()?.json()?;
    ensure!(tokens["tokens"][0]["id"] == issued["id"], "{tokens}");
    // A token of now is good at a follower at once.
    let token = make(&masters, leader, "node-3")?;
    let joined = Agents::join_once(masters.process(follower)?, "node-3", &token);
    explained(&masters, joined)?;
    // Whoever asks a follower is sent on, to the path it asked for.
    let answer = http::get(&format!("{}/master/state?framework_id=x", masters.url(follower)), EVENT)?;
    let there = format!("{}/master/state?framework_id=x", &masters.url(leader)[5..]);
    ensure!(answer.status == 307 && answer.header("location") == Some(there.as_str()), "{answer:?}");
    Ok(())
}

#[test]
fn members_come_and_go_while_tasks_run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut masters = Masters::start(dir.path(), 1, &[])?;
    let _agents = agents(&masters)?;
    let mut books = Books::open(&masters)?;
    books.launch(0, 4)?;
    masters.add(&[])?;
    let learner = masters.add(&["--learner"])?;
    let standing = masters.wait_voters(2)?;
    let seats = standing["members"].as_array().context("members are a list")?.clone();
    ensure!(seats.len() == 3, "{standing}");
    let of = |key: usize| {
        let http = masters.url(key)[7..].to_owned();
        let seat = seats.iter().find(|seat| seat["member"]["http"] == http.as_str());
        seat.and_then(|seat| seat["id"].as_u64()).context("it has a seat")
    };
    let (learner_id, founder_id) = (of(learner)?, of(0)?);
    let leader = masters.url(masters.leader()?);
    let post = |path: &str| http::post_json(&format!("{leader}/mesolith/v1/masters/{path}"), "", EVENT);
    post(&format!("{learner_id}/promote"))?.success()?;
    masters.wait_voters(3)?;
    ensure!(post("99/promote")?.status == 404);
    // The founder goes: the framework and the tasks stay.
    http::request("DELETE", &format!("{leader}/mesolith/v1/masters/{founder_id}"), &[], None, EVENT)?.success()?;
    masters.kill(0)?;
    explained(&masters, masters.wait_voters(2))?;
    let result = books.return_to(&masters);
    explained(&masters, result)?;
    books.launch(1, 4)?;
    let closed = books.close();
    explained(&masters, closed)?;
    ensure!(books.never_launched.is_empty());
    let returned = masters.restart(0).err().context("a removed master came back")?;
    ensure!(format!("{returned:#}").contains("removed"), "{returned:#}");
    Ok(())
}
