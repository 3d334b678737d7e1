//! Persistent volumes of an executor's later tasks: its container has them as soon as it has the task, and no longer than
//! any of its tasks.

use api::ContainerId;

use super::Agent;
use super::effects::Effect;
use super::executors::ExecutorEffect;
use crate::container::Phase;
use crate::launch::{Later, Plan};
use crate::record::Part;

impl Agent {
    /// Brings the volumes of an executor that runs up to date.
    pub(super) fn follow_volumes(&mut self, container: &ContainerId) -> Vec<Effect> {
        let mut site = self.site.clone();
        let Some(task) = self.tasks.get_mut(container) else { return Vec::new() };
        let is_executor = matches!(task.record.part, Part::Executor { .. });
        let Some(process) = task.record.process.filter(|_| is_executor && task.record.phase == Phase::Running) else {
            return Vec::new();
        };
        site.agent = task.record.agent.clone();
        // What its tasks say of them was looked at when they came; what cannot be is told by those that come alone.
        let Ok(wanted) = task.plan(&site).map(|plan| plan.later()) else { return Vec::new() };
        let places = |all: &[Later]| all.iter().map(|volume| volume.place.clone()).collect::<Vec<_>>();
        let had = task.record.mounted.clone();
        let added: Vec<Later> = wanted.iter().filter(|volume| !had.contains(&volume.place)).cloned().collect();
        let removed: Vec<String> =
            had.into_iter().filter(|place| !wanted.iter().any(|volume| volume.place == *place)).collect();
        if added.is_empty() && removed.is_empty() {
            return Vec::new();
        }
        task.record.mounted = places(&wanted);
        let (container, ids) = (container.clone(), task.record.ids);
        let volumes = ExecutorEffect::Volumes { container, process, ids, added, removed };
        vec![Effect::Save(task.saved()), Effect::Executor(volumes)]
    }
}

impl super::task::Task {
    /// What its container is made with.
    pub(super) fn made_with(&mut self, plan: &Plan) {
        self.record.mounted = plan.later().into_iter().map(|volume| volume.place).collect();
    }
}
