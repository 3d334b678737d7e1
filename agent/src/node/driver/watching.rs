//! Looks at what tasks take that the kernel does not bound, and ends those that take too much.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::agent::Input;
use agent_core::cmdline::Quota;
use agent_core::launch::{disk_limit_bytes, volume_directory};
use agent_core::overrun::Overrun;
use agent_core::record::Record;
use api::ContainerId;
use api::v1::resources_from_wire;

use super::Driver;
use crate::node::disk_usage::disk_usage;
use crate::node::events::Event;
use crate::node::listeners::Listeners;
use crate::node::projects;
use crate::node::statistics::{Running, Seen, cgroup_of};

/// How often disks are looked at. A look takes as long as there are files, so the next one waits for it.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// What a look found.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    seen: BTreeMap<ContainerId, Seen>,
    overruns: Vec<(ContainerId, Overrun)>,
}

/// What of a task is looked at.
struct Watch {
    container: ContainerId,
    /// On the node's own network: its cgroup, and the ports it was given.
    on_host: Option<(PathBuf, api::Ranges)>,
    sandbox: PathBuf,
    limit: Option<u64>,
    /// Id, place, size.
    volumes: Vec<(String, PathBuf, u64)>,
}

impl Driver {
    /// The containers that run.
    pub(super) fn running(&self) -> Vec<Running> {
        let site = self.supervision.agent.site();
        let one = |record: &Record| Running {
            cgroup: cgroup_of(&site.cgroup_parent, record.container.as_str()),
            networks: agent_core::agent::networks(site, record),
            own_network: agent_core::agent::has_own_network(record),
            seen: self.seen.get(&record.container).cloned().unwrap_or_default(),
            record: Box::new(record.clone()),
        };
        self.supervision.agent.records().map(one).collect()
    }

    /// Begins a look, unless one is under way.
    pub(super) fn watch(&mut self) {
        if self.watching.as_ref().is_some_and(|watching| !watching.is_finished()) {
            return;
        }
        let work_dir = self.settings.work_dir.clone();
        let parent = &self.supervision.agent.site().cgroup_parent;
        let all: Vec<Watch> = self
            .supervision
            .agent
            .records()
            .map(|record| of_record(&work_dir, parent, self.supervision.agent.sandbox_of(record), record))
            .collect();
        if all.is_empty() {
            return;
        }
        let events = self.events.clone();
        self.watching = Some(tokio::task::spawn_blocking(move || {
            // Gone only when the process ends.
            let _ = events.blocking_send(Event::Watched(Box::new(look(&all))));
        }));
    }

    /// What a look found is kept for statistics; too much is the end, or told once.
    pub(super) fn watched(&mut self, watched: Watched) {
        let before = std::mem::replace(&mut self.seen, watched.seen);
        let config = &self.settings.config;
        let (disk, ports) = (config.disk_quota.unwrap_or(Quota::Enforce), config.ports.unwrap_or(Quota::Watch));
        for (container, overrun) in watched.overruns {
            let (quota, known) = match &overrun {
                Overrun::Disk { .. } => (disk, false),
                // Nothing a look finds.
                Overrun::Volume { .. } => (Quota::Enforce, false),
                Overrun::Ports(_) => {
                    let of = |seen: &BTreeMap<ContainerId, Seen>| seen.get(&container).map(|seen| seen.ports.clone());
                    (ports, of(&before) == of(&self.seen))
                }
            };
            match quota {
                Quota::Enforce => self.supervision.input(Input::Overran { container, overrun }),
                Quota::Watch if known => {}
                Quota::Watch => {
                    tracing::warn!(%container, why = %overrun.message(), "a task takes more than it was given")
                }
            }
        }
    }
}

fn of_record(work_dir: &Path, cgroup_parent: &str, sandbox: String, record: &Record) -> Watch {
    let root = work_dir.display().to_string();
    let resources = resources_from_wire(&record.info.resources).unwrap_or_default();
    let volume = |resource: &api::Resource| {
        let (base, path) = volume_directory(&root, resource)?;
        let id = resource.disk.as_ref()?.persistence.as_ref()?.id.clone();
        let size = match &resource.value {
            api::ResourceValue::Scalar(size) => size.0.saturating_mul(1 << 20) / 1000,
            api::ResourceValue::Ranges(_) | api::ResourceValue::Set(_) => return None,
        };
        Some((id, Path::new(&base).join(path), size))
    };
    let on_host = !agent_core::agent::has_own_network(record);
    let cgroup = cgroup_of(cgroup_parent, record.container.as_str());
    Watch {
        container: record.container.clone(),
        on_host: on_host.then(|| (cgroup, resources.ranges("ports"))),
        sandbox: sandbox.into(),
        limit: disk_limit_bytes(&record.info),
        volumes: resources.iter().filter_map(volume).collect(),
    }
}

fn look(all: &[Watch]) -> Watched {
    let mut watched = Watched::default();
    let listeners = Listeners::now();
    for one in all {
        let sandbox = projects::used(&one.sandbox).unwrap_or_else(|| disk_usage(&one.sandbox));
        let mut overrun = one.limit.filter(|limit| sandbox > *limit).map(|limit| Overrun::Disk {
            limit,
            used: sandbox,
            volume: None,
        });
        let mut seen = Seen { sandbox: Some(sandbox), ..Seen::default() };
        for (id, path, limit) in &one.volumes {
            let used = projects::used(path).unwrap_or_else(|| disk_usage(path));
            if used > *limit {
                overrun = overrun.or(Some(Overrun::Disk { limit: *limit, used, volume: Some(id.clone()) }));
            }
            seen.volumes.insert(id.clone(), (*limit, used));
        }
        if let Some((cgroup, given)) = &one.on_host {
            let is_given = |port: u16| given.iter().any(|(begin, end)| (begin..=end).contains(&u64::from(port)));
            seen.ports = listeners.of_cgroup(cgroup).into_iter().filter(|port| !is_given(*port)).collect();
        }
        let ports = (!seen.ports.is_empty()).then(|| Overrun::Ports(seen.ports.iter().copied().collect()));
        watched.seen.insert(one.container.clone(), seen);
        let overruns = [overrun, ports].into_iter().flatten();
        watched.overruns.extend(overruns.map(|overrun| (one.container.clone(), overrun)));
    }
    watched
}
