//! Masters in networks of their own, on one bridge, so that what one says to another can be lost.
//!
//! A test that uses them runs [`inside`] a network that goes with it; the test itself, its framework and its agents are
//! on the bridge, and reach every master whatever the masters hear of each other.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::bare_master::BareMaster;
use crate::books::Cluster;
use crate::framework::Framework;
use crate::http;
use crate::rack::Programs;

/// On a busy host a sync of the disk may take seconds.
const ANSWER: Duration = Duration::from_secs(10);
/// For the cluster to agree, on a busy host.
const AGREEMENT: Duration = Duration::from_secs(60);
/// Longer than any test.
const LIFE_SECS: &str = "3600";
/// Set for the test within the network.
const INSIDE: &str = "MESOLITH_TEST_NETWORK";

/// Runs this test again as a process in a network of its own, and with mounts of its own, where it does `body`.
///
/// # Errors
/// The test failed, or namespaces cannot be made.
pub fn inside(test: &str, body: impl FnOnce() -> Result<()>) -> Result<()> {
    if std::env::var(INSIDE).is_ok_and(|name| name == test) {
        return body();
    }
    let mut command = Command::new("unshare");
    if !nix::unistd::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    let command =
        command.args(["--net", "--mount", "--"]).arg(std::env::current_exe()?).args(["--exact", test, "--nocapture"]);
    let output = command.env(INSIDE, test).output().context("cannot start `unshare` (package util-linux)")?;
    // Its summary would be counted as a test's more.
    let text = String::from_utf8_lossy(&output.stdout);
    for line in text.lines().filter(|line| !line.starts_with("test ") && !line.starts_with("running ")) {
        println!("{line}");
    }
    ensure!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    ensure!(text.contains("1 passed"), "there is no test `{test}` to run in a network of its own");
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

fn ip(line: &str) -> Result<()> {
    run(Command::new("ip").args(line.split(' '))).context("`ip` is of the package iproute2")
}

struct Seat {
    /// Keeps the network.
    holder: Child,
    dir: PathBuf,
    program: PathBuf,
    process: Option<BareMaster>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.process = None;
        // It may have ended.
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// A cluster of them, numbered from 0. Dropping it kills all of them.
pub struct Separated {
    seats: Vec<Seat>,
}

impl Separated {
    /// Starts so many with their data below `dir`, one after the other.
    pub fn start(dir: &Path, count: usize) -> Result<Self> {
        Self::start_on(dir, count, |_| Ok(()))
    }

    /// The same; `prepare` sees each data directory before its master does.
    pub fn start_on(dir: &Path, count: usize, prepare: impl Fn(&Path) -> Result<()>) -> Result<Self> {
        ip("link set lo up")?;
        ip("link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0")?;
        ip("addr add 10.77.0.254/24 dev br0")?;
        ip("link set br0 up")?;
        let mut cluster = Self { seats: Vec::new() };
        for number in 0..count {
            fs::create_dir_all(Self::data(dir, number))?;
            prepare(&Self::data(dir, number))?;
            cluster.add(dir, number)?;
        }
        cluster.wait_voters(count)?;
        Ok(cluster)
    }

    /// A master's data directory.
    #[must_use]
    pub fn data(dir: &Path, number: usize) -> PathBuf {
        dir.join(format!("m{number}/master"))
    }

    fn address(number: usize) -> String {
        format!("10.77.0.{}", number + 1)
    }

    /// `http://host:port` of its API.
    #[must_use]
    pub fn url(&self, number: usize) -> String {
        format!("http://{}:5050", Self::address(number))
    }

    fn add(&mut self, dir: &Path, number: usize) -> Result<()> {
        let holder = Command::new("unshare").args(["--net", "sleep", LIFE_SECS]).stdin(Stdio::null()).spawn()?;
        let (pid, dir) = (holder.id(), dir.join(format!("m{number}")));
        let program = dir.join("mesolith-master");
        self.seats.push(Seat { holder, dir: dir.clone(), program: program.clone(), process: None });
        let network = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net"));
        let deadline = Instant::now() + ANSWER;
        while network(&pid.to_string())? == network("self")? {
            ensure!(Instant::now() < deadline, "a network of its own was not made");
            std::thread::sleep(Duration::from_millis(5));
        }
        ip(&format!("link add v{number} type veth peer name eth0 netns {pid}"))?;
        ip(&format!("link set v{number} master br0 up"))?;
        for line in [
            format!("addr add {}/24 dev eth0", Self::address(number)),
            "link set eth0 up".to_owned(),
            "link set lo up".to_owned(),
        ] {
            let inside = ["--target", &pid.to_string(), "--net", "--", "ip"];
            run(Command::new("nsenter").args(inside).args(line.split(' ')))?;
        }
        // It becomes the master: its process is the one that is killed.
        let master = Programs::find()?.master;
        fs::write(&program, format!("#!/bin/sh\nexec nsenter --target {pid} --net -- {} \"$@\"\n", master.display()))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let joining = if number == 0 {
            Vec::new()
        } else {
            let leader = self.wait_leader()?;
            let answer = http::post_json(&format!("{}/mesolith/v1/masters", self.url(leader)), "", ANSWER)?;
            let answer = answer.success()?.json()?;
            let text = |key: &str| answer[key].as_str().map(str::to_owned).with_context(|| format!("no {key}"));
            vec!["--join".to_owned(), text("join")?, "--token".to_owned(), text("token")?]
        };
        self.run(number, &joining)
    }

    fn run(&mut self, number: usize, more: &[String]) -> Result<()> {
        let address = Self::address(number);
        let seat = &mut self.seats[number];
        let arguments = ["--advertise", &address].into_iter().chain(more.iter().map(String::as_str));
        let (http, link) = (format!("{address}:5050"), format!("{address}:5052"));
        let arguments: Vec<&str> = arguments.collect();
        seat.process = Some(BareMaster::start_program(&seat.program, &seat.dir, &http, &link, &arguments)?);
        Ok(())
    }

    /// kill -9, and gone when this returns.
    pub fn kill(&mut self, number: usize) -> Result<()> {
        drop(self.seats[number].process.take().context("it does not run")?);
        Ok(())
    }

    /// Starts a killed one again.
    pub fn restart(&mut self, number: usize) -> Result<()> {
        self.run(number, &[])
    }

    /// SIGSTOP or SIGCONT.
    pub fn signal(&self, number: usize, signal: Signal) -> Result<()> {
        kill(Pid::from_raw(i32::try_from(self.process(number)?.pid())?), signal).context("cannot signal a master")
    }

    /// A running one.
    pub fn process(&self, number: usize) -> Result<&BareMaster> {
        self.seats.get(number).and_then(|seat| seat.process.as_ref()).context("it does not run")
    }

    /// From now on so many of a hundred packets from one to the other are lost, for each of these; nothing else is.
    pub fn lose(&self, losses: &[(usize, usize, u8)]) -> Result<()> {
        let rule = |&(from, to, percent): &(usize, usize, u8)| {
            let some = if percent >= 100 { String::new() } else { format!("numgen random mod 100 < {percent} ") };
            format!("iifname \"v{from}\" oifname \"v{to}\" {some}drop")
        };
        self.rules(&losses.iter().map(rule).collect::<Vec<_>>())
    }

    /// These hear nothing of the others, nor the others of them.
    pub fn part(&self, some: &[usize]) -> Result<()> {
        let (some, others): (Vec<usize>, Vec<usize>) = (0..self.seats.len()).partition(|number| some.contains(number));
        let pairs = some.iter().flat_map(|one| others.iter().map(move |other| (*one, *other)));
        self.lose(&pairs.flat_map(|(one, other)| [(one, other, 100), (other, one, 100)]).collect::<Vec<_>>())
    }

    /// Everybody hears everybody.
    pub fn heal(&self) -> Result<()> {
        self.rules(&[])
    }

    fn rules(&self, rules: &[String]) -> Result<()> {
        let mut text = "table bridge faults\ndelete table bridge faults\ntable bridge faults {\n\
                        chain between { type filter hook forward priority 0;\n"
            .to_owned();
        rules.iter().for_each(|rule| text.push_str(&format!("{rule}\n")));
        text.push_str("}\n}\n");
        let file = std::env::temp_dir().join(format!("mesolith-faults-{}", std::process::id()));
        fs::write(&file, text)?;
        let set = run(Command::new("nft").arg("-f").arg(&file)).context("`nft` is of the package nftables");
        fs::remove_file(&file)?;
        set
    }

    /// What one answers to GET of a path; none if it does not.
    #[must_use]
    pub fn ask(&self, number: usize, path: &str, patience: Duration) -> Option<http::Response> {
        http::get(&format!("{}{path}", self.url(number)), patience).ok()
    }

    /// The members, as one says.
    pub fn standing(&self, number: usize) -> Result<Value> {
        http::get(&format!("{}/mesolith/v1/masters", self.url(number)), ANSWER)?.success()?.json()
    }

    /// The newest term that one knows.
    pub fn term(&self, number: usize) -> Result<u64> {
        self.standing(number)?["term"].as_u64().context("no term")
    }

    /// Which of these leads: it answers `/redirect` with itself.
    #[must_use]
    pub fn leader_of(&self, some: &[usize]) -> Option<usize> {
        some.iter().copied().find(|number| {
            let answer = self.ask(*number, "/redirect", Duration::from_millis(500));
            let itself = format!("//{}:5050", Self::address(*number));
            answer.is_some_and(|answer| answer.status == 307 && answer.header("location") == Some(itself.as_str()))
        })
    }

    /// The same, when there is one.
    pub fn wait_leader_of(&self, some: &[usize]) -> Result<usize> {
        self.wait("a leader", || self.leader_of(some))
    }

    /// Whichever leads.
    pub fn wait_leader(&self) -> Result<usize> {
        let running = |number: &usize| self.seats[*number].process.is_some();
        let all: Vec<usize> = (0..self.seats.len()).filter(running).collect();
        self.wait_leader_of(&all)
    }

    /// Until so many vote, and all of them have what the leader has.
    pub fn wait_voters(&self, count: usize) -> Result<Value> {
        self.wait(&format!("{count} voters that keep up"), || {
            let standing = self.standing(self.wait_leader().ok()?).ok()?;
            let keeps_up = |seat: &&Value| seat["voter"] == true && seat["lag"].as_u64().is_some_and(|lag| lag < 8);
            (standing["members"].as_array()?.iter().filter(keeps_up).count() == count).then_some(standing)
        })
    }

    /// Until it is so.
    pub fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> Result<T> {
        let deadline = Instant::now() + AGREEMENT;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            ensure!(Instant::now() < deadline, "no {what} within {AGREEMENT:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of every log, for whoever has to find out.
    #[must_use]
    pub fn logs(&self) -> String {
        let of = |(number, seat): (usize, &Seat)| {
            let text = fs::read_to_string(seat.dir.join("master.log")).unwrap_or_default();
            let tail: Vec<&str> = text.lines().rev().take(60).collect();
            format!("==== master {number}\n{}\n", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
        };
        self.seats.iter().enumerate().map(of).collect()
    }
}

impl Cluster for Separated {
    fn subscribe(&self, name: &str, more: &Value) -> Result<Framework> {
        let deadline = Instant::now() + AGREEMENT;
        let mut refused = None;
        while Instant::now() < deadline {
            for number in 0..self.seats.len() {
                if self.leader_of(&[number]).is_none() {
                    continue;
                }
                match Framework::subscribe(&self.url(number), name, more) {
                    Ok(framework) => return Ok(framework),
                    Err(error) => refused = Some(error),
                }
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("nobody lets the framework subscribe: {refused:?}")
    }
}
