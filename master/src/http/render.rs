//! What readers get: documents written from a picture of the state, in pieces, by threads of their own.

pub(super) mod agent;
pub(super) mod answer;
pub(super) mod document;
pub(super) mod framework;
pub(super) mod json;
pub(super) mod pool;
pub(super) mod reads;
pub(super) mod resources;
pub(super) mod task;
pub(super) mod usage;
