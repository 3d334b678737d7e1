//! How the processes of a node log: lines on stderr that begin with their level, read by `init`.
//!
//! `init` adds the time, writes every line to the process's log file and lines of level info and above to the
//! console. A line without a level, such as a panic's, counts as info.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Overrides which events are logged, in the syntax of `tracing-subscriber`'s filters.
const FILTER_VARIABLE: &str = "MESOLITH_LOG";
/// libcontainer warns of what is normal here, such as a clone that `init` has reaped.
const DEFAULT_FILTER: &str = "info,libcontainer=error,libcgroups=error,h2=warn,rustls=warn,zbus=warn";

/// Which events this process logs.
pub(crate) fn filter() -> EnvFilter {
    EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER))
}

/// Starts logging in this process, once.
pub(crate) fn start() {
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .event_format(LevelFirst)
        .finish();
    // A second call changes nothing: the first subscriber stays.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// `<6>target: message field=value`, the level as the kernel's log numbers it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LevelFirst;

impl<S, N> FormatEvent<S, N> for LevelFirst
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        write!(writer, "<{}>", kernel_level(*event.metadata().level()))?;
        // Our own modules need no address: the process's name stands before the line.
        let target = event.metadata().target();
        if !target.starts_with("mesolith_agent") {
            write!(writer, "{target}: ")?;
        }
        context.format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}

fn kernel_level(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// An error with all its causes, for the field `error`.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat the cause in their own message.
        if !text.ends_with(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the door")]
    struct Door(#[source] std::fmt::Error);

    #[test]
    fn a_chain_names_every_cause_once() {
        assert_eq!(chain(&Door(std::fmt::Error)), format!("cannot open the door: {}", std::fmt::Error));
    }
}
