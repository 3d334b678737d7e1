//! A layer's bytes: decompressed, counted and hashed on their way to the tar reader.

use std::io::{self, BufReader, Chain, Cursor, Read};

use agent_core::image::Digest;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// 128 MiB: what zstd itself refuses to go beyond without being asked.
const ZSTD_WINDOW_LOG: u32 = 27;
const BUFFER: usize = 64 * 1024;

/// Marks the error of a stream that goes on too long.
#[derive(Debug, thiserror::Error)]
#[error("the stream is longer than allowed")]
struct OverLimit;

/// Whether an error is that of a stream that went on too long.
pub(super) fn is_over_limit(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<OverLimit>())
}

type Source<R> = BufReader<Chain<Cursor<Vec<u8>>, R>>;

enum Decoder<R: Read> {
    Plain(Source<R>),
    Gzip(Box<MultiGzDecoder<Source<R>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, Source<R>>>),
}

/// Reads the unpacked stream.
pub(super) struct Stream<R: Read> {
    decoder: Decoder<R>,
    hash: Sha256,
    read: u64,
    limit: u64,
}

impl<R: Read> Stream<R> {
    /// Looks at the first bytes: what registries say of the compression is not always true.
    pub(super) fn new(mut source: R, limit: u64) -> io::Result<Self> {
        let mut first = Vec::new();
        source.by_ref().take(ZSTD.len() as u64).read_to_end(&mut first)?;
        let (gzip, zstd) = (first.starts_with(&GZIP), first.starts_with(&ZSTD));
        let source = BufReader::with_capacity(BUFFER, Cursor::new(first).chain(source));
        let decoder = if gzip {
            Decoder::Gzip(Box::new(MultiGzDecoder::new(source)))
        } else if zstd {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Decoder::Zstd(Box::new(decoder))
        } else {
            Decoder::Plain(source)
        };
        Ok(Self { decoder, hash: Sha256::new(), read: 0, limit })
    }

    /// Reads what follows the archive's end; gives the digest and the length of all.
    pub(super) fn finish(mut self) -> io::Result<(Digest, u64)> {
        io::copy(&mut self, &mut io::sink())?;
        Ok((Digest::of_sha256(&self.hash.finalize()), self.read))
    }
}

impl<R: Read> Read for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = match &mut self.decoder {
            Decoder::Plain(source) => source.read(buffer),
            Decoder::Gzip(decoder) => decoder.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
        }?;
        self.read += read as u64;
        if self.read > self.limit {
            return Err(io::Error::other(OverLimit));
        }
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}
