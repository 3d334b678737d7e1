//! What libcontainer logs while a call runs: its errors say `failed syscall`, its log says which and why.
//!
//! The telling line is often written by a clone of this process, so lines cannot be kept in memory: they go through a
//! pipe whose reading end only this process has.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tracing::{Level, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

use crate::logging;

/// How many lines are added to an error.
const TOLD_LINES: usize = 2;

/// The reading end.
#[derive(Debug, Default)]
pub(super) struct Causes(Option<File>);

/// Starts logging in this process, with libcontainer's errors kept aside. Without a pipe they are not, and all else
/// works.
pub(super) fn start() -> Causes {
    let Ok((reader, writer)) = pipe() else {
        logging::start();
        return Causes(None);
    };
    let from_libcontainer =
        filter_fn(|metadata| *metadata.level() == Level::ERROR && is_libcontainers(metadata.target()));
    let kept = tracing_subscriber::fmt::layer()
        .with_writer(PipeWriter(Arc::new(File::from(writer))))
        .with_ansi(false)
        .event_format(logging::LevelFirst)
        .with_filter(from_libcontainer);
    let shown = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(false)
        .event_format(logging::LevelFirst)
        // Theirs come with the error of the call, or by `settle`.
        .with_filter(logging::filter())
        .with_filter(filter_fn(|metadata| !is_libcontainers(metadata.target())));
    let subscriber = tracing_subscriber::registry().with(shown).with(kept);
    let _ = tracing::subscriber::set_global_default(subscriber);
    Causes(Some(File::from(reader)))
}

fn is_libcontainers(target: &str) -> bool {
    ["libcontainer", "libcgroups"].iter().any(|library| target.starts_with(library))
}

/// Neither end waits: a full pipe loses lines rather than hang a container's first process.
fn pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((reader, writer))
}

impl Causes {
    /// Logs what came since the last call: it is from a container's process that was already started, such as one
    /// that could not execute what it should.
    pub(super) fn settle(&mut self) {
        for line in self.take() {
            warn!(line, "a container's process failed after its start");
        }
    }

    /// The lines logged since, the most telling first: libcontainer logs the failing call first and then once more
    /// at every layer above it.
    pub(super) fn take(&mut self) -> Vec<String> {
        let mut text = Vec::new();
        if let Some(reader) = &mut self.0 {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                text.extend_from_slice(&buffer[..count]);
            }
        }
        telling(&String::from_utf8_lossy(&text))
    }
}

fn telling(text: &str) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    for line in text.lines() {
        let line = line.strip_prefix("<3>").unwrap_or(line);
        let line = line.split_once(": ").filter(|(target, _)| target.contains("::")).map_or(line, |(_, rest)| rest);
        if !line.is_empty() && told.len() < TOLD_LINES && !told.iter().any(|known| known.contains(line)) {
            told.push(line.to_owned());
        }
    }
    told
}

#[derive(Clone, Debug)]
struct PipeWriter(Arc<File>);

impl<'a> MakeWriter<'a> for PipeWriter {
    type Writer = PipeWriter;

    fn make_writer(&'a self) -> PipeWriter {
        self.clone()
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_are_told_without_their_addresses() {
        let text = "<3>libcontainer::syscall::linux: failed to mount source=\"proc\" errno=EPERM\n\
            <3>libcontainer::rootfs: failed to prepare rootfs\n\
            <3>libcontainer::rootfs: failed to prepare rootfs\n<3>a\n<3>b\n";
        assert_eq!(telling(text), ["failed to mount source=\"proc\" errno=EPERM", "failed to prepare rootfs"]);
    }
}
