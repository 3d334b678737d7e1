//! The lifecycle of one container, from the first directory to the last cgroup.

use serde::{Deserialize, Serialize};

use crate::handover::ExitStatus;

/// ```text
/// Pulling ─Pulled▶ Preparing: a task with an image begins here; failed or killed, it goes to Deleting
///
/// Preparing ─Prepared▶ Creating ─Created▶ Starting ─Started▶ Running ─────────Exited────▶ Exited ─Used▶ Deleting ─Deleted▶ Gone
///    │failed, Kill        │failed, Kill      │Kill, Exited: noted   │Kill                 ▲
///    ▼                    ▼                  │until Started         ▼                     │
/// Deleting ◀──────────────┘                  └──────────────────▶ Killing ───Exited───────┘
/// ```
/// A kill before the process runs is noted and takes effect when the step in flight has ended: steps are
/// never abandoned halfway, or something would be left behind. Only pulling an image is: what has come of it stays in
/// the store, for the next one.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Phase {
    /// The image is being brought here.
    Pulling,
    /// Sandbox and `config.json` are being written.
    Preparing {
        /// A kill came meanwhile.
        kill: Option<Kill>,
    },
    /// The launcher makes namespaces, cgroup and root.
    Creating {
        /// A kill came meanwhile.
        kill: Option<Kill>,
    },
    /// The process exists and waits; it has been told to go on.
    Starting {
        /// A kill came meanwhile.
        kill: Option<Kill>,
        /// A short task's exit may overtake the launcher's answer.
        exit: Option<Exit>,
    },
    /// The task's own program runs.
    Running,
    /// SIGTERM was sent.
    Killing {
        /// Why.
        cause: Cause,
        /// When SIGKILL follows.
        force_at_ms: u64,
        /// It has followed.
        forced: bool,
    },
    /// The first process has ended; what it used is being read.
    Exited {
        /// How it ended.
        exit: Exit,
        /// Who wanted it.
        cause: Option<Cause>,
    },
    /// What is left is being removed.
    Deleting,
    /// Nothing is left.
    Gone,
}

const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A kill that has to wait.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Kill {
    /// Why.
    pub cause: Cause,
    /// Between SIGTERM and SIGKILL.
    pub grace_ms: u64,
}

/// Why a task is killed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Cause {
    /// Its framework asked.
    Asked,
    /// Its framework is gone.
    FrameworkRemoved,
    /// It ran longer than `max_completion_time`.
    MaxCompletionTime,
    /// It took more than it was given.
    Overrun,
}

/// How the first process ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Exit {
    /// As `init` saw it.
    Seen(ExitStatus),
    /// Nobody saw it: the process is gone and no status is kept.
    Unseen,
    /// The machine was started anew meanwhile.
    Rebooted,
}

/// What a container used, read before its cgroup is removed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// `oom_kill` of memory.events.
    pub oom_kills: u64,
    /// memory.peak.
    pub memory_peak_bytes: Option<u64>,
}

/// What happened to a container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// The image is there, or why not.
    Pulled(Result<(), String>),
    /// The bundle is there, or why not.
    Prepared(Result<(), String>),
    /// The process exists, or why not.
    Created(Result<(), String>),
    /// It goes on, or why not.
    Started(Result<(), String>),
    /// It ended.
    Exited(Exit),
    /// What it had used.
    Used(Usage),
    /// The launcher has removed it.
    Deleted,
    /// It must end.
    Kill(Kill),
    /// Time has passed.
    Tick,
}

/// What to do, and what to tell.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nobody waits for the image any more.
    CancelPull,
    /// Write sandbox and `config.json`.
    Prepare,
    /// Make the container.
    Create,
    /// Let it go.
    Start,
    /// SIGTERM.
    Terminate {
        /// How long it may take.
        grace_ms: u64,
    },
    /// SIGKILL for the whole cgroup.
    KillAll,
    /// Read what it used.
    ReadUsage,
    /// Remove it.
    Delete,
    /// To tell: TASK_RUNNING.
    Running,
    /// To tell: TASK_KILLING.
    Killing,
    /// To tell: the terminal state.
    Ended(Ending),
}

