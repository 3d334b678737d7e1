//! Where the files of a tar archive are, so that single ones can be read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};

use super::archive_entries::{Kind, TarError, each};
use super::entry::place;

/// One file of an archive.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ArchiveFile {
    /// Bytes of the archive.
    Data {
        /// From here.
        offset: u64,
        /// So many.
        size: u64,
    },
    /// The same as another one.
    Link(String),
}

/// The regular files and links of a plain tar archive; everything else means nothing to whoever asks.
pub(crate) fn index(file: &File, limit: usize) -> Result<BTreeMap<String, ArchiveFile>, TarError> {
    let mut files = BTreeMap::new();
    let mut seen = 0;
    each(BufReader::new(file), |head, _: &mut dyn Read| {
        seen += 1;
        if seen > limit {
            return Err(TarError::Entries(limit));
        }
        let Some(name) = plain(&head.path) else { return Ok(()) };
        match head.kind {
            Kind::File => {
                files.insert(name, ArchiveFile::Data { offset: head.position, size: head.size });
            }
            Kind::Symlink => {
                // Relative to its directory.
                let directory = name.rsplit_once('/').map_or("", |(directory, _)| directory);
                if let Some(target) = joined(directory, &String::from_utf8_lossy(&head.link)) {
                    files.insert(name, ArchiveFile::Link(target));
                }
            }
            Kind::HardLink => {
                if let Some(target) = plain(&head.link) {
                    files.insert(name, ArchiveFile::Link(target));
                }
            }
            Kind::Directory | Kind::Fifo | Kind::Device | Kind::Other(_) | Kind::Sparse => {}
        }
        Ok(())
    })?;
    Ok(files)
}

fn plain(path: &[u8]) -> Option<String> {
    let place = place(path).ok().filter(|place| !place.name.is_empty())?;
    let parts = place.parents.into_iter().chain([place.name]);
    let parts: Option<Vec<String>> = parts.map(|part| part.into_string().ok()).collect();
    Some(parts?.join("/"))
}

fn joined(directory: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
