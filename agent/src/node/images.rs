//! The node's images: one pull for each task that waits for one.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::agent::Input;
use agent_core::image::ImageRequest;
use agent_core::launch::Site;
use agent_images::{Patience, Settings as StoreSettings, Store};
use api::ContainerId;
use nix::sys::statvfs::statvfs;
use tokio::task::AbortHandle;

use super::events::{Event, Events};
use super::settings::Settings;
use crate::logging::chain;

/// What a layer may have at most: more is a mistake, or meant to hurt.
const LAYER_ENTRIES: u64 = 1_000_000;
/// What a layer may have when the file system is larger.
const LAYER_BYTES: u64 = 32 << 30;
/// What images may take of a file system that is theirs alone, in percent: containers write to it too.
const OWN_PERCENT: u64 = 70;
/// What they may take of one they share.
const SHARED_PERCENT: u64 = 25;
const MIB: u64 = 1 << 20;

/// Pulls for the driver. Their number has no bound of its own: each belongs to a task, and the master bounds those by
/// the node's resources; the store lets only a few talk to registries at the same time.
#[derive(Debug)]
pub(crate) struct Images {
    store: Option<Store>,
    pulls: BTreeMap<ContainerId, AbortHandle>,
    events: Events,
}

impl Images {
    /// Opens the store. Without one the node runs all other tasks, and says why it runs none with an image.
    pub(crate) fn open(settings: &Settings, site: &mut Site, events: Events) -> Self {
        let mut images = Self { store: None, pulls: BTreeMap::new(), events };
        if site.images.refused.is_some() {
            return images;
        }
        match open(settings, site) {
            Ok(store) => images.store = Some(store),
            Err(reason) => {
                tracing::error!(reason, "tasks with images are refused");
                site.images.refused = Some(format!("the node's image store cannot be used: {reason}"));
            }
        }
        images
    }

    /// The store, if there is one.
    pub(crate) const fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    /// Keeps what runs, and removes roots of containers that nobody remembers.
    pub(crate) fn recover<'a>(
        &self,
        in_use: impl Iterator<Item = (&'a ContainerId, &'a [String])>,
        known: &BTreeSet<String>,
    ) {
        let Some(store) = &self.store else { return };
        for (container, layers) in in_use {
            store.hold(container.as_str(), layers);
        }
        let roots = store.roots().unwrap_or_else(|error| {
            tracing::warn!(error = %chain(&error), "roots of earlier containers are not found");
            Vec::new()
        });
        for root in roots.iter().filter(|root| !known.contains(*root)) {
            if let Err(error) = store.remove_root(root) {
                tracing::warn!(container = root, error = %chain(&error), "an earlier container's root stays");
            }
        }
    }

    /// Brings an image here; tells the core what came of it.
    pub(crate) fn pull(&mut self, container: ContainerId, request: ImageRequest) {
        self.pulls.retain(|_, pull| !pull.is_finished());
        let (store, events, id) = (self.store.clone(), self.events.clone(), container.clone());
        let pull = tokio::spawn(async move {
            let result = match store {
                Some(store) => store.pull(&request, id.as_str()).await.map_err(|error| chain(&error)),
                None => Err("this node has no image store".to_owned()),
            };
            match &result {
                Ok(pulled) => tracing::info!(
                    container = %id, image = %request.reference, digest = pulled.image.digest, "an image is here"
                ),
                Err(reason) => {
                    tracing::warn!(container = %id, image = %request.reference, reason, "an image is not here")
                }
            }
            let input = Input::Pulled { container: id, result: result.map(Box::new) };
            // The driver ends only with the process.
            let _ = events.send(Event::Core(input)).await;
        });
        self.pulls.insert(container, pull.abort_handle());
    }

    /// Nobody waits for it any more. What has come stays for the next one who wants it.
    pub(crate) fn cancel(&mut self, container: &ContainerId) {
        if let Some(pull) = self.pulls.remove(container) {
            pull.abort();
        }
        if let Some(store) = &self.store {
            store.release(container.as_str());
        }
    }
}

fn open(settings: &Settings, site: &Site) -> Result<Store, String> {
    let directory = std::path::PathBuf::from(&site.images.directory);
    std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
    let total = statvfs(&directory).map_or(0, |stat| stat.blocks() * stat.fragment_size());
    let percent = if settings.hosted { SHARED_PERCENT } else { OWN_PERCENT };
    let limit_bytes = settings.config.image_limit_mib.map_or(total / 100 * percent, |limit| limit.saturating_mul(MIB));
    let store = Store::open(StoreSettings {
        directory,
        limit_bytes,
        layer: agent_images::unpack::Limits { bytes: LAYER_BYTES.min(total), entries: LAYER_ENTRIES },
        registries: settings.registries.clone(),
        host_authorities: settings.authorities.clone(),
        patience: Patience::default(),
    })
    .map_err(|error| chain(&error))?;
    let content = store.content();
    tracing::info!(images = content.images, layers = content.layers, limit_mib = limit_bytes / MIB, "image store open");
    Ok(store)
}
