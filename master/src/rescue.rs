//! A cluster in a file, and what is done when most masters are lost.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use master_core::State;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::clock::unix_ms;
use crate::cluster::{Place, SHARED_FILES};
use crate::config::{RecoverArgs, SnapshotCommand};
use crate::raft::offline::{self, Content};
use crate::raft::{FOUNDER, Member};
use crate::{atomic_file, token_command};

const MAGIC: &[u8; 8] = b"MSARCH\x00\x01";
const DIGEST: usize = 32;

/// Everything a cluster needs to begin again on new machines.
#[derive(Deserialize, Serialize)]
struct Archive {
    /// When it was saved: milliseconds since 1970.
    saved_ms: u64,
    /// `State::to_snapshot`'s.
    state: Vec<u8>,
    /// The authority and who may use the API, by name.
    files: BTreeMap<String, String>,
}

/// `mesolith-master snapshot`.
///
/// # Errors
/// Says what to do about it.
pub async fn snapshot(command: &SnapshotCommand) -> anyhow::Result<()> {
    match command {
        SnapshotCommand::Save { data, file } => save(data, file).await,
        SnapshotCommand::Restore { data, file } => restore(data, file),
        SnapshotCommand::Inspect { file } => inspect(file),
    }
}

async fn save(data: &Path, file: &Path) -> anyhow::Result<()> {
    let state = match crate::lock(data) {
        // Nobody runs on it: as the log says.
        Ok(_lock) => offline::read(&data.join("raft"))?.state.to_snapshot(),
        Err(_) => {
            let (_, answer) = token_command::ask(data, Method::GET, "/mesolith/v1/snapshot", None).await?;
            STANDARD.decode(answer["state"].as_str().context("the master's answer has no state")?)?
        }
    };
    let mut files = BTreeMap::new();
    for name in ["ca.pem", "ca.key"].into_iter().chain(SHARED_FILES) {
        let path = data.join(name);
        if let Some(bytes) = atomic_file::read(&path).with_context(|| format!("cannot read {}", path.display()))? {
            files.insert(name.to_owned(), String::from_utf8(bytes)?);
        }
    }
    ensure!(files.contains_key("ca.key"), "{} holds no certificate authority", data.display());
    let mut bytes = MAGIC.to_vec();
    bytes.extend(rmp_serde::to_vec_named(&Archive { saved_ms: unix_ms(), state, files })?);
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    atomic_file::write(file, &bytes, 0o600).with_context(|| format!("cannot write {}", file.display()))?;
    println!(
        "{}: {} bytes. It holds the authority's key: keep it as secret as the data directory.",
        file.display(),
        bytes.len()
    );
    Ok(())
}

fn read(file: &Path) -> anyhow::Result<(Archive, State)> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let content = bytes.len().checked_sub(DIGEST).map(|at| bytes.split_at(at));
    let content = content.filter(|(content, digest)| Sha256::digest(content).as_slice() == *digest);
    let archive = content.and_then(|(content, _)| content.strip_prefix(MAGIC));
    let archive = archive.with_context(|| format!("{} is no saved cluster, or damaged", file.display()))?;
    let archive: Archive = rmp_serde::from_slice(archive)?;
    let state = State::from_snapshot(&archive.state)?;
    Ok((archive, state))
}

fn restore(data: &Path, file: &Path) -> anyhow::Result<()> {
    let (archive, state) = read(file)?;
    if data.join("raft").exists() || data.join("ca.key").exists() {
        bail!("{} holds a cluster already: restore into a new directory", data.display());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(data)?;
    for (name, text) in &archive.files {
        let known = name == "ca.pem" || name == "ca.key" || SHARED_FILES.contains(&name.as_str());
        ensure!(known, "{} holds a file of another version: {name}", file.display());
        atomic_file::write(&data.join(name), text.as_bytes(), if name == "ca.pem" { 0o644 } else { 0o600 })?;
    }
    let (agents, frameworks) = (state.agents.len(), state.frameworks.len());
    offline::write_alone(&data.join("raft"), &Content::of(state), FOUNDER, Member::default())?;
    println!("Restored {agents} agents and {frameworks} frameworks as a cluster of one.");
    println!("Next: mesolith-master --data {}, then `mesolith masters add` for the others.", data.display());
    println!("No master of the old cluster may run any more: agents and frameworks would find two.");
    Ok(())
}

fn inspect(file: &Path) -> anyhow::Result<()> {
    let (archive, state) = read(file)?;
    let summary = serde_json::json!({
        "saved_ms": archive.saved_ms,
        "cluster": state.cluster,
        "agents": state.agents.len(),
        "frameworks": state.frameworks.len(),
        "tasks": state.tasks().count(),
        "completed_frameworks": state.completed_frameworks.len(),
        "files": archive.files.keys().collect::<Vec<_>>(),
    });
    println!("{}", serde_json::to_string_pretty(&summary)?);
    Ok(())
}

/// `mesolith-master recover`: makes this directory the only master, with all it has.
///
/// # Errors
/// A master runs on it, or it cannot be read.
pub fn recover(args: &RecoverArgs) -> anyhow::Result<()> {
    let data = &args.data;
    let directory = data.join("raft");
    ensure!(directory.is_dir(), "{} holds no master's log", data.display());
    let _lock = crate::lock(data)?;
    let content = offline::read(&directory)?;
    let id = Place::read(data)?.map_or(FOUNDER, |place| place.id);
    let others: Vec<String> = content
        .members
        .iter()
        .filter(|(other, _)| **other != id)
        .map(|(id, one)| format!("{id} ({})", one.addr))
        .collect();
    eprintln!(
        "WARNING: this gives up the other masters: {}.",
        if others.is_empty() { "none".to_owned() } else { others.join(", ") }
    );
    eprintln!(
        "  What they had acknowledged and this one has not got is LOST, and what nobody had acknowledged may come true."
    );
    eprintln!(
        "  If one of them still runs, or is ever started again, there are TWO clusters that both give orders to the agents."
    );
    if !args.others_are_gone_for_good {
        bail!("nothing was changed. If the others are gone for good, say so: --others-are-gone-for-good");
    }
    let member = content.members.get(&id).cloned().unwrap_or_default();
    offline::write_alone(&directory, &content, id, member)?;
    let last =
        content.last.map_or_else(|| "an empty log".to_owned(), |(index, term)| format!("entry {index} of term {term}"));
    println!("Master {id} is now a cluster of one, as of {last}.");
    println!("Next: start it, and `mesolith masters add` for new ones. Remove the data directories of the others.");
    Ok(())
}
