//! The node's store of images: what is here, who uses it, what must go.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent_core::agent::Pulled;
use agent_core::image::{Accounts, Image, Reference};
use tokio::sync::Semaphore;

use crate::disk::{Disk, DiskError, ImageRecord};
use crate::docker_config::Login;
use crate::flights::Flights;
use crate::garbage::{self, Choice, Kept};
use crate::pull::LayerError;
use crate::registries::Registries;
use crate::remote::{Clients, Silence};
use crate::tree;
use crate::unpack::Limits;

/// Downloads at the same time; more wait. A node's line is not made faster by more.
const DOWNLOADS: usize = 6;
/// Layers unpacked at the same time, each on a thread of the runtime's few; more wait.
const UNPACKS: usize = 2;
/// Pulls that talk to registries at the same time; more wait. Each holds a manifest and a configuration.
const PULLS: usize = 16;
/// A download nobody has touched for so long is not gone on with.
const STALE: Duration = Duration::from_secs(3600);
/// More of `/etc/passwd` and `/etc/group` is not read.
const MAX_ACCOUNTS: u64 = 1 << 20;

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where everything lies.
    pub directory: PathBuf,
    /// How many bytes layers may take before those nobody uses go.
    pub limit_bytes: u64,
    /// What one layer may become.
    pub layer: Limits,
    /// Who is asked, and how.
    pub registries: Registries,
    /// The host's list of certificate authorities, a file in PEM.
    pub host_authorities: Option<PathBuf>,
    /// How long registries are waited for.
    pub patience: Patience,
}

/// How long registries are waited for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the next byte.
    pub read: Duration,
    /// For a manifest, with everything that is tried again.
    pub manifest: Duration,
    /// For a blob to go on after it has stopped, so that a registry may be restarted.
    pub blob: Duration,
    /// For the whole image.
    pub pull: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            read: Duration::from_secs(30),
            manifest: Duration::from_secs(20),
            blob: Duration::from_secs(120),
            pull: Duration::from_secs(30 * 60),
        }
    }
}

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// See there.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The operator's certificates.
    #[error("the registry settings cannot be used: {0}")]
    Authorities(String),
}

/// How much there is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Content {
    /// Images that can be used without asking a registry.
    pub images: usize,
    /// Layers.
    pub layers: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// The store; clones are the same one.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) disk: Disk,
    pub(crate) clients: Clients,
    pub(crate) flights: Flights<LayerError>,
    pub(crate) downloads: Semaphore,
    pub(crate) unpacks: Semaphore,
    pub(crate) pulls: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    images: BTreeMap<String, Known>,
    /// Bytes of each layer.
    layers: BTreeMap<String, u64>,
    /// Layers by the container that stands on them or waits for them.
    holds: BTreeMap<String, Vec<String>>,
}

struct Known {
    record: ImageRecord,
    /// Tasks' own logins that have opened it; never written down.
    logins: Vec<Login>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({})", self.0.disk.root().display())
    }
}

impl Store {
    /// Opens the store, and makes it if it is not there. What containers use is to be held before anything is
    /// collected.
    ///
    /// # Errors
    /// When its files cannot be used.
    pub fn open(settings: Settings) -> Result<Self, StoreError> {
        let disk = Disk::open(&settings.directory)?;
        let silence = Silence { connect: settings.patience.connect, read: settings.patience.read };
        let (authorities, list) = (settings.registries.authorities(), settings.host_authorities.clone());
        let clients = Clients::new(authorities, list, silence).map_err(StoreError::Authorities)?;
        let layers: BTreeMap<String, u64> =
            disk.layers()?.into_iter().map(|(layer, size)| (layer, size.bytes)).collect();
        let mut images = BTreeMap::new();
        for record in disk.records()? {
            if record.layers.iter().all(|layer| layers.contains_key(layer)) {
                images.insert(record.reference.clone(), Known { record, logins: Vec::new() });
            } else {
                disk.forget(&record.reference)?;
            }
        }
        Ok(Self(Arc::new(Inner {
            settings,
            disk,
            clients,
            flights: Flights::new(),
            downloads: Semaphore::new(DOWNLOADS),
            unpacks: Semaphore::new(UNPACKS),
            pulls: Semaphore::new(PULLS),
            state: Mutex::new(State { images, layers, holds: BTreeMap::new() }),
        })))
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.0.disk.root()
    }

    /// How much is in it.
    #[must_use]
    pub fn content(&self) -> Content {
        let state = self.0.state();
        Content { images: state.images.len(), layers: state.layers.len(), bytes: state.layers.values().sum() }
    }

    /// Keeps layers for a container until [`release`](Self::release).
    pub fn hold(&self, container: &str, layers: &[String]) {
        self.0.state().holds.entry(container.to_owned()).or_default().extend_from_slice(layers);
    }

