//! Watchdog timers: what resets the machine when nobody asks it not to.

use serde::{Deserialize, Serialize};

use crate::SysRoot;

/// A watchdog timer, as `/dev/watchdogN`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Watchdog {
    /// `watchdog0`.
    pub name: String,
    /// What the driver calls it: `iTCO_wdt`.
    pub identity: Option<String>,
    /// Seconds until it fires without a keepalive.
    pub timeout_secs: Option<u32>,
    /// The shortest timeout the driver accepts; `None` where it says 0, for "no limit known".
    pub min_timeout_secs: Option<u32>,
    /// The longest timeout the driver accepts; `None` where it says 0, for "no limit known".
    pub max_timeout_secs: Option<u32>,
    /// It cannot be stopped once started.
    pub nowayout: Option<bool>,
    /// The last reset was this watchdog's (`WDIOF_CARDRESET`).
    pub caused_last_reset: Option<bool>,
    /// A kernel timer rather than hardware: it dies with the kernel it should guard.
    pub software: bool,
}

/// `WDIOF_CARDRESET` of `linux/watchdog.h`.
const CARD_RESET: u32 = 0x20;

impl Watchdog {
    pub(crate) fn detect(root: &SysRoot) -> Vec<Self> {
        root.list("sys/class/watchdog").into_iter().map(|name| Self::read(root, name)).collect()
    }

    fn read(root: &SysRoot, name: String) -> Self {
        let file = |file: &str| format!("sys/class/watchdog/{name}/{file}");
        let limit = |path: String| root.parse(&path).filter(|seconds| *seconds != 0);
        let identity = root.text(&file("identity"));
        Self {
            timeout_secs: root.parse(&file("timeout")),
            min_timeout_secs: limit(file("min_timeout")),
            max_timeout_secs: limit(file("max_timeout")),
            nowayout: root.flag(&file("nowayout")),
            caused_last_reset: root.parse::<u32>(&file("bootstatus")).map(|status| status & CARD_RESET != 0),
            software: identity.as_deref() == Some("Software Watchdog"),
            identity,
            name,
        }
    }
}
