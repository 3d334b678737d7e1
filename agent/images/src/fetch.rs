//! What a task's `CommandInfo.uris` name, brought into its sandbox before it starts.
//!
//! [`Fetcher::fetch`] takes a task's URIs one after the other: over HTTP, from the node's own files, over FTP or WebHDFS,
//! maybe through the cache ([`cache`]), where what several tasks want is downloaded once. Archives are unpacked as layers
//! are: every path is resolved by the kernel below the sandbox. Whatever is made belongs to the task's user.

mod address;
mod cache;
mod extract;
mod ftp;
mod http;
mod local;
mod place;
mod progress;
mod zip;

pub use address::AddressError;

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use address::{Address, Source};
use cache::Cache;
use extract::Archive;
use place::Sandbox;
use progress::Sink;

/// How a node fetches.
#[derive(Clone, Debug)]
pub struct FetchSettings {
    /// Where the cache is; emptied at the beginning, for nothing is known of what an earlier agent left.
    pub cache: PathBuf,
    /// What the cache may take.
    pub cache_bytes: u64,
    /// What one file, and what is unpacked from one archive, may take.
    pub file_bytes: u64,
    /// Certificate authorities in PEM to trust beside the host's.
    pub authorities: Vec<String>,
    /// The host's list of certificate authorities.
    pub host_authorities: Option<PathBuf>,
    /// For each of [`FetchPatience`]'s.
    pub patience: FetchPatience,
}

/// How long something may take.
#[derive(Clone, Copy, Debug)]
pub struct FetchPatience {
    /// Until a server answers.
    pub connect: Duration,
    /// Without a byte (Mesos's stall timeout).
    pub stall: Duration,
    /// One URI, with all tries.
    pub whole: Duration,
    /// Before the second try; twice as long before each further one.
    pub pause: Duration,
    /// Tries for what may pass.
    pub tries: u32,
}

impl Default for FetchPatience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(60),
            whole: Duration::from_secs(1800),
            pause: Duration::from_secs(1),
            tries: 4,
        }
    }
}

/// Everything one task wants.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Wish {
    /// Where it goes.
    pub sandbox: PathBuf,
    /// Whose it is.
    pub uid: u32,
    /// Whose it is.
    pub gid: u32,
    /// What the sandbox may have when all of it is there.
    pub most_bytes: Option<u64>,
    /// One after the other.
    pub uris: Vec<Uri>,
}

/// One of `CommandInfo.uris`.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Uri {
    /// Where from.
    pub value: String,
    /// Make it executable, and unpack nothing.
    pub executable: bool,
    /// Unpack it if its name is an archive's.
    pub extract: bool,
    /// Keep it for others of the same user.
    pub cache: bool,
    /// What to call it instead of its own name; may have directories.
    pub output_file: Option<String>,
}

/// Why something was not fetched. The text names no secret: neither passwords nor what follows `?` in an address.
#[derive(Clone, Debug, thiserror::Error)]
pub enum FetchError {
    /// An address that means nothing here.
    #[error("'{uri}': {source}")]
    Address {
        /// As it can be shown.
        uri: String,
        /// What is wrong with it.
        source: AddressError,
    },
    /// It could not be had.
    #[error("'{uri}': {reason}")]
    Failed {
        /// As it can be shown.
        uri: String,
        /// Why.
        reason: String,
    },
}

/// What goes wrong with one URI, before it is told which.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// It may be there a moment later.
    #[error("{0}")]
    Passing(String),
    /// It will not.
    #[error("{0}")]
    Lasting(String),
}

impl Trouble {
    fn lasting(error: impl std::fmt::Display) -> Self {
        Self::Lasting(error.to_string())
    }

    fn io(what: &str) -> impl Fn(io::Error) -> Self {
        move |error| Self::Lasting(format!("{what}: {error}"))
    }
}

/// At the same time, of all tasks: each waits for its turn.
const DOWNLOADS: usize = 8;
/// Unpacking takes a processor each.
const UNPACKING: usize = 2;

/// Fetches for all tasks of a node.
#[derive(Clone, Debug)]
pub struct Fetcher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: FetchSettings,
    cache: Cache,
    downloads: Semaphore,
    unpacking: Semaphore,
}

impl Fetcher {
    /// Empties the cache.
    ///
    /// # Errors
    /// The cache's directory cannot be used.
    pub fn open(settings: FetchSettings) -> io::Result<Self> {
        let cache = Cache::open(settings.cache.clone(), settings.cache_bytes)?;
        let (downloads, unpacking) = (Semaphore::new(DOWNLOADS), Semaphore::new(UNPACKING));
        Ok(Self(Arc::new(Inner { settings, cache, downloads, unpacking })))
    }

    /// Brings everything into the sandbox, which exists. Dropping the future gives it up.
    ///
    /// # Errors
    /// The first that cannot be had.
    pub async fn fetch(&self, wish: &Wish) -> Result<(), FetchError> {
        // Before anything is brought: a mistake in the last one is known now.
        let mut addresses = Vec::new();
        for uri in &wish.uris {
            let shown = address::shown(&uri.value);
            addresses.push(Address::parse(uri).map_err(|source| FetchError::Address { uri: shown, source })?);
        }
        for (uri, address) in wish.uris.iter().zip(addresses) {
            let shown = address::shown(&uri.value);
            let failed = |reason: String| FetchError::Failed { uri: shown.clone(), reason };
            let whole = self.0.settings.patience.whole;
            match tokio::time::timeout(whole, self.0.one(wish, uri, &address)).await {
                Ok(Ok(())) => tracing::info!(uri = shown, sandbox = %wish.sandbox.display(), "fetched"),
                Ok(Err(trouble)) => return Err(failed(trouble.to_string())),
                Err(_) => return Err(failed(format!("it is not here after {} s", whole.as_secs()))),
            }
        }
        Ok(())
    }
}

