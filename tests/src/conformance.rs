//! Recorded Mesos dialogues: what was asked of a real master, what it answered, and whether ours answers the same.
//!
//! A [`dialogue::Dialogue`] is a list of steps. [`scenarios`] holds those that are asked; `tests/record` plays them against
//! any master and keeps what it [saw](player) under `tests/recordings`. Played again, against another master, each answer
//! is [compared](difference) after [normalisation](normalise): ids are named in order of appearance, times and addresses are
//! only their kind. What differs on purpose is named in [`deviations`].

pub mod binding;
pub mod builder;
pub mod deviations;
pub mod dialogue;
pub mod difference;
pub mod exchange;
pub mod normalise;
pub mod player;
pub mod protobuf;
pub mod report;
pub mod scenarios;
pub mod settle;
pub mod shape;
pub mod store;
pub mod stream;
