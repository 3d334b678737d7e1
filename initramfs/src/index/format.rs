//! The lines of the module index: what the reader and the writer agree on.

use super::glob;
use std::cmp::Ordering;
use std::ops::Range;

/// The format this version reads and writes; a reader refuses any other.
pub(super) const FORMAT_VERSION: &str = "1";

/// Why an index cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum IndexError {
    /// The first line is not an index header.
    #[error("not a module index: the first line must be \"mesolith-modules {FORMAT_VERSION} KERNEL\"")]
    Header,
    /// The header names a format this program does not know.
    #[error("module index has format {0}, this program reads format {FORMAT_VERSION}")]
    Version(String),
    /// The bytes are not text.
    #[error("module index is not UTF-8")]
    NotText,
    /// The file or one of its counts does not fit the reader's offsets.
    #[error("module index is too large")]
    TooLarge,
    /// A line has the wrong shape.
    #[error("module index line {line}: {reason}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A module is named that has no `m` line.
    #[error("module index names {0}, which it does not contain")]
    UnknownModule(String),
    /// Two `m` lines have one name.
    #[error("module index contains {0} twice")]
    DuplicateModule(String),
}

/// Aliases are sorted by the bytes before the first wildcard, then by the rest.
pub(super) fn sort_key(pattern: &str) -> (&[u8], &[u8]) {
    pattern.as_bytes().split_at(glob::literal_len(pattern.as_bytes()))
}

pub(super) fn header(line: &str) -> Result<Range<u32>, IndexError> {
    let rest = line.strip_prefix("mesolith-modules ").ok_or(IndexError::Header)?;
    let (version, kernel) = rest.split_once(' ').ok_or(IndexError::Header)?;
    if version != FORMAT_VERSION {
        return Err(IndexError::Version(version.to_owned()));
    }
    if kernel.is_empty() || kernel.contains([' ', '/']) {
        return Err(IndexError::Header);
    }
    Ok(offset(line.len() - kernel.len())..offset(line.len()))
}

pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(['-', ',', '~', '/'])
}

pub(super) fn is_path(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

pub(super) fn list(field: &str) -> impl Iterator<Item = (&str, bool)> {
    let names = if field == "-" { "" } else { field };
    names.split(',').filter(|name| !name.is_empty()).map(|name| match name.strip_prefix('~') {
        Some(soft) => (soft, false),
        None => (name, true),
    })
}

pub(super) fn compare_names(name: &str, query: &str) -> Ordering {
    name.bytes().cmp(query.bytes().map(glob::fold))
}

/// Line number from 1, offset of its first byte, and the line without its end.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, usize, &str)> {
    text.split_inclusive('\n')
        .scan(0, |next, line| {
            let start = *next;
            *next += line.len();
            Some((start, line.strip_suffix('\n').unwrap_or(line)))
        })
        .enumerate()
        .map(|(number, (start, line))| (number + 1, start, line))
}

pub(super) fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("parse has refused texts longer than u32 can count")
}
