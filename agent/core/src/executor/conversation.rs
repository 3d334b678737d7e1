//! What an executor's process says, and what it is told.

use std::collections::BTreeSet;

use api::v1::executor::call::{Subscribe, Update};
use api::v1::executor::{Event, event};
use api::v1::{AgentInfo, ContainerId as WireContainerId, Reason, TaskGroupInfo, TaskStatus};
use api::{TaskId, TaskState};

use super::{Executor, SEEN, Stage, Step, Surroundings, event_of, kill_event};

impl Executor {
    /// Does a stream listen?
    #[must_use]
    pub const fn stream(&self) -> Option<u64> {
        self.stream
    }

    /// SUBSCRIBE, in Mesos's order (mesos-api 2.5).
    pub fn subscribe(&mut self, stream: u64, subscribe: Subscribe, with: &mut Surroundings<'_>) -> Vec<Step> {
        let mut steps: Vec<Step> = self.stream.replace(stream).map(Step::Close).into_iter().collect();
        if self.record.is_over() {
            // It may be late, or not have heard.
            self.stream = None;
            steps
                .extend([Step::Send { stream, event: Box::new(event_of(event::Type::Shutdown)) }, Step::Close(stream)]);
            return steps;
        }
        self.due_ms = None;
        self.record.stage = Stage::Subscribed;
        let mut answers = Vec::new();
        for Update { status } in subscribe.unacknowledged_updates {
            answers.extend(self.take(status, with));
        }
        let has: BTreeSet<TaskId> = subscribe.unacknowledged_tasks.into_iter().map(|task| task.task_id).collect();
        let lost: Vec<TaskId> = self
            .live_tasks()
            .filter(|task| task.delivered && task.state == TaskState::Staging && !has.contains(&task.info.task_id))
            .map(|task| task.info.task_id.clone())
            .collect();
        for id in lost {
            let state = self.lost_or(TaskState::Dropped);
            self.tell(&id, state, Reason::AgentRestarted, "Task launched during agent restart", with);
        }
        if self.record.queue.is_empty() && !self.record.had_tasks {
            tracing::info!(
                framework = %self.record.framework, executor = %self.record.executor,
                "an executor is shut down: its tasks were killed before it subscribed"
            );
            steps.extend(self.shut_down(with.now));
            return steps;
        }
        steps.push(Step::Save);
        steps.push(Step::Send { stream, event: Box::new(self.subscribed(with)) });
        steps.extend(answers.into_iter().map(|event| Step::Send { stream, event: Box::new(event) }));
        steps.extend(self.deliver(stream));
        let kills = self.live_tasks().filter_map(|task| Some((task.info.task_id.clone(), task.kill?)));
        let kills: Vec<Step> =
            kills.map(|(id, kill)| Step::Send { stream, event: Box::new(kill_event(&id, kill)) }).collect();
        steps.extend(kills);
        steps
    }

    fn subscribed(&self, with: &Surroundings<'_>) -> Event {
        let record = &self.record;
        let mut executor_info = record.info.as_ref().clone();
        executor_info.framework_id = Some(record.framework.clone());
        let mut framework_info = record.framework_info.as_ref().clone();
        framework_info.id = Some(record.framework.clone());
        let agent_info = AgentInfo {
            hostname: with.site.known_as.clone().unwrap_or_else(|| with.site.hostname.clone()),
            id: Some(record.agent.clone()),
            port: Some(with.site.agent_port()),
            ..AgentInfo::default()
        };
        let container_id = WireContainerId { value: record.container.to_string(), ..WireContainerId::default() };
        let subscribed =
            event::Subscribed { executor_info, framework_info, agent_info, container_id: Some(container_id) };
        Event { subscribed: Some(Box::new(subscribed)), ..event_of(event::Type::Subscribed) }
    }

