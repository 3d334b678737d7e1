//! DHCPv6 (RFC 8415): the client's side, without a socket. Addresses, or only what else a network has to say.

mod client;
mod message;

pub use client::{Client, Event, Wish};
pub use message::{Duid, Lease, Lent};
