//! A stub resolver with a cache, without sockets: questions of this machine's programs go to the network's servers, and
//! what these answer is kept for as long as they say.

mod message;
mod stub;

pub use stub::{Client, Output, Stub};
