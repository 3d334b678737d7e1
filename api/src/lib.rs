//! The words every Mesolith program shares.
//!
//! Ids, resources, task states and attributes in the form the programs think in, the Mesos v1
//! messages in the form frameworks spell them ([`v1`]), RecordIO framing ([`recordio`]) and,
//! behind the `link` feature, the generated agent link ([`link`]). Nothing here does IO.

pub mod attributes;
pub mod condition;
pub mod disks;
pub mod exec;
pub mod facts;
pub mod file_mode;
pub mod id;
#[cfg(feature = "link")]
pub mod link;
pub mod milli;
pub mod network;
pub mod node_api;
pub mod ranges;
pub mod recordio;
pub mod resources;
pub mod task_state;
mod tasks_digest;
pub mod v1;

pub use attributes::Attribute;
pub use facts::Fact;
pub use id::{AgentId, ContainerId, ExecutorId, FrameworkId, MasterId, NodeName, OfferId, OperationId, TaskId};
pub use milli::Milli;
pub use ranges::Ranges;
pub use resources::{Disk, Resource, ResourceValue, Resources};
pub use task_state::TaskState;
pub use tasks_digest::tasks_digest;

/// The version of Mesos whose APIs these words are. Clients parse it: dotted integers.
pub const MESOS_VERSION: &str = "1.11.0";
