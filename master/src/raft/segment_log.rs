//! The log on disk: numbered records in append-only segment files, each record checksummed.
//!
//! A segment is `log-<first index>`: a header (magic, salt), then frames
//! `magic u32 | length u32 | start of the append u64 | header crc u32 | payload crc u32 | payload`,
//! little-endian; a payload is the record's index (u64) and its bytes. Checksums start from the
//! segment's random salt, so that no record can contain something that passes for a frame.
//!
//! What an interrupted append left behind (a *torn tail*) was never acknowledged: it is cut off. A
//! bad frame with a good one of a later append behind it is damage, and then nobody should guess.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::disk::{DiskFile, Opening, SharedDisk};
use crate::timings;

const SEGMENT_MAGIC: &[u8; 8] = b"MSLOG\x00\x00\x01";
const SEGMENT_HEADER: usize = 16;
const FRAME_MAGIC: u32 = 0x4d46_524d;
const FRAME_HEADER: usize = 24;
/// A segment that has grown beyond this is followed by a new one; whole segments are what purging deletes.
const SEGMENT_LIMIT: u64 = 16 << 20;

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refuses.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A record in the middle fails its checksum.
    #[error("{} is damaged at byte {offset}, and later records are intact: this master takes no part until the file is restored from a copy; or remove the whole data directory, to join the other masters anew with --join, or to start an empty cluster", path.display())]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// A segment is missing.
    #[error("log records {from} to {to} are missing before {}", path.display())]
    Gap {
        /// The first one missing.
        from: u64,
        /// The last one missing.
        to: u64,
        /// What comes after.
        path: PathBuf,
    },
}

/// What recovery cut off.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TornTail {
    /// The segment.
    pub path: PathBuf,
    /// Where the intact part ends.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    file: Box<dyn DiskFile>,
    salt: u64,
    length: u64,
}

impl Segment {
    fn synced(&self) -> io::Result<()> {
        #[cfg(feature = "planted-bugs")]
        if master_core::planted::is(master_core::planted::Bug::LogNotSynced) {
            return Ok(());
        }
        self.file.sync_data()
    }
}

#[derive(Clone, Copy, Debug)]
struct Location {
    segment: u64,
    frame: u64,
    length: usize,
}

/// The open log. Every write returns only when it is on the disk.
#[derive(Debug)]
pub(super) struct SegmentLog {
    disk: SharedDisk,
    directory: PathBuf,
    segments: BTreeMap<u64, Segment>,
    records: BTreeMap<u64, Location>,
    segment_limit: u64,
    /// A failed write that could not be undone: the file's end is unknown, so nothing more is written.
    broken: bool,
}

impl SegmentLog {
    /// Opens the log in `directory`, an existing directory. Records up to `purged` may be missing.
    ///
    /// # Errors
    /// The file system refuses, or the log is damaged in a way no crash explains.
    pub(super) fn open(
        disk: SharedDisk,
        directory: &Path,
        purged: Option<u64>,
    ) -> Result<(Self, Option<TornTail>), LogError> {
        Self::open_with_limit(disk, directory, purged, SEGMENT_LIMIT)
    }

    fn open_with_limit(
        disk: SharedDisk,
        directory: &Path,
        purged: Option<u64>,
        segment_limit: u64,
    ) -> Result<(Self, Option<TornTail>), LogError> {
        let mut log = Self {
            disk,
            directory: directory.to_owned(),
            segments: BTreeMap::new(),
            records: BTreeMap::new(),
            segment_limit,
            broken: false,
        };
        let names = log.segment_names()?;
        let (mut torn, mut next) = (None, None);
        let last = names.last_key_value().map(|(first, _)| *first);
        for (first, path) in &names {
            let end = if Some(*first) == last { End::MayBeTorn } else { End::IsIntact };
            torn = log.recover_segment(*first, path, end, (purged, &mut next))?;
        }
        let from = purged.map_or(0, |purged| purged + 1);
        log.records = log.records.split_off(&from);
        if let Some((index, location)) = log.records.first_key_value()
            && *index > from
        {
            let path = log.segments[&location.segment].path.clone();
            return Err(LogError::Gap { from, to: index - 1, path });
        }
        Ok((log, torn))
    }

