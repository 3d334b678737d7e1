//! What tasks want in their sandboxes before they start: one fetch for each task that waits for one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agent_core::agent::Input;
use agent_core::cmdline::Quota;
use agent_core::launch::Plan;
use agent_images::fetch::{FetchPatience, FetchSettings, Fetcher, Uri, Wish};
use api::ContainerId;
use api::v1::command_info;
use nix::sys::statvfs::statvfs;
use tokio::task::AbortHandle;

use super::bundle;
use super::events::{Event, Events};
use super::projects::Projects;
use super::settings::Settings;
use crate::logging::chain;

/// What one file, or what is in one archive, may have when the file system is larger.
const FILE_BYTES: u64 = 32 << 30;
/// What the cache may have then (Mesos's default), and its part of a file system, in percent.
const CACHE_BYTES: u64 = 2 << 30;
const CACHE_PERCENT: u64 = 10;

/// Fetches for the driver. Their number has no bound of its own: each belongs to a task, and the master bounds those by the
/// node's resources; the fetcher lets only a few go on at the same time.
#[derive(Debug)]
pub(crate) struct Fetches {
    fetcher: Result<Fetcher, String>,
    running: BTreeMap<ContainerId, AbortHandle>,
    projects: Option<Projects>,
    quota: Quota,
    events: Events,
}

impl Fetches {
    /// Opens the cache. Without one the node runs all other tasks, and says why it runs none with URIs.
    pub(crate) fn open(settings: &Settings, projects: Option<Projects>, events: Events) -> Self {
        let total = statvfs(&settings.work_dir).map_or(0, |stat| stat.blocks() * stat.fragment_size());
        let fetcher = Fetcher::open(FetchSettings {
            cache: settings.work_dir.join("fetched"),
            cache_bytes: CACHE_BYTES.min(total / 100 * CACHE_PERCENT),
            file_bytes: FILE_BYTES.min(total),
            authorities: settings.registries.authorities().to_vec(),
            host_authorities: settings.authorities.clone(),
            patience: FetchPatience::default(),
        });
        let fetcher = fetcher.map_err(|error| {
            tracing::error!(%error, "tasks with URIs are refused");
            format!("the node's cache for fetched files cannot be used: {error}")
        });
        let quota = settings.config.disk_quota.unwrap_or(Quota::Enforce);
        Self { fetcher, running: BTreeMap::new(), projects, quota, events }
    }

    /// Brings everything into the sandbox; tells the core what came of it.
    pub(crate) fn start(&mut self, container: ContainerId, plan: &Plan, uris: &[command_info::Uri]) {
        self.running.retain(|_, fetch| !fetch.is_finished());
        let sandbox = PathBuf::from(&plan.sandbox);
        let (user, fetcher) = (plan.user, self.fetcher.clone());
        let most_bytes = plan.disk_bytes.filter(|_| self.quota == Quota::Enforce);
        let wish = Wish { sandbox, uid: user.uid, gid: user.gid, most_bytes, uris: uris.iter().map(uri).collect() };
        let (events, id) = (self.events.clone(), container.clone());
        let (plan, projects) = (plan.clone(), self.projects.clone());
        let fetch = tokio::spawn(async move {
            let result = match fetcher {
                Ok(fetcher) => fetch(fetcher, wish, plan, projects).await,
                Err(reason) => Err(reason),
            };
            if let Err(reason) = &result {
                tracing::warn!(container = %id, reason, "a task's URIs are not fetched");
            }
            // The driver ends only with the process.
            let _ = events.send(Event::Core(Input::Fetched { container: id, result })).await;
        });
        self.running.insert(container, fetch.abort_handle());
    }

    /// Nobody waits for it any more.
    pub(crate) fn cancel(&mut self, container: &ContainerId) {
        if let Some(fetch) = self.running.remove(container) {
            fetch.abort();
        }
    }
}

async fn fetch(fetcher: Fetcher, wish: Wish, plan: Plan, projects: Option<Projects>) -> Result<(), String> {
    let made = tokio::task::spawn_blocking(move || bundle::make_sandbox(&plan, projects.as_ref())).await;
    made.map_err(|error| error.to_string())?.map_err(|error| chain(&error))?;
    fetcher.fetch(&wish).await.map_err(|error| chain(&error))
}

fn uri(uri: &command_info::Uri) -> Uri {
    Uri {
        value: uri.value.clone(),
        executable: uri.executable(),
        extract: uri.extract(),
        cache: uri.cache(),
        output_file: uri.output_file.clone(),
    }
}
