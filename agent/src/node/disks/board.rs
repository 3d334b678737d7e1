//! What is known of the node's disks, for everybody who wants to know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use agent_core::disks::content::Content;
use agent_core::disks::gpt::Guid;
use agent_core::disks::layout::{Layout, Part};
use api::attributes::Attribute;
use api::disks::{NamedRule, Purpose};
use api::facts::{Fact, Source};
use api::resources::{Disk as ResourceDisk, DiskKind, DiskSource, ResourceValue};
use api::{Milli, Resource, Resources};
use hwdetect::smart::{Health, Verdict};

use super::mounting::{data, is_mounted, is_pool, mount_point};
use super::owner::Owner;
use super::volumes::has_volumes;

/// Disks whose health is an attribute each; of more there is a summary.
const LISTED: usize = 32;
/// What could not be used is tried again after it.
const AGAIN: Duration = Duration::from_secs(300);
/// Whoever waits longer for another one's pass does without a pass of its own.
const BUSY: Duration = Duration::from_secs(20);

/// Shared by everybody; nobody holds it for long.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board {
    known: Arc<Mutex<Known>>,
    /// Of whoever mounts and unmounts now.
    working: Arc<Mutex<()>>,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What the operator wants; none until a master has said it.
    pub(super) rules: Option<Vec<NamedRule>>,
    /// What is on each disk, by [`super::device::sequence`].
    pub(super) contents: BTreeMap<String, Content>,
    /// What is shown of each disk, by its kernel name.
    pub(super) shown: BTreeMap<String, Shown>,
    /// Partitions of ours.
    pub(super) parts: BTreeMap<Guid, Used>,
    /// Layouts of disks that wait for a key before they are prepared, by [`super::device::sequence`].
    pub(super) planned: BTreeMap<String, Layout>,
    /// Disks of other nodes, by [`super::device::sequence`]. They are left alone.
    pub(super) strangers: BTreeMap<String, Owner>,
    /// The partition that is the work directory.
    pub(super) adopted: Option<Guid>,
    /// Why a partition is not made the work directory.
    pub(super) held_off: Option<&'static str>,
    /// Keys a master gave, until they are used.
    pub(super) keys: BTreeMap<Guid, Vec<u8>>,
    /// Keys a master is to be asked for.
    pub(super) wanted: BTreeMap<Guid, Wanted>,
    /// By kernel name.
    pub(super) health: BTreeMap<String, Health>,
    /// When it was looked at last.
    pub(super) health_at: Option<Instant>,
    /// When the disks were told last what is not used.
    pub(super) trimmed_at: Option<Instant>,
    /// The persistent volumes the master named last.
    pub(super) persistent: Option<Resources>,
    /// Roots of volumes it named since this process began: what it does not name any more was destroyed.
    pub(super) named: BTreeSet<PathBuf>,
}

/// A key that is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wanted {
    /// For a volume that is new.
    New,
    /// For one that there is.
    Known,
}

/// What is shown of a disk.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Shown {
    /// What is on it.
    pub(super) content: String,
    /// `unused`, `refused`, `in use`, `preparing`, `failed`.
    pub(super) state: &'static str,
    /// By which rule.
    pub(super) rule: Option<String>,
    /// Why not, or what for.
    pub(super) reason: String,
}

/// A partition of ours.
#[derive(Clone, Debug)]
pub(super) struct Used {
    pub(super) part: Part,
    /// The kernel's name of its disk.
    pub(super) disk: String,
    /// What tells disks apart, for an order that stays.
    pub(super) serial: Option<String>,
    /// Nobody else's: its file system was looked at.
    pub(super) is_ours: bool,
    /// Why it cannot be used.
    pub(super) failure: Option<Failure>,
    /// No rule wants it any more.
    pub(super) unwanted: bool,
    /// Programs and the disk itself say that it fails.
    pub(super) failing: bool,
}

/// Why a partition cannot be used.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) why: String,
    /// Since when. None: it is to be tried again at once.
    at: Option<Instant>,
    of: Cause,
}

/// What failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cause {
    /// The masters gave no key.
    Key,
    /// Anything here.
    Disk,
}

impl Failure {
    fn new(why: &str, of: Cause) -> Self {
        Self { why: why.to_owned(), at: Some(Instant::now()), of }
    }

    /// Has it stood for long enough?
    pub(super) fn is_over(&self) -> bool {
        self.at.is_none_or(|at| at.elapsed() >= AGAIN)
    }
}

impl Used {
    /// Can it be seen what is on it?
    pub(super) fn is_open(&self) -> bool {
        self.is_ours && is_mounted(&mount_point(self.part.guid))
    }

    /// Was it the work directory once?
    pub(super) fn is_marked(&self) -> bool {
        self.is_open() && mount_point(self.part.guid).join(POOL).exists()
    }
}

