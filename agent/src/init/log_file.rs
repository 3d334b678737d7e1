//! A log file that cannot grow for ever: when it is full it becomes `NAME.1`, whose predecessor is gone.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How large each of the two files gets.
const LIMIT_BYTES: u64 = 1024 * 1024;

/// The file being written.
#[derive(Debug)]
pub(crate) struct LogFile {
    path: PathBuf,
    file: File,
    len: u64,
    limit: u64,
}

impl LogFile {
    /// Opens a file, going on where an earlier process stopped.
    pub(crate) fn open(path: &Path) -> io::Result<LogFile> {
        let file = File::options().create(true).append(true).open(path)?;
        let len = file.metadata()?.len();
        Ok(LogFile { path: path.to_owned(), file, len, limit: LIMIT_BYTES })
    }

    /// Adds a line. A file system that is full loses it: a log must not stop what it tells about.
    pub(crate) fn append(&mut self, line: &str) {
        let bytes = line.len() as u64 + 1;
        if self.len + bytes > self.limit {
            self.turn_over();
        }
        if self.file.write_all(format!("{line}\n").as_bytes()).is_ok() {
            self.len += bytes;
        }
    }

    fn turn_over(&mut self) {
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        let renamed = std::fs::rename(&self.path, older);
        let opened = File::options().create(true).append(true).open(&self.path);
        match (renamed, opened) {
            (Ok(()), Ok(file)) => {
                self.file = file;
                self.len = 0;
            }
            // The next full line tries again; until then the file holds what it has.
            _ => self.len = if self.file.set_len(0).is_ok() { 0 } else { self.len },
        }
    }
}

/// Bytes in, lines out; a line without end is cut.
#[derive(Debug, Default)]
pub(crate) struct Lines(Vec<u8>);

/// The longest line kept in one piece.
const LONGEST_LINE: usize = 4096;

impl Lines {
    /// Takes what was read, gives each complete line to `each`.
    pub(crate) fn push(&mut self, bytes: &[u8], mut each: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (piece, complete) = piece.strip_suffix(b"\n").map_or((piece, false), |piece| (piece, true));
            for part in piece.chunks(LONGEST_LINE) {
                if self.0.len() + part.len() > LONGEST_LINE {
                    self.give(&mut each);
                }
                self.0.extend_from_slice(part);
            }
            if complete {
                self.give(&mut each);
            }
        }
    }

    fn give(&mut self, each: &mut impl FnMut(&str)) {
        each(&String::from_utf8_lossy(&self.0));
        self.0.clear();
        self.0.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_log_keeps_the_newest_and_one_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.log");
        let mut log = LogFile::open(&path).unwrap();
        log.limit = 100;
        for number in 0..100 {
            log.append(&format!("line {number:04}"));
        }
        let newest = std::fs::read_to_string(&path).unwrap();
        let older = std::fs::read_to_string(dir.path().join("x.log.1")).unwrap();
        assert!(newest.ends_with("line 0099\n") && newest.len() <= 100 && older.len() == 100, "{newest}{older}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn lines_come_whole_however_the_bytes_arrive() {
        let text = "one\n\ntwo\nlast";
        for size in 1..text.len() {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                lines.push(piece, |line| seen.push(line.to_owned()));
            }
            assert_eq!(seen, ["one", "", "two"]);
        }
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (mut lines, mut seen) = (Lines::default(), 0);
        lines.push(&vec![b'x'; 3 * LONGEST_LINE + 1], |line| {
            assert_eq!(line.len(), LONGEST_LINE);
            seen += 1;
        });
        assert_eq!(seen, 3);
    }
}
