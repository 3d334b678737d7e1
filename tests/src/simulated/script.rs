//! What a pretended task does, by its command.

use std::time::Duration;

/// See [`Script::of`].
#[derive(Clone, Debug, PartialEq)]
pub enum Script {
    /// Ends with this exit status after a while.
    Exit {
        /// 0 finishes, anything else fails.
        status: i32,
        /// From RUNNING.
        after: Duration,
    },
    /// Fails at once for a reason, `REASON_…`.
    Fail {
        /// By Mesos's name.
        reason: String,
        /// For people.
        message: String,
    },
    /// Runs until it is killed.
    UntilKilled,
}

impl Script {
    /// `true`, `false`, `exit N`, `sleep SECONDS`, `sleep SECONDS; exit N`, `fail REASON_… MESSAGE`; anything else runs
    /// until it is killed.
    #[must_use]
    pub fn of(command: &str) -> Self {
        let (first, rest) = command.split_once(';').unwrap_or((command, ""));
        let words: Vec<&str> = first.split_whitespace().collect();
        let at_once = |status| Self::Exit { status, after: Duration::ZERO };
        match words.as_slice() {
            ["true"] => at_once(0),
            ["false"] => at_once(1),
            ["exit", status] => status.parse().map_or(Self::UntilKilled, at_once),
            ["sleep", seconds] => {
                let after = seconds.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
                match (after, Self::of(rest.trim())) {
                    (Some(after), Self::Exit { status, .. }) => Self::Exit { status, after },
                    (Some(after), _) if rest.trim().is_empty() => Self::Exit { status: 0, after },
                    (Some(_) | None, _) => Self::UntilKilled,
                }
            }
            ["fail", reason, message @ ..] => Self::Fail { reason: (*reason).to_owned(), message: message.join(" ") },
            _ => Self::UntilKilled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read() {
        let exit = |status, seconds| Script::Exit { status, after: Duration::from_secs_f64(seconds) };
        for (command, script) in [
            ("true", exit(0, 0.0)),
            ("exit 3", exit(3, 0.0)),
            ("sleep 1.5", exit(0, 1.5)),
            ("sleep 2; exit 4", exit(4, 2.0)),
            ("sleep 2; cat", Script::UntilKilled),
            ("sleep infinity", Script::UntilKilled),
            ("cat", Script::UntilKilled),
            ("", Script::UntilKilled),
            ("fail REASON_X too much", Script::Fail { reason: "REASON_X".into(), message: "too much".into() }),
        ] {
            assert_eq!(Script::of(command), script, "{command}");
        }
    }
}
