//! The archive the kernel unpacks: cpio in the "newc" format, written reproducibly and read totally.
//!
//! Every number in the archive comes from the manifest or the caller: inode numbers count from 1, the device is 0, and
//! all files have one modification time. See `Documentation/driver-api/early-userspace/buffer-format.rst` in the
//! kernel's source.

use crate::manifest::{Entry, EntryKind, Manifest, ManifestError};
use std::borrow::Cow;

const MAGIC: &[u8; 6] = b"070701";
const HEADER_LEN: usize = 110;
const TRAILER: &str = "TRAILER!!!";
/// Archives are filled up to this size, as cpio itself does, so that what follows is aligned.
const BLOCK: usize = 512;

const TYPE_MASK: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHAR_DEVICE: u32 = 0o020_000;

/// Why an archive cannot be written.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum WriteError {
    /// The format counts sizes with 32 bits.
    #[error("{0} is larger than 4 GiB, which cpio cannot hold")]
    TooLarge(String),
    /// A path the format uses to mark its end.
    #[error("{TRAILER} cannot be a file's name in a cpio archive")]
    TrailerName,
}

/// Why bytes are not an archive.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ReadError {
    /// The member does not start with the newc magic.
    #[error("no cpio newc header at byte {0}")]
    Magic(usize),
    /// A header field is not hexadecimal.
    #[error("the cpio header at byte {0} has a field that is not a number")]
    Number(usize),
    /// The archive ends inside a member or before its trailer.
    #[error("the cpio archive is cut off at byte {0}")]
    Truncated(usize),
    /// A name is not UTF-8 or not terminated.
    #[error("the cpio member at byte {0} has an unreadable name or link target")]
    Name(usize),
    /// A file type this reader does not know, such as a socket.
    #[error("{path} has mode {mode:o}, a type that does not belong here")]
    Type {
        /// The member.
        path: String,
        /// Its mode.
        mode: u32,
    },
    /// The paths do not make a tree.
    #[error("the cpio archive is not a tree")]
    Tree(#[source] ManifestError),
}

/// Writes a manifest as one archive, with every time set to `mtime` (seconds since 1970).
///
/// # Errors
/// When a file does not fit the format.
pub fn write(manifest: &Manifest<'_>, mtime: u32) -> Result<Vec<u8>, WriteError> {
    write_aligned(manifest, mtime, 4)
}

/// Like [`write`], with every file's content starting at a multiple of `alignment` (a power of two, at least 4).
///
/// The microcode loader reads its blobs in place, where the processor wants them aligned to 16 bytes. The room is made
/// by further NULs after the name.
///
/// # Errors
/// When a file does not fit the format.
pub fn write_aligned(manifest: &Manifest<'_>, mtime: u32, alignment: usize) -> Result<Vec<u8>, WriteError> {
    let expected: usize = manifest.entries().map(|(path, entry)| 128 + path.len() + entry.content().len()).sum();
    let mut archive = Vec::with_capacity(expected + BLOCK);
    let mut inode = 0;
    for (path, entry) in manifest.entries() {
        if path == TRAILER {
            return Err(WriteError::TrailerName);
        }
        inode += 1;
        let size = u32::try_from(entry.content().len()).map_err(|_| WriteError::TooLarge(path.to_owned()))?;
        let (file_type, links, major, minor) = match entry.kind {
            EntryKind::Directory => (DIRECTORY, 2, 0, 0),
            EntryKind::File(_) => (REGULAR, 1, 0, 0),
            EntryKind::Symlink(_) => (SYMLINK, 1, 0, 0),
            EntryKind::CharDevice { major, minor } => (CHAR_DEVICE, 1, major, minor),
        };
        let mode = file_type | entry.permissions;
        let align = if matches!(entry.kind, EntryKind::File(_)) { alignment.max(4) } else { 4 };
        put_header(
            &mut archive,
            &[inode, mode, entry.uid, entry.gid, links, mtime, size, 0, 0, major, minor],
            path,
            align,
        );
        archive.extend_from_slice(entry.content());
        pad(&mut archive, 4);
    }
    put_header(&mut archive, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], TRAILER, 4);
    pad(&mut archive, BLOCK);
    Ok(archive)
}

