//! The agent link, generated from `proto/link.proto`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::wildcard_enum_match_arm)]

tonic::include_proto!("mesolith.link.v1");

/// The protocol number an agent of this version registers with.
pub const PROTOCOL: u32 = 2;
