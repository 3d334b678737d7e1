//! Lists an initramfs the way the kernel reads it: archive after archive, some compressed.

use crate::console::human;
use anyhow::{Context, Result, bail};
use initramfs::{EntryKind, cpio};
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

const ZSTD_MAGIC: &[u8] = b"\x28\xb5\x2f\xfd";

/// Prints every entry of an initramfs with its mode and size.
pub(crate) fn list(path: &Path) -> Result<()> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = describe(&bytes).with_context(|| format!("in {}", path.display()))?;
    match std::io::stdout().write_all(text.as_bytes()) {
        // The reader, such as head, has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        answer => answer.context("cannot print"),
    }
}

fn describe(bytes: &[u8]) -> Result<String> {
    let mut text = String::new();
    let mut rest = bytes;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        if cpio::starts(rest) {
            let archive = cpio::read(rest)?;
            text.push_str(&format!("archive {number}: plain cpio, {}\n", human(archive.len as u64)));
            text.push_str(&entries(&archive));
            rest = &rest[archive.len..];
        } else if rest.starts_with(ZSTD_MAGIC) {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(rest)?.single_frame();
            let mut unpacked = Vec::new();
            decoder.read_to_end(&mut unpacked).context("the zstd frame is broken")?;
            let after = decoder.finish();
            let packed = rest.len() - after.len();
            text.push_str(&format!(
                "archive {number}: zstd {} of {}\n",
                human(packed as u64),
                human(unpacked.len() as u64)
            ));
            let archive = cpio::read(&unpacked)?;
            if archive.len != unpacked.len() {
                bail!("{} bytes follow the archive inside the zstd frame", unpacked.len() - archive.len);
            }
            text.push_str(&entries(&archive));
            rest = after;
        } else if rest[0] == 0 {
            number -= 1;
            let padding = rest.iter().take_while(|byte| **byte == 0).count();
            rest = &rest[padding..];
        } else {
            bail!("byte {} begins neither a cpio archive nor a zstd frame", bytes.len() - rest.len());
        }
    }
    Ok(text)
}

fn entries(archive: &cpio::Archive<'_>) -> String {
    let mut text = String::new();
    let mut files = 0;
    let mut total = 0;
    for (path, entry) in archive.manifest.entries() {
        let size = entry.content().len();
        let (kind, what) = match &entry.kind {
            EntryKind::Directory => ('d', String::new()),
            EntryKind::File(_) => {
                files += 1;
                total += size as u64;
                ('-', String::new())
            }
            EntryKind::Symlink(target) => ('l', format!(" -> {target}")),
            EntryKind::CharDevice { major, minor } => ('c', format!(" {major}:{minor}")),
        };
        text.push_str(&format!(
            "{kind}{:04o} {}:{} {size:>10} {path}{what}\n",
            entry.permissions, entry.uid, entry.gid
        ));
    }
    text.push_str(&format!("{} entries, {files} files of {}\n", archive.manifest.len(), human(total)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use initramfs::Manifest;

    #[test]
    fn plain_and_compressed_archives_are_listed_in_turn() {
        let mut early = Manifest::new();
        early.file("kernel/x", 0o644, b"12345".as_slice()).unwrap();
        let mut main = Manifest::new();
        main.symlink("init", "/bin/agent").unwrap();
        main.char_device("dev/console", 0o600, 5, 1).unwrap();
        let mut image = cpio::write(&early, 0).unwrap();
        image.extend(zstd::encode_all(cpio::write(&main, 0).unwrap().as_slice(), 1).unwrap());
        image.extend([0; 7]);
        let text = describe(&image).unwrap();
        for expected in [
            "archive 1: plain cpio",
            "-0644 0:0          5 kernel/x\n",
            "archive 2: zstd",
            "l0777 0:0         10 init -> /bin/agent\n",
            "c0600 0:0          0 dev/console 5:1\n",
            "3 entries, 0 files",
        ] {
            assert!(text.contains(expected), "{text} lacks {expected}");
        }
    }

    #[test]
    fn other_bytes_are_refused() {
        assert!(describe(b"MZ").unwrap_err().to_string().contains("byte 0 begins neither"));
        assert!(describe(b"\x28\xb5\x2f\xfdgarbage").is_err());
    }
}
