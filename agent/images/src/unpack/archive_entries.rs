//! The entries of a layer's tar stream with their long names and extended headers, each bounded before it is read.
//!
//! The crate `tar` reads headers and data; it would also put long names together, but reads them whole, however long
//! they say they are. A layer comes from strangers.

use std::io::{self, Read};

use tar::{Archive, EntryType, Header};

use super::entry::Refusal;

/// The longest name or extended header there is.
const MAX_EXTENSION: u64 = 1 << 20;

/// A name and a value.
type Record = (Vec<u8>, Vec<u8>);

/// One entry, with what the headers before it said.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) size: u64,
    /// Of its data in the stream.
    pub(crate) position: u64,
    pub(crate) mtime: i64,
    pub(crate) xattrs: Vec<Record>,
}

/// What is made of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    Device,
    Other(char),
    Sparse,
}

/// Why reading ends.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The stream ends early or is no tar archive.
    #[error("the layer is not a whole tar archive")]
    Read(#[source] io::Error),
    /// Nobody needs that.
    #[error("a name or extended header has {0} bytes, more than {MAX_EXTENSION}")]
    Extension(u64),
    /// More than can be an image.
    #[error("the archive has more than {0} entries")]
    Entries(usize),
    /// Cannot be understood.
    #[error("an extended header cannot be read")]
    Extended,
    /// See [`Refusal`].
    #[error("`{path}` is refused: {refusal}")]
    Refused {
        /// Which entry.
        path: String,
        /// Why.
        refusal: Refusal,
    },
}

/// What is known of the next entry before its own header comes.
#[derive(Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Vec<Record>,
}

/// Calls `take` for each entry with its data.
pub(crate) fn each<R: Read, E: From<TarError>>(
    stream: R,
    mut take: impl FnMut(Head, &mut dyn Read) -> Result<(), E>,
) -> Result<R, E> {
    let mut archive = Archive::new(stream);
    let mut ahead = Ahead::default();
    for entry in archive.entries().map_err(TarError::Read)?.raw(true) {
        let mut entry = entry.map_err(TarError::Read)?;
        let header = entry.header().clone();
        let size = header.entry_size().map_err(TarError::Read)?;
        #[allow(clippy::wildcard_enum_match_arm)] // what is no extension is judged below
        match header.entry_type() {
            EntryType::GNULongName => ahead.path = Some(until_nul(extension(&mut entry, size)?)),
            EntryType::GNULongLink => ahead.link = Some(until_nul(extension(&mut entry, size)?)),
            EntryType::XHeader => ahead.records = records(&extension(&mut entry, size)?)?,
            // For all entries that follow; only comments are found in practice.
            EntryType::XGlobalHeader => drop(extension(&mut entry, size)?),
            kind => {
                let head = head(std::mem::take(&mut ahead), &header, kind, size, entry.raw_file_position())?;
                take(head, &mut entry)?;
            }
        }
    }
    Ok(archive.into_inner())
}

fn extension(entry: &mut impl Read, size: u64) -> Result<Vec<u8>, TarError> {
    if size > MAX_EXTENSION {
        return Err(TarError::Extension(size));
    }
    let mut bytes = Vec::new();
    entry.take(size).read_to_end(&mut bytes).map_err(TarError::Read)?;
    Ok(bytes)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// `LENGTH KEY=VALUE\n`, where values may hold anything.
fn records(mut bytes: &[u8]) -> Result<Vec<Record>, TarError> {
    let mut records = Vec::new();
    while !bytes.is_empty() && bytes[0] != 0 {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or(TarError::Extended)?;
        let length: usize =
            std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse().ok()).ok_or(TarError::Extended)?;
        // The length counts itself, the blank and the line's end.
        if length <= space + 1 || length > bytes.len() || bytes[length - 1] != b'\n' {
            return Err(TarError::Extended);
        }
        let record = &bytes[space + 1..length - 1];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or(TarError::Extended)?;
        records.push((record[..equals].to_vec(), record[equals + 1..].to_vec()));
        bytes = &bytes[length..];
    }
    Ok(records)
}

