//! Debian packages, unpacked in memory: an ar archive that holds a compressed tar archive.

use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::ops::Range;

/// A package that unpacks to more than this is refused rather than filling the memory.
const MAX_UNPACKED: u64 = 4 << 30;

const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER: usize = 60;

/// The regular files of a package, in one buffer.
pub(crate) struct Package {
    tar: Vec<u8>,
    files: BTreeMap<String, Range<usize>>,
}

impl Package {
    /// Unpacks the bytes of a `.deb`.
    pub(crate) fn unpack(deb: &[u8]) -> Result<Package> {
        let (name, data) = ar_members(deb)?
            .into_iter()
            .find(|(name, _)| name.starts_with("data.tar"))
            .context("not a Debian package: it has no data.tar")?;
        Package::of_tar(decompress(&name, data)?)
    }

    fn of_tar(tar: Vec<u8>) -> Result<Package> {
        let mut files = BTreeMap::new();
        let mut archive = tar::Archive::new(Cursor::new(&tar));
        for entry in archive.entries().context("cannot read data.tar")? {
            let entry = entry.context("cannot read data.tar")?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path =
                String::from_utf8(entry.path_bytes().into_owned()).context("data.tar has a path that is not UTF-8")?;
            let path = path.trim_start_matches("./").trim_start_matches('/').to_owned();
            let start = usize::try_from(entry.raw_file_position()).context("data.tar is too large")?;
            let len = usize::try_from(entry.size()).context("data.tar is too large")?;
            let end = start.checked_add(len).filter(|end| *end <= tar.len());
            files.insert(path, start..end.context("data.tar is cut off")?);
        }
        Ok(Package { tar, files })
    }

    /// Every regular file: path without the leading slash, and content. Sorted by path.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files.iter().map(|(path, range)| (path.as_str(), &self.tar[range.clone()]))
    }

    pub(crate) fn file(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(|range| &self.tar[range.clone()])
    }
}

/// Members of an ar archive: 60-byte headers of decimal text, contents aligned to two bytes.
fn ar_members(bytes: &[u8]) -> Result<Vec<(String, &[u8])>> {
    let mut rest = bytes.strip_prefix(AR_MAGIC).context("not a Debian package: it is no ar archive")?;
    let mut members = Vec::new();
    while !rest.is_empty() {
        let (header, body) = rest.split_at_checked(AR_HEADER).context("the package is cut off")?;
        ensure!(header.ends_with(b"`\n"), "the package has a broken ar header");
        let field = |range: Range<usize>| str::from_utf8(&header[range]).map(str::trim_end).context("broken ar header");
        let name = field(0..16)?.trim_end_matches('/').to_owned();
        let size: usize = field(48..58)?.parse().with_context(|| format!("the size of {name} is no number"))?;
        let content = body.get(..size).with_context(|| format!("the package is cut off in {name}"))?;
        members.push((name, content));
        rest = body.get(size.saturating_add(size % 2)..).unwrap_or_default();
    }
    Ok(members)
}

/// Decompresses by the name's ending: `.xz`, `.zst` or none.
pub(crate) fn decompress(name: &str, bytes: &[u8]) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    let read = if name.ends_with(".xz") {
        xz2::read::XzDecoder::new(bytes).take(MAX_UNPACKED).read_to_end(&mut unpacked)
    } else if name.ends_with(".zst") {
        zstd::stream::read::Decoder::new(bytes)
            .and_then(|decoder| decoder.take(MAX_UNPACKED).read_to_end(&mut unpacked))
    } else if name.ends_with(".tar") || name.ends_with(".ko") {
        return Ok(bytes.to_vec());
    } else {
        bail!("{name} is compressed in a way this program does not know (it knows xz and zstd)");
    };
    let len = read.with_context(|| format!("cannot decompress {name}"))?;
    ensure!((len as u64) < MAX_UNPACKED, "{name} unpacks to more than {MAX_UNPACKED} bytes");
    Ok(unpacked)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Write;

    fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = AR_MAGIC.to_vec();
        for (name, content) in members {
            bytes.extend(format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 644, content.len()).bytes());
            bytes.extend_from_slice(content);
            if content.len() % 2 == 1 {
                bytes.push(b'\n');
            }
        }
        bytes
    }

    /// A package of these files.
    pub(crate) fn deb(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("./{path}"), *content).unwrap();
        }
        let mut encoder = xz2::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(&tar.into_inner().unwrap()).unwrap();
        let data = encoder.finish().unwrap();
        ar(&[("debian-binary", b"2.0\n"), ("control.tar.xz", b"odd"), ("data.tar.xz", &data)])
    }

    #[test]
    fn files_come_out_as_they_went_in() {
        let long = format!("usr/{}/x", "long-name/".repeat(30));
        let package = Package::unpack(&deb(&[("usr/b", b"bee"), (&long, b"deep"), ("a", b"")])).unwrap();
        assert_eq!(package.files().map(|(path, _)| path).collect::<Vec<_>>(), ["a", "usr/b", &long]);
        assert_eq!(package.file("usr/b"), Some(b"bee".as_slice()));
        assert_eq!(package.file(&long), Some(b"deep".as_slice()));
        assert_eq!(package.file("c"), None);
    }

    #[test]
    fn other_files_are_refused_by_name() {
        let good = deb(&[("a", b"x")]);
        let cases = [
            (b"PK".to_vec(), "no ar archive"),
            (good[..100].to_vec(), "cut off"),
            (good[..good.len() - 20].to_vec(), "cut off in data.tar.xz"),
            (ar(&[("debian-binary", b"2.0\n")]), "no data.tar"),
            (ar(&[("data.tar.lzma", b"")]), "does not know"),
            (ar(&[("data.tar.xz", b"garbage")]), "cannot decompress data.tar.xz"),
        ];
        for (bytes, expected) in cases {
            let error = format!("{:#}", Package::unpack(&bytes).err().expect("the package is broken"));
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }

    proptest! {
        #[test]
        fn no_damage_makes_it_panic(at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>()) {
            let mut bytes = deb(&[("a", b"content"), ("b/c", b"more")]);
            let at = at % bytes.len();
            bytes[at] = byte;
            let keep = cut % (bytes.len() * 2);
            bytes.truncate(keep);
            let _ = Package::unpack(&bytes);
        }

        #[test]
        fn no_damaged_tar_makes_it_panic(at in 0usize..512, byte in any::<u8>()) {
            let mut tar = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(4);
            tar.append_data(&mut header, "a", b"four".as_slice()).unwrap();
            let mut tar = tar.into_inner().unwrap();
            tar[at] = byte;
            let _ = Package::of_tar(tar);
        }
    }
}
