//! Have the disks of this boot shown themselves? What is not there at the registration, the master takes for lost.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Nothing new for so long: that was all.
const QUIET: Duration = Duration::from_millis(500);
/// A controller without a driver, or a disk that does not spin up, must not keep a node from working.
const LONGEST: Duration = Duration::from_secs(20);
/// After that every disk has had its time.
const BOOTED_MS: u64 = 120_000;
const LOOK: Duration = Duration::from_millis(50);

/// Waits until every controller has its driver and no new disk has come for a moment. At once on machines without
/// controllers.
pub(crate) async fn settled() {
    // Once in the life of this process: later disks are plugged in.
    static DONE: AtomicBool = AtomicBool::new(false);
    if DONE.swap(true, Ordering::Relaxed) || crate::uptime::millis() > BOOTED_MS {
        return;
    }
    let began = Instant::now();
    let mut disks = names();
    let mut since = began;
    loop {
        let controllers = controllers(Path::new("/sys/bus/pci/devices"));
        if controllers.total == 0 && disks.is_empty() {
            return;
        }
        let now = names();
        if now != disks || controllers.driven < controllers.total {
            disks = now;
            since = Instant::now();
        }
        if since.elapsed() >= QUIET {
            return;
        }
        if began.elapsed() >= LONGEST {
            tracing::warn!("not every controller of disks has a driver: going on without");
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn names() -> BTreeSet<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_made = |name: &String| ["loop", "ram", "zram", "dm-", "md"].iter().any(|prefix| name.starts_with(prefix));
    names.filter(|name| !is_made(name)).collect()
}

/// PCI functions of the class of mass storage, and those with a driver.
#[derive(Debug, Eq, PartialEq)]
struct Controllers {
    total: usize,
    driven: usize,
}

fn controllers(devices: &Path) -> Controllers {
    let paths = fs::read_dir(devices).into_iter().flatten().flatten().map(|entry| entry.path());
    let is_storage = |path: &std::path::PathBuf| {
        fs::read_to_string(path.join("class")).is_ok_and(|class| class.trim().starts_with("0x01"))
    };
    let storage: Vec<_> = paths.filter(is_storage).collect();
    let driven = storage.iter().filter(|path| path.join("driver").exists()).count();
    Controllers { total: storage.len(), driven }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controllers_are_counted_with_their_drivers() {
        let dir = tempfile::tempdir().unwrap();
        for (name, class, driven) in [("a", "0x010802", true), ("b", "0x010601", false), ("c", "0x020000", true)] {
            let path = dir.path().join(name);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("class"), format!("{class}\n")).unwrap();
            if driven {
                fs::write(path.join("driver"), "").unwrap();
            }
        }
        assert_eq!(controllers(dir.path()), Controllers { total: 2, driven: 1 });
        assert_eq!(controllers(Path::new("/nowhere")), Controllers { total: 0, driven: 0 });
    }
}
