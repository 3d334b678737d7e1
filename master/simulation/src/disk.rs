//! A disk in memory that forgets, when the power fails, what was not synced: wholly, in part, or torn within a write.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use master::disk::{Disk, DiskFile, Opening, SharedDisk};

use crate::chance::Chance;

/// What a disk writes at once.
const SECTOR: usize = 512;

/// One machine's disk; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct SimulatedDisk(Arc<Mutex<Content>>);

#[derive(Debug)]
struct Content {
    chance: Chance,
    files: BTreeMap<u64, Inode>,
    /// As programs see them, and as they are found after a power cut.
    names: BTreeMap<PathBuf, u64>,
    safe_names: BTreeMap<PathBuf, u64>,
    unsafe_names: Vec<Naming>,
    next: u64,
    /// The power fails after so many more changes.
    fuse: Option<u64>,
    /// It has.
    dead: bool,
    slow: bool,
    /// There is no room for anything new; and somebody has found that out.
    full: bool,
    refused: bool,
}

#[derive(Clone, Debug, Default)]
struct Inode {
    now: Vec<u8>,
    safe: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Clone, Debug)]
enum Naming {
    Is(PathBuf, u64),
    IsNot(PathBuf),
    Renamed(PathBuf, PathBuf),
}

impl SimulatedDisk {
    pub(crate) fn new(chance: Chance) -> Self {
        let content = Content {
            chance,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            safe_names: BTreeMap::new(),
            unsafe_names: Vec::new(),
            next: 0,
            fuse: None,
            dead: false,
            slow: false,
            full: false,
            refused: false,
        };
        Self(Arc::new(Mutex::new(content)))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn shared(&self) -> SharedDisk {
        Arc::new(self.clone())
    }

    /// The power fails after so many more changes, in the middle of the last.
    pub(crate) fn set_fuse(&self, changes: u64) {
        self.content().fuse = Some(changes);
    }

    /// Has the fuse blown?
    pub(crate) fn is_dead(&self) -> bool {
        self.content().dead
    }

    pub(crate) fn set_slow(&self, slow: bool) {
        self.content().slow = slow;
    }

    pub(crate) fn set_full(&self, full: bool) {
        let mut content = self.content();
        (content.full, content.refused) = (full, false);
    }

    /// Is it full, and has refused something since the process began?
    pub(crate) fn refuses(&self) -> bool {
        let content = self.content();
        content.full && content.refused
    }

    /// A process begins, and knows nothing.
    pub(crate) fn forget_refusals(&self) {
        self.content().refused = false;
    }

    /// The power failed, and is back: what was not synced is there, is not there, or is there in part.
    pub(crate) fn power_cut(&self) {
        let mut content = self.content();
        let content = &mut *content;
        let kept = match content.unsafe_names.len() {
            0 => 0,
            some => content.chance.index(some + 1),
        };
        let mut names = std::mem::take(&mut content.safe_names);
        for naming in content.unsafe_names.drain(..).take(kept) {
            rename(&mut names, naming);
        }
        for inode in content.files.values_mut() {
            inode.lose_power(&mut content.chance);
        }
        content.files.retain(|inode, _| names.values().any(|named| named == inode));
        content.names.clone_from(&names);
        content.safe_names = names;
        (content.fuse, content.dead) = (None, false);
    }

    /// The same content on a disk of its own, to look at.
    pub(crate) fn copy(&self) -> Self {
        let content = self.content();
        let copied = Self::new(Chance::new(0));
        {
            let mut other = copied.content();
            other.names.clone_from(&content.names);
            other.files = content
                .files
                .iter()
                .map(|(number, inode)| (*number, Inode { now: inode.now.clone(), ..Inode::default() }))
                .collect();
            other.next = content.next;
        }
        copied
    }
}

impl Inode {
    fn lose_power(&mut self, chance: &mut Chance) {
        let mut found = std::mem::take(&mut self.safe);
        // All of it had reached the disk, nothing had, or some sectors.
        let luck = chance.below(3);
        for change in self.unsynced.drain(..) {
            if luck == 0 {
                break;
            }
            match change {
                Change::Length(length) if luck == 1 || chance.percent(50) => found.resize(length, 0),
                Change::Length(_) => {}
                Change::Write(offset, bytes) if luck == 1 => put(&mut found, offset, &bytes),
                Change::Write(offset, bytes) => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let end = ((offset + at) / SECTOR + 1) * SECTOR - offset;
                        let piece = &bytes[at..end.min(bytes.len())];
                        if chance.percent(50) {
                            put(&mut found, offset + at, piece);
                        }
                        at += piece.len();
                    }
                }
            }
        }
        self.now.clone_from(&found);
        self.safe = found;
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.safe.clone_from(&self.now);
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, piece: &[u8]) {
    if bytes.len() < offset + piece.len() {
        bytes.resize(offset + piece.len(), 0);
    }
    bytes[offset..offset + piece.len()].copy_from_slice(piece);
}