/// How it all ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ending {
    /// The process ran and ended.
    Exit {
        /// How.
        exit: Exit,
        /// Who wanted it.
        cause: Option<Cause>,
        /// What it had used.
        usage: Usage,
    },
    /// It never ran: killed first.
    NeverStarted(Cause),
    /// It could not be run.
    LaunchFailed(String),
}

impl Phase {
    /// The first process has ended, or there never will be one.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        match self {
            Self::Exited { .. } | Self::Deleting | Self::Gone => true,
            Self::Pulling
            | Self::Preparing { .. }
            | Self::Creating { .. }
            | Self::Starting { .. }
            | Self::Running
            | Self::Killing { .. } => false,
        }
    }

    /// When [`Input::Tick`] changes something.
    #[must_use]
    pub const fn deadline_ms(&self) -> Option<u64> {
        match self {
            Self::Killing { force_at_ms, forced: false, .. } => Some(*force_at_ms),
            Self::Killing { forced: true, .. }
            | Self::Pulling
            | Self::Preparing { .. }
            | Self::Creating { .. }
            | Self::Starting { .. }
            | Self::Running
            | Self::Exited { .. }
            | Self::Deleting
            | Self::Gone => None,
        }
    }

    /// Moves on by one input. An input that no longer applies changes nothing.
    #[must_use]
    pub fn step(self, input: Input, now_ms: u64) -> (Self, Vec<Step>) {
        match self {
            Self::Pulling => match input {
                Input::Pulled(Ok(())) => (Self::Preparing { kill: None }, vec![Step::Prepare]),
                Input::Pulled(Err(reason)) => {
                    (Self::Deleting, vec![Step::Ended(Ending::LaunchFailed(reason)), Step::Delete])
                }
                Input::Kill(kill) => (
                    Self::Deleting,
                    vec![Step::CancelPull, Step::Ended(Ending::NeverStarted(kill.cause)), Step::Delete],
                ),
                Input::Exited(Exit::Rebooted) => exited(Exit::Rebooted, None),
                Input::Prepared(_)
                | Input::Created(_)
                | Input::Started(_)
                | Input::Exited(_)
                | Input::Used(_)
                | Input::Deleted
                | Input::Tick => (Self::Pulling, vec![]),
            },
            Self::Preparing { kill } => match input {
                Input::Prepared(Ok(())) => match kill {
                    None => (Self::Creating { kill: None }, vec![Step::Create]),
                    Some(kill) => (Self::Deleting, vec![Step::Ended(Ending::NeverStarted(kill.cause)), Step::Delete]),
                },
                Input::Prepared(Err(reason)) => {
                    (Self::Deleting, vec![Step::Ended(Ending::LaunchFailed(reason)), Step::Delete])
                }
                Input::Kill(new) => (Self::Preparing { kill: Some(sooner(kill, new)) }, vec![]),
                Input::Exited(Exit::Rebooted) => exited(Exit::Rebooted, kill.map(|kill| kill.cause)),
                Input::Pulled(_)
                | Input::Created(_)
                | Input::Started(_)
                | Input::Exited(_)
                | Input::Used(_)
                | Input::Deleted
                | Input::Tick => (Self::Preparing { kill }, vec![]),
            },
            Self::Creating { kill } => match input {
                Input::Created(Ok(())) => match kill {
                    None => (Self::Starting { kill: None, exit: None }, vec![Step::Start]),
                    Some(kill) => (Self::Deleting, vec![Step::Ended(Ending::NeverStarted(kill.cause)), Step::Delete]),
                },
                Input::Created(Err(reason)) => {
                    (Self::Deleting, vec![Step::Ended(Ending::LaunchFailed(reason)), Step::Delete])
                }
                Input::Kill(new) => (Self::Creating { kill: Some(sooner(kill, new)) }, vec![]),
                Input::Exited(exit) => exited(exit, kill.map(|kill| kill.cause)),
                Input::Pulled(_)
                | Input::Prepared(_)
                | Input::Started(_)
                | Input::Used(_)
                | Input::Deleted
                | Input::Tick => (Self::Creating { kill }, vec![]),
            },
            Self::Starting { kill, exit } => match input {
                Input::Started(Ok(())) => {
                    let (phase, steps) = match (exit, kill) {
                        (Some(exit), kill) => exited(exit, kill.map(|kill| kill.cause)),
                        (None, Some(kill)) => killing(kill, now_ms),
                        (None, None) => (Self::Running, vec![]),
                    };
                    (phase, std::iter::once(Step::Running).chain(steps).collect())
                }
                Input::Started(Err(reason)) => {
                    (Self::Deleting, vec![Step::Ended(Ending::LaunchFailed(reason)), Step::Delete])
                }
                Input::Exited(exit) => (Self::Starting { kill, exit: Some(exit) }, vec![]),
                Input::Kill(new) => (Self::Starting { kill: Some(sooner(kill, new)), exit }, vec![]),
                Input::Pulled(_)
                | Input::Prepared(_)
                | Input::Created(_)
                | Input::Used(_)
                | Input::Deleted
                | Input::Tick => (Self::Starting { kill, exit }, vec![]),
            },
            Self::Running => match input {
                Input::Kill(kill) => killing(kill, now_ms),
                Input::Exited(exit) => exited(exit, None),
                Input::Pulled(_)
                | Input::Prepared(_)
                | Input::Created(_)
                | Input::Started(_)
                | Input::Used(_)
                | Input::Deleted
                | Input::Tick => (Self::Running, vec![]),
            },
            Self::Killing { cause, force_at_ms, forced } => match input {
                Input::Exited(exit) => exited(if forced { exit } else { asked_to_end(exit) }, Some(cause)),
                Input::Tick if !forced && force_at_ms <= now_ms => {
                    (Self::Killing { cause, force_at_ms, forced: true }, vec![Step::KillAll])
                }
                // A later kill may only shorten the wait (Mesos's command executor).
                Input::Kill(kill) => {
                    let force_at_ms = force_at_ms.min(now_ms.saturating_add(kill.grace_ms));
                    (Self::Killing { cause, force_at_ms, forced }, vec![])
                }
                Input::Pulled(_)
                | Input::Prepared(_)
                | Input::Created(_)
                | Input::Started(_)
                | Input::Used(_)
                | Input::Deleted
                | Input::Tick => (Self::Killing { cause, force_at_ms, forced }, vec![]),
            },
            Self::Exited { exit, cause } => match input {
                Input::Used(usage) => {
                    (Self::Deleting, vec![Step::Ended(Ending::Exit { exit, cause, usage }), Step::Delete])
                }
                Input::Pulled(_)
                | Input::Prepared(_)
                | Input::Created(_)
                | Input::Started(_)
                | Input::Exited(_)
                | Input::Deleted
                | Input::Kill(_)
                | Input::Tick => (Self::Exited { exit, cause }, vec![]),
            },
            Self::Deleting => match input {
                Input::Deleted => (Self::Gone, vec![]),
                Input::Pulled(_)
                | Input::Prepared(_)
                | Input::Created(_)
                | Input::Started(_)
                | Input::Exited(_)
                | Input::Used(_)
                | Input::Kill(_)
                | Input::Tick => (Self::Deleting, vec![]),
            },
            Self::Gone => (Self::Gone, vec![]),
        }
    }
}

