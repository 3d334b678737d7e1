//! What runs on the node.

use procfs::process::all_processes;
use serde_json::{Value, json};

/// Longer command lines are cut: some hold whole programs.
const LONGEST_COMMAND: usize = 256;
/// A fork bomb shall not make an answer nobody can read.
const MOST: usize = 20_000;

/// Every process with its parent, its size and what it was started as.
pub(super) fn list() -> Result<Value, String> {
    let page = procfs::page_size();
    let ticks = procfs::ticks_per_second().max(1);
    let all = all_processes().map_err(|error| format!("cannot list processes: {error}"))?;
    let mut processes: Vec<(i32, Value)> = all
        .flatten()
        .filter_map(|process| {
            // One that ended meanwhile is not listed.
            let stat = process.stat().ok()?;
            let words = process.cmdline().unwrap_or_default().join(" ");
            // The kernel's own threads have no command line.
            let command = if words.is_empty() { format!("[{}]", stat.comm) } else { words };
            let command: String = command.chars().take(LONGEST_COMMAND).collect();
            let cgroup =
                process.cgroups().ok().and_then(|groups| groups.0.into_iter().next()).map(|group| group.pathname);
            Some((
                stat.pid,
                json!({
                    "pid": stat.pid,
                    "parent": stat.ppid,
                    "state": stat.state.to_string(),
                    "threads": stat.num_threads,
                    "resident_bytes": stat.rss.saturating_mul(page),
                    "cpu_seconds": (stat.utime + stat.stime) / ticks,
                    "cgroup": cgroup,
                    "command": command,
                }),
            ))
        })
        .take(MOST)
        .collect();
    processes.sort_by_key(|(pid, _)| *pid);
    Ok(json!({ "processes": processes.into_iter().map(|(_, process)| process).collect::<Vec<_>>() }))
}