    fn segment_names(&self) -> Result<BTreeMap<u64, PathBuf>, LogError> {
        let failed = |source| LogError::Io { action: "list", path: self.directory.clone(), source };
        let mut names = BTreeMap::new();
        for path in self.disk.list(&self.directory).map_err(failed)? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if let Some(first) = name.strip_prefix("log-").and_then(|digits| digits.parse().ok()) {
                names.insert(first, path);
            }
        }
        Ok(names)
    }

    fn recover_segment(
        &mut self,
        first: u64,
        path: &Path,
        end: End,
        (purged, next): (Option<u64>, &mut Option<u64>),
    ) -> Result<Option<TornTail>, LogError> {
        let failed = |action| move |source| LogError::Io { action, path: path.to_owned(), source };
        let file = self.disk.open(path, Opening::Existing).map_err(failed("open"))?;
        let bytes = self.disk.read(path).map_err(failed("read"))?.unwrap_or_default();
        let length = bytes.len() as u64;
        if bytes.len() < SEGMENT_HEADER || !bytes.starts_with(SEGMENT_MAGIC) {
            // Created in the moment of the crash: the header is written before anything else.
            if end == End::MayBeTorn && bytes.len() < SEGMENT_HEADER {
                self.disk.remove(path).map_err(failed("remove"))?;
                self.disk.sync_directory_of(path).map_err(failed("sync the directory of"))?;
                return Ok(Some(TornTail { path: path.to_owned(), offset: 0, bytes: length }));
            }
            return Err(LogError::Damaged { path: path.to_owned(), offset: 0 });
        }
        let salt = u64_at(&bytes, 8);
        let mut offset = SEGMENT_HEADER;
        let mut torn = None;
        while offset < bytes.len() {
            let Some(frame) = Frame::read(&bytes, offset, salt) else {
                if end == End::IsIntact || has_later_append(&bytes, offset, salt) {
                    return Err(LogError::Damaged { path: path.to_owned(), offset: offset as u64 });
                }
                torn = Some(TornTail { path: path.to_owned(), offset: offset as u64, bytes: length - offset as u64 });
                file.set_len(offset as u64).map_err(failed("truncate"))?;
                file.sync_all().map_err(failed("sync"))?;
                break;
            };
            // A snapshot from the leader took the place of records this replica never had.
            let unneeded = purged.is_some_and(|purged| frame.index <= purged + 1);
            if let Some(expected) = *next
                && frame.index != expected
                && !(frame.index > expected && unneeded)
            {
                return Err(if frame.index > expected {
                    LogError::Gap { from: expected, to: frame.index - 1, path: path.to_owned() }
                } else {
                    LogError::Damaged { path: path.to_owned(), offset: offset as u64 }
                });
            }
            *next = Some(frame.index + 1);
            let location = Location { segment: first, frame: offset as u64, length: frame.length };
            self.records.insert(frame.index, location);
            offset += FRAME_HEADER + frame.length;
        }
        self.segments.insert(first, Segment { path: path.to_owned(), file, salt, length: offset as u64 });
        Ok(torn)
    }

    /// The first record's index, or `None` when there is none.
    #[cfg(test)]
    fn first(&self) -> Option<u64> {
        self.records.first_key_value().map(|(index, _)| *index)
    }

    /// The last record's index, or `None` when there is none.
    #[must_use]
    pub(super) fn last(&self) -> Option<u64> {
        self.records.last_key_value().map(|(index, _)| *index)
    }

    /// Appends records, one write and one sync for all of them. Their indexes follow the last one.
    ///
    /// # Errors
    /// The disk refuses: then none of them is in the log.
    pub(super) fn append(&mut self, records: &[(u64, Vec<u8>)]) -> io::Result<()> {
        let Some((first, _)) = records.first() else { return Ok(()) };
        if self.broken {
            return Err(io::Error::other("an earlier write to the log failed and could not be undone"));
        }
        if self.segments.last_key_value().is_none_or(|(_, segment)| segment.length >= self.segment_limit) {
            self.add_segment(*first)?;
        }
        let (number, segment) =
            self.segments.iter_mut().next_back().expect("a segment was just added if there was none");
        let start = segment.length;
        let (mut bytes, mut locations) = (Vec::new(), Vec::new());
        for (index, record) in records {
            let frame = start + bytes.len() as u64;
            let length = push_frame(&mut bytes, segment.salt, start, *index, record)?;
            locations.push((*index, Location { segment: *number, frame, length }));
        }
        let began = std::time::Instant::now();
        let written = segment.file.write_all_at(&bytes, start).and_then(|()| segment.synced());
        timings::LOG_SYNC.record(began.elapsed());
        if let Err(error) = written {
            self.broken = segment.file.set_len(start).and_then(|()| segment.file.sync_all()).is_err();
            return Err(error);
        }
        segment.length += bytes.len() as u64;
        self.records.extend(locations);
        Ok(())
    }

    fn add_segment(&mut self, first: u64) -> io::Result<()> {
        let path = self.directory.join(format!("log-{first:020}"));
        let salt = self.disk.salt();
        let file = self.disk.open(&path, Opening::Empty)?;
        let mut header = SEGMENT_MAGIC.to_vec();
        header.extend_from_slice(&salt.to_le_bytes());
        file.write_all_at(&header, 0)?;
        file.sync_all()?;
        self.disk.sync_directory_of(&path)?;
        self.segments.insert(first, Segment { path, file, salt, length: SEGMENT_HEADER as u64 });
        Ok(())
    }

    /// The records of `range`, in order, as far as they exist; stops early after `max_bytes`.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn read(&self, range: std::ops::Range<u64>, max_bytes: usize) -> io::Result<Vec<Vec<u8>>> {
        let (mut records, mut total) = (Vec::new(), 0);
        if range.is_empty() {
            return Ok(records);
        }
        for location in self.records.range(range).map(|(_, location)| location) {
            if total > max_bytes {
                break;
            }
            let segment = &self.segments[&location.segment];
            let mut record = vec![0; location.length - 8];
            segment.file.read_exact_at(&mut record, location.frame + FRAME_HEADER as u64 + 8)?;
            total += record.len();
            records.push(record);
        }
        Ok(records)
    }

    /// Removes the records from `index` on: another leader wrote others.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn truncate_from(&mut self, index: u64) -> io::Result<()> {
        let Some((_, location)) = self.records.range(index..).next() else { return Ok(()) };
        let location = *location;
        // From the end, so that a crash in between leaves no gap.
        while let Some(entry) = self.segments.last_entry()
            && *entry.key() > location.segment
        {
            self.disk.remove(&entry.get().path)?;
            self.disk.sync_directory_of(&entry.get().path)?;
            entry.remove();
        }
        let segment = self.segments.get_mut(&location.segment).expect("a location names a segment of the log");
        segment.file.set_len(location.frame)?;
        segment.file.sync_all()?;
        segment.length = location.frame;
        self.records.split_off(&index);
        Ok(())
    }

    /// Forgets the records up to and with `index`; deletes the segments that hold no other.
    ///
    /// # Errors
    /// The disk refuses.
    pub(super) fn purge_to(&mut self, index: u64) -> io::Result<()> {
        self.records = self.records.split_off(&(index + 1));
        let keep = self.records.first_key_value().map(|(_, location)| location.segment);
        let newest = self.segments.last_key_value().map(|(first, _)| *first);
        while let Some(entry) = self.segments.first_entry()
            && Some(*entry.key()) != keep
            && Some(*entry.key()) != newest
        {
            self.disk.remove(&entry.get().path)?;
            self.disk.sync_directory_of(&entry.get().path)?;
            entry.remove();
        }
        Ok(())
    }
}

