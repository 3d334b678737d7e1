//! Persistent volumes of an executor's later tasks: its container has them as soon as it has the task, and no longer than
//! any of its tasks.

use api::ContainerId;

use super::Agent;
use super::effects::{Effect, Now};
use super::executors::ExecutorEffect;
use crate::container::Phase;
use crate::launch::{Later, Plan};
use crate::overrun::Overrun;
use crate::record::Part;

impl Agent {
    /// Brings the volumes of an executor that runs up to date.
    pub(super) fn follow_volumes(&mut self, container: &ContainerId, now: Now) -> Vec<Effect> {
        let mut site = self.site.clone();
        let Some(task) = self.tasks.get_mut(container) else { return Vec::new() };
        let is_executor = matches!(task.record.part, Part::Executor { .. });
        let Some(process) = task.record.process.filter(|_| is_executor && task.record.phase == Phase::Running) else {
            return Vec::new();
        };
        site.agent = task.record.agent.clone();
        // What its tasks say of them was looked at when they came; what cannot be is told by those that come alone.
        let Ok(wanted) = task.plan(&site).map(|plan| plan.later()) else { return Vec::new() };
        let twice = |one: &&Later| wanted.iter().any(|other| other.place == one.place && other != *one);
        if let Some(one) = wanted.iter().find(twice) {
            // Each would write to what is the other's.
            let why = "two tasks of the executor have different volumes there".to_owned();
            return self.overran(container, Overrun::Volume { place: one.place.clone(), why }, now);
        }
        let had = std::mem::take(&mut task.record.mounted);
        let added: Vec<Later> = wanted.iter().filter(|volume| !had.contains(volume)).cloned().collect();
        let removed = had.into_iter().filter(|volume| !wanted.contains(volume)).map(|volume| volume.place);
        let removed: Vec<String> = removed.collect();
        task.record.mounted = wanted;
        if added.is_empty() && removed.is_empty() {
            return Vec::new();
        }
        let (container, ids) = (container.clone(), task.record.ids);
        let volumes = ExecutorEffect::Volumes { container, process, ids, added, removed };
        vec![Effect::Save(task.saved()), Effect::Executor(volumes)]
    }
}

impl super::task::Task {
    /// What its container is made with.
    pub(super) fn made_with(&mut self, plan: &Plan) {
        self.record.mounted = plan.later();
    }
}
