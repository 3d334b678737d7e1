//! Task groups with the default executor's rules (mesos-api 2.7), without a process for it: the tasks of a group are
//! runs that start together, and end together when one of them fails.

use std::collections::BTreeMap;

use api::v1::{Reason, Source, TaskInfo};
use api::{ContainerId, TaskId, TaskState};

use super::task::Task;
use super::{Agent, Effect, Now};
use crate::container::{self, Cause, Phase};
use crate::ending::Verdict;
use crate::executor::{Stage, Step};
use crate::launch::{self, Secrets};
use crate::record::{Part, Record};

impl Agent {
    /// A group for a pod, which may have others already.
    pub(super) fn join_pod(
        &mut self,
        pod: &ContainerId,
        (group, size): (TaskId, usize),
        tasks: Vec<(ContainerId, TaskInfo)>,
        secrets: &Secrets,
        now: Now,
    ) -> Vec<Effect> {
        let Some(executor) = self.executors.get_mut(pod) else { return Vec::new() };
        let record = &mut executor.record;
        let over = record.is_over();
        if !over {
            record.stage = Stage::Subscribed; // there is no process to wait for
        }
        let (framework, framework_info) = (record.framework.clone(), record.framework_info.clone());
        let (executor_id, aware) =
            (record.executor.clone(), record.framework_info.has(api::v1::Capability::PartitionAware));
        let mut effects = self.executor_steps(pod, vec![Step::Save], now);
        for (run, mut info) in tasks {
            info.executor = None; // kept once, with the pod
            let part =
                Part::Member { executor: pod.clone(), executor_id: executor_id.clone(), group: group.clone(), size };
            let named = launch::references(&info).into_iter();
            let secrets =
                named.filter_map(|name| secrets.get(&name).map(|value| (name.clone(), value.clone()))).collect();
            let mut record = self.record(framework.clone(), run.clone(), Box::new(info), framework_info.clone(), part);
            record.secrets = secrets;
            let mut task = Task::new(record);
            if over {
                let verdict = Verdict {
                    state: if aware { TaskState::Dropped } else { TaskState::Lost },
                    reason: Some(Reason::ExecutorTerminated),
                    source: Source::Agent,
                    message: "Executor terminating".to_owned(),
                    limitation: None,
                };
                task.dropped(verdict, &self.site, &mut self.randomness, now);
                effects.push(Effect::Save(task.saved()));
                self.tasks.insert(run, task);
            } else {
                effects.extend(self.begin(task, now));
            }
        }
        // From now on it ends when none of them is left; not before they are written down.
        if let Some(executor) = self.executors.get_mut(pod) {
            executor.record.had_tasks = true;
        }
        effects.extend(self.executor_steps(pod, vec![Step::Save], now));
        effects
    }

    /// After a restart: has anything been launched in it?
    pub(super) fn has_members(&self, pod: &ContainerId) -> bool {
        self.tasks.values().any(|task| is_member(&task.record, pod))
    }

    /// One that did not finish takes its group with it.
    pub(super) fn member_ended(
        &mut self,
        container: &ContainerId,
        part: &Part,
        state: TaskState,
        now: Now,
    ) -> Vec<Effect> {
        let Part::Member { executor, group, .. } = part else { return Vec::new() };
        if state == TaskState::Finished {
            return Vec::new();
        }
        let others = self.live(|record| {
            let same = matches!(&record.part, Part::Member { executor: of, group: with, .. } if of == executor && with == group);
            same && record.container != *container
        });
        if !others.is_empty() {
            tracing::info!(%container, state = state.name(), others = others.len(), "a task group ends with its task");
        }
        others.iter().flat_map(|other| self.kill(other, Cause::Asked, None, now)).collect()
    }

    pub(super) fn kill_members(&mut self, pod: &ContainerId, now: Now) -> Vec<Effect> {
        let mine = self.live(|record| is_member(record, pod));
        mine.iter().flat_map(|member| self.kill(member, Cause::Asked, None, now)).collect()
    }

    /// Lets the processes of a group go when all of them wait.
    pub(super) fn start_groups(&mut self, now: Now) -> Vec<Effect> {
        let mut effects = Vec::new();
        if !self.tasks.values().any(|task| task.held) {
            return effects;
        }
        // One that is to be killed never starts.
        let killed: Vec<ContainerId> = self
            .tasks
            .values()
            .filter(|task| task.held && matches!(task.record.phase, Phase::Starting { kill: Some(_), .. }))
            .map(|task| task.record.container.clone())
            .collect();
        for container in killed {
            let Some(task) = self.tasks.get_mut(&container) else { continue };
            if let Phase::Starting { kill, .. } = task.record.phase {
                task.held = false;
                task.record.phase = Phase::Creating { kill };
                effects.extend(self.step(&container, container::Input::Created(Ok(())), now));
            }
        }
        let mut groups: BTreeMap<(ContainerId, TaskId), Group<'_>> = BTreeMap::new();
        for task in self.tasks.values() {
            if let Part::Member { executor, group, size, .. } = &task.record.part {
                let group = groups.entry((executor.clone(), group.clone())).or_default();
                group.size = *size;
                group.all.push(&task.record);
                group.held.extend(task.held.then(|| task.record.container.clone()));
            }
        }
        let mut ready = Vec::new();
        for ((pod, group), Group { size, all, held }) in groups {
            let Some(executor) = self.executors.get(&pod).filter(|_| !held.is_empty()) else { continue };
            let started = executor.record.started_groups.contains(&group);
            let waits = |record: &&Record| matches!(record.phase, Phase::Starting { .. });
            if started || (all.len() == size && all.iter().all(waits)) {
                ready.push((pod, group, held));
            }
        }
        for (pod, group, held) in ready {
            if let Some(executor) = self.executors.get_mut(&pod)
                && !executor.record.started_groups.contains(&group)
            {
                executor.record.started_groups.push(group);
            }
            effects.extend(self.executor_steps(&pod, vec![Step::Save], now));
            for container in held {
                self.with(&container, |task| task.held = false);
                effects.push(Effect::Start(container));
            }
        }
        effects
    }

    /// A pod ends with the last of its tasks.
    pub(super) fn end_pods(&mut self, now: Now) -> Vec<Effect> {
        let over = |executor: &&crate::executor::Executor| {
            let record = &executor.record;
            record.is_pod() && record.had_tasks && !matches!(record.stage, Stage::Ended { .. })
        };
        let pods: Vec<ContainerId> =
            self.executors.values().filter(over).map(|executor| executor.record.container.clone()).collect();
        let mut effects = Vec::new();
        for pod in pods {
            if self.has_members(&pod) {
                continue;
            }
            let verdict = crate::ending::unseen();
            effects.extend(self.with_executor(&pod, now, |executor, with| executor.ended(&verdict, 0, with)));
        }
        effects
    }
}

/// What is known of a group's runs.
#[derive(Default)]
struct Group<'a> {
    /// How many it has.
    size: usize,
    all: Vec<&'a Record>,
    /// Those that wait for the others.
    held: Vec<ContainerId>,
}

fn is_member(record: &Record, pod: &ContainerId) -> bool {
    matches!(&record.part, Part::Member { executor, .. } if executor == pod)
}
