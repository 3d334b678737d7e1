//! Forgets who this node is: its keys, its certificate, what it was told.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// Overwrites and removes every file below a directory of state. What is in memory goes with the machine's end; what is on a
/// disk is overwritten where that reaches it, and is of no use without the key in any case.
pub(crate) fn wipe(state: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(state)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            count += wipe(&entry.path())?;
        } else if kind.is_file() {
            let length = usize::try_from(entry.metadata()?.len()).unwrap_or(0);
            let mut file = File::options().write(true).open(entry.path())?;
            file.write_all(&vec![0; length])?;
            file.sync_all()?;
            fs::remove_file(entry.path())?;
            count += 1;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    File::open(state)?.sync_all()?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_and_what_was_written_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("pki")).unwrap();
        fs::write(dir.path().join("pki/identity.json"), "secret").unwrap();
        fs::write(dir.path().join("agent.json"), "{}").unwrap();
        let mut open = File::open(dir.path().join("pki/identity.json")).unwrap();
        assert_eq!(wipe(dir.path()).unwrap(), 2);
        assert!(!dir.path().join("pki/identity.json").exists());
        let mut left = Vec::new();
        io::Read::read_to_end(&mut open, &mut left).unwrap();
        assert_eq!(left, [0; 6]);
    }
}
