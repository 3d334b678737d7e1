//! Updates are delivered in order, and the agent repeats each until the framework itself has acknowledged it.

use std::collections::{BTreeMap, BTreeSet};

/// Names an update.
pub(crate) type Uuid = [u8; 16];

#[derive(Debug, Default)]
pub(crate) struct Updates {
    /// What each container's agent had to tell, in order.
    told: BTreeMap<String, Vec<Uuid>>,
    /// Which container an update is of, and its place there.
    places: BTreeMap<Uuid, (String, usize)>,
    /// How many of a container's updates the framework has seen.
    seen: BTreeMap<String, usize>,
    acknowledged: BTreeSet<Uuid>,
    /// Frameworks' tasks that need no acknowledgement any more, because the master said that they are over.
    over: BTreeSet<(String, String)>,
}

impl Updates {
    /// An agent has something to tell.
    pub(crate) fn made(&mut self, container: &str, uuid: Uuid) {
        let told = self.told.entry(container.to_owned()).or_default();
        self.places.insert(uuid, (container.to_owned(), told.len()));
        told.push(uuid);
    }

    /// A framework hears it.
    pub(crate) fn heard(&mut self, uuid: Uuid) -> Result<(), String> {
        let Some((container, place)) = self.places.get(&uuid) else {
            return Err(format!("a framework was told an update no agent has made: {uuid:?}"));
        };
        let seen = self.seen.entry(container.clone()).or_default();
        if *place > *seen {
            return Err(format!("update {place} of container {container} came before update {seen}"));
        }
        *seen = (*seen).max(place + 1);
        Ok(())
    }

    /// A framework acknowledges.
    pub(crate) fn acknowledges(&mut self, uuid: Uuid) {
        self.acknowledged.insert(uuid);
    }

    /// A framework was told by the master that a task is over.
    pub(crate) fn is_over(&mut self, framework: &str, task: &str) {
        self.over.insert((framework.to_owned(), task.to_owned()));
    }

    /// An agent hears that an update was acknowledged.
    pub(crate) fn forgets(&self, framework: &str, task: &str, uuid: Uuid) -> Result<(), String> {
        let over = || self.over.contains(&(framework.to_owned(), task.to_owned()));
        if self.acknowledged.contains(&uuid) || over() {
            return Ok(());
        }
        let place = self.places.get(&uuid);
        Err(format!("the agent of task {task} was told that update {place:?} is acknowledged, and it is not"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_early_acknowledgements_are_seen() {
        let mut updates = Updates::default();
        updates.made("c", [1; 16]);
        updates.made("c", [2; 16]);
        assert!(updates.heard([2; 16]).is_err());
        updates.heard([1; 16]).unwrap();
        updates.heard([1; 16]).unwrap();
        assert!(updates.forgets("f", "t", [1; 16]).is_err());
        updates.acknowledges([1; 16]);
        updates.forgets("f", "t", [1; 16]).unwrap();
        updates.heard([2; 16]).unwrap();
        assert!(updates.heard([3; 16]).is_err());
    }
}
