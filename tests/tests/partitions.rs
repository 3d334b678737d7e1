//! Masters that do not hear each other, or only one way, or badly: each in a network of its own.
#![cfg(feature = "nightly")]

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tests::books::Books;
use tests::http;
use tests::separated::{Separated, inside};
use tests::simulated::{Admission, Agents, Spec};

const EVENT: Duration = Duration::from_secs(20);
const MOMENT: Duration = Duration::from_millis(700);

/// One cluster at a time: each wants a disk and a processor.
static TURN: Mutex<()> = Mutex::new(());

/// Masters, two agents, and a framework whose tasks are counted.
struct Scene {
    masters: Separated,
    _agents: Agents,
    books: Books,
    round: usize,
    _dir: tempfile::TempDir,
}

impl Scene {
    fn set(count: usize) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let masters = Separated::start(dir.path(), count)?;
        let leader = masters.wait_leader()?;
        let specs = ["node-1", "node-2"]
            .map(|name| Spec::new(name, "cpus:4;mem:4096;disk:1000").standby_after(Duration::from_millis(200)));
        let agents = Agents::admit(masters.process(leader)?, specs.to_vec(), Admission::Join)?;
        agents.wait_registered(Duration::from_secs(60))?;
        let books = Books::open(&masters)?;
        let mut scene = Self { masters, _agents: agents, books, round: 0, _dir: dir };
        scene.launch()?;
        Ok(scene)
    }

    fn launch(&mut self) -> Result<()> {
        self.round += 1;
        self.books.launch(self.round, 4)
    }

    /// With whoever leads now, some tasks more.
    fn go_on(&mut self) -> Result<()> {
        let deadline = Instant::now() + 3 * EVENT;
        loop {
            self.books.return_to(&self.masters)?;
            match self.launch() {
                // A leader that hears badly may not be one for long.
                Err(_) if Instant::now() < deadline => {}
                done => return done,
            }
        }
    }

    /// All is well again: everybody keeps up, and every task is accounted for once.
    fn end(mut self) -> Result<()> {
        self.masters.heal()?;
        let count = self.others(&[]).len();
        self.masters.wait_voters(count)?;
        let began = Instant::now();
        self.go_on()?;
        self.books.close()?;
        self.books.check()?;
        println!(
            "{} tasks, {} of them never launched; progress {:?} after all was healed",
            self.books.ends.len(),
            self.books.never_launched.len(),
            began.elapsed()
        );
        Ok(())
    }

    fn others(&self, than: &[usize]) -> Vec<usize> {
        (0..)
            .take_while(|number| self.masters.process(*number).is_ok())
            .filter(|number| !than.contains(number))
            .collect()
    }
}

/// A test in a network of its own, with what the masters logged if it fails.
fn scene(test: &str, count: usize, play: impl FnOnce(&mut Scene) -> Result<()>) -> Result<()> {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    inside(test, || {
        let mut scene = Scene::set(count)?;
        let played = play(&mut scene);
        let logs = scene.masters.logs();
        played.and_then(|()| scene.end()).context(logs)
    })
}

/// The leader and one more on one side, three on the other.
#[test]
fn a_minority_promises_nothing_and_a_majority_goes_on() -> Result<()> {
    scene("a_minority_promises_nothing_and_a_majority_goes_on", 5, |scene| {
        let old = scene.masters.wait_leader()?;
        let beside = scene.others(&[old])[0];
        let most = scene.others(&[old, beside]);
        let term = scene.masters.term(old)?;
        scene.masters.part(&[old, beside])?;
        let cut = Instant::now();
        let new = scene.masters.wait_leader_of(&most)?;
        let replaced = cut.elapsed();
        scene.books.return_to(&scene.masters)?;
        let answer = scene.masters.ask(old, "/state", MOMENT);
        println!("replaced after {replaced:?}; a write was acknowledged after {:?}", cut.elapsed());
        ensure!(answer.as_ref().is_none_or(|answer| answer.status != 200), "the old leader answers: {answer:?}");
        ensure!(scene.masters.term(new)? > term);
        // Never again, and to nobody.
        let framework = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "lost"}}});
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            for (number, path) in [(old, "/state"), (old, "/frameworks"), (beside, "/state")] {
                let answer = scene.masters.ask(number, path, EVENT).context("it answers something")?;
                let to_old = format!("{}{path}", &scene.masters.url(old)[5..]);
                let right = answer.status == 503
                    || (number == beside && answer.status == 307 && answer.header("location") == Some(&to_old));
                ensure!(right, "master {number} answers {path} with {} {:?}", answer.status, answer.header("location"));
            }
            let url = format!("{}/api/v1/scheduler", scene.masters.url(old));
            let answer = http::post_json(&url, &framework.to_string(), EVENT)?;
            ensure!(answer.status == 503, "the minority takes a framework: {}", answer.status);
            std::thread::sleep(Duration::from_millis(200));
        }
        // The majority's followers send whoever asks to the new leader.
        for number in most.iter().copied().filter(|number| *number != new) {
            let answer = scene.masters.ask(number, "/state", EVENT).context("it answers")?;
            let there = format!("{}/state", &scene.masters.url(new)[5..]);
            ensure!(answer.status == 307 && answer.header("location") == Some(&there), "{}", answer.status);
        }
        scene.launch()?;
        scene.books.close()?;
        scene.masters.heal()?;
        // The old one follows.
        scene.masters.wait("follower of the one that leads", || {
            let (leader, answer) = (scene.masters.wait_leader().ok()?, scene.masters.ask(old, "/state", EVENT)?);
            let there = format!("{}/state", &scene.masters.url(leader)[5..]);
            (leader == old || (answer.status == 307 && answer.header("location") == Some(&there))).then_some(())
        })
    })
}

