//! Masters are upgraded one by one: from the commit before this one, with everything they have written.
#![cfg(feature = "nightly")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests::framework::Framework;
use tests::http;
use tests::masters::Masters;
use tests::rack::{Programs, repository};
use tests::simulated::{Admission, Agents, Spec};

const PATIENCE: Duration = Duration::from_secs(60);

fn run(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The master of the last commit, or of the one before it when nothing has changed since: built apart, once.
fn previous() -> Result<(String, PathBuf)> {
    let repository = repository();
    let git = |arguments: &[&str]| run(Command::new("git").arg("-C").arg(&repository).args(arguments));
    let changed = !git(&["status", "--porcelain"])?.is_empty();
    let commit = git(&["rev-parse", if changed { "HEAD" } else { "HEAD^" }])?;
    let place = repository.join(".lab/previous");
    let tree = place.join("tree");
    std::fs::create_dir_all(&place)?;
    if tree.exists() {
        run(Command::new("git").arg("-C").arg(&tree).args(["checkout", "--quiet", "--detach", &commit]))?;
    } else {
        git(&["worktree", "prune"])?;
        git(&["worktree", "add", "--quiet", "--detach", &tree.to_string_lossy(), &commit])?;
    }
    let target = place.join("target");
    run(Command::new("cargo").current_dir(&tree).env("CARGO_TARGET_DIR", &target).args([
        "build",
        "--quiet",
        "-p",
        "master",
        "--bin",
        "mesolith-master",
    ]))?;
    let program = target.join("x86_64-unknown-linux-gnu/debug/mesolith-master");
    ensure!(program.exists(), "{} was not built", program.display());
    Ok((commit, program))
}

struct Cluster {
    masters: Masters,
    framework: Option<String>,
    stream: Option<Framework>,
    launched: usize,
}

impl Cluster {
    fn leader_url(&self) -> Result<String> {
        Ok(self.masters.url(self.masters.wait_leader()?))
    }

    /// With whoever leads now, as the same framework.
    fn subscribe(&mut self) -> Result<()> {
        let mut info = json!({"failover_timeout": 3600.0, "checkpoint": true});
        if let Some(id) = &self.framework {
            info["id"] = json!({"value": id});
        }
        let stream = self.masters.subscribe("upgraded", &info)?;
        self.framework = Some(stream.id.clone());
        self.stream = Some(stream);
        Ok(())
    }

    /// A task that stays.
    fn launch(&mut self) -> Result<()> {
        let stream = self.stream.as_ref().context("it is subscribed")?;
        let offers = stream.wait("OFFERS", PATIENCE)?;
        let offer = &offers["offers"]["offers"][0];
        let id = format!("t{}", self.launched);
        self.launched += 1;
        let task = json!({"name": id, "task_id": {"value": id}, "agent_id": offer["agent_id"], "command": {"value": "cat"},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                          {"name": "mem", "type": "SCALAR", "scalar": {"value": 16}}]});
        let ids: Vec<&Value> =
            offers["offers"]["offers"].as_array().into_iter().flatten().map(|offer| &offer["id"]).collect();
        stream.call(
            "ACCEPT",
            &json!({"offer_ids": ids[..1], "filters": {"refuse_seconds": 0.0},
                "operations": [{"type": "LAUNCH", "launch": {"task_infos": [task]}}]}),
        )?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            ensure!(Instant::now() < deadline, "{id} does not run");
            let update = stream.wait("UPDATE", PATIENCE)?;
            // Before the acknowledgement's answer another one may come.
            stream.acknowledge(&update)?;
            let status = &update["update"]["status"];
            if status["task_id"]["value"] == id.as_str() && status["state"] == "TASK_RUNNING" {
                return Ok(());
            }
        }
    }

    fn check(&self) -> Result<()> {
        let url = self.leader_url()?;
        let state = http::get(&format!("{url}/state"), PATIENCE)?.success()?.json()?;
        let framework = &state["frameworks"][0];
        ensure!(framework["id"].as_str() == self.framework.as_deref(), "{framework}");
        let running = |task: &&Value| task["state"] == "TASK_RUNNING";
        let count = framework["tasks"].as_array().into_iter().flatten().filter(running).count();
        ensure!(count == self.launched, "{count} of {} tasks run", self.launched);
        let weights = http::get(&format!("{url}/weights"), PATIENCE)?.success()?.json()?;
        ensure!(weights == json!([{"role": "web", "weight": 3.5}]), "{weights}");
        Ok(())
    }
}

fn upgrade_one(cluster: &mut Cluster, key: usize, program: &Path) -> Result<()> {
    cluster.masters.kill(key)?;
    // One that is back in a moment may go on leading in its old term.
    cluster.masters.wait_leader()?;
    cluster.masters.set_program(program);
    cluster.masters.restart(key)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let standing = cluster.masters.wait_voters(3)?;
        let members = standing["members"].as_array().cloned().unwrap_or_default();
        if members.iter().all(|member| member["lag"].as_u64().is_some_and(|lag| lag < 4)) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "a master that was upgraded stays behind: {standing}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn masters_of_the_previous_commit_are_replaced_one_by_one_and_nothing_is_lost() -> Result<()> {
    let (commit, old) = previous()?;
    println!("from the master of {commit}");
    let dir = tempfile::tempdir()?;
    // Snapshots of the old version are read as well as its log.
    let masters = Masters::start_program(&old, dir.path(), 3, &["--snapshot-every", "16"])?;
    let mut cluster = Cluster { masters, framework: None, stream: None, launched: 0 };
    let result = rolling(&mut cluster);
    result.with_context(|| cluster.masters.logs())
}

fn rolling(cluster: &mut Cluster) -> Result<()> {
    let leader = cluster.masters.wait_leader()?;
    let specs = ["node-1", "node-2"].map(|name| Spec::new(name, "cpus:4;mem:4096;disk:1000"));
    let agents = Agents::admit(cluster.masters.process(leader)?, specs.to_vec(), Admission::Join)?;
    agents.wait_registered(PATIENCE)?;
    let url = cluster.leader_url()?;
    let weights =
        json!({"type": "UPDATE_WEIGHTS", "update_weights": {"weight_infos": [{"role": "web", "weight": 3.5}]}});
    http::post_json(&format!("{url}/api/v1"), &weights.to_string(), PATIENCE)?.success()?;
    cluster.subscribe()?;
    for _ in 0..3 {
        cluster.launch()?;
    }
    cluster.check()?;
    let new = Programs::find()?.master;
    let followers = cluster.masters.keys().into_iter().filter(|key| *key != leader);
    for key in followers.collect::<Vec<_>>() {
        upgrade_one(cluster, key, &new)?;
        // The old version leads, the new one follows.
        ensure!(cluster.masters.wait_leader()? == leader, "the leader of the old version was unseated");
        cluster.launch()?;
        cluster.check()?;
    }
    let before = agents.registrations();
    upgrade_one(cluster, leader, &new)?;
    ensure!(cluster.masters.wait_leader()? != leader, "the last one leads without having been elected");
    agents.wait_registered_since(&before, PATIENCE)?;
    cluster.subscribe()?;
    cluster.launch()?;
    cluster.check()
}
