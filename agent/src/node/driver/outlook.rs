//! What the node shows of itself on its consoles, and what it tells of boots that ended badly.

use agent_core::handover::InitRequest;
use agent_core::registration::State;
use agent_core::status_page::{Stage, Status, render};

use super::Driver;

/// Columns of the oldest screens.
const WIDTH: usize = 80;

impl Driver {
    /// Shows how things stand, if they are other than what is shown.
    pub(super) fn show_page(&mut self) {
        if self.settings.hosted {
            return;
        }
        let state = self.registration.as_ref().map(agent_core::registration::Registration::state);
        let stage = match state {
            None => Stage::Offline,
            Some(State::Searching { .. } | State::Joining | State::Connecting | State::Registering { .. }) => {
                Stage::Searching
            }
            Some(State::Unclaimed { .. }) => Stage::Unclaimed,
            Some(State::Registered { .. }) => Stage::Registered,
            Some(State::Refused { .. }) => Stage::Refused,
        };
        let address = self.online.as_ref().and_then(|online| online.address);
        let link = self.surroundings.primary.clone().unwrap_or_default();
        let status = Status {
            node: self.identity.as_ref().map(|identity| identity.node_name.clone()).unwrap_or_default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: self.outlook.kernel.clone(),
            machine: self.outlook.machine.clone(),
            size: self.outlook.size.clone(),
            network: address.map(|address| format!("{link} {address}")).into_iter().collect(),
            master: self.master.clone(),
            stage,
            reason: self.last_reason.clone(),
            tasks: self.supervision.agent.running(),
            clock: self.settings.config.ntp.join(", "),
            crashes: self.crashes.len(),
        };
        if self.outlook.shown.as_ref() != Some(&status) {
            self.init.call(InitRequest::Page { lines: render(&status, WIDTH) });
            self.outlook.shown = Some(status);
        }
    }

    /// Tells the master of boots that ended badly, until it has all of them.
    pub(super) fn report_crashes(&mut self) {
        if self.settings.hosted {
            return;
        }
        let Some(session) = &self.session else { return };
        // The store may have come with a driver that was loaded late.
        self.crashes.look(&self.settings.boot_id);
        self.crashes.send(session);
    }
}

/// What does not change of what is shown, and what is shown.
#[derive(Debug, Default)]
pub(super) struct Outlook {
    kernel: String,
    machine: String,
    size: String,
    shown: Option<Status>,
}

impl Outlook {
    /// Reads the few files that say what this machine is; the whole inventory takes longer.
    pub(super) fn of_machine() -> Self {
        let text = |path: &str| std::fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let names = ["sys_vendor", "product_name", "product_serial"];
        let known = names.map(|name| text(&format!("/sys/class/dmi/id/{name}")));
        let memory = text("/proc/meminfo");
        let kib: u64 = memory
            .lines()
            .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok())
            .unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            kernel: text("/proc/sys/kernel/osrelease"),
            machine: known.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "),
            size: format!("{processors} processors, {} MiB", kib / 1024),
            shown: None,
        }
    }
}
