//! What runs were told of, and those that are over: the agent forgets a run once everything is acknowledged, and Mesos's
//! tools ask for it all the same. Only kept on nodes whose door is open; nothing of it survives the agent.

use std::collections::{BTreeMap, VecDeque};

use agent_core::agent::Effect;
use agent_core::agent::executors::ExecutorEffect;
use agent_core::container::{Exit, Phase};
use agent_core::executor::ExecutorRecord;
use agent_core::handover::ExitStatus;
use agent_core::record::{Part, Record};
use api::v1::{ExecutorInfo, FrameworkInfo, Reason, TaskInfo, TaskStatus};
use api::{ContainerId, FrameworkId, TaskState};

/// Runs that are remembered, those that go on included. Full: the oldest is forgotten.
const RUNS: usize = 2_000;
/// Executors that are remembered. Full: the oldest is forgotten.
const EXECUTORS: usize = 500;
/// Statuses of one run that are shown.
const STATUSES: usize = 16;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Past {
    runs: BTreeMap<ContainerId, Run>,
    order: VecDeque<ContainerId>,
    executors: BTreeMap<ContainerId, OfExecutor>,
    executor_order: VecDeque<ContainerId>,
    pub(crate) counters: Counters,
}

/// What happened since the agent started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) finished: u64,
    pub(crate) failed: u64,
    pub(crate) killed: u64,
    pub(crate) lost: u64,
    pub(crate) gone: u64,
    pub(crate) executors_ended: u64,
    pub(crate) launch_errors: u64,
}

/// One run of a task.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) framework: FrameworkId,
    pub(crate) framework_info: Box<FrameworkInfo>,
    pub(crate) info: Box<TaskInfo>,
    /// The container of its executor; a command's is its own.
    pub(crate) executor: ContainerId,
    pub(crate) state: TaskState,
    pub(crate) statuses: Vec<TaskStatus>,
    /// As waitpid gives it, once it has ended.
    pub(crate) exit: Option<i32>,
}

/// An executor of a framework.
#[derive(Clone, Debug)]
pub(crate) struct OfExecutor {
    pub(crate) framework: FrameworkId,
    pub(crate) framework_info: Box<FrameworkInfo>,
    pub(crate) info: Box<ExecutorInfo>,
}

impl Past {
    /// Something is done about a run or an executor.
    pub(crate) fn hear(&mut self, effect: &Effect) {
        if let Effect::Save(record) = effect {
            self.saw(record);
        } else if let Effect::Executor(ExecutorEffect::Save(record)) = effect {
            self.saw_executor(record);
        }
    }

    /// A run's record is written.
    pub(crate) fn saw(&mut self, record: &Record) {
        let executor = match &record.part {
            Part::Alone => record.container.clone(),
            Part::Member { executor, .. } => executor.clone(),
            // It is no task.
            Part::Executor { .. } => return,
        };
        let run = Run {
            framework: record.framework.clone(),
            framework_info: record.framework_info.clone(),
            info: record.info.clone(),
            executor,
            state: record.state,
            statuses: Vec::new(),
            exit: exit(&record.phase),
        };
        self.keep(&record.container, run, record.updates.iter());
    }

    /// An executor's record is written.
    pub(crate) fn saw_executor(&mut self, record: &ExecutorRecord) {
        let of = OfExecutor {
            framework: record.framework.clone(),
            framework_info: record.framework_info.clone(),
            info: record.info.clone(),
        };
        if self.executors.insert(record.container.clone(), of).is_none() {
            self.executor_order.push_back(record.container.clone());
            if self.executor_order.len() > EXECUTORS
                && let Some(oldest) = self.executor_order.pop_front()
            {
                self.executors.remove(&oldest);
            }
        }
        for task in record.tasks.values() {
            let run = Run {
                framework: record.framework.clone(),
                framework_info: record.framework_info.clone(),
                info: task.info.clone(),
                executor: record.container.clone(),
                state: task.state,
                statuses: Vec::new(),
                exit: None,
            };
            self.keep(&task.run, run, task.updates.iter());
        }
    }

    fn keep<'a>(&mut self, id: &ContainerId, mut run: Run, news: impl Iterator<Item = &'a TaskStatus>) {
        let known = self.runs.remove(id);
        let was_over = known.as_ref().is_some_and(|known| known.state.is_terminal());
        match known {
            Some(known) => {
                run.statuses = known.statuses;
                run.exit = run.exit.or(known.exit);
            }
            None => {
                self.order.push_back(id.clone());
                if self.order.len() > RUNS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.runs.remove(&oldest);
                }
            }
        }
        for status in news {
            if !run.statuses.iter().any(|known| known.uuid == status.uuid) {
                run.statuses.push(status.clone());
            }
        }
        if run.statuses.len() > STATUSES {
            // The first says how it began; the others are checks'.
            run.statuses.drain(1..=run.statuses.len() - STATUSES);
        }
        if run.state.is_terminal() && !was_over {
            self.counters.count(&run);
        }
        self.runs.insert(id.clone(), run);
    }

    /// A run by its container.
    pub(crate) fn run(&self, container: &ContainerId) -> Option<&Run> {
        self.runs.get(container)
    }

    /// All runs.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (&ContainerId, &Run)> {
        self.order.iter().filter_map(|id| Some((id, self.runs.get(id)?)))
    }

    /// All executors.
    pub(crate) fn executors(&self) -> impl Iterator<Item = (&ContainerId, &OfExecutor)> {
        self.executor_order.iter().filter_map(|id| Some((id, self.executors.get(id)?)))
    }
}

impl Counters {
    const fn of(&mut self, state: TaskState) -> Option<&mut u64> {
        match state {
            TaskState::Finished => Some(&mut self.finished),
            TaskState::Failed => Some(&mut self.failed),
            TaskState::Killed => Some(&mut self.killed),
            TaskState::Lost => Some(&mut self.lost),
            TaskState::Gone => Some(&mut self.gone),
            TaskState::Staging
            | TaskState::Starting
            | TaskState::Running
            | TaskState::Killing
            | TaskState::Error
            | TaskState::Dropped
            | TaskState::Unreachable
            | TaskState::GoneByOperator
            | TaskState::Unknown => None,
        }
    }

    fn count(&mut self, run: &Run) {
        if let Some(counter) = self.of(run.state) {
            *counter += 1;
        }
        let reason = run.statuses.last().and_then(|status| status.reason.map(|_| status.reason()));
        if reason == Some(Reason::ContainerLaunchFailed) {
            self.launch_errors += 1;
        }
        if run.info.executor.is_none() {
            self.executors_ended += 1;
        }
    }
}

fn exit(phase: &Phase) -> Option<i32> {
    match phase {
        Phase::Exited { exit: Exit::Seen(ExitStatus::Code(code)), .. } => Some(code << 8),
        Phase::Exited { exit: Exit::Seen(ExitStatus::Signal(signal)), .. } => Some(*signal),
        Phase::Exited { exit: Exit::Unseen | Exit::Rebooted, .. }
        | Phase::Pulling
        | Phase::Preparing { .. }
        | Phase::Creating { .. }
        | Phase::Starting { .. }
        | Phase::Running
        | Phase::Killing { .. }
        | Phase::Deleting
        | Phase::Gone => None,
    }
}
