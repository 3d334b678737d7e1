//! What the replicated log needs of a file system, so that its tests can give it one that fails.
//!
//! [`Real`] is the machine's. What [`Disk`] and [`DiskFile`] promise is what POSIX does: a write is safe once its file
//! was synced, a creation, a renaming or a removal once its directory was.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A disk, shared by all who use it.
pub type SharedDisk = Arc<dyn Disk>;

/// How a file is opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opening {
    /// It is there.
    Existing,
    /// It is made, or emptied.
    Empty,
    /// It is not there yet, and is made with this mode.
    New {
        /// Permissions.
        mode: u32,
    },
}

/// A file system.
pub trait Disk: Debug + Send + Sync {
    /// Makes a directory that may be there already.
    ///
    /// # Errors
    /// The disk refuses.
    fn create_directory(&self, path: &Path) -> io::Result<()>;

    /// The files in a directory.
    ///
    /// # Errors
    /// The disk refuses.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// All of a file; `None` if there is none.
    ///
    /// # Errors
    /// The disk refuses.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;

    /// Opens a file for reading and writing.
    ///
    /// # Errors
    /// The disk refuses.
    fn open(&self, path: &Path, opening: Opening) -> io::Result<Box<dyn DiskFile>>;

    /// Gives a file another name, in place of the one that may have it.
    ///
    /// # Errors
    /// The disk refuses.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// The disk refuses; [`io::ErrorKind::NotFound`] if there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes a renaming, creation or removal in `path`'s directory safe.
    ///
    /// # Errors
    /// The disk refuses.
    fn sync_directory_of(&self, path: &Path) -> io::Result<()>;

    /// A number that no file has been marked with before.
    fn salt(&self) -> u64;

    /// For a disk that only pretends: how long the next work takes. Otherwise it takes as long as it takes, in a thread
    /// of its own.
    fn pretends(&self) -> Option<Duration> {
        None
    }
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Fills the buffer from an offset.
    ///
    /// # Errors
    /// The disk refuses, or the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes at an offset.
    ///
    /// # Errors
    /// The disk refuses.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts the file, or extends it with zeros.
    ///
    /// # Errors
    /// The disk refuses.
    fn set_len(&self, length: u64) -> io::Result<()>;

    /// Makes the content safe.
    ///
    /// # Errors
    /// The disk refuses.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes the content and everything else of the file safe.
    ///
    /// # Errors
    /// The disk refuses.
    fn sync_all(&self) -> io::Result<()>;
}

/// Does what may wait for the disk where nobody waits for it.
pub(crate) async fn blocking<T: Send + 'static>(
    disk: &SharedDisk,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    match disk.pretends() {
        None => tokio::task::spawn_blocking(work).await.map_err(io::Error::other),
        Some(takes) => {
            tokio::time::sleep(takes).await;
            Ok(work())
        }
    }
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Real;

impl Real {
    /// For those who share.
    #[must_use]
    pub fn shared() -> SharedDisk {
        Arc::new(Self)
    }
}

impl Disk for Real {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)?;
        self.sync_directory_of(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        match fs::read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn open(&self, path: &Path, opening: Opening) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match opening {
            Opening::Existing => {}
            Opening::Empty => drop(options.create(true).truncate(true)),
            Opening::New { mode } => drop(options.create_new(true).mode(mode)),
        }
        Ok(Box::new(options.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(directory)?.sync_all()
    }

    fn salt(&self) -> u64 {
        u64::from_le_bytes(uuid::Uuid::new_v4().into_bytes()[..8].try_into().expect("a UUID has 16 bytes"))
    }
}

impl DiskFile for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        Self::set_len(self, length)
    }

    fn sync_data(&self) -> io::Result<()> {
        Self::sync_data(self)
    }

    fn sync_all(&self) -> io::Result<()> {
        Self::sync_all(self)
    }
}
