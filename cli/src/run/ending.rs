//! What we exit with when the task is over.

use api::TaskState;
use api::v1::{Reason, TaskStatus};

/// The signals Mesos writes by name (strsignal(3) in the C locale).
const SIGNALS: [(&str, u8); 19] = [
    ("Hangup", 1),
    ("Interrupt", 2),
    ("Quit", 3),
    ("Illegal instruction", 4),
    ("Trace/breakpoint trap", 5),
    ("Aborted", 6),
    ("Bus error", 7),
    ("Floating point exception", 8),
    ("Killed", 9),
    ("User defined signal 1", 10),
    ("Segmentation fault", 11),
    ("User defined signal 2", 12),
    ("Broken pipe", 13),
    ("Alarm clock", 14),
    ("Terminated", 15),
    ("CPU time limit exceeded", 24),
    ("File size limit exceeded", 25),
    ("Bad system call", 31),
    ("Stack fault", 16),
];

/// Our exit code, and what to say if it is not the task's own status.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Ending {
    pub(crate) code: u8,
    /// What went wrong, and the next step.
    pub(crate) complaint: Option<(String, String)>,
}

impl Ending {
    /// Without a word.
    pub(crate) const fn silent(code: u8) -> Self {
        Self { code, complaint: None }
    }

    /// With what and next.
    pub(crate) fn because(code: u8, what: impl Into<String>, next: impl Into<String>) -> Self {
        Self { code, complaint: Some((what.into(), next.into())) }
    }

    /// From a terminal status.
    pub(crate) fn of(status: &TaskStatus) -> Self {
        let message = status.message.as_deref().unwrap_or_default();
        let state = status.state().name();
        match status.state() {
            TaskState::Finished => Self::silent(0),
            TaskState::Failed if status.given_reason() == Some(Reason::ContainerLimitationMemory) => {
                Self::because(137, format!("the task ran out of memory: {message}"), "give it more with --mem")
            }
            TaskState::Failed => match exit_code(message) {
                Some(code) => Self::silent(code),
                None if status.given_reason() == Some(Reason::ContainerLaunchFailed) => {
                    let missing = message.contains("No such file") || message.contains("not found");
                    let next = "without an image a task has only busybox's programs: check the command";
                    Self::because(
                        if missing { 127 } else { 126 },
                        format!("the task could not be started: {message}"),
                        next,
                    )
                }
                None => Self::because(125, format!("the task failed: {message}"), "see `mesolith tasks --all --json`"),
            },
            TaskState::Killed => {
                let code = exit_code(message).filter(|code| *code > 128).unwrap_or(137);
                Self::because(
                    code,
                    "the task was killed by someone else",
                    "`mesolith frameworks --all` shows who was about",
                )
            }
            TaskState::Error => {
                Self::because(125, format!("the master refuses the task: {message}"), "change what is asked for")
            }
            TaskState::Lost | TaskState::Dropped | TaskState::Gone | TaskState::GoneByOperator | TaskState::Unknown => {
                Self::because(
                    125,
                    format!("the task is lost ({state}): {message}"),
                    "`mesolith nodes` shows what is left; run it again",
                )
            }
            TaskState::Staging
            | TaskState::Starting
            | TaskState::Running
            | TaskState::Killing
            | TaskState::Unreachable => {
                Self::because(125, format!("the task is left in {state}"), "`mesolith tasks` shows what becomes of it")
            }
        }
    }
}

/// From `Command exited with status 3` or `Command terminated with signal Killed`; the signal may be a number.
fn exit_code(message: &str) -> Option<u8> {
    if let Some((_, rest)) = message.split_once("exited with status ") {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        return digits.parse::<i32>().ok().and_then(|status| u8::try_from(status & 0xff).ok());
    }
    let (_, rest) = message.split_once("terminated with signal ")?;
    let number = rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u8>().ok();
    let named = || SIGNALS.iter().find(|(name, _)| rest.starts_with(name)).map(|(_, number)| *number);
    number.or_else(named).map(|signal| 128u8.saturating_add(signal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_become_exit_codes() {
        for (message, code) in [
            ("Command exited with status 3", Some(3)),
            ("Command exited with status 0", Some(0)),
            ("Command exited with status 255 (core)", Some(255)),
            ("Command terminated with signal Killed", Some(137)),
            ("Command terminated with signal Segmentation fault (core dumped)", Some(139)),
            ("Command terminated with signal 15", Some(143)),
            ("Command terminated with signal Mystery", None),
            ("Command exited with status x", None),
            ("", None),
        ] {
            assert_eq!(exit_code(message), code, "{message}");
        }
        let mut sorted: Vec<u8> = SIGNALS.iter().map(|(_, number)| *number).collect();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), SIGNALS.len());
    }

    #[test]
    fn every_terminal_state_has_an_ending() {
        for state in TaskState::ALL.into_iter().filter(|state| state.is_terminal()) {
            let mut status = TaskStatus::new("t".into(), state);
            status.message = Some("because".to_owned());
            let ending = Ending::of(&status);
            assert_eq!(ending.code == 0, state == TaskState::Finished, "{state:?}");
            assert_eq!(ending.complaint.is_none(), state == TaskState::Finished, "{state:?}");
        }
    }

    #[test]
    fn the_memory_limit_and_a_missing_program_have_their_own_words() {
        let mut status = TaskStatus::new("t".into(), TaskState::Failed);
        status.message = Some("Memory limit exceeded: used 33 MiB of 32 MiB".to_owned());
        status.reason = Some(Reason::ContainerLimitationMemory.into());
        assert_eq!(Ending::of(&status).code, 137);
        status.reason = Some(Reason::ContainerLaunchFailed.into());
        status.message = Some("cannot run `nonesuch`: No such file or directory".to_owned());
        assert_eq!(Ending::of(&status).code, 127);
    }
}
