//! Looks at what tasks take that the kernel does not bound, and ends those that take too much.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_core::agent::Input;
use agent_core::launch::{disk_limit_bytes, sandbox, volume_directory};
use agent_core::overrun::Overrun;
use agent_core::record::Record;
use api::ContainerId;
use api::v1::resources_from_wire;

use super::Driver;
use crate::node::disk_usage::disk_usage;
use crate::node::events::Event;
use crate::node::statistics::{DiskUse, Running, cgroup_of};

/// How often disks are looked at. A look takes as long as there are files, so the next one waits for it.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// What a look found.
#[derive(Debug, Default)]
pub(crate) struct Watched {
    disks: BTreeMap<ContainerId, DiskUse>,
    overruns: Vec<(ContainerId, Overrun)>,
}

/// A task's directories.
struct Directories {
    container: ContainerId,
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
            disk: self.disks.get(&record.container).cloned().unwrap_or_default(),
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
        let all: Vec<Directories> =
            self.supervision.agent.records().map(|record| directories(&work_dir, record)).collect();
        if all.is_empty() {
            return;
        }
        let events = self.events.clone();
        self.watching = Some(tokio::task::spawn_blocking(move || {
            // Gone only when the process ends.
            let _ = events.blocking_send(Event::Watched(Box::new(look(&all))));
        }));
    }

    /// What a look found is kept for statistics; too much is the end.
    pub(super) fn watched(&mut self, watched: Watched) {
        self.disks = watched.disks;
        for (container, overrun) in watched.overruns {
            if self.settings.config.disk_quota == agent_core::cmdline::Quota::Enforce {
                self.supervision.input(Input::Overran { container, overrun });
            } else {
                tracing::warn!(%container, why = %overrun.message(), "a task takes more than it may");
            }
        }
    }
}

fn directories(work_dir: &Path, record: &Record) -> Directories {
    let root = work_dir.display().to_string();
    let task = record.task.as_str();
    let sandbox = sandbox(&root, &record.agent, &record.framework, task, &record.container);
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
    Directories {
        container: record.container.clone(),
        sandbox: sandbox.into(),
        limit: disk_limit_bytes(&record.info),
        volumes: resources.iter().filter_map(volume).collect(),
    }
}

fn look(all: &[Directories]) -> Watched {
    let mut watched = Watched::default();
    for one in all {
        let sandbox = disk_usage(&one.sandbox);
        let mut overrun = one
            .limit
            .filter(|limit| sandbox > *limit)
            .map(|limit| Overrun::Disk { limit, used: sandbox, volume: None });
        let mut disk = DiskUse { sandbox: Some(sandbox), volumes: BTreeMap::new() };
        for (id, path, limit) in &one.volumes {
            let used = disk_usage(path);
            if used > *limit {
                overrun = overrun.or(Some(Overrun::Disk { limit: *limit, used, volume: Some(id.clone()) }));
            }
            disk.volumes.insert(id.clone(), (*limit, used));
        }
        watched.disks.insert(one.container.clone(), disk);
        watched.overruns.extend(overrun.map(|overrun| (one.container.clone(), overrun)));
    }
    watched
}