/// The eleven numbers before the name's size, then that size and the unused checksum, then the name.
fn put_header(archive: &mut Vec<u8>, numbers: &[u32; 11], path: &str, align: usize) {
    let name_end = archive.len() + HEADER_LEN + path.len() + 1;
    // Without special alignment the padding is the format's own and not counted as name.
    let name_size =
        if align > 4 { path.len() + 1 + (name_end.next_multiple_of(align) - name_end) } else { path.len() + 1 };
    archive.extend_from_slice(MAGIC);
    for number in numbers {
        archive.extend_from_slice(format!("{number:08x}").as_bytes());
    }
    archive.extend_from_slice(format!("{name_size:08x}{:08x}", 0).as_bytes());
    archive.extend_from_slice(path.as_bytes());
    let name_start = archive.len() - path.len();
    archive.resize(name_start + name_size, 0);
    pad(archive, 4);
}

fn pad(archive: &mut Vec<u8>, to: usize) {
    archive.resize(archive.len().next_multiple_of(to), 0);
}

/// An archive that was read: its tree, the time of its first member, and how many bytes it takes with its padding.
#[derive(Debug, PartialEq, Eq)]
pub struct Archive<'a> {
    /// What it holds.
    pub manifest: Manifest<'a>,
    /// Where the next archive may begin.
    pub len: usize,
}

/// Whether a cpio archive starts here.
pub fn starts(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Reads the archive at the start of `bytes`; file contents are borrowed.
///
/// # Errors
/// When the bytes are not one complete newc archive that makes a tree.
pub fn read(bytes: &[u8]) -> Result<Archive<'_>, ReadError> {
    let mut manifest = Manifest::new();
    let mut at = 0;
    loop {
        let start = at;
        let header = take(bytes, &mut at, HEADER_LEN)?;
        if !header.starts_with(MAGIC) {
            return Err(ReadError::Magic(start));
        }
        let mut numbers = [0u32; 13];
        for (number, digits) in numbers.iter_mut().zip(header[MAGIC.len()..].chunks_exact(8)) {
            *number = hexadecimal(digits).ok_or(ReadError::Number(start))?;
        }
        let [_, mode, uid, gid, _, _, size, _, _, major, minor, name_size, _] = numbers;
        let name = take(bytes, &mut at, length(name_size))?;
        let name_len = name.iter().position(|byte| *byte == 0).ok_or(ReadError::Name(start))?;
        let path = str::from_utf8(&name[..name_len]).map_err(|_| ReadError::Name(start))?;
        at = at.next_multiple_of(4);
        if path == TRAILER {
            return Ok(Archive { manifest, len: end_of_padding(bytes, at) });
        }
        let content = take(bytes, &mut at, length(size))?;
        at = at.next_multiple_of(4);
        let kind = match mode & TYPE_MASK {
            DIRECTORY => EntryKind::Directory,
            REGULAR => EntryKind::File(Cow::Borrowed(content)),
            SYMLINK => EntryKind::Symlink(str::from_utf8(content).map_err(|_| ReadError::Name(start))?.to_owned()),
            CHAR_DEVICE => EntryKind::CharDevice { major, minor },
            _ => return Err(ReadError::Type { path: path.to_owned(), mode }),
        };
        // cpio(1) records the top directory itself as "."; it has no place in a manifest.
        if path != "." {
            let path = path.strip_prefix("./").unwrap_or(path);
            let permissions = mode & !TYPE_MASK;
            manifest.insert(path, Entry { permissions, uid, gid, kind }).map_err(ReadError::Tree)?;
        }
    }
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, len: usize) -> Result<&'a [u8], ReadError> {
    let taken = at.checked_add(len).and_then(|end| bytes.get(*at..end)).ok_or(ReadError::Truncated(bytes.len()))?;
    *at += len;
    Ok(taken)
}

fn length(number: u32) -> usize {
    usize::try_from(number).expect("a pointer has at least 32 bits")
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |number, digit| Some(number << 4 | char::from(*digit).to_digit(16)?))
}

