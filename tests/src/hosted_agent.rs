//! A hosted node as a process of this host, without isolation.

#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // a panic is how a test fails, in its parts too

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::bare_master::BareMaster;
use crate::rack::Programs;

const SOON: Duration = Duration::from_secs(30);

/// The supervising process of a hosted node.
pub struct HostedAgent {
    process: Child,
    log: PathBuf,
}

impl HostedAgent {
    /// Starts it and waits until it is registered.
    pub fn start(dir: &Path, master: &BareMaster) -> Self {
        Self::start_with(dir, master, "cpus:1;mem:256;disk:256")
    }

    /// The same, offering this.
    pub fn start_with(dir: &Path, master: &BareMaster, resources: &str) -> Self {
        Self::start_told(dir, master, resources, &[])
    }

    /// The same, with more options.
    pub fn start_told(dir: &Path, master: &BareMaster, resources: &str, more: &[&str]) -> Self {
        Self::start_isolated(dir, master, resources, &["--insecure-no-isolation"], more)
    }

    /// The same, with tasks kept apart as these options say; without any in containers, which takes a host that can.
    pub fn start_isolated(dir: &Path, master: &BareMaster, resources: &str, isolation: &[&str], more: &[&str]) -> Self {
        let (token, ca) = master.token("hosted-1").unwrap();
        let token_file = dir.join("token");
        fs::write(&token_file, token).unwrap();
        fs::set_permissions(&token_file, fs::Permissions::from_mode(0o600)).unwrap();
        let log = dir.join("agent.log");
        let file = File::create(&log).unwrap();
        let process = Command::new(Programs::find().unwrap().agent)
            .args(["--hosted", "--name", "hosted-1"])
            .args(isolation)
            .args(if more.contains(&"--attributes") { &[][..] } else { &["--attributes", "rack:r1"][..] })
            .args(["--resources", resources, "--master", &master.link, "--ca", &ca, "--token-file"])
            .arg(&token_file)
            .arg("--work-dir")
            .arg(dir.join("work"))
            .args(more)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .expect("mesolith-agent has been built beside this test");
        let agent = Self { process, log };
        let deadline = Instant::now() + SOON;
        while master.agents().unwrap().is_empty() {
            assert!(Instant::now() < deadline, "it did not register:\n{}\nmaster:\n{}", agent.said(), master.log());
            std::thread::sleep(Duration::from_millis(50));
        }
        agent
    }

    /// The supervising process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What it logged.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// The pid of its child of that name.
    pub fn child(&self, name: &str) -> Option<u32> {
        let own = self.process.id();
        fs::read_dir("/proc").unwrap().flatten().find_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            (parent(pid)? == own && line.ends_with(format!("\0{name}\0").as_bytes())).then_some(pid)
        })
    }

    /// SIGTERM; gives whether it ended well.
    pub fn stop(&mut self) -> bool {
        kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.success();
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for HostedAgent {
    fn drop(&mut self) {
        // In good order even when the test has failed: its tasks are processes of this host.
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = kill(Pid::from_raw(self.process.id().cast_signed()), Signal::SIGTERM);
            let deadline = Instant::now() + SOON;
            while Instant::now() < deadline && self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// The parent of a process that lives; a zombie does not.
pub fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut words = stat.rsplit(") ").next()?.split(' ');
    (words.next()? != "Z").then(|| words.next()?.parse().ok())?
}
