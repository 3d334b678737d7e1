//! Files that are whole or not there, and readable by us alone.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Writes a file of a container's bundle: read when the container is made, and of no use after the machine has begun
/// anew, so nothing is waited for.
pub(crate) fn write_for_now(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(content)
}

/// Replaces a file for whoever reads it while this machine runs: the old or the new content, also after this process has
/// ended, whenever that is. After a power cut it may be anything.
pub(crate) fn replace_for_now(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let written = write_for_now(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // A full disk: do not leave half a file on it.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Removes a file, if it is there; after a power cut it may be there again.
pub(crate) fn remove_for_now(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Replaces a file: a reader sees the old or the new content, also after a power cut.
pub(crate) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("new");
    let mut medium = Files { path, temporary: &temporary, file: None };
    let replaced = replace(&mut medium, content);
    if replaced.is_err() {
        // A full disk: do not leave half a file on it.
        let _ = fs::remove_file(&temporary);
    }
    replaced
}

/// What replacing a file is made of. Each step may be cut short, and what was not synced may come later or never.
trait Medium {
    fn write_beside(&mut self, content: &[u8]) -> io::Result<()>;
    fn sync_beside(&mut self) -> io::Result<()>;
    fn rename_over(&mut self) -> io::Result<()>;
    fn sync_directory(&mut self) -> io::Result<()>;
}

/// In this order there is always a whole file.
fn replace(medium: &mut impl Medium, content: &[u8]) -> io::Result<()> {
    medium.write_beside(content)?;
    medium.sync_beside()?;
    medium.rename_over()?;
    medium.sync_directory()
}

/// A file system's.
struct Files<'a> {
    path: &'a Path,
    temporary: &'a Path,
    file: Option<File>,
}

impl Medium for Files<'_> {
    fn write_beside(&mut self, content: &[u8]) -> io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(self.temporary)?;
        file.write_all(content)?;
        self.file = Some(file);
        Ok(())
    }

    fn sync_beside(&mut self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), File::sync_all)
    }

    fn rename_over(&mut self) -> io::Result<()> {
        fs::rename(self.temporary, self.path)
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        sync_parent(self.path)
    }
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => sync_parent(path),
    }
}

/// Reads a file; `None` when there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a directory and those above it, ours alone.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.json");
        assert_eq!(read(&path).unwrap(), None);
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some(&b"two"[..]));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
    }

    /// A disk that tears: of what was not synced any part may be there after power fails, in any order.
    #[derive(Default)]
    struct Torn {
        /// What is certain: the file's content.
        kept: Option<Vec<u8>>,
        /// The file beside it: what was written, and whether all of it is certain.
        beside: Option<(Vec<u8>, bool)>,
        /// A rename that may or may not be there: what the file is then.
        renamed: Option<(Vec<u8>, bool)>,
        /// Steps until power fails.
        left: u32,
        chance: u64,
    }

    impl Torn {
        fn roll(&mut self, of: u64) -> u64 {
            self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.chance >> 33) % of
        }

        fn step(&mut self) -> io::Result<()> {
            self.left = self.left.checked_sub(1).ok_or_else(|| io::Error::other("no power"))?;
            Ok(())
        }

        /// What a file has of which no part is certain to be there.
        fn part(&mut self, content: Vec<u8>) -> Vec<u8> {
            let length = u64::try_from(content.len()).unwrap();
            let cut = usize::try_from(self.roll(length + 1)).unwrap();
            let mut torn = content;
            // As long as it was to be, or shorter; zeros, or nothing.
            if self.roll(2) == 0 {
                torn.truncate(cut)
            } else {
                torn[cut..].fill(0)
            }
            torn
        }

        /// What is there when power is back.
        fn restart(&mut self) -> Option<Vec<u8>> {
            self.beside = None;
            if let Some((content, certain)) = self.renamed.take()
                && self.roll(2) == 0
            {
                self.kept = Some(if certain { content } else { self.part(content) });
            }
            self.kept.clone()
        }
    }

    impl Medium for Torn {
        fn write_beside(&mut self, content: &[u8]) -> io::Result<()> {
            self.step()?;
            self.beside = Some((content.to_vec(), false));
            Ok(())
        }

        fn sync_beside(&mut self) -> io::Result<()> {
            self.step()?;
            self.beside.as_mut().unwrap().1 = true;
            Ok(())
        }

        fn rename_over(&mut self) -> io::Result<()> {
            self.step()?;
            self.renamed = self.beside.take();
            Ok(())
        }

        fn sync_directory(&mut self) -> io::Result<()> {
            self.step()?;
            let (content, certain) = self.renamed.take().unwrap();
            self.kept = Some(if certain { content } else { self.part(content) });
            Ok(())
        }
    }

    #[test]
    fn at_a_hundred_moments_at_which_power_fails_the_state_is_whole() {
        let mut cuts = 0;
        for seed in 0..100_u64 {
            let mut disk = Torn { chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, ..Torn::default() };
            disk.left = u32::try_from(disk.roll(60)).unwrap();
            let mut last = None;
            let mut attempt = None;
            for number in 0..100_u32 {
                let state = format!("{{\"agent\":\"S{number}\",\"masters\":[\"{}\"]}}", "m".repeat(2000)).into_bytes();
                attempt = Some(state.clone());
                if replace(&mut disk, &state).is_err() {
                    break;
                }
                last = Some(state);
            }
            let found = disk.restart();
            assert!(found == last || found == attempt, "seed {seed}: {found:?}");
            cuts += u32::from(found != attempt || last != attempt);
        }
        assert!(cuts > 90, "{cuts}: power did fail in the middle");
    }
}
