//! The only file that opens files: a directory that looks like `/`, with `sys` and `proc` below it.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A machine's `/sys` and `/proc`, live or captured. All paths given to it are relative (`sys/block`).
#[derive(Clone, Debug)]
pub struct SysRoot {
    root: PathBuf,
}

/// Why a directory cannot stand in for a machine.
#[derive(Debug, thiserror::Error)]
pub enum SysRootError {
    /// The path does not exist or may not be entered.
    #[error("cannot read the root directory `{path}`")]
    Unreadable {
        /// The path as given.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The path is something else than a directory.
    #[error("the root `{path}` is not a directory; an unpacked capture is expected")]
    NotADirectory {
        /// The path as given.
        path: PathBuf,
    },
    /// The directory is not a machine.
    #[error("the root `{path}` has neither `sys` nor `proc` in it, so there is nothing to detect")]
    NotAMachine {
        /// The path as given.
        path: PathBuf,
    },
}

/// The most read of one text file. The kernel's attributes end at 4 KiB; `/proc/cpuinfo` of a big machine does not,
/// but its first CPU is in the first pages.
const TEXT_LIMIT: u64 = 64 << 10;

/// The most read of one binary file. SMBIOS tables are tens of KiB on the largest servers.
const BYTES_LIMIT: u64 = 1 << 20;

/// The most entries taken from one directory: far above any machine, so a made-up tree cannot fill memory.
const ENTRIES_LIMIT: usize = 65_536;

impl SysRoot {
    /// This machine.
    #[must_use]
    pub fn host() -> Self {
        Self { root: PathBuf::from("/") }
    }

    /// A captured tree at `root`, or an error that says why it cannot be one.
    pub fn new(root: impl Into<PathBuf>) -> Result<Self, SysRootError> {
        let path = root.into();
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(source) => return Err(SysRootError::Unreadable { path, source }),
        };
        if !metadata.is_dir() {
            return Err(SysRootError::NotADirectory { path });
        }
        if let Err(source) = fs::read_dir(&path) {
            return Err(SysRootError::Unreadable { path, source });
        }
        if !path.join("sys").is_dir() && !path.join("proc").is_dir() {
            return Err(SysRootError::NotAMachine { path });
        }
        Ok(Self { root: path })
    }

    /// The directory everything is read from.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The trimmed text of a file, with bytes that are no UTF-8 replaced. `None` if it cannot be read or is blank.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let bytes = self.read(path, TEXT_LIMIT)?;
        let text = String::from_utf8_lossy(&bytes);
        let trimmed = text.trim_matches(|c: char| c.is_whitespace() || c == '\0');
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    /// The bytes of a file. `None` if it cannot be read.
    pub(crate) fn bytes(&self, path: &str) -> Option<Vec<u8>> {
        self.read(path, BYTES_LIMIT)
    }

    /// A decimal number, or whatever else `T` parses. `None` if there is none.
    pub(crate) fn parse<T: FromStr>(&self, path: &str) -> Option<T> {
        self.text(path)?.parse().ok()
    }

    /// A hexadecimal number as sysfs writes ids: `0x8086`.
    pub(crate) fn hex(&self, path: &str) -> Option<u32> {
        let text = self.text(path)?;
        u32::from_str_radix(text.strip_prefix("0x").unwrap_or(&text), 16).ok()
    }