/// Appending goes on only in the last segment.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    MayBeTorn,
    IsIntact,
}

struct Frame {
    index: u64,
    length: usize,
    append_start: u64,
}

impl Frame {
    /// The frame at `offset`, or `None` if there is no intact one.
    fn read(bytes: &[u8], offset: usize, salt: u64) -> Option<Self> {
        let header = bytes.get(offset..offset + FRAME_HEADER)?;
        if u32_at(header, 0) != FRAME_MAGIC || u32_at(header, 16) != checksum(salt, &header[..16]) {
            return None;
        }
        let length = u32_at(header, 4) as usize;
        let payload = bytes.get(offset + FRAME_HEADER..)?.get(..length)?;
        if length < 8 || u32_at(header, 20) != checksum(salt, payload) {
            return None;
        }
        Some(Self { index: u64_at(payload, 0), length, append_start: u64_at(header, 8) })
    }
}

/// Is there an intact frame behind `offset` that belongs to an append after the one torn there?
fn has_later_append(bytes: &[u8], offset: usize, salt: u64) -> bool {
    let magic = FRAME_MAGIC.to_le_bytes();
    (offset + 1..bytes.len().saturating_sub(FRAME_HEADER - 1))
        .filter(|at| bytes[*at..].starts_with(&magic))
        .filter_map(|at| Frame::read(bytes, at, salt))
        .any(|frame| frame.append_start > offset as u64)
}

