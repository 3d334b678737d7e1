//! Errors that say what to do next.

use std::error::Error;
use std::fmt;
use std::io::{ErrorKind, IsTerminal};
use std::process::ExitCode;

/// An error with the next step a person can take.
#[derive(Debug)]
pub(crate) struct Advised {
    what: String,
    next: String,
    source: Option<anyhow::Error>,
}

impl fmt::Display for Advised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Advised {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

/// What went wrong, and what to do about it.
pub(crate) fn advise(what: impl Into<String>, next: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advised { what: what.into(), next: next.into(), source: None })
}

/// Like [`advise`], with the cause.
pub(crate) fn advise_because(source: anyhow::Error, what: impl Into<String>, next: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Advised { what: what.into(), next: next.into(), source: Some(source) })
}

/// Whoever read our output has closed the pipe (`mesolith tasks | head`): not worth a message.
pub(crate) fn reader_is_gone(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<std::io::Error>().is_some_and(|io| io.kind() == ErrorKind::BrokenPipe))
}

/// The chain of causes on one line, and the next step on another.
pub(crate) fn describe(error: &anyhow::Error) -> (String, Option<String>) {
    let mut causes: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        // Libraries like to repeat their cause: say it once.
        if causes.last().is_none_or(|last| !last.ends_with(&cause)) {
            causes.push(cause);
        }
    }
    let next = error.chain().find_map(|cause| cause.downcast_ref::<Advised>()).map(|advised| advised.next.clone());
    (causes.join(": "), next)
}

/// Prints the error and gives the exit code.
pub(crate) fn report(error: &anyhow::Error, code: u8) -> ExitCode {
    let (what, next) = describe(error);
    let (red, end) = if std::io::stderr().is_terminal() { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
    eprintln!("{red}error:{end} {what}");
    if let Some(next) = next {
        eprintln!("  next: {next}");
    }
    ExitCode::from(code)
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn the_next_step_survives_contexts_and_causes_are_said_once() {
        let inner = anyhow::anyhow!("connection refused");
        let error = Err::<(), _>(advise_because(inner, "cannot reach the master", "start it"))
            .context("cannot list nodes")
            .unwrap_err();
        let (what, next) = describe(&error);
        assert_eq!(what, "cannot list nodes: cannot reach the master: connection refused");
        assert_eq!(next.as_deref(), Some("start it"));
    }

    #[test]
    fn a_closed_pipe_is_recognised_under_any_context() {
        let error = anyhow::Error::new(std::io::Error::from(ErrorKind::BrokenPipe)).context("cannot write");
        assert!(reader_is_gone(&error));
        assert!(!reader_is_gone(&anyhow::anyhow!("else")));
    }
}
