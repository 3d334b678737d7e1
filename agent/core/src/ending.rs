//! From how a process ended to what its framework is told: state, reason, message.

use api::TaskState;
use api::v1::value::{self, Scalar};
use api::v1::{Reason, Resource, Source, TaskInfo, TaskResourceLimitation};

use crate::container::{Cause, Ending, Exit, Usage};
use crate::handover::ExitStatus;
use crate::launch::memory_limit_bytes;

/// The terminal status without what every status has.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// A terminal state.
    pub state: TaskState,
    /// Why, for programs.
    pub reason: Option<Reason>,
    /// The executor's word for what the task did itself, the agent's for what was done to it.
    pub source: Source,
    /// Why, for people.
    pub message: String,
    /// Which resource it overran.
    pub limitation: Option<Box<TaskResourceLimitation>>,
}

/// It is gone, and that is all that is known.
#[must_use]
pub const fn unseen() -> Verdict {
    let (state, source) = (TaskState::Failed, Source::Agent);
    Verdict { state, reason: None, source, message: String::new(), limitation: None }
}

const MIB: u64 = 1 << 20;
const SIGKILL: i32 = 9;

/// Judges an ending (mesos-api 2.6).
#[must_use]
pub fn verdict(ending: &Ending, task: &TaskInfo) -> Verdict {
    match ending {
        Ending::LaunchFailed(why) => {
            agent(TaskState::Failed, Reason::ContainerLaunchFailed, format!("Failed to launch container: {why}"))
        }
        Ending::NeverStarted(cause) => {
            let reason = match cause {
                Cause::Asked | Cause::MaxCompletionTime | Cause::Overrun => Reason::TaskKilledDuringLaunch,
                Cause::FrameworkRemoved => Reason::FrameworkRemoved,
            };
            agent(TaskState::Killed, reason, "Task was killed before it was started".to_owned())
        }
        Ending::Exit { exit, cause, usage } => exit_verdict(*exit, *cause, usage, task),
    }
}

fn exit_verdict(exit: Exit, cause: Option<Cause>, usage: &Usage, task: &TaskInfo) -> Verdict {
    let status = match exit {
        Exit::Seen(status) => status,
        Exit::Unseen => {
            let message = "The task's process is gone and nobody saw how it ended".to_owned();
            return agent(TaskState::Failed, Reason::ExecutorTerminated, message);
        }
        Exit::Rebooted => {
            return agent(
                TaskState::Failed,
                Reason::AgentRestarted,
                "The machine was restarted while the task ran".to_owned(),
            );
        }
    };
    let message = format!("Command {}", describe(status));
    match cause {
        Some(Cause::MaxCompletionTime) => {
            let message = format!("Task exceeded its maximum completion time: {message}");
            return executor(TaskState::Failed, Some(Reason::MaxCompletionTimeReached), message);
        }
        // What it was stands in the record.
        Some(Cause::Overrun) => return agent(TaskState::Failed, Reason::ContainerLimitation, message),
        Some(Cause::Asked) => return executor(TaskState::Killed, None, message),
        Some(Cause::FrameworkRemoved) => return agent(TaskState::Killed, Reason::FrameworkRemoved, message),
        None => {}
    }
    // memory.oom.group kills all of the task at once, so the first process is never the survivor.
    if usage.oom_kills > 0 && status == ExitStatus::Signal(SIGKILL) {
        return out_of_memory(usage, task);
    }
    match status {
        ExitStatus::Code(0) => executor(TaskState::Finished, None, message),
        ExitStatus::Code(127) => {
            let message = format!("{message}: the shell found no such program in '{}'", command(task));
            executor(TaskState::Failed, None, message)
        }
        ExitStatus::Code(126) => {
            let message = format!("{message}: a program in '{}' cannot be executed", command(task));
            executor(TaskState::Failed, None, message)
        }
        ExitStatus::Code(_) | ExitStatus::Signal(_) => executor(TaskState::Failed, None, message),
    }
}

fn out_of_memory(usage: &Usage, task: &TaskInfo) -> Verdict {
    let limit = memory_limit_bytes(task);
    let used = usage.memory_peak_bytes.or(limit).unwrap_or(0);
    let requested = limit.map_or_else(|| "unlimited".to_owned(), megabytes);
    let message = format!("Memory limit exceeded: Requested: {requested} Maximum Used: {}", megabytes(used));
    #[allow(clippy::cast_precision_loss)] // no machine has 2^53 MiB
    let scalar = Scalar { value: used.div_ceil(MIB) as f64 };
    let memory = Resource {
        name: "mem".to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(scalar),
        role: Some("*".to_owned()),
        ..Resource::default()
    };
    let limitation = Box::new(TaskResourceLimitation { resources: vec![memory] });
    Verdict { limitation: Some(limitation), ..agent(TaskState::Failed, Reason::ContainerLimitationMemory, message) }
}

