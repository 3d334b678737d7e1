//! Hosted agents join as an operator would have them: by a token made for a node's name, carried in a file.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use super::options::NodePlan;
use crate::http;

/// The master is on this host.
const ANSWER: Duration = Duration::from_secs(10);

/// Ports of each hosted node: they share this host's, and two tasks must not meet on one.
const PORTS_EACH: usize = 100;

/// The arguments of the agent for `node`, with a fresh token in a file only the owner reads.
pub(super) fn arguments(node: &NodePlan, dir: &Path, api: &str, link: &str) -> Result<Vec<String>> {
    let wanted = json!({"name": node.name}).to_string();
    let answer = http::post_json(&format!("{api}/mesolith/v1/tokens"), &wanted, ANSWER)?.success()?.json()?;
    let text = |key: &str| answer[key].as_str().with_context(|| format!("the master's token answer has no {key}"));
    let work_dir = dir.join(&node.name);
    fs::create_dir_all(&work_dir).with_context(|| format!("cannot make {}", work_dir.display()))?;
    let token_file = dir.join(format!("{}.token", node.name));
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&token_file)
        .with_context(|| format!("cannot write {}", token_file.display()))?;
    file.write_all(text("token")?.as_bytes())?;
    let first = 31000 + (node.number - 1) * PORTS_EACH;
    let mut args = vec!["--hosted".to_owned()];
    for (flag, value) in [
        ("--master", link.to_owned()),
        ("--ca", format!("sha256:{}", text("ca_sha256")?)),
        ("--token-file", token_file.display().to_string()),
        ("--work-dir", work_dir.display().to_string()),
        ("--name", node.name.clone()),
        ("--attributes", format!("rack:{}", node.rack)),
        ("--resources", format!("cpus:1;mem:512;disk:1024;ports:[{first}-{}]", first + PORTS_EACH - 1)),
    ] {
        args.extend([flag.to_owned(), value]);
    }
    if !isolation_is_available() {
        args.push("--insecure-no-isolation".to_owned());
    }
    Ok(args)
}

/// Whether this host has the cgroup v2 controllers that limits stand on. Hosted agents refuse to run without.
#[must_use]
pub fn isolation_is_available() -> bool {
    let controllers = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    ["cpu", "memory", "pids"].iter().all(|wanted| controllers.split_whitespace().any(|word| word == *wanted))
}
