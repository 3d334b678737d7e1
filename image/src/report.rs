//! What a bundle is made of: `manifest.json` for programs, the table of sizes for people.

use crate::console::human;
use crate::digest::sha256;
use crate::{disk_tools, firmware, rootfs, task_root};
use anyhow::{Context, Result, ensure};
use initramfs::{EntryKind, Manifest};
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The name of the report in a bundle.
pub(crate) const MANIFEST: &str = "manifest.json";

/// Everything about a bundle, to the byte.
#[derive(Serialize, Deserialize)]
pub(crate) struct Report {
    /// The image's version.
    pub(crate) image_version: String,
    /// The kernel release.
    pub(crate) kernel: String,
    /// The build time in the image.
    pub(crate) source_date_epoch: u32,
    /// Which drivers were chosen.
    pub(crate) module_set: String,
    /// How hard the initramfs was compressed.
    pub(crate) zstd_level: i32,
    /// The packages it was made of.
    pub(crate) packages: Vec<Source>,
    /// Every program and library that is not ours, with what it is there for.
    #[serde(default)]
    pub(crate) programs: Vec<Program>,
    /// The bundle's own files.
    pub(crate) artefacts: Vec<Item>,
    /// What the initramfs contains: regular files only, after the early microcode archive. Modules are compressed.
    pub(crate) files: Vec<Item>,
}

/// A package or file that went in.
#[derive(Serialize, Deserialize)]
pub(crate) struct Source {
    pub(crate) role: String,
    pub(crate) name: String,
    pub(crate) sha256: String,
}

/// Something that can be run and is not ours.
#[derive(Serialize, Deserialize)]
pub(crate) struct Program {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// Of what it is unpacked to.
    pub(crate) sha256: String,
    pub(crate) reason: String,
}

/// A file, by what it holds.
#[derive(Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

impl Item {
    pub(crate) fn new(name: &str, bytes: &[u8]) -> Item {
        Item { name: name.to_owned(), size: bytes.len() as u64, sha256: sha256(bytes) }
    }
}

impl Report {
    /// The regular files of a manifest.
    pub(crate) fn files_of(manifest: &Manifest<'_>) -> Vec<Item> {
        let regular = manifest.entries().filter(|(_, entry)| matches!(entry.kind, EntryKind::File(_)));
        regular.map(|(path, entry)| Item::new(path, entry.content())).collect()
    }

    /// The bundle's files, then what the initramfs holds by kind, as it lies in a machine's memory.
    pub(crate) fn sizes(&self) -> String {
        let mut text = format!("image {}, kernel {}, modules {}\n", self.image_version, self.kernel, self.module_set);
        let mut line = |name: &str, count: usize, bytes: u64| {
            let count = if count == 1 { String::new() } else { format!(" in {count} files") };
            writeln!(text, "{name:<24} {bytes:>12} {:>11}{count}", human(bytes)).expect("writing to a String succeeds");
        };
        for artefact in &self.artefacts {
            line(&artefact.name, 1, artefact.size);
        }
        let groups = [
            ("  agent", rootfs::AGENT),
            ("  kernel modules", "usr/lib/modules/"),
            ("  firmware", firmware::PATH),
            ("  task root", task_root::PATH),
            ("  CA certificates", rootfs::CERTIFICATES),
            ("  disk tools", disk_tools::PATH),
            ("  other", ""),
        ];
        let mut left: Vec<&Item> = self.files.iter().collect();
        for (name, prefix) in groups {
            let (inside, outside): (Vec<_>, Vec<_>) = left.into_iter().partition(|item| item.name.starts_with(prefix));
            left = outside;
            line(name, inside.len(), inside.iter().map(|item| item.size).sum());
        }
        line("unpacked", self.files.len(), self.files.iter().map(|item| item.size).sum());
        text
    }
}

/// Prints a bundle's sizes after checking its files against its manifest.
pub(crate) fn print_sizes(bundle: &Path) -> Result<()> {
    let path = bundle.join(MANIFEST);
    let text = fs::read(&path).with_context(|| format!("{} is no bundle: cannot read {MANIFEST}", bundle.display()))?;
    let report: Report =
        serde_json::from_slice(&text).with_context(|| format!("{} is not a bundle's manifest", path.display()))?;
    for artefact in &report.artefacts {
        let path = bundle.join(&artefact.name);
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        ensure!(
            sha256(&bytes) == artefact.sha256,
            "{} is not the file its manifest describes; build the bundle again",
            path.display()
        );
    }
    print!("{}", report.sizes());
    Ok(())
}
