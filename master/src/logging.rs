//! The log: to standard error, as loud as configured, and louder for a while on request.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

type Reload = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

static RELOAD: OnceLock<Reload> = OnceLock::new();
static LEVEL: AtomicU32 = AtomicU32::new(0);
/// Counts changes, so that an old one's end does not undo a newer one.
static CHANGES: AtomicU64 = AtomicU64::new(0);

/// Starts to log. To be called once, first of all.
pub fn init(format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(configured())
        .with_writer(std::io::stderr)
        .with_ansi(format == LogFormat::Text && std::io::stderr().is_terminal())
        .with_target(format == LogFormat::Plain)
        .with_filter_reloading();
    let handle = builder.reload_handle();
    let first = RELOAD.set(Box::new(move |filter| handle.reload(filter).is_ok())).is_ok();
    debug_assert!(first, "the log is started once");
    builder.init();
}

fn configured() -> EnvFilter {
    EnvFilter::try_from_env("MESOLITH_LOG").unwrap_or_else(|_| EnvFilter::new("info,openraft=warn"))
}

fn filter_of(level: u32) -> EnvFilter {
    match level {
        0 => configured(),
        1 => EnvFilter::new("debug,openraft=info,h2=info,hyper=info,tower=info,rustls=info"),
        _ => EnvFilter::new("trace,openraft=debug,h2=info,hyper=info,tower=info,rustls=info"),
    }
}

/// How loud it is: 0 as configured, more than that after [`set_level`].
#[must_use]
pub fn level() -> u32 {
    LEVEL.load(Ordering::Relaxed)
}

/// As loud as that for so long, and then as configured again.
pub fn set_level(level: u32, duration: Duration) {
    let change = CHANGES.fetch_add(1, Ordering::Relaxed) + 1;
    apply(level);
    tokio::spawn(async move {
        tokio::time::sleep(duration).await;
        if CHANGES.load(Ordering::Relaxed) == change {
            apply(0);
        }
    });
}

fn apply(level: u32) {
    LEVEL.store(level, Ordering::Relaxed);
    if let Some(reload) = RELOAD.get()
        && !reload(filter_of(level))
    {
        tracing::warn!(level, "the log's level could not be changed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_louder_for_a_while_only() {
        set_level(2, Duration::from_millis(100));
        assert_eq!(level(), 2);
        set_level(1, Duration::from_millis(600));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(level(), 1, "an older request does not end a newer one");
        let wait = async {
            while level() != 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap();
    }
}
