//! Where bytes go as they come: into a file, counted, bounded and summed up.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};

use super::Trouble;
use super::address::{Checksum, Summing};

/// One file that is being brought.
#[derive(Debug)]
pub(super) struct Sink {
    file: File,
    limit: u64,
    written: u64,
    summing: Summing,
    /// What names the content so that the rest of it can be asked for.
    pub(super) tag: Option<String>,
}

impl Sink {
    pub(super) fn new(file: File, limit: u64, checksum: Option<&Checksum>) -> Self {
        Self { file, limit, written: 0, summing: Summing::new(checksum), tag: None }
    }

    /// So much is here.
    pub(super) const fn written(&self) -> u64 {
        self.written
    }

    /// Forgets what has come.
    pub(super) fn again(&mut self) -> Result<(), Trouble> {
        self.written = 0;
        self.tag = None;
        self.summing.again();
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(drop).map_err(Trouble::io("cannot empty the file"))
    }

    /// Refuses what says that it is too long before it comes.
    pub(super) fn expect(&self, more: Option<u64>) -> Result<(), Trouble> {
        match more.map(|more| self.written.saturating_add(more)) {
            Some(length) if length > self.limit => Err(self.too_long()),
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.expect(Some(bytes.len() as u64))?;
        self.file.write_all(bytes).map_err(Trouble::io("cannot write the file"))?;
        self.written += bytes.len() as u64;
        self.summing.add(bytes);
        Ok(())
    }

    fn too_long(&self) -> Trouble {
        Trouble::Lasting(format!("it has more than {} bytes", self.limit))
    }

    /// All of it is here.
    pub(super) fn finish(mut self) -> Result<(), Trouble> {
        if !self.summing.finish() {
            return Err(Trouble::Lasting("it is not what its checksum says".to_owned()));
        }
        self.file.flush().and_then(|()| self.file.seek(SeekFrom::Start(0))).map(drop).map_err(Trouble::lasting)
    }
}
