//! One master's machine: its disk and clocks, which outlive the process on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use master::raft::Member;

use crate::chance::Chance;
use crate::disk::SimulatedDisk;
use crate::process::{Birth, Process};
use crate::trace::Micros;
use crate::wires::{Exchange, Life, address};

/// When the simulation begins: milliseconds since 1970.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// See the module.
pub(crate) struct Machine {
    pub(crate) number: usize,
    /// Which replica it is; none before it was admitted.
    pub(crate) replica: Option<u64>,
    pub(crate) disk: SimulatedDisk,
    pub(crate) exchange: Exchange,
    pub(crate) process: Option<Process>,
    /// Of its processes.
    life: u64,
    chance: Chance,
    /// The clock on the wall, and how far it is off.
    wall: Arc<AtomicU64>,
    off_ms: i64,
    /// Local time per thousand of the world's.
    pub(crate) rate: u64,
    /// It stands still until then, since then.
    still: Option<(Micros, Micros)>,
    /// Since when it has been awake.
    pub(crate) awake: Micros,
    /// When the process is started again.
    pub(crate) back_at: Option<Micros>,
    /// How long it will be off once the fuse of its disk has blown.
    pub(crate) off_for: Micros,
}

impl Machine {
    pub(crate) fn new(number: usize, mut chance: Chance) -> Self {
        Self {
            number,
            replica: None,
            disk: SimulatedDisk::new(chance.fork()),
            exchange: Exchange::default(),
            process: None,
            life: 0,
            wall: Arc::new(AtomicU64::new(EPOCH_MS)),
            off_ms: i64::try_from(chance.below(2000)).unwrap_or_default() - 1000,
            rate: chance.within(990..1010),
            chance,
            still: None,
            awake: 0,
            back_at: None,
            off_for: 0,
        }
    }

    pub(crate) const fn life(&self) -> Life {
        Life { machine: self.number, number: self.life }
    }

    pub(crate) fn member(number: usize) -> Member {
        Member { addr: address(number), http: format!("master-{number}:5050") }
    }

    /// Starts the process.
    pub(crate) fn start(&mut self, replica: u64, founds: bool) {
        self.life += 1;
        self.replica = Some(replica);
        self.back_at = None;
        self.disk.forget_refusals();
        // What the last one wanted to open is no more.
        drop(self.exchange.take());
        self.process = Some(Process::start(Birth {
            replica,
            member: Self::member(self.number),
            founds,
            disk: self.disk.clone(),
            exchange: self.exchange.clone(),
            seed: self.chance.next(),
            wall: self.wall.clone(),
        }));
    }

    /// Ends the process as it is.
    pub(crate) fn kill(&mut self) {
        self.process = None;
        self.still = None;
        drop(self.exchange.take());
    }

    /// For a new replica: nothing is left of the last one.
    pub(crate) fn wipe(&mut self) {
        self.kill();
        self.disk = SimulatedDisk::new(self.chance.fork());
        (self.replica, self.back_at, self.off_for) = (None, None, 0);
    }

    pub(crate) fn stand_still(&mut self, now: Micros, time: Micros) {
        if self.process.is_some() && self.still.is_none() {
            self.still = Some((now + time, now));
        }
    }

    /// Until when it does nothing.
    pub(crate) fn still_until(&self) -> Option<Micros> {
        self.still.map(|(until, _)| until)
    }

    pub(crate) const fn set_wall(&mut self, by_ms: i64) {
        self.off_ms += by_ms;
    }

    /// Everything is as it should be.
    pub(crate) fn heal(&mut self) {
        self.rate = 1000;
        self.disk.set_slow(false);
        self.disk.set_full(false);
    }

    /// Lets the process live until then.
    pub(crate) fn live(&mut self, now: Micros, tick: Micros) {
        let wall = EPOCH_MS.saturating_add_signed(self.off_ms) + now / 1000;
        self.wall.store(wall, Ordering::Relaxed);
        let Some(process) = &mut self.process else { return };
        if let Some((until, since)) = self.still {
            if now < until {
                return;
            }
            self.still = None;
            self.awake = now;
            process.wake(Duration::from_micros((now - since) * self.rate / 1000));
        }
        process.live(Duration::from_micros(tick * self.rate / 1000));
    }
}