fn megabytes(bytes: u64) -> String {
    format!("{}MB", bytes.div_ceil(MIB))
}

fn agent(state: TaskState, reason: Reason, message: String) -> Verdict {
    Verdict { state, reason: Some(reason), source: Source::Agent, message, limitation: None }
}

fn executor(state: TaskState, reason: Option<Reason>, message: String) -> Verdict {
    Verdict { state, reason, source: Source::Executor, message, limitation: None }
}

/// `exited with status 1`, `terminated with signal Killed`.
fn describe(status: ExitStatus) -> String {
    match status {
        ExitStatus::Code(code) => format!("exited with status {code}"),
        ExitStatus::Signal(signal) => format!("terminated with signal {}", signal_name(signal)),
    }
}

/// What strsignal(3) says of the signals that end processes.
fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        31 => "Bad system call",
        other => return format!("{other}"),
    };
    name.to_owned()
}

/// The command as far as a message can hold it.
fn command(task: &TaskInfo) -> String {
    let value = task.command.as_ref().and_then(|command| command.value.clone()).unwrap_or_default();
    if value.chars().count() <= 80 {
        return value;
    }
    value.chars().take(77).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> TaskInfo {
        let text =
            r#"{"command":{"value":"nosuch --x"},"resources":[{"name":"mem","type":"SCALAR","scalar":{"value":32}}]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn endings_become_mesoss_states_and_words() {
        use ExitStatus::{Code, Signal};
        let exit = |status, cause, oom_kills| Ending::Exit {
            exit: Exit::Seen(status),
            cause,
            usage: Usage { oom_kills, memory_peak_bytes: Some((32 << 20) + 1) },
        };
        for (ending, state, reason, message) in [
            (exit(Code(0), None, 0), TaskState::Finished, None, "Command exited with status 0"),
            (exit(Code(3), None, 0), TaskState::Failed, None, "Command exited with status 3"),
            (exit(Signal(9), None, 0), TaskState::Failed, None, "Command terminated with signal Killed"),
            (
                exit(Code(127), None, 0),
                TaskState::Failed,
                None,
                "Command exited with status 127: the shell found no such program in 'nosuch --x'",
            ),
            (
                exit(Signal(15), Some(Cause::Asked), 0),
                TaskState::Killed,
                None,
                "Command terminated with signal Terminated",
            ),
            (exit(Code(0), Some(Cause::Asked), 0), TaskState::Killed, None, "Command exited with status 0"),
            (
                exit(Signal(9), None, 1),
                TaskState::Failed,
                Some(Reason::ContainerLimitationMemory),
                "Memory limit exceeded: Requested: 32MB Maximum Used: 33MB",
            ),
            (
                exit(Signal(9), Some(Cause::MaxCompletionTime), 0),
                TaskState::Failed,
                Some(Reason::MaxCompletionTimeReached),
                "Task exceeded its maximum completion time: Command terminated with signal Killed",
            ),
            (
                Ending::NeverStarted(Cause::Asked),
                TaskState::Killed,
                Some(Reason::TaskKilledDuringLaunch),
                "Task was killed before it was started",
            ),
            (
                Ending::LaunchFailed("'x' was not found".to_owned()),
                TaskState::Failed,
                Some(Reason::ContainerLaunchFailed),
                "Failed to launch container: 'x' was not found",
            ),
        ] {
            let verdict = verdict(&ending, &task());
            assert_eq!((verdict.state, verdict.reason, verdict.message.as_str()), (state, reason, message));
            assert!(verdict.state.is_terminal());
        }
    }

    #[test]
    fn an_oom_kill_says_which_resource() {
        let usage = Usage { oom_kills: 1, memory_peak_bytes: Some(33 << 20) };
        let ending = Ending::Exit { exit: Exit::Seen(ExitStatus::Signal(9)), cause: None, usage };
        let limitation = verdict(&ending, &task()).limitation.unwrap();
        assert_eq!(limitation.resources[0].name, "mem");
        assert_eq!(limitation.resources[0].scalar, Some(Scalar { value: 33.0 }));
    }
}
