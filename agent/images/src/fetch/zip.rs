//! Zip archives, by their directory at the end: stored and deflated files, directories and links.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::extract::{Bounds, ExtractError, path_of};
use super::place::Sandbox;
use crate::unpack::Refusal;
use crate::unpack::archive_entries::shown;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum ZipError {
    #[error("it is not a whole zip archive")]
    Broken,
    #[error("`{0}` is encrypted")]
    Encrypted(String),
    #[error("`{path}` is compressed in an unknown way ({method})")]
    Method { path: String, method: u16 },
    #[error("`{path}` is refused: {refusal}")]
    Refused { path: String, refusal: Refusal },
    #[error("`{0}` is damaged")]
    Damaged(String),
    #[error("cannot read it: {0}")]
    Read(io::Error),
}

const END: u32 = 0x0605_4b50;
const WIDE_END: u32 = 0x0606_4b50;
const WIDE_LOCATOR: u32 = 0x0706_4b50;
const ENTRY: u32 = 0x0201_4b50;
const LOCAL: u32 = 0x0403_4b50;
/// The end with the longest comment.
const LONGEST_END: u64 = 22 + 65_535;
/// The directory of an archive for a task.
const LONGEST_DIRECTORY: u64 = 256 << 20;
/// A link's target.
const LONGEST_LINK: u64 = 4096;

/// One entry of the directory.
struct Entry {
    name: Vec<u8>,
    flags: u16,
    method: u16,
    crc: u32,
    packed: u64,
    size: u64,
    offset: u64,
    /// Of the system it was made on, if that was Unix.
    mode: Option<u32>,
}

pub(super) fn unpack(mut file: File, sandbox: &Sandbox, bounds: &mut Bounds<'_>) -> Result<(), ExtractError> {
    let directory = directory(&mut file)?;
    let mut rest = directory.as_slice();
    while !rest.is_empty() {
        bounds.entry()?;
        let entry = Entry::read(&mut rest)?;
        take(&entry, &mut file, sandbox, bounds)?;
    }
    Ok(())
}

fn take(entry: &Entry, file: &mut File, sandbox: &Sandbox, bounds: &mut Bounds<'_>) -> Result<(), ExtractError> {
    let name = shown(&entry.name);
    let failed = |source| ExtractError::Make { path: name.clone(), source };
    let path = path_of(&entry.name).map_err(|refusal| ZipError::Refused { path: name.clone(), refusal })?;
    let kind = entry.mode.map_or(0, |mode| mode & 0o170_000);
    if entry.name.ends_with(b"/") || kind == 0o040_000 {
        return sandbox.directory(&path, entry.mode.unwrap_or(0o755)).map_err(failed);
    }
    if !matches!(kind, 0 | 0o100_000 | 0o120_000) {
        return Err(ZipError::Refused { path: name, refusal: Refusal::Device }.into());
    }
    if path.as_os_str().is_empty() {
        return Err(ZipError::Refused { path: name, refusal: Refusal::Root }.into());
    }
    let mut data = entry.data(file)?;
    if kind == 0o120_000 {
        let mut target = Vec::new();
        bounds.copy(&mut data.by_ref().take(LONGEST_LINK), &mut target, &name)?;
        data.check(&name)?;
        return sandbox.symlink(OsStr::from_bytes(&target), &path).map_err(failed);
    }
    let mut made = sandbox.create(&path, 0o600).map_err(failed)?;
    bounds.copy(&mut data, &mut made, &name)?;
    data.check(&name)?;
    let mode = entry.mode.filter(|mode| mode & 0o777 != 0).unwrap_or(0o644);
    sandbox.finish(&made, mode).map_err(failed)
}

/// A file's bytes, summed up.
struct Data<'a> {
    source: Box<dyn Read + 'a>,
    crc: Crc,
    read: u64,
    expected: (u32, u64),
}

impl Read for Data<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.source.read(buffer)?;
        self.crc.update(&buffer[..length]);
        self.read += length as u64;
        Ok(length)
    }
}

impl Data<'_> {
    fn check(&self, name: &str) -> Result<(), ZipError> {
        let is = (self.crc.sum(), self.read);
        if is == self.expected { Ok(()) } else { Err(ZipError::Damaged(name.to_owned())) }
    }
}

