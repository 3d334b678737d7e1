//! What the agent must remember, in files: one for itself, one for each run of a task.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_core::executor::ExecutorRecord;
use agent_core::record::{Record, VERSION};
use api::{AgentId, ContainerId};
use serde::{Deserialize, Serialize};

use super::private_file;

/// The directory `/run/mesolith/agent`.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    directory: PathBuf,
}

/// What is kept of the agent itself.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Kept {
    /// Given by the master at the first registration.
    pub(crate) agent: Option<AgentId>,
    /// Hosted machines are told apart by this, not by their hardware: one host may run several.
    pub(crate) machine: Option<String>,
    /// Where the masters were when one told it last.
    #[serde(default)]
    pub(crate) masters: Vec<String>,
    /// Where executors find us on this host, where nodes have a port of their own.
    #[serde(default)]
    pub(crate) executor_port: Option<u16>,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is not a checkpoint this version can read", path.display())]
    Unreadable { path: PathBuf, source: serde_json::Error },
    #[error("{} was written by version {version} of the checkpoint, this is version {VERSION}", path.display())]
    Version { path: PathBuf, version: u32 },
}

impl Checkpoint {
    pub(crate) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    fn record(&self, container: &ContainerId) -> PathBuf {
        self.directory.join("tasks").join(format!("{container}.json"))
    }

    fn kept(&self) -> PathBuf {
        self.directory.join("agent.json")
    }

    /// Makes the runs fit to be read. They are not waited for when they are written: what they are about ends with the
    /// machine's power. So those of an earlier boot may be cut, and one that is has nothing to tell.
    pub(crate) fn settle(&self, boot_id: &str) -> Result<(), CheckpointError> {
        let own = self.directory.join("boot");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| CheckpointError::Read { path, source }
        };
        if private_file::read(&own).map_err(failed(&own))?.as_deref() == Some(boot_id.as_bytes()) {
            return Ok(());
        }
        for kind in ["tasks", "executors"] {
            let directory = self.directory.join(kind);
            for entry in fs::read_dir(&directory).into_iter().flatten() {
                let path = entry.map_err(failed(&directory))?.path();
                let content = private_file::read(&path).map_err(failed(&path))?.unwrap_or_default();
                if serde_json::from_slice::<serde_json::Value>(&content).is_err() {
                    tracing::warn!(path = %path.display(), "a checkpoint was cut by the machine's end");
                    private_file::remove(&path).map_err(failed(&path))?;
                }
            }
        }
        private_file::write(&own, boot_id.as_bytes()).map_err(|source| CheckpointError::Write { path: own, source })
    }

    /// Writes a run.
    pub(crate) fn save(&self, record: &Record) -> Result<(), CheckpointError> {
        self.write_for_now(&self.record(&record.container), record)
    }

    /// Removes a run.
    pub(crate) fn forget(&self, container: &ContainerId) -> Result<(), CheckpointError> {
        let path = self.record(container);
        private_file::remove_for_now(&path).map_err(|source| CheckpointError::Write { path, source })
    }

    /// Writes an executor.
    pub(crate) fn save_executor(&self, record: &ExecutorRecord) -> Result<(), CheckpointError> {
        self.write_for_now(&self.executor(&record.container), record)
    }

    /// Removes an executor.
    pub(crate) fn forget_executor(&self, container: &ContainerId) -> Result<(), CheckpointError> {
        let path = self.executor(container);
        private_file::remove_for_now(&path).map_err(|source| CheckpointError::Write { path, source })
    }

    fn executor(&self, container: &ContainerId) -> PathBuf {
        self.directory.join("executors").join(format!("{container}.json"))
    }

    /// Every executor.
    pub(crate) fn load_executors(&self) -> Result<Vec<ExecutorRecord>, CheckpointError> {
        self.load_all("executors", |record: &ExecutorRecord| record.version)
    }

    /// Writes what is kept of the agent.
    pub(crate) fn keep(&self, kept: &Kept) -> Result<(), CheckpointError> {
        self.write(&self.kept(), kept)
    }

    /// What is kept of the agent.
    pub(crate) fn load(&self) -> Result<Kept, CheckpointError> {
        Ok(read(&self.kept())?.unwrap_or_default())
    }

    /// Every run.
    pub(crate) fn load_records(&self) -> Result<Vec<Record>, CheckpointError> {
        self.load_all("tasks", |record: &Record| record.version)
    }

    fn load_all<R: serde::de::DeserializeOwned>(
        &self,
        kind: &str,
        version_of: fn(&R) -> u32,
    ) -> Result<Vec<R>, CheckpointError> {
        let directory = self.directory.join(kind);
        let failed = |source| CheckpointError::Read { path: directory.clone(), source };
        let mut records = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                // Left over from a write that was cut short: its old content still stands.
                private_file::remove(&path).map_err(failed)?;
                continue;
            }
            let Some(record): Option<R> = read(&path)? else { continue };
            let version = version_of(&record);
            if version != VERSION {
                return Err(CheckpointError::Version { path, version });
            }
            records.push(record);
        }
        Ok(records)
    }

    fn write_for_now(&self, path: &Path, value: &impl Serialize) -> Result<(), CheckpointError> {
        let text = serde_json::to_vec(value)
            .map_err(|source| CheckpointError::Unreadable { path: path.to_owned(), source })?;
        private_file::replace_for_now(path, &text)
            .map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
    }

    fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), CheckpointError> {
        let text = serde_json::to_vec(value)
            .map_err(|source| CheckpointError::Unreadable { path: path.to_owned(), source })?;
        private_file::write(path, &text).map_err(|source| CheckpointError::Write { path: path.to_owned(), source })
    }
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, CheckpointError> {
    let content = private_file::read(path).map_err(|source| CheckpointError::Read { path: path.to_owned(), source })?;
    content
        .map(|content| serde_json::from_slice(&content))
        .transpose()
        .map_err(|source| CheckpointError::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_half_files_do_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("tasks")).unwrap();
        let checkpoint = Checkpoint::new(dir.path());
        assert_eq!(checkpoint.load().unwrap(), Kept::default());
        let kept =
            Kept { agent: Some("m-S1".into()), machine: None, masters: vec!["m:5052".to_owned()], executor_port: None };
        checkpoint.keep(&kept).unwrap();
        assert_eq!(checkpoint.load().unwrap(), kept);
        fs::write(dir.path().join("tasks/c1.new"), "{\"ver").unwrap();
        assert!(checkpoint.load_records().unwrap().is_empty());
        assert!(!dir.path().join("tasks/c1.new").exists());
        // Cut by the end of another boot it is gone; of this one it would be our mistake.
        checkpoint.settle("one").unwrap();
        fs::write(dir.path().join("tasks/c1.json"), "{\"ver").unwrap();
        checkpoint.settle("one").unwrap();
        assert!(matches!(checkpoint.load_records(), Err(CheckpointError::Unreadable { .. })));
        checkpoint.settle("two").unwrap();
        assert!(checkpoint.load_records().unwrap().is_empty());
        fs::write(dir.path().join("tasks/c1.json"), "{}").unwrap();
        assert!(matches!(checkpoint.load_records(), Err(CheckpointError::Unreadable { .. })));
    }
}