    /// Tells it to run what waits.
    pub(super) fn deliver(&mut self, stream: u64) -> Vec<Step> {
        let queue = std::mem::take(&mut self.record.queue);
        let mut sends = Vec::with_capacity(queue.len());
        for together in queue {
            let mut infos = Vec::with_capacity(together.len());
            let mut is_group = together.len() > 1;
            for id in &together {
                let Some(task) = self.record.tasks.get_mut(id) else { continue };
                task.delivered = true;
                is_group |= task.in_group;
                infos.push(task.info.as_ref().clone());
            }
            self.record.had_tasks |= !infos.is_empty();
            let event = if is_group {
                let launch = event::LaunchGroup { task_group: TaskGroupInfo { tasks: infos } };
                Event { launch_group: Some(Box::new(launch)), ..event_of(event::Type::LaunchGroup) }
            } else {
                let Some(task) = infos.pop() else { continue };
                Event { launch: Some(Box::new(event::Launch { task })), ..event_of(event::Type::Launch) }
            };
            sends.push(Step::Send { stream, event: Box::new(event) });
        }
        // What it is told is written down before: told twice it would run twice.
        let mut steps = vec![Step::Save, Step::Resize];
        steps.extend(sends);
        steps
    }

    /// Its stream is closed.
    pub fn hung_up(&mut self, stream: u64) {
        if self.stream == Some(stream) {
            self.stream = None;
        }
    }

    /// UPDATE.
    pub fn update(&mut self, status: TaskStatus, with: &mut Surroundings<'_>) -> Vec<Step> {
        let ends = status.state().is_terminal();
        let answer = self.take(status, with);
        let mut steps = vec![Step::Save];
        if ends {
            steps.push(Step::Resize);
        }
        if let (Some(stream), Some(event)) = (self.stream, answer) {
            steps.push(Step::Send { stream, event: Box::new(event) });
        }
        steps
    }

    /// Keeps an update until its framework acknowledges it. The answer means that it is kept.
    fn take(&mut self, mut status: TaskStatus, with: &mut Surroundings<'_>) -> Option<Event> {
        let uuid = status.uuid_bytes()?;
        let id = status.task_id.clone();
        let acknowledged = event::Acknowledged { task_id: id.clone(), uuid: uuid.to_vec() };
        let answer = Event { acknowledged: Some(Box::new(acknowledged)), ..event_of(event::Type::Acknowledged) };
        self.complete(&mut status, with);
        match self.record.tasks.get_mut(&id) {
            // Repeated; or after the last word on the task, which some executors do: there is nothing to keep.
            Some(task) if task.state.is_terminal() || task.seen.contains(&uuid) => {}
            None => {
                tracing::info!(executor = %self.record.executor, task = %id, "an update of a task that has ended");
            }
            // It comes again when the executor subscribes: an answer would mean that it is kept.
            Some(task) if !task.updates.has_room(&status) => {
                tracing::warn!(
                    executor = %self.record.executor, task = %id,
                    "an update is not taken: its framework has too many to acknowledge already"
                );
                return None;
            }
            Some(task) => {
                task.seen.push_back(uuid);
                if task.seen.len() > SEEN {
                    task.seen.pop_front();
                }
                task.state = status.state();
                if task.state.is_terminal() {
                    task.kill = None;
                    tracing::info!(
                        framework = %self.record.framework, executor = %self.record.executor, task = %id,
                        state = task.state.name(), "task ended"
                    );
                }
                task.updates.push(status, with.now.uptime_ms);
            }
        }
        // One that ends before it was told to run is not told.
        let ended = |id: &TaskId| self.record.tasks.get(id).is_none_or(|task| task.state.is_terminal());
        self.record.queue.retain(|together| !together.iter().all(ended));
        Some(answer)
    }

    /// MESSAGE of its framework: lost when it does not listen, as in Mesos.
    pub fn message(&self, data: Vec<u8>) -> Option<Step> {
        if self.record.stage != Stage::Subscribed {
            tracing::warn!(executor = %self.record.executor, "a message to an executor that does not listen is lost");
            return None;
        }
        let message = Event { message: Some(Box::new(event::Message { data })), ..event_of(event::Type::Message) };
        Some(Step::Send { stream: self.stream?, event: Box::new(message) })
    }
}
