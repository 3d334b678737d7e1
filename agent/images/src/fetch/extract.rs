//! Archives, unpacked into a sandbox: told by their names, as Mesos does.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::place::Sandbox;
use super::zip;
use crate::unpack::archive_entries::{Head, Kind, each, shown};
use crate::unpack::{Refusal, TarError, place as placed};

/// What a name says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Archive {
    Tar(Packing),
    Zip,
    /// One file, compressed.
    Single(Packing),
}

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Bzip2,
    Xz,
    Zstd,
}

/// Names and what they say; the longer first.
const NAMES: [(&str, Archive); 13] = [
    (".tar.gz", Archive::Tar(Packing::Gzip)),
    (".tgz", Archive::Tar(Packing::Gzip)),
    (".tar.bz2", Archive::Tar(Packing::Bzip2)),
    (".tbz2", Archive::Tar(Packing::Bzip2)),
    (".tar.xz", Archive::Tar(Packing::Xz)),
    (".txz", Archive::Tar(Packing::Xz)),
    (".tar.zst", Archive::Tar(Packing::Zstd)),
    (".tzst", Archive::Tar(Packing::Zstd)),
    (".tar", Archive::Tar(Packing::Plain)),
    (".zip", Archive::Zip),
    (".gz", Archive::Single(Packing::Gzip)),
    (".bz2", Archive::Single(Packing::Bzip2)),
    (".xz", Archive::Single(Packing::Xz)),
];

/// No archive for a task has more.
const MAX_ENTRIES: usize = 1_000_000;
/// 128 MiB: what zstd itself refuses to go beyond without being asked, and as much for xz.
const ZSTD_WINDOW_LOG: u32 = 27;
const XZ_MEMORY: u64 = 256 << 20;

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExtractError {
    #[error("{}", told(.0))]
    Tar(TarError),
    #[error(transparent)]
    Zip(#[from] zip::ZipError),
    #[error("it is not what its name says: {0}")]
    Packing(io::Error),
    #[error("`{path}` cannot be made: {source}")]
    Make { path: String, source: io::Error },
    #[error("it has more than {0} bytes unpacked")]
    TooLarge(u64),
    #[error("it has more than {MAX_ENTRIES} entries")]
    TooMany,
    #[error("nobody waits for it any more")]
    Cancelled,
}

impl From<TarError> for ExtractError {
    fn from(error: TarError) -> Self {
        Self::Tar(error)
    }
}

fn told(error: &TarError) -> String {
    match error {
        TarError::Read(source) => format!("it is not a whole tar archive: {source}"),
        TarError::Extension(_) | TarError::Entries(_) | TarError::Extended | TarError::Refused { .. } => {
            error.to_string()
        }
    }
}

impl Archive {
    /// What a file of this name is, if it is one.
    pub(super) fn of(name: &str) -> Option<Self> {
        let lower = name.to_ascii_lowercase();
        NAMES.iter().find(|(end, _)| lower.ends_with(end) && lower.len() > end.len()).map(|(_, archive)| *archive)
    }
}

/// What may still be written, and whether it is still wanted.
pub(super) struct Bounds<'a> {
    limit: u64,
    left: u64,
    entries: usize,
    cancelled: &'a AtomicBool,
}

impl Bounds<'_> {
    pub(super) fn entry(&mut self) -> Result<(), ExtractError> {
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(ExtractError::Cancelled);
        }
        self.entries += 1;
        if self.entries > MAX_ENTRIES { Err(ExtractError::TooMany) } else { Ok(()) }
    }

    /// Copies to the end.
    pub(super) fn copy(&mut self, from: &mut dyn Read, to: &mut impl Write, path: &str) -> Result<(), ExtractError> {
        let failed = |source| ExtractError::Make { path: path.to_owned(), source };
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = from.read(&mut buffer).map_err(ExtractError::Packing)?;
            if length == 0 {
                return Ok(());
            }
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(ExtractError::Cancelled);
            }
            self.left = self.left.checked_sub(length as u64).ok_or(ExtractError::TooLarge(self.limit))?;
            to.write_all(&buffer[..length]).map_err(failed)?;
        }
    }
}

/// Unpacks a file called `name` into the sandbox.
pub(super) fn unpack(
    archive: Archive,
    mut file: File,
    sandbox: &Sandbox,
    name: &str,
    limit: u64,
    cancelled: &AtomicBool,
) -> Result<(), ExtractError> {
    file.seek(SeekFrom::Start(0)).map_err(ExtractError::Packing)?;
    let mut bounds = Bounds { limit, left: limit, entries: 0, cancelled };
    match archive {
        Archive::Zip => zip::unpack(file, sandbox, &mut bounds),
        Archive::Tar(packing) => {
            let stream = opened(packing, file).map_err(ExtractError::Packing)?;
            each(stream, |head, data: &mut dyn Read| take(&head, data, sandbox, &mut bounds)).map(drop)
        }
        Archive::Single(packing) => {
            let mut stream = opened(packing, file).map_err(ExtractError::Packing)?;
            let output = Path::new(name).with_extension("");
            let path = output.display().to_string();
            let failed = |source| ExtractError::Make { path: path.clone(), source };
            let mut made = sandbox.create(&output, 0o600).map_err(failed)?;
            bounds.copy(&mut stream, &mut made, &path)?;
            sandbox.finish(&made, 0o644).map_err(failed)
        }
    }
}

fn opened(packing: Packing, file: File) -> io::Result<Box<dyn Read>> {
    let source = BufReader::with_capacity(64 * 1024, file);
    Ok(match packing {
        Packing::Plain => Box::new(source),
        Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Packing::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Packing::Xz => {
            let stream = xz2::stream::Stream::new_stream_decoder(XZ_MEMORY, xz2::stream::CONCATENATED)?;
            Box::new(xz2::bufread::XzDecoder::new_stream(source, stream))
        }
        Packing::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

fn take(head: &Head, data: &mut dyn Read, sandbox: &Sandbox, bounds: &mut Bounds<'_>) -> Result<(), ExtractError> {
    bounds.entry()?;
    let refused = |refusal| ExtractError::Tar(TarError::Refused { path: shown(&head.path), refusal });
    let failed = |source| ExtractError::Make { path: shown(&head.path), source };
    let path = path_of(&head.path).map_err(refused)?;
    match head.kind {
        Kind::Directory => sandbox.directory(&path, head.mode).map_err(failed),
        _ if path.as_os_str().is_empty() => Err(refused(Refusal::Root)),
        Kind::File => {
            let mut file = sandbox.create(&path, 0o600).map_err(failed)?;
            bounds.copy(data, &mut file, &shown(&head.path))?;
            sandbox.finish(&file, head.mode).map_err(failed)
        }
        Kind::HardLink => {
            let target = path_of(&head.link).map_err(refused)?;
            sandbox.link(&target, &path).map_err(failed)
        }
        Kind::Symlink => sandbox.symlink(OsStr::from_bytes(&head.link), &path).map_err(failed),
        Kind::Fifo | Kind::Device => Err(refused(Refusal::Device)),
        Kind::Sparse => Err(refused(Refusal::Sparse)),
        Kind::Other(kind) => Err(refused(Refusal::Kind(kind))),
    }
}

/// A path below the sandbox.
pub(super) fn path_of(path: &[u8]) -> Result<PathBuf, Refusal> {
    let place = placed(path)?;
    Ok(place.parents.iter().chain([&place.name]).filter(|part| !part.is_empty()).collect())
}
