//! What the driver has to do with disks: it begins passes, asks the master for keys, and makes a new pool the work directory
//! when no task is in its way.

use api::disks::rules_from_wire;
use api::link::{DiskKeyWanted, from_agent};

use super::{Driver, DriverError};
use crate::logging::chain;
use crate::node::disks::board::Wanted;
use crate::node::disks::worker::{Passed, pass};
use crate::node::disks::{EVERY, adopt, save_state};
use crate::node::events::Event;
use crate::uptime;

/// When passes were and are to be.
#[derive(Debug, Default)]
pub(super) struct Passes {
    /// One is under way.
    running: bool,
    /// Something happened: there is to be another one at once.
    nudged: bool,
    last_ms: u64,
    /// Tasks were to wait for the pool.
    held_back: bool,
}

impl Driver {
    /// The operator's rules for disks.
    pub(super) fn disk_rules(&mut self, rules: &api::link::DiskRules) {
        match rules_from_wire(&rules.json) {
            Ok(rules) if !self.settings.hosted => {
                if self.settings.disks.rules(rules) {
                    tracing::info!("the operator's rules for disks are other than before");
                }
                self.look_at_disks_now();
            }
            // A host's disks are its owner's.
            Ok(_) => {}
            Err(error) => tracing::error!(%error, "the operator's rules for disks cannot be read"),
        }
    }

    pub(super) fn disk_key(&mut self, key: api::link::DiskKey) {
        self.settings.disks.key(&key.volume, key.key, &key.error);
        self.look_at_disks_now();
    }

    /// Something about disks may be other than before.
    pub(super) fn look_at_disks_now(&mut self) {
        self.passes.nudged = true;
        self.look_at_disks();
    }

    /// Begins a pass when it is time, and asks for what the last one lacked.
    pub(super) fn look_at_disks(&mut self) {
        if self.settings.hosted {
            return;
        }
        self.ask_for_keys();
        let now = uptime::millis();
        let every = u64::try_from(EVERY.as_millis()).unwrap_or(u64::MAX);
        let due = self.passes.nudged || now.saturating_sub(self.passes.last_ms) >= every;
        if self.passes.running || !due {
            return;
        }
        self.passes.running = true;
        self.passes.nudged = false;
        self.passes.last_ms = now;
        let (settings, events) = (self.settings.clone(), self.events.clone());
        tokio::task::spawn_blocking(move || {
            save_state(&settings);
            let passed = pass(&settings);
            // Gone only when the process ends.
            let _ = events.blocking_send(Event::DisksPassed(passed));
        });
    }

    /// A pass has ended.
    pub(super) fn disks_passed(&mut self, passed: Passed) -> Result<(), DriverError> {
        self.passes.running = false;
        if passed.changed {
            self.look.nudge(uptime::millis());
        }
        self.adopt_pool()?;
        if self.passes.held_back && !self.settings.disks.awaits_pool() {
            // There will be none, or not while other tasks run: the master sends what waited with the next session.
            self.passes.held_back = false;
            self.find_the_master_anew();
        }
        self.look_at_disks();
        Ok(())
    }

    fn ask_for_keys(&self) {
        for (guid, wanted) in self.settings.disks.wanted() {
            let make = wanted == Wanted::New;
            let wanted = DiskKeyWanted { volume: guid.to_string(), make, forget: false };
            self.answer(from_agent::Message::DiskKeyWanted(wanted));
        }
    }

    /// Once no task runs, what is written goes to the disk. This process ends for it: the next one finds everything in its new
    /// place, and the master sends it what it was to start meanwhile.
    fn adopt_pool(&mut self) -> Result<(), DriverError> {
        let waits = self.supervision.agent.containers().next().is_some();
        let Some(guid) = self.settings.disks.pool_to_adopt(&self.settings.work_dir).filter(|_| !waits) else {
            return Ok(());
        };
        match adopt(guid, &self.settings) {
            Ok(()) => {
                self.init.say("a disk is the node's pool now");
                Err(DriverError::PoolAdopted)
            }
            Err(error) => {
                self.settings.disks.failed(guid, &chain(&error));
                Ok(())
            }
        }
    }

    /// Tasks had better wait until the pool of the last boot is open: the master sends them again to the process after this
    /// one.
    pub(super) fn must_wait_for_pool(&mut self) -> bool {
        let disks = &self.settings.disks;
        let is_next = disks.pool_to_adopt(&self.settings.work_dir).is_some();
        let nothing_runs = self.supervision.agent.containers().next().is_none();
        let waits = disks.awaits_pool() || (is_next && nothing_runs);
        if is_next && waits {
            self.look_at_disks_now();
        }
        self.passes.held_back |= waits;
        waits
    }
}