impl Board {
    pub(super) fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One at a time mounts and unmounts. None if another one takes too long.
    pub(super) fn work(&self) -> Option<MutexGuard<'_, ()>> {
        let until = Instant::now() + BUSY;
        loop {
            match self.working.try_lock() {
                Ok(guard) => return Some(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Some(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    /// A master says what the operator wants. Is it other than before?
    pub(crate) fn rules(&self, rules: Vec<NamedRule>) -> bool {
        let mut known = self.lock();
        let news = known.rules.as_ref() != Some(&rules);
        // Every session begins with them: its master may have the key that another one lacked.
        for failure in known.parts.values_mut().filter_map(|used| used.failure.as_mut()) {
            if failure.of == Cause::Key {
                failure.at = None;
            }
        }
        known.rules = Some(rules);
        news
    }

    /// A master gives a key, or says why not.
    pub(crate) fn key(&self, volume: &str, key: Vec<u8>, error: &str) {
        let mut known = self.lock();
        let Some(guid) = known.wanted.keys().find(|guid| guid.to_string() == volume).copied() else { return };
        known.wanted.remove(&guid);
        if error.is_empty() {
            known.keys.insert(guid, key);
        } else {
            tracing::error!(volume, error, "there is no key for an encrypted disk");
            if let Some(used) = known.parts.get_mut(&guid) {
                used.failure = Some(Failure::new(error, Cause::Key));
            }
        }
    }

    /// The keys a master is to be asked for.
    pub(crate) fn wanted(&self) -> Vec<(Guid, Wanted)> {
        self.lock().wanted.iter().map(|(guid, wanted)| (*guid, *wanted)).collect()
    }

    /// The master says which persistent volumes there are.
    pub(crate) fn volumes(&self, persistent: &Resources) {
        self.lock().persistent = Some(persistent.clone());
    }

    /// It cannot be used.
    pub(crate) fn failed(&self, guid: Guid, why: &str) {
        tracing::error!(partition = %guid, why, "a disk of ours cannot be used");
        if let Some(used) = self.lock().parts.get_mut(&guid) {
            used.failure = Some(Failure::new(why, Cause::Disk));
        }
    }

    /// Where the node's own state is kept, if anywhere.
    pub(super) fn state_directory(&self) -> Option<PathBuf> {
        let known = self.lock();
        let mut parts = known.parts.values().filter(|used| used.part.purpose == Purpose::State);
        parts.find(|used| used.is_open()).map(|used| data(used.part.guid))
    }

    /// The partition that was the work directory before and is not yet.
    pub(super) fn marked_to_adopt(&self, work_dir: &Path) -> Option<Guid> {
        let known = self.lock();
        known.to_adopt(work_dir).filter(|pool| pool.is_marked()).map(|pool| pool.part.guid)
    }

    /// The partition that is to be the work directory and is not yet.
    pub(crate) fn pool_to_adopt(&self, work_dir: &Path) -> Option<Guid> {
        let known = self.lock();
        let pool = known.to_adopt(work_dir)?;
        // Before a master has spoken, the disk that is the pool may not have shown itself.
        let may_be_new = || known.rules.is_some() && known.why_not_adopt(work_dir).is_none();
        (pool.is_marked() || may_be_new()).then_some(pool.part.guid)
    }

    /// Finds out why the partition that would be the work directory is not to be. Gives its disk, and why.
    pub(super) fn hold_off(&self, work_dir: &Path) -> Option<(String, &'static str)> {
        let mut known = self.lock();
        let first = known.to_adopt(work_dir).filter(|pool| !pool.is_marked()).map(|pool| pool.disk.clone());
        known.held_off = first.as_ref().and_then(|_| known.why_not_adopt(work_dir));
        first.zip(known.held_off)
    }

    /// The partition is the work directory now.
    pub(super) fn adopted(&self, guid: Guid) {
        self.lock().adopted = Some(guid);
    }

    /// After a start of this process: the one that is the work directory already.
    pub(super) fn find_adopted(&self, work_dir: &Path) {
        let mut known = self.lock();
        let guid = known.parts.keys().find(|guid| is_pool(**guid, work_dir)).copied();
        known.adopted = guid;
    }

    /// There may be a pool from an earlier boot that is not open yet: tasks had better wait, too.
    pub(crate) fn awaits_pool(&self) -> bool {
        let known = self.lock();
        known.marked().is_none() && known.closed().next().is_some()
    }

    /// What tasks can have of the work directory's disk, in MiB, if there is one.
    pub(crate) fn pool_mib(&self) -> Option<u64> {
        let known = self.lock();
        if known.held_off.is_some() {
            return None;
        }
        known.pool().filter(|pool| pool.failure.is_none()).map(|pool| pool.part.offered_mib())
    }

    /// Disks to be offered beside the work directory's.
    pub(crate) fn resources(&self) -> Vec<Resource> {
        let known = self.lock();
        let pool = known.pool().map(|pool| pool.part.guid);
        let mut all: Vec<&Used> = known.parts.values().filter(|used| Some(used.part.guid) != pool).collect();
        all.sort_by_key(|used| used.part.guid);
        let offered = all.into_iter().filter(|used| known.is_offered(used));
        offered.filter_map(resource).collect()
    }

    /// How the disks are.
    pub(crate) fn facts(&self) -> Vec<Fact> {
        let known = self.lock();
        if known.health.is_empty() {
            return Vec::new();
        }
        let fact = |attribute: Attribute, evidence: &str| Fact {
            attribute,
            source: Source::Kernel,
            evidence: evidence.to_owned(),
        };
        let number = |name: &str, value: u64| Attribute {
            name: name.to_owned(),
            value: api::attributes::AttributeValue::Scalar(Milli(value * 1000)),
        };
        let mut facts = Vec::new();
        let failing = known.health.values().filter(|health| health.verdict == Verdict::Failing).count();
        facts.push(fact(number("disks.failing", u64::try_from(failing).unwrap_or(0)), "SMART"));
        if let Some(wear) = known.health.values().filter_map(|health| health.wear_percent).max() {
            facts.push(fact(number("disks.wear_max", u64::from(wear)), "SMART"));
        }
        for (name, health) in known.health.iter().take(LISTED) {
            let evidence = health.reasons.join("; ");
            facts.push(fact(Attribute::text(&format!("disks.{name}.health"), health.verdict.name()), &evidence));
        }
        facts
    }

    /// What is shown of a disk beside its description.
    pub(crate) fn show(&self, name: &str) -> serde_json::Value {
        let known = self.lock();
        let shown = known.shown.get(name).cloned().unwrap_or_default();
        serde_json::json!({
            "content": shown.content,
            "state": if shown.state.is_empty() { "unused" } else { shown.state },
            "rule": shown.rule,
            "reason": shown.reason,
            "health": known.health.get(name),
        })
    }
}

impl Known {
    fn paths(&self) -> impl Iterator<Item = &Used> {
        self.parts.values().filter(|used| used.part.purpose == Purpose::Path)
    }

    /// Those whose mark cannot be seen yet.
    fn closed(&self) -> impl Iterator<Item = &Used> {
        self.paths().filter(|used| used.failure.is_none() && !used.is_open())
    }

    /// The one that was the work directory before; of several the one that is.
    fn marked(&self) -> Option<&Used> {
        let marked = self.paths().filter(|used| used.is_marked());
        marked.min_by_key(|used| (self.adopted != Some(used.part.guid), &used.serial, used.part.guid))
    }

    /// The partition that is the work directory's: one that was before or may have been, else the first that is nothing else.
    pub(super) fn pool(&self) -> Option<&Used> {
        let order = |used: &&Used| (used.serial.clone(), used.part.guid);
        self.marked().or_else(|| self.closed().min_by_key(order)).or_else(|| {
            // One that is offered for itself has volumes, which nobody would find below another path.
            let free = |used: &&Used| !used.is_open() || !has_volumes(&data(used.part.guid));
            self.paths().filter(free).min_by_key(order)
        })
    }

    fn to_adopt(&self, work_dir: &Path) -> Option<&Used> {
        let pool = self.pool()?;
        (pool.is_open() && pool.failure.is_none() && !is_pool(pool.part.guid, work_dir)).then_some(pool)
    }

    /// Why none becomes the work directory that was not before.
    fn why_not_adopt(&self, work_dir: &Path) -> Option<&'static str> {
        has_volumes(work_dir).then_some("it becomes the node's pool when no volume is left where they are now")
    }

    /// Whoever has a volume there keeps it, whatever becomes of the disk; new ones are made on good disks only.
    fn is_offered(&self, used: &Used) -> bool {
        let root = data(used.part.guid);
        if self.has_volume(&root) {
            return true;
        }
        used.failure.is_none() && !used.unwanted && !used.failing
    }

    /// Does the master name a volume there? While it has not said, yes.
    fn has_volume(&self, root: &Path) -> bool {
        let Some(persistent) = &self.persistent else { return true };
        persistent.iter().any(|resource| root_of(resource).is_some_and(|found| Path::new(found) == root))
    }
}

/// Marks the partition that was made the work directory.
pub(super) const POOL: &str = "pool";

/// The root of a disk resource.
pub(super) fn root_of(resource: &Resource) -> Option<&str> {
    resource.disk.as_ref()?.source.as_ref()?.root.as_deref()
}

fn resource(used: &Used) -> Option<Resource> {
    let kind = match used.part.purpose {
        Purpose::Path => DiskKind::Path,
        Purpose::Mount => DiskKind::Mount,
        Purpose::State => return None,
    };
    let root = Some(data(used.part.guid).display().to_string());
    let size = ResourceValue::Scalar(Milli(used.part.offered_mib().saturating_mul(1000)));
    let mut resource = Resource::unreserved("disk", size);
    let source = DiskSource { kind, root, ..DiskSource::default() };
    resource.disk = Some(Box::new(ResourceDisk { source: Some(source), ..ResourceDisk::default() }));
    Some(resource)
}
