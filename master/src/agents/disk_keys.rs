//! The keys of a node's encrypted disks: made when it says that one is new, given when it asks, forgotten when it says that
//! the disk was emptied. A node has those of its own certificate's name, once it is known to be ours.

use api::link;
use api::link::from_master::Message as FromMaster;

use super::Session;
use crate::secrets::SecretError;

/// The operator's rules, as the link carries them.
pub(super) fn rules(rules: &[api::disks::NamedRule]) -> FromMaster {
    FromMaster::DiskRules(link::DiskRules { json: api::disks::rules_to_wire(rules) })
}

impl Session {
    /// Answers, or does what takes a moment: the node asks again.
    pub(super) fn disk_key(&self, wanted: link::DiskKeyWanted) -> Option<FromMaster> {
        let link::DiskKeyWanted { volume, make, forget } = wanted;
        let say = |key: Vec<u8>, error: String| {
            Some(FromMaster::DiskKey(link::DiskKey { volume: volume.clone(), key, error }))
        };
        let node = self.node.to_string();
        if forget {
            self.change(move |secrets, volume| secrets.forget_disk_key(&node, volume), volume);
            return None;
        }
        match self.secrets.disk_key(&node, &volume) {
            Ok(Some(key)) => say(key, String::new()),
            Ok(None) if make => {
                self.change(move |secrets, volume| secrets.make_disk_key(&node, volume), volume);
                None
            }
            Ok(None) => say(Vec::new(), "the masters have no key for this volume of this node".to_owned()),
            Err(error) => say(Vec::new(), error.to_string()),
        }
    }

    fn change(
        &self,
        change: impl FnOnce(&crate::secrets::Secrets, &str) -> Result<(), SecretError> + Send + 'static,
        volume: String,
    ) {
        let (secrets, node) = (self.secrets.clone(), self.node.clone());
        tokio::task::spawn_blocking(move || match change(&secrets, &volume) {
            Ok(()) => tracing::info!(%node, volume, "the key of a disk was made or forgotten"),
            Err(error) => tracing::warn!(%node, volume, %error, "the key of a disk was neither made nor forgotten"),
        });
    }
}