fn push_frame(bytes: &mut Vec<u8>, salt: u64, append_start: u64, index: u64, record: &[u8]) -> io::Result<usize> {
    let length = record.len() + 8;
    let short = u32::try_from(length).map_err(|_| io::Error::other("a log record is longer than 4 GiB"))?;
    let mut payload = index.to_le_bytes().to_vec();
    payload.extend_from_slice(record);
    let mut header = FRAME_MAGIC.to_le_bytes().to_vec();
    header.extend_from_slice(&short.to_le_bytes());
    header.extend_from_slice(&append_start.to_le_bytes());
    header.extend_from_slice(&checksum(salt, &header[..16]).to_le_bytes());
    header.extend_from_slice(&checksum(salt, &payload).to_le_bytes());
    bytes.append(&mut header);
    bytes.append(&mut payload);
    Ok(length)
}

fn checksum(salt: u64, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&salt.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes were asked for"))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes were asked for"))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::Real;

    fn record(index: u64) -> (u64, Vec<u8>) {
        (index, vec![u8::try_from(index).unwrap(); 20 + usize::try_from(index).unwrap()])
    }

    fn frame(log: &SegmentLog, index: u64) -> usize {
        usize::try_from(log.records[&index].frame).unwrap()
    }

    fn all(log: &SegmentLog) -> Vec<Vec<u8>> {
        log.read(0..u64::MAX, usize::MAX).unwrap()
    }

    fn filled(directory: &Path, count: u64, limit: u64) -> SegmentLog {
        let (mut log, torn) = SegmentLog::open_with_limit(Real::shared(), directory, None, limit).unwrap();
        assert_eq!(torn, None);
        for index in 0..count {
            log.append(&[record(index)]).unwrap();
        }
        log
    }

    #[test]
    fn a_tail_torn_at_any_byte_costs_only_the_record_that_was_being_written() {
        let dir = tempfile::tempdir().unwrap();
        let log = filled(dir.path(), 3, SEGMENT_LIMIT);
        let path = log.segments[&0].path.clone();
        let whole = fs::read(&path).unwrap();
        let last = frame(&log, 2);
        for cut in last..whole.len() {
            for rest in [&b""[..], &[0; 40], &[0xff; 40]] {
                let bytes = [&whole[..cut], rest].concat();
                fs::write(&path, &bytes).unwrap();
                let (mut log, torn) = SegmentLog::open(Real::shared(), dir.path(), None).unwrap();
                assert_eq!(all(&log), [record(0).1, record(1).1], "cut at {cut}");
                assert_eq!(torn.is_some(), bytes.len() > last, "cut at {cut}");
                log.append(&[record(2)]).unwrap();
                assert_eq!(all(&log).len(), 3);
                let (log, torn) = SegmentLog::open(Real::shared(), dir.path(), None).unwrap();
                assert_eq!((all(&log).len(), torn), (3, None));
            }
        }
    }

    #[test]
    fn damage_before_an_intact_append_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = filled(dir.path(), 3, SEGMENT_LIMIT);
        let path = log.segments[&0].path.clone();
        let whole = fs::read(&path).unwrap();
        let (start, end) = (frame(&log, 1), frame(&log, 2));
        for at in (start..end).step_by(3) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            fs::write(&path, bytes).unwrap();
            let error = SegmentLog::open(Real::shared(), dir.path(), None).unwrap_err();
            assert!(matches!(error, LogError::Damaged { offset, .. } if offset == start as u64), "{at}: {error}");
        }
    }

    #[test]
    fn an_append_of_several_records_may_be_torn_in_any_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = filled(dir.path(), 2, SEGMENT_LIMIT);
        log.append(&[record(2), record(3), record(4)]).unwrap();
        let path = log.segments[&0].path.clone();
        let mut bytes = fs::read(&path).unwrap();
        // The disk wrote the last page of the append but not the first.
        bytes[frame(&log, 2)] ^= 1;
        fs::write(&path, bytes).unwrap();
        let (log, torn) = SegmentLog::open(Real::shared(), dir.path(), None).unwrap();
        assert_eq!((log.last(), torn.is_some()), (Some(1), true));
    }

    #[test]
    fn segments_roll_purge_and_truncate() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = filled(dir.path(), 30, 200);
        assert!(log.segments.len() > 5);
        log.purge_to(10).unwrap();
        assert_eq!((log.first(), log.last()), (Some(11), Some(29)));
        log.truncate_from(20).unwrap();
        assert_eq!(log.last(), Some(19));
        log.append(&[record(20), record(21)]).unwrap();
        let expected: Vec<_> = (11..22).map(|index| record(index).1).collect();
        assert_eq!(all(&log), expected);
        let (log, torn) = SegmentLog::open(Real::shared(), dir.path(), Some(10)).unwrap();
        assert_eq!((all(&log), torn), (expected, None));
        assert!(matches!(SegmentLog::open(Real::shared(), dir.path(), Some(2)), Err(LogError::Gap { from: 3, .. })));
    }

    #[test]
    fn a_missing_segment_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let log = filled(dir.path(), 30, 200);
        let middle = log.segments.values().nth(2).unwrap().path.clone();
        fs::remove_file(middle).unwrap();
        assert!(matches!(SegmentLog::open(Real::shared(), dir.path(), None), Err(LogError::Gap { .. })));
    }

    #[test]
    fn a_snapshot_may_take_the_place_of_records_that_never_came() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = filled(dir.path(), 5, SEGMENT_LIMIT);
        log.purge_to(40).unwrap();
        log.append(&[record(41), record(42)]).unwrap();
        let (log, torn) = SegmentLog::open(Real::shared(), dir.path(), Some(40)).unwrap();
        assert_eq!((all(&log), torn), (vec![record(41).1, record(42).1], None));
        assert!(matches!(
            SegmentLog::open(Real::shared(), dir.path(), Some(39)),
            Err(LogError::Gap { from: 5, to: 40, .. })
        ));
    }

    #[test]
    fn everything_purged_and_restarted_continues_behind_it() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = filled(dir.path(), 5, SEGMENT_LIMIT);
        log.purge_to(4).unwrap();
        assert_eq!(log.first(), None);
        let (mut log, _) = SegmentLog::open(Real::shared(), dir.path(), Some(4)).unwrap();
        assert_eq!(log.last(), None);
        log.append(&[record(5)]).unwrap();
        let (log, _) = SegmentLog::open(Real::shared(), dir.path(), Some(4)).unwrap();
        assert_eq!((log.first(), log.last()), (Some(5), Some(5)));
    }
}