fn head(ahead: Ahead, header: &Header, kind: EntryType, size: u64, position: u64) -> Result<Head, TarError> {
    let record = |key: &[u8]| {
        let found = ahead.records.iter().rfind(|(name, _)| name == key);
        found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
    };
    let path = record(b"path").or(ahead.path).unwrap_or_else(|| header.path_bytes().into_owned());
    let refused = |refusal| TarError::Refused { path: shown(&path), refusal };
    let number = |key: &[u8]| {
        let text = record(key).and_then(|value| String::from_utf8(value).ok());
        text.map(|text| text.parse::<u64>().map_err(|_| TarError::Extended)).transpose()
    };
    let old = header.as_old();
    let id = |key: &[u8], field: &[u8], own: io::Result<u64>| -> Result<u32, TarError> {
        let own = if is_blank(field) { Ok(0) } else { own };
        let wide = number(key)?.map_or(own, Ok).map_err(TarError::Read)?;
        u32::try_from(wide).map_err(|_| TarError::Extended)
    };
    let mode = if is_blank(&old.mode) { 0 } else { header.mode().map_err(TarError::Read)? & 0o7777 };
    if number(b"size")?.is_some_and(|wide| wide != size) {
        return Err(refused(Refusal::Huge));
    }
    let link = record(b"linkpath").or(ahead.link);
    let link = link.or_else(|| header.link_name_bytes().map(|name| name.into_owned())).unwrap_or_default();
    // Seconds and a fraction that is not kept.
    let mtime = record(b"mtime").and_then(|value| String::from_utf8(value).ok());
    let mtime = mtime.and_then(|text| text.split('.').next().and_then(|seconds| seconds.parse::<i64>().ok()));
    let mtime = mtime.unwrap_or_else(|| header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0));
    let xattrs = ahead
        .records
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(b"SCHILY.xattr.")?.to_vec(), value.clone())));
    let sparse = ahead.records.iter().any(|(name, _)| name.starts_with(b"GNU.sparse."));
    // Directories were once files with a slash at their end.
    let old_directory = path.ends_with(b"/") && kind == EntryType::Regular;
    #[allow(clippy::wildcard_enum_match_arm)] // whatever is left is refused by its letter
    let kind = match kind {
        _ if sparse => Kind::Sparse,
        _ if old_directory => Kind::Directory,
        EntryType::Regular | EntryType::Continuous => Kind::File,
        EntryType::Link => Kind::HardLink,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Directory => Kind::Directory,
        EntryType::Fifo => Kind::Fifo,
        EntryType::Char | EntryType::Block => Kind::Device,
        EntryType::GNUSparse => Kind::Sparse,
        other => Kind::Other(char::from(other.as_byte())),
    };
    Ok(Head {
        link,
        kind,
        mode,
        uid: id(b"uid", &old.uid, header.uid())?,
        gid: id(b"gid", &old.gid, header.gid())?,
        size,
        position,
        mtime,
        xattrs: xattrs.collect(),
        path,
    })
}

/// Some writers leave numbers out that are 0.
fn is_blank(field: &[u8]) -> bool {
    field.iter().all(|byte| matches!(byte, 0 | b' '))
}

/// A path as it can be shown to people.
pub(crate) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect::<String>().escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_may_hold_line_ends_and_lies_are_refused() {
        let bytes = b"31 SCHILY.xattr.user.a=one\ntwo\n9 path=x\n";
        let all = records(bytes).unwrap();
        assert_eq!(all[0], (b"SCHILY.xattr.user.a".to_vec(), b"one\ntwo".to_vec()));
        assert_eq!(all[1], (b"path".to_vec(), b"x".to_vec()));
        for lie in [&b"99 path=x\n"[..], b"9 path=xy", b"x path=x\n", b"2 \n", b"0 a=b\n", b"9 pathxx\n"] {
            assert!(records(lie).is_err(), "{lie:?}");
        }
    }

    #[test]
    fn a_name_that_says_it_is_endless_is_not_read() {
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_path("././@LongLink").unwrap();
        header.set_cksum();
        let result = each(io::Cursor::new(header.as_bytes().to_vec()), |_, _| Ok::<(), TarError>(()));
        assert!(matches!(result, Err(TarError::Extension(_))));
    }
}
