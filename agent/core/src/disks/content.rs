//! What is on a disk, as far as it matters here.

use std::io;

use hwdetect::signature::{self, Readable};

use super::gpt::{Geometry, Table, Write, crc32};
use super::layout::Layout;

/// What is on a disk.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Content {
    /// Nothing.
    Empty,
    /// A preparation of ours that did not come to its end. What was on the disk before is given up.
    Unfinished,
    /// Ours, and finished.
    Ours(Layout),
    /// Somebody else's.
    Foreign(Vec<&'static str>),
    /// It does not say.
    Unreadable(String),
}

/// Where the mark of a preparation is: below the first partition, behind the table.
const MARK_AT: u64 = 768 << 10;
const MARK: &[u8; 24] = b"mesolith prepares a disk";

/// A sector that says that we have begun to prepare a disk. A sector is written whole or not at all.
#[must_use]
pub fn mark(geometry: Geometry) -> Write {
    let mut bytes = vec![0; geometry.sector as usize];
    bytes[..24].copy_from_slice(MARK);
    let crc = crc32(&bytes[..24]);
    bytes[24..28].copy_from_slice(&crc.to_le_bytes());
    Write { offset: MARK_AT, bytes }
}

/// Takes the mark away.
#[must_use]
pub fn no_mark(geometry: Geometry) -> Write {
    Write { offset: MARK_AT, bytes: vec![0; geometry.sector as usize] }
}

/// Is it ours and finished? Reads the table and nothing else: for a boot, which looks at every disk.
#[must_use]
pub fn ours(of: &(impl Readable + ?Sized), geometry: Geometry) -> Option<Layout> {
    let sane = geometry.is_sane() && !is_marked(of, geometry).ok()?;
    let table = if sane { Table::read(of, geometry).ok()? } else { None };
    table.as_ref().and_then(Layout::of).filter(Layout::is_ready)
}

/// The layout a preparation of ours has written, finished or not.
#[must_use]
pub fn begun(of: &(impl Readable + ?Sized), geometry: Geometry) -> Option<Layout> {
    let table = if geometry.is_sane() { Table::read(of, geometry).ok()? } else { None };
    table.as_ref().and_then(Layout::of)
}

fn is_marked(of: &(impl Readable + ?Sized), geometry: Geometry) -> io::Result<bool> {
    let mut bytes = [0; 28];
    if of.size() < MARK_AT + 28 {
        return Ok(false);
    }
    of.read_at(MARK_AT, &mut bytes)?;
    Ok(bytes == mark(geometry).bytes[..28])
}

/// Looks at a disk.
#[must_use]
pub fn look(of: &(impl Readable + ?Sized), geometry: Geometry) -> Content {
    look_at(of, geometry).unwrap_or_else(|error| Content::Unreadable(error.to_string()))
}

fn look_at(of: &(impl Readable + ?Sized), geometry: Geometry) -> io::Result<Content> {
    if !geometry.is_sane() {
        return Ok(Content::Unreadable(format!("its sectors have {} bytes", geometry.sector)));
    }
    if is_marked(of, geometry)? {
        return Ok(Content::Unfinished);
    }
    if let Some(layout) = Table::read(of, geometry)?.as_ref().and_then(Layout::of) {
        return Ok(if layout.is_ready() { Content::Ours(layout) } else { Content::Unfinished });
    }
    let found = signature::signatures(of)?;
    Ok(if found.is_empty() { Content::Empty } else { Content::Foreign(found) })
}
