//! The store's files: where each thing lies, and how it gets there whole or not at all.
//!
//! ```text
//! blobs/sha256/HEX     downloaded and checked, until they are unpacked
//! partial/HEX          being downloaded; a restart goes on from their end
//! unpacking/N          being unpacked; worthless after a restart
//! layers/HEX/          unpacked whole, named by the digest of the unpacked stream
//! sizes/HEX.json       what a layer holds; written last, so that a layer without it is not whole
//! l/HEX16              links to layers: overlayfs's options have a page, and 127 long names do not fit it
//! images/HEX.json      what a reference meant when it was pulled
//! containers/ID/       a container's own: upper, work, rootfs
//! removing/N           on its way out
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use agent_core::image::{Digest, ImageConfig};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A container's own files.
pub(crate) const CONTAINERS: &str = "containers";
/// Short names of layers.
pub(crate) const LINKS: &str = "l";
const SHORT: usize = 16;

/// The directory of a store.
#[derive(Debug)]
pub(crate) struct Disk {
    root: PathBuf,
    next: AtomicU64,
}

/// What a reference meant when it was pulled.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct ImageRecord {
    pub(crate) reference: String,
    /// Of the manifest.
    pub(crate) digest: String,
    /// The lowest first.
    pub(crate) layers: Vec<String>,
    pub(crate) config: ImageConfig,
    /// Pulled without a task's own credentials: every task may have it.
    pub(crate) shared: bool,
    /// When it was last used, milliseconds since 1970.
    pub(crate) used_ms: u64,
}

/// What a layer holds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct LayerSize {
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
}

/// A file of the store that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the image store cannot use {}", path.display())]
pub struct DiskError {
    path: PathBuf,
    source: io::Error,
}

impl DiskError {
    /// Whether there was no room.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

fn at<T>(path: &Path, result: io::Result<T>) -> Result<T, DiskError> {
    result.map_err(|source| DiskError { path: path.to_owned(), source })
}

impl Disk {
    /// Makes the directories, and removes what was under way when the last process ended, but for downloads.
    pub(crate) fn open(root: &Path) -> Result<Self, DiskError> {
        let disk = Self { root: root.to_owned(), next: AtomicU64::new(0) };
        at(root, fs::DirBuilder::new().recursive(true).mode(0o711).create(root))?;
        for name in ["blobs/sha256", "partial", "unpacking", "layers", "sizes", LINKS, "images", CONTAINERS, "removing"]
        {
            // Tasks enter `containers` and `layers` only through their own mounts.
            let path = root.join(name);
            at(&path, fs::DirBuilder::new().recursive(true).mode(0o700).create(&path))?;
        }
        for name in ["unpacking", "removing"] {
            let path = root.join(name);
            at(&path, empty(&path))?;
        }
        Ok(disk)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn partial(&self, digest: &Digest) -> PathBuf {
        self.root.join("partial").join(digest.hex())
    }

    pub(crate) fn layer(&self, layer: &str) -> PathBuf {
        self.root.join("layers").join(layer)
    }

    pub(crate) fn container(&self, container: &str) -> PathBuf {
        self.root.join(CONTAINERS).join(container)
    }

    fn size(&self, layer: &str) -> PathBuf {
        self.root.join("sizes").join(format!("{layer}.json"))
    }

    fn record(&self, reference: &str) -> PathBuf {
        let name = Digest::of_sha256(&Sha256::digest(reference.as_bytes()));
        self.root.join("images").join(format!("{}.json", name.hex()))
    }

    /// An empty directory nobody else has.
    pub(crate) fn unpacking(&self) -> Result<PathBuf, DiskError> {
        let path = self.root.join("unpacking").join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        // What an image's root directory is when its layers do not say.
        at(&path, fs::DirBuilder::new().mode(0o755).create(&path))?;
        Ok(path)
    }

    /// A downloaded file becomes a blob.
    pub(crate) fn publish_blob(&self, digest: &Digest) -> Result<PathBuf, DiskError> {
        let (from, to) = (self.partial(digest), self.blob(digest));
        at(&from, File::open(&from).and_then(|file| file.sync_all()))?;
        at(&to, fs::rename(&from, &to))?;
        Ok(to)
    }

    /// An unpacked directory becomes a layer. One that is there already is as good.
    pub(crate) fn publish_layer(&self, from: &Path, layer: &str, size: LayerSize) -> Result<(), DiskError> {
        let to = self.layer(layer);
        // On a disk the files must be there before their name says so.
        let directory = at(from, File::open(from))?;
        at(from, rustix::fs::syncfs(&directory).map_err(io::Error::from))?;
        if self.size(layer).exists() {
            return self.remove(from);
        }
        if to.exists() {
            self.remove(&to)?;
        }
        at(&to, fs::rename(from, &to))?;
        let link = self.root.join(short_name(layer));
        match symlink(Path::new("../layers").join(layer), &link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return at(&link, Err(error)),
            Ok(()) | Err(_) => {}
        }
        self.write(&self.size(layer), &size)
    }

    pub(crate) fn remove_layer(&self, layer: &str) -> Result<(), DiskError> {
        let size = self.size(layer);
        at(&size, missing_is_fine(fs::remove_file(&size)))?;
        let link = self.root.join(short_name(layer));
        at(&link, missing_is_fine(fs::remove_file(&link)))?;
        self.remove(&self.layer(layer))
    }

    /// Every whole layer; what is not whole is removed.
    pub(crate) fn layers(&self) -> Result<Vec<(String, LayerSize)>, DiskError> {
        let mut layers = Vec::new();
        for name in names(&self.root.join("layers"))? {
            let size = fs::read(self.size(&name)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
            match size {
                Some(size) => layers.push((name, size)),
                None => self.remove_layer(&name)?,
            }
        }
        Ok(layers)
    }

    pub(crate) fn save(&self, record: &ImageRecord) -> Result<(), DiskError> {
        self.write(&self.record(&record.reference), record)
    }

    pub(crate) fn forget(&self, reference: &str) -> Result<(), DiskError> {
        let path = self.record(reference);
        at(&path, missing_is_fine(fs::remove_file(&path)))
    }

    /// Every image; what cannot be read was written by another version, and can be pulled again.
    pub(crate) fn records(&self) -> Result<Vec<ImageRecord>, DiskError> {
        let directory = self.root.join("images");
        let mut records = Vec::new();
        for name in names(&directory)? {
            let path = directory.join(&name);
            match fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
                Some(record) => records.push(record),
                None => at(&path, missing_is_fine(fs::remove_file(&path)))?,
            }
        }
        Ok(records)
    }

    /// The downloads and blobs there are, by name.
    pub(crate) fn loose(&self) -> Result<Vec<PathBuf>, DiskError> {
        let mut paths = Vec::new();
        for directory in ["partial", "blobs/sha256"] {
            let directory = self.root.join(directory);
            paths.extend(names(&directory)?.into_iter().map(|name| directory.join(name)));
        }
        Ok(paths)
    }

    /// The containers that have files here.
    pub(crate) fn containers(&self) -> Result<Vec<String>, DiskError> {
        names(&self.root.join(CONTAINERS))
    }

    /// Removes a tree: it is gone from its place at once, whatever it holds.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), DiskError> {
        let removing = self.root.join("removing");
        let grave = removing.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        match fs::rename(path, &grave) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            moved => at(path, moved)?,
        }
        at(&grave, remove_tree(&grave, &removing, &self.next))
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), DiskError> {
        let bytes = serde_json::to_vec(value).map_err(io::Error::other);
        let temporary = path.with_extension("new");
        let written = bytes.and_then(|bytes| {
            let mut file = File::create(&temporary)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, path)
        });
        at(path, written)
    }
}