fn exited(exit: Exit, cause: Option<Cause>) -> (Phase, Vec<Step>) {
    (Phase::Exited { exit, cause }, vec![Step::ReadUsage])
}

fn killing(kill: Kill, now_ms: u64) -> (Phase, Vec<Step>) {
    let Kill { cause, grace_ms } = kill;
    let force_at_ms = now_ms.saturating_add(grace_ms);
    if grace_ms == 0 {
        return (Phase::Killing { cause, force_at_ms, forced: true }, vec![Step::Killing, Step::KillAll]);
    }
    (Phase::Killing { cause, force_at_ms, forced: false }, vec![Step::Killing, Step::Terminate { grace_ms }])
}

/// The first process of a PID namespace does not get a SIGTERM it has no handler for, so it is sent SIGKILL in its
/// place; frameworks are told what was meant, which is what they hear where tasks have no namespace of their own.
fn asked_to_end(exit: Exit) -> Exit {
    match exit {
        Exit::Seen(ExitStatus::Signal(SIGKILL)) => Exit::Seen(ExitStatus::Signal(SIGTERM)),
        Exit::Seen(_) | Exit::Unseen | Exit::Rebooted => exit,
    }
}

/// Two kills before the process runs: the first one's cause, the shorter grace.
fn sooner(old: Option<Kill>, new: Kill) -> Kill {
    old.map_or(new, |old| Kill { cause: old.cause, grace_ms: old.grace_ms.min(new.grace_ms) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: Exit = Exit::Seen(ExitStatus::Code(0));
    const ASKED: Kill = Kill { cause: Cause::Asked, grace_ms: 3000 };

    /// Runs a script of (time, input); gives the last phase and every step.
    fn run(script: &[(u64, Input)]) -> (Phase, Vec<Step>) {
        let (mut phase, mut all) = (Phase::Preparing { kill: None }, vec![Step::Prepare]);
        for (now, input) in script {
            let (next, steps) = phase.step(input.clone(), *now);
            phase = next;
            all.extend(steps);
        }
        (phase, all)
    }

    fn up() -> Vec<(u64, Input)> {
        vec![(1, Input::Prepared(Ok(()))), (2, Input::Created(Ok(()))), (3, Input::Started(Ok(())))]
    }

    #[test]
    fn a_task_that_ends_by_itself_passes_every_phase_once() {
        let mut script = up();
        script.extend([(9, Input::Exited(OK)), (10, Input::Used(Usage::default())), (11, Input::Deleted)]);
        let (phase, steps) = run(&script);
        assert_eq!(phase, Phase::Gone);
        let ended = Step::Ended(Ending::Exit { exit: OK, cause: None, usage: Usage::default() });
        assert_eq!(
            steps,
            [Step::Prepare, Step::Create, Step::Start, Step::Running, Step::ReadUsage, ended, Step::Delete]
        );
    }

    #[test]
    fn a_kill_asks_first_and_forces_after_the_grace() {
        let mut script = up();
        script.extend([(100, Input::Kill(ASKED)), (3099, Input::Tick), (3100, Input::Tick), (3200, Input::Tick)]);
        let (phase, steps) = run(&script);
        assert_eq!(phase, Phase::Killing { cause: Cause::Asked, force_at_ms: 3100, forced: true });
        assert_eq!(steps[4..], [Step::Killing, Step::Terminate { grace_ms: 3000 }, Step::KillAll]);
    }

    #[test]
    fn who_ends_within_the_grace_was_terminated_and_not_killed() {
        let killed = Exit::Seen(ExitStatus::Signal(SIGKILL));
        for (name, at_ms, said) in [("asked", 200, Exit::Seen(ExitStatus::Signal(SIGTERM))), ("forced", 3200, killed)] {
            let mut script = up();
            script.extend([(100, Input::Kill(ASKED)), (at_ms - 1, Input::Tick), (at_ms, Input::Exited(killed))]);
            assert_eq!(run(&script).0, Phase::Exited { exit: said, cause: Some(Cause::Asked) }, "{name}");
        }
    }

    #[test]
    fn a_second_kill_only_shortens_the_grace() {
        let mut script = up();
        let kill = |grace_ms| Input::Kill(Kill { cause: Cause::Asked, grace_ms });
        script.extend([(100, kill(5000)), (200, kill(60_000)), (300, kill(1000))]);
        assert_eq!(run(&script).0, Phase::Killing { cause: Cause::Asked, force_at_ms: 1300, forced: false });
    }

    #[test]
    fn a_pull_is_waited_for_and_given_up_by_a_kill() {
        let step = |input| Phase::Pulling.step(input, 1);
        assert_eq!(step(Input::Pulled(Ok(()))), (Phase::Preparing { kill: None }, vec![Step::Prepare]));
        let (phase, steps) = step(Input::Pulled(Err("no such image".to_owned())));
        assert_eq!(phase, Phase::Deleting);
        assert_eq!(steps, [Step::Ended(Ending::LaunchFailed("no such image".to_owned())), Step::Delete]);
        let (phase, steps) = step(Input::Kill(ASKED));
        assert_eq!(phase, Phase::Deleting);
        assert_eq!(steps, [Step::CancelPull, Step::Ended(Ending::NeverStarted(Cause::Asked)), Step::Delete]);
        assert_eq!(phase.step(Input::Pulled(Ok(())), 2), (Phase::Deleting, vec![]), "it comes too late");
        assert_eq!(step(Input::Tick), (Phase::Pulling, vec![]));
    }

    #[test]
    fn a_kill_before_the_start_waits_for_the_step_in_flight() {
        for (name, script, last) in [
            ("while preparing", vec![(1, Input::Kill(ASKED)), (2, Input::Prepared(Ok(())))], Step::Delete),
            (
                "while creating",
                vec![(1, Input::Prepared(Ok(()))), (2, Input::Kill(ASKED)), (3, Input::Created(Ok(())))],
                Step::Delete,
            ),
            (
                "while starting",
                vec![
                    (1, Input::Prepared(Ok(()))),
                    (2, Input::Created(Ok(()))),
                    (3, Input::Kill(ASKED)),
                    (4, Input::Started(Ok(()))),
                ],
                Step::Terminate { grace_ms: 3000 },
            ),
        ] {
            assert_eq!(run(&script).1.last(), Some(&last), "{name}");
        }
    }

    #[test]
    fn an_exit_may_overtake_the_launchers_answer_and_running_is_still_told_first() {
        let script = [
            (1, Input::Prepared(Ok(()))),
            (2, Input::Created(Ok(()))),
            (3, Input::Exited(OK)),
            (4, Input::Started(Ok(()))),
        ];
        let (phase, steps) = run(&script);
        assert_eq!(phase, Phase::Exited { exit: OK, cause: None });
        assert_eq!(steps[3..], [Step::Running, Step::ReadUsage]);
    }

    #[test]
    fn a_failed_step_ends_the_task_and_cleans_up() {
        let failed = || Err("no such file".to_owned());
        for script in [
            vec![(1, Input::Prepared(failed()))],
            vec![(1, Input::Prepared(Ok(()))), (2, Input::Created(failed()))],
            vec![(1, Input::Prepared(Ok(()))), (2, Input::Created(Ok(()))), (3, Input::Started(failed()))],
        ] {
            let (phase, steps) = run(&script);
            assert_eq!(phase, Phase::Deleting);
            let tail = [Step::Ended(Ending::LaunchFailed("no such file".to_owned())), Step::Delete];
            assert_eq!(steps[steps.len() - 2..], tail);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_history_ends_a_task_twice(choices in proptest::collection::vec(0usize..12, 0..40)) {
            let inputs = [
                Input::Prepared(Ok(())), Input::Prepared(Err(String::new())), Input::Created(Ok(())),
                Input::Created(Err(String::new())), Input::Started(Ok(())), Input::Exited(OK),
                Input::Used(Usage::default()), Input::Deleted, Input::Kill(ASKED), Input::Tick,
                Input::Pulled(Ok(())), Input::Pulled(Err(String::new())),
            ];
            let script: Vec<_> = choices.iter().enumerate().map(|(at, &choice)| (at as u64 * 1000, inputs[choice].clone())).collect();
            let (phase, steps) = run(&script);
            let count = |wanted: fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
            proptest::prop_assert!(count(|step| matches!(step, Step::Ended(_))) <= 1);
            proptest::prop_assert!(count(|step| matches!(step, Step::Delete)) <= 1);
            proptest::prop_assert!(count(|step| matches!(step, Step::Running)) <= 1);
            if phase == Phase::Gone {
                proptest::prop_assert_eq!(count(|step| matches!(step, Step::Ended(_))), 1);
            }
        }
    }
}
