//! DHCPv4 (RFC 2131, 2132): the client's side, without a socket.

mod client;
mod lease;
mod message;

pub use client::{Client, Destination, Event, Transmit};
pub use lease::{Lease, Route};
