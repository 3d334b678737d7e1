//! What the node looks like at one moment, for those who ask it directly.

use std::collections::{BTreeMap, BTreeSet};

use agent_core::agent::Agent;
use agent_core::executor::{ExecutorRecord, Stage};
use agent_core::launch::{self, Seat};
use agent_core::record::{Part, Record};
use api::v1::{
    CommandInfo, ContainerId as WireContainerId, ExecutorInfo, FrameworkInfo, Resource, TaskInfo, TaskStatus,
};
use api::{Attribute, ContainerId, FrameworkId, Resources, TaskState};

use super::past::{Counters, Past, Run};
use crate::node::statistics::Running;

/// One picture. What one may not see is left out by whoever renders it.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    pub(crate) agent: String,
    pub(crate) hostname: String,
    pub(crate) address: String,
    pub(crate) port: u16,
    pub(crate) work_dir: String,
    /// `/etc/passwd` of the tasks' root, for the names of owners.
    pub(crate) passwd: String,
    pub(crate) master: String,
    pub(crate) registered: bool,
    pub(crate) resources: Resources,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) flags: BTreeMap<String, String>,
    pub(crate) started_ms: u64,
    pub(crate) executors: Vec<Shown>,
    pub(crate) completed: Vec<Shown>,
    pub(crate) running: Vec<Running>,
    pub(crate) counters: Counters,
}

/// An executor, be it only the one Mesos would have for a command.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) framework: FrameworkId,
    pub(crate) framework_info: Box<FrameworkInfo>,
    pub(crate) container: ContainerId,
    pub(crate) directory: String,
    /// Its own and its tasks'.
    pub(crate) resources: Vec<Resource>,
    /// Of a command: what Mesos would have made up.
    pub(crate) info: ExecutorInfo,
    pub(crate) is_command: bool,
    pub(crate) stage: Option<Stage>,
    pub(crate) tasks: Vec<ShownTask>,
    pub(crate) queued: Vec<TaskInfo>,
    /// Ended, be it that somebody does not know yet.
    pub(crate) over: Vec<ShownTask>,
}

/// A task of an executor.
#[derive(Clone, Debug)]
pub(crate) struct ShownTask {
    pub(crate) info: Box<TaskInfo>,
    pub(crate) state: TaskState,
    pub(crate) statuses: Vec<TaskStatus>,
    /// Its framework has seen its last update.
    pub(crate) acknowledged: bool,
}

impl Shown {
    /// As whom it runs, if it says so: what Mesos's lists ask for.
    pub(crate) fn user(&self) -> &str {
        let own = self.info.command.as_ref().and_then(|command| command.user.as_deref());
        own.unwrap_or(&self.framework_info.user)
    }
}

impl Picture {
    /// Adds what the agent has and had.
    pub(crate) fn add_runs(&mut self, agent: &Agent, past: &Past) {
        let site = agent.site();
        let mut pods: BTreeMap<&ContainerId, Vec<&Record>> = BTreeMap::new();
        for record in agent.runs() {
            match &record.part {
                Part::Alone => {
                    let directory = Seat::of(site, record).sandbox;
                    let task = ShownTask::of(record, past);
                    self.executors.push(alone(
                        &record.framework,
                        &record.framework_info,
                        task,
                        directory,
                        &record.container,
                    ));
                }
                Part::Member { executor, .. } => pods.entry(executor).or_default().push(record),
                Part::Executor { .. } => {}
            }
        }
        let live: BTreeSet<&ContainerId> = agent.runs().map(|record| &record.container).collect();
        for record in agent.executor_records() {
            let members = pods.remove(&record.container).unwrap_or_default();
            let mut shown = executor(&self.work_dir, record, &members, past);
            let known: BTreeSet<&ContainerId> = record.tasks.values().map(|task| &task.run).collect();
            let over = past.runs().filter(|(run, of)| {
                of.executor == record.container && of.state.is_terminal() && !known.contains(run) && !live.contains(run)
            });
            shown.over.extend(over.map(|(_, run)| ShownTask::past(run)));
            self.executors.push(shown);
        }
        self.add_past(agent, past, &live);
        self.counters = past.counters;
    }

    fn add_past(&mut self, agent: &Agent, past: &Past, live: &BTreeSet<&ContainerId>) {
        let executors: BTreeSet<&ContainerId> = agent.executor_records().map(|record| &record.container).collect();
        let directory = |framework: &FrameworkId, executor: &str, container: &ContainerId| {
            launch::sandbox(&self.work_dir, &agent.site().agent, framework, executor, container)
        };
        let mut completed = Vec::new();
        for (container, run) in past.runs().filter(|(container, run)| run.executor == **container) {
            if run.state.is_terminal() && !live.contains(container) {
                let directory = directory(&run.framework, run.info.task_id.as_str(), container);
                let task = ShownTask::past(run);
                completed.push(alone(&run.framework, &run.framework_info, task, directory, container));
            }
        }
        for (container, of) in past.executors().filter(|(container, _)| !executors.contains(container)) {
            let tasks = past.runs().filter(|(_, run)| run.executor == *container).map(|(_, run)| ShownTask::past(run));
            completed.push(Shown {
                framework: of.framework.clone(),
                framework_info: of.framework_info.clone(),
                container: container.clone(),
                directory: directory(&of.framework, of.info.executor_id.as_str(), container),
                resources: of.info.resources.clone(),
                info: of.info.as_ref().clone(),
                is_command: false,
                stage: None,
                tasks: Vec::new(),
                queued: Vec::new(),
                over: tasks.collect(),
            });
        }
        self.completed = completed;
    }

