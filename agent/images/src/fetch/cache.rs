//! What several tasks fetch, downloaded once. The files least wanted go when there are too many; what is in use stays.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::Trouble;

/// The files that are here, and those on their way.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
    limit: u64,
    shelf: Mutex<Shelf>,
}

#[derive(Debug, Default)]
struct Shelf {
    files: BTreeMap<String, Slot>,
    /// Names of files count up, and so do uses.
    count: u64,
}

#[derive(Debug)]
struct Slot {
    file: Arc<Cached>,
    used: u64,
}

/// One file of the cache. As long as somebody has it, it stays.
#[derive(Debug)]
pub(super) struct Cached {
    path: PathBuf,
    /// Its length, once it is whole.
    length: OnceCell<u64>,
}

impl Cached {
    pub(super) fn open(&self) -> io::Result<File> {
        File::open(&self.path)
    }
}

impl Drop for Cached {
    fn drop(&mut self) {
        // One that never came is not there.
        let _ = fs::remove_file(&self.path);
    }
}

impl Cache {
    pub(super) fn open(directory: PathBuf, limit: u64) -> io::Result<Self> {
        match fs::remove_dir_all(&directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&directory)?;
        // Others' secrets may be in it.
        fs::set_permissions(&directory, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
        Ok(Self { directory, limit, shelf: Mutex::new(Shelf::default()) })
    }

    /// The file of this key; `bring` writes it if it is not here. Whoever else wants it meanwhile waits; when one gives up,
    /// or fails, the next one tries.
    pub(super) async fn get<F>(&self, key: &str, bring: impl FnOnce(File) -> F) -> Result<Arc<Cached>, Trouble>
    where
        F: Future<Output = Result<(), Trouble>>,
    {
        let cached = self.slot(key);
        let fetched = cached.length.get_or_try_init(|| async {
            let file = File::options().create(true).write(true).read(true).truncate(true).open(&cached.path);
            let file = file.map_err(Trouble::io("cannot write the cache"))?;
            bring(file.try_clone().map_err(Trouble::lasting)?).await?;
            Ok(file.metadata().map_err(Trouble::lasting)?.len())
        });
        let result = fetched.await.map(drop);
        self.make_room(key);
        result.map(|()| cached)
    }

    fn slot(&self, key: &str) -> Arc<Cached> {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        shelf.count += 1;
        let used = shelf.count;
        let path = self.directory.join(used.to_string());
        let new = || Slot { file: Arc::new(Cached { path, length: OnceCell::new() }), used };
        let slot = shelf.files.entry(key.to_owned()).or_insert_with(new);
        slot.used = used;
        slot.file.clone()
    }

    /// Lets go of the files least wanted. One that is in use is removed by the last who has it.
    fn make_room(&self, newest: &str) {
        let mut shelf = self.shelf.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that failed, and that nobody tries again.
        shelf.files.retain(|_, slot| slot.file.length.initialized() || Arc::strong_count(&slot.file) > 1);
        loop {
            let total: u64 = shelf.files.values().filter_map(|slot| slot.file.length.get()).sum();
            if total <= self.limit {
                return;
            }
            let whole = shelf.files.iter().filter(|(_, slot)| slot.file.length.initialized());
            // The newest last: it goes only when it is too large by itself.
            let oldest = whole.min_by_key(|(key, slot)| (key.as_str() == newest, slot.used));
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { return };
            shelf.files.remove(&key);
        }
    }

    /// How many files there are.
    #[cfg(test)]
    pub(super) fn files(&self) -> usize {
        fs::read_dir(&self.directory).unwrap().count()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_ten_want_is_brought_once_and_the_least_wanted_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Arc::new(Cache::open(dir.path().join("cache"), 25).unwrap());
        let brought = Arc::new(AtomicUsize::new(0));
        let get = |key: &'static str| {
            let (cache, brought) = (cache.clone(), brought.clone());
            async move {
                let bring = |mut file: File| async move {
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                    brought.fetch_add(1, Ordering::SeqCst);
                    file.write_all(b"0123456789").map_err(Trouble::lasting)
                };
                cache.get(key, bring).await.unwrap()
            }
        };
        let ten: Vec<_> = (0..10).map(|_| tokio::spawn(get("a"))).collect();
        for one in ten {
            one.await.unwrap();
        }
        assert_eq!(brought.load(Ordering::SeqCst), 1);
        let first = get("a").await;
        drop(get("b").await);
        drop(get("c").await);
        assert_eq!(cache.files(), 3, "the least wanted is still used");
        drop(first);
        assert_eq!(cache.files(), 2);
        drop(get("a").await);
        assert_eq!(brought.load(Ordering::SeqCst), 4, "it had to be brought again");
    }

    #[tokio::test]
    async fn one_that_fails_leaves_nothing_and_the_next_tries_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path().join("cache"), 100).unwrap();
        let failed = cache.get("a", |_| async { Err(Trouble::Lasting("no".to_owned())) }).await;
        assert!(failed.is_err());
        drop(failed);
        assert!(cache.get("a", |_| async { Ok(()) }).await.is_ok());
        assert_eq!(cache.files(), 1);
    }
}
