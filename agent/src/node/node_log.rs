//! The node's own log: what each of its processes wrote, in the order of time.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

/// At most so much of a file is read at a time.
const PIECE: usize = 64 * 1024;

/// Reads the logs of all processes together, and then what is added.
#[derive(Debug)]
pub(crate) struct NodeLog {
    directory: PathBuf,
    files: BTreeMap<PathBuf, Position>,
    /// Bytes of the merged text that the reader has already.
    skip: u64,
}

/// How far one file was read. A turned-over log is another file under the same name.
#[derive(Debug, Default)]
struct Position {
    inode: u64,
    offset: u64,
}

impl NodeLog {
    pub(crate) fn new(directory: &Path, skip: u64) -> Self {
        Self { directory: directory.to_owned(), files: BTreeMap::new(), skip }
    }

    /// Every complete line that is new, oldest first; empty when there is none.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut lines: Vec<(u64, Vec<u8>)> = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                read_new(&path, self.files.entry(path.clone()).or_default(), &mut lines)?;
            }
        }
        // Stable: lines of one process stay in their order.
        lines.sort_by_key(|(time, _)| *time);
        let merged: Vec<u8> = lines.into_iter().flat_map(|(_, line)| line).collect();
        let skipped = usize::try_from(self.skip).unwrap_or(usize::MAX).min(merged.len());
        self.skip -= u64::try_from(skipped).unwrap_or(0);
        Ok(merged[skipped..].to_vec())
    }
}

fn read_new(path: &Path, position: &mut Position, lines: &mut Vec<(u64, Vec<u8>)>) -> io::Result<()> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    if about.ino() != position.inode || about.len() < position.offset {
        *position = Position { inode: about.ino(), offset: 0 };
    }
    let mut buffer = vec![0; PIECE];
    let mut time = 0;
    loop {
        let length = file.read_at(&mut buffer, position.offset)?;
        let Some(last) = buffer[..length].iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        for line in buffer[..=last].split_inclusive(|byte| *byte == b'\n') {
            // A line without a time belongs to the one before it.
            time = stamp(line).unwrap_or(time);
            lines.push((time, line.to_vec()));
        }
        position.offset += u64::try_from(last + 1).unwrap_or(0);
    }
}

/// Milliseconds of `[    4.185] …`.
fn stamp(line: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(line.get(1..line.iter().position(|byte| *byte == b']')?)?).ok()?;
    let (seconds, millis) = text.trim().split_once('.')?;
    Some(seconds.parse::<u64>().ok()? * 1000 + millis.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_all_processes_come_in_the_order_of_time_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("init.log", "[    1.000] mesolith: a\n[    3.000] mesolith: c\nmore of c\n");
        write("agent.log", "[    2.500] agent: b\n[    4.000] agent: hal");
        write("agent.log.1", "[    0.500] agent: older\n");
        let mut log = NodeLog::new(dir.path(), 4);
        let text = |log: &mut NodeLog| String::from_utf8(log.read().unwrap()).unwrap();
        let expected = "[    1.000] mesolith: a\n[    2.500] agent: b\n[    3.000] mesolith: c\nmore of c\n";
        assert_eq!(text(&mut log), expected[4..]);
        assert_eq!(text(&mut log), "");
        write("agent.log", "[    2.500] agent: b\n[    4.000] agent: half\n");
        assert_eq!(text(&mut log), "[    4.000] agent: half\n");
    }
}
