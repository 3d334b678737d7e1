//! Brings one blob here: from several registries if need be, going on where it stopped, hashed while it comes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent_core::image::Digest;
use futures_util::StreamExt;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::disk::{Disk, DiskError};
use crate::manifest::Descriptor;
use crate::remote::{Remote, RemoteError, causes};

/// What is written at once: small enough for memory, large enough to be worth the way to a thread that may wait.
const CHUNK: usize = 256 * 1024;
/// The pause after the first failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a blob is not here.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// See there.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The registry went away and did not come back.
    #[error("{digest} stopped at byte {at} of {size} and did not go on for {patience:?}: {said}")]
    Stalled {
        /// Which blob.
        digest: Digest,
        /// How far it came.
        at: u64,
        /// How far it should come.
        size: u64,
        /// How long we waited.
        patience: Duration,
        /// The last failure.
        said: String,
    },
    /// The registry has other bytes than it says.
    #[error("{digest} from registry {host} is corrupt: its content has the digest {found}")]
    Corrupt {
        /// Which blob.
        digest: Digest,
        /// Who has it.
        host: String,
        /// What it is instead.
        found: Digest,
    },
    /// More bytes than the manifest says.
    #[error("{digest} from registry {host} is corrupt: it is longer than the {size} bytes its manifest names")]
    TooLong {
        /// Which blob.
        digest: Digest,
        /// Who has it.
        host: String,
        /// What the manifest says.
        size: u64,
    },
    /// See there.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl DownloadError {
    /// Whether there was no room.
    pub(crate) fn is_full(&self) -> bool {
        match self {
            Self::Disk(error) => error.is_full(),
            Self::Write { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Remote(_) | Self::Stalled { .. } | Self::Corrupt { .. } | Self::TooLong { .. } => false,
        }
    }
}

/// The growing file with its hash.
struct Partial {
    path: PathBuf,
    file: File,
    hash: Sha256,
    length: u64,
}

impl Partial {
    /// Opens what an earlier download left, and hashes it again.
    fn open(path: &Path, size: u64) -> io::Result<Self> {
        let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut hash = Sha256::new();
        let mut length = 0;
        if file.metadata()?.len() > size {
            file.set_len(0)?;
        }
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            length += read as u64;
        }
        Ok(Self { path: path.to_owned(), file, hash, length })
    }

    fn start_over(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.hash = Sha256::new();
        self.length = 0;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn digest(&self) -> Digest {
        Digest::of_sha256(&self.hash.clone().finalize())
    }
}

/// How one attempt ended.
enum Attempt {
    Whole,
    /// As far as the file has come now.
    Broken(RemoteError),
}

