//! The newest snapshot on disk: one file, written atomically, checked when read.

use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::types::SnapshotMeta;
use crate::atomic_file;
use crate::disk::Disk;

const MAGIC: &[u8; 8] = b"MSSNAP\x00\x01";
const DIGEST: usize = 32;

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system refuses.
    #[error("cannot read snapshots in {}", path.display())]
    Io {
        /// Which directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its digest is wrong. The log behind it is gone, so there is nothing to go on with.
    #[error("snapshot {} is damaged: this master takes no part until it is restored from a copy; or remove the whole data directory, to join the other masters anew with --join, or to start an empty cluster", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
}

/// Writes a snapshot and removes older ones.
pub(super) fn write(disk: &dyn Disk, directory: &Path, meta: &SnapshotMeta, data: &[u8]) -> io::Result<()> {
    let index = meta.last_log_id.map_or(0, |id| id.index);
    let head = rmp_serde::to_vec_named(meta).map_err(io::Error::other)?;
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&(head.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(data);
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    let path = directory.join(format!("snapshot-{index:020}"));
    atomic_file::write_on(disk, &path, &bytes, 0o600)?;
    for (_, old) in list(disk, directory)?.into_iter().filter(|(_, old)| *old != path) {
        disk.remove(&old)?;
    }
    Ok(())
}

/// The newest snapshot, `None` if there is none.
pub(super) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<(SnapshotMeta, Vec<u8>)>, SnapshotError> {
    let names = list(disk, directory).map_err(|source| SnapshotError::Io { path: directory.to_owned(), source })?;
    let Some((_, path)) = names.into_iter().max() else { return Ok(None) };
    let bytes = disk.read(&path).map_err(|source| SnapshotError::Io { path: path.clone(), source })?;
    parse(&bytes.unwrap_or_default()).map(Some).ok_or(SnapshotError::Damaged { path })
}

fn parse(bytes: &[u8]) -> Option<(SnapshotMeta, Vec<u8>)> {
    let (content, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST)?)?;
    if Sha256::digest(content).as_slice() != digest {
        return None;
    }
    let content = content.strip_prefix(MAGIC)?;
    let (length, content) = content.split_first_chunk::<8>()?;
    let (head, data) = content.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    Some((rmp_serde::from_slice(head).ok()?, data.to_vec()))
}

fn list(disk: &dyn Disk, directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for path in disk.list(directory)? {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(index) = name.strip_prefix("snapshot-").and_then(|digits| digits.parse().ok()) {
            found.push((index, path));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::Real;

    #[test]
    fn the_newest_snapshot_is_read_and_a_damaged_one_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(&Real, dir.path()).unwrap().is_none());
        let meta = SnapshotMeta { snapshot_id: "a".to_owned(), ..SnapshotMeta::default() };
        write(&Real, dir.path(), &meta, b"one").unwrap();
        let id = openraft::LogId::new(openraft::CommittedLeaderId::new(1, 1), 7);
        let meta = SnapshotMeta { last_log_id: Some(id), ..meta };
        write(&Real, dir.path(), &meta, b"two").unwrap();
        assert_eq!(read(&Real, dir.path()).unwrap(), Some((meta, b"two".to_vec())));
        assert_eq!(list(&Real, dir.path()).unwrap().len(), 1);
        let (_, path) = list(&Real, dir.path()).unwrap().remove(0);
        let whole = fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(matches!(read(&Real, dir.path()), Err(SnapshotError::Damaged { .. })), "byte {at}");
        }
    }
}
