//! Kernel modules as the image holds them: each compressed by itself, because a machine loads a few of them.
//!
//! The kernel copies them at boot without unpacking anything, and what is never loaded stays small in memory.

use anyhow::{Context, Result};
use initramfs::modules::Selection;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Compresses every module of a selection, in its order. Each file is one task of one thread, so the bytes do not
/// depend on how many threads there are.
pub(crate) fn compress(
    selection: &Selection<'_, '_>,
    level: i32,
    advance: impl Fn(usize) + Sync,
) -> Result<Vec<Vec<u8>>> {
    let inputs: Vec<&[u8]> = selection.modules.iter().map(|(_, module)| &*module.bytes).collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Vec<u8>)>> {
        let mut done = Vec::new();
        while let place = next.fetch_add(1, Ordering::Relaxed)
            && let Some(input) = inputs.get(place)
        {
            done.push((place, frame(input, level)?));
            advance(input.len());
        }
        Ok(done)
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    let mut packed = thread::scope(|scope| -> Result<Vec<(usize, Vec<u8>)>> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let mut packed = Vec::with_capacity(inputs.len());
        for worker in workers {
            packed.extend(worker.join().expect("a worker does not panic")?);
        }
        Ok(packed)
    })?;
    packed.sort_unstable_by_key(|(place, _)| *place);
    Ok(packed.into_iter().map(|(_, bytes)| bytes).collect())
}

/// One frame that names its content's size, which the loader wants to know first.
pub(crate) fn frame(content: &[u8], level: i32) -> Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level).context("cannot start zstd")?;
    compressor.include_checksum(true).context("cannot start zstd")?;
    compressor.compress(content).context("cannot compress a file")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_tells_its_size_and_notices_damage() {
        let content: Vec<u8> = (0..=250u8).cycle().take(70_000).collect();
        let mut packed = frame(&content, 19).unwrap();
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&packed).unwrap(), Some(70_000));
        assert_eq!(zstd::decode_all(packed.as_slice()).unwrap(), content);
        let last = packed.len() - 1;
        packed[last] ^= 1;
        assert!(zstd::decode_all(packed.as_slice()).is_err());
    }
}