/// Downloads a blob; gives its file.
pub(crate) async fn download(
    disk: &Disk,
    remotes: &[Arc<Remote>],
    blob: &Descriptor,
    patience: Duration,
) -> Result<PathBuf, DownloadError> {
    let path = disk.blob(&blob.digest);
    if path.metadata().is_ok_and(|metadata| metadata.len() == blob.size) {
        return Ok(path);
    }
    let partial = disk.partial(&blob.digest);
    let failed = |source| DownloadError::Write { path: partial.clone(), source };
    let (open, size) = (partial.clone(), blob.size);
    let mut partial = blocking(move || Partial::open(&open, size)).await.map_err(failed)?;
    let (mut since, mut pause) = (Instant::now(), FIRST_PAUSE);
    let (mut turn, mut refusals, mut resumed) = (0, 0, partial.length > 0);
    loop {
        let Some(remote) = remotes.get(turn % remotes.len().max(1)) else {
            let said = "nobody to ask".to_owned();
            return Err(RemoteError::Unusable { host: "none".to_owned(), said }.into());
        };
        let before = partial.length;
        let (attempt, back) = attempt(remote, blob, partial).await?;
        partial = back;
        match attempt {
            Attempt::Whole => {
                let found = partial.digest();
                if found == blob.digest {
                    drop(partial);
                    return Ok(disk.publish_blob(&blob.digest)?);
                }
                partial.start_over().map_err(|source| DownloadError::Write { path: partial.path.clone(), source })?;
                let host = remote.endpoint().host.clone();
                tracing::warn!(digest = %blob.digest, %host, %found, "a blob is corrupt");
                // What was there before may have been at fault; and a mirror is not the registry.
                refusals += usize::from(!resumed);
                turn += usize::from(!resumed);
                resumed = false;
                if refusals >= remotes.len() {
                    return Err(DownloadError::Corrupt { digest: blob.digest.clone(), host, found });
                }
            }
            Attempt::Broken(error) if error.is_passing() => {
                if partial.length > before {
                    (since, pause) = (Instant::now(), FIRST_PAUSE);
                } else {
                    turn += 1;
                }
                if since.elapsed() >= patience {
                    return Err(DownloadError::Stalled {
                        digest: blob.digest.clone(),
                        at: partial.length,
                        size: blob.size,
                        patience,
                        said: error.to_string(),
                    });
                }
                tracing::debug!(digest = %blob.digest, at = partial.length, %error, "a download broke off");
                resumed |= partial.length > 0;
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Attempt::Broken(error) => {
                refusals += 1;
                turn += 1;
                if refusals >= remotes.len() {
                    return Err(error.into());
                }
            }
        }
    }
}

async fn attempt(
    remote: &Remote,
    blob: &Descriptor,
    mut partial: Partial,
) -> Result<(Attempt, Partial), DownloadError> {
    if partial.length == blob.size {
        return Ok((Attempt::Whole, partial));
    }
    let host = &remote.endpoint().host;
    let mut incoming = match remote.blob(&blob.digest, partial.length).await {
        Ok(incoming) => incoming,
        Err(error) => return Ok((Attempt::Broken(error), partial)),
    };
    if !incoming.resumed && partial.length > 0 {
        partial = written(partial, Partial::start_over).await?;
    }
    let too_long = || DownloadError::TooLong { digest: blob.digest.clone(), host: host.clone(), size: blob.size };
    if incoming.stream.content_length.is_some_and(|length| partial.length.saturating_add(length) > blob.size) {
        return Err(too_long());
    }
    let unreachable = |said| RemoteError::Unreachable { host: host.clone(), said };
    let mut buffer: Vec<u8> = Vec::with_capacity(CHUNK);
    loop {
        let next = incoming.stream.next().await;
        let (ended, said) = match &next {
            Some(Ok(_)) => (false, None),
            Some(Err(error)) => (true, Some(causes(error))),
            None => (true, None),
        };
        if let Some(Ok(bytes)) = next {
            buffer.extend_from_slice(&bytes);
        }
        if buffer.len() >= CHUNK || ended {
            if partial.length + buffer.len() as u64 > blob.size {
                return Err(too_long());
            }
            let bytes = std::mem::replace(&mut buffer, Vec::with_capacity(if ended { 0 } else { CHUNK }));
            partial = written(partial, move |partial| partial.append(&bytes)).await?;
        }
        if !ended {
            continue;
        }
        let attempt = match said {
            _ if partial.length == blob.size => Attempt::Whole,
            Some(said) => Attempt::Broken(unreachable(said)),
            None => Attempt::Broken(unreachable(format!("it ended at byte {} of {}", partial.length, blob.size))),
        };
        return Ok((attempt, partial));
    }
}

async fn written(
    mut partial: Partial,
    change: impl FnOnce(&mut Partial) -> io::Result<()> + Send + 'static,
) -> Result<Partial, DownloadError> {
    let path = partial.path.clone();
    blocking(move || change(&mut partial).map(|()| partial))
        .await
        .map_err(|source| DownloadError::Write { path, source })
}

/// Runs what may wait for a disk where it may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(io::Error::other(error)),
    }
}
