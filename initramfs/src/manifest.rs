//! What goes into an archive: paths, modes, owners and contents, sorted and checked.
//!
//! A [`Manifest`] is a value: nothing of the machine that builds it (its users, umask, clock, directory order) can get
//! in, because every field is given.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// Permission bits an entry may have: rwx for three, set-id and sticky.
const PERMISSIONS: u32 = 0o7777;

/// A tree of entries under `/`. Paths are written without the leading slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest<'a> {
    entries: BTreeMap<String, Entry<'a>>,
}

/// One path of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Permission bits, without the file type.
    pub permissions: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// What it is.
    pub kind: EntryKind<'a>,
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A directory.
    Directory,
    /// A regular file with these bytes.
    File(Cow<'a, [u8]>),
    /// A symbolic link to this target.
    Symlink(String),
    /// A character device node.
    CharDevice {
        /// Which driver.
        major: u32,
        /// Which of its devices.
        minor: u32,
    },
}

/// Why a path cannot go in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ManifestError {
    /// The path is empty, absolute, or has an empty, `.` or `..` part.
    #[error("{0:?} is not a relative path without \".\" and \"..\"")]
    Path(String),
    /// Something is there already.
    #[error("{0} is in the manifest twice")]
    Duplicate(String),
    /// A parent is not a directory.
    #[error("{path} cannot be inside {parent}, which is not a directory")]
    Parent {
        /// The path that was to be added.
        path: String,
        /// Its parent that is something else.
        parent: String,
    },
    /// More than permission bits.
    #[error("{path} has mode {mode:o}, which is more than permission bits")]
    Mode {
        /// The path that was to be added.
        path: String,
        /// The mode it was to have.
        mode: u32,
    },
    /// A link to nothing, or with a byte no path can have.
    #[error("{0} links to an empty or invalid target")]
    Target(String),
}

