//! The Mesos v1 API: one Rust type a message, generated from `proto/mesos/v1`, in JSON and protobuf.
//!
//! A message serializes as Mesos's JSON where the format is for people to read, and as its protobuf
//! bytes elsewhere. Required fields are plain values; [`ContentType::decode`] refuses a body that
//! lacks one. Ids are this crate's newtypes.

mod agent_capabilities;
mod content_type;
mod conversion;
mod framework;
mod json;
mod packed;
mod required;

mod redacted;
mod status;
mod task;

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, rustdoc::all)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/mesos.rs"));
}

pub use agent_capabilities::{AgentCapabilities, OUR_AGENTS};
pub use content_type::{ApiMessage, ContentType, ParseBodyError};
pub use conversion::{
    Format, ResourceError, attributes_from_wire, attributes_to_wire, resources_from_wire, resources_to_wire,
};
pub use framework_info::capability::Type as Capability;
pub use generated::google::protobuf;
pub use generated::mesos::v1::*;
pub use json::JsonError;
pub(crate) use json::Named;
pub use packed::Packed;
pub use task_status::{Reason, Source};

#[cfg(test)]
mod tests;
