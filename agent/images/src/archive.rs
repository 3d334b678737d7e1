//! Images that come as files: what `docker save` writes, and OCI layouts in a tar archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use agent_core::agent::Pulled;
use agent_core::image::{Digest, Image, ImageConfig, parse_config};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::manifest::{self, Document, IndexEntry, ManifestError};
use crate::pull::{LayerError, PullCause, check_platform, without_repetitions};
use crate::store::Store;
use crate::unpack::archive::{self, ArchiveFile};

/// Entries an archive may have: a few for each layer and platform.
const MAX_ENTRIES: usize = 20_000;
/// Indexes that lead to indexes.
const MAX_DEPTH: usize = 3;
/// Where OCI layouts say what their images are called.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Why an archive is not an image that can be used.
#[derive(Debug, thiserror::Error)]
#[error("image archive {}: {}", path.display(), crate::remote::causes(cause))]
pub struct ImportError {
    path: PathBuf,
    cause: ImportCause,
}

/// See [`ImportError`].
#[derive(Debug, thiserror::Error)]
pub enum ImportCause {
    /// The file cannot be read, or is no tar archive.
    #[error("it cannot be read: {0}")]
    Read(String),
    /// Neither of the two forms.
    #[error("it is neither a Docker archive (no manifest.json) nor an OCI layout (no index.json)")]
    Form,
    /// Something it refers to.
    #[error("it lacks `{0}`")]
    Lacks(String),
    /// Not what it is called.
    #[error("its `{name}` is corrupt: the content has the digest {found}")]
    Corrupt {
        /// Which file.
        name: String,
        /// What it is.
        found: Digest,
    },
    /// More than one, and none of that name.
    #[error("it has {count} images, none of them called '{wanted}'")]
    Which {
        /// How many.
        count: usize,
        /// What was asked for.
        wanted: String,
    },
    /// See there.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// See there.
    #[error(transparent)]
    Image(#[from] PullCause),
    /// See there.
    #[error(transparent)]
    Layer(#[from] LayerError),
}

/// An open archive and where everything is in it.
struct Archive {
    file: File,
    files: BTreeMap<String, ArchiveFile>,
}

/// What an archive's image consists of.
struct Found {
    digest: String,
    config: ImageConfig,
    diff_ids: Vec<Digest>,
    /// The files of the layers, the lowest first.
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Layout {
    manifests: Vec<LayoutEntry>,
}

#[derive(Clone, Deserialize)]
struct LayoutEntry {
    #[serde(flatten)]
    entry: IndexEntry,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Store {
    /// Brings the image in an archive here and holds it for the container. With several images in it `name` says which.
    /// Blocks while it unpacks.
    ///
    /// # Errors
    /// When it is no image that can be used, with everything a person needs to know why.
    pub fn import(&self, path: &Path, name: Option<&str>, container: &str) -> Result<Pulled, ImportError> {
        self.import_now(path, name, container).map_err(|cause| ImportError { path: path.to_owned(), cause })
    }

    fn import_now(&self, path: &Path, name: Option<&str>, container: &str) -> Result<Pulled, ImportCause> {
        let mut archive = Archive::open(path)?;
        let found = if archive.files.contains_key("index.json") {
            archive.oci_layout(name)?
        } else if archive.files.contains_key("manifest.json") {
            archive.docker(name)?
        } else {
            return Err(ImportCause::Form);
        };
        if found.diff_ids.len() != found.layers.len() {
            let (configured, listed) = (found.diff_ids.len(), found.layers.len());
            return Err(PullCause::Layers { configured, listed }.into());
        }
        let layers = without_repetitions(&found.diff_ids);
        self.hold(container, &layers);
        for (name, diff_id) in found.layers.iter().zip(&found.diff_ids) {
            if !self.0.has_layer(diff_id.hex()) {
                let layer = archive.open_file(name)?;
                // Its own digest is not known; what counts is that of its content.
                self.0.unpack_layer(layer, diff_id, diff_id, &AtomicBool::new(false))?;
            }
        }
        let reference = name.map_or_else(|| path.display().to_string(), str::to_owned);
        let image = Image { reference, digest: found.digest, layers, config: found.config };
        Ok(self.0.pulled(image))
    }
}

impl Archive {
    fn open(path: &Path) -> Result<Self, ImportCause> {
        let read = |error: &dyn std::error::Error| ImportCause::Read(crate::remote::causes(error));
        let file = File::open(path).map_err(|error| read(&error))?;
        let files = archive::index(&file, MAX_ENTRIES).map_err(|error| read(&error))?;
        Ok(Self { file, files })
    }

    fn docker(&mut self, name: Option<&str>) -> Result<Found, ImportCause> {
        let bytes = self.read("manifest.json", manifest::MAX_BYTES)?;
        let images: Vec<DockerImage> = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
        let tagged = |image: &&DockerImage| {
            let tags = image.repo_tags.iter().flatten();
            name.is_some_and(|name| tags.into_iter().any(|tag| same_name(tag, name)))
        };
        let image = match (&images[..], name) {
            ([only], _) => only,
            (all, _) => all.iter().find(tagged).ok_or_else(|| which(all.len(), name))?,
        };
        let bytes = self.read(&image.config, manifest::MAX_CONFIG_BYTES)?;
        let digest = Digest::of_sha256(&Sha256::digest(&bytes)).to_string();
        let (config, diff_ids, platform) = parse_config(&bytes).map_err(PullCause::from)?;
        check_platform(&platform)?;
        Ok(Found { digest, config, diff_ids, layers: image.layers.clone() })
    }

    fn oci_layout(&mut self, name: Option<&str>) -> Result<Found, ImportCause> {
        let bytes = self.read("index.json", manifest::MAX_BYTES)?;
        let layout: Layout = serde_json::from_slice(&bytes).map_err(|error| unreadable(&error))?;
        let named: Vec<LayoutEntry> = layout
            .manifests
            .iter()
            .filter(|one| {
                let own = one.annotations.as_ref().and_then(|annotations| annotations.get(REF_NAME));
                matches!((own, name), (Some(own), Some(name)) if same_name(own, name))
            })
            .cloned()
            .collect();
        let count = layout.manifests.len();
        let candidates = if named.is_empty() { layout.manifests } else { named };
        let mut chosen = match &candidates[..] {
            [only] => only.entry.descriptor.digest.clone(),
            all if all.iter().all(|one| one.entry.platform.is_some()) && !all.is_empty() => {
                let entries: Vec<IndexEntry> = all.iter().map(|one| one.entry.clone()).collect();
                manifest::choose(&entries, &manifest::own_platform())?.descriptor.digest.clone()
            }
            _ => return Err(which(count, name)),
        };
        for _ in 0..MAX_DEPTH {
            match manifest::parse(&self.blob(&chosen, manifest::MAX_BYTES)?)? {
                Document::Index(entries) => {
                    chosen = manifest::choose(&entries, &manifest::own_platform())?.descriptor.digest.clone();
                }
                Document::Image(image) => {
                    let bytes = self.blob(&image.config.digest, manifest::MAX_CONFIG_BYTES)?;
                    let (config, diff_ids, platform) = parse_config(&bytes).map_err(PullCause::from)?;
                    check_platform(&platform)?;
                    let layers = image.layers.iter().map(|layer| blob_name(&layer.digest)).collect();
                    return Ok(Found { digest: chosen.to_string(), config, diff_ids, layers });
                }
            }
        }
        Err(ManifestError::Unreadable("an index within an index within an index".to_owned()).into())
    }

    fn blob(&mut self, digest: &Digest, limit: u64) -> Result<Vec<u8>, ImportCause> {
        let name = blob_name(digest);
        let bytes = self.read(&name, limit)?;
        let found = Digest::of_sha256(&Sha256::digest(&bytes));
        if found == *digest { Ok(bytes) } else { Err(ImportCause::Corrupt { name, found }) }
    }

    fn read(&mut self, name: &str, limit: u64) -> Result<Vec<u8>, ImportCause> {
        let mut bytes = Vec::new();
        let read = self.open_file(name)?.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| ImportCause::Read(error.to_string()))?;
        if bytes.len() as u64 > limit {
            return Err(ImportCause::Read(format!("`{name}` has more than {limit} bytes")));
        }
        Ok(bytes)
    }

    fn open_file(&mut self, name: &str) -> Result<impl Read + use<'_>, ImportCause> {
        let mut name = name.trim_start_matches("./").to_owned();
        // Docker once wrote links for layers that several images share.
        for _ in 0..=MAX_DEPTH {
            match self.files.get(&name) {
                Some(ArchiveFile::Data { offset, size }) => {
                    let seek = self.file.seek(SeekFrom::Start(*offset));
                    seek.map_err(|error| ImportCause::Read(error.to_string()))?;
                    return Ok(io::BufReader::new(&self.file).take(*size));
                }
                Some(ArchiveFile::Link(target)) => name.clone_from(target),
                None => break,
            }
        }
        Err(ImportCause::Lacks(name.chars().take(200).collect()))
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// `app` and `docker.io/library/app:latest` are the same; what is no name of an image is compared as it is.
fn same_name(one: &str, other: &str) -> bool {
    let whole = |name: &str| name.parse::<agent_core::image::Reference>().map(|reference| reference.to_string());
    one == other || matches!((whole(one), whole(other)), (Ok(one), Ok(other)) if one == other)
}

fn which(count: usize, name: Option<&str>) -> ImportCause {
    ImportCause::Which { count, wanted: name.unwrap_or_default().to_owned() }
}

fn unreadable(error: &serde_json::Error) -> ImportCause {
    ManifestError::Unreadable(error.to_string()).into()
}