/// Tells blocking work that nobody waits for it any more.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Inner {
    async fn one(self: &Arc<Self>, wish: &Wish, uri: &Uri, address: &Address) -> Result<(), Trouble> {
        let sandbox =
            Sandbox::open(&wish.sandbox, wish.uid, wish.gid).map_err(Trouble::io("cannot use the sandbox"))?;
        let archive = if uri.extract && !uri.executable { Archive::of(&address.name) } else { None };
        let left = self.left(wish).await?;
        let mode = if uri.executable { 0o755 } else { 0o644 };
        if !uri.cache {
            // As Mesos does, the archive itself stays beside what was in it.
            let file = sandbox.create(&address.output, 0o600).map_err(Trouble::io("cannot make the file"))?;
            self.download(address, wish, left, file.try_clone().map_err(Trouble::lasting)?).await?;
            sandbox.finish(&file, mode).map_err(Trouble::io("cannot finish the file"))?;
            return match archive {
                // The archive itself takes of it.
                Some(archive) => {
                    let left = self.left(wish).await?;
                    self.unpack(archive, file, sandbox, address, left).await
                }
                None => Ok(()),
            };
        }
        let key = format!("{} {}", wish.uid, uri.value);
        let cached = {
            let (inner, address, wish) = (self.clone(), address.clone(), wish.clone());
            self.cache
                .get(&key, move |file| async move {
                    let most = inner.settings.file_bytes;
                    inner.download(&address, &wish, most, file).await
                })
                .await?
        };
        let file = cached.open().map_err(Trouble::io("cannot open the cached file"))?;
        if let Some(archive) = archive {
            return self.unpack(archive, file, sandbox, address, left).await;
        }
        let size = file.metadata().map_err(Trouble::io("cannot look at the cached file"))?.len();
        if size > left {
            return Err(Trouble::Lasting(format!("it has {size} bytes, and the sandbox has room for {left}")));
        }
        let output = address.output.clone();
        let copied = tokio::task::spawn_blocking(move || {
            let mut copy = sandbox.create(&output, 0o600)?;
            io::copy(&mut &file, &mut copy)?;
            sandbox.finish(&copy, mode)
        });
        let copied = copied.await.map_err(Trouble::lasting)?;
        // Used until here: what is in use is not removed.
        drop(cached);
        copied.map_err(Trouble::io("cannot copy the cached file"))
    }

    /// Brings the bytes, with all tries, and checks them.
    async fn download(&self, address: &Address, wish: &Wish, most: u64, file: File) -> Result<(), Trouble> {
        let _turn = self.downloads.acquire().await.map_err(Trouble::lasting)?;
        let patience = self.settings.patience;
        let mut sink = Sink::new(file, most, address.checksum.as_ref());
        let mut pause = patience.pause;
        for round in 1.. {
            let result = match &address.source {
                Source::Http(url) => http::get(&self.settings, url, &mut sink).await,
                Source::Ftp(ftp) => ftp::get(ftp, patience, &mut sink).await,
                Source::File(path) => local::copy(path.clone(), wish.uid, wish.gid, &mut sink).await,
            };
            match result {
                Ok(()) => break,
                Err(Trouble::Passing(reason)) if round < patience.tries => {
                    tracing::info!(uri = address.shown, reason, round, "a fetch is tried again");
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(trouble) => return Err(trouble),
            }
        }
        sink.finish()
    }

    /// What may still be put into a sandbox. Nobody else writes to it yet.
    async fn left(&self, wish: &Wish) -> Result<u64, Trouble> {
        let most = self.settings.file_bytes;
        let Some(most_bytes) = wish.most_bytes else { return Ok(most) };
        let sandbox = wish.sandbox.clone();
        // There may be millions of files in it.
        let size = tokio::task::spawn_blocking(move || place::size(&sandbox)).await.map_err(Trouble::lasting)?;
        let size = size.map_err(Trouble::io("cannot tell what the sandbox has"))?;
        Ok(most_bytes.saturating_sub(size).min(most))
    }

    async fn unpack(
        &self,
        archive: Archive,
        file: File,
        sandbox: Sandbox,
        address: &Address,
        limit: u64,
    ) -> Result<(), Trouble> {
        let _turn = self.unpacking.acquire().await.map_err(Trouble::lasting)?;
        let cancelled = Arc::new(AtomicBool::new(false));
        let _cancel = Cancel(cancelled.clone());
        let name = address.name.clone();
        let unpacked =
            tokio::task::spawn_blocking(move || extract::unpack(archive, file, &sandbox, &name, limit, &cancelled));
        unpacked
            .await
            .map_err(Trouble::lasting)?
            .map_err(|error| Trouble::Lasting(format!("cannot unpack it: {error}")))
    }
}