    /// `0` or `1`.
    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        match self.text(path)?.as_str() {
            "0" | "N" => Some(false),
            "1" | "Y" => Some(true),
            _ => None,
        }
    }

    /// A number of a node, package or core; the kernel writes -1 where it knows none.
    pub(crate) fn id(&self, path: &str) -> Option<u32> {
        self.parse::<i64>(path).and_then(|node| u32::try_from(node).ok())
    }

    /// The names in a directory, numbers in them in numeric order (`sda`, `sdb`; `cpu2`, `cpu10`). Empty if there is none.
    pub(crate) fn list(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.root.join(path)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.take(ENTRIES_LIMIT).filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_by_cached_key(|name| natural_key(name));
        names
    }

    /// Whether anything is there.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// The last part of where a link points, which needs not exist: captured trees end at their edges.
    pub(crate) fn link_name(&self, path: &str) -> Option<String> {
        let target = fs::read_link(self.root.join(path)).ok()?;
        Some(target.file_name()?.to_str()?.to_owned())
    }

    /// Where a link points, as a path of this root: `sys/block/sda` gives `sys/devices/…/block/sda`. Worked out from
    /// the text alone; what is no link is its own target.
    pub(crate) fn resolve(&self, path: &str) -> String {
        let Ok(target) = fs::read_link(self.root.join(path)) else { return path.to_owned() };
        let Some(target) = target.to_str() else { return path.to_owned() };
        let mut parts: Vec<&str> = if target.starts_with('/') { Vec::new() } else { path.split('/').collect() };
        parts.pop();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        parts.join("/")
    }

    fn read(&self, path: &str, limit: u64) -> Option<Vec<u8>> {
        let path = self.root.join(path);
        // A pipe in a captured tree would make open(2) wait for ever.
        if !fs::metadata(&path).ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        fs::File::open(&path).ok()?.take(limit).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

/// Sorts digits by value: `("sd", 0, "a")` pieces compare in order.
fn natural_key(name: &str) -> Vec<(String, u64)> {
    let mut key = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(text_end);
        let digits_end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len());
        let (digits, tail) = tail.split_at(digits_end);
        // Digits too long for a number sort last among their like; that is order enough.
        key.push((text.to_owned(), digits.parse().unwrap_or(u64::MAX)));
        rest = tail;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_the_numbers_in_them() {
        let mut names = vec!["cpu10", "cpu2", "sdb", "sda", "nvme0n10", "nvme0n2"];
        names.sort_by_cached_key(|name| natural_key(name));
        assert_eq!(names, ["cpu2", "cpu10", "nvme0n2", "nvme0n10", "sda", "sdb"]);
    }

    #[test]
    fn a_root_that_is_no_machine_is_refused_with_its_reason() {
        let empty = tempfile::tempdir().unwrap();
        assert!(matches!(SysRoot::new(empty.path()), Err(SysRootError::NotAMachine { .. })));
        assert!(matches!(SysRoot::new(empty.path().join("no")), Err(SysRootError::Unreadable { .. })));
        let file = empty.path().join("file");
        fs::write(&file, "x").unwrap();
        assert!(matches!(SysRoot::new(file), Err(SysRootError::NotADirectory { .. })));
    }

    #[test]
    fn links_resolve_by_their_text_even_when_they_dangle() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sys/block")).unwrap();
        std::os::unix::fs::symlink("../devices/pci0/sda", dir.path().join("sys/block/sda")).unwrap();
        let root = SysRoot::new(dir.path()).unwrap();
        assert_eq!(root.resolve("sys/block/sda"), "sys/devices/pci0/sda");
        assert_eq!(root.link_name("sys/block/sda").as_deref(), Some("sda"));
        assert_eq!(root.resolve("sys/block/none"), "sys/block/none");
        assert_eq!(root.text("sys/block/sda"), None);
        assert_eq!(root.text("sys/block"), None);
    }

    #[test]
    fn a_blank_or_odd_file_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path().join("sys");
        fs::create_dir(&sys).unwrap();
        for (name, content) in [("blank", &b" \n"[..]), ("minus", b"-1\n"), ("hex", b"0x8086\n"), ("bad", b"\xff\xfe")]
        {
            fs::write(sys.join(name), content).unwrap();
        }
        let root = SysRoot::new(dir.path()).unwrap();
        assert_eq!(root.text("sys/blank"), None);
        assert_eq!(root.id("sys/minus"), None);
        assert_eq!(root.hex("sys/hex"), Some(0x8086));
        assert_eq!(root.hex("sys/bad"), None);
        assert_eq!(root.parse::<u64>("sys/bad"), None);
        assert_eq!(root.flag("sys/minus"), None);
    }
}