#[test]
fn a_follower_that_was_cut_off_unseats_nobody() -> Result<()> {
    scene("a_follower_that_was_cut_off_unseats_nobody", 3, |scene| {
        let leader = scene.masters.wait_leader()?;
        let (term, apart) = (scene.masters.term(leader)?, scene.others(&[leader])[0]);
        scene.masters.part(&[apart])?;
        scene.launch()?;
        scene.books.close()?;
        std::thread::sleep(Duration::from_secs(6));
        let answer = scene.masters.ask(apart, "/state", EVENT).context("it answers")?;
        ensure!(answer.status != 200, "who hears nobody knows nothing");
        scene.masters.heal()?;
        scene.masters.wait_voters(3)?;
        std::thread::sleep(Duration::from_secs(3));
        ensure!(scene.masters.wait_leader()? == leader && scene.masters.term(leader)? == term, "it was unseated");
        Ok(())
    })
}

/// Both ways of hearing only one way, for the leader.
#[test]
fn a_leader_that_is_heard_or_hears_only_is_replaced() -> Result<()> {
    scene("a_leader_that_is_heard_or_hears_only_is_replaced", 3, |scene| {
        for speaks in [true, false] {
            let old = scene.masters.wait_leader()?;
            let others = scene.others(&[old]);
            let way = |other: &usize| if speaks { (*other, old, 100) } else { (old, *other, 100) };
            scene.masters.lose(&others.iter().map(way).collect::<Vec<_>>())?;
            let began = Instant::now();
            let new = scene.masters.wait_leader_of(&others)?;
            println!("it speaks: {speaks}; replaced by {new} after {:?}", began.elapsed());
            scene.go_on()?;
            let answer = scene.masters.ask(old, "/state", EVENT).context("it answers")?;
            ensure!(answer.status != 200, "who was replaced answers");
            scene.books.close()?;
            scene.masters.heal()?;
            scene.masters.wait_voters(3)?;
        }
        Ok(())
    })
}

/// Three of ten packets of the leader are lost, one of ten of everybody else's, and masters are killed meanwhile.
#[test]
fn masters_that_hear_badly_and_are_killed_lose_nothing() -> Result<()> {
    scene("masters_that_hear_badly_and_are_killed_lose_nothing", 3, |scene| {
        for round in 0..8 {
            let leader = scene.masters.wait_leader()?;
            let pairs = (0..3).flat_map(|from| (0..3).map(move |to| (from, to))).filter(|(from, to)| from != to);
            let lossy = |(from, to)| (from, to, if from == leader { 30 } else { 10 });
            scene.masters.lose(&pairs.map(lossy).collect::<Vec<_>>())?;
            scene.go_on()?;
            let killed = if round % 2 == 0 { leader } else { (leader + 1) % 3 };
            scene.masters.kill(killed)?;
            let began = Instant::now();
            let next = scene.masters.wait_leader()?;
            println!("round {round}: {killed} killed, {next} leads after {:?}", began.elapsed());
            scene.masters.restart(killed)?;
        }
        Ok(())
    })
}

/// A leader that stands still while one of the others hears nobody: nobody can lead, until one of them is back.
#[test]
fn a_leader_that_stands_still_beside_one_that_is_cut_off() -> Result<()> {
    scene("a_leader_that_stands_still_beside_one_that_is_cut_off", 3, |scene| {
        for _ in 0..2 {
            let leader = scene.masters.wait_leader()?;
            let others = scene.others(&[leader]);
            scene.masters.part(&others[..1])?;
            scene.launch()?;
            scene.masters.signal(leader, Signal::SIGSTOP)?;
            std::thread::sleep(Duration::from_secs(4));
            ensure!(scene.masters.leader_of(&others).is_none(), "one of three leads");
            scene.masters.heal()?;
            let began = Instant::now();
            let next = scene.masters.wait_leader_of(&others)?;
            println!("{next} leads {:?} after the others hear each other again", began.elapsed());
            // Who stood still knows of nothing, and its agents with it.
            scene.masters.signal(leader, Signal::SIGCONT)?;
            scene.masters.wait_voters(3)?;
            scene.go_on()?;
        }
        Ok(())
    })
}
