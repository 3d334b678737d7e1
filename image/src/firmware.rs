//! Firmware from a directory: drivers' blobs for `/usr/lib/firmware`, and processor microcode for the archive the
//! kernel reads before anything else.

use anyhow::{Context, Result, bail, ensure};
use initramfs::Manifest;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Where drivers' blobs lie in the image.
pub(crate) const PATH: &str = "usr/lib/firmware";

/// What a firmware directory holds. Order and content depend on names and bytes alone.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Firmware {
    /// Drivers' blobs by their name as drivers ask for it.
    pub(crate) blobs: BTreeMap<String, Blob>,
    intel: Vec<u8>,
    amd: Vec<u8>,
    /// Symbolic links that lead nowhere or out of the directory.
    pub(crate) skipped: Vec<String>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Blob {
    File(Vec<u8>),
    /// Another name of a file in the directory.
    Link(String),
}

impl Firmware {
    /// Reads a directory laid out like `/lib/firmware`, with microcode in `intel-ucode/` and `amd-ucode/`.
    pub(crate) fn read(directory: &Path) -> Result<Firmware> {
        let root = fs::canonicalize(directory)
            .with_context(|| format!("cannot read firmware directory {}", directory.display()))?;
        let mut firmware = Firmware::default();
        firmware.walk(&root, &root, "")?;
        let mut blobs = std::mem::take(&mut firmware.blobs);
        // The map is sorted, so microcode is joined in the order of its files' names.
        blobs.retain(|name, blob| {
            let vendor = [("intel-ucode/", &mut firmware.intel), ("amd-ucode/", &mut firmware.amd)];
            let Some((_, joined)) = vendor.into_iter().find(|(prefix, _)| name.starts_with(prefix)) else {
                return true;
            };
            match blob {
                Blob::File(bytes) if is_microcode(bytes) => joined.extend_from_slice(bytes),
                // Signatures, licences and second names.
                Blob::File(_) | Blob::Link(_) => {}
            }
            false
        });
        firmware.blobs = blobs;
        Ok(firmware)
    }

    fn walk(&mut self, root: &Path, directory: &Path, prefix: &str) -> Result<()> {
        let cannot = || format!("cannot read {}", directory.display());
        for entry in fs::read_dir(directory).with_context(cannot)? {
            let entry = entry.with_context(cannot)?;
            let path = entry.path();
            let cannot = || format!("cannot read {}", path.display());
            let Ok(name) = entry.file_name().into_string() else {
                bail!("{} is not UTF-8", path.display());
            };
            let name = format!("{prefix}{name}");
            let kind = entry.file_type().with_context(cannot)?;
            if kind.is_dir() {
                self.walk(root, &path, &format!("{name}/"))?;
            } else if kind.is_file() {
                self.blobs.insert(name, Blob::File(fs::read(&path).with_context(cannot)?));
            } else if kind.is_symlink() {
                let target = fs::read_link(&path).with_context(cannot)?;
                let leads_inside = fs::canonicalize(&path).is_ok_and(|end| end.starts_with(root));
                match target.to_str().filter(|_| leads_inside && target.is_relative()) {
                    Some(target) => drop(self.blobs.insert(name, Blob::Link(target.to_owned()))),
                    None => self.skipped.push(name),
                }
            }
        }
        self.skipped.sort();
        Ok(())
    }

    /// Puts the drivers' blobs into the image.
    pub(crate) fn add<'a>(&'a self, manifest: &mut Manifest<'a>) -> Result<()> {
        for (name, blob) in &self.blobs {
            let path = format!("{PATH}/{name}");
            match blob {
                Blob::File(bytes) => manifest.file(&path, 0o644, bytes.as_slice())?,
                Blob::Link(target) => manifest.symlink(&path, target)?,
            }
        }
        Ok(())
    }

    /// The archive with microcode, which goes uncompressed before everything else; empty when there is none.
    pub(crate) fn early_archive(&self, mtime: u32) -> Result<Vec<u8>> {
        let mut manifest = Manifest::new();
        for (vendor, bytes) in [("AuthenticAMD", &self.amd), ("GenuineIntel", &self.intel)] {
            if !bytes.is_empty() {
                manifest.file(&format!("kernel/x86/microcode/{vendor}.bin"), 0o644, bytes.as_slice())?;
            }
        }
        if manifest.is_empty() {
            return Ok(Vec::new());
        }
        // Processors want their microcode aligned to 16 bytes, and the loader does not copy it first.
        let archive = initramfs::cpio::write_aligned(&manifest, mtime, 16)?;
        ensure!(archive.len() % 4 == 0, "the microcode archive ends unaligned");
        Ok(archive)
    }
}

/// Intel's updates begin with header version 1 and a loader revision of 1, AMD's containers with `DMA\0`.
fn is_microcode(bytes: &[u8]) -> bool {
    let intel = bytes.get(..4) == Some(&[1, 0, 0, 0]) && bytes.get(20..24) == Some(&[1, 0, 0, 0]);
    intel || bytes.starts_with(b"DMA\0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn intel(byte: u8) -> Vec<u8> {
        let mut update = vec![byte; 64];
        update[..4].copy_from_slice(&[1, 0, 0, 0]);
        update[20..24].copy_from_slice(&[1, 0, 0, 0]);
        update
    }

    #[test]
    fn microcode_goes_early_and_the_rest_to_the_drivers() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["intel-ucode", "amd-ucode", "bnx2x"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("intel-ucode/06-55-04"), intel(5)).unwrap();
        fs::write(path("intel-ucode/06-4f-01"), intel(4)).unwrap();
        fs::write(path("amd-ucode/microcode_amd.bin"), b"DMA\0amd").unwrap();
        fs::write(path("amd-ucode/microcode_amd.bin.asc"), b"-----BEGIN PGP").unwrap();
        fs::write(path("bnx2x/a.fw"), b"blob").unwrap();
        symlink("a.fw", path("bnx2x/b.fw")).unwrap();
        symlink("/etc/passwd", path("bnx2x/c.fw")).unwrap();
        symlink("missing", path("d.fw")).unwrap();

        let firmware = Firmware::read(directory.path()).unwrap();
        assert_eq!(firmware.skipped, ["bnx2x/c.fw", "d.fw"]);
        let mut manifest = Manifest::new();
        firmware.add(&mut manifest).unwrap();
        let paths: Vec<_> = manifest.entries().map(|(path, _)| path).filter(|path| path.contains("fw")).collect();
        assert_eq!(paths, ["usr/lib/firmware/bnx2x/a.fw", "usr/lib/firmware/bnx2x/b.fw"]);

        let early = firmware.early_archive(9).unwrap();
        let early = initramfs::cpio::read(&early).unwrap().manifest;
        let content = |vendor| early.get(&format!("kernel/x86/microcode/{vendor}.bin")).unwrap().content().to_vec();
        assert_eq!(content("GenuineIntel"), [intel(4), intel(5)].concat());
        assert_eq!(content("AuthenticAMD"), b"DMA\0amd");
    }

    #[test]
    fn without_microcode_there_is_no_early_archive() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Firmware::read(directory.path()).unwrap().early_archive(0).unwrap(), Vec::<u8>::new());
        let error = format!("{:#}", Firmware::read(&directory.path().join("no")).unwrap_err());
        assert!(error.contains("cannot read firmware directory"), "{error}");
    }
}