/// The link to a layer, relative to the store: sixteen digits tell any two layers of a node apart.
#[must_use]
pub(crate) fn short_name(layer: &str) -> String {
    format!("{LINKS}/{}", &layer[..layer.len().min(SHORT)])
}

fn names(directory: &Path) -> Result<Vec<String>, DiskError> {
    let mut names = Vec::new();
    for entry in at(directory, fs::read_dir(directory))? {
        let name = at(directory, entry)?.file_name();
        if let Ok(name) = name.into_string().map(|name| name.trim().to_owned())
            && !name.ends_with(".new")
        {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes everything in a directory, which stays.
fn empty(directory: &Path) -> io::Result<()> {
    let next = AtomicU64::new(u64::from(std::process::id()) << 32);
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path(), directory, &next)?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Removes a directory that may be deeper than our stack and any path: what is below is lifted to `graves` first.
fn remove_tree(tree: &Path, graves: &Path, next: &AtomicU64) -> io::Result<()> {
    if !fs::symlink_metadata(tree)?.is_dir() {
        return fs::remove_file(tree);
    }
    let mut waiting = vec![tree.to_owned()];
    while let Some(here) = waiting.pop() {
        for entry in fs::read_dir(&here)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                let lifted = graves.join(format!("d{}", next.fetch_add(1, Ordering::Relaxed)));
                fs::rename(entry.path(), &lifted)?;
                waiting.push(lifted);
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        fs::remove_dir(here)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_made_things_are_gone_after_a_restart_and_downloads_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let digest = Digest::of_sha256(&[1; 32]);
        let (whole, half) = ("a".repeat(64), "b".repeat(64));
        let made = disk.unpacking().unwrap();
        fs::write(made.join("file"), "x").unwrap();
        disk.publish_layer(&made, &whole, LayerSize { bytes: 1, entries: 1 }).unwrap();
        fs::create_dir_all(disk.layer(&half).join("deep/er")).unwrap();
        fs::create_dir(dir.path().join("unpacking/9")).unwrap();
        fs::write(disk.partial(&digest), "part").unwrap();
        drop(disk);
        let disk = Disk::open(dir.path()).unwrap();
        let layers = disk.layers().unwrap();
        assert_eq!(layers.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), [whole.as_str()]);
        assert!(!disk.layer(&half).exists());
        assert_eq!(fs::read_dir(dir.path().join("unpacking")).unwrap().count(), 0);
        assert_eq!(fs::read(disk.partial(&digest)).unwrap(), b"part");
        assert!(dir.path().join(short_name(&whole)).join("file").is_file());
        disk.remove_layer(&whole).unwrap();
        assert!(disk.layers().unwrap().is_empty());
        assert!(fs::symlink_metadata(dir.path().join(short_name(&whole))).is_err());
    }

    #[test]
    fn a_tree_deeper_than_any_path_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path()).unwrap();
        let tree = disk.container("c");
        fs::create_dir(&tree).unwrap();
        for _ in 0..3_000 {
            let outer = dir.path().join("outer");
            fs::create_dir(&outer).unwrap();
            fs::rename(&tree, outer.join("d")).unwrap();
            fs::rename(&outer, &tree).unwrap();
        }
        symlink("/", tree.join("away")).unwrap();
        disk.remove(&tree).unwrap();
        disk.remove(&tree).unwrap();
        assert!(disk.containers().unwrap().is_empty());
        assert_eq!(fs::read_dir(dir.path().join("removing")).unwrap().count(), 0);
    }
}
