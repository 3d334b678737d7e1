//! What a machine that booted for this alone has beside our image: this program, and other runtimes with their
//! libraries. It is added to a copy: what is shipped has none of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use initramfs::{Manifest, cpio};

use super::runtimes::Foreign;
use crate::rack::Programs;

/// This program, in the archive.
pub(super) const DRIVER: &str = "bench/driver";
/// The directory of the other runtimes, in the archive.
pub(super) const TOOLS: &str = "bench/tools";

/// Makes `to/{vmlinuz,initramfs.img}` of those in `from`.
pub(super) fn make(from: &Path, to: &Path, foreign: &[Foreign]) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("cannot make {}", to.display()))?;
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    fs::write(to.join("vmlinuz"), read(&from.join("vmlinuz"))?).context("cannot copy the kernel")?;
    let mut image = read(&from.join("initramfs.img"))?;
    // The kernel looks for the next archive at a multiple of four.
    image.resize(image.len().next_multiple_of(4), 0);
    let mut manifest = Manifest::new();
    let driver = stripped(&Programs::find()?.lab, to)?;
    manifest.file(DRIVER, 0o755, read(&driver)?)?;
    let mut libraries = BTreeSet::new();
    for runtime in foreign {
        manifest.file(&format!("{TOOLS}/{}", runtime.name), 0o755, read(&runtime.program)?)?;
        libraries.extend(needed(&runtime.program)?);
    }
    for library in libraries {
        let place = library.to_str().context("libraries have plain names")?.trim_start_matches('/').to_owned();
        manifest.file(&place, 0o755, read(&library)?)?;
    }
    image.extend(cpio::write(&manifest, 0)?);
    fs::write(to.join("initramfs.img"), image).context("cannot write the image")
}

/// Without what a debugger wants: it has to fit a machine's memory.
fn stripped(program: &Path, to: &Path) -> Result<PathBuf> {
    let copy = to.join("driver");
    let status = Command::new("strip").arg("-s").arg("-o").arg(&copy).arg(program).status();
    let status = status.context("cannot start strip: is binutils installed?")?;
    ensure!(status.success(), "strip failed: {status}");
    Ok(copy)
}

/// The libraries a program is linked with, and what loads them.
fn needed(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().context("cannot start ldd")?;
    // A static one has none, and ldd says so by its status.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    Ok(text.lines().filter_map(path).collect())
}