    /// The container needs its layers no more.
    pub fn release(&self, container: &str) {
        self.0.state().holds.remove(container);
    }

    /// Removes images nobody has used for the longest time until the rest fits, and downloads nobody goes on with.
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn collect(&self) -> Result<usize, DiskError> {
        self.0.collect(self.0.settings.limit_bytes)
    }

    /// Removes everything that is neither in use nor named (Mesos's PRUNE_IMAGES).
    ///
    /// # Errors
    /// When files cannot be removed.
    pub fn prune(&self, excluded: &[Reference]) -> Result<usize, DiskError> {
        let mut state = self.0.state();
        let choice = garbage::prune(&state.kept(), &state.layers, &state.in_use(), excluded);
        self.0.carry_out(&mut state, &choice)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn collect(&self, limit: u64) -> Result<usize, DiskError> {
        self.remove_stale()?;
        let mut state = self.state();
        let choice = garbage::choose(&state.kept(), &state.layers, &state.in_use(), limit);
        self.carry_out(&mut state, &choice)
    }

    /// Under the lock, so that nobody takes up what is being removed; layers leave their place by a rename.
    fn carry_out(&self, state: &mut State, choice: &Choice) -> Result<usize, DiskError> {
        for reference in &choice.images {
            self.disk.forget(reference)?;
            state.images.remove(reference);
            tracing::info!(image = reference, "an unused image is forgotten");
        }
        for layer in &choice.layers {
            state.layers.remove(layer);
            self.disk.remove_layer(layer)?;
        }
        Ok(choice.layers.len())
    }

    fn remove_stale(&self) -> Result<(), DiskError> {
        let under_way = self.flights.names();
        for path in self.disk.loose()? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let modified = path.metadata().and_then(|metadata| metadata.modified());
            let stale = modified.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > STALE));
            if stale && !under_way.iter().any(|flight| flight.ends_with(name)) {
                self.disk.remove(&path)?;
            }
        }
        Ok(())
    }

    /// The image that is here under this name, if the asker may have it without the registry's word.
    pub(crate) fn known(&self, reference: &Reference, login: &Login, container: &str) -> Option<Image> {
        let mut state = self.state();
        let State { images, layers, holds } = &mut *state;
        let known = images.get_mut(&reference.to_string())?;
        let record = &mut known.record;
        let allowed = record.shared || known.logins.contains(login);
        if !allowed || !record.layers.iter().all(|layer| layers.contains_key(layer)) {
            return None;
        }
        record.used_ms = now_ms();
        if let Err(error) = self.disk.save(record) {
            // It will only look older than it is.
            tracing::debug!(%error, "the use of an image is not written down");
        }
        holds.entry(container.to_owned()).or_default().extend_from_slice(&record.layers);
        Some(image(record))
    }

    /// A login opened it: those who have the same may use it again.
    pub(crate) fn remember(&self, mut record: ImageRecord, login: &Login) -> Result<Image, DiskError> {
        let mut state = self.state();
        let reference = record.reference.clone();
        let old = state.images.remove(&reference);
        let same = old.filter(|old| old.record.digest == record.digest);
        let mut logins = same.as_ref().map(|old| old.logins.clone()).unwrap_or_default();
        record.shared |= same.is_some_and(|old| old.record.shared);
        if !record.shared && !logins.contains(login) {
            logins.push(login.clone());
        }
        self.disk.save(&record)?;
        let image = image(&record);
        state.images.insert(reference, Known { record, logins });
        Ok(image)
    }

    pub(crate) fn has_layer(&self, layer: &str) -> bool {
        self.state().layers.contains_key(layer)
    }

    pub(crate) fn add_layer(&self, layer: &str, bytes: u64) {
        self.state().layers.insert(layer.to_owned(), bytes);
    }

    /// The image with the accounts in it.
    pub(crate) fn pulled(&self, image: Image) -> Pulled {
        let layers: Vec<PathBuf> = image.layers.iter().rev().map(|layer| self.disk.layer(layer)).collect();
        let text = |path| {
            let bytes = tree::read_file(&layers, path, MAX_ACCOUNTS).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let accounts = Accounts { passwd: text("/etc/passwd"), group: text("/etc/group") };
        Pulled { image, accounts }
    }
}

impl State {
    fn kept(&self) -> Vec<Kept> {
        let records = self.images.values().map(|known| &known.record);
        records
            .map(|record| Kept {
                reference: record.reference.clone(),
                layers: record.layers.clone(),
                used_ms: record.used_ms,
            })
            .collect()
    }

    fn in_use(&self) -> BTreeSet<String> {
        self.holds.values().flatten().cloned().collect()
    }
}

fn image(record: &ImageRecord) -> Image {
    Image {
        reference: record.reference.clone(),
        digest: record.digest.clone(),
        layers: record.layers.clone(),
        config: record.config.clone(),
    }
}

pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
