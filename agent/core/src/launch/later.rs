//! Volumes that may come and go while a container runs: the persistent ones.

use serde::{Deserialize, Serialize};

use super::{Plan, Staged};

/// One of them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Later {
    /// What is mounted.
    pub volume: Staged,
    /// Where, as the container sees it.
    pub place: String,
    /// Nobody there writes to it.
    pub read_only: bool,
}

impl Plan {
    /// All of a plan.
    #[must_use]
    pub fn later(&self) -> Vec<Later> {
        let mounts = || self.config["mounts"].as_array().into_iter().flatten();
        let one = |volume: &Staged| {
            let ending = format!("/volumes/{}", volume.name);
            let mount = mounts().find(|mount| mount["source"].as_str().is_some_and(|path| path.ends_with(&ending)))?;
            let place = mount["destination"].as_str()?.to_owned();
            let read_only = mount["options"].as_array()?.iter().any(|option| option == "ro");
            Some(Later { volume: volume.clone(), place, read_only })
        };
        self.volumes.iter().filter(|volume| volume.persistence.is_some()).filter_map(one).collect()
    }
}
