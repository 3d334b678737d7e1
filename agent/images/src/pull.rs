//! From a reference to an image in the store.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use agent_core::agent::Pulled;
use agent_core::image::{Cached, Digest, Image, ImageConfig, ImageRequest, Platform, Reference, parse_config};
use futures_util::future::try_join_all;
use tokio::time::{Instant, timeout};

use crate::disk::{DiskError, ImageRecord, LayerSize};
use crate::docker_config::{DockerConfig, DockerConfigError, Login};
use crate::download::{DownloadError, download};
use crate::flights::Landed;
use crate::manifest::{self, Descriptor, Document, Manifest, ManifestError};
use crate::remote::{Remote, RemoteError, causes};
use crate::store::{Inner, Store, now_ms};
use crate::unpack::{UnpackError, unpack};

/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// Why an image is not here. Its text goes to whoever started the task.
#[derive(Debug, thiserror::Error)]
#[error("image '{reference}': {}", causes(cause))]
pub struct PullError {
    /// What was asked for.
    pub reference: String,
    /// Why it is not here.
    pub cause: PullCause,
}

/// See [`PullError`].
#[derive(Debug, thiserror::Error)]
pub enum PullCause {
    /// The task's own credentials.
    #[error(transparent)]
    Credentials(#[from] DockerConfigError),
    /// See there.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// Nobody who was asked has given it: the mirrors in their order, then the registry.
    #[error("{}", .0.iter().map(RemoteError::to_string).collect::<Vec<_>>().join("; "))]
    Nobody(Vec<RemoteError>),
    /// See there.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// See there.
    #[error(transparent)]
    Config(#[from] agent_core::image::ConfigError),
    /// The configuration and the manifest do not belong together.
    #[error("its configuration names {configured} layers and its manifest {listed}")]
    Layers {
        /// In the configuration.
        configured: usize,
        /// In the manifest.
        listed: usize,
    },
    /// It would not run.
    #[error("it is for {found}; this node is {wanted}")]
    Platform {
        /// The image's.
        found: String,
        /// Ours.
        wanted: String,
    },
    /// Too large to be one.
    #[error("its configuration has {0} bytes")]
    HugeConfig(u64),
    /// See there.
    #[error("{}", causes(.0.as_ref()))]
    Layer(Arc<LayerError>),
    /// See there.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A file could not be read back.
    #[error("cannot read the image's configuration: {0}")]
    Read(io::Error),
    /// Whoever worked on it is gone.
    #[error("the work on a layer ended without a word")]
    Lost,
    /// All in all it took too long.
    #[error("it is not here after {0:?}")]
    TooLong(Duration),
}

/// Why one blob is not here, or not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// See there.
    #[error("layer {0}")]
    Download(#[from] DownloadError),
    /// See there.
    #[error("layer {digest} cannot be unpacked: {}", causes(source))]
    Unpack {
        /// Which.
        digest: Digest,
        /// Why.
        source: UnpackError,
    },
    /// It has what its manifest promises, but not what the configuration does.
    #[error(
        "layer {digest} is corrupt: unpacked it has the digest {found}, and the image's configuration names {wanted}"
    )]
    DiffId {
        /// Which.
        digest: Digest,
        /// What it is.
        found: Digest,
        /// What it should be.
        wanted: Digest,
    },
    /// See there.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The blob cannot be read back.
    #[error("layer {digest} cannot be read back: {source}")]
    Open {
        /// Which.
        digest: Digest,
        /// Why.
        source: io::Error,
    },
}

impl LayerError {
    fn is_full(&self) -> bool {
        match self {
            Self::Download(error) => error.is_full(),
            Self::Unpack { source, .. } => source.is_full(),
            Self::Disk(error) => error.is_full(),
            Self::DiffId { .. } | Self::Open { .. } => false,
        }
    }
}

