//! Unpacks a captured machine.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use hwdetect::{Inventory, SysRoot};
use tar::{Archive, EntryType};
use tempfile::TempDir;

/// All of them; a test fails when a tarball appears that is not named here.
pub(crate) const MACHINES: [&str; 5] = ["compute-numa", "storage", "uefi-epyc", "netstack", "microvm"];

pub(crate) fn machines_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines")
}

/// The machine as captured, in a directory that goes with the value.
pub(crate) fn unpack(machine: &str) -> TempDir {
    unpack_changed(machine, |_, bytes| bytes)
}

/// The machine with every file's content run through `change`.
pub(crate) fn unpack_changed(machine: &str, change: impl Fn(&Path, Vec<u8>) -> Vec<u8>) -> TempDir {
    // Thousands of small files: memory takes them twenty times as fast as a disk does.
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let tarball = machines_directory().join(format!("{machine}.tar.gz"));
    let file = fs::File::open(&tarball).unwrap_or_else(|error| panic!("{}: {error}", tarball.display()));
    for entry in Archive::new(GzDecoder::new(file)).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        assert!(path.is_relative() && !path.components().any(|part| part.as_os_str() == ".."), "{}", path.display());
        let target = directory.path().join(&path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory {
            fs::create_dir_all(&target).unwrap();
        } else if kind == EntryType::Symlink {
            std::os::unix::fs::symlink(entry.link_name().unwrap().unwrap(), &target).unwrap();
        } else {
            assert_eq!(kind, EntryType::Regular, "{}", path.display());
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            fs::write(&target, change(&path, bytes)).unwrap();
        }
    }
    directory
}

pub(crate) fn detect(machine: &str) -> Inventory {
    let directory = unpack(machine);
    hwdetect::detect(&SysRoot::new(directory.path()).unwrap())
}