    /// Every executor there is or was.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Shown> {
        self.executors.iter().chain(&self.completed)
    }

    /// Whose directory that is: the part of the path after it follows.
    pub(crate) fn owner(&self, sandbox: &str) -> Option<&Shown> {
        self.all().find(|shown| shown.directory == sandbox)
    }
}

impl ShownTask {
    fn of(record: &Record, past: &Past) -> Self {
        let statuses = past.run(&record.container).map(|run| run.statuses.clone());
        let statuses = statuses.unwrap_or_else(|| record.updates.iter().cloned().collect());
        Self { info: record.info.clone(), state: record.state, statuses, acknowledged: record.updates.is_empty() }
    }

    fn past(run: &Run) -> Self {
        Self { info: run.info.clone(), state: run.state, statuses: run.statuses.clone(), acknowledged: true }
    }
}

/// What Mesos would show for a command.
fn alone(
    framework: &FrameworkId,
    framework_info: &FrameworkInfo,
    task: ShownTask,
    directory: String,
    container: &ContainerId,
) -> Shown {
    let info = task.info.as_ref();
    let executor = ExecutorInfo {
        executor_id: info.task_id.as_str().into(),
        framework_id: Some(framework.clone()),
        command: info.command.clone().map(Into::into),
        container: info.container.clone(),
        resources: info.resources.clone(),
        name: Some(command_executor_name(info)),
        source: Some(info.task_id.to_string()),
        labels: info.labels.clone(),
        ..ExecutorInfo::default()
    };
    let mut shown = Shown {
        framework: framework.clone(),
        framework_info: Box::new(framework_info.clone()),
        container: container.clone(),
        directory,
        resources: info.resources.clone(),
        info: executor,
        is_command: true,
        stage: None,
        tasks: Vec::new(),
        queued: Vec::new(),
        over: Vec::new(),
    };
    shown.add(task);
    shown
}

fn executor(work_dir: &str, record: &ExecutorRecord, members: &[&Record], past: &Past) -> Shown {
    let mut info = record.info.as_ref().clone();
    info.framework_id = Some(record.framework.clone());
    let mut resources = launch::executor_resources(record);
    resources.extend(members.iter().flat_map(|member| member.info.resources.iter().cloned()));
    let mut shown = Shown {
        framework: record.framework.clone(),
        framework_info: record.framework_info.clone(),
        container: record.container.clone(),
        directory: launch::sandbox(
            work_dir,
            &record.agent,
            &record.framework,
            record.executor.as_str(),
            &record.container,
        ),
        resources,
        info,
        is_command: false,
        stage: Some(record.stage),
        tasks: Vec::new(),
        queued: Vec::new(),
        over: Vec::new(),
    };
    let waits: BTreeSet<_> = record.queue.iter().flatten().collect();
    for (id, task) in &record.tasks {
        if waits.contains(id) {
            shown.queued.push(task.info.as_ref().clone());
            continue;
        }
        let statuses = past.run(&task.run).map(|run| run.statuses.clone());
        let statuses = statuses.unwrap_or_else(|| task.updates.iter().cloned().collect());
        let acknowledged = task.updates.is_empty();
        shown.add(ShownTask { info: task.info.clone(), state: task.state, statuses, acknowledged });
    }
    for member in members {
        shown.add(ShownTask::of(member, past));
    }
    shown
}

impl Shown {
    fn add(&mut self, task: ShownTask) {
        if task.state.is_terminal() { self.over.push(task) } else { self.tasks.push(task) }
    }
}

/// Longer commands are cut short in names.
const SHOWN_OF_COMMAND: usize = 15;

/// `Command Executor (Task: web) (Command: sh -c 'sleep 1000')`.
pub(crate) fn command_executor_name(info: &TaskInfo) -> String {
    let short = |text: &str| {
        if text.len() <= SHOWN_OF_COMMAND {
            return text.to_owned();
        }
        let kept: String = text.chars().take(SHOWN_OF_COMMAND - 3).collect();
        format!("{kept}...")
    };
    let shown = |command: &CommandInfo| match (&command.value, command.shell.unwrap_or(true)) {
        (None, true) => "NO COMMAND".to_owned(),
        (None, false) => "NO EXECUTABLE".to_owned(),
        (Some(value), true) => format!("sh -c '{}'", short(value)),
        (Some(value), false) => {
            let words: Vec<&str> = std::iter::once(value).chain(&command.arguments).map(String::as_str).collect();
            format!("[{}]", short(&words.join(", ")))
        }
    };
    let command = info.command.as_ref().map_or_else(|| "NO COMMAND".to_owned(), shown);
    format!("Command Executor (Task: {}) (Command: {command})", info.task_id)
}

/// A container's id with those of its parents: `parent.child`.
pub(crate) fn spelled(id: &WireContainerId) -> String {
    match &id.parent {
        Some(parent) => format!("{}.{}", spelled(parent), id.value),
        None => id.value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executor_of_a_command_is_called_as_mesos_calls_it() {
        for (command, name) in [
            (r#"{"value":"echo hello; sleep 1000"}"#, "(Command: sh -c 'echo hello; ...')"),
            (r#"{"value":"true"}"#, "(Command: sh -c 'true')"),
            (r#"{"shell":false,"value":"/bin/a","arguments":["a","b"]}"#, "(Command: [/bin/a, a, b])"),
            (r#"{"shell":false}"#, "(Command: NO EXECUTABLE)"),
        ] {
            let task =
                format!(r#"{{"name":"x","task_id":{{"value":"t1"}},"agent_id":{{"value":"a"}},"command":{command}}}"#);
            let info: TaskInfo = serde_json::from_str(&task).unwrap();
            assert_eq!(command_executor_name(&info), format!("Command Executor (Task: t1) {name}"));
        }
    }
}
