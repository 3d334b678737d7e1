//! Several masters with agents and frameworks in one thread, on a network, disks and clocks that fail as a seed says.
//!
//! The masters are the real ones from the driver down: `master_core::Master`, the driver, the replicated log with its
//! elections, segments and snapshots. Each runs on a tokio runtime of its own whose clock moves only when the
//! [`world`](run) moves it, so that a process can be killed, stand still, or have a clock that goes wrong. Everything
//! between them is simulated, and everything random comes from the seed: the same seed gives the same [`Outcome::hash`].
//!
//! After the faults everything is healed, and everybody has to get on.

mod agent;
mod chance;
mod disk;
mod faults;
mod framework;
mod invariants;
mod lines;
mod machine;
mod operator;
mod process;
mod trace;
mod wires;
mod world;

pub use invariants::{Invariant, Violation};
pub use world::{Options, Outcome, run};