fn end_of_padding(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    at.min(bytes.len()) + rest.iter().take_while(|byte| **byte == 0).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Manifest<'static> {
        let mut manifest = Manifest::new();
        manifest.directory("tmp", 0o1777).unwrap();
        manifest.file("init", 0o755, b"#!\n".as_slice()).unwrap();
        manifest.symlink("bin/sh", "busybox").unwrap();
        manifest.char_device("dev/console", 0o600, 5, 1).unwrap();
        manifest
    }

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut manifest = Manifest::new();
        manifest.file("ab", 0o644, b"hello".as_slice()).unwrap();
        let archive = write(&manifest, 0x5f00_0000).unwrap();
        let expected = "07070100000001000081a40000000000000000000000015f000000000000050000000000000000\
            00000000000000000000000300000000ab\0\0\0\0hello\0\0\0\
            070701000000000000000000000000000000000000000100000000000000000000000000000000\
            00000000000000000000000b00000000TRAILER!!!\0\0\0\0";
        assert_eq!(str::from_utf8(&archive[..expected.len()]).unwrap(), expected);
        assert_eq!(archive.len(), 512);
    }

    #[test]
    fn an_archive_reads_back_and_the_next_one_can_follow() {
        let mut bytes = write(&sample(), 1).unwrap();
        let first = bytes.len();
        bytes.extend(write(&sample(), 1).unwrap());
        let archive = read(&bytes).unwrap();
        assert_eq!(archive.manifest, sample());
        assert_eq!(archive.len, first);
        assert_eq!(read(&bytes[first..]).unwrap().manifest, sample());
    }

    #[test]
    fn contents_can_be_aligned_for_the_microcode_loader() {
        let mut manifest = Manifest::new();
        manifest.file("kernel/x86/microcode/AuthenticAMD.bin", 0o644, vec![0xaa; 100]).unwrap();
        manifest.file("kernel/x86/microcode/GenuineIntel.bin", 0o644, vec![0xbb; 64]).unwrap();
        let bytes = write_aligned(&manifest, 0, 16).unwrap();
        for (byte, len) in [(0xaa, 100), (0xbb, 64)] {
            let start = bytes.iter().position(|found| *found == byte).unwrap();
            assert_eq!(start % 16, 0);
            assert!(bytes[start..start + len].iter().all(|found| *found == byte));
        }
        assert_eq!(read(&bytes).unwrap().manifest, manifest);
    }

    #[test]
    fn broken_archives_are_refused_with_the_place() {
        let good = write(&sample(), 1).unwrap();
        assert_eq!(read(b""), Err(ReadError::Truncated(0)));
        assert_eq!(read(&[b'x'; 200]), Err(ReadError::Magic(0)));
        assert_eq!(read(&good[..150]), Err(ReadError::Truncated(150)));
        let mut bad = good.clone();
        bad[10] = b'g';
        assert_eq!(read(&bad), Err(ReadError::Number(0)));
    }

    fn any_manifest() -> impl Strategy<Value = Manifest<'static>> {
        let kind = prop_oneof![
            Just(EntryKind::Directory),
            prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| EntryKind::File(bytes.into())),
            "[a-z/.]{1,9}".prop_map(EntryKind::Symlink),
            (0u32..300, 0u32..300).prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        ];
        let entry = (0u32..0o10000, any::<u32>(), any::<u32>(), kind).prop_map(|(permissions, uid, gid, kind)| Entry {
            permissions,
            uid,
            gid,
            kind,
        });
        prop::collection::vec(("[a-c]{1,3}(/[a-c]{1,2}){0,3}", entry), 0..12).prop_map(|entries| {
            let mut manifest = Manifest::new();
            for (path, entry) in entries {
                // Collisions of random paths are refused, which is not what this is about.
                let _ = manifest.insert(&path, entry);
            }
            manifest
        })
    }

    proptest! {
        #[test]
        fn every_manifest_survives_the_archive(manifest in any_manifest(), mtime in any::<u32>(), power in 2u32..7) {
            let bytes = write_aligned(&manifest, mtime, 1 << power).unwrap();
            let archive = read(&bytes).unwrap();
            prop_assert_eq!(archive.manifest, manifest);
            prop_assert_eq!(archive.len, bytes.len());
        }

        #[test]
        fn no_damage_makes_the_reader_panic(at in 0usize..512, byte in any::<u8>(), cut in 0usize..1024) {
            let mut bytes = write(&sample(), 1).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            let _ = read(&bytes);
        }
    }
}