impl Entry {
    fn read(rest: &mut &[u8]) -> Result<Self, ZipError> {
        let mut fields = Fields(rest);
        if fields.u32()? != ENTRY {
            return Err(ZipError::Broken);
        }
        let made_by = fields.u16()?;
        fields.skip(2)?;
        let (flags, method) = (fields.u16()?, fields.u16()?);
        fields.skip(4)?;
        let (crc, packed, size) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (name, extra, comment) = (fields.u16()?, fields.u16()?, fields.u16()?);
        fields.skip(4)?;
        let (attributes, offset) = (fields.u32()?, fields.u32()?);
        let name = fields.bytes(name.into())?.to_vec();
        let extra = fields.bytes(extra.into())?;
        fields.skip(comment.into())?;
        *rest = fields.0;
        let mut wide = wide_fields(extra);
        let mut widened =
            |narrow: u32| -> Result<u64, ZipError> { if narrow == u32::MAX { wide.u64() } else { Ok(narrow.into()) } };
        let (size, packed, offset) = (widened(size)?, widened(packed)?, widened(offset)?);
        let mode = (made_by >> 8 == 3).then_some(attributes >> 16);
        Ok(Self { name, flags, method, crc, packed, size, offset, mode })
    }

    fn data<'a>(&self, file: &'a mut File) -> Result<Data<'a>, ZipError> {
        let name = || shown(&self.name);
        if self.flags & 1 != 0 {
            return Err(ZipError::Encrypted(name()));
        }
        file.seek(SeekFrom::Start(self.offset)).map_err(ZipError::Read)?;
        let mut local = [0; 30];
        file.read_exact(&mut local).map_err(|_| ZipError::Broken)?;
        let mut fields = Fields(&local);
        if fields.u32()? != LOCAL {
            return Err(ZipError::Broken);
        }
        fields.skip(22)?;
        let skipped = i64::from(fields.u16()?) + i64::from(fields.u16()?);
        file.seek(SeekFrom::Current(skipped)).map_err(ZipError::Read)?;
        let packed = file.take(self.packed);
        let source: Box<dyn Read> = match self.method {
            0 => Box::new(packed),
            8 => Box::new(DeflateDecoder::new(packed)),
            method => return Err(ZipError::Method { path: name(), method }),
        };
        // One byte more than it says shows that it lies.
        let source = Box::new(source.take(self.size.saturating_add(1)));
        Ok(Data { source, crc: Crc::new(), read: 0, expected: (self.crc, self.size) })
    }
}

/// The sizes that did not fit, from the extra field that has them.
fn wide_fields(extra: &[u8]) -> Fields<'_> {
    let mut fields = Fields(extra);
    while let (Ok(id), Ok(length)) = (fields.u16(), fields.u16()) {
        let Ok(content) = fields.bytes(length.into()) else { break };
        if id == 1 {
            return Fields(content);
        }
    }
    Fields(&[])
}

/// The directory's bytes.
fn directory(file: &mut File) -> Result<Vec<u8>, ZipError> {
    let length = file.seek(SeekFrom::End(0)).map_err(ZipError::Read)?;
    let tail_at = length.saturating_sub(LONGEST_END);
    let tail = read_at(file, tail_at, length - tail_at)?;
    let mark = END.to_le_bytes();
    let at = tail.windows(4).rposition(|window| window == mark).ok_or(ZipError::Broken)?;
    let mut fields = Fields(&tail[at..]);
    fields.skip(12)?;
    let (mut size, mut offset) = (u64::from(fields.u32()?), u64::from(fields.u32()?));
    if size == u64::from(u32::MAX) || offset == u64::from(u32::MAX) {
        let locator = at.checked_sub(20).and_then(|from| tail.get(from..at)).ok_or(ZipError::Broken)?;
        let mut fields = Fields(locator);
        if fields.u32()? != WIDE_LOCATOR {
            return Err(ZipError::Broken);
        }
        fields.skip(4)?;
        let end = read_at(file, fields.u64()?, 56)?;
        let mut fields = Fields(&end);
        if fields.u32()? != WIDE_END {
            return Err(ZipError::Broken);
        }
        fields.skip(36)?;
        (size, offset) = (fields.u64()?, fields.u64()?);
    }
    if size > LONGEST_DIRECTORY || offset.checked_add(size).is_none_or(|end| end > length) {
        return Err(ZipError::Broken);
    }
    read_at(file, offset, size)
}

fn read_at(file: &mut File, offset: u64, size: u64) -> Result<Vec<u8>, ZipError> {
    file.seek(SeekFrom::Start(offset)).map_err(ZipError::Read)?;
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes).map_err(ZipError::Read)?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(ZipError::Broken) }
}

/// Numbers, the lowest byte first.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], ZipError> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(ZipError::Broken)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn skip(&mut self, count: usize) -> Result<(), ZipError> {
        self.bytes(count).map(drop)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], ZipError> {
        self.bytes(N)?.try_into().map_err(|_| ZipError::Broken)
    }

    fn u16(&mut self) -> Result<u16, ZipError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, ZipError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, ZipError> {
        Ok(u64::from_le_bytes(self.array()?))
    }
}
