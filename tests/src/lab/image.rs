//! The boot image, made again only when something that goes into it has changed.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::rack::programs::required;
use crate::rack::{Programs, repository};

/// Whether an image that seems up to date is made again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Freshness {
    /// Only if an input has changed.
    IfChanged,
    /// In any case.
    Again,
}

/// Makes `dir/image/{vmlinuz,initramfs.img}` with `mesolith-image`; `more` goes to its command line.
pub fn image(dir: &Path, programs: &Programs, freshness: Freshness, more: &[String]) -> Result<PathBuf> {
    let (agent, maker) = (required(&programs.agent)?, required(&programs.image)?);
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let out = dir.join("image");
    let stamp_file = dir.join("image.stamp");
    let stamp = stamp(agent, maker, more)?;
    let made = ["vmlinuz", "initramfs.img"].iter().all(|name| out.join(name).exists());
    let same = fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp);
    if made && same && freshness == Freshness::IfChanged {
        return Ok(out);
    }
    run(
        Command::new(maker)
            .arg("pxe")
            .arg("--agent")
            .arg(agent)
            .arg("--out")
            .arg(&out)
            .args(more)
            .current_dir(repository()),
        "mesolith-image",
    )?;
    fs::write(&stamp_file, stamp).with_context(|| format!("cannot write {}", stamp_file.display()))?;
    Ok(out)
}

fn run(command: &mut Command, name: &str) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {name}"))?;
    ensure!(status.success(), "{name} failed: {status}");
    Ok(())
}

/// A hash of both programs, the arguments and the files of `image/` (its lock file and module lists among them).
fn stamp(agent: &Path, maker: &Path, more: &[String]) -> Result<String> {
    let mut files = vec![agent.to_owned(), maker.to_owned()];
    collect(&repository().join("image"), &mut files)?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in &files {
        hasher.write(file.as_os_str().as_encoded_bytes());
        hasher.write(&fs::read(file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    for argument in more {
        hasher.write(argument.as_bytes());
        hasher.write_u8(0);
    }
    Ok(format!("{:016x}\n", hasher.finish()))
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else {
            files.push(entry.path());
        }
    }
    Ok(())
}
