//! What a node's own processes take, and which there are.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::http;

const ANSWER: Duration = Duration::from_secs(60);
/// Our processes, in this order.
pub(super) const ROLES: [&str; 3] = ["init", "launcher", "agent"];

/// At one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// Resident bytes, by role.
    pub(super) resident: BTreeMap<String, u64>,
    /// How many processes are ours.
    pub(super) own: usize,
    /// How many are tasks'.
    pub(super) of_tasks: usize,
}

impl Sample {
    fn add(&mut self, role: Option<&str>, resident: u64) {
        match role {
            Some(role) => {
                self.own += 1;
                *self.resident.entry(role.to_owned()).or_default() += resident;
            }
            None => self.of_tasks += 1,
        }
    }
}

/// Of a hosted agent and everything below it.
pub(super) fn of_host(supervisor: u32) -> Result<Sample> {
    let mut sample = Sample::default();
    let mut parents = BTreeMap::new();
    for entry in fs::read_dir("/proc").context("cannot list processes")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // One that ended meanwhile is not counted.
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        let mut words = stat.rsplit(") ").next().unwrap_or_default().split(' ');
        if words.next() == Some("Z") {
            continue;
        }
        if let Some(parent) = words.next().and_then(|parent| parent.parse::<u32>().ok()) {
            parents.insert(pid, parent);
        }
    }
    for pid in parents.keys().copied() {
        let mut above = pid;
        while above != supervisor
            && let Some(parent) = parents.get(&above)
        {
            above = *parent;
        }
        if above != supervisor {
            continue;
        }
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let role = if pid == supervisor {
            Some("init")
        } else {
            let is = |role: &str| line.ends_with(format!("\0{role}\0").as_bytes());
            ROLES.into_iter().find(|role| is(role) || is(&format!("{role}-2")))
        };
        sample.add(role, resident(pid));
    }
    Ok(sample)
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    kib.unwrap_or(0_u64) * 1024
}

/// Of a booted node, by its master.
pub(super) fn of_node(api: &str, node: &str) -> Result<Sample> {
    let url = format!("{api}/mesolith/v1/nodes/{node}/api/processes");
    let answer: Value = http::get(&url, ANSWER)?.success()?.json()?;
    let mut sample = Sample::default();
    for process in answer["processes"].as_array().context("the node lists its processes")? {
        let cgroup = process["cgroup"].as_str().unwrap_or_default();
        let resident = process["resident_bytes"].as_u64().unwrap_or(0);
        let service = cgroup.strip_prefix("/mesolith/");
        match service {
            _ if cgroup.starts_with("/tasks") => sample.add(None, resident),
            Some(service) => sample.add(Some(service.trim_end_matches("-2")), resident),
            None if process["pid"] == 1 => sample.add(Some("init"), resident),
            // The kernel's own.
            None => {}
        }
    }
    Ok(sample)
}
