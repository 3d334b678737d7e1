//! Whose a disk is: drives of a server that is dead may be put into another one, and must not be taken for its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_core::disks::gpt::Guid;
use hwdetect::Inventory;
use serde::{Deserialize, Serialize};

use super::mounting::mount_point;
use crate::node::identity::Identity;
use crate::node::private_file;
use crate::node::settings::Settings;

/// Beside what programs see.
const FILE: &str = "owner.json";

/// A node, by what the masters know it by. Either may be unknown, and either may change: a new board, another name.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub(super) struct Owner {
    /// Its firmware's.
    uuid: String,
    /// Its name among nodes.
    name: String,
}

impl Owner {
    /// This node, as far as it is known yet.
    pub(super) fn this(inventory: &Inventory, settings: &Settings) -> Self {
        let joined = || {
            let identity = settings.config.ca_sha256.map(|ca| Identity::load(&settings.state, ca));
            identity.and_then(Result::ok).flatten().map(|identity| identity.node_name)
        };
        let name = joined().or_else(|| settings.config.name.clone());
        let uuid = inventory.platform.system.uuid.clone();
        Self { uuid: uuid.unwrap_or_default(), name: name.unwrap_or_default() }
    }

    /// Nothing says that it is the same, and something that it is not.
    pub(super) fn is_another(&self, other: &Self) -> bool {
        let pairs = [(&self.uuid, &other.uuid), (&self.name, &other.name)];
        let known = || pairs.iter().filter(|(one, other)| !one.is_empty() && !other.is_empty());
        known().count() > 0 && known().all(|(one, other)| one != other)
    }

    /// For people.
    pub(super) fn called(&self) -> &str {
        if self.name.is_empty() { &self.uuid } else { &self.name }
    }
}

fn file(at: &Path) -> PathBuf {
    at.join(FILE)
}

/// Whose a mounted partition is. None for one of an earlier build, which is ours.
pub(super) fn of(guid: Guid) -> io::Result<Option<Owner>> {
    read(&mount_point(guid))
}

fn read(at: &Path) -> io::Result<Option<Owner>> {
    let Some(content) = private_file::read(&file(at))? else { return Ok(None) };
    // One that a power cut spoilt says nothing.
    Ok(serde_json::from_slice(&content).ok())
}

/// Says on a mounted partition whose it is, unless it says so already.
pub(super) fn claim(guid: Guid, this: &Owner) -> io::Result<()> {
    let at = mount_point(guid);
    // Half of what there is to say would be too little once that half changes.
    if this.name.is_empty() || fs::exists(file(&at))? {
        return Ok(());
    }
    private_file::write(&file(&at), &serde_json::to_vec(this)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_another_if_nothing_of_it_is_the_same() {
        let one = |uuid: &str, name: &str| Owner { uuid: uuid.into(), name: name.into() };
        let on_disk = one("u1", "n1");
        for (this, another) in [
            (one("u1", "n1"), false),
            (one("u2", "n1"), false),
            (one("u1", "n2"), false),
            (one("u2", "n2"), true),
            (one("u2", ""), true),
            (one("", "n2"), true),
            (one("", ""), false),
        ] {
            assert_eq!(on_disk.is_another(&this), another, "{this:?}");
        }
        assert!(!Owner::default().is_another(&on_disk));
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(read(dir.path()).unwrap(), None);
        fs::write(file(dir.path()), serde_json::to_vec(&on_disk).unwrap()).unwrap();
        assert_eq!(read(dir.path()).unwrap(), Some(on_disk));
    }
}
