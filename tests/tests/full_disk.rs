//! A master whose disk is full says so, does not lead, and has lost nothing once there is room again.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tests::books::Books;
use tests::framework::Framework;
use tests::http;
use tests::rack::Programs;
use tests::separated::{Separated, inside};
use tests::simulated::{Admission, Agents, Spec};

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
fn a_full_disk_ends_a_reign_until_there_is_room_and_loses_nothing() {
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
    wait_until("the master to say so", || fs::read_to_string(&log).unwrap().contains("the disk is full"));
    println!("answered {} {:?}", answer.status, answer.text().trim());
    // It stays, promises nothing, and does not answer from what it remembers.
    assert!(master.try_wait().unwrap().is_none(), "{}", fs::read_to_string(&log).unwrap());
    let answer = http::get(&format!("{}/state", disk.api()), SOON).unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());

    fs::remove_file(disk.seen("ballast")).unwrap();
    drop(ballast);
    let again = json!({"failover_timeout": 3600, "id": {"value": kept.id}});
    let mut state = Value::Null;
    wait_until("the master to serve again", || {
        let answer = http::get(&format!("{}/state", disk.api()), SOON).unwrap();
        let serves = answer.status == 200;
        if serves {
            state = answer.json().unwrap();
        }
        serves
    });
    let is_kept = |framework: &Value| framework["id"] == kept.id.as_str();
    assert!(state["frameworks"].as_array().unwrap().iter().any(is_kept), "what was promised is not there: {state}");
    Framework::subscribe(&disk.api(), "before", &again).unwrap();
    println!("with room again the master serves, and knows {}", kept.id);
    // What it has written since is as good as ever.
    master.kill().unwrap();
    master.wait().unwrap();
    let mut master = disk.start_master(&log);
    let state = http::get(&format!("{}/state", disk.api()), SOON).unwrap().success().unwrap().json().unwrap();
    assert!(state["frameworks"].as_array().unwrap().iter().any(is_kept), "{state}");
    master.kill().unwrap();
    master.wait().unwrap();
}

/// The other two go on, and the third is one of them again once there is room.
#[test]
fn a_leader_whose_disk_is_full_steps_down_and_takes_part_again_when_there_is_room() {
    inside("a_leader_whose_disk_is_full_steps_down_and_takes_part_again_when_there_is_room", || {
        let dir = tempfile::tempdir()?;
        let small = |data: &Path| {
            let mounted =
                Command::new("mount").args(["-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs"]).arg(data).status()?;
            ensure!(mounted.success(), "{} was not mounted", data.display());
            Ok(())
        };
        let mut masters = Separated::start_on(dir.path(), 3, small)?;
        let played = steps_down(&mut masters, dir.path());
        played.with_context(|| masters.logs())
    })
    .unwrap();
}

fn steps_down(masters: &mut Separated, dir: &Path) -> anyhow::Result<()> {
    let first = masters.wait_leader()?;
    let specs = vec![Spec::new("node-1", "cpus:4;mem:4096;disk:1000")];
    let agents = Agents::admit(masters.process(first)?, specs, Admission::Join)?;
    agents.wait_registered(SOON)?;
    let mut books = Books::open(masters)?;
    books.launch(0, 4)?;
    let ballast = Separated::data(dir, first).join("ballast");
    let mut file = File::create(&ballast)?;
    while file.write_all(&[0; 4096]).is_ok() {}
    // Something to write, until the last block is full too.
    let name = "x".repeat(100_000);
    let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": name}}});
    let began = Instant::now();
    let asked = http::post_json(&format!("{}/api/v1/scheduler", masters.url(first)), &call.to_string(), SOON);
    println!("the leader with the full disk answers {:?}", asked.map(|answer| answer.status));
    let others: Vec<usize> = (0..3).filter(|number| *number != first).collect();
    let second = masters.wait_leader_of(&others)?;
    println!("{second} leads in place of {first} {:?} after the first write that had no room", began.elapsed());
    ensure!(masters.process(first)?.log().contains("the disk is full"), "it does not say so");
    let answer = masters.ask(first, "/state", SOON).context("it answers")?;
    ensure!(answer.status != 200, "it answers {}", answer.status);
    books.return_to(masters)?;
    books.launch(1, 4)?;
    books.close()?;
    // With room again it is as good as the others: without it there is no majority now.
    drop(file);
    fs::remove_file(&ballast)?;
    let began = Instant::now();
    masters.wait_voters(3)?;
    println!("{first} keeps up again {:?} after there was room", began.elapsed());
    masters.kill(second)?;
    books.return_to(masters)?;
    books.launch(2, 4)?;
    books.close()?;
    books.check()
}
