//! What a run has of its own: a range of ids, which the tasks of a pod have together, as they have volumes together; a
//! network of the operator's.

use std::collections::BTreeSet;

use api::ContainerId;

use super::Agent;
use super::task::Task;
use crate::bridge::NamedNetwork;
use crate::container::Phase;
use crate::ids;
use crate::launch::LaunchError;
use crate::record::{Part, Record};

impl Agent {
    /// Gives a run that wants one a range of ids. Planned again after a restart it keeps what it was given.
    pub(super) fn name_ids(&self, task: &mut Task) -> Result<(), LaunchError> {
        if !self.site.user_namespaces.wanted(&task.record.info).map_err(LaunchError::Volume)? {
            return Ok(());
        }
        if self.site.unconfined {
            let what = "containers with a user namespace on a node that runs tasks without isolation";
            return Err(LaunchError::Unsupported(what.to_owned()));
        }
        if task.record.ids.is_some() {
            return Ok(());
        }
        let others = || self.tasks.values().map(|task| &task.record).filter(|record| record.phase != Phase::Gone);
        let own = pod(&task.record);
        let mates = others().filter(|other| own.is_some() && pod(other) == own);
        let shared = mates.filter_map(|mate| mate.ids).next();
        let taken: BTreeSet<u32> = others().filter_map(|record| record.ids).collect();
        task.record.ids = shared.or_else(|| ids::free(&taken));
        match task.record.ids {
            Some(_) => Ok(()),
            None => Err(LaunchError::Volume("every range of ids for user namespaces is in use".to_owned())),
        }
    }

    /// It is on a network of the operator's, if there is one of this name.
    pub(super) fn join(&self, task: &mut Task, network: NamedNetwork) -> Result<(), LaunchError> {
        if self.site.unconfined {
            let what = "containers with a network of their own on a node that runs tasks without isolation";
            return Err(LaunchError::Unsupported(what.to_owned()));
        }
        if !self.site.networks.contains(&network.name) {
            let others: Vec<String> = self.site.networks.iter().map(|name| format!(" and '{name}'")).collect();
            return Err(LaunchError::Volume(format!(
                "network '{}': this node has only 'bridge'{}",
                network.name,
                others.concat()
            )));
        }
        task.record.named_network = Some(network);
        Ok(())
    }

    /// Which addresses it got there.
    pub(super) fn joined(&mut self, container: &ContainerId, addresses: Vec<String>) {
        self.with(container, |task| {
            if let Some(network) = &mut task.record.named_network {
                network.addresses = addresses;
            }
        });
    }
}

fn pod(record: &Record) -> Option<&ContainerId> {
    match &record.part {
        Part::Member { executor, .. } => Some(executor),
        Part::Alone | Part::Executor { .. } => None,
    }
}