impl<'a> Manifest<'a> {
    /// An empty tree.
    pub fn new() -> Manifest<'a> {
        Manifest::default()
    }

    /// Adds a directory owned by root, or sets the mode of one that was made for its children.
    ///
    /// # Errors
    /// When the path is invalid or taken by something else.
    pub fn directory(&mut self, path: &str, permissions: u32) -> Result<(), ManifestError> {
        self.insert(path, Entry { permissions, uid: 0, gid: 0, kind: EntryKind::Directory })
    }

    /// Adds a regular file owned by root.
    ///
    /// # Errors
    /// When the path is invalid or taken.
    pub fn file(&mut self, path: &str, permissions: u32, bytes: impl Into<Cow<'a, [u8]>>) -> Result<(), ManifestError> {
        self.insert(path, Entry { permissions, uid: 0, gid: 0, kind: EntryKind::File(bytes.into()) })
    }

    /// Adds a symbolic link. Its target is not checked: it may exist only at run time.
    ///
    /// # Errors
    /// When the path is invalid or taken, or the target is no path at all.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), ManifestError> {
        if target.is_empty() || target.contains('\0') {
            return Err(ManifestError::Target(path.to_owned()));
        }
        self.insert(path, Entry { permissions: 0o777, uid: 0, gid: 0, kind: EntryKind::Symlink(target.to_owned()) })
    }

    /// Adds a character device owned by root.
    ///
    /// # Errors
    /// When the path is invalid or taken.
    pub fn char_device(&mut self, path: &str, permissions: u32, major: u32, minor: u32) -> Result<(), ManifestError> {
        self.insert(path, Entry { permissions, uid: 0, gid: 0, kind: EntryKind::CharDevice { major, minor } })
    }

    /// Adds any entry; missing parents become directories of mode 0755.
    ///
    /// # Errors
    /// When the path is invalid or taken, or a parent is not a directory.
    pub fn insert(&mut self, path: &str, entry: Entry<'a>) -> Result<(), ManifestError> {
        let parts_are_plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !parts_are_plain || path.contains('\0') {
            return Err(ManifestError::Path(path.to_owned()));
        }
        if entry.permissions & !PERMISSIONS != 0 {
            return Err(ManifestError::Mode { path: path.to_owned(), mode: entry.permissions });
        }
        for (end, _) in path.match_indices('/') {
            let parent = &path[..end];
            let known = self.entries.entry(parent.to_owned()).or_insert(Entry {
                permissions: 0o755,
                uid: 0,
                gid: 0,
                kind: EntryKind::Directory,
            });
            if known.kind != EntryKind::Directory {
                return Err(ManifestError::Parent { path: path.to_owned(), parent: parent.to_owned() });
            }
        }
        if let Some(known) = self.entries.get(path)
            && (known.kind != EntryKind::Directory || entry.kind != EntryKind::Directory)
        {
            return Err(ManifestError::Duplicate(path.to_owned()));
        }
        self.entries.insert(path.to_owned(), entry);
        Ok(())
    }

    /// The entry at a path.
    pub fn get(&self, path: &str) -> Option<&Entry<'a>> {
        self.entries.get(path)
    }

    /// Every entry, parents before children, in an order that depends on the paths alone.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &Entry<'a>)> {
        self.entries.iter().map(|(path, entry)| (path.as_str(), entry))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry<'_> {
    /// Bytes of a file's content or a link's target.
    pub fn content(&self) -> &[u8] {
        match &self.kind {
            EntryKind::File(bytes) => bytes,
            EntryKind::Symlink(target) => target.as_bytes(),
            EntryKind::Directory | EntryKind::CharDevice { .. } => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_are_made_and_come_before_their_children() {
        let mut manifest = Manifest::new();
        manifest.file("usr/lib/a/b.ko", 0o644, b"x".as_slice()).unwrap();
        manifest.file("usr/lib-extra", 0o644, b"y".as_slice()).unwrap();
        manifest.directory("usr", 0o711).unwrap();
        let paths: Vec<_> = manifest.entries().map(|(path, entry)| (path, entry.permissions)).collect();
        assert_eq!(
            paths,
            [
                ("usr", 0o711),
                ("usr/lib", 0o755),
                ("usr/lib-extra", 0o644),
                ("usr/lib/a", 0o755),
                ("usr/lib/a/b.ko", 0o644)
            ]
        );
    }

    #[test]
    fn the_order_of_insertion_does_not_matter() {
        let mut one = Manifest::new();
        one.symlink("b", "c").unwrap();
        one.file("a/x", 0o600, vec![1]).unwrap();
        let mut other = Manifest::new();
        other.file("a/x", 0o600, vec![1]).unwrap();
        other.symlink("b", "c").unwrap();
        assert_eq!(one, other);
    }

    #[test]
    fn paths_that_leave_the_tree_are_refused() {
        for path in ["", "/", "/etc", "a//b", "a/", "./a", "a/../b", "..", "a\0b"] {
            assert_eq!(Manifest::new().directory(path, 0o755), Err(ManifestError::Path(path.to_owned())), "{path:?}");
        }
    }

    #[test]
    fn nothing_is_replaced_and_nothing_goes_below_a_file() {
        let mut manifest = Manifest::new();
        manifest.symlink("lib", "usr/lib").unwrap();
        assert_eq!(manifest.symlink("lib", "other"), Err(ManifestError::Duplicate("lib".into())));
        assert_eq!(manifest.directory("lib", 0o755), Err(ManifestError::Duplicate("lib".into())));
        let below = manifest.file("lib/x", 0o644, Vec::new());
        assert_eq!(below, Err(ManifestError::Parent { path: "lib/x".into(), parent: "lib".into() }));
        assert_eq!(manifest.symlink("empty", ""), Err(ManifestError::Target("empty".into())));
        let typed = manifest.file("typed", 0o100_644, Vec::new());
        assert_eq!(typed, Err(ManifestError::Mode { path: "typed".into(), mode: 0o100_644 }));
    }
}