impl Store {
    /// Brings an image here and holds it for the container. Dropping the future gives it up: what has come so far stays,
    /// and the hold must be released.
    ///
    /// # Errors
    /// When it cannot be had, with everything a person needs to know why.
    pub async fn pull(&self, request: &ImageRequest, container: &str) -> Result<Pulled, PullError> {
        let whole = self.0.settings.patience.pull;
        let pulled = match timeout(whole, self.0.pull(request, container)).await {
            Ok(pulled) => pulled,
            Err(_) => Err(PullCause::TooLong(whole)),
        };
        let inner = self.0.clone();
        let found = match pulled {
            // It looks into many directories.
            Ok(image) => tokio::task::spawn_blocking(move || inner.pulled(image)).await.map_err(|_| PullCause::Lost),
            Err(cause) => Err(cause),
        };
        found.map_err(|cause| PullError { reference: request.reference.to_string(), cause })
    }
}

impl Inner {
    async fn pull(self: &Arc<Self>, request: &ImageRequest, container: &str) -> Result<Image, PullCause> {
        let own = request.credentials.as_ref().map(|credentials| DockerConfig::parse(&credentials.0)).transpose()?;
        let reference = &request.reference;
        let login = own.as_ref().and_then(|own| own.login(&reference.registry)).cloned().unwrap_or(Login::Anonymous);
        if request.cached == Cached::Accepted
            && let Some(image) = self.known(reference, &login, container)
        {
            return Ok(image);
        }
        let _turn = self.pulls.acquire().await.map_err(|_| PullCause::Lost)?;
        let remotes = self.remotes(reference, own.as_ref())?;
        let (first, bytes, digest) = self.manifest(&remotes).await?;
        let opened_by = remotes[first].endpoint().login.clone();
        // Blobs come from whoever had the manifest, else from the others.
        let mut order: Vec<Arc<Remote>> = remotes.clone();
        order.rotate_left(first);
        let (manifest, digest) = match manifest::parse(&bytes)? {
            Document::Image(manifest) => (manifest, digest),
            Document::Index(entries) => {
                let chosen = manifest::choose(&entries, &manifest::own_platform())?.descriptor.digest.clone();
                let (bytes, digest) = remotes[first].manifest(Some(&chosen)).await?;
                match manifest::parse(&bytes)? {
                    Document::Image(manifest) => (manifest, digest),
                    Document::Index(_) => {
                        return Err(ManifestError::Unreadable("an index within an index".to_owned()).into());
                    }
                }
            }
        };
        let (config, diff_ids) = self.config(&order, &manifest).await?;
        let layers = without_repetitions(&diff_ids);
        self.hold_for(container, &layers);
        self.layers(&order, &manifest, &diff_ids).await?;
        let record = ImageRecord {
            reference: reference.to_string(),
            digest: digest.to_string(),
            layers,
            config,
            // Who needs no login, or has only the node's, learns nothing others may not have.
            shared: own.as_ref().and_then(|own| own.login(&remotes[first].endpoint().host)).is_none(),
            used_ms: now_ms(),
        };
        let image = self.remember(record, &opened_by)?;
        let (inner, limit) = (self.clone(), self.settings.limit_bytes);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || inner.collect(limit)).await {
            tracing::warn!(error = %causes(&error), "unused images stay");
        }
        Ok(image)
    }

    fn remotes(&self, reference: &Reference, own: Option<&DockerConfig>) -> Result<Vec<Arc<Remote>>, PullCause> {
        let endpoints = self.settings.registries.endpoints(reference, own);
        let (mut remotes, mut errors) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            match Remote::new(reference, endpoint, &self.clients) {
                Ok(remote) => remotes.push(Arc::new(remote)),
                Err(error) => errors.push(error),
            }
        }
        // One that cannot be asked at all does not keep us from the others.
        if remotes.is_empty() { Err(PullCause::Nobody(errors)) } else { Ok(remotes) }
    }

    /// Asks one after the other; gives who had it. Those that do not answer are asked again for a while.
    async fn manifest(&self, remotes: &[Arc<Remote>]) -> Result<(usize, Vec<u8>, Digest), PullCause> {
        let (deadline, mut pause) = (Instant::now() + self.settings.patience.manifest, FIRST_PAUSE);
        loop {
            let mut errors = Vec::new();
            for (at, remote) in remotes.iter().enumerate() {
                let asked = async {
                    remote.log_in().await?;
                    remote.manifest(None).await
                };
                match asked.await {
                    Ok((bytes, digest)) => return Ok((at, bytes, digest)),
                    Err(error) => {
                        tracing::debug!(%error, "a registry has not given a manifest");
                        errors.push(error);
                    }
                }
            }
            if !errors.iter().any(RemoteError::is_passing) || Instant::now() + pause >= deadline {
                return Err(PullCause::Nobody(errors));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    async fn config(
        self: &Arc<Self>,
        remotes: &[Arc<Remote>],
        manifest: &Manifest,
    ) -> Result<(ImageConfig, Vec<Digest>), PullCause> {
        let blob = manifest.config.clone();
        if blob.size > manifest::MAX_CONFIG_BYTES {
            return Err(PullCause::HugeConfig(blob.size));
        }
        let begin = |_| {
            let (inner, remotes, blob) = (self.clone(), remotes.to_vec(), blob.clone());
            async move { inner.fetch(&remotes, &blob).await.map(drop) }
        };
        self.fly(&blob.digest.to_string(), begin).await?;
        let path = self.disk.blob(&blob.digest);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await.map_err(|_| PullCause::Lost)?;
        let (config, diff_ids, platform) = parse_config(&read.map_err(PullCause::Read)?)?;
        if diff_ids.len() != manifest.layers.len() {
            return Err(PullCause::Layers { configured: diff_ids.len(), listed: manifest.layers.len() });
        }
        check_platform(&platform)?;
        Ok((config, diff_ids))
    }

    async fn layers(
        self: &Arc<Self>,
        remotes: &[Arc<Remote>],
        manifest: &Manifest,
        diff_ids: &[Digest],
    ) -> Result<(), PullCause> {
        let all = manifest.layers.iter().zip(diff_ids).filter(|(_, diff_id)| !self.has_layer(diff_id.hex()));
        let flying = all.map(|(blob, diff_id)| async move {
            // By both names: what one image calls it must be what another means.
            let name = format!("{}:{}", diff_id.hex(), blob.digest.hex());
            let begin = |cancel| {
                let (inner, remotes, blob, diff_id) = (self.clone(), remotes.to_vec(), blob.clone(), diff_id.clone());
                async move { inner.layer(&remotes, &blob, &diff_id, cancel).await }
            };
            self.fly(&name, begin).await
        });
        try_join_all(flying).await.map(drop)
    }

    /// Takes part in the work of that name. What failed with another's credentials or mirrors is tried with ours.
    async fn fly<F>(&self, name: &str, begin: impl Fn(Arc<AtomicBool>) -> F) -> Result<(), PullCause>
    where
        F: Future<Output = Result<(), LayerError>> + Send + 'static,
    {
        let mut landed = self.flights.join(name, &begin).await;
        if let Landed::OthersFailed(_) = landed {
            landed = self.flights.join(name, &begin).await;
        }
        match landed {
            Landed::Done => Ok(()),
            Landed::Failed(error) | Landed::OthersFailed(error) => Err(PullCause::Layer(error)),
            Landed::Lost => Err(PullCause::Lost),
        }
    }

    async fn fetch(&self, remotes: &[Arc<Remote>], blob: &Descriptor) -> Result<PathBuf, LayerError> {
        // Closed only with the store.
        let _turn = self.downloads.acquire().await.ok();
        Ok(download(&self.disk, remotes, blob, self.settings.patience.blob).await?)
    }

    /// Downloads and unpacks one layer. When there is no room, what nobody uses goes, and it is tried once more.
    async fn layer(
        self: Arc<Self>,
        remotes: &[Arc<Remote>],
        blob: &Descriptor,
        diff_id: &Digest,
        cancel: Arc<AtomicBool>,
    ) -> Result<(), LayerError> {
        match self.clone().layer_once(remotes, blob, diff_id, cancel.clone()).await {
            Err(error) if error.is_full() => {
                let inner = self.clone();
                let freed = tokio::task::spawn_blocking(move || inner.collect(0)).await;
                if !matches!(freed, Ok(Ok(removed)) if removed > 0) {
                    return Err(error);
                }
                self.layer_once(remotes, blob, diff_id, cancel).await
            }
            result => result,
        }
    }

    async fn layer_once(
        self: Arc<Self>,
        remotes: &[Arc<Remote>],
        blob: &Descriptor,
        diff_id: &Digest,
        cancel: Arc<AtomicBool>,
    ) -> Result<(), LayerError> {
        // It may have come while we were waiting.
        if self.has_layer(diff_id.hex()) {
            return Ok(());
        }
        let path = self.fetch(remotes, blob).await?;
        let _turn = self.unpacks.acquire().await.ok();
        let (inner, digest, diff_id) = (self.clone(), blob.digest.clone(), diff_id.clone());
        let work = move || {
            let file = std::fs::File::open(&path);
            let file = file.map_err(|source| LayerError::Open { digest: digest.clone(), source })?;
            inner.unpack_layer(file, &digest, &diff_id, &cancel)?;
            // The layer is all that is needed of it; on a node without disks it is memory.
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::debug!(%error, "an unpacked blob stays");
            }
            Ok(())
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(error) => Err(LayerError::Open { digest: blob.digest.clone(), source: io::Error::other(error) }),
        }
    }

    /// Unpacks, compares with what the configuration promises, and puts it in its place.
    pub(crate) fn unpack_layer(
        &self,
        layer: impl io::Read,
        digest: &Digest,
        diff_id: &Digest,
        cancel: &AtomicBool,
    ) -> Result<(), LayerError> {
        let into = self.disk.unpacking()?;
        let unpacked = unpack(layer, &into, self.settings.layer, cancel)
            .map_err(|source| LayerError::Unpack { digest: digest.clone(), source })
            .and_then(|unpacked| {
                if unpacked.diff_id == *diff_id {
                    return Ok(unpacked);
                }
                let (found, wanted) = (unpacked.diff_id, diff_id.clone());
                Err(LayerError::DiffId { digest: digest.clone(), found, wanted })
            });
        let unpacked = match unpacked {
            Ok(unpacked) => unpacked,
            Err(error) => {
                if let Err(left) = self.disk.remove(&into) {
                    tracing::warn!(error = %causes(&left), "a half-unpacked layer stays");
                }
                return Err(error);
            }
        };
        let size = LayerSize { bytes: unpacked.bytes, entries: unpacked.entries };
        self.disk.publish_layer(&into, diff_id.hex(), size)?;
        self.add_layer(diff_id.hex(), unpacked.bytes);
        tracing::debug!(layer = diff_id.hex(), bytes = unpacked.bytes, "a layer is unpacked");
        Ok(())
    }

    pub(crate) fn hold_for(self: &Arc<Self>, container: &str, layers: &[String]) {
        Store(self.clone()).hold(container, layers);
    }
}

/// An image may stack the same layer twice, and overlayfs refuses to. The upper one hides all of the lower.
pub(crate) fn without_repetitions(diff_ids: &[Digest]) -> Vec<String> {
    let mut layers: Vec<String> = Vec::new();
    for diff_id in diff_ids.iter().rev() {
        if !layers.iter().any(|layer| layer == diff_id.hex()) {
            layers.push(diff_id.hex().to_owned());
        }
    }
    layers.reverse();
    layers
}

/// An index is chosen from, but a lone image may be for anything.
pub(crate) fn check_platform(found: &Platform) -> Result<(), PullCause> {
    let own = manifest::own_platform();
    let same = |found: &str, own: &str| found.is_empty() || found == own;
    if same(&found.os, &own.os) && same(&found.architecture, &own.architecture) {
        return Ok(());
    }
    let named = |platform: &Platform| format!("{}/{}", platform.os, platform.architecture);
    Err(PullCause::Platform { found: named(found), wanted: named(&own) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_that_is_there_twice_counts_once_at_its_highest_place() {
        let digest = |byte: u8| Digest::of_sha256(&[byte; 32]);
        let (a, b, c) = (digest(1), digest(2), digest(3));
        let layers = without_repetitions(&[a.clone(), b.clone(), a.clone(), c.clone()]);
        assert_eq!(layers, [b.hex(), a.hex(), c.hex()]);
    }

    #[test]
    fn an_image_for_another_machine_is_refused() {
        let platform = |os: &str, architecture: &str| Platform {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: String::new(),
        };
        let own = manifest::own_platform();
        check_platform(&own).unwrap();
        check_platform(&platform("", "")).unwrap();
        let error = check_platform(&platform("windows", &own.architecture)).unwrap_err().to_string();
        assert!(error.contains("it is for windows/"), "{error}");
        assert!(check_platform(&platform("linux", "s390x")).is_err());
    }
}
