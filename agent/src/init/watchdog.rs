//! The hardware watchdog: restarts a machine whose agent makes no progress.

use std::fs::File;
use std::io::Write;

use super::console::Console;

const DEVICE: &str = "/dev/watchdog";
/// What we ask of the hardware if nobody says otherwise: longer than the agent's slowest round.
pub(crate) const TIMEOUT_SECS: i32 = 60;
/// Where one may say otherwise.
pub(crate) const KEY: &str = "mesolith.watchdog";
/// Until the machine has restarted: firmware of large servers takes its time, and its watchdogs are often off by then.
const LAST_TIMEOUT_SECS: i32 = 120;

/// What the command line says of the timeout: seconds from 30 to 600. Half of it is the agent's, who says that it lives
/// every five seconds, and may wait for a disk meanwhile.
pub(crate) fn timeout(value: Option<&str>) -> i32 {
    value.and_then(|value| value.parse().ok()).filter(|secs| (30..=600).contains(secs)).unwrap_or(TIMEOUT_SECS)
}

/// Armed by the agent's first sign of life, so that a machine whose agent never starts stays up for whoever looks at
/// it; fed while the signs keep coming.
#[derive(Debug)]
pub(crate) struct Watchdog {
    /// What is asked of the hardware.
    timeout_secs: i32,
    device: Option<File>,
    timeout_ms: u64,
    last_alive_ms: u64,
    last_fed_ms: u64,
    warned: bool,
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::with_timeout(TIMEOUT_SECS)
    }
}

impl Watchdog {
    /// Not armed yet.
    pub(crate) const fn with_timeout(timeout_secs: i32) -> Self {
        Self { timeout_secs, device: None, timeout_ms: 0, last_alive_ms: 0, last_fed_ms: 0, warned: false }
    }

    /// How long the agent has said nothing, once it has said something.
    pub(crate) fn silence_ms(&self, now_ms: u64) -> Option<u64> {
        (self.last_alive_ms > 0).then(|| now_ms.saturating_sub(self.last_alive_ms))
    }

    /// How long it may say nothing.
    pub(crate) fn patience_ms(&self) -> u64 {
        u64::try_from(self.timeout_secs).unwrap_or_default() * 1000
    }

    /// The agent makes progress.
    pub(crate) fn alive(&mut self, now_ms: u64, console: &mut Console) {
        self.last_alive_ms = now_ms;
        self.warned = false;
        if self.device.is_none() {
            // Its driver may be loaded after the agent has started: tried with every sign of life.
            self.arm(console);
        }
        self.feed(now_ms, console);
    }

    /// Feeds the device if it is time and the agent lives.
    pub(crate) fn feed(&mut self, now_ms: u64, console: &mut Console) {
        let Some(device) = &mut self.device else {
            return;
        };
        if now_ms.saturating_sub(self.last_alive_ms) >= self.timeout_ms {
            if !self.warned {
                self.warned = true;
                console.say("the agent gives no sign of life: the watchdog will restart this machine");
            }
            return;
        }
        if self.last_fed_ms == 0 || now_ms.saturating_sub(self.last_fed_ms) >= self.timeout_ms / 4 {
            self.last_fed_ms = now_ms;
            // A device that refuses will restart the machine, which is what it is for.
            let _ = device.write_all(b"\0");
        }
    }

    /// When to feed it again.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.device.as_ref().map(|_| self.last_fed_ms + self.timeout_ms / 4)
    }

    /// Feeds it a last time: it restarts the machine should the end hang in the kernel.
    pub(crate) fn guard_the_end(&mut self) {
        if let Some(device) = &mut self.device {
            let _ = agent_sys::watchdog::set_timeout(&*device, LAST_TIMEOUT_SECS);
            let _ = device.write_all(b"\0");
        }
    }

    /// Closes it so that it does not bite while we shut down on purpose.
    pub(crate) fn disarm(&mut self) {
        if let Some(mut device) = self.device.take() {
            let _ = device.write_all(b"V");
        }
    }

    fn arm(&mut self, console: &mut Console) {
        let Ok(device) = File::options().write(true).open(DEVICE) else {
            return; // Most machines have none, and that is not worth a line.
        };
        let timeout = agent_sys::watchdog::set_timeout(&device, self.timeout_secs).unwrap_or(self.timeout_secs);
        self.timeout_ms = u64::try_from(timeout).unwrap_or_default().max(2) * 1000;
        self.device = Some(device);
        console.say(format!("armed the hardware watchdog, {timeout} s"));
    }
}
