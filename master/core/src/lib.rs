//! The master's decisions, without IO.
//!
//! [`Master::handle`] takes what happened ([`Input`]) with the time and returns what to do
//! ([`Output`]). Whatever an agent or a framework may learn is first a [`Command`] in the replicated
//! log: `handle` proposes it, and acts when it comes back as [`Input::Committed`] and has been applied
//! to the [`State`]. What exists only while we lead (offers, streams, sessions, timers, the allocator)
//! is in the leader, made anew from the state: that *is* failover.
//!
//! From call to running task: an ACCEPT takes its offers off the table (`offers.rs`), each task is
//! checked (`validate.rs`) and proposed ([`Command::LaunchTask`]); once committed it is
//! [`Event::TaskLaunched`](event::Event), and the leader sends [`ToAgent::RunTask`]. The agent's updates
//! come as [`AgentMessage::Update`], go through the log, and then to the framework's stream, until the
//! framework acknowledges.
//!
//! Operations on resources (`operation.rs`) are applied to accepted offers at once and to the agent when
//! committed; what operators write ([`io::operator`]) is checked where it is applied.
//!
//! Missing on purpose, for now: custom executors and task groups.

pub mod acl;
pub mod allocator;
pub mod claims;
pub mod command;
pub mod event;
pub mod invariant;
pub mod io;
mod leader;
mod master;
pub mod netboot;
mod offers;
pub mod operation;
#[cfg(feature = "planted-bugs")]
pub mod planted;
pub mod rules;
pub mod state;
mod timers;
pub mod validate;
mod view;

pub use command::Command;
pub use io::{
    AgentMessage, Input, Now, Output, Registration, ReportedExecutor, ReportedTask, RequestId, Response, Return,
    SessionId, StreamId, ToAgent,
};
pub use master::{Config, Master};
pub use offers::OutstandingOffer;
pub use state::State;
pub use view::{Counters, View};
