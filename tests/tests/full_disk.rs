//! A master whose disk is full says so, stops, and has lost nothing once there is room again.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::framework::Framework;
use tests::http;
use tests::rack::Programs;

const SOON: Duration = Duration::from_secs(30);

/// A file system of six MiB that only the processes in its mount namespace see, and we through /proc.
struct SmallDisk {
    holder: Child,
    mount: PathBuf,
}

impl SmallDisk {
    fn make(mount: &Path) -> Self {
        fs::create_dir_all(mount).unwrap();
        let mut command = Command::new("unshare");
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        let script = r#"mount -t tmpfs -o size=6m,mode=700 tmpfs "$1" && touch "$1/mounted" && exec sleep 600"#;
        let holder = command.args(["--mount", "sh", "-c", script, "sh"]).arg(mount).spawn().unwrap();
        let disk = Self { holder, mount: mount.to_owned() };
        wait_until("the small disk to be mounted", || disk.seen("mounted").exists());
        disk
    }

    /// A file on it, as seen from here.
    fn seen(&self, name: &str) -> PathBuf {
        let inside = self.mount.join(name);
        PathBuf::from(format!("/proc/{}/root{}", self.holder.id(), inside.display()))
    }

    fn start_master(&self, log: &Path) -> Child {
        let log = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.holder.id().to_string(), "--mount"]);
        if !nix::unistd::geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        let ready = self.seen("data/ready.json");
        // The last master's would be taken for this one's.
        let _ = fs::remove_file(&ready);
        let child = command
            .arg("--")
            .arg(Programs::find().unwrap().master)
            .arg("--data")
            .arg(self.mount.join("data"))
            .args(["--http", "127.0.0.1:0", "--link", "127.0.0.1:0", "--advertise", "127.0.0.1", "--insecure-api"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        wait_until("the master to serve", || ready.exists());
        child
    }

    fn api(&self) -> String {
        let ready: Value = serde_json::from_slice(&fs::read(self.seen("data/ready.json")).unwrap()).unwrap();
        format!("http://{}", ready["http"].as_str().unwrap())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

fn wait_until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + SOON;
    while !reached() {
        assert!(Instant::now() < deadline, "waited {SOON:?} for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_full_disk_stops_the_master_with_the_reason_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("master.log");
    let disk = SmallDisk::make(&dir.path().join("disk"));
    let mut master = disk.start_master(&log);
    let kept = Framework::subscribe(&disk.api(), "before", &json!({"failover_timeout": 3600})).unwrap();

    let mut ballast = File::create(disk.seen("ballast")).unwrap();
    let full = loop {
        if let Err(error) = ballast.write_all(&[0; 4096]) {
            break error;
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");

    // More than what may be left of the log's last block.
    let name = "x".repeat(100_000);
    let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": name}}});
    let answer = http::post_json(&format!("{}/api/v1/scheduler", disk.api()), &call.to_string(), SOON).unwrap();
    assert_eq!(answer.status, 503, "what cannot be stored is not promised: {}", answer.text());
    let mut status = None;
    wait_until("the master to stop", || {
        status = master.try_wait().unwrap();
        status.is_some()
    });
    assert!(status.is_some_and(|status| !status.success()));
    let said = fs::read_to_string(&log).unwrap();
    let last = said
        .lines()
        .rev()
        .find(|line| line.starts_with("mesolith-master: "))
        .unwrap_or_else(|| panic!("it ended silently:\n{said}"));
    assert!(last.contains("No space left on device"), "{last}");
    println!("answered {} {:?}; {last}", answer.status, answer.text().trim());

    fs::remove_file(disk.seen("ballast")).unwrap();
    drop(ballast);
    let mut master = disk.start_master(&log);
    let again = json!({"failover_timeout": 3600, "id": {"value": kept.id}});
    let state = http::get(&format!("{}/state", disk.api()), SOON).unwrap().success().unwrap().json().unwrap();
    let frameworks = state["frameworks"].as_array().unwrap();
    let ids: Vec<&str> = frameworks.iter().filter_map(|framework| framework["id"].as_str()).collect();
    assert_eq!(ids, [kept.id.as_str()], "exactly what was promised is there");
    Framework::subscribe(&disk.api(), "before", &again).unwrap();
    println!("with room again the master serves, and knows {}", kept.id);
    master.kill().unwrap();
    master.wait().unwrap();
}
