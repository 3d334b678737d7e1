//! Which tasks are on which agent: what would otherwise be a search through all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{AgentId, FrameworkId, TaskId};

use super::{State, Task};

type OfAgent = BTreeSet<(FrameworkId, TaskId)>;

/// An index of the tasks that have not ended, or whose end is not acknowledged. It is made of them,
/// so it is not in a snapshot.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Placement(BTreeMap<AgentId, Arc<OfAgent>>);

impl Placement {
    pub(super) fn of(state: &State) -> Self {
        let mut placement = Self::default();
        state.tasks().for_each(|task| placement.add(task));
        placement
    }

    pub(super) fn add(&mut self, task: &Task) {
        let agent = self.0.entry(task.agent.clone()).or_default();
        Arc::make_mut(agent).insert((task.framework.clone(), task.id.clone()));
    }

    pub(super) fn remove(&mut self, task: &Task) {
        let Some(agent) = self.0.get_mut(&task.agent) else { return };
        let left = Arc::make_mut(agent);
        left.remove(&(task.framework.clone(), task.id.clone()));
        if left.is_empty() {
            self.0.remove(&task.agent);
        }
    }

    pub(super) fn on(&self, agent: &AgentId) -> impl Iterator<Item = &(FrameworkId, TaskId)> {
        self.0.get(agent).into_iter().flat_map(|tasks| tasks.iter())
    }
}