fn rename(names: &mut BTreeMap<PathBuf, u64>, naming: Naming) {
    match naming {
        Naming::Is(path, inode) => drop(names.insert(path, inode)),
        Naming::IsNot(path) => drop(names.remove(&path)),
        Naming::Renamed(from, to) => {
            if let Some(inode) = names.remove(&from) {
                names.insert(to, inode);
            }
        }
    }
}

impl Content {
    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the power has failed")) } else { Ok(()) }
    }

    /// Before every change: may be the moment of the power cut. Says whether it is.
    fn burn(&mut self) -> io::Result<bool> {
        self.alive()?;
        match &mut self.fuse {
            Some(0) => self.dead = true,
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(self.dead)
    }

    /// Something more is to be kept.
    fn room(&mut self) -> io::Result<()> {
        if !self.full {
            return Ok(());
        }
        self.refused = true;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn name(&mut self, naming: Naming) -> io::Result<()> {
        if self.burn()? {
            return self.alive();
        }
        rename(&mut self.names, naming.clone());
        self.unsafe_names.push(naming);
        Ok(())
    }
}

fn absent(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display()))
}

impl Disk for SimulatedDisk {
    fn create_directory(&self, _path: &Path) -> io::Result<()> {
        self.content().alive()
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let content = self.content();
        content.alive()?;
        Ok(content.names.keys().filter(|path| path.parent() == Some(directory)).cloned().collect())
    }

    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let content = self.content();
        content.alive()?;
        Ok(content.names.get(path).map(|inode| content.files[inode].now.clone()))
    }

    fn open(&self, path: &Path, opening: Opening) -> io::Result<Box<dyn DiskFile>> {
        let mut content = self.content();
        content.alive()?;
        let known = content.names.get(path).copied();
        let inode = match (opening, known) {
            (Opening::Existing | Opening::Empty, Some(inode)) => inode,
            (Opening::Existing, None) => return Err(absent(path)),
            (Opening::New { .. }, Some(_)) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
            (Opening::Empty | Opening::New { .. }, None) => {
                // A name may still fit where content does not.
                if content.full && content.chance.percent(50) {
                    content.room()?;
                }
                let inode = content.next;
                content.next += 1;
                content.files.insert(inode, Inode::default());
                content.name(Naming::Is(path.to_owned(), inode))?;
                inode
            }
        };
        drop(content);
        let file = SimulatedFile { disk: self.clone(), inode };
        if opening == Opening::Empty {
            file.set_len(0)?;
        }
        Ok(Box::new(file))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut content = self.content();
        if !content.names.contains_key(from) {
            return Err(absent(from));
        }
        content.name(Naming::Renamed(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut content = self.content();
        if !content.names.contains_key(path) {
            return Err(absent(path));
        }
        content.name(Naming::IsNot(path.to_owned()))
    }

    fn sync_directory_of(&self, _path: &Path) -> io::Result<()> {
        let mut content = self.content();
        if content.burn()? {
            return content.alive();
        }
        content.unsafe_names.clear();
        let names = content.names.clone();
        content.safe_names = names;
        Ok(())
    }

    fn salt(&self) -> u64 {
        self.content().chance.next()
    }

    fn pretends(&self) -> Option<Duration> {
        let mut content = self.content();
        let slow = content.slow;
        let chance = &mut content.chance;
        Some(Duration::from_micros(match (slow, chance.below(20)) {
            (false, 0) => chance.within(5_000..30_000),
            (false, _) => chance.within(200..4_000),
            (true, 0) => chance.within(200_000..1_500_000),
            (true, _) => chance.within(10_000..200_000),
        }))
    }
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    inode: u64,
}

impl SimulatedFile {
    fn change(&self, change: Change) -> io::Result<()> {
        let mut content = self.disk.content();
        content.alive()?;
        if let Change::Write(offset, bytes) = &change
            && let Some(inode) = content.files.get(&self.inode)
            && offset + bytes.len() > inode.now.len()
            && content.full
        {
            // As much as there is room for is written.
            let fits = content.chance.index(bytes.len() + 1).min(bytes.len().saturating_sub(1));
            let part = Change::Write(*offset, bytes[..fits].to_vec());
            let inode = content.files.get_mut(&self.inode).ok_or_else(|| absent(Path::new("the file")))?;
            put(&mut inode.now, *offset, &bytes[..fits]);
            inode.unsynced.push(part);
            return content.room();
        }
        // The one in which the power fails may have reached the disk, too.
        let last = content.burn()?;
        let inode = content.files.get_mut(&self.inode).ok_or_else(|| absent(Path::new("the file")))?;
        match &change {
            Change::Write(offset, bytes) => put(&mut inode.now, *offset, bytes),
            Change::Length(length) => inode.now.resize(*length, 0),
        }
        inode.unsynced.push(change);
        if last { content.alive() } else { Ok(()) }
    }
}

fn position(offset: u64) -> usize {
    usize::try_from(offset).expect("a file in memory fits into it")
}

impl DiskFile for SimulatedFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let content = self.disk.content();
        content.alive()?;
        let inode = content.files.get(&self.inode).ok_or_else(|| absent(Path::new("the file")))?;
        let start = position(offset);
        let wanted = inode.now.get(start..start + buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(wanted);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(position(offset), bytes.to_vec()))
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.change(Change::Length(position(length)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut content = self.disk.content();
        if content.burn()? {
            return content.alive();
        }
        let inode = content.files.get_mut(&self.inode).ok_or_else(|| absent(Path::new("the file")))?;
        inode.sync();
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(seed: u64) -> SimulatedDisk {
        SimulatedDisk::new(Chance::new(seed))
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_may_not() {
        let path = Path::new("/d/file");
        let (mut lost, mut torn, mut kept) = (0, 0, 0);
        for seed in 0..60 {
            let disk = disk(seed);
            let file = disk.open(path, Opening::New { mode: 0o600 }).unwrap();
            file.write_all_at(b"safe", 0).unwrap();
            file.sync_data().unwrap();
            disk.sync_directory_of(path).unwrap();
            file.write_all_at(&[1; 2000], 4).unwrap();
            disk.power_cut();
            let found = disk.read(path).unwrap().unwrap();
            assert_eq!(&found[..4], b"safe");
            match &found[4..] {
                [] => lost += 1,
                all if all.len() == 2000 && all.iter().all(|byte| *byte == 1) => kept += 1,
                _ => torn += 1,
            }
        }
        assert!(lost > 5 && torn > 5 && kept > 5, "{lost} {torn} {kept}");
    }

    #[test]
    fn names_are_safe_once_their_directory_is_synced() {
        let (old, new) = (Path::new("/d/old"), Path::new("/d/new"));
        let mut seen = [0; 3];
        for seed in 0..60 {
            let disk = disk(seed);
            disk.open(old, Opening::Empty).unwrap().sync_all().unwrap();
            disk.sync_directory_of(old).unwrap();
            disk.rename(old, new).unwrap();
            disk.power_cut();
            match (disk.read(old).unwrap(), disk.read(new).unwrap()) {
                (Some(_), None) => seen[0] += 1,
                (None, Some(_)) => seen[1] += 1,
                _ => seen[2] += 1,
            }
        }
        assert!(seen[0] > 5 && seen[1] > 5 && seen[2] == 0, "{seen:?}");
    }

    #[test]
    fn a_full_disk_takes_nothing_more_and_loses_nothing() {
        let (disk, path) = (disk(1), Path::new("/d/file"));
        let file = disk.open(path, Opening::Empty).unwrap();
        file.write_all_at(b"safe", 0).unwrap();
        file.sync_data().unwrap();
        disk.set_full(true);
        assert!(!disk.refuses());
        let refused = file.write_all_at(b"more", 4).unwrap_err();
        assert!(refused.kind() == io::ErrorKind::StorageFull && disk.refuses());
        file.set_len(4).unwrap();
        file.write_all_at(b"SAFE", 0).unwrap();
        assert_eq!(disk.read(path).unwrap().unwrap(), b"SAFE");
        disk.set_full(false);
        assert!(!disk.refuses());
        file.write_all_at(b"more", 4).unwrap();
    }

    #[test]
    fn a_fuse_ends_everything_in_the_middle_of_a_change() {
        let (disk, path) = (disk(1), Path::new("/d/file"));
        let file = disk.open(path, Opening::Empty).unwrap();
        disk.set_fuse(1);
        file.write_all_at(b"one", 0).unwrap();
        assert!(file.write_all_at(b"two", 3).is_err() && disk.is_dead());
        assert!(disk.read(path).is_err() && file.sync_data().is_err());
        disk.power_cut();
        assert!(disk.read(path).is_ok());
    }
}
